//! Normalisation to mean 0 and variance 1, and its gradient.

use super::scale::{self, GROUP, Group, Rescale, Scale};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::wide::{self, Wide};
use crate::tape::Step;
use crate::view::View;

/// y = (x - mean) * (1 / sqrt(variance + eps)) along the last axis, in two passes over the row.
pub(crate) fn normalize(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    scale::step::<Normalize, 1>(isa, eps, outs, ins)
}

struct Normalize;

impl Rescale<1> for Normalize {
    #[inline(always)]
    unsafe fn run<V: Wide>(scale: Scale, group: &Group<V::T, 1>) {
        // SAFETY: as the caller promises.
        unsafe {
            let (means, rstds) = scale.moments::<V>(&group.rows[0][..group.count], group.len);
            for i in 0..group.count {
                let (mean, rstd) = (V::splat(means[i]), V::splat(rstds[i]));
                wide::each::<V, 1>(group.target(i), group.row(i), group.len, |_, [x]| x.sub(mean).mul(rstd));
            }
        }
    }
}

/// dx = rstd * (ct - mean(ct) - y * mean(ct * y)) with y and rstd = 1 / sqrt(variance + eps) as [`normalize`] has them;
/// mean(ct * y) is computed as mean(ct * (x - mean)) * rstd.
pub(crate) fn normalize_grad(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    scale::step::<NormalizeGrad, 2>(isa, eps, outs, ins)
}

struct NormalizeGrad;

impl Rescale<2> for NormalizeGrad {
    #[inline(always)]
    unsafe fn run<V: Wide>(scale: Scale, group: &Group<V::T, 2>) {
        let (count, len) = (group.count, group.len);
        // SAFETY: as the caller promises.
        unsafe {
            let (means, rstds) = scale.moments::<V>(&group.rows[0][..count], len);
            let (mut sums, mut products) = ([V::T::ZERO; GROUP], [V::T::ZERO; GROUP]);
            for i in 0..count {
                sums[i] = wide::sum::<V>(group.rows[1][i], len);
                let center = V::splat(means[i]);
                // The padding adds 0 to a lane.
                let pad = [means[i], V::T::ZERO];
                products[i] = wide::sum_of::<V, 2>(group.row(i), pad, len, |lane, [x, ct]| ct.fma(x.sub(center), lane));
            }
            let of_ct = scale.means::<V>(&sums).lanes();
            let of_product = scale.means::<V>(&products).mul(V::load(rstds.as_ptr())).lanes();
            for i in 0..count {
                let (center, rstd) = (V::splat(means[i]), V::splat(rstds[i]));
                let (of_ct, of_product) = (V::splat(of_ct[i]), V::splat(of_product[i]));
                wide::each::<V, 2>(group.target(i), group.row(i), len, |_, [x, ct]| {
                    let y = x.sub(center).mul(rstd);
                    y.neg().fma(of_product, ct.sub(of_ct)).mul(rstd)
                });
            }
        }
    }
}
