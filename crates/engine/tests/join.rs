//! The pass that joins sums over time, and concatenations whose parts are computed in their places: how many calls they
//! leave, that every value is what the interpreter says, and that threads and instruction sets change no bit.

use geartrain_engine::check::agree::different_bits;
use geartrain_engine::check::sample::Draw;
use geartrain_engine::check::step::check_step;
use geartrain_engine::check::{Check, Feed, compiled::Compiled, definition::distance};
use geartrain_engine::compile::{PASSES, Pass, trace};
use geartrain_engine::ir::graph::Source;
use geartrain_engine::ops::pad::Pad;
use geartrain_engine::{Array, DType, Graph, Init, Isa, Options, Program, Shape, State, Var};

const PLAIN: Options = Options { threads: 1, isa: Isa::Portable };

/// All passes but the one under test.
fn passes_without_joins() -> Vec<Pass> {
    let kept = PASSES.iter().filter(|pass| pass.name != "sums over time");
    let kept: Vec<Pass> = kept.map(|pass| Pass { name: pass.name, run: pass.run }).collect();
    assert_eq!(kept.len() + 1, PASSES.len(), "the pass has another name now");
    kept
}

fn parameter<'g>(g: &'g Graph, name: &str, shape: [usize; 2]) -> Var<'g> {
    g.parameter(name, DType::F64, shape, Init::Uniform { bound: 1.0 })
}

fn input<'g>(g: &'g Graph, name: &str, shape: [usize; 2]) -> Var<'g> {
    g.input(name, DType::F64, shape)
}

fn pad(x: Var<'_>, axis: usize, before: usize, len: usize) -> Var<'_> {
    x.graph().apply(Pad { axis, before, len }, &[x])
}

/// Numbers in [-1, 1) for all inputs and entries.
fn feed(g: &Graph, seed: u64) -> Feed {
    let (mut feed, mut draw) = (Feed::of_state(&State::new(g, seed).unwrap()), Draw::new(seed, "feed"));
    g.with(|g| g.inputs.iter().for_each(|input| feed.set(&input.name, draw.array(input.ty.shape))));
    feed
}

/// How many calls of the program, or operations of the graph after `passes`, have a name.
fn calls(g: &Graph, passes: &[Pass], name: &str) -> usize {
    let state = State::new(g, 0).unwrap();
    let program = Program::compile_with(g, &state, PLAIN, passes).unwrap();
    program.calls().iter().filter(|call| call.what.split(' ').any(|what| what == name)).count()
}

fn operations(g: &Graph, passes: &[Pass], name: &str) -> usize {
    let stages = trace(g, passes).unwrap();
    let nodes = &stages.last().unwrap().1.nodes;
    nodes.iter().filter(|node| matches!(&node.source, Source::Apply(op, _) if op.name() == name)).count()
}

/// Two steps in a row with every number of threads are what the interpreter says.
#[track_caller]
fn is_right(g: &Graph) {
    let feeds = [feed(g, 1), feed(g, 2)];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        for threads in [1, 2, 3, 7] {
            if let Err(failure) = check_step(g, &feeds, Options { threads, isa }) {
                panic!("{failure} ({isa:?}, {threads} threads)");
            }
        }
    }
}

const STEPS: usize = 7;

/// h = tanh(h wh + x wx + b), unrolled; the outputs are a loss and all gradients. `b` rows, inputs of width `x`.
fn recurrence(g: &Graph, dtype: DType, [b, x, h]: [usize; 3]) {
    let entry = |name: &str, shape: Shape| g.parameter(name, dtype, shape, Init::Uniform { bound: 0.5 });
    let wx = entry("wx", [x, h].into());
    let (wh, bias) = (entry("wh", [h, h].into()), entry("bias", [h].into()));
    let tokens = g.input("x", dtype, [STEPS * b, x]);
    let mut states = vec![entry("first", [b, h].into())];
    for t in 0..STEPS {
        let given = tokens.slice(0, t * b, b).matmul(wx);
        states.push((given + states[t].matmul(wh) + bias.broadcast_to([b, h])).tanh());
    }
    let all = g.concat(0, &states[1..]);
    let loss = (all * all).sum_all();
    let gradients = g.grad(loss, &[wx, wh, bias, states[0]]).unwrap();
    g.output("loss", loss);
    g.output("states", all);
    for (name, gradient) in ["d_wx", "d_wh", "d_bias", "d_first"].iter().zip(gradients) {
        g.output(name, gradient);
    }
}

#[test]
fn weights_that_serve_many_steps_have_one_product_for_their_gradient() {
    let g = Graph::new();
    recurrence(&g, DType::F64, [3, 4, 5]);
    let without = passes_without_joins();
    // Forward two a step, backward one a step and (but for the first state, which has a gradient too) none of the inputs.
    assert_eq!(calls(&g, &without, "matmul"), 2 * STEPS + STEPS + 2 * STEPS);
    assert_eq!(calls(&g, PASSES, "matmul"), 2 * STEPS + STEPS + 2);
    assert_eq!(calls(&g, &without, "sum"), STEPS + 1, "columns for each step, and the loss");
    assert_eq!(calls(&g, PASSES, "sum"), 1 + 1);

    let feed = feed(&g, 3);
    let run = |passes: &[Pass]| {
        let mut program = Compiled::with_passes(&g, PLAIN, passes, Check::Step, "recurrence").unwrap();
        program.run(&feed).unwrap();
        program
    };
    let (joined, plain) = (run(PASSES), run(&without));
    for name in ["loss", "states", "d_wx", "d_wh", "d_bias", "d_first"] {
        let values = |p: &Compiled| p.output(name).map(|t| Array { shape: t.shape(), values: t.to_f64() }).unwrap();
        let (a, b) = (values(&joined), values(&plain));
        assert!(a.values.iter().any(|v| v.abs() > 1e-3), "{name} says nothing");
        assert!(distance(&a, &b) <= 1e-12, "{name}: {a:?} and {b:?}");
    }
    is_right(&g);
}

#[test]
fn products_of_other_heights_and_orders_are_joined() {
    let g = Graph::new();
    let part = |i: usize, rows: usize| {
        (input(&g, &format!("a{i}"), [rows, 3]).tanh(), input(&g, &format!("b{i}"), [rows, 2]).tanh())
    };
    let pairs = [part(0, 2), part(1, 5), part(2, 1)];
    let product = |i: usize| pairs[i].0.t().matmul(pairs[i].1);
    // One sum in this order, one in another, with a term of another kind and one that is there twice.
    let other = input(&g, "other", [3, 2]);
    g.output("one", product(2) + (other + product(0)) + product(1));
    g.output("two", (product(1) + product(2)) + product(1));
    g.output("three", (product(0) + product(0)) + product(2).tanh());
    is_right(&g);
    assert!(operations(&g, PASSES, "concat") >= 4, "nothing was joined");
}

#[test]
fn a_transpose_that_moves_nothing_is_no_transpose() {
    let g = Graph::new();
    let part = |i: usize| (input(&g, &format!("a{i}"), [3, 3]).tanh(), input(&g, &format!("b{i}"), [3, 2]).tanh());
    let (one, two) = (part(0), part(1));
    g.output("same", one.0.transpose(&[0, 1]).matmul(one.1) + two.0.transpose(&[0, 1]).matmul(two.1));
    g.output("mixed", one.0.t().matmul(one.1) + two.0.transpose(&[0, 1]).matmul(two.1));
    is_right(&g);
}

#[test]
fn batched_products_stay_sums() {
    let g = Graph::new();
    let array = |name: &str, shape: [usize; 3]| g.input(name, DType::F64, shape).tanh();
    let product = |i: usize| array(&format!("a{i}"), [2, 4, 3]).t().matmul(array(&format!("b{i}"), [2, 4, 5]));
    g.output("y", product(0) + product(1) + product(2));
    is_right(&g);
    assert_eq!(calls(&g, PASSES, "matmul"), 3);
}

#[test]
fn sums_of_columns_are_joined_whatever_their_shape() {
    let g = Graph::new();
    let columns = |i: usize, rows: usize| input(&g, &format!("x{i}"), [rows, 6]).tanh().sum(0);
    g.output("flat", columns(0, 3).reshape([6]) + columns(1, 1).reshape([6]) + columns(2, 65).reshape([6]));
    g.output("square", columns(0, 3).reshape([2, 3]) + columns(3, 7).reshape([2, 3]));
    g.output("row", columns(4, 2) + columns(5, 3));
    let rows = |i: usize| input(&g, &format!("x{i}"), [3, 6]).tanh().sum(1).reshape([3]);
    g.output("rows", rows(0) + rows(6));
    let cube = |i: usize| g.input(&format!("cube{i}"), DType::F64, [4, 2, 3]).tanh().sum(0).reshape([6]);
    g.output("cubes", cube(0) + cube(1));
    is_right(&g);
}

#[test]
fn computed_parts_are_not_copied() {
    let g = Graph::new();
    let (x, w) = (input(&g, "x", [3, 4]), parameter(&g, "w", [4, 4]));
    let all = g.concat(0, &[x.tanh(), x.matmul(w), x.sum(0), (x * 2.0).t().reshape([3, 4]), x.softmax()]);
    g.output("all", all);
    g.output("after", all.matmul(w));
    is_right(&g);
    assert_eq!(calls(&g, PASSES, "concat"), 0);
    // Behind leading axes of length 1 the parts are whole too.
    let g = Graph::new();
    let x = input(&g, "x", [1, 4]);
    g.output("row", g.concat(1, &[x.tanh(), x.exp(), (x * x).slice(1, 0, 4)]));
    is_right(&g);
    assert_eq!(calls(&g, PASSES, "concat"), 1, "the view alone");
    // Terms of a sum are taken in the order in which their operands stand already.
    let g = Graph::new();
    let x = input(&g, "x", [3, 4]);
    let parts = [1.0, 2.0, 3.0].map(|factor| (factor * x).tanh());
    let products = parts.map(|part| part.t().matmul(part.exp()));
    g.output("all", g.concat(0, &parts));
    g.output("sum", products[2] + products[0] + products[1]);
    is_right(&g);
    assert_eq!((calls(&g, PASSES, "concat"), calls(&g, PASSES, "matmul")), (0, 1));
}

#[test]
fn only_parts_that_are_not_computed_are_copied() {
    let g = Graph::new();
    let (x, w) = (input(&g, "x", [3, 4]), parameter(&g, "w", [2, 4]));
    let one = g.number(DType::F64, 1.0).broadcast_to([2, 4]);
    let y = x.tanh();
    let all = g.concat(0, &[x, y, w, one, y, y.slice(0, 1, 2), x.exp()]);
    g.output("all", all);
    g.output("after", all * 2.0);
    is_right(&g);
    // Input, entry, constant, the part that is repeated, and a view on a part.
    assert_eq!(calls(&g, PASSES, "concat"), 5);
}

#[test]
fn parts_in_columns_are_put_together_by_one_call() {
    let g = Graph::new();
    let x = input(&g, "x", [5, 3]);
    g.output("all", g.concat(1, &[x.tanh(), x, x.exp().slice(1, 1, 2)]));
    g.output("cube", g.concat(1, &[x.tanh().reshape([5, 3, 1]), x.reshape([5, 3, 1])]));
    is_right(&g);
    assert_eq!(calls(&g, PASSES, "concat"), 2);
}

#[test]
fn pads_that_fill_an_axis_in_any_order_are_a_concatenation() {
    let g = Graph::new();
    let x = input(&g, "x", [2, 3]);
    g.output("rows", pad(x.exp(), 0, 4, 6) + pad(x.tanh(), 0, 0, 6) + pad(x * 2.0, 0, 2, 6));
    g.output("columns", pad(x.tanh(), 1, 3, 8) + (pad(x.slice(1, 0, 2), 1, 6, 8) + pad(x.exp(), 1, 0, 8)));
    is_right(&g);
    assert_eq!((operations(&g, PASSES, "pad"), operations(&g, PASSES, "add")), (0, 0));
    assert_eq!(operations(&g, PASSES, "concat"), 2);
}

#[test]
fn pads_that_leave_a_gap_or_overlap_stay_sums() {
    let g = Graph::new();
    let x = input(&g, "x", [2, 3]);
    let (a, b, c) = (x.tanh(), x.exp(), x * 2.0);
    g.output("gap in the middle", pad(a, 0, 0, 6) + pad(b, 0, 4, 6));
    g.output("gap in front", pad(a, 0, 1, 5) + pad(b, 0, 3, 5));
    g.output("gap at the end", pad(a, 0, 0, 5) + pad(b, 0, 2, 5));
    g.output("overlap", pad(a, 0, 0, 5) + pad(b, 0, 1, 5) + pad(c, 0, 3, 5));
    g.output("same place", pad(a, 1, 1, 7) + pad(b, 1, 1, 7) + pad(c, 1, 4, 7));
    g.output("other axes", pad(pad(a, 0, 0, 4), 1, 0, 6) + pad(pad(b, 1, 3, 6), 0, 2, 4));
    g.output("with another", pad(c, 0, 0, 4) + input(&g, "z", [4, 3]) + pad(b, 0, 2, 4));
    is_right(&g);
    let without = operations(&g, &passes_without_joins(), "pad");
    assert_eq!(operations(&g, PASSES, "pad"), without - 2, "only the last fills its axis");
}

#[test]
fn a_slice_inside_a_padded_value_is_a_slice_of_the_value() {
    let g = Graph::new();
    let x = input(&g, "x", [4, 3]).tanh();
    let padded = pad(x, 0, 2, 9);
    g.output("inside", padded.slice(0, 3, 2));
    g.output("all", padded.slice(0, 2, 4));
    is_right(&g);
    assert_eq!(operations(&g, PASSES, "pad"), 0);
    g.output("before", padded.slice(0, 1, 3));
    g.output("after", padded.slice(0, 4, 4));
    g.output("zeros", padded.slice(0, 7, 2));
    g.output("across", padded.slice(1, 1, 2));
    is_right(&g);
    assert_eq!(operations(&g, PASSES, "pad"), 1);
}

#[test]
fn a_value_in_two_concatenations_and_one_in_another() {
    let g = Graph::new();
    let x = input(&g, "x", [2, 3]);
    let (a, b, c) = (x.tanh(), x.exp(), x * 3.0);
    let (one, two) = (g.concat(0, &[a, b]), g.concat(0, &[c, b, a]));
    let nested = g.concat(0, &[one, c, two, one]);
    g.output("one", one);
    g.output("two", two * two);
    g.output("nested", nested);
    g.output("sum", one.sum(0) + nested.slice(0, 3, 4).sum(0));
    is_right(&g);
    // Of `two`: b and a, which stand in `one`, are copied, and of `nested` everything.
    assert_eq!(calls(&g, PASSES, "concat"), 2 + 4);
}

#[test]
fn parts_are_outputs_and_are_read_again() {
    let g = Graph::new();
    let (x, w) = (input(&g, "x", [3, 4]), parameter(&g, "w", [4, 4]));
    let (a, b) = (x.tanh(), x.matmul(w));
    let all = g.concat(0, &[a, b]);
    g.output("a", a);
    g.output("rows of b", b.slice(0, 1, 2));
    g.output("all", all.sum(1));
    // Read behind the concatenation, whole and through views, by calls and in chains.
    g.output("later", (all.slice(0, 0, 3) + b * a).matmul(w) - a.t().matmul(b).slice(0, 0, 3));
    g.output("turned", b.t().reshape([3, 4]) + a.exp());
    g.output("scalar", (a * b).sum_all());
    is_right(&g);
    assert_eq!(calls(&g, PASSES, "concat"), 0);
}

#[test]
fn parts_that_are_new_values_of_entries() {
    let g = Graph::new();
    let (v, w) = (parameter(&g, "v", [3, 4]), parameter(&g, "w", [3, 4]));
    let (o, p, q) = (parameter(&g, "o", [2, 4]), parameter(&g, "p", [2, 4]), parameter(&g, "q", [6, 4]));
    let x = input(&g, "x", [3, 4]);
    let (next_v, next_w) = (v - 0.5 * x, (w * x).tanh());
    let all = g.concat(0, &[next_v, next_w, x.exp()]);
    g.output("all", all);
    g.output("before and after", g.concat(0, &[v, next_v, w]));
    g.assign(v, next_v);
    g.assign(w, next_w);
    // A part that only updates need, a view on a part, and a whole concatenation.
    let half = (p * 0.5).tanh();
    g.assign(p, half);
    g.assign(o, g.concat(0, &[half, x]).slice(0, 0, 2));
    g.assign(q, g.concat(0, &[half, v.tanh(), x.slice(0, 0, 1)]));
    g.guard("sum", all.sum_all());
    is_right(&g);
}

/// A gradient that is only the first part of a larger value must not take that value to the gradient's place, where it
/// would reach into the next one's.
#[test]
fn gradients_that_are_parts_of_something_larger() {
    let g = Graph::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| parameter(&g, name, [4, 8]));
    let x = input(&g, "x", [3, 8]);
    // The gradients of a and d are rows of one value, and those of b and c stand between them in the state.
    let y = x.matmul(g.concat(0, &[a, d])).tanh() + x.slice(1, 0, 4).matmul(b) * x.slice(1, 2, 4).matmul(c);
    let loss = (y * y).sum_all();
    let gradients = g.grad(loss, &[a, b, c, d]).unwrap();
    g.output("loss", loss);
    // That of b is also the first part of a concatenation.
    g.output("both", g.concat(0, &[gradients[1], gradients[2]]));
    for (w, gradient) in [a, b, c, d].into_iter().zip(gradients) {
        g.assign(w, w - 0.1 * gradient);
    }
    is_right(&g);
}

#[test]
fn threads_and_instruction_sets_change_no_bit() {
    for dtype in [DType::F32, DType::F64] {
        let g = Graph::new();
        // Large enough that products and the copies of parts in columns are shared among workers.
        recurrence(&g, dtype, [65, 33, 96]);
        let x = g.input("wide", dtype, [300, 80]);
        g.output("columns", g.concat(1, &[x.tanh(), x, x.exp().slice(1, 1, 79)]));
        let feed = feed(&g, 4);
        let run = |options: Options| {
            let mut program = Compiled::new(&g, options, Check::Bits, "recurrence").unwrap();
            program.run(&feed).unwrap();
            program
        };
        let expected = run(PLAIN);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
            for threads in [1, 2, 3, 7] {
                let found = run(Options { threads, isa });
                for (name, _) in g.with(|g| g.outputs.clone()) {
                    let difference = different_bits(&found.output(&name).unwrap(), &expected.output(&name).unwrap());
                    assert_eq!(difference, None, "{name} in {} ({isa:?}, {threads} threads)", dtype.name());
                }
            }
        }
    }
}

/// A small graph of random operations on values with two axes.
struct Random<'g> {
    g: &'g Graph,
    draw: Draw,
    pool: Vec<Var<'g>>,
}

impl<'g> Random<'g> {
    /// A graph that begins with inputs, entries of four columns and a constant.
    fn new(g: &'g Graph, seed: u64) -> Random<'g> {
        let mut draw = Draw::new(seed, "graph");
        let mut pool = vec![g.number(DType::F64, 0.5).broadcast_to([2, 4])];
        for i in 0..3 {
            pool.push(input(g, &format!("x{i}"), [1 + draw.below(5), 1 + draw.below(5)]));
            pool.push(parameter(g, &format!("w{i}"), [1 + draw.below(4), 4]));
        }
        Random { g, draw, pool }
    }

    fn pick(&mut self) -> Var<'g> {
        self.pool[self.draw.below(self.pool.len())]
    }

    /// A value of this shape: one that is there, or a random one that is cut and padded to it; kept small.
    fn shaped(&mut self, shape: [usize; 2]) -> Var<'g> {
        let fits: Vec<Var<'g>> = self.pool.iter().copied().filter(|x| x.shape().dims() == shape).collect();
        if !fits.is_empty() && self.draw.below(4) > 0 {
            let x = fits[self.draw.below(fits.len())];
            return if self.draw.below(2) == 0 { x } else { x.tanh() };
        }
        let mut x = self.pick().tanh();
        for (axis, len) in shape.into_iter().enumerate() {
            let n = x.shape().dims()[axis];
            x = match n > len {
                true => x.slice(axis, self.draw.below(n - len + 1), len),
                false => pad(x, axis, self.draw.below(len - n + 1), len),
            };
        }
        x
    }

    /// a @ b of this shape, with each side maybe read transposed.
    fn product(&mut self, [m, n]: [usize; 2], turned: bool) -> Var<'g> {
        let k = 1 + self.draw.below(5);
        let a = if turned { self.shaped([k, m]).tanh().t() } else { self.shaped([m, k]).tanh() };
        a.matmul(if self.draw.below(3) == 0 { self.shaped([n, k]).tanh().t() } else { self.shaped([k, n]).tanh() })
    }

    /// Terms added up in a random order.
    fn total(&mut self, mut terms: Vec<Var<'g>>) -> Var<'g> {
        while terms.len() > 1 {
            let a = terms.swap_remove(self.draw.below(terms.len()));
            let b = self.draw.below(terms.len());
            terms[b] = a + terms[b];
        }
        terms[0]
    }

    /// Pieces between zeros that fill an axis, or nearly.
    fn pads(&mut self) -> Var<'g> {
        let (axis, other) = (self.draw.below(2), 1 + self.draw.below(4));
        let lens: Vec<usize> = (0..2 + self.draw.below(3)).map(|_| 1 + self.draw.below(3)).collect();
        let shift = self.draw.below(4) / 3;
        let (len, mut before, mut terms) = (lens.iter().sum::<usize>() + shift, 0, Vec::new());
        for n in lens {
            let x = self.shaped(if axis == 0 { [n, other] } else { [other, n] });
            terms.push(pad(x, axis, before + shift * self.draw.below(2), len));
            before += n;
        }
        self.total(terms)
    }

    fn grow(&mut self) {
        let (x, axis, count) = (self.pick(), self.draw.below(2), 2 + self.draw.below(4));
        let (rows, columns, n) = (x.shape().dims()[0], x.shape().dims()[1], x.shape().dims()[axis]);
        let (kind, mut terms) = (self.draw.below(8), Vec::new());
        for _ in 0..count {
            let n = 1 + self.draw.below(3);
            terms.push(match kind {
                0 => self.shaped([rows, columns]),
                1 | 2 => self.product([rows, columns], true),
                3 => self.shaped([n, columns]).tanh().sum(0).reshape([columns]),
                _ => self.shaped(if axis == 0 { [n, columns] } else { [rows, n] }),
            });
        }
        if kind == 1 {
            terms.push(self.product([rows, columns], false));
        }
        let start = self.draw.below(n);
        let y = match kind {
            0..=2 => self.total(terms),
            3 => self.total(terms).broadcast_to([2, columns]),
            4 => self.g.concat(axis, &terms),
            5 => self.pads(),
            6 => x.slice(axis, start, 1 + self.draw.below(n - start)),
            _ => pad(x, axis, start.min(2), n + 2),
        };
        self.pool.push(y);
    }

    /// Outputs, and new values of the entries: by gradients or by values of the graph.
    fn finish(&mut self) {
        (0..4).for_each(|i| self.g.output(&format!("y{i}"), self.pick()));
        let (w, _): (Vec<Var<'g>>, Vec<_>) = self.g.parameters().into_iter().unzip();
        let (last, all) = (self.pool[self.pool.len() - 1].tanh(), self.g.concat(0, &w));
        let loss = (last * last).sum_all() + all.matmul(self.shaped([4, 3]).tanh()).tanh().sum_all();
        self.g.output("loss", loss);
        let gradients = self.g.grad(loss, &w).unwrap();
        for (w, gradient) in w.into_iter().zip(gradients) {
            let other = self.shaped([w.shape().dims()[0], 4]);
            let change = if self.draw.below(3) == 0 { other } else { gradient };
            self.g.assign(w, if self.draw.below(4) == 0 { change } else { w - 0.1 * change });
        }
    }
}

#[test]
fn random_graphs_are_what_the_interpreter_says() {
    let supported: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.supported()).collect();
    let (mut joined, mut worst, without) = (0, 0.0f64, passes_without_joins());
    for seed in 0..200u64 {
        let (g, turn) = (Graph::new(), seed as usize);
        let mut random = Random::new(&g, seed);
        (0..14).for_each(|_| random.grow());
        random.finish();
        let options = Options { threads: [1, 2, 3, 7][turn % 4], isa: supported[turn % supported.len()] };
        match check_step(&g, &[feed(&g, seed), feed(&g, seed + 1000)], options) {
            Ok(difference) => worst = worst.max(difference),
            Err(failure) => panic!("graph {seed}: {failure} ({options:?})"),
        }
        let fewer = |name: &str| operations(&g, PASSES, name) < operations(&g, &without, name);
        joined += usize::from(fewer("matmul") || fewer("pad") || fewer("sum"));
    }
    println!("{joined} of 200 graphs have joined sums; values within {worst:.1e}");
    assert!(joined >= 150, "only {joined} graphs have sums to join");
}
