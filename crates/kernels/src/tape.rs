//! A tape: a flat list of kernel calls on a few memory regions, checked once when it is built.
//!
//! Building refuses every call that could touch memory it should not. Running checks the facts that only a run has:
//! the lengths of the regions that are lent to it and, in indexing kernels, every index. That is what makes the safe
//! interface sound, and it leaves nothing to check or allocate in a step.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::isa::Isa;
use crate::memory::{Memory, StateRef};
use crate::pace::Pace;
use crate::pool::{Pool, Team};
use crate::routine::Routine;
use crate::view::{DType, Region, View};

/// Why a call was refused when the tape was built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{routine}: {what}")]
pub struct TapeError {
    /// Name of the routine.
    pub routine: &'static str,
    /// What is wrong.
    pub what: String,
}

/// A fact of one run that a kernel could not accept: an index out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Row of the index tensor, counted in elements.
    pub row: usize,
    /// The index found there.
    pub value: u32,
    /// Number of rows that exist.
    pub limit: usize,
}

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RunError {
    /// A lent region is not the one the tape was built for.
    #[error("region {region} has {found} bytes, the tape was built for {expected}")]
    Region {
        /// Its number.
        region: usize,
        /// Its length in bytes.
        found: usize,
        /// The length that the tape was built for.
        expected: usize,
    },
    /// The tape updates the state, which was lent to be read only.
    #[error("this tape updates the state, which was lent to be read only")]
    ReadOnlyState,
    /// An index was out of range. `call` is the tag of the call.
    #[error("call {call}: index {} at element {} is out of range, there are {} rows", fault.value, fault.row, fault.limit)]
    Index {
        /// Tag of the call.
        call: usize,
        /// Which index.
        fault: Fault,
    },
    /// A guarded value was not finite; the state is untouched. `guard` is its position in the list of guards.
    #[error("guarded value {guard} is {value}")]
    NonFinite {
        /// Its position.
        guard: usize,
        /// NaN or an infinity.
        value: f64,
    },
}

/// Base addresses of the regions during one run.
pub(crate) struct Bases(Vec<*mut u8>);

impl Bases {
    /// The addresses of regions 0, 1, ...: for tests that run a step by hand.
    #[cfg(test)]
    pub(crate) fn of(addresses: Vec<*mut u8>) -> Bases {
        Bases(addresses)
    }

    /// Address of the first element of `view`.
    ///
    /// # Safety
    /// The region lengths were checked against what the tape was built for.
    #[inline(always)]
    pub(crate) unsafe fn ptr<T>(&self, view: &View) -> *mut T {
        // SAFETY: `region` was checked when the tape was built; the offset stays inside the region.
        unsafe { self.0.get_unchecked(view.region.0 as usize).cast::<T>().add(view.offset) }
    }
}

/// Who is running a step: one of `count` workers, with memory of its own.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) count: usize,
    /// At least [`Step::scratch`] bytes, aligned to 64, not shared with other workers. Contents are stale.
    pub(crate) scratch: *mut u8,
}

impl Worker {
    /// This worker's contiguous share of `0..items`, in multiples of `grain` (the last share may be cut).
    pub(crate) fn share(&self, items: usize, grain: usize) -> std::ops::Range<usize> {
        let blocks = items.div_ceil(grain.max(1));
        let at = |w: usize| (blocks * w / self.count * grain).min(items);
        at(self.index)..at(self.index + 1)
    }
}

/// One kernel call with everything resolved.
pub(crate) trait Step: Send + Sync {
    /// Whether several workers may share it; else worker 0 runs it alone. Small work should say no: waking others
    /// costs more than 10 µs of work.
    fn parallel(&self) -> bool {
        false
    }

    /// Scratch bytes each worker needs.
    fn scratch(&self) -> usize {
        0
    }

    /// Runs this worker's share. The result must not depend on `worker.count`.
    ///
    /// # Safety
    /// `bases` are the regions the step was checked against, and no other code touches the step's outputs meanwhile
    /// but the same step run by the other workers.
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault>;
}

struct Call {
    tag: usize,
    parallel: bool,
    barrier: bool,
    what: What,
}

enum What {
    Step(Box<dyn Step>),
    Guard(Vec<View>),
}

/// Collects calls and checks them.
pub struct TapeBuilder {
    isa: Isa,
    threads: usize,
    regions: Vec<usize>,
    calls: Vec<Call>,
    scratch: usize,
    guarded: bool,
    writes_state: bool,
}

impl TapeBuilder {
    /// A tape for regions of `sizes` bytes: arena, batch, constants, then those of the state.
    /// `threads` workers at most will run it.
    pub fn new(isa: Isa, threads: usize, sizes: &[usize]) -> TapeBuilder {
        // A path that this CPU lacks gives way to one that it has: the bits are the same.
        let able = |path: &Isa| *path <= isa && path.supported();
        TapeBuilder {
            isa: Isa::ALL.into_iter().rev().find(able).unwrap_or(Isa::Portable),
            threads: threads.max(1),
            regions: sizes.to_vec(),
            calls: Vec::new(),
            scratch: 0,
            guarded: false,
            writes_state: false,
        }
    }

    /// Adds a call. `tag` comes back in [`RunError::Index`].
    pub fn push(&mut self, tag: usize, routine: &Routine, outs: &[View], ins: &[View]) -> Result<(), TapeError> {
        let name = routine.name();
        let refuse = |what: String| Err(TapeError { routine: name, what });
        for (what, view) in outs.iter().map(|v| ("output", v)).chain(ins.iter().map(|v| ("input", v))) {
            let Some(size) = self.regions.get(view.region.0 as usize) else {
                return refuse(format!("{what} lies in region {}, which does not exist", view.region.0));
            };
            if view.end().checked_mul(view.dtype.size()).is_none_or(|end| end > *size) {
                return refuse(format!("{what} {view:?} ends after its region of {size} bytes"));
            }
        }
        for (i, out) in outs.iter().enumerate() {
            if !out.is_contiguous() {
                return refuse(format!("output {i} is not row-major"));
            }
            if out.region == Region::BATCH || out.region == Region::CONSTANTS {
                return refuse(format!("output {i} lies in a region that is read only"));
            }
            if out.region >= Region::state(0) {
                if !self.guarded {
                    return refuse("the state is written before a guard".to_string());
                }
                self.writes_state = true;
            }
            let in_place = routine.in_place();
            if outs[..i].iter().any(|o| o.overlaps(out))
                || ins.iter().any(|v| v.overlaps(out) && !(in_place && v == out))
            {
                return refuse(format!("output {i} overlaps another view"));
            }
        }
        let step = routine.build(self.isa, outs, ins).map_err(|what| TapeError { routine: name, what })?;
        self.scratch = self.scratch.max(step.scratch());
        let parallel = self.threads > 1 && step.parallel();
        self.calls.push(Call { tag, parallel, barrier: false, what: What::Step(step) });
        Ok(())
    }

    /// Everything after this point runs only if no index was out of range and all of these scalars are finite.
    /// A tape has at most one guard, and writes to the state come after it.
    pub fn guard(&mut self, scalars: &[View]) -> Result<(), TapeError> {
        let refuse = |what: &str| Err(TapeError { routine: "guard", what: what.to_string() });
        if self.guarded {
            return refuse("a tape has one guard");
        }
        for view in scalars {
            let size = self.regions.get(view.region.0 as usize).copied().unwrap_or(0);
            if view.shape.count() != 1 || !view.dtype.is_float() || view.end() * view.dtype.size() > size {
                return refuse("a guarded value is a float scalar inside its region");
            }
        }
        self.guarded = true;
        self.calls.push(Call { tag: 0, parallel: false, barrier: true, what: What::Guard(scalars.to_vec()) });
        Ok(())
    }

    /// The finished tape, with its arena holding zeros and its constants holding `constants`.
    pub fn finish(mut self, constants: Memory) -> Result<Tape, TapeError> {
        if constants.len() != self.regions[Region::CONSTANTS.0 as usize] {
            return Err(TapeError { routine: "constants", what: "of another length than announced".to_string() });
        }
        // A barrier stands between two calls unless both run on worker 0; the end of the run joins by itself.
        let parallel: Vec<bool> = self.calls.iter().map(|c| c.parallel).collect();
        for (i, call) in self.calls.iter_mut().enumerate() {
            let next = parallel.get(i + 1).copied();
            call.barrier |= next.is_some_and(|next| next || call.parallel);
        }
        let scratch = self.scratch.next_multiple_of(64) + 64;
        Ok(Tape {
            arena: Memory::zeroed(self.regions[Region::ARENA.0 as usize]),
            constants,
            scratch: Memory::zeroed(scratch * self.threads),
            bases: Bases(vec![std::ptr::null_mut(); self.regions.len()]),
            scratch_each: scratch,
            pace: Pace::default(),
            threads: if parallel.contains(&true) { self.threads } else { 1 },
            regions: self.regions,
            calls: self.calls,
            writes_state: self.writes_state,
        })
    }
}

/// A checked list of kernel calls with its arena. See the module's text.
pub struct Tape {
    arena: Memory,
    constants: Memory,
    scratch: Memory,
    scratch_each: usize,
    bases: Bases,
    threads: usize,
    pace: Pace,
    regions: Vec<usize>,
    calls: Vec<Call>,
    writes_state: bool,
}

// SAFETY: the raw pointers in `bases` are rewritten at the start of each run from the borrows of that run, and runs
// take `&mut self`.
unsafe impl Send for Tape {}
// SAFETY: as above; a shared `Tape` gives out only `&Memory`.
unsafe impl Sync for Tape {}

/// What the workers of one run share.
struct Shared<'a> {
    tape: &'a Tape,
    scratch: *mut u8,
    stop: AtomicBool,
    /// Whether there is an outcome: the lock is only for those that have one.
    failed: AtomicBool,
    outcome: Mutex<Option<RunError>>,
    /// Nanoseconds of each call, when somebody asks.
    times: Vec<AtomicU64>,
}

// SAFETY: workers write disjoint parts of the memory behind the pointers (the contract of `Step::run`).
unsafe impl Sync for Shared<'_> {}

impl Tape {
    /// Runs all calls on the batch and the state. Allocates nothing.
    ///
    /// # Errors
    /// [`RunError`]; the state is untouched in every case, because writes to it come after the guard.
    pub fn run(&mut self, batch: &Memory, state: StateRef<'_>) -> Result<(), RunError> {
        self.bind(batch, state)?;
        self.go::<false>().0
    }

    /// As [`Tape::run`], and gives the nanoseconds of each call, from its beginning until all workers have done it.
    /// Reading the clock adds some 50 ns to each.
    ///
    /// # Errors
    /// As [`Tape::run`].
    pub fn profile(&mut self, batch: &Memory, state: StateRef<'_>) -> Result<Vec<u64>, RunError> {
        self.bind(batch, state)?;
        let (outcome, times) = self.go::<true>();
        outcome.map(|()| times.into_iter().map(AtomicU64::into_inner).collect())
    }

    /// Checks the lent regions and takes their addresses.
    fn bind(&mut self, batch: &Memory, state: StateRef<'_>) -> Result<(), RunError> {
        let count = match &state {
            StateRef::Shared(regions) => regions.len(),
            StateRef::Mut(regions) => regions.len(),
        };
        if self.writes_state && matches!(state, StateRef::Shared(_)) {
            return Err(RunError::ReadOnlyState);
        }
        let check = |region: usize, found: usize, expected: usize| match found == expected {
            true => Ok(()),
            false => Err(RunError::Region { region, found, expected }),
        };
        check(1, batch.len(), self.regions[1])?;
        check(3 + count, 3 + count, self.regions.len())?;
        self.bases.0[0] = self.arena.bytes_mut().as_mut_ptr();
        self.bases.0[1] = batch.bytes().as_ptr().cast_mut();
        self.bases.0[2] = self.constants.bytes().as_ptr().cast_mut();
        match state {
            StateRef::Shared(regions) => {
                for (i, region) in regions.iter().enumerate() {
                    check(3 + i, region.len(), self.regions[3 + i])?;
                    self.bases.0[3 + i] = region.bytes().as_ptr().cast_mut();
                }
            }
            StateRef::Mut(regions) => {
                for (i, region) in regions.iter_mut().enumerate() {
                    check(3 + i, region.len(), self.regions[3 + i])?;
                    self.bases.0[3 + i] = region.bytes_mut().as_mut_ptr();
                }
            }
        }
        Ok(())
    }

    /// Runs all calls on the bound regions.
    fn go<const PROFILE: bool>(&mut self) -> (Result<(), RunError>, Vec<AtomicU64>) {
        let scratch = self.scratch.bytes_mut().as_mut_ptr();
        let times = if PROFILE { self.calls.iter().map(|_| AtomicU64::new(0)).collect() } else { Vec::new() };
        let [stop, failed] = [false, false].map(AtomicBool::new);
        let shared = Shared { tape: self, scratch, stop, failed, outcome: Mutex::new(None), times };
        let mut ran = None;
        if self.threads == 1 {
            shared.walk::<PROFILE, true>(&Team::solo());
        } else {
            let begin = Instant::now();
            let threads = if self.pace.alone() { 1 } else { self.threads };
            let waited = Pool::global().run(threads, &|team| shared.walk::<PROFILE, false>(team));
            ran = Some((begin.elapsed(), waited));
        }
        let outcome = shared.outcome.into_inner().unwrap_or_else(|poison| poison.into_inner());
        let times = shared.times;
        if let Some((took, waited)) = ran {
            self.pace.ran(took, waited);
        }
        (outcome.map_or(Ok(()), Err), times)
    }

    /// The arena, to read values after a run.
    pub fn arena(&self) -> &Memory {
        &self.arena
    }

    /// The constants.
    pub fn constants(&self) -> &Memory {
        &self.constants
    }

    /// Number of calls.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Bytes of the arena, the constants and the scratch memory of all workers.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.constants.len() + self.scratch.len()
    }
}

impl Shared<'_> {
    /// One worker's way through the tape. `ALONE`, known to the compiler, leaves a small network's calls next to nothing
    /// between them.
    fn walk<const PROFILE: bool, const ALONE: bool>(&self, team: &Team) {
        // SAFETY: worker `index` owns the `index`-th part of the scratch memory; a team has at most `threads` workers.
        let scratch = unsafe { self.scratch.add(team.worker() * self.tape.scratch_each) };
        let all = Worker { index: team.worker(), count: team.workers(), scratch };
        let alone = Worker { index: 0, count: 1, scratch };
        for (number, call) in self.tape.calls.iter().enumerate() {
            let begin = (PROFILE && team.worker() == 0).then(Instant::now);
            if ALONE || call.parallel || team.worker() == 0 {
                let worker = if call.parallel && !ALONE { &all } else { &alone };
                match &call.what {
                    // SAFETY: `run` checked the regions, and barriers keep calls apart.
                    What::Step(step) => match unsafe { step.run(&self.tape.bases, worker) } {
                        Ok(()) => {}
                        Err(fault) => self.report(RunError::Index { call: call.tag, fault }),
                    },
                    What::Guard(views) => self.check_guard(views),
                }
            }
            if call.barrier && !ALONE {
                team.barrier();
            }
            if let Some(begin) = begin {
                self.times[number].store(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
            // Only a guard sets `stop`, and only behind its own barrier is it read: worker 0 may be calls ahead of the others
            // before, and all must leave at the same place.
            if matches!(call.what, What::Guard(_)) && self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    #[cold]
    fn report(&self, error: RunError) {
        self.failed.store(true, Ordering::Relaxed);
        let mut outcome = self.outcome.lock().unwrap_or_else(|poison| poison.into_inner());
        // The smallest (call, row) is reported, whichever worker comes first.
        let key = |e: &RunError| match e {
            RunError::Index { call, fault } => (*call, fault.row),
            _ => (usize::MAX, 0),
        };
        if outcome.as_ref().is_none_or(|old| key(&error) < key(old)) {
            *outcome = Some(error);
        }
    }

    fn check_guard(&self, views: &[View]) {
        // The barrier before the guard makes what other workers reported visible.
        if self.failed.load(Ordering::Relaxed) {
            self.stop.store(true, Ordering::Relaxed);
            return;
        }
        for (guard, view) in views.iter().enumerate() {
            // SAFETY: guarded views were checked to lie inside their region.
            let value = unsafe {
                match view.dtype {
                    DType::F64 => *self.tape.bases.ptr::<f64>(view),
                    _ => f64::from(*self.tape.bases.ptr::<f32>(view)),
                }
            };
            if !value.is_finite() {
                self.report(RunError::NonFinite { guard, value });
                self.stop.store(true, Ordering::Relaxed);
                return;
            }
        }
    }
}
