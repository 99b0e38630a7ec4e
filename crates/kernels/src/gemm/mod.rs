//! Matrix products: out (.., m, n) = a (.., m, k) @ b (.., k, n), f32 or f64, inputs at any strides.
//!
//! One order for every element: a chain of fused multiply-adds over ascending k inside blocks of [`KC`] steps counted
//! from 0; the first block's sum is stored, later ones are added to it in order. Instruction sets, workers, tiles and
//! copies decide only where and when an element is computed, so they cannot change its bits. Nothing is skipped: 0
//! times infinity is NaN here too.
//!
//! A chain of elementwise instructions may follow a product: each part of it goes through the chain when its last sum is
//! rounded and it is still in a near cache ([`After`]).
//!
//! `layout` simplifies a call, `small` computes tiny products on the spot, `row` those with a single row,
//! `blocks` cuts the others into panels, `pack` copies strided operands, `micro` holds the register tiles, written once
//! over the vectors of `lanes`. `bf16` has kernels that round to bfloat16 while they copy.

pub(crate) mod bf16;
mod blocks;
pub(crate) mod direct;
pub(crate) mod lanes;
mod layout;
mod micro;
mod pack;
mod row;
mod small;
#[cfg(test)]
mod tests;

use crate::isa::Isa;
use crate::tape::{Bases, Fault, Step, Worker};
use crate::tiles::Chain;
use crate::view::{DType, View};
use blocks::Blocks;
use layout::{Batch, Call, Dims};
use micro::{Kernel, Single};
use row::Rows;
use small::{Small, Whole};

/// Steps of k in one block. A constant of the numerics: another value gives other bits.
const KC: usize = 256;

/// Multiply-adds from which on several workers share a call.
const PARALLEL_WORK: usize = 64 * 64 * 64;

/// The step of out = a @ b, and of the chain that follows it.
///
/// # Errors
/// What does not fit: number of operands, types, ranks or lengths, or an instruction set that this CPU lacks.
pub(crate) fn build(isa: Isa, outs: &[View], ins: &[View], chain: Option<Chain>) -> Result<Box<dyn Step>, String> {
    let ([out], [a, b]) = (outs, ins) else {
        return Err(format!("a matmul has one output and two inputs, not {} and {}", outs.len(), ins.len()));
    };
    check(isa, out, a, b)?;
    let views = [*a, *b, *out];
    match (out.dtype, isa) {
        #[cfg(target_arch = "x86_64")]
        (DType::F32, Isa::Avx512) => Ok(choose::<micro::Avx512F32>(isa, views, chain)),
        #[cfg(target_arch = "x86_64")]
        (DType::F32, Isa::Avx2) => Ok(choose::<micro::Avx2F32>(isa, views, chain)),
        #[cfg(target_arch = "x86_64")]
        (DType::F64, Isa::Avx512) => Ok(choose::<micro::Avx512F64>(isa, views, chain)),
        #[cfg(target_arch = "x86_64")]
        (DType::F64, Isa::Avx2) => Ok(choose::<micro::Avx2F64>(isa, views, chain)),
        (DType::F32, _) => Ok(choose::<micro::Portable32>(isa, views, chain)),
        (DType::F64, _) => Ok(choose::<micro::Portable64>(isa, views, chain)),
        (DType::U32, _) => Err("a matmul takes floats, not u32".to_string()),
    }
}

fn check(isa: Isa, out: &View, a: &View, b: &View) -> Result<(), String> {
    if !isa.supported() {
        return Err(format!("this CPU cannot run the {isa:?} path"));
    }
    if a.dtype != out.dtype || b.dtype != out.dtype {
        return Err(format!("{} @ {} does not give {}", a.dtype.name(), b.dtype.name(), out.dtype.name()));
    }
    let (da, db, dc) = (a.shape.dims(), b.shape.dims(), out.shape.dims());
    let fits = match (da, db, dc) {
        ([outer_a @ .., m, k], [outer_b @ .., l, n], [outer_c @ .., p, q]) => {
            outer_a == outer_b && outer_a == outer_c && k == l && m == p && n == q
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("{} @ {} does not give {}", a.shape, b.shape, out.shape)) }
}

/// The cheapest step for a @ b = out.
fn choose<K: Single<T: Small>>(isa: Isa, [a, b, out]: [View; 3], chain: Option<Chain>) -> Box<dyn Step> {
    let Call { dims, batch, swapped } = layout::resolve(&a, &b);
    let views = if swapped { [b, a, out] } else { [a, b, out] };
    if dims.work() == 0 || batch.count == 0 {
        return Matmul::boxed(views, Zeros::<K::T>(out.shape.count(), std::marker::PhantomData), chain);
    }
    let parallel = dims.work().saturating_mul(batch.count) > PARALLEL_WORK;
    match K::T::choose(isa, &dims) {
        Some(whole) => Matmul::boxed(views, Tiny { whole, dims, batch, parallel }, chain),
        None if dims.m == 1 && dims.csb == 1 => Matmul::boxed(views, Rows::<K>::new(dims, batch, parallel), chain),
        None => {
            let blocks = Blocks::<K>::new(dims, batch);
            Matmul::boxed(views, Large { blocks, parallel }, chain)
        }
    }
}

/// What follows a product: the chain, if there is one, with what it needs of this run.
struct After<'a> {
    chain: Option<&'a Chain>,
    bases: &'a Bases,
    scratch: *mut u8,
}

impl After<'_> {
    /// Elements `start..start + len` of the output hold the product and go through the chain.
    ///
    /// # Safety
    /// They do, and no other worker has them.
    #[inline(always)]
    unsafe fn done(&self, start: usize, len: usize) {
        if let Some(chain) = self.chain {
            // SAFETY: the caller's promise; the chain has begun (`Matmul::run`).
            unsafe { chain.range(self.bases, self.scratch, start, len) }
        }
    }

    /// The same for `rows` rows of `len` elements, the first at `start`, that stand `n` apart.
    ///
    /// # Safety
    /// As [`After::done`].
    #[inline(always)]
    unsafe fn block(&self, start: usize, rows: usize, len: usize, n: usize) {
        if self.chain.is_none() {
            return;
        }
        // Whole rows follow one another.
        let (runs, run) = if len == n { (1, rows * len) } else { (rows, len) };
        for r in 0..runs {
            // SAFETY: the caller's promise.
            unsafe { self.done(start + r * n, run) }
        }
    }
}

/// A way to compute a batch of products of elements `T`.
trait Way: Send + Sync + 'static {
    type T;
    fn parallel(&self) -> bool;
    fn scratch(&self) -> usize;
    /// Computes this worker's share, and hands each part of it to `after` once.
    ///
    /// # Safety
    /// As [`Step::run`]; the addresses are those of the first elements.
    unsafe fn run(&self, a: *const Self::T, b: *const Self::T, c: *mut Self::T, worker: &Worker, after: &After<'_>);
}

/// A way with its views, its left and right operand and the output, and the chain that follows it.
struct Matmul<W> {
    views: [View; 3],
    way: W,
    chain: Option<Chain>,
}

impl<W: Way> Matmul<W> {
    fn boxed(views: [View; 3], way: W, chain: Option<Chain>) -> Box<dyn Step> {
        Box::new(Matmul { views, way, chain })
    }

    /// Where the chain's scratch memory begins, behind that of the product.
    fn room(&self) -> usize {
        self.way.scratch().next_multiple_of(64)
    }
}

impl<W: Way> Step for Matmul<W> {
    fn parallel(&self) -> bool {
        self.way.parallel()
    }

    fn scratch(&self) -> usize {
        self.chain.as_ref().map_or(self.way.scratch(), |chain| self.room() + chain.scratch())
    }

    unsafe fn run(&self, bases: &Bases, worker: &Worker) -> Result<(), Fault> {
        let [a, b, c] = &self.views;
        // SAFETY: views were checked against the regions when the tape was built; the scratch has room for both.
        unsafe {
            let mut after = After { chain: self.chain.as_ref(), bases, scratch: worker.scratch };
            if let Some(chain) = after.chain {
                after.scratch = worker.scratch.add(self.room());
                chain.begin(bases, after.scratch);
            }
            self.way.run(bases.ptr(a), bases.ptr(b), bases.ptr(c), worker, &after);
        }
        Ok(())
    }
}

/// No products, or empty sums: zeros.
struct Zeros<T>(usize, std::marker::PhantomData<T>);

impl<T: Copy + Default + Send + Sync + 'static> Way for Zeros<T> {
    type T = T;

    fn parallel(&self) -> bool {
        false
    }

    fn scratch(&self) -> usize {
        0
    }

    unsafe fn run(&self, _: *const T, _: *const T, c: *mut T, worker: &Worker, after: &After<'_>) {
        let part = worker.share(self.0, 1);
        // SAFETY: the output has this many elements.
        unsafe {
            part.clone().for_each(|i| *c.add(i) = T::default());
            after.done(part.start, part.len());
        }
    }
}

/// One call of a function for each product.
struct Tiny<T> {
    whole: Whole<T>,
    dims: Dims,
    batch: Batch,
    parallel: bool,
}

impl<T: Send + Sync + 'static> Way for Tiny<T> {
    type T = T;

    fn parallel(&self) -> bool {
        self.parallel
    }

    fn scratch(&self) -> usize {
        0
    }

    #[inline(always)]
    unsafe fn run(&self, a: *const T, b: *const T, c: *mut T, worker: &Worker, after: &After<'_>) {
        let size = self.dims.m * self.dims.n;
        // SAFETY: the function was chosen for these sizes and this CPU; products do not overlap.
        unsafe {
            if self.batch.count == 1 {
                if worker.index == 0 {
                    (self.whole)(&self.dims, a, b, c);
                    after.done(0, size);
                }
                return;
            }
            for item in worker.share(self.batch.count, 1) {
                let (oa, ob) = self.batch.offsets(item);
                (self.whole)(&self.dims, a.add(oa), b.add(ob), c.add(item * size));
                after.done(item * size, size);
            }
        }
    }
}

/// Blocks, panels and copies.
struct Large<K: Kernel> {
    blocks: Blocks<K>,
    parallel: bool,
}

impl<K: Kernel> Way for Large<K> {
    type T = K::T;

    fn parallel(&self) -> bool {
        self.parallel
    }

    fn scratch(&self) -> usize {
        self.blocks.scratch()
    }

    unsafe fn run(&self, a: *const K::T, b: *const K::T, c: *mut K::T, worker: &Worker, after: &After<'_>) {
        // SAFETY: the caller's promise; `check` saw that the CPU can run `K`.
        unsafe { self.blocks.run(a, b, c, worker, after) }
    }
}
