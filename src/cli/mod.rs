//! One file a command; here: the commands, how errors are printed, and exit codes.

mod bench;
mod check;
mod explain;
mod generate;
mod lesson;
mod output;
mod predict;
mod progress;
mod train;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use geartrain::train::config::keys_help;
use geartrain::train::{Error, ErrorKind as Kind};

/// Trains neural networks on a CPU and lets you see every gradient.
#[derive(Parser)]
#[command(name = "geartrain", version, disable_help_subcommand = false, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the run failed, 2 usage or configuration, 3 a number became infinite or \
not a number,\n4 no checkpoint that can be loaded, 70 a bug of ours, 130 and 143 after Ctrl-C and SIGTERM (both save first).";

#[derive(Subcommand)]
enum Command {
    /// Train a language model on a text or the embedded names, or a classifier or regression on a table
    Train(train::TrainArgs),
    /// Finish a run as it was planned, from its newest checkpoint
    Resume(train::ResumeArgs),
    /// Let a trained model continue a text; after early stopping, its best checkpoint, else its newest
    Generate(generate::GenerateArgs),
    /// Answer for every row of a table with a trained model
    Predict(predict::PredictArgs),
    /// Measure the loss of a trained model on its validation part, or on other data; with the same checkpoint
    Eval(generate::EvalArgs),
    /// Read a lesson: how networks learn, with every number computed as it is printed
    Lesson(lesson::LessonArgs),
    /// Print a network's forward pass, derived backward pass and update, line by line
    Explain(explain::ExplainArgs),
    /// Check derivatives against numeric differences
    Gradcheck(check::GradcheckArgs),
    /// Measure how fast the engine trains, alone or in turn with another framework
    Bench(bench::BenchArgs),
}

/// Why a command ended without success.
pub enum Failure {
    /// An error to print.
    Error(Error),
    /// A signal asked for it; everything is saved.
    Interrupted(i32),
    /// The reader of our output went away: nothing to say.
    ClosedPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

/// What a command gives back.
pub type Outcome = Result<(), Failure>;

/// Runs the command line and gives its exit code.
pub fn run() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        let hint = "please report it with the command that you ran";
        output::complain(&format!("geartrain has a bug: {info}\n\nhint: {hint}"));
    }));
    match std::panic::catch_unwind(dispatch) {
        Ok(code) => code,
        Err(_) => ExitCode::from(70),
    }
}

fn dispatch() -> ExitCode {
    let parsed = Cli::try_parse();
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::complain(error.to_string().trim_end());
            return ExitCode::from(2);
        }
        Err(error) if error.use_stderr() => return fail(&usage(&error.to_string())),
        Err(help) => return exit(output::print(&help.to_string())),
    };
    exit(run_command(&cli.command))
}

fn run_command(command: &Command) -> Outcome {
    match command {
        Command::Train(args) => train::train(args),
        Command::Resume(args) => train::resume(args),
        Command::Generate(args) => generate::generate(args),
        Command::Predict(args) => predict::predict(args),
        Command::Eval(args) => generate::eval(args),
        Command::Lesson(args) => lesson::lesson(args),
        Command::Explain(args) => explain::explain(args),
        Command::Gradcheck(args) => check::gradcheck(args),
        Command::Bench(args) => bench::bench(args),
    }
}

/// The exit code of how a command ended, after its error was printed.
fn exit(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Interrupted(code)) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(Failure::Error(error)) => fail(&error),
    }
}

/// Prints an error and its hint, and gives its exit code.
fn fail(error: &Error) -> ExitCode {
    let command = std::env::args_os().nth(1).and_then(|name| name.into_string().ok());
    let command = command.filter(|name| Cli::command().find_subcommand(name).is_some());
    let help = format!("`geartrain {} --help` lists what can be given", command.as_deref().unwrap_or("COMMAND"));
    let hint = match (&error.hint, error.kind) {
        (Some(hint), _) => Some(hint.as_str()),
        (None, Kind::Usage) => Some(help.as_str()),
        (None, _) => None,
    };
    output::complain(&format!("error: {error}"));
    if let Some(hint) = hint {
        output::complain(&format!("\nhint: {hint}"));
    }
    ExitCode::from(error.exit_code())
}

/// What the parser of the command line says, in the form of all our errors: its first paragraph, and its tip as a hint.
fn usage(text: &str) -> Error {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    let what: Vec<&str> = paragraph.lines().map(str::trim).collect();
    // How to pass what looks like a flag as a value is never what was meant.
    let tip =
        text.lines().find_map(|line| line.trim().strip_prefix("tip: ")).filter(|tip| !tip.starts_with("to pass "));
    let error = Error::usage(what.join(" "));
    match tip {
        Some(tip) => error.hint(tip),
        None => error,
    }
}

/// The configuration keys, for the help of commands that take `--set`.
fn keys() -> String {
    format!("Configuration keys, for --set KEY=VALUE and --config FILE:\n\n{}", keys_help())
}

/// Makes sure that the definition of the command line is sound; clap checks it in debug builds.
#[test]
fn definition_is_sound() {
    Cli::command().debug_assert();
}
