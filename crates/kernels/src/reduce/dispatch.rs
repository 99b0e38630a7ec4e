//! Compiles one loop for every instruction set.
//!
//! A [`Body`] is written once, as plain code marked `#[inline(always)]`. [`step`] wraps it in the function that has the
//! wanted `#[target_feature]`, where the whole body is inlined and vectorised. The choice is made when the tape is
//! built; a run pays one virtual call.

use crate::isa::Isa;
use crate::tape::{Bases, Fault, Step, Worker};

/// The body of a [`Step`], independent of the instruction set. See [`Step`] for what the methods mean.
pub(crate) trait Body: Send + Sync + 'static {
    /// Whether several workers may share it.
    fn parallel(&self) -> bool;

    /// Scratch bytes each worker needs.
    fn scratch(&self) -> usize {
        0
    }

    /// Runs this worker's share. Implementations and all they call in loops are `#[inline(always)]`.
    ///
    /// # Safety
    /// As for [`Step::run`].
    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault>;
}

/// `body` as a step for `isa`, or for the build target's own instructions where this CPU lacks `isa`.
pub(crate) fn step<B: Body>(isa: Isa, body: B) -> Box<dyn Step> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if isa.supported() => Box::new(Avx512(body)),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if isa.supported() => Box::new(Avx2(body)),
        _ => Box::new(Portable(body)),
    }
}

/// One wrapper type per instruction set, because a step is called through its vtable.
macro_rules! wrapper {
    ($(#[$cfg:meta])? $name:ident $(, $features:literal)?) => {
        $(#[$cfg])?
        struct $name<B>(B);

        $(#[$cfg])?
        impl<B: Body> Step for $name<B> {
            fn parallel(&self) -> bool {
                self.0.parallel()
            }

            fn scratch(&self) -> usize {
                self.0.scratch()
            }

            unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
                $(#[target_feature(enable = $features)])?
                unsafe fn compiled<B: Body>(body: &B, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
                    // SAFETY: the contract is passed on.
                    unsafe { body.run(bases, worker) }
                }
                // SAFETY: the contract is passed on, and `step` made sure of the CPU's features.
                unsafe { compiled(&self.0, bases, worker) }
            }
        }
    };
}

wrapper!(Portable);
wrapper!(
    #[cfg(target_arch = "x86_64")]
    Avx2,
    "avx2,fma"
);
wrapper!(
    #[cfg(target_arch = "x86_64")]
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
);

/// As [`Worker::share`], without its divisions where one worker has everything.
#[inline(always)]
pub(crate) fn share(worker: &Worker, items: usize, grain: usize) -> std::ops::Range<usize> {
    if worker.count == 1 { 0..items } else { worker.share(items, grain) }
}
