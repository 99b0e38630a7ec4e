//! Matrix products of numbers rounded to bfloat16, added in f32: what CPUs with such instructions compute.

use std::sync::Arc;

use super::Pass;
use super::simplify::rebuild;
use crate::ir::graph::{Inner, Node, NodeId, Source};
use crate::ir::types::DType;
use crate::ops::round::RoundBf16;

/// Rounds both operands of every f32 matrix product to bfloat16. Sums, and everything else, keep their precision.
///
/// It goes before [`PASSES`](super::PASSES), on a graph that has its gradients already: they are those of the function
/// as it stands, and are computed in this precision.
pub const ROUND_PRODUCTS: Pass = Pass { name: "products in bfloat16", run: round_products };

fn round_products(g: &Inner) -> Inner {
    rebuild(g, |out, node| {
        let Source::Apply(op, inputs) = &node.source else { return None };
        if op.name() != "matmul" || node.ty.dtype != DType::F32 {
            return None;
        }
        let rounded = inputs.iter().map(|x| {
            let (source, ty) = (Source::Apply(Arc::new(RoundBf16), vec![*x]), out.nodes[x.index()].ty);
            push(out, Node { source, ty, name: None, origin: node.origin })
        });
        let inputs = rounded.collect();
        Some(push(out, Node { source: Source::Apply(op.clone(), inputs), ..node.clone() }))
    })
}

fn push(out: &mut Inner, node: Node) -> NodeId {
    out.nodes.push(node);
    NodeId(out.nodes.len() as u32 - 1)
}
