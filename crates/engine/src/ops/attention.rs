//! Causal multi-head self-attention: every token looks at itself and the tokens before it.

use geartrain_kernels::Routine;

use crate::autodiff::vjp_of_definition;
use crate::ir::error::Rule;
use crate::ir::graph::Var;
use crate::ir::op::{Array, Attr, Attrs, Case, Cotangent, Domain, Explain, Expr, Kernel, Kind, Op, Vjp};
use crate::ir::types::{Data, Shape, Tensor, Type};
use crate::ops::pointwise::tiny;
use crate::ops::softmax::{softmax, softmax_bound};

/// y (B, T, C) = softmax(q kᵀ / √d, causal) v of each head, from qkv (B, T, 3C): columns of queries, keys and values;
/// head h owns columns h·d to (h + 1)·d of each, d = C / heads.
///
/// Source: Vaswani et al., "Attention is all you need", 2017.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Number of heads; divides C.
    pub heads: usize,
}
/// The cotangent of qkv (B, T, 3C) for [`Attention`], from qkv and the cotangent of y (B, T, C).
#[derive(Clone, Copy, Debug)]
pub struct AttentionGrad {
    /// That of [`Attention`].
    pub heads: usize,
}

const ANY: Domain = Domain::Between(-1.5, 1.5);

/// B, T, C and d of qkv (B, T, 3C).
fn sizes(heads: usize, qkv: &Type) -> Result<[usize; 4], Rule> {
    let [b, t, columns] = *qkv.shape.dims() else {
        return Err(Rule::new(format!("wants queries, keys and values (B, T, 3C), got {}", qkv.shape)));
    };
    if !qkv.dtype.is_float() {
        return Err(Rule::new(format!("wants floats, got {}", qkv.dtype.name())));
    }
    if heads == 0 || columns == 0 || !columns.is_multiple_of(heads.saturating_mul(3)) {
        let rule = Rule::new(format!("{columns} columns are not queries, keys and values of {heads} heads"));
        return Err(rule.hint("the last axis must be a multiple of 3 times the heads"));
    }
    Ok([b, t, columns / 3, columns / (3 * heads)])
}

/// (T, T) u32: 1 where column <= row.
#[track_caller]
fn causal_mask<'g>(like: Var<'g>, t: usize) -> Var<'g> {
    let values = (0..t * t).map(|i| u32::from(i % t <= i / t)).collect();
    match Tensor::new([t, t], Data::U32(values)) {
        Some(mask) => like.graph().constant(mask),
        None => like,
    }
}

/// q, k and v (B, H, T, d) of qkv, and the probabilities (B, H, T, T). All but the last only change strides.
#[track_caller]
fn parts<'g>(qkv: Var<'g>, heads: usize, [b, t, c, d]: [usize; 4]) -> ([Var<'g>; 3], Var<'g>) {
    let [q, k, v] = [0, 1, 2].map(|i| split(qkv.slice(2, i * c, c), [b, t, heads, d]));
    let scores = q.matmul(k.t()) * scale(d);
    let masked = causal_mask(qkv, t).select(scores, scores.number(f64::NEG_INFINITY));
    ([q, k, v], masked.softmax())
}

/// What scores are multiplied by.
fn scale(d: usize) -> f64 {
    1.0 / libm::sqrt(d as f64)
}

/// (B, T, C) -> (B, H, T, d).
#[track_caller]
fn split<'g>(x: Var<'g>, dims: [usize; 4]) -> Var<'g> {
    x.reshape(dims).transpose(&[0, 2, 1, 3])
}

/// (B, H, T, d) -> (B, T, C).
#[track_caller]
fn merge<'g>(x: Var<'g>, [b, t, c, _]: [usize; 4]) -> Var<'g> {
    x.transpose(&[0, 2, 1, 3]).reshape([b, t, c])
}

/// Shapes of qkv and of y, with the number of heads.
fn shapes() -> Vec<(usize, Shape, Shape)> {
    let shape = |[b, t, heads, d]: [usize; 4]| (heads, [b, t, 3 * heads * d].into(), [b, t, heads * d].into());
    let all = [
        [2, 5, 2, 3],
        [1, 1, 1, 1],
        [1, 17, 3, 1],
        [2, 33, 2, 3],
        [1, 33, 1, 8],
        [1, 64, 1, 32],
        [1, 65, 2, 8],
        [0, 5, 2, 2],
        [2, 0, 1, 3],
    ];
    all.map(shape).to_vec()
}

/// A matrix as rows; in (queries, keys), a row has the keys that its query looks at.
type Rows = Vec<Vec<f64>>;

fn dot<'a>(a: impl IntoIterator<Item = &'a f64>, b: impl IntoIterator<Item = &'a f64>) -> f64 {
    a.into_iter().zip(b).map(|(a, b)| a * b).sum()
}

fn each(x: &Rows, f: impl Fn(usize, usize, f64) -> f64) -> Rows {
    let row = |(i, row): (usize, &Vec<f64>)| row.iter().enumerate().map(|(j, x)| f(i, j, *x)).collect();
    x.iter().enumerate().map(row).collect()
}

fn abs(x: &Rows) -> Rows {
    each(x, |_, _, x| x.abs())
}

fn plus(a: &Rows, b: &Rows) -> Rows {
    each(a, |i, j, a| a + b[i][j])
}

/// a (queries, keys) @ b (keys, d).
fn by_key(a: &Rows, b: &Rows) -> Rows {
    each(b, |i, c, _| dot(&a[i], b.iter().map(|row| &row[c])))
}

/// aᵀ (keys, queries) @ b (queries, d).
fn by_query(a: &Rows, b: &Rows) -> Rows {
    each(b, |j, c, _| (j..b.len()).map(|i| a[i][j] * b[i][c]).sum())
}

/// One head in plain loops.
struct Head {
    q: Rows,
    k: Rows,
    v: Rows,
    /// The cotangent of y.
    ct: Rows,
    scale: f64,
}

/// What the way back computes: the cotangents of probabilities, of a shift of each row, and of scores before scaling.
struct Back {
    d_p: Rows,
    shift: Vec<f64>,
    d_s: Rows,
}

impl Head {
    /// All heads of qkv and of the cotangent (zero where it is missing), text by text.
    fn all(heads: usize, x: &[Array]) -> Vec<Head> {
        let [b, t, columns] = *x[0].shape.dims() else { return Vec::new() };
        let (c, d) = (columns / 3, columns / (3 * heads));
        let row = |x: &Array, width: usize, from: usize| x.values[from..from + d.min(width)].to_vec();
        let head = |item: usize| {
            let (text, head) = (item / heads * t, item % heads * d);
            let part = |i: usize| (0..t).map(|t| row(&x[0], 3 * c, (text + t) * 3 * c + i * c + head)).collect();
            let ct = |t: usize| x.get(1).map_or_else(|| vec![0.0; d], |ct| row(ct, c, (text + t) * c + head));
            Head { q: part(0), k: part(1), v: part(2), ct: (0..t).map(ct).collect(), scale: scale(d) }
        };
        (0..b * heads).map(head).collect()
    }

    /// Scaled products of queries and keys, of `f` of the numbers.
    fn scores(&self, f: impl Fn(&Rows) -> Rows) -> Rows {
        let (q, k) = (f(&self.q), f(&self.k));
        q.iter().enumerate().map(|(i, q)| k[..=i].iter().map(|k| dot(q, k) * self.scale).collect()).collect()
    }

    fn probs(&self) -> Rows {
        self.scores(Rows::clone).into_iter().map(|row| softmax(&array(row))).collect()
    }

    fn back(&self, probs: &Rows) -> Back {
        let d_p = each(probs, |i, j, _| dot(&self.ct[i], &self.v[j]));
        let shift: Vec<f64> = probs.iter().zip(&d_p).map(|(p, d_p)| dot(p, d_p)).collect();
        let d_s = each(probs, |i, j, p| p * (d_p[i][j] - shift[i]) * self.scale);
        Back { d_p, shift, d_s }
    }

    /// How far each probability may be off: the errors of its row's scores are those of the exponents, and the sum takes
    /// them in proportion.
    fn probs_off(&self, probs: &Rows, eps: f64) -> Rows {
        let terms = self.q.first().map_or(0, Vec::len) as f64;
        let exponents = each(&self.scores(abs), |_, _, size| (terms + 3.0) * size * eps);
        let shared: Vec<f64> = probs.iter().zip(&exponents).map(|(p, e)| dot(p, e)).collect();
        let rows = self.scores(Rows::clone).into_iter().zip(probs);
        let own: Rows = rows.map(|(scores, p)| softmax_bound(&array(scores), p, eps)).collect();
        each(probs, |i, j, p| own[i][j] + p * (exponents[i][j] + shared[i]))
    }

    /// How far y may be off.
    fn y_off(&self, eps: f64) -> Rows {
        let (probs, v, n) = (self.probs(), abs(&self.v), self.q.len() as f64);
        let moved = by_key(&self.probs_off(&probs, eps), &v);
        let summed = each(&by_key(&probs, &v), |_, _, size| (n + 1.0) * size * eps + n * tiny(eps));
        plus(&moved, &summed)
    }

    /// How far the cotangents of q, k and v may be off.
    fn grad_off(&self, eps: f64) -> [Rows; 3] {
        let probs = self.probs();
        let (off, Back { d_p, shift, d_s }) = (self.probs_off(&probs, eps), self.back(&probs));
        let (n, terms) = (self.q.len() as f64, self.q.first().map_or(0, Vec::len) as f64);
        let (ct, v) = (abs(&self.ct), abs(&self.v));
        let d_p_off = each(&probs, |i, j, _| (terms + 1.0) * dot(&ct[i], &v[j]) * eps);
        let shift_off = |i: usize| {
            let sizes = dot(&probs[i], &abs(&d_p)[i]);
            dot(&off[i], &abs(&d_p)[i]) + dot(&probs[i], &d_p_off[i]) + (n + 2.0) * sizes * eps
        };
        let shift_off: Vec<f64> = (0..probs.len()).map(shift_off).collect();
        let d_s_off = each(&probs, |i, j, p| {
            let difference = (d_p[i][j] - shift[i]).abs();
            let moved = off[i][j] * difference + p * (d_p_off[i][j] + shift_off[i]);
            self.scale * (moved + 5.0 * eps * p * difference) + tiny(eps)
        });
        let sum = |sizes: Rows| each(&sizes, |_, _, size| (n + 2.0) * size * eps + n * tiny(eps));
        let (q, k, d_s) = (abs(&self.q), abs(&self.k), abs(&d_s));
        [
            plus(&by_key(&d_s_off, &k), &sum(by_key(&d_s, &k))),
            plus(&by_query(&d_s_off, &q), &sum(by_query(&d_s, &q))),
            plus(&by_query(&off, &ct), &sum(by_query(&probs, &ct))),
        ]
    }
}

fn array(values: Vec<f64>) -> Array {
    Array { shape: [values.len()].into(), values }
}

/// Puts the heads of each token back side by side, part by part.
fn joined<const N: usize>(heads: usize, t: usize, items: Vec<[Rows; N]>) -> Vec<f64> {
    let token = |text: &[[Rows; N]], t: usize| -> Vec<f64> {
        (0..N).flat_map(|part| text.iter().flat_map(move |head| head[part][t].clone())).collect()
    };
    items.chunks(heads).flat_map(|text| (0..t).flat_map(move |t| token(text, t))).collect()
}

impl Attention {
    pub(crate) const EXAMPLE: Attention = Attention { heads: 2 };
}

/// Multiply-adds of one product of all causal pairs, B · T² / 2 · C: two products forward, five backward.
fn pairs(x: &[Type]) -> u64 {
    match x.first().map(|x| x.shape) {
        Some(shape) if shape.rank() == 3 => (shape.count() as u64 / 3).saturating_mul(shape.dims()[1] as u64) / 2,
        _ => 0,
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("heads", Attr::Int(self.heads as u64))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [qkv] = x else { return Err(Rule::new(format!("wants 1 input, got {}", x.len()))) };
        let [b, t, c, _] = sizes(self.heads, qkv)?;
        Ok(Type::new(qkv.dtype, [b, t, c]))
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Attention { heads: self.heads })
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        Some(x[0].attention_composed(self.heads, |probs| probs))
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vec![r.flows(0, || r.y.graph().apply(AttentionGrad { heads: self.heads }, &[r.x[0], r.ct]))]
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let items = Head::all(self.heads, x).into_iter().map(|h| [by_key(&h.probs(), &h.v)]);
        joined(self.heads, y.dims()[1], items.collect())
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        let items = Head::all(self.heads, x).into_iter().map(|h| [h.y_off(eps)]);
        joined(self.heads, y.shape.dims()[1], items.collect())
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Lets every token take a weighted mean of the values of itself and the tokens before it, in several \
                   heads at once. A weight is large where the token's query points along the other's key. Computed a \
                   few tokens at a time: the weights of all pairs are never in memory.",
            formula: "y = p v of each head, p = softmax(q kᵀ / √d) over the keys up to the query",
            derivative: "with d_p = d_y vᵀ and d_s = p · (d_p - Σ p · d_p) / √d: d_q = d_s k, d_k = d_sᵀ q, d_v = pᵀ d_y",
            kinks: "",
            cost: "2 · T² · C FLOPs a text of T tokens; the derivative 5 · T² · C, as it computes p again",
        }
    }
    fn flops(&self, x: &[Type]) -> Option<u64> {
        Some(pairs(x).saturating_mul(4))
    }
    fn cases(&self) -> Vec<Case> {
        shapes().into_iter().map(|(heads, qkv, _)| Case::new(Attention { heads }, vec![(qkv, ANY)])).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("attention", &[x[0].clone(), Expr::atom(format!("heads={}", self.heads))])
    }
}

impl AttentionGrad {
    pub(crate) const EXAMPLE: AttentionGrad = AttentionGrad { heads: 2 };
}

impl Op for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention_grad"
    }
    fn kind(&self) -> Kind {
        Kind::Opaque
    }
    fn attrs(&self) -> Attrs {
        vec![("heads", Attr::Int(self.heads as u64))]
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        let [qkv, ct] = x else { return Err(Rule::new(format!("wants 2 inputs, got {}", x.len()))) };
        let [b, t, c, _] = sizes(self.heads, qkv)?;
        let wanted = Type::new(qkv.dtype, [b, t, c]);
        if *ct != wanted {
            return Err(Rule::new(format!("wants a cotangent {wanted}, got {ct}")));
        }
        Ok(*qkv)
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::AttentionGrad { heads: self.heads })
    }
    fn expand<'g>(&self, x: &[Var<'g>]) -> Option<Var<'g>> {
        let (qkv, sizes) = (x[0], sizes(self.heads, &x[0].ty()).ok()?);
        // Without elements there is nothing to slice from.
        if qkv.shape().count() == 0 {
            return Some(qkv);
        }
        let [b, t, _, d] = sizes;
        let ([q, k, v], p) = parts(qkv, self.heads, sizes);
        let ct = split(x[1], [b, t, self.heads, d]);
        let d_p = ct.matmul(v.t());
        // Keys that are not looked at have p = 0, and with it d_s = 0.
        let d_s = p * (d_p - (p * d_p).sum(3)) * scale(d);
        let cts = [d_s.matmul(k), d_s.t().matmul(q), p.t().matmul(ct)];
        Some(qkv.graph().concat(2, &cts.map(|ct| merge(ct, sizes))))
    }
    fn vjp<'g>(&self, r: &Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        vjp_of_definition(self, r)
    }
    fn reference(&self, x: &[Array], y: Shape) -> Vec<f64> {
        let grad = |h: Head| {
            let probs = h.probs();
            let d_s = h.back(&probs).d_s;
            [by_key(&d_s, &h.k), by_query(&d_s, &h.q), by_query(&probs, &h.ct)]
        };
        joined(self.heads, y.dims()[1], Head::all(self.heads, x).into_iter().map(grad).collect())
    }
    fn bound(&self, x: &[Array], y: &Array, eps: f64) -> Vec<f64> {
        let items = Head::all(self.heads, x).into_iter().map(|h| h.grad_off(eps));
        joined(self.heads, y.shape.dims()[1], items.collect())
    }
    fn explain(&self) -> Explain {
        Explain {
            what: "Carries a cotangent back through causal attention to its queries, keys and values. The weights are \
                   computed again, a few tokens at a time.",
            formula: "with p = softmax(q kᵀ / √d) over the keys up to the query, d_p = ct vᵀ and \
                      d_s = p · (d_p - Σ p · d_p) / √d: y = (d_s k, d_sᵀ q, pᵀ ct) of each head",
            derivative: "the derivative of this formula",
            kinks: "",
            cost: "5 · T² · C FLOPs a text of T tokens",
        }
    }
    fn flops(&self, x: &[Type]) -> Option<u64> {
        Some(pairs(x).saturating_mul(10))
    }
    fn cases(&self) -> Vec<Case> {
        let case = |(heads, qkv, y)| Case::new(AttentionGrad { heads }, vec![(qkv, ANY), (y, ANY)]);
        shapes().into_iter().map(case).collect()
    }
    fn print(&self, x: &[Expr], _: &[Type]) -> Expr {
        Expr::call("attention_grad", &[x[0].clone(), x[1].clone(), Expr::atom(format!("heads={}", self.heads))])
    }
}

impl<'g> Var<'g> {
    /// Causal self-attention (B, T, C) of these queries, keys and values (B, T, 3C): see [`Attention`].
    #[track_caller]
    pub fn attention(self, heads: usize) -> Var<'g> {
        self.graph().apply(Attention { heads }, &[self])
    }

    /// The definition of [`Var::attention`] in other operations, with `weights` applied to the probabilities (B, H, T, T)
    /// before they weigh the values: dropout, for example.
    #[track_caller]
    pub fn attention_composed(self, heads: usize, weights: impl FnOnce(Var<'g>) -> Var<'g>) -> Var<'g> {
        if self.is_poison() {
            return self;
        }
        match sizes(heads, &self.ty()) {
            // Without elements there is nothing to slice from but the start.
            Ok([_, _, c, _]) if self.shape().count() == 0 => self.slice(2, 0, c),
            Ok(sizes) => {
                let ([_, _, v], probs) = parts(self, heads, sizes);
                merge(weights(probs).matmul(v), sizes)
            }
            Err(rule) => self.graph().fail("attention", rule, vec![self.ty()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::Draw;
    use crate::ops::tests::{error, gradient, text};
    use crate::{DType, Graph, Init, Options, Program, State};

    #[test]
    fn they_print_as_calls() {
        let g = Graph::new();
        let qkv = g.parameter("qkv", DType::F32, [2, 5, 12], Init::ZEROS);
        let y = qkv.attention(2).named("y");
        assert_eq!((text(y), y.shape()), ("attention(qkv, heads=2)".to_string(), [2, 5, 4].into()));
        assert_eq!(text(gradient(y, qkv)), "attention_grad(qkv, d_y, heads=2)");
    }

    /// The bits of y, and of the cotangent's columns of queries, for attention as `build` writes it.
    fn bits(t: usize, build: impl for<'g> Fn(Var<'g>) -> Var<'g>) -> (Vec<u32>, Vec<u32>) {
        let g = Graph::new();
        let values: Vec<f64> = Draw::new(4, "qkv").direction(2 * t * 30).iter().map(|x| x * 3.0).collect();
        let values = Tensor::from_f64(DType::F32, [2, t, 30], &values).unwrap();
        let qkv = g.parameter("qkv", DType::F32, [2, t, 30], Init::Values(values.into()));
        let y = build(qkv);
        let weights = Draw::new(4, "weights").direction(y.shape().count());
        let loss = (y * y.constant_like(y.shape(), &weights)).sum_all();
        let d_qkv = g.grad(loss, &[qkv]).unwrap()[0];
        g.output("y", y);
        g.output("d_q", d_qkv.slice(2, 0, 10));
        let mut state = State::new(&g, 0).unwrap();
        let mut program = Program::compile(&g, &state, Options::default()).unwrap();
        program.run(&mut state, &program.batch()).unwrap();
        let bits = |name: &str| match program.tensor(name).unwrap().data() {
            Data::F32(x) => x.iter().map(|x| x.to_bits()).collect(),
            _ => Vec::new(),
        };
        (bits("y"), bits("d_q"))
    }

    #[test]
    fn fused_and_composed_agree_to_the_bit_but_for_sums_over_queries() {
        for t in [1, 7, 33, 64, 100, 300] {
            let fused = bits(t, |qkv| qkv.attention(2));
            let composed = bits(t, |qkv| qkv.attention_composed(2, |probs| probs));
            assert!(fused.0.len() == 2 * t * 10 && fused.1.len() == 2 * t * 10);
            assert!(fused == composed, "T = {t}");
        }
    }

    #[test]
    fn the_referees_agree_with_each_other() {
        let draw = |name, shape: Shape| Draw::new(6, name).array(shape);
        let (x, ct) = (draw("x", [2, 4, 12].into()), draw("ct", [2, 4, 4].into()));
        let grad = AttentionGrad::EXAMPLE.reference(&[x.clone(), ct.clone()], x.shape);
        let loss = |x: Array| dot(&Attention::EXAMPLE.reference(&[x], ct.shape), &ct.values);
        for (i, g) in grad.iter().enumerate() {
            let (mut up, mut down) = (x.clone(), x.clone());
            up.values[i] += 1e-5;
            down.values[i] -= 1e-5;
            assert!(((loss(up) - loss(down)) / 2e-5 - g).abs() < 1e-9);
        }
    }

    #[test]
    fn what_is_refused() {
        let g = Graph::new();
        let x = g.parameter("x", DType::F32, [2, 5, 12], Init::ZEROS);
        assert!(x.attention(3).is_poison());
        assert_eq!(error(&g), "12 columns are not queries, keys and values of 3 heads");
        assert!(x.attention(0).is_poison() && x.reshape([10, 12]).attention(2).is_poison());
        assert!(x.attention_composed(3, |probs| probs).is_poison());
        assert!(g.input("i", DType::U32, [2, 5, 12]).attention(2).is_poison());
        assert_eq!(g.check().unwrap_err().errors().len(), 5);
        assert!(AttentionGrad::EXAMPLE.infer(&[x.ty(), x.ty()]).is_err());
    }
}
