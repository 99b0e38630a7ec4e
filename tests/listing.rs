//! The listing is the contract, and each of its lines gives the value that the compiled program computes.

mod common;
mod numpy;

use geartrain::engine::ir::graph::Source;
use geartrain::engine::listing::{Line, Listing};
use geartrain::lesson::{self, Network};
use geartrain::optim::{self, Sgd};
use geartrain::{DType, Graph, Options, Program, State, Tensor};
use numpy::{Array, Names, eval};

/// A lesson's training step, as its listing shows it.
fn graph(lesson: &Network) -> (Graph, Listing) {
    let g = Graph::new();
    let outputs = (lesson.build)(&g, DType::F64);
    optim::minimize(&g, outputs.loss, &Sgd, g.number(DType::F64, lesson.rate), 0.0).unwrap();
    g.output("loss", outputs.loss);
    let listing = Listing::new(&g);
    let text = listing.to_text(&format!("sgd, learning rate {}", lesson.rate));
    assert_eq!(text, lesson.listing().unwrap(), "this is the graph that `explain` shows");
    (g, listing)
}

fn array(tensor: &Tensor) -> Array {
    Array { shape: tensor.shape().dims().to_vec(), data: tensor.to_f64() }
}

/// The values that a listing starts from: constants with a name, and the parameters.
fn givens(g: &Graph, state: &State) -> Names {
    let named = g.with(|g| {
        let constant = |node: &geartrain::engine::ir::graph::Node| match (&node.source, &node.name) {
            (Source::Constant(tensor), Some(name)) => Some((name.clone(), array(tensor))),
            _ => None,
        };
        g.nodes.iter().filter_map(constant).collect::<Names>()
    });
    let entries = state.entries().iter().map(|e| (e.name.clone(), array(&state.get(&e.name).unwrap())));
    named.into_iter().chain(entries).collect()
}

/// Evaluates the lines in order, comparing each with the program's value of its node; gives how many had one. Parameters
/// are compared, not replaced: all updates read the values from before the step.
fn follow(g: &Graph, listing: &Listing, steps: usize) -> Result<usize, String> {
    let lines: Vec<&Line> = listing.forward.iter().chain(&listing.backward).chain(&listing.update).collect();
    for (i, line) in lines.iter().enumerate() {
        if let Some(node) = line.node {
            g.output(&format!("line {i}"), g.var(node));
        }
    }
    let mut state = State::new(g, 0).map_err(|e| e.to_string())?;
    let mut program = Program::compile(g, &state, Options::default()).map_err(|e| e.to_string())?;
    let batch = program.batch();
    let mut compared = 0;
    for _ in 0..steps {
        let mut names = givens(g, &state);
        program.run(&mut state, &batch).map_err(|e| e.to_string())?;
        for (i, line) in lines.iter().enumerate() {
            let expression = match line.text.split_once(" -= ") {
                Some((name, step)) => format!("{name} - {step}"),
                None => line.text.clone(),
            };
            let at = |what: String| format!("{} = {}: {what}", line.name, line.text);
            let value = eval(&expression, &names).map_err(at)?;
            if value.shape != line.shape.dims() {
                return Err(at(format!("of shape {:?}, the listing says {}", value.shape, line.shape)));
            }
            if line.node.is_some() {
                let found = program.tensor(&format!("line {i}")).ok_or_else(|| at("has no value".into()))?;
                close(&value, &array(&found)).map_err(at)?;
                compared += 1;
            }
            names.insert(line.name.clone(), value);
        }
        // The parameters of the next step are those that the update lines gave.
        for line in &listing.update {
            let kept = array(&state.get(&line.name).ok_or("no such entry")?);
            close(&names[&line.name], &kept)?;
        }
    }
    Ok(compared)
}

/// Equal within 1e-12 of the array's largest value.
fn close(ours: &Array, theirs: &Array) -> Result<(), String> {
    let largest = theirs.data.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    for (i, (a, b)) in ours.data.iter().zip(&theirs.data).enumerate() {
        let near = (a - b).abs() <= 1e-12 * largest.max(1e-3);
        if !near || ours.data.len() != theirs.data.len() {
            return Err(format!("element {i} of the line is {a:e}, the program's is {b:e}"));
        }
    }
    Ok(())
}

#[test]
fn every_line_of_xor_is_the_programs_value() {
    let (g, listing) = graph(lesson::network("xor").unwrap());
    assert_eq!(follow(&g, &listing, 3), Ok(3 * 17), "5 forward, 8 backward, 4 update");
}

#[test]
fn every_line_of_tokens_is_the_programs_value() {
    let (g, listing) = graph(lesson::network("tokens").unwrap());
    let lines = listing.forward.len() + listing.backward.len() + listing.update.len();
    // `y_onehot` is in the listing alone; the loss never makes it in memory.
    let compared = follow(&g, &listing, 3).unwrap();
    assert!(compared / 3 >= lines - 2, "{compared} of 3 × {lines}");
}

#[test]
fn a_wrong_line_is_noticed() {
    let faults = [
        ("xor", "2 * (a2 - y) / 4", "2 * (a2 - y) / 2"),
        ("xor", "d_a2 * a2 * (1 - a2)", "d_a2 * a2 * (1 + a2)"),
        ("xor", "a1.T @ d_z2", "d_z2.T @ a1"),
        ("xor", "X.T @ d_z1", "X.T @ (d_z1 + 1e-9)"),
        ("xor", "b2 -= 0.5 * d_b2", "b2 -= 0.25 * d_b2"),
        ("tokens", "(probs - y_onehot) / 4", "(probs - y_onehot) / 5"),
        ("tokens", "d_z2 @ W2.T", "d_z2 @ (2 * W2).T"),
    ];
    for (name, right, wrong) in faults {
        let (g, mut listing) = graph(lesson::network(name).unwrap());
        let Listing { forward, backward, update } = &mut listing;
        let line = forward.iter_mut().chain(backward).chain(update).find(|l| l.text == right);
        line.unwrap_or_else(|| panic!("{name} has no line `{right}`")).text = wrong.to_string();
        assert!(follow(&g, &listing, 1).is_err(), "{name}: `{wrong}` passed for `{right}`");
    }
}

/// DESIGN: names, order and grouping are the contract; spacing is free.
const XOR: [[&str; 3]; 8] = [
    ["d_a2", "2 * (a2 - y) / 4", "(4, 1)"],
    ["d_z2", "d_a2 * a2 * (1 - a2)", "(4, 1)"],
    ["d_W2", "a1.T @ d_z2", "(4, 1)"],
    ["d_b2", "d_z2.sum(axis=0, keepdims=True)", "(1, 1)"],
    ["d_a1", "d_z2 @ W2.T", "(4, 4)"],
    ["d_z1", "d_a1 * a1 * (1 - a1)", "(4, 4)"],
    ["d_W1", "X.T @ d_z1", "(2, 4)"],
    ["d_b1", "d_z1.sum(axis=0, keepdims=True)", "(1, 4)"],
];

/// Text without its blanks.
fn bare(text: &str) -> String {
    text.split_whitespace().collect()
}

/// The lines that `explain` prints under a heading, without the heading.
fn section(text: &str, heading: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    lines.take_while(|line| line.starts_with(' ')).map(bare).collect()
}

#[test]
fn xor_is_printed_as_an_article_writes_it() {
    let (_, listing) = graph(lesson::network("xor").unwrap());
    let lines: Vec<[String; 3]> =
        listing.backward.iter().map(|l| [l.name.clone(), l.text.clone(), l.shape.to_string()]).collect();
    assert_eq!(lines, XOR);
    let folder = tempfile::tempdir().unwrap();
    let text = common::run(folder.path(), "explain xor").good();
    let headings: Vec<&str> =
        text.lines().filter(|l| !l.starts_with(' ')).filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(headings, ["forward", "backward", "update"]);
    let chains = [
        "dL/da2 mean squared error",
        "dL/dz2 = dL/da2 · da2/dz2 sigmoid' = a · (1 - a)",
        "dL/dW2 z2 = a1 @ W2 + b2",
        "dL/db2",
        "dL/da1",
        "dL/dz1 = dL/da1 · da1/dz1 sigmoid' = a · (1 - a)",
        "dL/dW1 z1 = X @ W1 + b1",
        "dL/db1",
    ];
    let expected: Vec<String> = XOR
        .iter()
        .zip(chains)
        .map(|([name, text, shape], chain)| bare(&format!("{name} = {text} {shape} {chain}")))
        .collect();
    assert_eq!(section(&text, "backward"), expected);
    let updates = ["W1 -= 0.5 * d_W1", "b1 -= 0.5 * d_b1", "W2 -= 0.5 * d_W2", "b2 -= 0.5 * d_b2"];
    assert_eq!(section(&text, "update"), updates.map(bare));
    assert!(text.contains("sgd, learning rate 0.5"));
    let forward = ["z1 = X @ W1 + b1", "a1 = sigmoid(z1)", "z2 = a1 @ W2 + b2", "a2 = sigmoid(z2)"];
    let found = section(&text, "forward");
    assert!(forward.iter().zip(&found).all(|(line, found)| found.starts_with(&bare(line))), "{found:?}");
}

#[test]
fn tokens_have_the_short_gradient_of_softmax_and_cross_entropy() {
    let folder = tempfile::tempdir().unwrap();
    let text = common::run(folder.path(), "explain tokens").good();
    let backward = section(&text, "backward");
    let at = |line: &str| backward.iter().position(|l| l.starts_with(&bare(line)));
    assert_eq!(at("d_z2 = (probs - y_onehot) / 4 (4, 5)"), Some(1), "{backward:?}");
    assert_eq!(at("y_onehot = onehot(y, 5)"), Some(0));
    let order: Vec<usize> =
        ["d_W2 = a1.T @ d_z2", "d_b2 = d_z2.sum(", "d_a1 = d_z2 @ W2.T", "d_z1 = ", "d_W1 = X.T @ d_z1"]
            .iter()
            .map(|line| at(line).unwrap_or_else(|| panic!("no `{line}` in {backward:?}")))
            .collect();
    assert!(order.is_sorted(), "{order:?}");
    assert!(section(&text, "forward").iter().any(|line| line.starts_with(&bare("probs = softmax(z2)"))));
    let updates = ["W1 -= 0.3 * d_W1", "b1 -= 0.3 * d_b1", "W2 -= 0.3 * d_W2", "b2 -= 0.3 * d_b2"];
    assert_eq!(section(&text, "update"), updates.map(bare));
}
