//! One thread pool a process, for work of microseconds.
//!
//! [`Pool::run`] has several workers run one closure at once; [`Team::barrier`] keeps them in step. Whoever waits spins
//! for a while, because waking a sleeper costs 20 to 60 µs, then offers its core to others, so that a worker that lost
//! its own can go on, and then sleeps. With more workers than cores nobody spins.
//!
//! A panic in the closure ends the run on all workers: those that wait at a barrier, or come to one, unwind too. `run`
//! then goes on with the first panic in the caller's thread, and the pool stays usable.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a waiting thread only spins. Two workers that the system put on one core wait for nothing meanwhile, so it is
/// not long.
const SPIN: Duration = Duration::from_micros(4);
/// How long a waiting thread looks for its signal at all, then offering its core between two looks, before it sleeps.
const PATIENCE: Duration = Duration::from_micros(50);
/// Looks at a signal between two looks at the clock, which cost as much as some ten looks.
const LOOKS: usize = 64;

type Body<'a> = dyn Fn(&Team) + Sync + 'a;
type Panic = Box<dyn Any + Send>;

/// A counter that others wait on, on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Signal {
    value: AtomicU32,
    sleepers: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Signal {
    fn now(&self) -> u32 {
        self.value.load(Ordering::Acquire)
    }

    /// Counts on and wakes whoever waits. What this thread wrote before is visible to those that see the new value.
    fn step(&self) {
        // Sequentially consistent with `sleep`: either this load sees the sleeper, or the sleeper sees the new value.
        self.value.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // The sleeper holds the lock from its last look until it sleeps, so the call cannot fall in between.
            drop(lock(&self.lock));
            self.wake.notify_all();
        }
    }

    /// Waits until the value is not `old`; gives how long that took if it was more than a microsecond or so, else 0.
    fn wait(&self, old: u32, spin: bool) -> Duration {
        if spin && self.look(old) { Duration::ZERO } else { self.wait_long(old, spin) }
    }

    /// Whether the value changes from `old` within a microsecond or so.
    fn look(&self, old: u32) -> bool {
        for _ in 0..LOOKS {
            if self.now() != old {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    #[cold]
    fn wait_long(&self, old: u32, spin: bool) -> Duration {
        let begin = Instant::now();
        loop {
            let changed = if spin { self.look(old) } else { self.now() != old };
            let waited = begin.elapsed();
            if changed {
                return waited;
            }
            if waited > PATIENCE {
                break;
            }
            if waited > SPIN || !spin {
                thread::yield_now();
            }
        }
        let mut guard = lock(&self.lock);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.value.load(Ordering::SeqCst) == old {
            guard = self.wake.wait(guard).unwrap_or_else(|poison| poison.into_inner());
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        begin.elapsed()
    }
}

/// Locks; nothing that these locks guard can be left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// A counter on a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicUsize);

/// What the workers of a run share.
#[derive(Default)]
struct Meeting {
    /// Workers that came to the present barrier.
    arrived: Count,
    /// Counts barriers, and panics.
    opened: Signal,
    /// Helpers that still run the closure.
    running: Count,
    /// Counts runs that all helpers have left.
    left: Signal,
    /// Whether a worker of this run panicked.
    broken: AtomicBool,
    panic: Mutex<Option<Panic>>,
}

impl Meeting {
    /// Runs the closure as one worker, and breaks up the meeting if it panics.
    fn work(&self, body: &Body<'_>, team: &Team) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(team))) {
            // The first panic is the one to report: those of `barrier` come after it.
            lock(&self.panic).get_or_insert(panic);
            self.broken.store(true, Ordering::SeqCst);
            self.opened.step();
        }
    }
}

/// One of the workers that run a closure together.
pub struct Team {
    worker: usize,
    workers: usize,
    spin: bool,
    /// None for a worker alone.
    meeting: Option<&'static Meeting>,
    /// How long this worker waited at barriers so far.
    waited: Cell<Duration>,
}

impl Team {
    /// A worker alone.
    pub fn solo() -> Team {
        Team { worker: 0, workers: 1, spin: false, meeting: None, waited: Cell::default() }
    }

    fn of(meeting: &'static Meeting, worker: usize, workers: usize, spin: bool) -> Team {
        Team { worker, workers, spin, meeting: Some(meeting), waited: Cell::default() }
    }

    /// The worker's number, from 0; 0 is the caller of [`Pool::run`].
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How many workers run the closure.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Waits until all workers of the team came here; what they wrote before is then visible to all. Every worker must
    /// come to the same number of barriers.
    ///
    /// # Panics
    /// When another worker of the team panicked, to end the run.
    #[inline]
    pub fn barrier(&self) {
        let Some(meeting) = self.meeting else { return };
        let round = meeting.opened.now();
        // Looked at after the counter: a worker that panics later counts on, which ends the wait below.
        if meeting.broken.load(Ordering::SeqCst) {
            leave();
        }
        if meeting.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.workers {
            meeting.arrived.0.store(0, Ordering::Relaxed);
            meeting.opened.step();
        } else {
            self.waited.set(self.waited.get() + meeting.opened.wait(round, self.spin));
            if meeting.broken.load(Ordering::SeqCst) {
                leave();
            }
        }
    }
}

/// Unwinds quietly: the panic that broke the run has been reported.
#[cold]
fn leave() {
    resume_unwind(Box::new("another worker panicked"));
}

/// A closure and how many run it, handed to a helper.
#[derive(Clone, Copy)]
struct Job {
    body: &'static Body<'static>,
    workers: usize,
    spin: bool,
}

/// A thread of the pool.
struct Helper {
    /// Counts the jobs given.
    start: Signal,
    job: UnsafeCell<Option<Job>>,
}

// SAFETY: the caller of `run` writes `job` while the helper waits for `start`, and the helper reads it after `start`
// counted on and before it reports that it left: never both at once.
unsafe impl Sync for Helper {}

impl Helper {
    /// The thread's life: takes jobs until the process ends.
    fn serve(&self, worker: usize, meeting: &'static Meeting) {
        let (mut seen, mut spin) = (0, false);
        loop {
            self.start.wait(seen, spin);
            seen = self.start.now();
            // SAFETY: see `Sync`; `start` counted on.
            if let Some(job) = unsafe { *self.job.get() } {
                spin = job.spin;
                let team = Team::of(meeting, worker, job.workers, spin);
                meeting.work(job.body, &team);
                // The last one to leave lets the caller go on; the body is not touched after this.
                if meeting.running.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                    meeting.left.step();
                }
            }
        }
    }
}

/// The threads that help a caller to run a closure, made when first asked for and kept.
pub struct Pool {
    /// Held during a run.
    helpers: Mutex<Vec<&'static Helper>>,
    meeting: &'static Meeting,
    cores: usize,
}

impl Pool {
    /// The pool of this process.
    pub fn global() -> &'static Pool {
        static POOL: OnceLock<Pool> = OnceLock::new();
        POOL.get_or_init(Pool::new)
    }

    /// A pool without helpers. What its threads use is never freed, as they never end.
    fn new() -> Pool {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Pool { helpers: Mutex::new(Vec::new()), meeting: Box::leak(Box::default()), cores }
    }

    /// Runs `body` on `threads` workers at once and returns when all are done. The caller is worker 0.
    ///
    /// There are fewer workers if the system gives no more threads, and only the caller, with [`Team::solo`], while
    /// another run has the pool: the body must do the same whatever [`Team::workers`] says. Allocates only to make
    /// threads. Gives how long the caller waited for the others, not counting waits of a microsecond or so.
    ///
    /// # Panics
    /// With the panic of `body`, once all workers have left it.
    pub fn run(&self, threads: usize, body: &(dyn Fn(&Team) + Sync)) -> Duration {
        let alone = || {
            body(&Team::solo());
            Duration::ZERO
        };
        if threads <= 1 {
            return alone();
        }
        let mut helpers = match self.helpers.try_lock() {
            Ok(helpers) => helpers,
            Err(TryLockError::Poisoned(poison)) => poison.into_inner(),
            Err(TryLockError::WouldBlock) => return alone(),
        };
        while helpers.len() < threads - 1 {
            let Some(helper) = spawn(helpers.len() + 1, self.meeting) else { break };
            helpers.push(helper);
        }
        let workers = threads.min(helpers.len() + 1);
        if workers == 1 {
            drop(helpers);
            return alone();
        }
        let outcome = self.together(&helpers[..workers - 1], body);
        drop(helpers);
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs `body` here and on these helpers; gives how long the caller waited for them, or the first panic.
    fn together(&self, helpers: &[&'static Helper], body: &Body<'_>) -> Result<Duration, Panic> {
        let (meeting, workers) = (self.meeting, helpers.len() + 1);
        let spin = workers <= self.cores;
        // SAFETY: only the lifetime changes. The helpers use the body before they count themselves out of `running`,
        // and this function does not return or unwind before all did: `work` catches every panic.
        let body = unsafe { std::mem::transmute::<&Body<'_>, &'static Body<'static>>(body) };
        meeting.arrived.0.store(0, Ordering::Relaxed);
        meeting.running.0.store(helpers.len(), Ordering::Relaxed);
        let runs = meeting.left.now();
        for helper in helpers {
            // SAFETY: see `Helper`: it waits for `start`, having left its last job.
            unsafe { *helper.job.get() = Some(Job { body, workers, spin }) };
            helper.start.step();
        }
        let team = Team::of(meeting, 0, workers, spin);
        meeting.work(body, &team);
        let waited = team.waited.get() + meeting.left.wait(runs, spin);
        let broken = meeting.broken.swap(false, Ordering::SeqCst);
        broken.then(|| lock(&meeting.panic).take()).flatten().map_or(Ok(waited), Err)
    }
}

/// A new thread, or None if the system gives none.
fn spawn(worker: usize, meeting: &'static Meeting) -> Option<&'static Helper> {
    let helper: &'static Helper = Box::leak(Box::new(Helper { start: Signal::default(), job: UnsafeCell::new(None) }));
    let thread = thread::Builder::new().name(format!("geartrain-{worker}"));
    thread.spawn(move || helper.serve(worker, meeting)).ok()?;
    Some(helper)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool that no other test uses.
    fn pool() -> Pool {
        Pool::new()
    }

    /// Every worker adds to its own number, everybody reads all of them after a barrier: `rounds` times.
    fn meet(pool: &Pool, threads: usize, rounds: usize) {
        let sums: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        let wrong = AtomicUsize::new(0);
        pool.run(threads, &|team| {
            assert_eq!(team.workers(), threads);
            for round in 1..=rounds {
                // Relaxed on purpose: the barrier alone makes these visible.
                sums[team.worker()].fetch_add(round, Ordering::Relaxed);
                team.barrier();
                let total: usize = sums.iter().map(|s| s.load(Ordering::Relaxed)).sum();
                if total != threads * round * (round + 1) / 2 {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
                team.barrier();
            }
        });
        assert_eq!(wrong.into_inner(), 0, "{threads} workers");
    }

    #[test]
    fn barriers_keep_workers_in_step() {
        let pool = pool();
        for threads in [2, 3, 7, 2] {
            meet(&pool, threads, 1000);
        }
    }

    #[test]
    fn barriers_hold_when_workers_sleep() {
        let pool = pool();
        let order = Mutex::new(Vec::new());
        pool.run(3, &|team| {
            for round in 0..3 {
                // Longer than anybody spins or yields, each worker once: the others sleep.
                if team.worker() == round {
                    thread::sleep(Duration::from_millis(5));
                    lock(&order).push(round);
                }
                team.barrier();
                assert_eq!(lock(&order).len(), round + 1);
                team.barrier();
            }
        });
        assert_eq!(*lock(&order), [0, 1, 2]);
    }

    #[test]
    fn short_runs_reach_every_worker_once() {
        let pool = pool();
        let caller = thread::current().id();
        for run in 0..1000 {
            let threads = [2, 3, 1, 7][run % 4];
            let seen: [AtomicUsize; 7] = Default::default();
            pool.run(threads, &|team| {
                assert_eq!(thread::current().id() == caller, team.worker() == 0);
                seen[team.worker()].fetch_add(1, Ordering::Relaxed);
            });
            let seen = seen.map(AtomicUsize::into_inner);
            assert!(seen.iter().enumerate().all(|(i, n)| *n == usize::from(i < threads)), "{threads}: {seen:?}");
        }
        assert_eq!(lock(&pool.helpers).len(), 6);
    }

    #[test]
    fn a_busy_pool_runs_alone() {
        let pool = pool();
        let alone = AtomicUsize::new(0);
        pool.run(3, &|team| {
            let outer = thread::current().id();
            pool.run(3, &|inner| {
                assert_eq!((inner.worker(), inner.workers(), thread::current().id()), (0, 1, outer));
                inner.barrier();
                alone.fetch_add(1, Ordering::Relaxed);
            });
            team.barrier();
            // A program of another thread.
            if team.worker() == 1 {
                let other = || pool.run(2, &|team| assert_eq!(team.workers(), 1));
                thread::scope(|scope| scope.spawn(other).join()).unwrap();
            }
        });
        assert_eq!(alone.into_inner(), 3);
    }

    #[test]
    fn a_panic_ends_the_run_and_not_the_pool() {
        let pool = pool();
        for (threads, guilty) in [(2, 0), (2, 1), (3, 2), (7, 3)] {
            let after = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(threads, &|team| {
                    team.barrier();
                    if team.worker() == guilty {
                        resume_unwind(Box::new("told on purpose"));
                    }
                    team.barrier();
                    after.fetch_add(1, Ordering::Relaxed);
                });
            }));
            let panic = result.expect_err("the panic comes out of `run`");
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"told on purpose"));
            assert_eq!(after.into_inner(), 0);
            meet(&pool, threads, 10);
        }
    }

    #[test]
    fn a_worker_alone_waits_for_nobody() {
        let team = Team::solo();
        team.barrier();
        assert_eq!((team.worker(), team.workers()), (0, 1));
        meet(Pool::global(), 1, 3);
    }
}
