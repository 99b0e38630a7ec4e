//! A small GPT-2 learns what first names look like from the 3,007 names that come with the crate, then invents some.
//!
//!     cargo run --release --example names
//!
//! Prints the training loss every 50 steps, the loss on names it never saw, and ten names it wrote.

use geartrain::train::config::{Config, DataKind};
use geartrain::train::data::{Corpus, TextData, names};
use geartrain::train::sample::{Choice, Writer};
use geartrain::train::trainer::Trainer;

const STEPS: u64 = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The keys of `geartrain train --set`, smaller than their defaults.
    let mut config = Config::defaults(DataKind::Names);
    for (key, value) in [("layers", "2"), ("heads", "4"), ("width", "64"), ("context", "32")] {
        config.set(&format!("model.{key}"), value)?;
    }
    config.set("train.batch", "16")?;
    config.set("train.steps", &STEPS.to_string())?;
    config.set("optimizer.lr", "0.005")?;
    config.check()?;

    let corpus = Corpus::load(&config, None)?;
    let tokenizer = corpus.tokenizer.clone();
    let data = TextData::new(&config, corpus);
    let mut trainer = Trainer::new(config, Box::new(data))?;
    println!("{} parameters", trainer.parameters());
    for step in 0..STEPS {
        let done = trainer.step(step)?;
        if (step + 1) % 50 == 0 {
            println!("step {:3}   loss {:.4} nats a character", step + 1, done.loss);
        }
    }
    if let Some(scores) = trainer.evaluate()? {
        println!("names it never saw: {:.4}", scores.loss);
    }

    // A name begins after the end of a line, and ends with one.
    let end = tokenizer.encode("\n")?;
    let mut writer = Writer::new(trainer.config(), trainer.state(), tokenizer.vocab_size())?;
    let choice = Choice { temperature: 0.8, ..Choice::default() };
    let known = names();
    for _ in 0..10 {
        let mut tokens = end.clone();
        while tokens.len() == 1 || (!tokens.ends_with(&end) && tokens.len() < 20) {
            tokens.push(writer.next(trainer.state(), &tokens, &choice)?);
        }
        let text = tokenizer.decode(&tokens);
        let name = text.trim();
        println!("  {name}{}", if known.lines().any(|line| line == name) { "   (a known name)" } else { "" });
    }
    Ok(())
}
