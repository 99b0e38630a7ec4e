//! A run from start to end: the loop with its evaluations, checkpoints and metrics, and going on after any interruption.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checkpoint::{self, Best, Meta};
use crate::config::Config;
use crate::curve::Curve;
use crate::data::Corpus;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::metrics::{self, Done, Evaluation, Line, Metrics, Sample, Train};
use crate::run_folder::{Loaded, RunFolder};
use crate::sample::{Choice, Writer};
use crate::tokenizer::Tokenizer;
use crate::trainer::Trainer;
use crate::{model, plot};

/// Steps between two lines about training.
const EVERY: u64 = 10;
/// New lines that a model of short lines writes at the end.
const NEW_LINES: usize = 10;
/// Characters that any other model writes at the end.
const SAMPLE_TOKENS: usize = 300;

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
    /// The last validation loss.
    pub val_loss: Option<f64>,
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
        let corpus = Corpus::load(&config, None)?;
        if let Some(path) = &config.data.path {
            let full = std::fs::canonicalize(path).map_err(|e| Error::io("find", Path::new(path), &e))?;
            config.data.path = Some(full.to_string_lossy().into_owned());
        }
        let name = corpus.name.clone();
        let kind = config.model.kind.name();
        let trainer = Trainer::new(config, corpus)?;
        let folder = match out {
            Some(path) => RunFolder::create_at(path)?,
            None => RunFolder::create(Path::new("runs"), &name, kind)?,
        };
        trainer.corpus().tokenizer.save(&folder.tokenizer_path())?;
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
        let corpus = Corpus::load(&config, Some(Tokenizer::load(&folder.tokenizer_path())?))?;
        check_same(&config, &corpus, &loaded)?;
        let mut trainer = Trainer::new(config, corpus)?;
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
        let (mut val_loss, mut evaluated) = (None, None);
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
                val_loss = self.evaluate(true, &mut curve, watch)?;
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
                val_loss = self.evaluate(false, &mut curve, watch)?;
            }
            for sample in self.samples()? {
                self.tell(Sample { sample }.into(), &mut curve, watch)?;
            }
        }
        let folder = self.folder.path().to_path_buf();
        plot::write(&self.folder.plot_path(), &curve, &folder.display().to_string())?;
        let run = folder.display().to_string();
        self.tell(Done { done: true, steps: self.done, val_loss, run }.into(), &mut curve, watch)?;
        Ok(Outcome { steps: self.done, val_loss, folder, curve, seconds: time.as_secs_f64(), interrupted })
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
    fn evaluate(&mut self, planned: bool, curve: &mut Curve, watch: &mut dyn Watch) -> Result<Option<f64>> {
        let Some(val_loss) = self.trainer.evaluate()? else { return Ok(None) };
        let step = self.done;
        if planned {
            if self.best.is_none_or(|best| val_loss < best.val_loss) {
                self.best = Some(Best { step, val_loss });
            }
            self.tell(Evaluation { step, val_loss }.into(), curve, watch)?;
        }
        Ok(Some(val_loss))
    }

    fn save(&mut self, watch: &mut dyn Watch) -> Result<()> {
        let (config, corpus) = (self.trainer.config(), self.trainer.corpus());
        let meta = Meta {
            step: self.done,
            seed: config.train.seed,
            config: config.for_checkpoint(),
            data_hash: corpus.hash.clone(),
            tokenizer_hash: corpus.tokenizer.hash(),
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

    /// What the trained model writes: ten new lines where the data is a list of short lines, else one text.
    fn samples(&self) -> Result<Vec<String>> {
        let (config, corpus, state) = (self.trainer.config(), self.trainer.corpus(), self.trainer.state());
        let tokenizer = &corpus.tokenizer;
        let mut writer = Writer::new(config, state, tokenizer.vocab_size())?;
        let choice = Choice { seed: config.train.seed, ..Choice::default() };
        let Ok(newline) = tokenizer.encode("\n") else {
            let start = corpus.train.first().copied().unwrap_or(0);
            return Ok(vec![write_text(&mut writer, state, tokenizer, vec![start], &choice)?]);
        };
        let all = tokenizer.decode(&corpus.train) + &tokenizer.decode(&corpus.validation);
        // A list has no empty lines, and each fits into what the model sees.
        let short = |line: &str| (1..config.model.context).contains(&line.chars().count());
        if !all.lines().all(short) {
            return Ok(vec![write_text(&mut writer, state, tokenizer, newline, &choice)?]);
        }
        let known: std::collections::HashSet<&str> = all.lines().collect();
        let mut lines: Vec<String> = Vec::new();
        for _ in 0..20 * NEW_LINES {
            let mut tokens = newline.clone();
            loop {
                let next = writer.next(state, &tokens, &choice)?;
                tokens.push(next);
                if newline.ends_with(&[next]) || tokens.len() > config.model.context {
                    break;
                }
            }
            let line = tokenizer.decode(&tokens).trim().to_string();
            if !line.is_empty() && !known.contains(line.as_str()) && !lines.contains(&line) {
                lines.push(line);
            }
            if lines.len() == NEW_LINES {
                break;
            }
        }
        Ok(lines)
    }
}

fn write_text(
    writer: &mut Writer,
    state: &geartrain_engine::State,
    tokenizer: &Tokenizer,
    start: Vec<u32>,
    choice: &Choice,
) -> Result<String> {
    let (mut tokens, from) = (start.clone(), start.len());
    for _ in 0..SAMPLE_TOKENS {
        let next = writer.next(state, &tokens, choice)?;
        tokens.push(next);
    }
    Ok(tokenizer.decode(&tokens[from..]).trim().to_string())
}

/// Refuses to go on with other data, another tokenizer, another plan or other numbers than the checkpoint's.
fn check_same(config: &Config, corpus: &Corpus, loaded: &Loaded) -> Result<()> {
    let meta = &loaded.meta;
    if meta.data_hash != corpus.hash {
        let what = match &config.data.path {
            Some(path) => format!("`{path}` has changed since the run started"),
            None => "the embedded names are not those that the run started with".to_string(),
        };
        return Err(Error::usage(what).hint("put the old text back, or start a new run"));
    }
    if meta.tokenizer_hash != corpus.tokenizer.hash() {
        return Err(Error::usage("tokenizer.json is not the one that the run started with")
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
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What it learned.
    pub state: geartrain_engine::State,
    /// The step of the checkpoint.
    pub step: u64,
    /// Size of the token table.
    pub vocab: usize,
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
        let tokenizer = Tokenizer::load(&folder.tokenizer_path())?;
        if loaded.meta.tokenizer_hash != tokenizer.hash() {
            return Err(Error::no_checkpoint("tokenizer.json is not the one that the run started with"));
        }
        let vocab = config.vocab_for(tokenizer.vocab_size())?;
        let graph = model::training_graph(&config, vocab, geartrain_engine::DType::F32)?;
        let mut state = geartrain_engine::State::new(&graph, config.train.seed).map_err(model::model_error)?;
        checkpoint::load_into(&mut state, &loaded.tensors)?;
        let step = loaded.meta.step;
        Ok(Trained { config, tokenizer, state, step, vocab, warnings: loaded.passed_over })
    }

    /// Mean loss in nats a token over the validation part of the run's data, or over the whole of another text.
    ///
    /// # Errors
    /// Data that cannot be read, changed data, or less text than one window.
    pub fn evaluate(&self, data: Option<&Path>) -> Result<f64> {
        let mut config = self.config.clone();
        if let Some(path) = data {
            config.data.path = Some(path.to_string_lossy().into_owned());
            config.data.validation = 0.0;
        }
        let corpus = Corpus::load(&config, Some(self.tokenizer.clone()))?;
        let tokens = if data.is_some() { &corpus.train } else { &corpus.validation };
        if tokens.is_empty() {
            return Err(
                Error::usage("the run kept nothing for validation").hint("name a text: `geartrain eval RUN DATA`")
            );
        }
        let graph = model::evaluation_graph(&self.config, self.vocab, geartrain_engine::DType::F32);
        let mut program = model::compile(&graph, &self.state, &self.config)?;
        let mut batch = program.batch();
        crate::trainer::evaluate(&mut program, &mut batch, &self.state, tokens, self.config.model.context)
    }
}
