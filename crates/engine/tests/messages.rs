//! Every message that the engine can tell a user, in `snapshots/messages.txt`: provoked here, read aloud once, and
//! compared ever since. A message in the source that is not among them fails.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use geartrain_engine::check::Feed;
use geartrain_engine::check::interpret::{InterpretError, evaluate};
use geartrain_engine::check::tangent::TangentError;
use geartrain_engine::compile::Pass;
use geartrain_engine::ops::{OPS, along, layout, mask, random, reduce, unary};
use geartrain_engine::{
    Array, Case, Cotangent, CustomFn, DType, Data, Entry, Graph, GraphError, Init, Kernel, Op, Options, Program,
    Routine, Rule, Shape, State, Tensor, Type,
};

mod common;
use common::faulty::{Fault, Faulty};
use common::messages::{Template, is_told, same_as_file, templates, untold};

/// What stands before the literal of a message.
const MARKERS: &[&str] = &[
    "Rule::new(",
    ".hint(",
    "#[error(",
    "Cotangent::Stops(",
    "RunError::Layout(",
    "wrong(",
    "let what = ",
    "let why = ",
    "self.mismatch(i, ",
];

/// Messages that no user can meet, and why.
const UNREACHABLE: &[(&str, &str)] =
    &[("the state has other entries than the program", "a state of another layout is refused before the tape runs")];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Messages by what tells them.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn say(&mut self, by: &str, what: impl ToString) {
        self.0.push(format!("{by}: {}", what.to_string().replace('\n', "\n    ")));
    }

    fn rule(&mut self, by: &str, rule: &Rule) {
        let hint = rule.hint.as_ref().map_or(String::new(), |hint| format!("  [hint: {hint}]"));
        self.say(by, format!("{}{hint}", rule.what));
    }

    /// All errors of a graph, without the places where they were made.
    fn graph(&mut self, error: &GraphError) {
        error.errors().iter().for_each(|e| self.rule(&e.op, &e.rule));
    }

    fn errors_of(&mut self, g: &Graph) {
        self.graph(&g.check().expect_err("the graph has no error"));
    }
}

/// Wrong variants of the inputs of a case.
fn mutations(case: &Case) -> Vec<Vec<Type>> {
    let dtype = |domain: &_| geartrain_engine::check::sample::dtype_of(domain, DType::F32);
    let sound: Vec<Type> = case.inputs.iter().map(|(shape, domain)| Type::new(dtype(domain), *shape)).collect();
    let mut all = vec![vec![], sound.iter().chain(sound.first()).copied().collect()];
    for i in 0..sound.len() {
        let mut with = |ty: Type| {
            let mut types = sound.clone();
            types[i] = ty;
            all.push(types);
        };
        let ty = sound[i];
        [DType::F32, DType::F64, DType::U32].into_iter().for_each(|dtype| with(Type { dtype, ..ty }));
        let dims = ty.shape.dims();
        let mut shapes = vec![[dims, &[2]].concat(), [&[2], dims].concat(), vec![], vec![4]];
        for axis in 0..dims.len() {
            shapes.push([&dims[..axis], &dims[axis + 1..]].concat());
            for len in [0, 1, dims[axis] + 1, 1 << 21] {
                shapes.push([&dims[..axis], &[len], &dims[axis + 1..]].concat());
            }
        }
        shapes.push(vec![2; 6]);
        shapes.iter().filter_map(|dims| Shape::checked(dims)).for_each(|shape| with(Type { shape, ..ty }));
    }
    all
}

/// The message with numbers and shapes left out, to tell kinds of messages apart; but how many inputs there should be is
/// part of a message.
fn kind(message: &str) -> String {
    let (wanted, _) = message.split_once(", got ").unwrap_or((message, ""));
    if wanted.ends_with("input") || wanted.ends_with("inputs") {
        return wanted.to_string();
    }
    let (mut out, mut depth) = (String::new(), 0);
    for c in message.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if depth == 0 && !c.is_ascii_digit() => out.push(c),
            _ => {}
        }
    }
    // f32 and u32 are but for their digits the same by now.
    out.split(' ').map(|word| if ["f", "u"].contains(&word.trim_end_matches(',')) { "type" } else { word }).collect()
}

/// What the registry refuses: one example of each kind of message, with the first operation that says so.
fn registry(told: &mut Told) {
    let mut kinds: BTreeMap<String, (String, Rule)> = BTreeMap::new();
    for op in OPS {
        for case in op.cases() {
            for types in mutations(&case) {
                if let Err(rule) = case.op.infer(&types) {
                    let hint = rule.hint.clone().unwrap_or_default();
                    kinds.entry(kind(&format!("{} {hint}", rule.what))).or_insert((op.name().to_string(), rule));
                }
            }
        }
    }
    assert!(kinds.len() > 30, "only {} kinds of refusals", kinds.len());
    kinds.into_values().for_each(|(op, rule)| told.rule(&op, &rule));
}

/// What operations refuse that no change of types provokes: attributes, and results that are too large.
fn attributes(told: &mut Told) {
    let g = Graph::new();
    let x = g.input("x", DType::F32, [4, 3]);
    let (step, row) = (g.scalar("step"), g.scalar("row"));
    x.transpose(&[0, 0]);
    x.transpose(&[0, 1, 2]);
    x.dropout(1.5, 1, 2, step, row);
    let mask = random::DropoutMask { shape: [2].into(), dtype: DType::U32, rate: 0.5, seed: 1, stream: 1 };
    g.apply(mask, &[step, row]);
    x.slice(0, 3, 9);
    x.sum(7);
    x.mean(7);
    x.slice(0, 0, 0).mean_all();
    x.slice(0, 0, 0).mean(0);
    x.attention(0);
    x.constant_like([2], &[1.0]);
    let big = g.input("big", DType::F32, [1 << 20, 1 << 20]);
    g.concat(0, &[big, big, big]);
    x.matmul_bf16(x);
    let _ = x + g.input("y", DType::F32, [5]);
    x.clamp(2.0, 1.0);
    x.huber(x, -1.0);
    x.pow(f64::NAN);
    x.sum_all().tril(0, 0.0);
    x.cross_entropy_smoothed(g.input("classes", DType::U32, [4]), 1.5);
    g.input("indices", DType::U32, [4]).one_hot(3, DType::U32);
    g.apply(mask::Tri { rows: 3, columns: 3, diagonal: 0 }, &[x]);
    let (chosen, index) = (g.input("chosen", DType::F32, [4, 2]), g.input("index", DType::U32, [4, 2]));
    g.apply(along::AddAlong { len: 1 << 60 }, &[index, chosen]);
    let rows = g.input("rows", DType::U32, [1 << 15, 1 << 15]);
    g.input("table", DType::F32, [3, 1 << 15]).gather(rows);
    told.errors_of(&g);
    // Six axes are the most there are.
    let deep = Type::new(DType::F32, [1, 1, 1, 1, 1, 1]);
    let ops: [&dyn Op; 2] = [&reduce::Argmax, &layout::Copy];
    ops.iter().filter_map(|op| op.infer(&[deep]).err()).for_each(|rule| told.rule("argmax", &rule));
}

/// Inputs, entries, updates and guards.
fn graphs(told: &mut Told) {
    let g = Graph::new();
    let x = g.input("x", DType::F32, [4, 3]);
    g.input("x", DType::F64, [4, 3]);
    g.input("large", DType::F32, [1 << 21, 1 << 20]);
    let w = g.parameter("w", DType::F32, [4, 3], Init::ZEROS);
    g.parameter("w", DType::F32, [3], Init::ZEROS);
    g.parameter("huge", DType::F32, [1 << 21, 1 << 20], Init::ZEROS);
    g.assign(x, x);
    g.assign(w, x.sum_all());
    g.assign(w, x);
    g.assign(w, x);
    g.guard("x", x);
    let other = Graph::new();
    g.apply(unary::Exp, &[other.input("x", DType::F32, [4, 3])]);
    told.errors_of(&g);
    // The whole of an error, with the place of the caller.
    let g = Graph::new();
    g.layer("h.0", || g.input("x", DType::F32, [4, 3]).matmul(g.input("y", DType::F32, [4, 3])));
    let whole = g.check().unwrap_err();
    let place = |line: &str| line.replace(&format!(":{}", whole.errors()[0].location.line()), ":LINE");
    told.say("whole", place(&whole.to_string()));
    told.say("whole, hint", whole.hint().unwrap_or("none"));
}

/// An operation that says what its cotangents are.
fn with_vjp(vjp: common::faulty::VjpRule) -> Faulty {
    Faulty { op: Arc::new(unary::Exp), fault: Fault::Vjp(vjp) }
}

fn gradients(told: &mut Told) {
    let g = Graph::new();
    let (x, free) = (g.input("x", DType::F32, [4, 3]), g.input("free", DType::F32, [4, 3]));
    let mut refused = |loss, wrt: &[_]| told.graph(&g.grad(loss, wrt).unwrap_err());
    refused(x, &[x]);
    refused(x.sum_all(), &[x, free]);
    let rules: [common::faulty::VjpRule; 4] = [
        |_| vec![],
        |r| vec![r.flows(0, || r.ct.sum_all())],
        |_| vec![Cotangent::Flows(None)],
        |_| vec![Cotangent::Stops("a reason that the operation gives")],
    ];
    for rule in rules {
        refused(g.apply(with_vjp(rule), &[x]).sum_all(), &[x]);
    }
    refused(x.matmul_bf16(x.t()).sum_all(), &[x]);
    // A vjp that is the derivative of a definition which does not exist, or has no derivative.
    refused(g.apply(with_vjp(|r| geartrain_engine::autodiff::vjp_of_definition(&unary::Exp, r)), &[x]).sum_all(), &[x]);
    refused(g.apply(Undefined, &[x]).sum_all(), &[x]);
    for op in OPS {
        for case in op.cases() {
            let g = Graph::new();
            let x = geartrain_engine::check::sample::declare(&g, &case, DType::F32);
            let y = g.apply_shared(case.op.clone(), &x);
            let floats = x.iter().filter(|x| x.dtype().is_float());
            for x in floats.filter(|_| y.dtype().is_float()) {
                if let Err(e) = g.grad(y.sum_all(), &[*x]) {
                    told.graph(&e);
                }
            }
        }
    }
}

/// An operation whose definition has no derivative.
#[derive(Debug)]
struct Undefined;

impl Op for Undefined {
    fn name(&self) -> &'static str {
        "undefined"
    }
    fn kind(&self) -> geartrain_engine::Kind {
        geartrain_engine::Kind::Opaque
    }
    fn attrs(&self) -> geartrain_engine::ir::op::Attrs {
        Vec::new()
    }
    fn infer(&self, x: &[Type]) -> Result<Type, Rule> {
        Ok(x[0])
    }
    fn kernel(&self, _: &[Type]) -> Kernel {
        Kernel::Call(Routine::Custom(CustomFn::new(|_, _| {})))
    }
    fn expand<'g>(&self, x: &[geartrain_engine::Var<'g>]) -> Option<geartrain_engine::Var<'g>> {
        Some(x[0].graph().apply(with_vjp(|_| vec![Cotangent::Stops("planted")]), &[x[0]]))
    }
    fn vjp<'g>(&self, r: &geartrain_engine::Vjp<'_, 'g>) -> Vec<Cotangent<'g>> {
        geartrain_engine::autodiff::vjp_of_definition(self, r)
    }
    fn reference(&self, x: &[Array], _: Shape) -> Vec<f64> {
        // One number too few.
        x[0].values[1..].to_vec()
    }
    fn bound(&self, _: &[Array], y: &Array, _: f64) -> Vec<f64> {
        vec![0.0; y.values.len()]
    }
    fn explain(&self) -> geartrain_engine::Explain {
        unary::Exp.explain()
    }
    fn cases(&self) -> Vec<Case> {
        Vec::new()
    }
    fn print(&self, x: &[geartrain_engine::Expr], _: &[Type]) -> geartrain_engine::Expr {
        x[0].clone()
    }
}

/// States, batches and runs.
fn programs(told: &mut Told) {
    let g = Graph::new();
    let (w, i) = (g.parameter("w", DType::F32, [4], Init::ZEROS), g.input("i", DType::U32, [2]));
    g.layer("embed", || g.output("row", w.gather(i).sum_all()));
    g.guard("loss", w.ln().sum_all());
    g.assign(w, w * 0.5);
    let mut state = State::new(&g, 0).unwrap();
    let options = Options { threads: 1, ..Options::default() };
    let mut program = Program::compile(&g, &state, options).unwrap();
    let mut batch = program.batch();
    told.say("state.set", state.set("v", &Tensor::scalar(DType::F32, 1.0)).unwrap_err());
    told.say("state.set", state.set("w", &Tensor::scalar(DType::F64, 1.0)).unwrap_err());
    told.say("batch.set", batch.set("v", &Tensor::scalar(DType::F32, 1.0)).unwrap_err());
    told.say("batch.set", batch.set("i", &Tensor::scalar(DType::F32, 1.0)).unwrap_err());
    told.say("batch.set_scalar", batch.set_scalar("i", 1.0).unwrap_err());
    told.say("batch.f32s", batch.f32s("i").unwrap_err());
    told.say("batch.u32_pair", batch.u32_pair("i", "i").unwrap_err());
    told.say("run", program.run(&mut state, &batch).unwrap_err());
    batch.u32s("i").unwrap()[1] = 9;
    told.say("run", program.run(&mut state, &batch).unwrap_err());
    told.say("evaluate", program.evaluate(&state, &batch).unwrap_err());
    let other = Graph::new();
    other.parameter("w", DType::F32, [5], Init::ZEROS);
    other.output("x", other.input("x", DType::F32, [3]) * 2.0);
    let mut other_state = State::new(&other, 0).unwrap();
    told.say("run", program.run(&mut other_state, &batch).unwrap_err());
    let nothing = Program::compile(&Graph::new(), &State::empty(), options).unwrap().batch();
    told.say("run", program.run(&mut state, &nothing).unwrap_err());
    told.graph(&Program::compile(&g, &other_state, options).err().unwrap());
    told.graph(&Program::compile(&g, &State::empty(), options).err().unwrap());
    // Values of another type, and what is too large.
    let g = Graph::new();
    let values = Init::Values(Arc::new(Tensor::new([2], Data::F32(vec![1.0, 2.0])).unwrap()));
    g.entry(Entry::parameter("w", Type::new(DType::F32, [3]), values));
    told.graph(&State::new(&g, 0).err().unwrap());
    let g = Graph::new();
    g.parameter("w", DType::F32, [1 << 20, 1 << 20], Init::ZEROS);
    let too_large = State::new(&g, 0).err().unwrap();
    let machine = too_large.errors()[0].rule.what.rsplit(' ').nth(1).unwrap().to_string();
    let rule = &too_large.errors()[0].rule;
    let hidden = Rule { what: rule.what.replace(&format!("are {machine}"), "are MEMORY"), ..rule.clone() };
    told.rule("state", &hidden);
}

/// Programs that cannot be built: a pass that breaks the graph, a kernel that does not fit its types.
fn compilation(told: &mut Told) {
    let options = Options { threads: 1, ..Options::default() };
    let g = Graph::new();
    let x = g.input("x", DType::F32, [4]);
    g.output("y", x.exp());
    let backward = Pass {
        name: "a pass of one's own",
        run: |g| {
            let mut new = g.clone();
            if let geartrain_engine::ir::graph::Source::Apply(_, x) = &mut new.nodes[1].source {
                x[0] = geartrain_engine::NodeId(1);
            }
            new
        },
    };
    told.graph(&Program::compile_with(&g, &State::empty(), options, &[backward]).err().unwrap());
    let g = Graph::new();
    let x = g.input("x", DType::F32, [4]);
    let wrong = Faulty { op: Arc::new(unary::Exp), fault: Fault::Kernel(|_| Kernel::Call(Routine::Matmul)) };
    g.output("y", g.apply(wrong, &[x]));
    told.graph(&Program::compile(&g, &State::empty(), options).err().unwrap());
}

/// What the interpreter, which `gradcheck` runs on, says.
fn checks(told: &mut Told) {
    let g = Graph::new();
    let x = g.input("x", DType::F64, [2]);
    let mut feed = Feed::new();
    let mut say = |e: InterpretError| told.say("interpreter", e);
    say(evaluate(&g, &[x], &feed).unwrap_err());
    feed.set("x", Array { shape: [3].into(), values: vec![1.0; 3] });
    say(evaluate(&g, &[x], &feed).unwrap_err());
    feed.set("x", Array { shape: [2].into(), values: vec![1.0; 2] });
    say(evaluate(&g, &[g.apply(Undefined, &[x])], &feed).unwrap_err());
    say(evaluate(&g, &[x.reshape([9])], &feed).unwrap_err());
    told.say("forward derivative", TangentError::NoRule("custom".to_string()));
}

/// A title, and what makes the messages below it.
type Part = (&'static str, fn(&mut Told));

fn all() -> String {
    let mut told = Told::default();
    let parts: [Part; 7] = [
        ("operations, by kind of message", registry),
        ("attributes and sizes", attributes),
        ("graphs", graphs),
        ("gradients", gradients),
        ("state, batch and run", programs),
        ("compilation", compilation),
        ("checks", checks),
    ];
    let mut text = String::from("Every message of the engine. Written by crates/engine/tests/messages.rs.\n");
    for (title, part) in parts {
        part(&mut told);
        let mut lines = std::mem::take(&mut told.0);
        let mut seen = std::collections::BTreeSet::new();
        lines.retain(|line| seen.insert(line.clone()));
        text += &format!("\n## {title}\n\n{}\n", lines.join("\n"));
    }
    text
}

#[test]
fn messages_are_known() {
    same_as_file(&folder().join("tests/snapshots/messages.txt"), &all());
}

#[test]
fn every_message_of_the_source_is_among_them() {
    let told = all();
    let (source, checks) = (folder().join("src"), |place: &str| place.starts_with("check/"));
    // What checks find is a report with its own numbers; what stops them is an error.
    let found = untold(&source, |place| !checks(place), MARKERS, &told).into_iter().chain(untold(
        &source,
        checks,
        &["#[error("],
        &told,
    ));
    let missing: Vec<String> = found
        .filter(|t| !UNREACHABLE.iter().any(|(text, _)| *text == t.text))
        .map(|Template { place, text }| format!("{place}: {text}"))
        .collect();
    assert!(missing.is_empty(), "no test provokes these messages:\n{}", missing.join("\n"));
}

#[test]
fn the_scanner_sees_what_is_planted() {
    let source = "// Rule::new(\"a comment\")\nlet r = Rule::new(format!(\"{n} is \\\n    not {{}} {m}\")).hint(\"do it\");\n\
                  Rule::new(what)\n#[cfg(test)]\nmod tests {\nRule::new(\"a test\")";
    let found = templates("a.rs", source, &["Rule::new(", ".hint("]);
    let texts: Vec<&str> = found.iter().map(|t| t.text.as_str()).collect();
    assert_eq!(texts, ["{n} is not {{}} {m}", "do it"]);
    assert!(is_told(texts[0], "x: 3 is not {} 4") && !is_told(texts[0], "3 is not 4") && !is_told(texts[1], "do\nit"));
}
