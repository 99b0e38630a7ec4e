//! `train` and `resume`.

use std::path::{Path, PathBuf};

use clap::Args;
use geartrain::train::config::{Config, split_set};
use geartrain::train::interrupt::Interrupt;
use geartrain::train::model::Task;
use geartrain::train::session::{self, Session};
use geartrain::train::{Error, chart};

use super::output::{complain, duration, line};
use super::progress::{Json, People};
use super::{Failure, Outcome};

/// What `train` takes.
#[derive(Args)]
#[command(after_long_help = super::keys())]
pub struct TrainArgs {
    /// A UTF-8 text file, a folder of them, or a .csv, .tsv or .npy table; left out: 3,007 English first names
    data: Option<PathBuf>,
    /// The column of a table that is learned; of X.npy, the file with its targets
    #[arg(long, value_name = "COLUMN")]
    target: Option<String>,
    /// The network: gpt2, ngram, rnn or gru for a text, mlp for a table
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A TOML file with configuration keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one configuration key; `train --help` lists them all
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Planned training steps
    #[arg(long, value_name = "N")]
    steps: Option<String>,
    /// Windows of text, or rows of a table, that a step reads
    #[arg(long, value_name = "N")]
    batch: Option<String>,
    /// Tokens that the model sees at once
    #[arg(long, value_name = "N")]
    context: Option<String>,
    /// The highest learning rate
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<String>,
    /// Stop at this step; the schedule stays as planned, and `resume` goes on
    #[arg(long, value_name = "N")]
    until: Option<u64>,
    /// Seed of the initial weights, the data order and dropout
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// Threads; they change no result
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// The run folder, new or empty; left out: the next free one in runs/
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also write an event file for TensorBoard into the run folder
    #[arg(long)]
    tensorboard: bool,
    /// Print one JSON object a line, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

/// What `resume` takes.
#[derive(Args)]
pub struct ResumeArgs {
    /// The run folder
    run: PathBuf,
    /// Stop at this step
    #[arg(long, value_name = "N")]
    until: Option<u64>,
    /// Threads; they change no result
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// Where the data is now, if it was moved
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Where the targets of an array are now
    #[arg(long, value_name = "FILE")]
    target: Option<String>,
    /// Also write an event file for TensorBoard into the run folder, from the first step on
    #[arg(long)]
    tensorboard: bool,
    /// Print one JSON object a line, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

/// Trains a new run.
pub fn train(args: &TrainArgs) -> Outcome {
    let mut sets: Vec<(String, String)> = Vec::new();
    let path = args.data.as_ref().map(|p| p.to_string_lossy().into_owned());
    let flags = [
        ("data.path", &path),
        ("data.target", &args.target),
        ("model.kind", &args.model),
        ("train.steps", &args.steps),
        ("train.batch", &args.batch),
        ("model.context", &args.context),
        ("optimizer.lr", &args.lr),
        ("train.seed", &args.seed),
        ("train.threads", &args.threads),
    ];
    for set in &args.sets {
        sets.push(split_set(set)?);
    }
    if args.tensorboard {
        sets.push(("train.tensorboard".to_string(), "true".to_string()));
    }
    sets.extend(flags.iter().filter_map(|(key, value)| value.as_ref().map(|v| (key.to_string(), v.clone()))));
    let config = Config::build(args.config.as_deref(), &sets)?;
    let session = Session::create(config, args.out.as_deref())?;
    finish(session, args.until, args.json)
}

/// Goes on with a run.
pub fn resume(args: &ResumeArgs) -> Outcome {
    let mut sets = Vec::new();
    if let Some(threads) = &args.threads {
        sets.push(("train.threads".to_string(), threads.clone()));
    }
    if let Some(target) = &args.target {
        sets.push(("data.target".to_string(), target.clone()));
    }
    if let Some(data) = &args.data {
        sets.push(("data.path".to_string(), data.to_string_lossy().into_owned()));
    }
    if args.tensorboard {
        sets.push(("train.tensorboard".to_string(), "true".to_string()));
    }
    let (session, warnings) = Session::resume(&args.run, &sets)?;
    for warning in warnings {
        complain(&format!("warning: {warning}"));
    }
    finish(session, args.until, args.json)
}

fn finish(session: Session, until: Option<u64>, json: bool) -> Outcome {
    let interrupt = Interrupt::install()?;
    let task = session.trainer().data().encoder().task();
    let outcome = if json {
        let mut watch = Json::default();
        let outcome = session.run(until, &interrupt, &mut watch);
        watch.closed()?;
        outcome?
    } else {
        let mut watch = People::new();
        let outcome = session.run(until, &interrupt, &mut watch);
        watch.close();
        outcome?
    };
    if !json {
        report(&outcome, &task)?;
    }
    match outcome.interrupted {
        Some(code) => Err(Failure::Interrupted(code)),
        None => Ok(()),
    }
}

/// The end of a run, for people.
fn report(outcome: &session::Outcome, task: &Task) -> Outcome {
    let run = show(&outcome.folder);
    line("")?;
    line(&chart::chart(&outcome.curve, task.loss_label(), chart::WIDTH, chart::HEIGHT))?;
    if let Some(waiting) = outcome.stopped_early {
        let evaluations = if waiting.waited == 1 { "evaluation" } else { "evaluations" };
        line(&format!(
            "stopped early at step {}: no improvement over step {} for {} {evaluations}",
            outcome.steps, waiting.step, waiting.waited
        ))?;
    }
    line(&summary(outcome))?;
    line(&format!("run folder: {run}"))?;
    let unfinished = outcome.steps < outcome.planned && outcome.stopped_early.is_none();
    match outcome.interrupted {
        Some(_) => line(&format!("stopped; go on with: geartrain resume {run}")),
        None if unfinished => line(&format!("go on with: geartrain resume {run}")),
        None => match task {
            Task::Tokens { .. } => line(&format!("next: geartrain generate {run} --prompt \"...\"")),
            Task::Rows(_) => line(&format!("next: geartrain predict {run} FILE")),
        },
    }
}

/// How many steps in which time, and how well the model does.
fn summary(outcome: &session::Outcome) -> String {
    let steps = |n: u64| format!("{n} step{}", if n == 1 { "" } else { "s" });
    let time = duration(outcome.seconds);
    let mut text = match (outcome.steps - outcome.began, outcome.began) {
        (0, _) => format!("{}, all done before", steps(outcome.steps)),
        (now, 0) => format!("{} in {time}", steps(now)),
        (now, _) => format!("{} in {time}, {} in all", steps(now), outcome.steps),
    };
    let Some(scores) = &outcome.scores else { return text };
    let best = outcome.best.filter(|best| best.step != outcome.steps);
    text += &format!(", validation {}", scores.words());
    match best {
        Some(best) if outcome.stopped_early.is_some() => text += &format!(" at step {}", best.step),
        // Losses that hardly differ are no news.
        Some(best) if best.val_loss < 0.98 * scores.loss => {
            let (loss, step) = (best.val_loss, best.step);
            text += &format!(
                "\nit was lower before: {loss:.4} at step {step}; fewer --steps, or --set train.patience=3, would keep that"
            );
        }
        _ => {}
    }
    text
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// An error when the output was closed is no error of the run.
impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        Failure::Error(error.clone())
    }
}
