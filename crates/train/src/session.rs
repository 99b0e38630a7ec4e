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
use crate::metrics::{self, Done, Evaluation, Layers, Line, Metrics, Sample, Train};
use crate::run_folder::{Loaded, RunFolder};
use crate::stopping::{Stopping, Waiting};
use crate::tensorboard::TensorBoard;
use crate::trainer::{Evaluator, Scores, Step, Trainer};
use crate::{average, model, plot};

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
    /// Steps that were done before, where a run was resumed.
    pub began: u64,
    /// Steps that are planned.
    pub planned: u64,
    /// The planned evaluation with the lowest validation loss.
    pub best: Option<Best>,
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
    /// What early stopping waited for in vain, where it ended the run.
    pub stopped_early: Option<Waiting>,
}

/// A run that is open for writing.
pub struct Session {
    trainer: Trainer,
    folder: RunFolder,
    metrics: Metrics,
    events: Option<TensorBoard>,
    done: u64,
    best: Option<Best>,
    stopping: Stopping,
    /// The step of the newest checkpoint.
    saved: Option<u64>,
    curve: Curve,
}

/// What the steps of a run took, and what its last planned evaluation found.
struct Course {
    time: Duration,
    scores: Option<Scores>,
    /// The step of that evaluation.
    evaluated: Option<u64>,
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
        if let Some(file) = data::table::target_file(&config) {
            config.data.target = Some(full(&file)?);
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
        let events = events(trainer.config(), &folder)?;
        let stopping = Stopping::new(trainer.config(), None);
        Ok(Session {
            trainer,
            folder,
            metrics,
            events,
            done: 0,
            best: None,
            stopping,
            saved: None,
            curve: Curve::default(),
        })
    }

    /// Opens a run to go on from its newest checkpoint that verifies. `sets` override `data.path`, `train.threads` and
    /// `train.tensorboard`.
    /// Gives the session and a warning for each damaged checkpoint.
    ///
    /// # Errors
    /// No such run or no usable checkpoint; data or tokenizer that changed; another version of the numbers.
    pub fn resume(path: &Path, sets: &[(String, String)]) -> Result<(Session, Vec<Error>)> {
        let folder = RunFolder::open(path)?;
        let config = Config::build(Some(&folder.config_path()), sets)?;
        let loaded = folder.newest(None)?;
        check_there(&config, "say where it is now with --data PATH")?;
        let data = data::load_with(&config, data::encoder_of(folder.path())?)?;
        check_same(&config, &*data, &loaded)?;
        let mut trainer = Trainer::new(config, data)?;
        checkpoint::load_into(trainer.state_mut(), &loaded.tensors)?;
        let Meta { step: done, best, plateau, waiting, .. } = loaded.meta;
        trainer.schedule_mut().restore(plateau);
        let stopping = Stopping::new(trainer.config(), waiting);
        let metrics = Metrics::resume(&folder.metrics_path(), done)?;
        let events = events(trainer.config(), &folder)?;
        let curve = Curve::of(&metrics::read(&folder.metrics_path())?);
        let session = Session { trainer, folder, metrics, events, done, best, stopping, saved: Some(done), curve };
        Ok((session, loaded.passed_over))
    }

    /// Trains to the planned end, or to step `until` or an early stop if that comes first.
    ///
    /// # Errors
    /// A number that is not finite (the last good state is saved); files that cannot be written.
    pub fn run(mut self, until: Option<u64>, interrupt: &Interrupt, watch: &mut dyn Watch) -> Result<Outcome> {
        let planned = self.trainer.config().train.steps;
        let (began, end) = (self.done, until.unwrap_or(planned).min(planned));
        watch.start(&self.trainer, self.folder.path(), began, end);
        let Course { time, mut scores, evaluated } = self.train(end, interrupt, watch)?;
        if self.saved != Some(self.done) {
            self.save(watch)?;
        }
        let interrupted = interrupt.requested();
        let best_step = self.show_best()?;
        if interrupted.is_none() {
            if evaluated != Some(self.done) || best_step.is_some() {
                scores = self.evaluate(false, watch)?;
            }
            self.show(scores.as_ref(), watch)?;
        }
        let (steps, folder) = (self.done, self.folder.path().to_path_buf());
        let run = folder.display().to_string();
        let loss = self.trainer.data().encoder().task().loss_label();
        plot::write(&self.folder.plot_path(), &self.curve, &run, loss)?;
        let stopped_early = self.stopping.stopped().filter(|_| steps < planned);
        let val_loss = scores.as_ref().map(|scores: &Scores| scores.loss);
        let done =
            Done { done: true, steps, val_loss, run, stopped_early: stopped_early.is_some(), best_step, interrupted };
        self.tell(done.into(), watch)?;
        let (best, curve, seconds) = (self.best, self.curve, time.as_secs_f64());
        Ok(Outcome { steps, began, planned, scores, best, folder, curve, seconds, interrupted, stopped_early })
    }

    /// Steps up to `end`, an early stop or a signal, with the evaluations and checkpoints that are due on the way.
    fn train(&mut self, end: u64, interrupt: &Interrupt, watch: &mut dyn Watch) -> Result<Course> {
        let planned = self.trainer.config().train.steps;
        let mut course = Course { time: Duration::ZERO, scores: None, evaluated: None };
        let (mut since, mut last_line) = (Duration::ZERO, self.done);
        while self.done < end && self.stopping.stopped().is_none() && interrupt.requested().is_none() {
            let start = Instant::now();
            let next = self.done + 1;
            // A line of the last step before `until` is told and not kept: the metrics are those of a straight run.
            let kept = next == 1 || next.is_multiple_of(EVERY) || next == planned;
            let told = kept || next == end;
            let (step, layers) = match self.step(told) {
                Ok(step) => step,
                Err(error) => return Err(self.rescue(error, watch)),
            };
            let spent = start.elapsed();
            (course.time, since) = (course.time + spent, since + spent);
            self.done = next;
            watch.step(self.done, step.loss, step.lr);
            if told {
                let ms = since.as_secs_f64() * 1e3 / (self.done - last_line) as f64;
                let line = Train { step: self.done, loss: step.loss, lr: step.lr, grad_norm: step.grad_norm, ms };
                let layers = layers.map(|layers| Layers { step: self.done, layers }.into());
                for line in [Some(line.into()), layers].into_iter().flatten() {
                    if kept { self.tell(line, watch)? } else { watch.line(&line) }
                }
                (since, last_line) = (Duration::ZERO, self.done);
            }
            let config = &self.trainer.config().train;
            let due = |every: u64| every > 0 && self.done.is_multiple_of(every);
            let (evaluate, save) = (due(config.eval_every) || self.done == planned, due(config.save_every));
            let keep_best = config.patience > 0;
            if evaluate {
                course.scores = self.evaluate(true, watch)?;
                course.evaluated = Some(self.done);
            }
            // With early stopping the best step is the one that counts in the end.
            let improved = evaluate && keep_best && self.best.is_some_and(|best| best.step == self.done);
            if save || improved {
                self.save(watch)?;
            }
        }
        Ok(course)
    }

    /// Tells what the trained model shows of itself.
    fn show(&mut self, scores: Option<&Scores>, watch: &mut dyn Watch) -> Result<()> {
        let samples = self.trainer.data().samples(self.trainer.config(), &*self.trainer.weights()?)?;
        for sample in samples {
            self.tell(Sample { sample }.into(), watch)?;
        }
        match scores.and_then(Scores::confusion).cloned() {
            Some(confusion) => self.tell(confusion.into(), watch),
            None => Ok(()),
        }
    }

    /// After early stopping, opens the checkpoint that `eval` and `generate` will open, so that what is told and written at
    /// the end is what they give. Gives its step, where it is not the last.
    fn show_best(&mut self) -> Result<Option<u64>> {
        if self.stopping.stopped().is_none() {
            return Ok(None);
        }
        let best = newest_or_best(&self.folder, self.trainer.config())?;
        let step = Some(best.meta.step).filter(|step| *step != self.done);
        if step.is_some() {
            checkpoint::load_into(self.trainer.state_mut(), &best.tensors)?;
        }
        Ok(step)
    }

    /// The run's model and data.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The next step, with the norms of each layer where they are told.
    fn step(&mut self, told: bool) -> Result<(Step, Option<metrics::ByLayer>)> {
        match told {
            true => self.trainer.step_and_norms(self.done),
            false => self.trainer.step(self.done).map(|step| (step, None)),
        }
    }

    /// Tells a line and keeps it.
    fn tell(&mut self, line: Line, watch: &mut dyn Watch) -> Result<()> {
        self.curve.add(&line);
        self.metrics.append(&line)?;
        if let Some(events) = &mut self.events {
            events.append(&line)?;
        }
        watch.line(&line);
        Ok(())
    }

    /// Evaluates. Planned evaluations are told, and decide which step is the best, the rate of a schedule that follows them,
    /// and early stopping; that of a run stopped by `until`, or of one that was finished before, stands in its last line
    /// alone, so that neither training nor the metrics depend on where a run was stopped.
    fn evaluate(&mut self, planned: bool, watch: &mut dyn Watch) -> Result<Option<Scores>> {
        let Some(scores) = self.trainer.evaluate()? else { return Ok(None) };
        let (step, val_loss) = (self.done, scores.loss);
        if planned {
            if self.best.is_none_or(|best| best.val_loss.is_nan() || val_loss < best.val_loss) {
                self.best = Some(Best { step, val_loss });
            }
            self.stopping.evaluated(step, val_loss);
            self.trainer.schedule_mut().evaluated(val_loss);
            self.tell(Evaluation::new(step, &scores).into(), watch)?;
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
            plateau: self.trainer.schedule().plateau(),
            waiting: self.stopping.waiting(),
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

/// The event file of a run, where its configuration asks for one.
fn events(config: &Config, folder: &RunFolder) -> Result<Option<TensorBoard>> {
    if !config.train.tensorboard {
        return Ok(None);
    }
    let lines = metrics::read(&folder.metrics_path())?;
    TensorBoard::create(folder.path(), &folder.config_path(), &lines).map(Some)
}

/// Refuses to go on with other data, another tokenizer, another plan or other numbers than the checkpoint's.
fn check_same(config: &Config, data: &dyn Dataset, loaded: &Loaded) -> Result<()> {
    let meta = &loaded.meta;
    check_data(config, data, &meta.data_hash)?;
    if meta.tokenizer_hash != data.encoder().hash() {
        let file = data.encoder().kind().encoder;
        return Err(Error::usage(format!("{file} is not the one that the run started with"))
            .hint("put the old file back, or start a new run"));
    }
    if !config.is_planned_as(&meta.config) {
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

/// Refuses a run whose data is gone.
fn check_there(config: &Config, hint: &str) -> Result<()> {
    match &config.data.path {
        Some(path) if !Path::new(path).exists() => {
            Err(Error::usage(format!("the data of the run is no longer at `{path}`")).hint(hint))
        }
        _ => Ok(()),
    }
}

/// Refuses data that is not what the run learned from.
fn check_data(config: &Config, data: &dyn Dataset, hash: &str) -> Result<()> {
    if data.hash() == hash {
        return Ok(());
    }
    let what = match &config.data.path {
        Some(path) => format!("`{path}` has changed since the run started"),
        None => "the embedded names are not those that the run started with".to_string(),
    };
    Err(Error::usage(what).hint("put the old data back, or start a new run"))
}

/// A trained model, opened to be read: for evaluation and writing.
pub struct Trained {
    /// The run's configuration.
    pub config: Config,
    /// What turned the data into numbers.
    pub encoder: Arc<dyn Encoder>,
    /// What it learned.
    pub state: geartrain_engine::State,
    /// The hash of the data that it learned from.
    pub data_hash: String,
    /// The step of the checkpoint.
    pub step: u64,
    /// A warning for each damaged checkpoint.
    pub warnings: Vec<Error>,
}

impl Trained {
    /// The newest checkpoint of a run that verifies; of a run that stopped early, its best. With `train.ema` the averaged
    /// weights are opened.
    ///
    /// # Errors
    /// No such run, or no usable checkpoint.
    pub fn open(path: &Path, sets: &[(String, String)]) -> Result<Trained> {
        let folder = RunFolder::open_to_read(path)?;
        let config = Config::build(Some(&folder.config_path()), sets)?;
        let loaded = newest_or_best(&folder, &config)?;
        let encoder = data::encoder_of(folder.path())?;
        if loaded.meta.tokenizer_hash != encoder.hash() {
            let what = format!("{} is not the one that the run started with", encoder.kind().encoder);
            return Err(Error::no_checkpoint(what).hint("put the old file back"));
        }
        let mut state = model::Steps::new(&config, &encoder.task())?.state(&config)?;
        checkpoint::load_into(&mut state, &loaded.tensors)?;
        let state = average::weights(&state)?.into_owned();
        let Meta { step, data_hash, .. } = loaded.meta;
        Ok(Trained { config, encoder, state, data_hash, step, warnings: loaded.passed_over })
    }

    /// How well it does on the validation part of the run's data, or on the whole of other data of the same kind. `target`
    /// names the targets of another pair of arrays; left out, they are beside it under the name that the run knows.
    ///
    /// # Errors
    /// Data that cannot be read, that is too little, or that has changed since the run learned from it.
    pub fn evaluate(&self, path: Option<&Path>, target: Option<&str>) -> Result<Scores> {
        let mut config = self.config.clone();
        let mut part = Part::Validation;
        if let Some(path) = path {
            config.data.path = Some(path.to_string_lossy().into_owned());
            config.data.validation = 0.0;
            part = Part::Training;
        }
        if path.is_none() {
            check_there(&config, "name other data: `geartrain eval RUN DATA`")?;
        }
        data::table::retarget(&mut config, &*self.encoder, path, target)?;
        let data = data::load_with(&config, self.encoder.clone())?;
        if path.is_none() && target.is_none() {
            check_data(&config, &*data, &self.data_hash)?;
        }
        if data.batches(part, 1)? == 0 {
            return Err(
                Error::usage("the run kept nothing for validation").hint("name other data: `geartrain eval RUN DATA`")
            );
        }
        Evaluator::new(&self.config, &self.encoder.task(), &self.state)?.run(&self.state, &*data, part)
    }
}

/// The checkpoint to read: the newest, or the best of a run that stopped because nothing after it was better.
fn newest_or_best(folder: &RunFolder, config: &Config) -> Result<Loaded> {
    let mut newest = folder.newest(None)?;
    let stopped = Stopping::new(config, newest.meta.waiting).stopped().is_some();
    let Some(best) = newest.meta.best.filter(|best| stopped && best.step != newest.meta.step) else {
        return Ok(newest);
    };
    match folder.newest(Some(best.step)) {
        Ok(loaded) if loaded.meta.step == best.step => Ok(loaded),
        Ok(loaded) => {
            newest.passed_over.extend(loaded.passed_over);
            Ok(newest)
        }
        Err(error) => {
            newest.passed_over.push(error);
            Ok(newest)
        }
    }
}
