//! Checks a chain, then resolves it: what happens to a tile, in order, and where every value stands.

use super::chain::{Action, Chain, Load, Op, Place, SCRATCH, Splat};
use super::lanes::{Kernel, MAX_ARGS};
use super::load::Axes;
use super::{Arg, Instr, TileFn};
use crate::isa::Isa;
use crate::tape::Step;
use crate::view::{DType, View};

/// Bytes of L1 that the tiles of all views and scratch places of a chain may fill together: half of a small one.
const BUDGET: usize = 16 * 1024;
/// Bytes of one tile, at least and at most. Below, the calls of a tile cost more than its work saves.
const TILE_BYTES: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Elements times instructions above which workers share a chain. At the 4 to 8 elements/ns of cheap instructions in
/// L1 this is 8 to 16 µs of work; below, waking another worker costs about as much as it saves.
const PARALLEL: usize = 64 * 1024;

/// The step of a [`Routine::Tiles`](crate::Routine::Tiles).
pub(crate) fn build(
    isa: Isa,
    instrs: &[Instr],
    results: &[usize],
    outs: &[View],
    ins: &[View],
) -> Result<Box<dyn Step>, String> {
    Ok(Box::new(chain(isa, instrs, results, outs, ins)?))
}

/// Checks a chain and resolves it. The tape has checked bounds, that outputs are row-major, and that an output shares
/// memory with an input only if both are the same view.
pub(crate) fn chain(
    isa: Isa,
    instrs: &[Instr],
    results: &[usize],
    outs: &[View],
    ins: &[View],
) -> Result<Chain, String> {
    if !isa.supported() {
        return Err(format!("this CPU cannot run {isa:?}"));
    }
    check_views(results, outs, ins)?;
    for (j, instr) in instrs.iter().enumerate() {
        check_instr(j, instr, instrs, ins).map_err(|what| format!("instruction {j}, {:?}, {what}", instr.tile))?;
    }
    for (k, (j, out)) in results.iter().zip(outs).enumerate() {
        let Some(instr) = instrs.get(*j) else {
            return Err(format!("result {k} is instruction {j}, but there are {}", instrs.len()));
        };
        if instr.tile.result() != out.dtype {
            let (is, gives) = (out.dtype.name(), instr.tile.result().name());
            return Err(format!("output {k} is {is}, but instruction {j} gives {gives}"));
        }
    }
    Ok(Plan::new(isa, instrs, results, outs, ins).chain())
}

fn check_views(results: &[usize], outs: &[View], ins: &[View]) -> Result<(), String> {
    if results.len() != outs.len() {
        return Err(format!("{} results for {} outputs", results.len(), outs.len()));
    }
    let Some(first) = outs.first() else {
        return Err("a chain needs an output".to_string());
    };
    for (what, views) in [("output", outs), ("input", ins)] {
        for (i, view) in views.iter().enumerate() {
            if view.shape != first.shape {
                return Err(format!("{what} {i} has shape {}, but output 0 has {}", view.shape, first.shape));
            }
            if view.region == SCRATCH {
                return Err(format!("{what} {i} lies in region {}, which is reserved", SCRATCH.0));
            }
        }
    }
    Ok(())
}

fn check_instr(j: usize, instr: &Instr, instrs: &[Instr], ins: &[View]) -> Result<(), String> {
    if instr.tile.kernels.is_none() {
        return Err(format!("does not exist for {}", instr.tile.operands[0].name()));
    }
    let wants = instr.tile.operands();
    if wants.len() != instr.args.len() {
        return Err(format!("takes {} operands, not {}", wants.len(), instr.args.len()));
    }
    for (k, (arg, want)) in instr.args.iter().zip(wants).enumerate() {
        let found = match *arg {
            Arg::Input(i) => ins.get(i).map(|v| v.dtype).ok_or(format!("reads input {i}, but there are {}", ins.len())),
            Arg::Value(v) if v < j => Ok(instrs[v].tile.result()),
            Arg::Value(v) => Err(format!("reads the value of instruction {v}, which is not an earlier one")),
        }?;
        if found != *want {
            return Err(format!("takes {} as operand {k}, not {}", want.name(), found.name()));
        }
    }
    Ok(())
}

/// Places in scratch memory. While a chain is resolved, offsets count places: their size comes from their number.
#[derive(Default)]
struct Slots {
    free: Vec<usize>,
    count: usize,
}

impl Slots {
    fn take(&mut self) -> Place {
        let offset = self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        });
        Place { region: SCRATCH, step: 0, offset }
    }
}

/// A chain that is being resolved. "Last use" is the number of the last instruction that reads a value.
struct Plan<'a> {
    isa: Isa,
    instrs: &'a [Instr],
    outs: &'a [View],
    ins: &'a [View],
    results: &'a [usize],
    live: Vec<bool>,
    input_last: Vec<Option<usize>>,
    value_last: Vec<Option<usize>>,
    /// Where operands stand once they are loaded or computed.
    input_at: Vec<Option<Place>>,
    value_at: Vec<Option<Place>>,
    slots: Slots,
    splats: Vec<Splat>,
    actions: Vec<Action>,
}

fn place(view: &View) -> Place {
    let size = view.dtype.size();
    Place { region: view.region, step: size as u16, offset: view.offset * size }
}

impl<'a> Plan<'a> {
    fn new(isa: Isa, instrs: &'a [Instr], results: &'a [usize], outs: &'a [View], ins: &'a [View]) -> Plan<'a> {
        let (n, inputs) = (instrs.len(), ins.len());
        let mut plan = Plan {
            isa,
            instrs,
            outs,
            ins,
            results,
            live: (0..n).map(|j| results.contains(&j)).collect(),
            input_last: vec![None; inputs],
            value_last: vec![None; n],
            input_at: vec![None; inputs],
            value_at: vec![None; n],
            slots: Slots::default(),
            splats: Vec::new(),
            actions: Vec::new(),
        };
        // Backwards, so that the first reader met is the last one, and what nobody reads is left out.
        for j in (0..n).rev() {
            if plan.live[j] {
                for arg in &instrs[j].args {
                    match *arg {
                        Arg::Input(i) => plan.input_last[i] = plan.input_last[i].or(Some(j)),
                        Arg::Value(v) => {
                            plan.value_last[v] = plan.value_last[v].or(Some(j));
                            plan.live[v] = true;
                        }
                    }
                }
            }
        }
        plan
    }

    fn chain(mut self) -> Chain {
        let count = self.outs[0].shape.count();
        let views = self.outs.iter().chain(self.ins).map(|v| v.dtype);
        let widest = views.chain(self.instrs.iter().map(|i| i.tile.result())).map(DType::size).max().unwrap_or(4);
        if count > 0 {
            self.fixed_inputs();
            for j in 0..self.instrs.len() {
                if self.live[j] {
                    self.instr(j);
                }
            }
            self.late_outputs();
        }
        let bytes = self.size_slots();
        let mut tile = bytes / widest;
        if let [Action::Load(load)] = &self.actions[..]
            && load.to.region != SCRATCH
        {
            tile = load.axes.copy_tile(tile);
        }
        let work = count.saturating_mul(self.live.iter().filter(|l| **l).count());
        Chain {
            count,
            tile,
            splats: self.splats.into(),
            actions: self.actions.into(),
            scratch: self.slots.count * bytes,
            parallel: work > PARALLEL,
        }
    }

    /// Chooses the bytes of a tile and turns the numbers of scratch places into offsets.
    fn size_slots(&mut self) -> usize {
        let read = |i: &usize| self.input_at[*i].is_some_and(|at| at.region != SCRATCH);
        let views =
            (0..self.ins.len()).filter(|i| read(i) && !self.outs.contains(&self.ins[*i])).count() + self.outs.len();
        let fair = BUDGET / (self.slots.count + views);
        let bytes = (fair.next_power_of_two() / 2).clamp(*TILE_BYTES.start(), *TILE_BYTES.end());
        let sized = |place: &mut Place| {
            if place.region == SCRATCH {
                place.offset *= bytes;
            }
        };
        for action in &mut self.actions {
            match action {
                Action::Op(op) => op.args.iter_mut().chain([&mut op.out]).for_each(sized),
                Action::Load(load) => sized(&mut load.to),
            }
        }
        self.splats.iter_mut().for_each(|splat| splat.to *= bytes);
        bytes
    }

    /// Row-major inputs are read where they stand; scalars get a place of their own for the whole run.
    fn fixed_inputs(&mut self) {
        for (i, view) in self.ins.iter().enumerate().filter(|(i, _)| self.input_last[*i].is_some()) {
            if view.is_contiguous() {
                self.input_at[i] = Some(place(view));
            } else if Axes::of(view).is_splat() && !self.only_copied(i) {
                let at = self.slots.take();
                self.splats.push(Splat { from: place(view), to: at.offset, wide: view.dtype.size() == 8 });
                self.input_at[i] = Some(at);
            }
        }
    }

    /// Whether input `i` is read by copies alone.
    fn only_copied(&self, i: usize) -> bool {
        self.instrs.iter().all(|instr| instr.tile.is_copy() || !instr.args.contains(&Arg::Input(i)))
    }

    fn instr(&mut self, j: usize) {
        let instr = &self.instrs[j];
        if let (true, [Arg::Input(i)]) = (instr.tile.is_copy(), &instr.args[..])
            && self.input_at[*i].is_none()
        {
            // A copy of a view with strides is nothing but its load.
            let to = self.output_of(j).unwrap_or_else(|| self.slots.take());
            self.value_at[j] = Some(to);
            return self.load(*i, to);
        }
        let mut args = [Place { region: SCRATCH, step: 0, offset: 0 }; MAX_ARGS];
        for (place, arg) in args.iter_mut().zip(&instr.args) {
            *place = self.operand(*arg);
        }
        // A result may take the place of an operand that is read for the last time here, if the sizes agree.
        let size = instr.tile.result().size();
        let fits = |k: usize| instr.tile.operands()[k].size() == size;
        self.release(j, fits);
        let out = self.output_of(j).unwrap_or_else(|| self.slots.take());
        self.value_at[j] = Some(out);
        self.release(j, |k| !fits(k));
        let op = self.op(&instr.tile, args, out);
        self.actions.extend(op);
    }

    /// Where an operand stands; loads it first if it has strides.
    fn operand(&mut self, arg: Arg) -> Place {
        let known = match arg {
            Arg::Input(i) => self.input_at[i],
            Arg::Value(v) => self.value_at[v],
        };
        known.unwrap_or_else(|| {
            let to = self.slots.take();
            if let Arg::Input(i) = arg {
                self.input_at[i] = Some(to);
                self.load(i, to);
            }
            to
        })
    }

    fn load(&mut self, i: usize, to: Place) {
        let view = &self.ins[i];
        let (from, wide, axes) = (place(view), view.dtype.size() == 8, Axes::of(view));
        self.actions.push(Action::Load(Load { from, to, wide, axes }));
    }

    /// Gives back the scratch places of those operands of instruction `j` that it is the last to read.
    fn release(&mut self, j: usize, wanted: impl Fn(usize) -> bool) {
        for (_, arg) in self.instrs[j].args.iter().enumerate().filter(|(k, _)| wanted(*k)) {
            let (at, last) = match *arg {
                Arg::Input(i) => (&mut self.input_at[i], self.input_last[i]),
                Arg::Value(v) => (&mut self.value_at[v], self.value_last[v]),
            };
            let splat = |at: &Place| self.splats.iter().any(|s| s.to == at.offset);
            // Values that are still to be copied to an output stay.
            let late = matches!(*arg, Arg::Value(v) if self.results.contains(&v));
            if let Some(place) = at.filter(|at| at.region == SCRATCH && last == Some(j) && !late && !splat(at)) {
                self.slots.free.push(place.offset);
                *at = None;
            }
        }
    }

    /// The output that value `j` is written straight to. None if it is no result, or if its output stands on an input
    /// that a later instruction still reads.
    fn output_of(&self, j: usize) -> Option<Place> {
        let out = &self.outs[self.results.iter().position(|r| *r == j)?];
        let read_later = |i: usize| self.input_last[i].is_some_and(|last| last > j) && self.ins[i].overlaps(out);
        (!(0..self.ins.len()).any(read_later)).then(|| place(out))
    }

    /// Copies results to those outputs that they were not written to.
    fn late_outputs(&mut self) {
        for (j, out) in self.results.iter().zip(self.outs) {
            let (to, Some(from)) = (place(out), self.value_at[*j]) else { continue };
            if from != to {
                let mut args = [from; MAX_ARGS];
                args[0] = from;
                let op = self.op(&TileFn::copy(out.dtype), args, to);
                self.actions.extend(op);
            }
        }
    }

    /// None only for functions that `check_instr` refused.
    fn op(&self, tile: &TileFn, args: [Place; MAX_ARGS], out: Place) -> Option<Action> {
        let kernel: Kernel = tile.kernels.as_ref()?.get(self.isa);
        Some(Action::Op(Op { kernel, arity: tile.arity, out, args, params: tile.params }))
    }
}
