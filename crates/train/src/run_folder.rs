//! The folder of a run: its name, its files, its lock, and which of its checkpoints to go on from.
//!
//! ```text
//! runs/names-gpt2-1/
//!   config.toml      the whole configuration, with paths and threads
//!   tokenizer.json   Hugging Face's format; of a table preprocessing.json
//!   metrics.jsonl    what the run told, one JSON object a line
//!   loss.svg         the loss curve
//!   events.out...    for TensorBoard, when asked for
//!   checkpoints/     step-000500.safetensors, ...
//!   lock             empty; locked by the process that writes here
//! ```

#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use geartrain_engine::{State, Tensor};

use crate::atomic;
use crate::checkpoint::{self, Meta};
use crate::error::{Error, Result};

/// The name of the lock file.
const LOCK: &str = "lock";

/// What the name of a checkpoint ends with.
const EXTENSION: &str = ".safetensors";

/// The longest part of a folder's name that comes from the data or the model, in characters.
const PART: usize = 40;

/// A folder with a run in it. One that is made or opened for writing is locked until this is dropped or its process ends,
/// in whatever way.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    lock: Option<File>,
}

/// A checkpoint that verified, and the newer ones that did not.
#[derive(Debug)]
pub struct Loaded {
    /// Its file.
    pub path: PathBuf,
    /// What it says of the run.
    pub meta: Meta,
    /// Its tensors, for [`checkpoint::load_into`].
    pub tensors: Vec<(String, Tensor)>,
    /// Why each newer checkpoint was passed over, newest first: warnings for the user.
    pub passed_over: Vec<Error>,
}

impl RunFolder {
    /// Makes the folder `DATA-MODEL-N` in `root` (which is made too), N being one more than the highest there is, and locks it.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn create(root: &Path, data: &str, model: &str) -> Result<RunFolder> {
        make_folders(root)?;
        let stem = format!("{}-{}", part(data), part(model));
        let mut n = 1 + highest(root, &stem)?;
        loop {
            let path = root.join(format!("{stem}-{n}"));
            match std::fs::create_dir(&path) {
                Ok(()) => return RunFolder::begin(path),
                // Another run took the number just now.
                Err(reason) if reason.kind() == ErrorKind::AlreadyExists => n += 1,
                Err(reason) => return Err(Error::io("make the folder", &path, &reason)),
            }
        }
    }

    /// Makes a run folder of a given name, which must be new or an empty folder, and locks it.
    ///
    /// # Errors
    /// With exit code 2: there is a file of that name, or a folder with something in it. Or the folder cannot be made.
    pub fn create_at(path: &Path) -> Result<RunFolder> {
        if path.exists() && !path.is_dir() {
            return Err(Error::usage(format!("the output folder `{}` is a file", path.display()))
                .hint("--out wants a new or an empty folder"));
        }
        make_folders(path)?;
        refuse_full(path)?;
        let folder = RunFolder::begin(path.to_path_buf())?;
        // Somebody else may have written between the look and the lock.
        refuse_full_beside(path, &["checkpoints"])?;
        Ok(folder)
    }

    fn begin(path: PathBuf) -> Result<RunFolder> {
        let lock = lock(&path)?;
        let folder = RunFolder { path, lock: Some(lock) };
        make_folders(&folder.checkpoints_path())?;
        Ok(folder)
    }

    /// Opens a run folder to go on with the run: locks it, and removes what a killed writer left half written.
    ///
    /// # Errors
    /// There is no such run (exit code 4), another process uses it, or it cannot be written.
    pub fn open(path: &Path) -> Result<RunFolder> {
        let mut folder = RunFolder::open_to_read(path)?;
        folder.lock = Some(lock(path)?);
        make_folders(&folder.checkpoints_path())?;
        atomic::remove_leftovers(path)?;
        atomic::remove_leftovers(&folder.checkpoints_path())?;
        Ok(folder)
    }

    /// Opens a run folder to look into it, also while a run writes there: nothing is locked and nothing removed.
    ///
    /// # Errors
    /// There is no such run (exit code 4).
    pub fn open_to_read(path: &Path) -> Result<RunFolder> {
        let folder = RunFolder { path: path.to_path_buf(), lock: None };
        if folder.config_path().is_file() {
            return Ok(folder);
        }
        let what = if path.is_dir() {
            format!("`{}` is not the folder of a run: it has no config.toml", path.display())
        } else {
            format!("there is no run folder `{}`", path.display())
        };
        Err(Error::no_checkpoint(what).hint(others_beside(path)))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this holds the lock, so that it may write.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `loss.svg`.
    pub fn plot_path(&self) -> PathBuf {
        self.path.join("loss.svg")
    }

    /// The folder `checkpoints`.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The file of a step's checkpoint, whether or not it is there.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.checkpoints_path().join(format!("step-{step:06}{EXTENSION}"))
    }

    /// Writes one of the folder's small files whole, or leaves it as it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path, text: &str) -> Result<()> {
        atomic::replace_with(path, text.as_bytes())
    }

    /// Writes the checkpoint of the step in `meta`; when this returns, it survives a crash.
    ///
    /// # Errors
    /// Those of [`checkpoint::write`].
    pub fn save(&self, state: &State, meta: &Meta) -> Result<PathBuf> {
        let path = self.checkpoint_path(meta.step);
        checkpoint::write(&path, state, meta)?;
        Ok(path)
    }

    /// The steps that have a checkpoint file, rising. Whether the files are whole is not looked at.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = names_in(&self.checkpoints_path())?.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The newest checkpoint that verifies, of those up to step `last` if that is given.
    ///
    /// # Errors
    /// With exit code 4: there is none.
    pub fn newest(&self, last: Option<u64>) -> Result<Loaded> {
        let mut passed_over = Vec::new();
        let steps = self.checkpoints()?;
        for step in steps.into_iter().rev().filter(|step| last.is_none_or(|last| *step <= last)) {
            let path = self.checkpoint_path(step);
            match checkpoint::read(&path) {
                Ok((meta, tensors)) if meta.step == step => return Ok(Loaded { path, meta, tensors, passed_over }),
                Ok((meta, _)) => {
                    let what = format!("is of step {}, though its name says {step}", meta.step);
                    passed_over.push(checkpoint::at(&path, Error::no_checkpoint(what)));
                }
                Err(error) => passed_over.push(error),
            }
        }
        Err(self.no_checkpoint(last, &passed_over))
    }

    fn no_checkpoint(&self, last: Option<u64>, passed_over: &[Error]) -> Error {
        let run = self.path.display();
        match (passed_over, last) {
            ([], None) => Error::no_checkpoint(format!("the run `{run}` has no checkpoint"))
                .hint("it ended before it saved one; start it again with `geartrain train` and the same options"),
            ([], Some(last)) => Error::no_checkpoint(format!("the run `{run}` has no checkpoint up to step {last}"))
                .hint("the folder checkpoints has one file for each step that was kept; train.keep=0 keeps them all"),
            ([one], _) => Error::no_checkpoint(format!("the run `{run}` has no checkpoint that can be used: {one}"))
                .hint("it was the only one; copy it back from another place, or start the run again"),
            ([first, ..], _) => Error::no_checkpoint(format!(
                "the run `{run}` has no checkpoint that can be used, out of {}; the newest: {first}",
                passed_over.len()
            ))
            .hint("copy one back from another place, or start the run again"),
        }
    }

    /// Removes the checkpoints before step `now` but for the `keep` newest up to it and the one of step `best`; `keep` 0
    /// keeps all. Files of later steps, which a run leaves that went back to an earlier checkpoint, are not looked at.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn prune(&self, keep: usize, now: u64, best: Option<u64>) -> Result<()> {
        if keep == 0 {
            return Ok(());
        }
        let steps = self.checkpoints()?;
        let past = steps.iter().rev().filter(|step| **step <= now).skip(keep);
        for step in past.filter(|step| Some(**step) != best) {
            let path = self.checkpoint_path(*step);
            std::fs::remove_file(&path).map_err(|reason| Error::io("remove", &path, &reason))?;
        }
        Ok(())
    }
}

/// The step in `step-000500.safetensors`; `None` for other names, also for the same step written otherwise.
fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?.strip_suffix(EXTENSION)?;
    let step = digits.parse().ok()?;
    (format!("{step:06}") == digits).then_some(step)
}

/// A part of a folder's name: letters, digits and `_`, with `-` for anything else.
fn part(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
    let pieces: Vec<String> =
        text.chars().map(plain).collect::<String>().split('-').filter(|s| !s.is_empty()).map(String::from).collect();
    let name: String = pieces.join("-").chars().take(PART).collect();
    if name.is_empty() { "data".to_string() } else { name }
}

/// The highest N of the folders `STEM-N`, or 0.
fn highest(root: &Path, stem: &str) -> Result<u64> {
    let number = |name: &String| name.strip_prefix(stem)?.strip_prefix('-')?.parse::<u64>().ok();
    // A number that nobody reaches by counting is not one of ours.
    Ok(names_in(root)?.iter().filter_map(number).filter(|n| *n < u64::from(u32::MAX)).max().unwrap_or(0))
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(reason) if reason.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(reason) => return Err(Error::io("read", folder, &reason)),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<std::io::Result<_>>().map_err(|reason| Error::io("read", folder, &reason))
}

fn make_folders(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|reason| Error::io("make the folder", path, &reason))
}

/// Refuses a folder that has more in it than the lock file of a run that never began.
fn refuse_full(path: &Path) -> Result<()> {
    refuse_full_beside(path, &[])
}

fn refuse_full_beside(path: &Path, ours: &[&str]) -> Result<()> {
    let names = names_in(path)?;
    let Some(name) = names.iter().find(|name| *name != LOCK && !ours.contains(&name.as_str())) else {
        return Ok(());
    };
    let what = format!("the output folder `{}` is not empty: it has `{name}`", path.display());
    Err(Error::usage(what).hint(if path.join("config.toml").is_file() {
        format!(
            "--out wants a new or an empty folder; `geartrain resume {}` goes on with the run there",
            path.display()
        )
    } else {
        "--out wants a new or an empty folder".to_string()
    }))
}

/// Locks a run folder. The system lets go of the lock when the process ends, so a killed one leaves nothing behind. The
/// file itself stays: removing it would let two processes lock two files of one name.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|reason| Error::io("write", &path, &reason))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::failed(format!("the run folder `{}` is in use by another process", folder.display()))
                .hint("wait until that run ends, or stop it with Ctrl-C: it saves first"))
        }
        Err(TryLockError::Error(reason)) => Err(Error::io("lock", &path, &reason)),
    }
}

/// A hint that names the runs in the folder where one was looked for.
fn others_beside(path: &Path) -> String {
    const SHOWN: usize = 5;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut names = names_in(parent).unwrap_or_default();
    names.retain(|name| parent.join(name).join("config.toml").is_file());
    names.sort();
    if names.is_empty() {
        return "`geartrain train` makes one and prints its name when it begins".to_string();
    }
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    names.truncate(SHOWN);
    format!("runs there: {}{more}", names.join(", "))
}
