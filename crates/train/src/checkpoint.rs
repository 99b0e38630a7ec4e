//! Checkpoints: all that a run needs to go on, in one file that is there whole or refused.
//!
//! A checkpoint is a safetensors file. Its tensors are the saved entries of a [`State`], its metadata the [`Meta`], a
//! format version and a checksum. The file is a pure function of the two: tensors and metadata stand in the order of
//! their names, and there is no clock, host, path or thread count in it. The checksum is SHA-256 of the header without
//! the checksum itself (its length in 8 bytes, little-endian, the JSON and its padding) followed by the bytes of the tensors.
//!
//! Reading writes the header anew from what it read and compares: a file is loaded only if it is, to the last bit, what
//! [`write()`] would have written. The shape of every tensor is checked against the bytes that are there before anything is made.

mod format;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;

use geartrain_engine::{State, Tensor, Type};
use sha2::{Digest, Sha256};

use crate::atomic;
use crate::error::{Error, Result};
use crate::schedule::Plateau;
use crate::stopping::Waiting;
use crate::tokenizer::hex;
use format::Header;

/// What a checkpoint says of its run beside the tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Steps done.
    pub step: u64,
    /// The seed of the run.
    pub seed: u64,
    /// The configuration as TOML, without what changes no result: see `Config::for_checkpoint`.
    pub config: String,
    /// Hash of the data.
    pub data_hash: String,
    /// Hash of the tokenizer.
    pub tokenizer_hash: String,
    /// The version of the arithmetic that the numbers come from.
    pub numerics_version: String,
    /// The best step so far, if there was an evaluation.
    pub best: Option<Best>,
    /// What a schedule that follows the validation loss remembers.
    pub plateau: Option<Plateau>,
    /// What early stopping remembers.
    pub waiting: Option<Waiting>,
}

/// The step with the lowest validation loss so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// The step.
    pub step: u64,
    /// Its validation loss.
    pub val_loss: f64,
}

/// Writes the saved entries of a state: into a new file in the same folder, then fsync, rename, fsync of the folder.
/// When it returns, the checkpoint survives a crash; when it fails, `path` is as it was.
///
/// # Errors
/// The file cannot be written; an entry has a name that safetensors reserves.
pub fn write(path: &Path, state: &State, meta: &Meta) -> Result<()> {
    let types = saved(state);
    if types.contains_key(format::METADATA) {
        return Err(Error::failed(format!("an entry of a checkpoint cannot be named `{}`", format::METADATA)));
    }
    let mut header = Header { meta: meta.clone(), tensors: types.into_iter().collect() };
    header.tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let tensors = || header.tensors.iter().filter_map(|(name, _)| state.get(name));
    let mut hasher = Sha256::new();
    hasher.update(header.bytes(None));
    for tensor in tensors() {
        // A hasher does not fail.
        let _ = format::each_chunk(&tensor, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        });
    }
    let start = header.bytes(Some(&hex(&hasher.finalize())));
    atomic::replace(path, |sink| {
        sink.write_all(&start)?;
        tensors().try_for_each(|tensor| format::each_chunk(&tensor, &mut |bytes| sink.write_all(bytes)))
    })
}

/// The metadata and the tensors of a checkpoint, in the order of their names.
///
/// # Errors
/// All with exit code 4: the file cannot be read, was written by another version of the format, or is not to the last
/// bit what was written.
pub fn read(path: &Path) -> Result<(Meta, Vec<(String, Tensor)>)> {
    let bytes = std::fs::read(path).map_err(|reason| Error::no_checkpoint(format!("cannot be read: {reason}")));
    bytes.and_then(|bytes| decode(&bytes)).map_err(|error| at(path, error))
}

/// `` checkpoint `runs/names-gpt2-1/checkpoints/step-000500.safetensors` is damaged: ... ``
pub(crate) fn at(path: &Path, mut error: Error) -> Error {
    error.what = format!("checkpoint `{}` {}", path.display(), error.what);
    error
}

/// [`read`] from bytes; the error does not name the file.
fn decode(bytes: &[u8]) -> Result<(Meta, Vec<(String, Tensor)>)> {
    let (header, checksum) = Header::parse(bytes)?;
    let Some(data) = bytes.strip_prefix(header.bytes(Some(&checksum)).as_slice()) else {
        return Err(format::damaged("its header is not as it was written"));
    };
    let mut hasher = Sha256::new();
    hasher.update(header.bytes(None));
    hasher.update(data);
    if hex(&hasher.finalize()) != checksum {
        return Err(format::damaged("its checksum does not match"));
    }
    let mut rest = data;
    let mut tensors = Vec::with_capacity(header.tensors.len());
    for (name, ty) in header.tensors {
        let taken = rest.split_at_checked(ty.bytes()).and_then(|(own, others)| {
            rest = others;
            format::tensor(ty, own)
        });
        let Some(tensor) = taken else {
            return Err(format::damaged(&format!("`{name}` is not whole")));
        };
        tensors.push((name, tensor));
    }
    Ok((header.meta, tensors))
}

/// Puts the tensors of a checkpoint into a state. The state changes only if every saved entry is given with its own
/// type, and nothing else is given.
///
/// # Errors
/// With exit code 4: entries that are missing, that the state does not have or does not save, or that have another
/// shape or dtype, by name.
pub fn load_into(state: &mut State, tensors: &[(String, Tensor)]) -> Result<()> {
    let saved = saved(state);
    let given: HashSet<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let missing: Vec<String> =
        saved.keys().filter(|name| !given.contains(name.as_str())).map(|name| format!("`{name}`")).collect();
    let extra: Vec<String> =
        tensors.iter().filter(|(name, _)| !saved.contains_key(name)).map(|(name, _)| format!("`{name}`")).collect();
    let mut other = Vec::new();
    for (name, tensor) in tensors {
        if let Some(ty) = saved.get(name).filter(|ty| **ty != tensor.ty()) {
            other.push(format!("`{name}` (the model's is {ty}, the checkpoint's {})", tensor.ty()));
        }
    }
    let faults: Vec<String> = [("without", missing), ("with unknown", extra), ("with another type of", other)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(word, names)| format!("{word} {}", listed(&names)))
        .collect();
    if !faults.is_empty() {
        return Err(Error::no_checkpoint(format!(
            "the checkpoint does not fit the model: it is {}",
            faults.join("; ")
        ))
        .hint("a checkpoint loads into the model and optimizer that it was saved from"));
    }
    for (name, tensor) in tensors {
        state.set(name, tensor).map_err(|error| Error::no_checkpoint(error.to_string()))?;
    }
    Ok(())
}

/// The types of the entries that a checkpoint holds, by name.
fn saved(state: &State) -> BTreeMap<String, Type> {
    state.entries().iter().filter(|entry| entry.saved).map(|entry| (entry.name.clone(), entry.ty)).collect()
}

/// The first names of a list, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
