//! Ways to take a step: plain gradient descent, mini-batches, momentum, Adam, and a schedule.

use std::f64::consts::PI;

use geartrain_engine::{Batch, DType, Graph, Program, State, Tensor, philox};
use geartrain_nn::optim::{self, AdamW, Momentum, Optimizer, Sgd};
use geartrain_nn::{Activation, Mlp};
use geartrain_train::chart::Picture;
use geartrain_train::schedule::Schedule;

use super::compute::compile;
use super::number::{fixed, plain};
use super::page::{Cell, Format, column, plot, row};
use super::{Lesson, LessonError, Page};

/// One network on one noisy problem, five ways to train it.
pub static LESSON: Lesson = Lesson {
    name: "optimizers",
    title: "Optimizers: five ways to take a step, on one problem from one start",
    network: None,
    write,
};

/// Examples, and how many of them a mini-batch takes.
const EXAMPLES: usize = 256;
const MINI: usize = 32;

/// Every way takes so many steps.
const STEPS: u64 = 400;

/// Steps between losses that are kept, and those that the table shows.
const EVERY: u64 = 10;
const SHOWN: [u64; 6] = [0, 20, 50, 100, 200, 400];

/// Learning rates that every way may choose from.
const RATES: [f64; 7] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];

/// The seed of the data and of the order of the examples.
const SEED: u64 = 7;

/// The start that the rates are chosen for, and others that show whether the choice holds.
const START: u64 = 7;
const STARTS: [u64; 5] = [1, 2, 3, 4, 5];

/// Where the plots end.
const TOP: f64 = 0.7;

/// One way to train.
struct Way {
    name: &'static str,
    optimizer: Box<dyn Optimizer>,
    /// Examples a step.
    batch: usize,
    /// Whether the rate rises for a tenth of the steps and then falls along a cosine.
    scheduled: bool,
}

fn ways() -> [Way; 5] {
    let adam = || Box::new(AdamW { betas: (0.9, 0.999), eps: 1e-8, decay: 0.0 });
    [
        Way { name: "gradient descent", optimizer: Box::new(Sgd), batch: EXAMPLES, scheduled: false },
        Way { name: "mini-batches", optimizer: Box::new(Sgd), batch: MINI, scheduled: false },
        Way { name: "+ momentum", optimizer: Box::new(Momentum { momentum: 0.9 }), batch: MINI, scheduled: false },
        Way { name: "Adam", optimizer: adam(), batch: MINI, scheduled: false },
        Way { name: "Adam + schedule", optimizer: adam(), batch: MINI, scheduled: true },
    ]
}

/// Points in a plane and the class of each.
struct Data {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Data {
    /// Two half moons that reach into each other, with noise. The second coordinate is measured in a unit ten times as
    /// large, so that its numbers are ten times smaller.
    fn moons() -> Data {
        let (along, noise) = (philox::stream_of("moons"), philox::stream_of("noise"));
        let mut data = Data { x: Vec::new(), y: Vec::new() };
        for i in 0..EXAMPLES as u64 {
            let angle = PI * philox::uniform(SEED, along, i);
            let (a, b) = (libm::cos(angle), libm::sin(angle));
            let (a, b) = if i % 2 == 0 { (a, b) } else { (1.0 - a, 0.5 - b) };
            let noise = |j| 0.15 * philox::normal(SEED, noise, 2 * i + j);
            data.x.extend([a + noise(0), 0.1 * (b + noise(1))]);
            data.y.push((i % 2) as f64);
        }
        data
    }

    /// Puts some of the examples into a batch.
    fn feed(&self, batch: &mut Batch, picked: &[usize]) {
        let x: Vec<f64> = picked.iter().flat_map(|i| [self.x[2 * i], self.x[2 * i + 1]]).collect();
        let y: Vec<f64> = picked.iter().map(|i| self.y[*i]).collect();
        let x = Tensor::from_f64(DType::F64, [picked.len(), 2], &x);
        let y = Tensor::from_f64(DType::U32, [picked.len()], &y);
        for (name, tensor) in [("x", x), ("y", y)] {
            // Both programs declare both inputs with these types.
            let _ = tensor.map(|tensor| batch.set(name, &tensor));
        }
    }
}

/// The network's mean loss on `n` examples, as a graph's output.
fn network(g: &Graph, n: usize) -> geartrain_engine::Var<'_> {
    let (x, y) = (g.input("x", DType::F64, [n, 2]), g.input("y", DType::U32, [n]));
    let mlp = Mlp { sizes: vec![2, 16, 16, 2], activation: Activation::Tanh, bias: true };
    let loss = mlp.forward(x).cross_entropy(y).mean_all();
    g.output("loss", loss);
    loss
}

/// The loss on all examples, every few steps.
struct Course {
    losses: Vec<f64>,
    parameters: usize,
}

/// Trains one way at one rate from one start. A run whose numbers stop being finite has NaN from there on.
fn train(page: &Page, data: &Data, way: &Way, rate: f64, start: u64) -> Result<Course, LessonError> {
    let g = Graph::new();
    optim::minimize(&g, network(&g, way.batch), way.optimizer.as_ref(), g.scalar("lr"), 0.0)?;
    let all = Graph::new();
    network(&all, EXAMPLES);
    let mut state = State::new(&g, start)?;
    let (mut step, mut whole) = (compile(&g, &state, page)?, compile(&all, &state, page)?);
    let (mut batch, mut whole_batch) = (step.batch(), whole.batch());
    data.feed(&mut whole_batch, &(0..EXAMPLES).collect::<Vec<_>>());
    let schedule = match way.scheduled {
        true => Schedule::cosine(rate, 0.0, STEPS / 10, STEPS),
        false => Schedule::constant(rate, 0),
    };
    let mut losses = Vec::new();
    for i in 0..=STEPS {
        if i % EVERY == 0 {
            losses.push(loss(&mut whole, &state, &whole_batch));
        }
        if i < STEPS {
            data.feed(&mut batch, &picked(way.batch, i));
            let (c1, c2) = way.optimizer.corrections(i + 1);
            for (name, value) in [("lr", schedule.rate(i)), ("c1", c1), ("c2", c2)] {
                // A scalar that this optimizer does not read is not one of its inputs.
                let _ = batch.set_scalar(name, value);
            }
            step.run(&mut state, &batch)?;
        }
    }
    Ok(Course { losses, parameters: state.parameters() })
}

fn loss(whole: &mut Program, state: &State, batch: &Batch) -> f64 {
    let done = whole.evaluate(state, batch).ok();
    done.and_then(|()| whole.scalar("loss")).unwrap_or(f64::NAN)
}

/// Which examples a step reads: all, or some at random.
fn picked(n: usize, step: u64) -> Vec<usize> {
    if n == EXAMPLES {
        return (0..n).collect();
    }
    let stream = philox::stream_of("order");
    let at = |i: usize| philox::below(SEED, stream, step * n as u64 + i as u64, EXAMPLES as u64) as usize;
    (0..n).map(at).collect()
}

/// All rates of one way, and which of them ended lowest.
struct Tried {
    courses: Vec<Course>,
    best: usize,
}

impl Tried {
    fn last(&self, i: usize) -> f64 {
        self.courses[i].losses.last().copied().unwrap_or(f64::NAN)
    }

    fn losses(&self) -> &[f64] {
        &self.courses[self.best].losses
    }
}

fn write(page: &mut Page) -> Result<(), LessonError> {
    let (data, ways) = (Data::moons(), ways());
    let mut all = Vec::new();
    for way in &ways {
        let courses = RATES.map(|rate| train(page, &data, way, rate, START));
        let courses = courses.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut tried = Tried { courses, best: 0 };
        for i in 1..RATES.len() {
            if tried.last(i) < tried.last(tried.best) {
                tried.best = i;
            }
        }
        all.push(tried);
    }
    introduction(page, all[0].courses[0].parameters);
    grid(page, &ways, &all);
    steps(page, &ways, &all);
    starts(page, &data, &ways, &all)?;
    page.next(&["geartrain lesson scale", "geartrain explain adamw"]);
    Ok(())
}

fn introduction(page: &mut Page, parameters: usize) {
    page.paragraph(&format!(
        "The problem: {EXAMPLES} noisy points on two half moons that reach into each other. To which moon does a point \
         belong? One of the two coordinates has numbers ten times smaller than the other, as if it \
         were in centimetres and the other in millimetres, so the valley is steep in some directions and flat in others. The network: 2 → 16 → 16 → 2, \
         {parameters} parameters, always from the same start. Each way takes {STEPS} steps:",
    ));
    page.verbatim(
        "gradient descent   w -= rate * gradient, over all examples at once\n\
         mini-batches       the same over 32 examples, drawn anew for each step\n\
         + momentum         m = 0.9 * m + gradient,  w -= rate * m\n\
         Adam               as momentum, but each weight's step is divided by the\n                   \
         usual size of its own gradient\n\
         Adam + schedule    the rate rises for 40 steps, then falls to 0 as a cosine",
    );
}

/// The loss at the end, for every way and rate.
fn grid(page: &mut Page, ways: &[Way], all: &[Tried]) {
    page.heading("Each at its own rate");
    page.paragraph(
        "A rate that suits one way ruins another, so all of them get the same seven to choose from. This is the loss on \
         all examples after the last step:",
    );
    let mut columns = vec![column("loss at rate", Format::Text)];
    columns.extend(RATES.map(|rate| column(plain(rate), Format::Fixed(3))));
    columns.push(column("best", Format::Plain));
    let row = |(way, tried): (&Way, &Tried)| -> Vec<Cell> {
        let mut row = row![way.name];
        row.extend((0..RATES.len()).map(|i| Cell::from(tried.last(i))));
        row.push(RATES[tried.best].into());
        row
    };
    page.table("rates", &columns, &ways.iter().zip(all).map(row).collect::<Vec<_>>());
    let (rate, adam) = (all[4].best, &all[3]);
    page.paragraph(&format!(
        "Momentum gets from small rates what plain steps need ten times as much for, and runs away at a rate of 1. Adam \
         is not so particular: the same rates serve it over a wide range. The schedule does not make small rates \
         better, since it takes even smaller ones at the end; what it does is make a large one usable. At {} it ends at \
         {}, where Adam alone ends at {}.",
        plain(RATES[rate]),
        fixed(all[4].last(rate), 3),
        fixed(adam.last(rate), 3)
    ));
}

/// The loss on the way, at the best rate of each.
fn steps(page: &mut Page, ways: &[Way], all: &[Tried]) {
    let at = |tried: &Tried, step: u64| tried.losses()[(step / EVERY) as usize];
    page.heading("The way down");
    page.paragraph("At its best rate, after so many steps:");
    let mut columns = vec![column("loss after step", Format::Text)];
    columns.extend(SHOWN.map(|step| column(step.to_string(), Format::Fixed(3))));
    columns.push(column("examples read", Format::Whole));
    let row = |(way, tried): (&Way, &Tried)| -> Vec<Cell> {
        let mut row = row![way.name];
        row.extend(SHOWN.map(|step| Cell::from(at(tried, step))));
        row.push((STEPS * way.batch as u64).into());
        row
    };
    page.table("steps", &columns, &ways.iter().zip(all).map(row).collect::<Vec<_>>());
    let points =
        |tried: &Tried| tried.losses().iter().enumerate().map(|(i, l)| (EVERY as f64 * i as f64, *l)).collect();
    let line = |i: usize| (ways[i].name, points(&all[i]));
    let picture = |which: &[usize]| {
        let drawn = plot(&format!("loss (cut at {TOP})"), "step", which.iter().map(|i| line(*i)).collect());
        Picture { y: (0.0, TOP), ..drawn }
    };
    page.plots(&[picture(&[0, 1]), picture(&[2, 4])], 9);
    let same_work = STEPS * MINI as u64 / EXAMPLES as u64;
    page.paragraph(&format!(
        "Gradient descent reads eight times as many examples as the others for its {} at the end; for equal work it must \
         be compared at step {same_work}, where it stands at {}, and mini-batches end at {}. That is why nobody takes \
         all examples at once where there are many.",
        fixed(at(&all[0], STEPS), 3),
        fixed(at(&all[0], same_work), 3),
        fixed(at(&all[1], STEPS), 3)
    ));
}

/// The best rate of each way from other starts.
fn starts(page: &mut Page, data: &Data, ways: &[Way], all: &[Tried]) -> Result<(), LessonError> {
    page.heading("From other starts");
    page.paragraph(&format!(
        "One start proves little. The same rates from {} others, the loss at the end:",
        STARTS.len()
    ));
    let mut columns = vec![column("loss at the end", Format::Text)];
    columns.extend(["lowest", "middle", "highest"].map(|name| column(name, Format::Fixed(3))));
    let mut rows = Vec::new();
    for (way, tried) in ways.iter().zip(all) {
        let courses = STARTS.map(|start| train(page, data, way, RATES[tried.best], start));
        let mut ends = Vec::new();
        for course in courses {
            ends.extend(course?.losses.last().copied());
        }
        ends.sort_by(f64::total_cmp);
        rows.push(row![way.name, ends.first().copied(), ends.get(ends.len() / 2).copied(), ends.last().copied()]);
    }
    page.table("starts", &columns, &rows);
    page.paragraph(
        "Nor does one problem make a ranking. What can be taken along: compare ways only when each has had its own \
         rate, count the examples and not the steps alone, and lower the rate towards the end.",
    );
    Ok(())
}
