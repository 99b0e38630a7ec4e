//! A run from start to end: the loop with its evaluations, checkpoints and metrics, and going on after any interruption.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::checkpoint::{self, Best, Meta};
use crate::config::{Config, TokenizerSource};
use crate::curve::Curve;
use crate::data::{self, Dataset, Encoder, Part};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::metrics::{self, Done, Evaluation, Line, Metrics, Sample, Train};
use crate::run_folder::{Loaded, RunFolder};
use crate::trainer::{Evaluator, Scores, Trainer};
use crate::{model, plot};

/// Steps between two lines about training.
const EVERY: u64 = 10;

/// Who is told how a run goes.
pub trait Watch {
    /// The model stands and the first step is about to run.
    fn start(&mut self, trainer: &Trainer, folder: &Path, done: u64, end: u64);
    /// A line for the metrics.
    fn line(&mut self, line: &Line);
    /// A step is done; told for every step.
    fn step(&mut self, done: u64, loss: f64, lr: f64);
    /// A checkpoint is safe on disk.
    fn saved(&mut self, step: u64);
    /// Something that does not end the run.
    fn warn(&mut self, warning: &Error);
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps done.
    pub steps: u64,
    /// How well it did on the validation part at the end.
    pub scores: Option<Scores>,
    /// The run folder.
    pub folder: PathBuf,
    /// Training and validation loss by step.
    pub curve: Curve,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// The exit code that a signal asked for.
    pub interrupted: Option<i32>,
}

/// A run that is open for writing.
pub struct Session {
    trainer: Trainer,
    folder: RunFolder,
    metrics: Metrics,
    done: u64,
    best: Option<Best>,
    /// The step of the newest checkpoint.
    saved: Option<u64>,
}

impl Session {
    /// Starts a run in a new folder: `out`, or the next free one below `runs`.
    ///
    /// # Errors
    /// Data or a configuration that cannot be used; a folder that is not empty.
    pub fn create(mut config: Config, out: Option<&Path>) -> Result<Session> {
        let data = data::load(&config)?;
        let full = |path: &String| match std::fs::canonicalize(path) {
            Ok(full) => Ok(full.to_string_lossy().into_owned()),
            Err(reason) => Err(Error::io("find", Path::new(path), &reason)),
        };
        config.data.path = config.data.path.as_ref().map(full).transpose()?;
        if let TokenizerSource::File(path) = &mut config.data.tokenizer {
            *path = full(path)?;
        }
        let name = data.name().to_string();
        let kind = config.model.kind.name();
        let trainer = Trainer::new(config, data)?;
        let folder = match out {
            Some(path) => RunFolder::create_at(path)?,
            None => RunFolder::create(Path::new("runs"), &name, kind)?,
        };
        let encoder = trainer.data().encoder();
        folder.write(&folder.path().join(encoder.kind().encoder), &encoder.to_json())?;
        folder.write(&folder.config_path(), &trainer.config().resolved())?;
        let metrics = Metrics::create(&folder.metrics_path())?;
        Ok(Session { trainer, folder, metrics, done: 0, best: None, saved: None })
    }

    /// Opens a run to go on from its newest checkpoint that verifies. `sets` override `data.path` and `train.threads`.
    /// Gives the session and a warning for each damaged checkpoint.
    ///
    /// # Errors
    /// No such run or no usable checkpoint; data or tokenizer that changed; another version of the numbers.
    pub fn resume(path: &Path, sets: &[(String, String)]) -> Result<(Session, Vec<Error>)> {
        let folder = RunFolder::open(path)?;
        let config = Config::build(Some(&folder.config_path()), sets)?;
        let loaded = folder.newest(None)?;
        let data = data::load_with(&config, data::encoder_of(folder.path())?)?;
        check_same(&config, &*data, &loaded)?;
        let mut trainer = Trainer::new(config, data)?;
        checkpoint::load_into(trainer.state_mut(), &loaded.tensors)?;
        let done = loaded.meta.step;
        let metrics = Metrics::resume(&folder.metrics_path(), done)?;
        let session = Session { trainer, folder, metrics, done, best: loaded.meta.best, saved: Some(done) };
        Ok((session, loaded.passed_over))
    }

    /// Trains to the planned end, or to step `until` if that comes first.
    ///
    /// # Errors
    /// A number that is not finite (the last good state is saved); files that cannot be written.
    pub fn run(mut self, until: Option<u64>, interrupt: &Interrupt, watch: &mut dyn Watch) -> Result<Outcome> {
        let planned = self.trainer.config().train.steps;
        let end = until.unwrap_or(planned).min(planned);
        watch.start(&self.trainer, self.folder.path(), self.done, end);
        let mut curve = Curve::of(&metrics::read(&self.folder.metrics_path())?);
        let (mut time, mut since, mut last_line) = (Duration::ZERO, Duration::ZERO, self.done);
        let (mut scores, mut evaluated) = (None, None);
        while self.done < end && interrupt.requested().is_none() {
            let start = Instant::now();
            let step = match self.trainer.step(self.done) {
                Ok(step) => step,
                Err(error) => return Err(self.rescue(error, watch)),
            };
            let spent = start.elapsed();
            (time, since) = (time + spent, since + spent);
            self.done += 1;
            watch.step(self.done, step.loss, step.lr);
            if self.done == 1 || self.done.is_multiple_of(EVERY) || self.done == end {
                let ms = since.as_secs_f64() * 1e3 / (self.done - last_line) as f64;
                let line = Train { step: self.done, loss: step.loss, lr: step.lr, grad_norm: step.grad_norm, ms };
                self.tell(line.into(), &mut curve, watch)?;
                (since, last_line) = (Duration::ZERO, self.done);
            }
            let config = &self.trainer.config().train;
            let due = |every: u64| every > 0 && self.done.is_multiple_of(every);
            let (evaluate, save) = (due(config.eval_every) || self.done == planned, due(config.save_every));
            if evaluate {
                scores = self.evaluate(true, &mut curve, watch)?;
                evaluated = Some(self.done);
            }
            if save {
                self.save(watch)?;
            }
        }
        if self.saved != Some(self.done) {
            self.save(watch)?;
        }
        let interrupted = interrupt.requested();
        if interrupted.is_none() {
            if evaluated != Some(self.done) {
                scores = self.evaluate(false, &mut curve, watch)?;
            }
            for sample in self.trainer.data().samples(self.trainer.config(), self.trainer.state())? {
                self.tell(Sample { sample }.into(), &mut curve, watch)?;
            }
            if let Some(confusion) = scores.as_ref().and_then(Scores::confusion).cloned() {
                self.tell(confusion.into(), &mut curve, watch)?;
            }
        }
        let folder = self.folder.path().to_path_buf();
        let loss = self.trainer.data().encoder().task().loss_label();
        plot::write(&self.folder.plot_path(), &curve, &folder.display().to_string(), loss)?;
        let run = folder.display().to_string();
        let val_loss = scores.as_ref().map(|scores: &Scores| scores.loss);
        self.tell(Done { done: true, steps: self.done, val_loss, run }.into(), &mut curve, watch)?;
        Ok(Outcome { steps: self.done, scores, folder, curve, seconds: time.as_secs_f64(), interrupted })
    }

    /// The run's model and data.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    fn tell(&mut self, line: Line, curve: &mut Curve, watch: &mut dyn Watch) -> Result<()> {
        curve.add(&line);
        self.metrics.append(&line)?;
        watch.line(&line);
        Ok(())
    }

    /// Evaluates. Planned evaluations are told and decide which step is the best; that of an early stop, or of a run that
    /// was finished before, stands in its last line alone, so that the metrics do not depend on where a run was stopped.
    fn evaluate(&mut self, planned: bool, curve: &mut Curve, watch: &mut dyn Watch) -> Result<Option<Scores>> {
        let Some(scores) = self.trainer.evaluate()? else { return Ok(None) };
        let (step, val_loss) = (self.done, scores.loss);
        if planned {
            if self.best.is_none_or(|best| val_loss < best.val_loss) {
                self.best = Some(Best { step, val_loss });
            }
            self.tell(Evaluation::new(step, &scores).into(), curve, watch)?;
        }
        Ok(Some(scores))
    }

    fn save(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let (config, data) = (self.trainer.config(), self.trainer.data());
        let meta = Meta {
            step: self.done,
            seed: config.train.seed,
            config: config.for_checkpoint(),
            data_hash: data.hash().to_string(),
            tokenizer_hash: data.encoder().hash(),
            numerics_version: model::numerics_version(config),
            best: self.best,
        };
        self.folder.save(self.trainer.state(), &meta)?;
        self.folder.prune(config.train.keep, self.done, self.best.map(|best| best.step))?;
        self.saved = Some(self.done);
        watch.saved(self.done);
        Ok(())
    }

    /// Saves the last good state when a step failed: the failed one changed nothing.
    fn rescue(&mut self, error: Error, watch: &mut dyn Watch) -> Error {
        if error.kind == ErrorKind::NonFinite
            && self.saved != Some(self.done)
            && let Err(unsaved) = self.save(watch)
        {
            watch.warn(&unsaved);
        }
        error
    }
}

/// Refuses to go on with other data, another tokenizer, another plan or other numbers than the checkpoint's.
fn check_same(config: &Config, data: &dyn Dataset, loaded: &Loaded) -> Result<()> {
    let meta = &loaded.meta;
    if meta.data_hash != data.hash() {
        let what = match &config.data.path {
            Some(path) => format!("`{path}` has changed since the run started"),
            None => "the embedded names are not those that the run started with".to_string(),
        };
        return Err(Error::usage(what).hint("put the old data back, or start a new run"));
    }
    if meta.tokenizer_hash != data.encoder().hash() {
        let file = data.encoder().kind().encoder;
        return Err(Error::usage(format!("{file} is not the one that the run started with"))
            .hint("put the old file back, or start a new run"));
    }
    if meta.config != config.for_checkpoint() {
        return Err(Error::usage("config.toml has changed since the run started")
            .hint("put the old file back; a run is finished as it was planned"));
    }
    let ours = model::numerics_version(config);
    if meta.numerics_version != ours {
        let theirs = &meta.numerics_version;
        return Err(Error::usage(format!(
            "the run's numbers are of version {theirs}, this program's of version {ours}"
        ))
        .hint("resume it with the version of geartrain that started it"));
    }
    Ok(())
}

/// A trained model, opened to be read: for evaluation and writing.
pub struct Trained {
    /// The run's configuration.
    pub config: Config,
    /// What turned the data into numbers.
    pub encoder: Arc<dyn Encoder>,
    /// What it learned.
    pub state: geartrain_engine::State,
    /// The step of the checkpoint.
    pub step: u64,
    /// A warning for each damaged checkpoint.
    pub warnings: Vec<Error>,
}

impl Trained {
    /// The newest checkpoint of a run that verifies.
    ///
    /// # Errors
    /// No such run, or no usable checkpoint.
    pub fn open(path: &Path, sets: &[(String, String)]) -> Result<Trained> {
        let folder = RunFolder::open_to_read(path)?;
        let config = Config::build(Some(&folder.config_path()), sets)?;
        let loaded = folder.newest(None)?;
        let encoder = data::encoder_of(folder.path())?;
        if loaded.meta.tokenizer_hash != encoder.hash() {
            let what = format!("{} is not the one that the run started with", encoder.kind().encoder);
            return Err(Error::no_checkpoint(what));
        }
        let graph = model::training_graph(&config, &encoder.task())?;
        let mut state = geartrain_engine::State::new(&graph, config.train.seed).map_err(model::model_error)?;
        checkpoint::load_into(&mut state, &loaded.tensors)?;
        Ok(Trained { config, encoder, state, step: loaded.meta.step, warnings: loaded.passed_over })
    }

    /// How well it does on the validation part of the run's data, or on the whole of other data of the same kind.
    ///
    /// # Errors
    /// Data that cannot be read, or too little of it.
    pub fn evaluate(&self, path: Option<&Path>) -> Result<Scores> {
        let mut config = self.config.clone();
        let mut part = Part::Validation;
        if let Some(path) = path {
            config.data.path = Some(path.to_string_lossy().into_owned());
            config.data.validation = 0.0;
            part = Part::Training;
        }
        let data = data::load_with(&config, self.encoder.clone())?;
        if data.batches(part, 1)? == 0 {
            return Err(
                Error::usage("the run kept nothing for validation").hint("name other data: `geartrain eval RUN DATA`")
            );
        }
        Evaluator::new(&self.config, &self.encoder.task(), &self.state)?.run(&self.state, &*data, part)
    }
}
