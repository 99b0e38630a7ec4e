//! Calls on a checked tape.

use geartrain_kernels::{Arg, Instr, Memory, Region, Routine, Tape, TapeBuilder, TapeError, TileFn, View};

use crate::compile::arena::ALIGN;
use crate::compile::fuse::Unit;
use crate::compile::layout::{self, Value};
use crate::compile::pairs::pair_up;
use crate::compile::plan::{self, Plan};
use crate::ir::graph::{Inner, Source};
use crate::ir::op::Kernel;
use crate::ir::types::{Data, Shape};
use crate::run::batch;
use crate::run::program::Options;
use crate::state::State;

/// One call before it goes on the tape.
struct Call {
    /// Nodes it computes.
    nodes: Vec<usize>,
    routine: Routine,
    outs: Vec<View>,
    ins: Vec<View>,
}

/// What a call on the tape does.
#[derive(Clone, Debug, Default)]
pub struct Tag {
    /// Nodes it computes; none for the guard.
    pub nodes: Vec<usize>,
    /// Bytes that its views name, each once: what it must read and write.
    pub bytes: u64,
}

/// The tape and, by their order, what its calls do.
pub fn lower(
    g: &Inner,
    values: &[Value],
    plan: &Plan,
    state: &State,
    options: Options,
) -> Result<(Tape, Vec<Tag>), TapeError> {
    let lowering = Lowering { g, values, plan };
    let (before, after) = plan.units.split_at(plan.before_guard);
    let last = plan::last_reads(g, values, &plan.units, plan.before_guard, &plan.late);
    let mut first: Vec<Call> = joined(before.iter().flat_map(|unit| lowering.calls(unit, &last)));
    let late = plan.late.iter().filter_map(|(node, entry)| {
        let (place, entry) = state.place(&g.entries[*entry].name)?;
        let to = View::contiguous(entry.ty.dtype, Region::state(place.region), place.offset, entry.ty.shape);
        Some(copy(vec![*node], to, lowering.view(*node)))
    });
    let mut then = joined(after.iter().flat_map(|unit| lowering.calls(unit, &last)).chain(late));
    let mut constants = Constants { repeated: Vec::new(), bytes: plan.constants.1 };
    first.iter_mut().chain(&mut then).for_each(|call| constants.repeat(call));
    let constants = constants.memory(g, plan);

    let mut sizes = vec![plan.arena, batch::layout(&g.inputs).1, constants.len()];
    sizes.extend(state.regions().iter().map(Memory::len));
    let mut builder = TapeBuilder::new(options.isa, options.threads, &sizes);
    let mut tags = Vec::new();
    push(&mut builder, &mut tags, first)?;
    if !g.updates.is_empty() || !g.guards.is_empty() {
        let guards: Vec<View> = g.guards.iter().map(|(_, id)| lowering.view(id.index())).collect();
        builder.guard(&guards)?;
        tags.push(Tag::default());
    }
    push(&mut builder, &mut tags, then)?;
    Ok((builder.finish(constants)?, tags))
}

struct Lowering<'a> {
    g: &'a Inner,
    values: &'a [Value],
    plan: &'a Plan,
}

impl Lowering<'_> {
    /// Where the elements of a node are.
    fn view(&self, node: usize) -> View {
        locate(self.values, self.plan, node)
    }

    /// The calls of one unit: one, and copies of inputs that the routine cannot read as they stand.
    fn calls(&self, unit: &Unit, last: &[Option<usize>]) -> Vec<Call> {
        match unit {
            Unit::Tiles(nodes) => {
                let (mut instrs, ins) = self.chain(nodes, None);
                let (mut results, outs) = self.results(nodes, &plan::stored(self.g, self.values, unit, last));
                pair_up(&mut instrs, &mut results);
                vec![Call { nodes: nodes.to_vec(), routine: Routine::Tiles { instrs, results }, outs, ins }]
            }
            Unit::Product(product, nodes) => {
                let Some(Kernel::Call(routine)) = layout::kernel(self.g, &self.g.nodes[*product]) else {
                    return Vec::new();
                };
                vec![self.product(routine, *product, nodes, plan::stored(self.g, self.values, unit, last))]
            }
            Unit::Copy(node) => {
                let from = self.view(self.g.nodes[*node].inputs()[0].index());
                let to = View { shape: from.shape, strides: from.shape.strides(), ..self.view(*node) };
                vec![copy(vec![*node], to, from)]
            }
            Unit::Call(node) => {
                let routine = match layout::kernel(self.g, &self.g.nodes[*node]) {
                    Some(Kernel::Call(routine)) => routine,
                    Some(Kernel::Concat { axis, starts }) => return self.concat(*node, axis, starts),
                    _ => return Vec::new(),
                };
                let ins = self.g.nodes[*node].inputs().iter().map(|x| self.view(x.index())).collect();
                vec![Call { nodes: vec![*node], routine, outs: vec![self.view(*node)], ins }]
            }
        }
    }

    /// Brings the parts that do not stand in their places there.
    fn concat(&self, node: usize, axis: usize, starts: Vec<usize>) -> Vec<Call> {
        let (out, x) = (self.view(node), self.g.nodes[node].inputs());
        let views = x.iter().map(|x| self.view(x.index()));
        let places = views.clone().zip(&starts).map(|(view, start)| {
            let offset = out.offset + start * out.strides[axis];
            View { offset, ..View::contiguous(out.dtype, out.region, 0, view.shape) }
        });
        if out.shape.dims()[..axis].iter().any(|d| *d != 1) {
            let routine = Routine::Pad { axis, starts: starts.clone() };
            return vec![Call { nodes: vec![node], routine, outs: vec![out], ins: views.collect() }];
        }
        let missing = views.zip(places).filter(|(view, place)| view != place && place.shape.count() > 0);
        missing.map(|(view, place)| copy(vec![node], place, view)).collect()
    }

    /// The instructions of elementwise nodes and their inputs; input 0 is the product, with its place, if one is before
    /// them.
    fn chain(&self, nodes: &[usize], product: Option<(usize, View)>) -> (Vec<Instr>, Vec<View>) {
        let mut ins: Vec<View> = product.iter().map(|(_, place)| *place).collect();
        let mut instrs = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Source::Apply(op, x) = &self.g.nodes[*node].source else { continue };
            let args = x.iter().map(|x| match nodes.iter().position(|n| *n == x.index()) {
                Some(i) => Arg::Value(i),
                None if product.is_some_and(|(node, _)| node == x.index()) => Arg::Input(0),
                None => {
                    let view = self.view(x.index());
                    Arg::Input(ins.iter().position(|v| *v == view).unwrap_or_else(|| {
                        ins.push(view);
                        ins.len() - 1
                    }))
                }
            });
            let args = args.collect();
            let types: Vec<_> = x.iter().map(|x| self.g.nodes[x.index()].ty).collect();
            if let Kernel::Tile(tile) = op.kernel(&types) {
                instrs.push(Instr { tile, args });
            }
        }
        (instrs, ins)
    }

    /// Which instructions give the stored nodes, and where these stand.
    fn results(&self, nodes: &[usize], stored: &[usize]) -> (Vec<usize>, Vec<View>) {
        let results = stored.iter().filter_map(|n| nodes.iter().position(|m| m == n)).collect();
        (results, stored.iter().map(|n| self.view(*n)).collect())
    }

    /// A product with the elementwise nodes behind it. It goes to its own place or to that of a result of its type.
    fn product(&self, routine: Routine, product: usize, nodes: &[usize], mut stored: Vec<usize>) -> Call {
        let keeps = stored.contains(&product);
        let is_first = |node: &usize| match keeps {
            true => *node == product,
            false => self.g.nodes[*node].ty == self.g.nodes[product].ty && self.values[*node].base == *node,
        };
        let first = stored.iter().position(is_first).unwrap_or(0);
        stored.swap(0, first);
        let tail: Vec<usize> = nodes.iter().copied().filter(|node| *node != product).collect();
        let (mut results, outs) = self.results(&tail, &stored);
        let (mut instrs, mut ins) = self.chain(&tail, Some((product, outs[0])));
        pair_up(&mut instrs, &mut results);
        ins.splice(..1, self.g.nodes[product].inputs().iter().map(|x| self.view(x.index())));
        let routine = Routine::Followed { product: Box::new(routine), instrs, results, keeps };
        Call { nodes: nodes.to_vec(), routine, outs, ins }
    }
}

/// Calls with neighbours joined.
fn joined(calls: impl Iterator<Item = Call>) -> Vec<Call> {
    let mut joined: Vec<Call> = Vec::new();
    for call in calls {
        match joined.last_mut().and_then(|before| join(before, &call)) {
            Some(()) => {}
            None => joined.push(call),
        }
    }
    joined
}

/// Puts calls on the tape.
fn push(builder: &mut TapeBuilder, tags: &mut Vec<Tag>, calls: Vec<Call>) -> Result<(), TapeError> {
    for call in calls {
        builder.push(tags.len(), &call.routine, &call.outs, &call.ins)?;
        let bytes = call.outs.iter().chain(&call.ins).map(named_bytes).sum();
        tags.push(Tag { nodes: call.nodes, bytes });
    }
    Ok(())
}

/// Most elements of a chain whose constants stand in memory as often as they are read: to repeat a number at each run
/// would take as long as to compute with it.
const SHORT: usize = 256;

/// The constants of a program, and those that are repeated for short chains.
struct Constants {
    /// How they were read, and where they stand repeated.
    repeated: Vec<(View, View)>,
    bytes: usize,
}

impl Constants {
    /// Lets a short chain read its constant numbers repeated.
    fn repeat(&mut self, call: &mut Call) {
        let own = match call.routine {
            Routine::Tiles { .. } => 0,
            // The operands of the product come first.
            Routine::Followed { .. } => 2,
            _ => return,
        };
        for view in &mut call.ins[own..] {
            let count = view.shape.count();
            if view.region == Region::CONSTANTS && is_repeated(view) && (2..=SHORT).contains(&count) {
                let known = self.repeated.iter().find(|(of, _)| of == view).map(|(_, place)| *place);
                *view = known.unwrap_or_else(|| self.place(*view));
            }
        }
    }

    fn place(&mut self, of: View) -> View {
        let size = of.dtype.size();
        let place = View::contiguous(of.dtype, Region::CONSTANTS, self.bytes / size, of.shape);
        self.bytes += (of.shape.count() * size).next_multiple_of(ALIGN);
        self.repeated.push((of, place));
        place
    }

    fn memory(&self, g: &Inner, plan: &Plan) -> Memory {
        let mut memory = Memory::zeroed(self.bytes);
        for (node, offset) in &plan.constants.0 {
            let Source::Constant(tensor) = &g.nodes[*node].source else { continue };
            match tensor.data() {
                Data::F32(v) => memory.slice_mut(offset / 4, v.len()).copy_from_slice(v),
                Data::F64(v) => memory.slice_mut(offset / 8, v.len()).copy_from_slice(v),
                Data::U32(v) => memory.slice_mut(offset / 4, v.len()).copy_from_slice(v),
            }
        }
        for (of, to) in &self.repeated {
            let size = to.dtype.size();
            let one = memory.bytes()[of.offset * size..][..size].to_vec();
            let all = &mut memory.bytes_mut()[to.offset * size..][..to.shape.count() * size];
            all.chunks_exact_mut(size).for_each(|x| x.copy_from_slice(&one));
        }
        memory
    }
}

/// Where the elements of a node are.
pub fn locate(values: &[Value], plan: &Plan, node: usize) -> View {
    let Value { base, view, .. } = values[node];
    let (region, offset) = plan.homes[base].unwrap_or((Region::ARENA, 0));
    View { region, offset: view.offset + offset, ..view }
}

/// Whether a view is one element, repeated everywhere.
fn is_repeated(view: &View) -> bool {
    view.strides[..view.shape.rank()].iter().all(|stride| *stride == 0)
}

/// Bytes of the elements of a view, repeated ones counted once.
fn named_bytes(view: &View) -> u64 {
    let axes = view.shape.dims().iter().zip(view.strides).filter(|(_, stride)| *stride != 0);
    (axes.map(|(len, _)| *len).product::<usize>() * view.dtype.size()) as u64
}

fn copy(nodes: Vec<usize>, to: View, from: View) -> Call {
    let instrs = vec![Instr { tile: TileFn::copy(to.dtype), args: vec![Arg::Input(0)] }];
    Call { nodes, routine: Routine::Tiles { instrs, results: vec![0] }, outs: vec![to], ins: vec![from] }
}

/// Elements that may lie between neighbours: the padding of a state's entries.
const GAP: usize = 16;

/// Makes `before` do the work of `next` too, if both are the same chain on neighbouring memory: the update of a whole
/// group of parameters becomes one pass. The padding between entries is computed along, and never read.
fn join(before: &mut Call, next: &Call) -> Option<()> {
    let (Routine::Tiles { instrs: a, results: ra }, Routine::Tiles { instrs: b, results: rb }) =
        (&before.routine, &next.routine)
    else {
        return None;
    };
    if a != b || ra != rb || before.ins.len() != next.ins.len() || before.outs.is_empty() {
        return None;
    }
    let state = |v: &View| v.region >= Region::state(0);
    if !before.outs.iter().chain(&next.outs).all(state) {
        return None;
    }
    let count = before.outs[0].shape.count();
    let distance = next.outs[0].offset.checked_sub(before.outs[0].offset)?;
    if distance < count || distance >= count + GAP {
        return None;
    }
    let flat = |v: &View| v.is_contiguous();
    let follows = |a: &View, b: &View| {
        flat(a) && flat(b) && (a.dtype, a.region) == (b.dtype, b.region) && a.offset + distance == b.offset
    };
    let scalar = |a: &View, b: &View| {
        is_repeated(a) && is_repeated(b) && (a.dtype, a.region, a.offset) == (b.dtype, b.region, b.offset)
    };
    let pairs = || before.ins.iter().zip(&next.ins);
    let fits = before.outs.iter().zip(&next.outs).all(|(a, b)| follows(a, b))
        && pairs().all(|(a, b)| follows(a, b) || scalar(a, b));
    if !fits {
        return None;
    }
    let shape = Shape::from([distance + next.outs[0].shape.count()]);
    let widen = |v: &View, flat: bool| match flat {
        true => View::contiguous(v.dtype, v.region, v.offset, shape),
        false => View { shape, strides: [0; geartrain_kernels::MAX_RANK], ..*v },
    };
    let outs: Vec<View> = before.outs.iter().map(|v| widen(v, true)).collect();
    let ins: Vec<View> = pairs().map(|(a, b)| widen(a, follows(a, b))).collect();
    // An entry that reads the old value of its neighbour must be done before the neighbour is written.
    if ins.iter().any(|v| outs.iter().any(|out| v.overlaps(out) && v != out)) {
        return None;
    }
    (before.outs, before.ins) = (outs, ins);
    before.nodes.extend(&next.nodes);
    Some(())
}
