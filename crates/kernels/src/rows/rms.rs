//! Normalisation of rows to a root mean square of 1, and its gradient.

use super::scale::{self, GROUP, Group, Rescale, Scale};
use crate::isa::Isa;
use crate::math::Real;
use crate::reduce::wide::{self, Wide};
use crate::tape::Step;
use crate::view::View;

/// y = x * (1 / sqrt(mean(x²) + eps)) along the last axis.
pub(crate) fn rms_normalize(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    scale::step::<Rms, 1>(isa, eps, outs, ins)
}

struct Rms;

impl Rescale<1> for Rms {
    #[inline(always)]
    unsafe fn run<V: Wide>(scale: Scale, group: &Group<V::T, 1>) {
        // SAFETY: as the caller promises.
        unsafe {
            let inverses = scale.inverse_rms::<V>(&group.rows[0][..group.count], group.len);
            for (i, inverse) in inverses.into_iter().enumerate().take(group.count) {
                let inverse = V::splat(inverse);
                wide::each::<V, 1>(group.target(i), group.row(i), group.len, |_, [x]| x.mul(inverse));
            }
        }
    }
}

/// dx = r * (ct - y * mean(ct * y)) with y and r = 1 / sqrt(mean(x²) + eps) as [`rms_normalize`] has them; mean(ct * y)
/// is computed as mean(ct * x) * r.
pub(crate) fn rms_normalize_grad(isa: Isa, eps: f64, outs: &[View], ins: &[View]) -> Result<Box<dyn Step>, String> {
    scale::step::<RmsGrad, 2>(isa, eps, outs, ins)
}

struct RmsGrad;

impl Rescale<2> for RmsGrad {
    #[inline(always)]
    unsafe fn run<V: Wide>(scale: Scale, group: &Group<V::T, 2>) {
        let (count, len, zero) = (group.count, group.len, V::T::ZERO);
        // SAFETY: as the caller promises.
        unsafe {
            let inverses = scale.inverse_rms::<V>(&group.rows[0][..count], len);
            let mut products = [zero; GROUP];
            for (i, product) in products.iter_mut().enumerate().take(count) {
                // The padding adds 0 to a lane.
                *product = wide::sum_of::<V, 2>(group.row(i), [zero; 2], len, |lane, [x, ct]| ct.fma(x, lane));
            }
            let means = scale.means::<V>(&products).mul(V::load(inverses.as_ptr())).lanes();
            for i in 0..count {
                let (inverse, mean) = (V::splat(inverses[i]), V::splat(means[i]));
                wide::each::<V, 2>(group.target(i), group.row(i), len, |_, [x, ct]| {
                    x.mul(inverse).neg().fma(mean, ct).mul(inverse)
                });
            }
        }
    }
}
