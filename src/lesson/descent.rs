//! Gradient descent on one weight at four learning rates.

use geartrain_engine::{DType, Graph, Init, State};
use geartrain_nn::optim::{self, Sgd};

use super::compute::compile;
use super::number::digits_of;
use super::page::{Cell, Format, column, plot, row};
use super::{Lesson, LessonError, Page};

/// L = w² / 2 from w = 4.
pub static LESSON: Lesson =
    Lesson { name: "descent", title: "Descent: one weight, one valley, four learning rates", network: None, write };

/// Where the weight starts.
const START: f64 = 4.0;

/// Learning rates, and what each does.
const RATES: [(f64, &str); 4] = [
    (0.1, "creeps: a tenth of the way each time"),
    (1.0, "is exact: one step and it is there"),
    (1.5, "overshoots, yet ends lower each time"),
    (2.1, "diverges: ends higher each time"),
];

/// Steps that are shown.
const STEPS: usize = 10;

/// The weight, the loss and the slope at each step of one descent.
#[derive(Default)]
struct Descent {
    w: Vec<f64>,
    loss: Vec<f64>,
    slope: Vec<f64>,
}

/// Takes the steps at one rate: the engine's own gradient and update.
fn descend(page: &Page, rate: f64) -> Result<Descent, LessonError> {
    let g = Graph::new();
    let w = g.parameter("w", DType::F64, [], Init::Constant(START));
    let loss = (w.square() / 2.0).named("L");
    optim::minimize(&g, loss, &Sgd, g.number(DType::F64, rate), 0.0)?;
    g.output("loss", loss);
    g.output("slope", g.grad(loss, &[w])?[0]);
    let mut state = State::new(&g, 0)?;
    let mut program = compile(&g, &state, page)?;
    let batch = program.batch();
    let mut descent = Descent::default();
    for _ in 0..=STEPS {
        descent.w.extend(state.get("w").map(|w| w.to_f64()).unwrap_or_default());
        program.run(&mut state, &batch)?;
        descent.loss.extend(program.scalar("loss"));
        descent.slope.extend(program.scalar("slope"));
    }
    Ok(descent)
}

fn write(page: &mut Page) -> Result<(), LessonError> {
    let all = RATES.iter().map(|(rate, _)| descend(page, *rate)).collect::<Result<Vec<Descent>, _>>()?;
    page.paragraph(&format!(
        "Take a network with a single weight w, and let its loss be L = w² / 2. Seen from above the valley is easy: the \
         lowest point is at w = 0. Training does not see from above. It stands at w = {START}, knows the loss here, {}, \
         and the slope here, dL/dw = {}. The slope says which way is up, so the step goes the other way, and its length \
         is the slope times the learning rate:",
        all[0].loss[0], all[0].slope[0]
    ));
    page.verbatim("w -= rate * dL/dw");
    steps(page, &all);
    fates(page, &all);
    page.next(&["geartrain lesson chain-rule"]);
    Ok(())
}

/// The weight after each step, as a table and drawn.
fn steps(page: &mut Page, all: &[Descent]) {
    page.paragraph("Here is w after each step, by rate:");
    let mut columns = vec![column("step", Format::Whole)];
    columns.extend(RATES.map(|(rate, _)| column(format!("rate {rate}"), Format::Fixed(4))));
    let rows: Vec<Vec<Cell>> = (0..=STEPS)
        .map(|step| [Cell::from(step)].into_iter().chain(all.iter().map(|d| Cell::from(d.w[step]))).collect())
        .collect();
    page.table("w", &columns, &rows);
    let name = RATES.map(|(rate, _)| format!("rate {rate}"));
    let path = |i: usize| (name[i].as_str(), (0..=STEPS).map(|step| (step as f64, all[i].w[step])).collect());
    page.plots(&[[0, 1], [2, 3]].map(|pair| plot("w", "step", pair.map(path).to_vec())), 9);
}

/// What becomes of the weight at each rate, and why.
fn fates(page: &mut Page, all: &[Descent]) {
    let columns = [
        column("rate", Format::Plain),
        column("w1 / w0", Format::Fixed(2)),
        column("loss at the end", Format::Digits(4)),
        column("what it does", Format::Text),
    ];
    let rows: Vec<Vec<Cell>> =
        RATES.iter().zip(all).map(|((rate, what), d)| row![*rate, d.w[1] / d.w[0], d.loss[STEPS], *what]).collect();
    page.heading("One factor a step");
    page.paragraph(
        "The slope of this valley is w itself, so each step turns w into w - rate · w = (1 - rate) · w. All four fates \
         are in that factor. Between -1 and 1 the weight arrives, below -1 it flies away, and at exactly -1, which is \
         rate 2, it would jump between two points for ever.",
    );
    page.table("rates", &columns, &rows);
    page.paragraph(&format!(
        "In a valley twice as steep the same happens at half the rates. A real loss has many directions, steep ones and \
         flat ones at once; one rate must suit them all, small enough for the steepest. That is why training is slow \
         along the others, and why the rate is the first thing to tune. After {STEPS} steps the loss is {} times lower at \
         rate 0.1, and {} times higher at rate 2.1.",
        digits_of(all[0].loss[0] / all[0].loss[STEPS], 3),
        digits_of(all[3].loss[STEPS] / all[3].loss[0], 3)
    ));
}
