//! A network learns which word follows which in one sentence, then writes the sentence.
//!
//!     cargo run --release --example tokens
//!
//! Prints the loss every 50 steps, then the sentence word by word, each with its probability.

use geartrain::nn::{Activation, Embedding, Mlp};
use geartrain::optim::{self, AdamW, Optimizer};
use geartrain::{DType, Graph, Init, Options, Program, State, Var};

const WORDS: [&str; 5] = ["The", "capital", "of", "France", "Paris"];

/// Logits (N, 5) of the words that follow N words: a vector for each word, then a layer with GELU.
fn logits<'g>(g: &'g Graph, words: Var<'g>) -> Var<'g> {
    let table = Embedding { rows: WORDS.len(), width: 8, init: Init::Normal { std: 0.5 } };
    let mlp = Mlp { sizes: vec![8, 16, WORDS.len()], activation: Activation::GeluTanh, bias: true };
    mlp.forward(table.table("words", g, DType::F32).gather(words))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let g = Graph::new();
    let (words, next) = (g.input("words", DType::U32, [4]), g.input("next", DType::U32, [4]));
    let loss = logits(&g, words).cross_entropy(next).mean_all();
    let adamw = AdamW { betas: (0.9, 0.99), eps: 1e-8, decay: 0.0 };
    optim::minimize(&g, loss, &adamw, g.number(DType::F64, 0.01), 0.0)?;
    g.output("loss", loss);

    let mut state = State::new(&g, 0)?;
    println!("{} parameters", state.parameters());
    let mut training = Program::compile(&g, &state, Options::default())?;
    let mut batch = training.batch();
    batch.u32s("words")?.copy_from_slice(&[0, 1, 2, 3]);
    batch.u32s("next")?.copy_from_slice(&[1, 2, 3, 4]);
    for step in 0..=200 {
        // AdamW divides its means by these numbers, because they start at 0.
        let (c1, c2) = adamw.corrections(step + 1);
        batch.set_scalar("c1", c1)?;
        batch.set_scalar("c2", c2)?;
        training.run(&mut state, &batch)?;
        if step % 50 == 0 {
            println!("step {step:3}   loss {:.6}", training.scalar("loss").unwrap_or(f64::NAN));
        }
    }

    // Another program over the same parameters, which it finds by name: one word in, one word out.
    let g = Graph::new();
    let probabilities = logits(&g, g.input("word", DType::U32, [1])).softmax();
    g.output("probability", probabilities.max(1));
    g.output("answer", probabilities.argmax());
    let mut writing = Program::compile(&g, &state, Options::default())?;
    let mut batch = writing.batch();
    print!("{}", WORDS[0]);
    for _ in 1..WORDS.len() {
        writing.evaluate(&state, &batch)?;
        let (Some(answer), Some(p)) = (writing.scalar("answer"), writing.scalar("probability")) else { break };
        print!(" {} ({:.1} %)", WORDS[answer as usize], 100.0 * p);
        batch.u32s("word")?[0] = answer as u32;
    }
    println!();
    Ok(())
}
