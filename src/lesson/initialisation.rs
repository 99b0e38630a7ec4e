//! Where training starts: equal weights stay equal, random ones do not; and what biases are for.

use geartrain_engine::{DType, Graph, Init};

use super::compute::known;
use super::network::{Outputs, Trained, step, train};
use super::page::{Cell, Format, column, plot, row};
use super::{Lesson, LessonError, Page, xor};

/// XOR from zeros, from equal weights and from random ones; with and without biases.
pub static LESSON: Lesson = Lesson {
    name: "initialisation",
    title: "Initialisation: why training starts from random numbers",
    network: None,
    write,
};

/// Learning rate and epochs of the XOR lesson.
const RATE: f64 = 0.5;
const EPOCHS: usize = 5000;

/// Random starts that are tried.
const SEEDS: u64 = 20;

/// Spread of random weights in the XOR lesson.
const SPREAD: f64 = 0.5;

/// A training of the XOR network from some start.
struct Course {
    losses: Vec<f64>,
    /// The first epoch from which on all four answers are right.
    learned: Option<usize>,
    trained: Trained,
}

fn course(init: Init, bias: bool, seed: u64) -> Result<Course, LessonError> {
    let g = Graph::new();
    step(&g, &xor::network(&g, DType::F64, [init.clone(), init], bias), RATE)?;
    let (mut losses, mut learned) = (Vec::new(), None);
    let trained = train(&g, seed, EPOCHS, |epoch| {
        losses.push(epoch.loss);
        learned = (epoch.correct == 4).then(|| learned.unwrap_or(epoch.epoch));
    })?;
    Ok(Course { losses, learned, trained })
}

fn write(page: &mut Page) -> Result<(), LessonError> {
    symmetry(page)?;
    spreads(page)?;
    biases(page)?;
    page.next(&["geartrain lesson xor"]);
    Ok(())
}

/// The trained W1 of a course, neuron by neuron.
fn columns_of(course: &Course) -> Vec<[f64; 2]> {
    let w = course.trained.state.get("W1").map(|w| w.to_f64()).unwrap_or_default();
    let half = w.len() / 2;
    (0..half).map(|i| [w[i], w[half + i]]).collect()
}

/// Zeros, one constant, random numbers.
fn symmetry(page: &mut Page) -> Result<(), LessonError> {
    let starts = [
        ("zeros", course(Init::ZEROS, true, 0)?),
        ("all 0.5", course(Init::Constant(0.5), true, 0)?),
        ("random", course(Init::Normal { std: SPREAD }, true, 0)?),
    ];
    page.paragraph(&format!(
        "The XOR network of the next lesson, 2 → 4 → 1, trained {EPOCHS} epochs at rate {RATE} from three starts: all \
         weights 0, all weights 0.5, and random weights with a standard deviation of {SPREAD}. Biases start at 0."
    ));
    let columns = [
        column("start", Format::Text),
        column("loss at 0", Format::Fixed(4)),
        column("1000", Format::Fixed(4)),
        column("2000", Format::Fixed(4)),
        column("end", Format::Fixed(4)),
        column("right", Format::Text),
    ];
    let row_of = |(name, c): &(&str, Course)| -> Vec<Cell> {
        let right = c.trained.before_last_update.iter().zip([false, true, true, false]);
        let right = right.filter(|(p, y)| (**p > 0.5) == *y).count();
        row![*name, c.losses[0], c.losses[1000], c.losses[2000], c.losses[EPOCHS - 1], format!("{right}/4")]
    };
    page.table("starts", &columns, &starts.iter().map(row_of).collect::<Vec<_>>());
    let points = |c: &Course| c.losses.iter().enumerate().map(|(i, loss)| (i as f64, *loss)).collect();
    page.plots(&[plot("loss", "epoch", starts.iter().map(|(name, c)| (*name, points(c))).collect())], 8);
    neurons(page, &starts);
    Ok(())
}

/// The weights that the hidden neurons ended with.
fn neurons(page: &mut Page, starts: &[(&str, Course)]) {
    page.paragraph(
        "Look at the two weights that each hidden neuron ended with. From equal weights every neuron computes the same, \
         gets the same gradient and takes the same step, epoch after epoch: four neurons that do the work of one. From \
         zeros nothing moves at all: every answer is 0.5, the four errors cancel, W2 stays 0, and through a W2 of 0 no \
         gradient reaches the first layer.",
    );
    let columns = [
        column("start", Format::Text),
        column("from", Format::Text),
        column("neuron 1", Format::Fixed(4)),
        column("neuron 2", Format::Fixed(4)),
        column("neuron 3", Format::Fixed(4)),
        column("neuron 4", Format::Fixed(4)),
        column("all alike to the bit", Format::Text),
    ];
    let mut rows = Vec::new();
    for (name, c) in starts {
        let neurons = columns_of(c);
        let alike = neurons.iter().all(|n| n.map(f64::to_bits) == neurons[0].map(f64::to_bits));
        for (input, from) in ["x1", "x2"].iter().enumerate() {
            let mut row = row![*name, *from];
            row.extend(neurons.iter().map(|n| Cell::from(n[input])));
            row.push(if alike { "yes".into() } else { "no".into() });
            rows.push(row);
        }
    }
    page.table("neurons", &columns, &rows);
}

/// How many of the random starts learn, and how fast in the middle.
struct Tried {
    learned: u64,
    median: Option<u64>,
    loss: f64,
    parameters: usize,
}

fn tried(spread: f64, bias: bool) -> Result<Tried, LessonError> {
    let (mut epochs, mut losses, mut parameters) = (Vec::new(), Vec::new(), 0);
    for seed in 1..=SEEDS {
        let course = course(Init::Normal { std: spread }, bias, seed)?;
        epochs.extend(course.learned.map(|epoch| epoch as u64));
        losses.push(course.losses[EPOCHS - 1]);
        parameters = course.trained.state.parameters();
    }
    epochs.sort_unstable();
    losses.sort_by(f64::total_cmp);
    let median = epochs.get(epochs.len() / 2).copied();
    Ok(Tried { learned: epochs.len() as u64, median, loss: losses[losses.len() / 2], parameters })
}

/// Too little and too much randomness.
fn spreads(page: &mut Page) -> Result<(), LessonError> {
    page.heading("How random?");
    page.paragraph(&format!(
        "{SEEDS} starts for each spread of the weights. Learned means: all four answers right, and so to the end. Too small, and {EPOCHS} epochs are not enough to tell the neurons \
         apart; too large, and the sigmoids begin in their flat parts, where no gradient comes through.",
    ));
    let columns = [
        column("standard deviation", Format::Plain),
        column("learned, of 20", Format::Whole),
        column("median epoch", Format::Whole),
        column("median loss at the end", Format::Fixed(4)),
    ];
    let mut rows = Vec::new();
    for spread in [0.01, 0.1, SPREAD, 2.0, 10.0, 50.0] {
        let tried = tried(spread, true)?;
        rows.push(row![spread, tried.learned, tried.median, tried.loss]);
    }
    page.table("spreads", &columns, &rows);
    Ok(())
}

/// The same with and without biases.
fn biases(page: &mut Page) -> Result<(), LessonError> {
    page.heading("Biases");
    page.paragraph(
        "A bias is a number that a neuron adds whatever its input; it moves the threshold. They may all start at 0, \
         since the weights already make the neurons different. Without it, a neuron must answer the input [0 0] with \
         sigmoid(0), whatever its weights. Where the right answer is another one, that is the end of it. Here a single \
         neuron learns \"and\", which is 1 for [1 1] alone; its answers to the four inputs:",
    );
    let columns = [
        column("one neuron", Format::Text),
        column("parameters", Format::Whole),
        column("loss at the end", Format::Fixed(4)),
        column("[0 0]", Format::Fixed(4)),
        column("[0 1]", Format::Fixed(4)),
        column("[1 0]", Format::Fixed(4)),
        column("[1 1]", Format::Fixed(4)),
    ];
    let mut rows = Vec::new();
    for (name, bias) in KINDS {
        let (loss, trained) = and(bias)?;
        let p = &trained.before_last_update;
        rows.push(row![name, trained.state.parameters(), loss, p[0], p[1], p[2], p[3]]);
    }
    page.table("and", &columns, &rows);
    page.paragraph(&format!(
        "A hidden layer makes up for much of it, since neurons can lend each other a threshold. The XOR network, from \
         {SEEDS} starts:",
    ));
    let columns = [
        column("network", Format::Text),
        column("parameters", Format::Whole),
        column("learned, of 20", Format::Whole),
        column("median epoch", Format::Whole),
        column("median loss at the end", Format::Fixed(4)),
    ];
    let mut rows = Vec::new();
    for (name, bias) in KINDS {
        let tried = tried(SPREAD, bias)?;
        rows.push(row![name, tried.parameters, tried.learned, tried.median, tried.loss]);
    }
    page.table("biases", &columns, &rows);
    Ok(())
}

/// With biases and without.
const KINDS: [(&str, bool); 2] = [("with bias", true), ("without", false)];

/// One neuron learns "and": the loss at the end, and its answers.
fn and(bias: bool) -> Result<(f64, Trained), LessonError> {
    let g = Graph::new();
    let x = known(&g, DType::F64, [4, 2], &[0., 0., 0., 1., 1., 0., 1., 1.]);
    let y = known(&g, DType::F64, [4, 1], &[0., 0., 0., 1.]);
    let z = x.matmul(g.parameter("W", DType::F64, [2, 1], Init::Normal { std: SPREAD }));
    let z = if bias { z + g.parameter("b", DType::F64, [1, 1], Init::ZEROS) } else { z };
    let a = z.sigmoid();
    let correct = a.greater(a.full(0.5)).cast(DType::F64).equal(y);
    step(&g, &Outputs { loss: a.mean_squared_error(y), predictions: a, correct }, RATE)?;
    let mut last = f64::NAN;
    let trained = train(&g, 0, EPOCHS, |epoch| last = epoch.loss)?;
    Ok((last, trained))
}
