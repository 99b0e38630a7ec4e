//! How a run is told: JSON lines for programs; a bar, or plain lines where no terminal is, for people.

use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::time::Instant;

use geartrain::train::metrics::{Evaluation, Line};
use geartrain::train::session::Watch;
use geartrain::train::trainer::Trainer;
use geartrain::train::{Error, Error as Warning};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{complain, duration, line, thousands};
use super::{Failure, Outcome};

/// One JSON object a line.
#[derive(Default)]
pub struct Json {
    failed: Option<Failure>,
}

impl Json {
    /// The first line that could not be written.
    pub fn closed(self) -> Outcome {
        self.failed.map_or(Ok(()), Err)
    }
}

impl Watch for Json {
    fn start(&mut self, trainer: &Trainer, _: &Path, _: u64, _: u64) {
        warn_of(trainer);
    }
    fn line(&mut self, told: &Line) {
        if self.failed.is_none() {
            self.failed = line(&told.json()).err();
        }
    }
    fn step(&mut self, _: u64, _: f64, _: f64) {}
    fn saved(&mut self, _: u64) {}
    fn warn(&mut self, warning: &Warning) {
        complain(&format!("warning: {warning}"));
    }
}

/// Tells what looks like a mistake in the data.
fn warn_of(trainer: &Trainer) {
    trainer.data().warnings().iter().for_each(|warning| complain(&format!("warning: {warning}")));
}

/// An evaluation, for people.
fn evaluated(e: &Evaluation) -> String {
    let part = |name: &str, value: Option<f64>| value.map_or(String::new(), |value| format!("  {name} {value:.4}"));
    let (accuracy, rmse, r2) = (part("accuracy", e.val_accuracy), part("RMSE", e.val_rmse), part("R²", e.val_r2));
    format!("step {:>6}  validation loss {:.4}{accuracy}{rmse}{r2}", e.step, e.val_loss)
}

/// A progress bar on a terminal, else a plain line now and then.
pub struct People {
    bar: Option<ProgressBar>,
    terminal: bool,
    reads: (usize, &'static str),
    started: Instant,
    first: u64,
    end: u64,
    next_plain: u64,
}

impl People {
    /// Nothing is shown before the run starts.
    pub fn new() -> People {
        let terminal = stderr().is_terminal();
        People { bar: None, terminal, reads: (0, ""), started: Instant::now(), first: 0, end: 0, next_plain: 0 }
    }

    /// Takes the bar away.
    pub fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| {
                let _ = line(text);
            }),
            None => {
                let _ = line(text);
            }
        }
    }

    fn speed(&self, done: u64) -> (f64, f64) {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let steps = (done - self.first) as f64;
        let left = (self.end - done) as f64 * seconds / steps.max(1.0);
        (steps * self.reads.0 as f64 / seconds, left)
    }
}

impl Watch for People {
    fn start(&mut self, trainer: &Trainer, folder: &Path, done: u64, end: u64) {
        let cost = trainer.cost();
        let kind = trainer.config().model.kind.name();
        self.say(&format!(
            "{kind} with {} parameters on {}",
            thousands(trainer.parameters()),
            trainer.data().summary()
        ));
        warn_of(trainer);
        trainer.data().notes().iter().for_each(|note| self.say(note));
        let (read, what) = trainer.reads();
        self.say(&format!(
            "a step: {} {what}s, {:.1} MFLOP, {:.1} MiB of values, {:.1} MiB of state",
            thousands(read),
            cost.flops as f64 / 1e6,
            cost.arena_bytes as f64 / 1048576.0,
            cost.state_bytes as f64 / 1048576.0
        ));
        let steps = if done < end { format!("steps {} to {end}", done + 1) } else { "no step is left".to_string() };
        self.say(&format!("{steps}, run folder {}", folder.display()));
        (self.reads, self.first, self.end, self.started) = (trainer.reads(), done, end, Instant::now());
        self.next_plain = done + 1;
        if self.terminal {
            let bar = ProgressBar::with_draw_target(Some(end), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}") {
                bar.set_style(style);
            }
            bar.set_position(done);
            self.bar = Some(bar);
        }
    }

    fn line(&mut self, told: &Line) {
        match told {
            Line::Evaluation(e) => self.say(&evaluated(e)),
            Line::Confusion(confusion) => {
                self.close();
                self.say(&confusion.table());
            }
            Line::Sample(s) => {
                self.close();
                self.say(&s.sample);
            }
            Line::Train(_) | Line::Layers(_) | Line::Done(_) => {}
        }
    }

    fn step(&mut self, done: u64, loss: f64, lr: f64) {
        let (speed, left) = self.speed(done);
        let speed = thousands(speed as usize);
        let message = format!("loss {loss:.4}  rate {lr:.2e}  {speed} {}s/s  {} left", self.reads.1, duration(left));
        match &self.bar {
            Some(bar) => {
                bar.set_message(message);
                bar.set_position(done);
            }
            None if done >= self.next_plain || done == self.end => {
                self.say(&format!("step {done:>6}  {message}"));
                // About twenty lines a run.
                let stride = (self.end / 20).max(1);
                self.next_plain = (done / stride + 1) * stride;
            }
            None => {}
        }
    }

    fn saved(&mut self, step: u64) {
        self.say(&format!("saved step {step}"));
    }

    fn warn(&mut self, warning: &Error) {
        complain(&format!("warning: {warning}"));
    }
}
