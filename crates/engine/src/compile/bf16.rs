//! Matrix products of numbers rounded to bfloat16, added in f32: what CPUs with such instructions compute.

use std::sync::Arc;

use super::simplify::rebuild;
use super::{PASSES, Pass};
use crate::ir::graph::{Node, NodeId, Source};
use crate::ir::types::DType;
use crate::ops::matmul_bf16::MatmulBf16;

/// Every f32 matrix product becomes one of operands rounded to bfloat16. Sums, and everything else, keep their
/// precision.
///
/// It goes behind [`PASSES`], which know products by their name, on a graph that has its gradients already: they are those
/// of the function as it stands, and are computed in this precision. What was folded into a constant is f32.
pub const PRODUCTS: Pass = Pass {
    name: "products in bfloat16",
    run: |g| {
        rebuild(g, |out, node| {
            let Source::Apply(op, inputs) = &node.source else { return None };
            if op.name() != "matmul" || node.ty.dtype != DType::F32 {
                return None;
            }
            out.nodes.push(Node { source: Source::Apply(Arc::new(MatmulBf16), inputs.clone()), ..node.clone() });
            Some(NodeId(out.nodes.len() as u32 - 1))
        })
    },
};

/// What the numbers of such programs are called behind [`NUMERICS_VERSION`](crate::NUMERICS_VERSION).
pub const NUMERICS: &str = "bf16";

/// [`PASSES`], then [`PRODUCTS`].
pub fn passes() -> Vec<Pass> {
    PASSES.iter().copied().chain([PRODUCTS]).collect()
}
