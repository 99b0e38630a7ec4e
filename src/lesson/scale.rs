//! From 17 parameters to 405 billion: arithmetic, memory and time.

use geartrain_engine::{DType, Graph, State};
use geartrain_nn::optim::{self, AdamW};
use geartrain_nn::{Activation, Dropout, Gpt2, Mlp};
use geartrain_train::config::Config;
use geartrain_train::data;
use geartrain_train::trainer::Trainer;

use super::compute::compile;
use super::number::{duration, thousands};
use super::page::{Format, column, row};
use super::{Lesson, LessonError, Page};

/// The same training step at seven sizes.
pub static LESSON: Lesson = Lesson {
    name: "scale",
    title: "Scale: the same training step from 17 parameters to 405 billion",
    network: None,
    write,
};

/// Floating-point operations a second that the page reckons with.
const SPEED: f64 = 100e9;

/// A network and what its training takes.
struct Model {
    name: String,
    parameters: u64,
    /// Floating-point operations of a training step by the compiled program's own count, an example or token, where the
    /// network is small enough to compile here.
    counted: Option<f64>,
    /// Examples or tokens that the whole training reads.
    tokens: f64,
}

impl Model {
    /// The rule of thumb: 2 operations for each parameter forward, 4 backward.
    fn rule(&self) -> f64 {
        6.0 * self.parameters as f64
    }

    /// Operations of the whole training.
    fn training(&self) -> f64 {
        self.counted.unwrap_or(self.rule()) * self.tokens
    }
}

fn write(page: &mut Page) -> Result<(), LessonError> {
    let models = [
        lesson(page, "xor", "XOR, 2 → 4 → 1")?,
        lesson(page, "tokens", "tokens, 5 → 16 → 5")?,
        digits(page)?,
        names()?,
        gpt2()?,
        llama(),
    ];
    arithmetic(page, &models);
    memory(page, &models);
    time(page, &models);
    page.next(&["geartrain train", "geartrain explain xor"]);
    Ok(())
}

/// A network of the lessons, with the epochs that its lesson trains.
fn lesson(page: &Page, lesson: &str, name: &str) -> Result<Model, LessonError> {
    let network = super::network(lesson).ok_or_else(|| LessonError::Missing(lesson.to_string()))?;
    let g = network.graph(DType::F32)?;
    let state = State::new(&g, 0)?;
    let flops = compile(&g, &state, page)?.cost().flops as f64;
    let tokens = (network.epochs * network.examples) as f64;
    Ok(Model {
        name: name.to_string(),
        parameters: state.parameters() as u64,
        counted: Some(flops / network.examples as f64),
        tokens,
    })
}

/// A classifier of pictures of 8 x 8 pixels, one hidden layer of 256, ten classes; 100 passes over 1,797 pictures.
fn digits(page: &Page) -> Result<Model, LessonError> {
    const BATCH: usize = 64;
    let g = Graph::new();
    let (x, y) = (g.input("x", DType::F32, [BATCH, 64]), g.input("y", DType::U32, [BATCH]));
    let mlp = Mlp { sizes: vec![64, 256, 10], activation: Activation::Relu, bias: true };
    let loss = mlp.forward(x).cross_entropy(y).mean_all();
    optim::minimize(&g, loss, &AdamW { betas: (0.9, 0.999), eps: 1e-8, decay: 0.0 }, g.scalar("lr"), 0.0)?;
    let state = State::new(&g, 0)?;
    let flops = compile(&g, &state, page)?.cost().flops as f64;
    Ok(Model {
        name: "digits, 64 → 256 → 10".to_string(),
        parameters: state.parameters() as u64,
        counted: Some(flops / BATCH as f64),
        tokens: 100.0 * 1797.0,
    })
}

/// What `geartrain train` trains if nobody says otherwise.
fn names() -> Result<Model, LessonError> {
    let config = Config::build(None, &[("train.threads".to_string(), "1".to_string())])?;
    let steps = config.train.steps as f64;
    let name = format!("names, GPT-2 of {} × {}", config.model.layers, config.model.width);
    let names = data::load(&config)?;
    let trainer = Trainer::new(config, names)?;
    let tokens = trainer.reads().0 as f64;
    Ok(Model {
        name,
        parameters: trainer.parameters() as u64,
        counted: Some(trainer.cost().flops as f64 / tokens),
        tokens: steps * tokens,
    })
}

/// GPT-2 as it was published in 2019, the smallest of four; 20 tokens a parameter. Only its graph is built.
fn gpt2() -> Result<Model, LessonError> {
    let model = Gpt2::SMALL;
    let g = Graph::new();
    let tokens = g.input("tokens", DType::U32, [1, model.context]);
    g.output("logits", model.forward(&g, tokens, DType::F32, &Dropout::off()));
    g.check()?;
    let parameters: u64 = g.parameters().iter().map(|(_, entry)| entry.ty.shape.count() as u64).sum();
    Ok(Model {
        name: format!("GPT-2 of {} × {}", model.layers, model.width),
        parameters,
        counted: None,
        tokens: 20.0 * parameters as f64,
    })
}

/// Llama 3.1 405B by its published shape (Grattafiori et al., "The Llama 3 herd of models", 2024).
struct Llama {
    layers: u64,
    width: u64,
    heads: u64,
    kv_heads: u64,
    hidden: u64,
    vocab: u64,
    tokens: f64,
    /// The training as published: hours of one graphics processor, and how many there were.
    hours: f64,
    processors: f64,
}

const LLAMA: Llama = Llama {
    layers: 126,
    width: 16384,
    heads: 128,
    kv_heads: 8,
    hidden: 53248,
    vocab: 128256,
    tokens: 15.6e12,
    hours: 30.84e6,
    processors: 16_000.0,
};

impl Llama {
    /// Queries and outputs, keys and values, the three matrices of the feed-forward network, two norms.
    fn block(&self) -> [u64; 4] {
        let (c, kv) = (self.width, self.width / self.heads * self.kv_heads);
        [2 * c * c, 2 * c * kv, 3 * c * self.hidden, 2 * c]
    }

    /// Embedding, blocks, the last norm and the output matrix.
    fn parameters(&self) -> u64 {
        2 * self.vocab * self.width + self.layers * self.block().iter().sum::<u64>() + self.width
    }
}

fn llama() -> Model {
    Model { name: "Llama 3.1 405B".to_string(), parameters: LLAMA.parameters(), counted: None, tokens: LLAMA.tokens }
}

/// Parameters and operations.
fn arithmetic(page: &mut Page, models: &[Model]) {
    page.paragraph(
        "Forward, loss, backward, update: a training step is the same at every size. What grows is the number of \
         parameters N, and with it arithmetic, memory and time. In the forward pass each parameter takes part in one \
         multiplication and one addition a token; backward does it twice, once for the gradient of the weights and \
         once for that of the inputs. That makes 6 · N operations a token. The engine counts exactly, for each program \
         that it compiles:",
    );
    let columns = [
        column("network", Format::Text),
        column("parameters N", Format::Whole),
        column("6 · N", Format::Digits(3)),
        column("counted a token", Format::Digits(3)),
        column("ratio", Format::Fixed(2)),
    ];
    let rows: Vec<_> = models
        .iter()
        .map(|m| row![m.name.as_str(), m.parameters, m.rule(), m.counted, m.counted.map(|counted| counted / m.rule())])
        .collect();
    page.table("arithmetic", &columns, &rows);
    let [attention, kv, hidden, norms] = LLAMA.block();
    page.paragraph(
        "In small networks other things weigh as much: activations, the loss and the update add to the count, and the \
         first layer takes from it, because nobody needs the gradient of the data (4 operations a weight instead of 6, \
         which is most of the digits' network). In a transformer attention adds a little. (A token is an example where \
         there is no text. Without a count: too large to compile here.) The last row, from its published shape:",
    );
    let times = |part: &str| format!("{} × {part}", LLAMA.layers);
    let rows = [
        row!["embedding and output", "2 · vocab · width", 2 * LLAMA.vocab * LLAMA.width],
        row![times("queries, outputs"), "2 · width · width", LLAMA.layers * attention],
        row![times("keys, values"), "2 · width · width · kv / heads", LLAMA.layers * kv],
        row![times("feed-forward"), "3 · width · hidden", LLAMA.layers * hidden],
        row![times("norms, and the last"), "2 · width, and width", LLAMA.layers * norms + LLAMA.width],
        row!["together", "", LLAMA.parameters()],
    ];
    let columns = [column("part", Format::Text), column("each", Format::Text), column("parameters", Format::Whole)];
    page.table("llama", &columns, &rows);
    page.paragraph(&format!(
        "With vocab = {}, width = {}, hidden = {}, {} layers, {} heads for queries and {} for keys and values.",
        LLAMA.vocab, LLAMA.width, LLAMA.hidden, LLAMA.layers, LLAMA.heads, LLAMA.kv_heads
    ));
}

/// Bytes in f32.
fn memory(page: &mut Page, models: &[Model]) {
    page.heading("Memory");
    page.paragraph(
        "In f32 a number takes 4 bytes. Training keeps each weight, its gradient, and for Adam two moments: 16 bytes a \
         parameter, before a single value between the layers is stored.",
    );
    let columns = [
        column("network", Format::Text),
        column("weights", Format::Bytes),
        column("gradients", Format::Bytes),
        column("Adam's moments", Format::Bytes),
        column("together", Format::Bytes),
    ];
    let rows = models
        .iter()
        .map(|m| row![m.name.as_str(), 4 * m.parameters, 4 * m.parameters, 8 * m.parameters, 16 * m.parameters]);
    page.table("memory", &columns, &rows.collect::<Vec<_>>());
}

/// How long the whole training takes.
fn time(page: &mut Page, models: &[Model]) {
    page.heading("Time");
    page.paragraph(&format!(
        "Let a computer do {} billion operations a second, about what one fast core reaches in matrix products \
         (`geartrain bench mlp` measures yours). Small networks do not come near that, since calls and memory take their \
         time, so these are lower bounds.",
        SPEED / 1e9
    ));
    let columns = [
        column("network", Format::Text),
        column("tokens read", Format::Digits(3)),
        column("operations", Format::Digits(3)),
        column("time", Format::Seconds),
    ];
    let rows: Vec<_> =
        models.iter().map(|m| row![m.name.as_str(), m.tokens, m.training(), m.training() / SPEED]).collect();
    page.table("time", &columns, &rows);
    let last = models.last().map_or(0.0, |m| m.training() / SPEED);
    page.paragraph(&format!(
        "Tokens read: as in the lessons and in `geartrain train`; digits, 100 passes over 1,797 pictures; GPT-2, 20 for \
         each parameter, as Hoffmann et al. (2022) advise; Llama as published. What would take this computer {} was done \
         by {} graphics processors in {}. The algorithm is the one that you have seen.",
        duration(last),
        thousands(LLAMA.processors as usize),
        duration(LLAMA.hours * 3600.0 / LLAMA.processors)
    ));
}
