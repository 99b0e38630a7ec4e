//! Tokens of large texts, kept from one start to the next.
//!
//! A file of the cache is named after the hashes of a text and a tokenizer and the version of the rule that cuts words, so it
//! never goes out of date, and any of them may be removed at any time. All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `geartrain tokens` |
//! | 4 | the version, 1 |
//! | 4 | the bytes of an id, 2 or 4 |
//! | 40 | zeros |
//! | ids | the tokens |
//! | 8 | how many there are |
//! | 32 | SHA-256 of everything before |

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use geartrain_kernels::Mapping;
use sha2::{Digest, Sha256};

use crate::atomic;
use crate::data::tokens::Tokens;
use crate::error::{Error, Result};
use crate::tokenizer::{hex, split};

const MAGIC: &[u8; 16] = b"geartrain tokens";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const TRAILER: usize = 40;

/// Where the cache is: what `GEARTRAIN_CACHE` names, or `geartrain` in the user's folder for caches. `None` where there is no
/// such folder, or where the variable is empty.
pub(super) fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name);
    if let Some(folder) = set("GEARTRAIN_CACHE") {
        return Some(PathBuf::from(folder)).filter(|folder| !folder.as_os_str().is_empty());
    }
    let absolute = |name: &str| set(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(caches?.join("geartrain"))
}

/// The file of a text's tokens.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    width: usize,
}

/// Takes tokens, a part after the other.
pub(super) type Take<'a> = &'a mut dyn FnMut(&[u32]) -> Result<()>;

impl TokenFile {
    /// The file in a folder for a text and a tokenizer, each by its hash, with ids of `width` bytes.
    pub fn new(folder: &Path, text: &str, tokenizer: &str, width: usize) -> TokenFile {
        let name = hex(&Sha256::digest(format!("{text} {tokenizer} {}", split::version())));
        TokenFile { path: folder.join(name + ".tokens"), width }
    }

    /// The tokens of the file, mapped; `None` where there is no such file or it is not as it was written.
    pub fn read(&self) -> Option<Tokens> {
        let mut file = File::open(&self.path).ok()?;
        let size = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let ids = size.checked_sub(HEADER + TRAILER)?;
        // Read and not mapped: so the pages that are only checked do not stay in this process's memory.
        let mut hashed = Hashed { sink: io::sink(), hasher: Sha256::new() };
        io::copy(&mut (&mut file).take((size - 32) as u64), &mut hashed).ok()?;
        let mut sum = [0; 32];
        file.read_exact(&mut sum).ok()?;
        if hashed.hasher.finalize()[..] != sum {
            return None;
        }
        let mapping = Mapping::new(&file).ok()?;
        let bytes = mapping.bytes();
        let count = u64::from_le_bytes(bytes.get(HEADER + ids..HEADER + ids + 8)?.try_into().ok()?);
        let fits = bytes.len() == size
            && bytes[..HEADER] == self.header()
            && count as u128 * self.width as u128 == ids as u128;
        if fits { Tokens::mapped(mapping, HEADER, self.width, ids / self.width) } else { None }
    }

    /// Writes the file whole with the tokens that `fill` gives; false where it cannot be written, which is no failure.
    ///
    /// # Errors
    /// What `fill` finds wrong with the text.
    pub fn write(&self, fill: impl FnOnce(Take<'_>) -> Result<()>) -> Result<bool> {
        let Some(folder) = self.path.parent() else { return Ok(false) };
        if std::fs::create_dir_all(folder).is_err() {
            return Ok(false);
        }
        self.remove_leftovers(folder);
        // What the text has wrong is told; what the disk has wrong only means that nothing is kept.
        let mut wrong = None;
        let written = atomic::replace(&self.path, |sink| {
            let mut hashed = Hashed { sink, hasher: Sha256::new() };
            let (mut count, mut failed, mut block) = (0u64, None, Vec::new());
            hashed.write_all(&self.header())?;
            let filled = fill(&mut |ids| {
                block.clear();
                ids.iter().for_each(|id| block.extend_from_slice(&id.to_le_bytes()[..self.width]));
                count += ids.len() as u64;
                hashed.write_all(&block).map_err(|reason| {
                    let error = Error::io("write", &self.path, &reason);
                    failed = Some(reason);
                    error
                })
            });
            if let Some(reason) = failed {
                return Err(reason);
            }
            wrong = filled.err();
            hashed.write_all(&count.to_le_bytes())?;
            let sum = hashed.hasher.finalize();
            hashed.sink.write_all(&sum)?;
            if wrong.is_some() { Err(io::Error::other("not a text of this tokenizer")) } else { Ok(()) }
        });
        match wrong {
            Some(error) => Err(error),
            None => Ok(written.is_ok()),
        }
    }

    /// Removes what writers of this file that were killed have left: it may be large. Another one that is still at work then
    /// keeps its tokens in memory.
    fn remove_leftovers(&self, folder: &Path) {
        let start = format!(".{}.", self.path.file_name().unwrap_or_default().display());
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(&start) && name.to_string_lossy().ends_with(".tmp") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..16].copy_from_slice(MAGIC);
        header[16..20].copy_from_slice(&VERSION.to_le_bytes());
        header[20..24].copy_from_slice(&(self.width as u32).to_le_bytes());
        header
    }
}

/// Writes through and hashes what is written.
struct Hashed<W> {
    sink: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.sink.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests;
