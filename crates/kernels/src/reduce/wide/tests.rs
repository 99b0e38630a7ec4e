//! Every function of a block on every instruction set, against the same on single numbers.

use super::*;
use crate::isa::Isa;
use crate::reduce::lanes::Largest;
use crate::reduce::testing::{Element, lane_rule, lane_sum, noise, same};

/// Calls `$check` for the blocks of every instruction set that this CPU has.
macro_rules! on_all {
    ($check:ident) => {
        // SAFETY: the CPU has the instructions.
        unsafe {
            $check::<Plain<f32>>();
            $check::<Plain<f64>>();
            #[cfg(target_arch = "x86_64")]
            if Isa::Avx2.supported() {
                $check::<Avx2>();
            }
            #[cfg(target_arch = "x86_64")]
            if Isa::Avx512.supported() {
                $check::<Avx512>();
            }
        }
    };
}

fn numbers<T: Real>(values: [f64; LANES]) -> [T; LANES] {
    values.map(T::from_f64)
}

/// Numbers of all kinds, in an order in which each meets each of `twisted`.
fn strange<T: Real>() -> [T; LANES] {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    numbers([0.0, -0.0, 1.5, -1.5, inf, -inf, nan, 3.0, 0.0, -0.0, 7.0, -7.0, inf, -inf, nan, 1e-40])
}

unsafe fn moves<V: Wide<T: Element>>() {
    let x = noise::<V::T>(1, LANES);
    let pad = V::T::from_f64(9.0);
    // SAFETY: the lists are as long as they must be: those of `n` elements end there.
    unsafe {
        let block = V::load(x.as_ptr());
        same(&block.lanes(), &x, "load");
        same(&V::splat(pad).lanes(), &[pad; LANES], "splat");
        for n in 0..=LANES {
            let short: Box<[V::T]> = x[..n].into();
            let mut expected = [pad; LANES];
            expected[..n].copy_from_slice(&short);
            same(&V::load_first(short.as_ptr(), V::first(n), V::splat(pad)).lanes(), &expected, "load_first");
            let mut out = [pad; LANES];
            block.store_first(out.as_mut_ptr(), V::first(n));
            same(&out, &expected, "store_first");
            expected[n..].fill(V::T::ZERO);
            same(&block.keep_first(V::first(n)).lanes(), &expected, "keep_first");
        }
        for lane in (0..LANES + 3).chain([usize::MAX, usize::MAX - 15, 1 << 32, 1 << 16]) {
            let expected: [V::T; LANES] = from_fn(|i| if i == lane { pad } else { V::T::ZERO });
            same(&V::only(lane, pad).lanes(), &expected, "only");
        }
    }
}

unsafe fn arithmetic<V: Wide<T: Element>>() {
    let (a, c) = (strange::<V::T>(), noise::<V::T>(2, LANES));
    // SAFETY: blocks are whole.
    unsafe {
        for turn in 0..LANES {
            let b: [V::T; LANES] = from_fn(|i| a[(i + turn) % LANES]);
            let (x, y, z) = (V::load(a.as_ptr()), V::load(b.as_ptr()), V::load(c.as_ptr()));
            let check = |found: V, f: &dyn Fn(usize) -> V::T, what: &str| {
                same(&found.lanes(), &from_fn::<V::T, LANES, _>(f), what);
            };
            check(x.add(y), &|i| a[i] + b[i], "add");
            check(x.sub(y), &|i| a[i] - b[i], "sub");
            check(x.mul(y), &|i| a[i] * b[i], "mul");
            check(x.div(y), &|i| a[i] / b[i], "div");
            check(x.fma(y, z), &|i| a[i].mul_add(b[i], c[i]), "fma");
            check(x.neg(), &|i| -a[i], "neg");
            check(x.larger(y), &|i| if a[i] > b[i] { a[i] } else { b[i] }, "larger");
            check(x.larger_or_nan(y), &|i| a[i].max(b[i]), "larger_or_nan");
        }
    }
}

unsafe fn trees<V: Wide<T: Element>>() {
    for seed in 0..50 {
        let x = noise::<V::T>(seed, LANES);
        let lanes = <[V::T; LANES]>::try_from(x.as_slice()).expect("a block");
        // SAFETY: the block is whole.
        let (sum, most) = unsafe { (V::load(x.as_ptr()).sum(), V::load(x.as_ptr()).largest()) };
        same(&[sum, most], &[lanes::tree::<_, Add>(lanes), lanes::tree::<_, Largest>(lanes)], "trees");
    }
}

unsafe fn sums<V: Wide<T: Element>>() {
    for len in [0, 1, 3, 5, 15, 16, 17, 31, 63, 64, 65, 128, 257, 4095, 4096, 4097, 10_000] {
        let (x, y) = (noise::<V::T>(3, len), noise::<V::T>(4, len));
        // SAFETY: the lists have `len` elements.
        unsafe {
            same(&[sum::<V>(x.as_ptr(), len)], &[lane_sum(&x)], &format!("sum of {len}"));
            let zeros = [V::T::ZERO; 2];
            let found = sum_of::<V, 2>([x.as_ptr(), y.as_ptr()], zeros, len, |lane, [x, y]| x.fma(y, lane));
            let expected = lane_rule(len, V::T::ZERO, |lane, i| x[i].mul_add(y[i], lane), |a, b| a + b);
            same(&[found], &[expected], &format!("products of {len}"));
            let mut out = [V::T::ONE, V::T::ONE].repeat(len);
            each::<V, 2>(out.as_mut_ptr(), [x.as_ptr(), y.as_ptr()], len, |at, [x, y]| {
                x.sub(y).add(V::only(3, V::T::from_f64(at as f64)))
            });
            for (i, found) in out.into_iter().enumerate() {
                let third = V::T::from_f64(if i % LANES == 3 { (i - 3) as f64 } else { 0.0 });
                let expected = if i < len { x[i] - y[i] + third } else { V::T::ONE };
                same(&[found], &[expected], &format!("element {i} of {len}"));
            }
        }
    }
}

unsafe fn lists<V: Wide<T: Element>>() {
    let (inf, nan) = (V::T::INFINITY, V::T::NAN);
    for len in [0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 79, 80, 81, 128, 257] {
        let x = noise::<V::T>(len as u64, len);
        for at in 0..len {
            for (value, expected) in [(V::T::from_f64(3.0), Some(V::T::from_f64(3.0))), (inf, Some(inf)), (nan, None)] {
                let mut x = x.clone();
                x[at] = value;
                let fold = |most: V::T, x: &V::T| if *x > most { *x } else { most };
                let all = x.iter().fold(V::T::NEG_INFINITY, fold);
                // SAFETY: the list has `len` elements.
                let found = unsafe { largest::<V>(x.as_ptr(), len) };
                same(&[found], &[expected.unwrap_or(all)], &format!("largest of {len}"));
            }
        }
        // SAFETY: as above.
        let empty = unsafe { largest::<V>([nan; 20].as_ptr(), len.min(20)) };
        same(&[empty], &[V::T::NEG_INFINITY], "nothing but NaN");
    }
}

/// The exponential may be computed in another way; its bits may not differ.
unsafe fn exponentials<V: Wide<T: Element>>() {
    let step = if V::T::DTYPE == crate::view::DType::F32 { 1009 * LANES as u64 } else { u64::MAX / 1000 };
    let of = |bits: u64| match V::T::DTYPE {
        crate::view::DType::F32 => V::T::from_f64(f64::from(f32::from_bits(bits as u32))),
        _ => V::T::from_f64(f64::from_bits(bits)),
    };
    let end = if V::T::DTYPE == crate::view::DType::F32 { u64::from(u32::MAX) } else { u64::MAX };
    let check = |x: [V::T; LANES]| {
        // SAFETY: the block is whole.
        let found = unsafe { V::load(x.as_ptr()).exp(LANES).lanes() };
        same(&found, &x.map(Real::exp), &format!("exp of {x:?}"));
    };
    let mut bits = 0u64;
    while let Some(next) = bits.checked_add(step).filter(|next| *next < end) {
        check(from_fn(|i| of(bits + step / LANES as u64 * i as u64)));
        bits = next;
    }
    check(strange());
    // Around the ends of what is not 0 or infinite, and where results become subnormal.
    for around in [-104.0, -103.97, -103.28, -88.0, -87.34, -87.0, 0.0, 88.0, 88.72, 89.0] {
        check(from_fn(|i| V::T::from_f64(around + (i as f64 - 8.0) * 7.7e-6)));
        check(from_fn(|i| V::T::from_f64(around + (i as f64 - 8.0) * 0.0531)));
    }
}

#[test]
fn blocks_are_read_and_written_as_far_as_they_go() {
    on_all!(moves);
}

#[test]
fn lanes_are_computed_as_single_numbers_are() {
    on_all!(arithmetic);
}

#[test]
fn lanes_are_combined_by_the_tree() {
    on_all!(trees);
}

#[test]
fn sums_of_lists_follow_the_rule_of_the_lanes() {
    on_all!(sums);
}

#[test]
fn the_largest_of_a_list() {
    on_all!(lists);
}

#[test]
fn exponentials_of_blocks_have_the_bits_of_single_ones() {
    on_all!(exponentials);
}
