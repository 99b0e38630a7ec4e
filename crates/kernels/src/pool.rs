//! One thread pool a process, made for tapes: a run wakes the helpers once, barriers keep the calls apart.
//!
//! Waiting spins for a bounded time and then gives the core away, so a loaded machine is slow but never stuck; where
//! workers outnumber the cores nobody spins at all. A second program that finds the pool busy runs on its own thread,
//! with the same bits.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::Duration;

/// Turns of a spinning wait before a helper goes to sleep: some 50 µs.
const SPINS_BETWEEN_RUNS: u32 = 20_000;
/// Turns of a spinning wait inside a run before the core is given away.
const SPINS_IN_RUN: u32 = 4_000;
/// Times the core is given away before a waiting worker sleeps a little.
const YIELDS: u32 = 2_000;

/// What a run's closure is told about its worker.
pub struct Team<'a> {
    worker: usize,
    workers: usize,
    meeting: Option<&'a Meeting>,
}

impl Team<'_> {
    /// A team of one.
    pub fn solo() -> Team<'static> {
        Team { worker: 0, workers: 1, meeting: None }
    }

    /// Which worker this is; the caller of [`Pool::run`] is 0.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// How many there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Returns once every worker has come here; what each wrote before is then seen by all.
    pub fn barrier(&self) {
        if let Some(meeting) = self.meeting {
            meeting.wait(self.workers);
        }
    }
}

/// Where the workers of a run wait for each other.
#[derive(Default)]
#[repr(align(128))]
struct Meeting {
    arrived: AtomicUsize,
    turn: AtomicUsize,
}

impl Meeting {
    fn wait(&self, workers: usize) {
        let turn = self.turn.load(Ordering::Relaxed);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == workers {
            self.arrived.store(0, Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(1), Ordering::Release);
        } else {
            wait_until(workers, || self.turn.load(Ordering::Acquire) != turn);
        }
    }
}

/// Spins, then gives the core away, then sleeps in short naps, until `done`.
fn wait_until(workers: usize, done: impl Fn() -> bool) {
    let spins = if workers <= cores() { SPINS_IN_RUN } else { 0 };
    for _ in 0..spins {
        if done() {
            return;
        }
        std::hint::spin_loop();
    }
    for _ in 0..YIELDS {
        if done() {
            return;
        }
        std::thread::yield_now();
    }
    while !done() {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
}

type Body = dyn Fn(&Team<'_>) + Sync;

/// The low bits of the run number hold the run's number of workers.
const WORKER_BITS: u32 = 8;
/// The most workers of a run.
const MOST: usize = (1 << WORKER_BITS) - 1;

/// The helpers of this process. See the module's text.
pub struct Pool {
    /// Held during a run; guards the number of helpers.
    helpers: Mutex<usize>,
    /// Counts runs, with the number of workers in the low bits; a helper acts when it changes.
    run: AtomicU64,
    /// The run's closure, lent to the helpers until the run returns.
    job: UnsafeCell<Option<*const Body>>,
    /// Helpers of the current run that are not done.
    busy: AtomicUsize,
    meeting: Meeting,
    asleep: Mutex<usize>,
    wake: Condvar,
}

// SAFETY: `job` is written only by the holder of `helpers` while no helper is busy, before `run` changes with release
// order. A helper reads it after it saw the change with acquire order, and only if the same number says that it has a
// part in the run; then `busy` counts it, and the next job is not written before it is done.
unsafe impl Sync for Pool {}

impl Pool {
    /// The one pool.
    pub fn global() -> &'static Pool {
        static POOL: Pool = Pool {
            helpers: Mutex::new(0),
            run: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            busy: AtomicUsize::new(0),
            meeting: Meeting { arrived: AtomicUsize::new(0), turn: AtomicUsize::new(0) },
            asleep: Mutex::new(0),
            wake: Condvar::new(),
        };
        &POOL
    }

    /// Runs `body` on `threads` workers at once: this thread and helpers that are made when first needed. Where a thread
    /// cannot be made there are fewer workers; where the pool is busy, this thread alone. Allocates nothing once the
    /// helpers exist. A panic in `body` ends the process: the other workers would wait for ever.
    pub fn run(&'static self, threads: usize, body: &(dyn Fn(&Team<'_>) + Sync)) {
        let Ok(mut helpers) = self.helpers.try_lock() else { return body(&Team::solo()) };
        while *helpers + 1 < threads {
            let worker = *helpers + 1;
            let seen = self.run.load(Ordering::Relaxed);
            let name = format!("geartrain-{worker}");
            let made = std::thread::Builder::new().name(name).spawn(move || self.help(worker, seen));
            if made.is_err() {
                break;
            }
            *helpers += 1;
        }
        let workers = threads.min(*helpers + 1).min(MOST);
        if workers <= 1 {
            return body(&Team::solo());
        }
        // SAFETY: only the lifetime changes. The pointer is used until `busy` is 0, and this function waits for that.
        let lent = unsafe { std::mem::transmute::<*const (dyn Fn(&Team<'_>) + Sync), *const Body>(body) };
        self.busy.store(workers - 1, Ordering::Relaxed);
        // SAFETY: the last run's helpers are done (see `Sync`).
        unsafe { *self.job.get() = Some(lent) };
        let number = (self.run.load(Ordering::Relaxed) >> WORKER_BITS) + 1;
        self.run.store(number << WORKER_BITS | workers as u64, Ordering::Release);
        if *lock(&self.asleep) > 0 {
            self.wake.notify_all();
        }
        {
            let _guard = EndOnPanic;
            body(&Team { worker: 0, workers, meeting: Some(&self.meeting) });
        }
        wait_until(workers, || self.busy.load(Ordering::Acquire) == 0);
    }

    /// A helper's life.
    fn help(&self, worker: usize, mut seen: u64) {
        loop {
            seen = self.next_run(seen);
            let workers = seen as usize & MOST;
            if worker >= workers {
                continue;
            }
            // SAFETY: this helper has a part in the run (see `Sync`).
            let Some(body) = (unsafe { *self.job.get() }) else { continue };
            {
                let _guard = EndOnPanic;
                // SAFETY: the run waits for `busy` to be 0 before the closure goes away.
                let body = unsafe { &*body };
                body(&Team { worker, workers, meeting: Some(&self.meeting) });
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for a run after number `seen` and gives its number.
    fn next_run(&self, seen: u64) -> u64 {
        for _ in 0..SPINS_BETWEEN_RUNS {
            let now = self.run.load(Ordering::Acquire);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        let mut asleep = lock(&self.asleep);
        *asleep += 1;
        loop {
            let now = self.run.load(Ordering::Acquire);
            if now != seen {
                *asleep -= 1;
                return now;
            }
            asleep = self.wake.wait(asleep).unwrap_or_else(|poison| poison.into_inner());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// Ends the process when it is dropped by a panic.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("a worker panicked inside a step; the others would wait for ever");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every worker adds to its own slot between barriers; after each barrier all slots are equal.
    fn rounds(threads: usize, rounds: usize) {
        let slots: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        let wrong = AtomicUsize::new(0);
        let seen = AtomicUsize::new(0);
        Pool::global().run(threads, &|team| {
            seen.fetch_add(1, Ordering::Relaxed);
            for round in 1..=rounds {
                slots[team.worker()].fetch_add(1, Ordering::Relaxed);
                team.barrier();
                let behind = |s: &AtomicUsize| s.load(Ordering::Relaxed) != round;
                if slots[..team.workers()].iter().any(behind) {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
                team.barrier();
            }
        });
        assert_eq!(wrong.load(Ordering::Relaxed), 0);
        let workers = seen.load(Ordering::Relaxed);
        assert!((1..=threads).contains(&workers));
        assert!(slots[..workers].iter().all(|s| s.load(Ordering::Relaxed) == rounds));
    }

    #[test]
    fn barriers_keep_rounds_apart() {
        for (threads, n) in [(1, 100), (2, 2_000), (3, 500), (7, 200)] {
            rounds(threads, n);
        }
    }

    #[test]
    fn many_short_runs_of_changing_size() {
        for i in 0..3_000 {
            let threads = 1 + i % 4;
            let sum = AtomicUsize::new(0);
            let count = AtomicUsize::new(0);
            Pool::global().run(threads, &|team| {
                sum.fetch_add(team.worker() + 1, Ordering::Relaxed);
                count.store(team.workers(), Ordering::Relaxed);
            });
            let n = count.load(Ordering::Relaxed);
            assert_eq!(sum.load(Ordering::Relaxed), n * (n + 1) / 2);
        }
    }

    #[test]
    fn a_run_inside_a_run_is_alone() {
        let alone = AtomicUsize::new(0);
        Pool::global().run(2, &|team| {
            if team.worker() == 0 {
                Pool::global().run(2, &|inner| {
                    alone.fetch_add(inner.workers(), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(alone.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_caller_is_worker_0_and_sleepers_wake() {
        std::thread::sleep(Duration::from_millis(20));
        let caller = std::thread::current().id();
        let right = AtomicUsize::new(0);
        Pool::global().run(2, &|team| {
            if team.worker() == 0 && std::thread::current().id() == caller {
                right.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(right.load(Ordering::Relaxed), 1);
    }
}
