//! `generate` and `eval`.

use std::path::PathBuf;

use clap::Args;
use geartrain::train::Error;
use geartrain::train::data::encoder_as;
use geartrain::train::metrics::{Evaluation, Line};
use geartrain::train::sample::{Choice, Writer};
use geartrain::train::session::Trained;
use geartrain::train::tokenizer::Tokenizer;

use super::Outcome;
use super::output::{complain, line, print};

/// What `generate` takes.
#[derive(Args)]
pub struct GenerateArgs {
    /// The run folder
    run: PathBuf,
    /// The text to continue
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Tokens to write
    #[arg(long, value_name = "N", default_value_t = 200)]
    tokens: usize,
    /// Divides the logits; 0 always takes the most likely token
    #[arg(long, value_name = "X", default_value_t = 0.8, allow_negative_numbers = true)]
    temperature: f64,
    /// Only this many of the most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Only the most likely tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// What `eval` takes.
#[derive(Args)]
pub struct EvalArgs {
    /// The run folder
    run: PathBuf,
    /// Another text or table; left out: the validation part of the run's own
    data: Option<PathBuf>,
    /// The targets of another array
    #[arg(long, value_name = "FILE")]
    target: Option<String>,
    /// Threads; they change no result
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// Print one JSON object; of classes a second one with the confusion matrix
    #[arg(long)]
    json: bool,
}

/// Continues a text.
pub fn generate(args: &GenerateArgs) -> Outcome {
    let choice = Choice { temperature: args.temperature, top_k: args.top_k, top_p: args.top_p, seed: args.seed };
    choice.check()?;
    let trained = open(&args.run, &[])?;
    let tokenizer: &Tokenizer = encoder_as(&*trained.encoder)?;
    let mut tokens = tokenizer.encode(&args.prompt)?;
    if tokens.is_empty() {
        // A text begins where a line begins, if the model knows lines.
        tokens = tokenizer.encode("\n").unwrap_or_else(|_| vec![0]);
    }
    print(&args.prompt)?;
    let mut writer = Writer::new(&trained.config, &trained.state, tokenizer.vocab_size())?;
    // A character may take several byte tokens: only what can be decoded for sure is printed.
    let (from, mut shown) = (tokens.len(), 0);
    for _ in 0..args.tokens {
        let next = writer.next(&trained.state, &tokens, &choice)?;
        tokens.push(next);
        let text = tokenizer.decode(&tokens[from..]);
        let whole = text.trim_end_matches('\u{fffd}').len();
        if whole > shown {
            print(&text[shown..whole])?;
            shown = whole;
        }
    }
    line("")
}

/// Measures a loss.
pub fn eval(args: &EvalArgs) -> Outcome {
    let sets: Vec<(String, String)> = args.threads.iter().map(|n| ("train.threads".to_string(), n.clone())).collect();
    let trained = open(&args.run, &sets)?;
    let scores = trained.evaluate(args.data.as_deref(), args.target.as_deref())?;
    if args.json {
        line(&Line::from(Evaluation::new(trained.step, &scores)).json())?;
        return scores.confusion().map_or(Ok(()), |confusion| line(&Line::from(confusion.clone()).json()));
    }
    match &scores.fit {
        None => line(&format!("step {}: loss {} nats a token", trained.step, scores.loss)),
        Some(fit) => line(&format!("step {}: loss {}, {}", trained.step, scores.loss, fit.words())),
    }?;
    scores.confusion().map_or(Ok(()), |confusion| line(&confusion.table()))
}

/// Opens a run and tells of its damaged checkpoints.
pub fn open(run: &std::path::Path, sets: &[(String, String)]) -> Result<Trained, Error> {
    let trained = Trained::open(run, sets)?;
    for warning in &trained.warnings {
        complain(&format!("warning: {warning}"));
    }
    Ok(trained)
}
