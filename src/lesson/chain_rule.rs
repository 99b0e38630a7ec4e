//! The chain rule: local slopes multiply; what a slope can predict; gears.

use geartrain_engine::listing::Listing;
use geartrain_engine::{DType, Graph, Var};
use geartrain_nn::optim::{self, Sgd};

use super::compute::{between, given, known, values};
use super::number::fixed;
use super::page::{Format, column, plot, row};
use super::{Lesson, LessonError, Page};

/// y = (a · x)² at x = 1.3 and a = 2, and a train of three gears.
pub static LESSON: Lesson = Lesson {
    name: "chain-rule",
    title: "Chain rule: the slope of a chain is the product of the slopes of its links",
    network: None,
    write,
};

const A: f64 = 2.0;
const X: f64 = 1.3;

fn write(page: &mut Page) -> Result<(), LessonError> {
    two_links(page)?;
    local(page)?;
    gears(page)?;
    page.next(&["geartrain lesson activations", "geartrain explain xor"]);
    Ok(())
}

/// The slopes of y = u², u = a · x, one by one and together.
fn two_links(page: &mut Page) -> Result<(), LessonError> {
    let g = Graph::new();
    let x = given(&g, "x", [], &[X]);
    let a = known(&g, DType::F64, [], &[A]).named("a");
    let u = (a * x).named("u");
    let y = u.square().named("y");
    g.output("u", u);
    g.output("y", y);
    g.output("du/dx", g.grad(u, &[x])?[0]);
    g.output("dy/du", g.grad(y, &[u])?[0]);
    g.output("dy/dx", g.grad(y, &[x])?[0]);
    let v = values(&g, page)?;
    let (du, dy, total) = (v.number("du/dx")?, v.number("dy/du")?, v.number("dy/dx")?);

    page.paragraph(&format!(
        "A network is a chain of small functions, each of which only knows its own input. Here are two links: u = a · x \
         and then y = u², with a = {A} at x = {X}. Each link has a slope of its own: how many times as far its output \
         moves when its input moves a little. Here u moves {du} times as far as x, and y moves {dy} times as far as u; \
         so y moves {du} times {dy} as far as x.",
    ));
    let columns = [
        column("link", Format::Text),
        column("input", Format::Fixed(2)),
        column("output", Format::Fixed(2)),
        column("slope", Format::Fixed(1)),
        column("is", Format::Text),
    ];
    let rows = [
        row!["u = a · x", X, v.number("u")?, du, "du/dx = a"],
        row!["y = u²", v.number("u")?, v.number("y")?, dy, "dy/du = 2 · u"],
        row!["y = (a · x)²", X, v.number("y")?, total, "dy/dx = du/dx · dy/du"],
    ];
    page.table("links", &columns, &rows);
    page.paragraph(&format!(
        "The last slope comes from the engine's backward pass through both links, and it is the product of the two \
         above: {du} · {dy} = {}. Note that {} and {total:.1} answer different questions: where y is, and how fast it \
         moves.",
        fixed(du * dy, 1),
        fixed(v.number("y")?, 2)
    ));
    Ok(())
}

/// y = (A · x)²
fn square_of(x: Var<'_>) -> Var<'_> {
    (A * x).square()
}

/// How far the slope at x = 1.3 can be trusted.
fn local(page: &mut Page) -> Result<(), LessonError> {
    const AT: [f64; 5] = [1.3, 1.31, 1.4, 1.5, 3.0];
    let g = Graph::new();
    let x = given(&g, "x", [], &[X]);
    let (here, slope) = (square_of(x), g.grad(square_of(x), &[x])?[0]);
    let line_at = |to| here + slope * (to - x);
    let at = given(&g, "at", [AT.len()], &AT);
    g.output("predicted", line_at(at));
    g.output("true", square_of(at));
    g.output("error", square_of(at) - line_at(at));
    g.output("slopes", g.grad(square_of(at).sum_all(), &[at])?[0]);
    let across = between(0.0, 3.0, 160);
    let curve = known(&g, DType::F64, [160], &across);
    g.output("curve", square_of(curve));
    g.output("line", line_at(curve));
    let v = values(&g, page)?;
    let (predicted, truth, error, slopes) =
        (v.list("predicted")?, v.list("true")?, v.list("error")?, v.list("slopes")?);

    page.heading("A slope is a local truth");
    page.paragraph(&format!(
        "From x = {X} the slope predicts y elsewhere along a straight line. Next door the prediction is excellent, far \
         away it is worthless, because the curve bends and has another slope there. The error grows with the square of \
         the distance: ten times as far, a hundred times as wrong.",
    ));
    let columns = [
        column("x", Format::Fixed(2)),
        column("distance", Format::Fixed(2)),
        column("predicted", Format::Fixed(4)),
        column("true", Format::Fixed(4)),
        column("error", Format::Fixed(4)),
        column("slope there", Format::Fixed(2)),
    ];
    let rows: Vec<_> =
        (0..AT.len()).map(|i| row![AT[i], AT[i] - X, predicted[i], truth[i], error[i], slopes[i]]).collect();
    page.table("local", &columns, &rows);
    let points = |y: Vec<f64>| across.iter().copied().zip(y).collect();
    let lines = vec![("y", points(v.list("curve")?)), ("straight on from 1.3", points(v.list("line")?))];
    page.plots(&[plot("y", "x", lines)], 9);
    page.paragraph(
        "This is why training takes many small steps instead of a large one: after each step the slopes are measured \
         again.",
    );
    Ok(())
}

/// Three linear links whose ratios multiply.
fn gears(page: &mut Page) -> Result<(), LessonError> {
    const RATIOS: [f64; 3] = [1.0, 3.0, 2.0];
    let g = Graph::new();
    let turns = given(&g, "crank", [], &[1.0]);
    let [r1, r2, r3] = RATIOS;
    let ratio = |name: &str, value: f64| known(&g, DType::F64, [], &[value]).named(name);
    let gear1 = (ratio("r1", r1) * turns).named("gear1");
    let gear2 = (ratio("r2", r2) * gear1).named("gear2");
    let gear3 = (ratio("r3", r3) * gear2).named("gear3");
    optim::minimize(&g, gear3, &Sgd, g.number(DType::F64, 0.1), 0.0)?;
    g.output("gear3", gear3);
    let listing = Listing::new(&g);
    let names = ["gear1", "gear2", "gear3"];
    let all = [gear1, gear2, gear3];
    for (i, gear) in all.iter().enumerate() {
        let before = if i == 0 { turns } else { all[i - 1] };
        g.output(names[i], *gear);
        g.output(&format!("local {i}"), g.grad(*gear, &[before])?[0]);
        g.output(&format!("so far {i}"), g.grad(*gear, &[turns])?[0]);
    }
    let v = values(&g, page)?;

    page.heading("Gears");
    page.paragraph(
        "Turn the crank of a gear train once. The first gear turns with it, the second three times as fast as the \
         first, the third twice as fast as the second. A ratio is a slope, and the ratio of the whole train is the \
         product of all ratios on the way.",
    );
    let columns = [
        column("gear", Format::Text),
        column("turns", Format::Whole),
        column("ratio to the one before", Format::Whole),
        column("ratio to the crank", Format::Whole),
    ];
    let mut rows = Vec::new();
    for (i, name) in names.iter().enumerate() {
        rows.push(row![*name, v.number(name)?, v.number(&format!("local {i}"))?, v.number(&format!("so far {i}"))?]);
    }
    page.table("gears", &columns, &rows);
    page.paragraph(
        "And this is what the engine derives for the train. It starts at the far end, where the ratio of the last gear \
         to itself is 1, and multiplies its way back, one link a line. (L is the last gear; a ratio of 1 changes nothing and is left out.)",
    );
    page.listing(&listing, None);
    page.paragraph(&format!(
        "d_crank = {r3} · {r2} · {r1} = {}. A network of a thousand layers is the same train with more gears, and with \
         matrices in place of ratios.",
        v.number("so far 2")?
    ));
    Ok(())
}
