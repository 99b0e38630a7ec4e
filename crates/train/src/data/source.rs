//! Texts: a UTF-8 file, a folder of files, or the embedded names, read in parts of a few KiB.

use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data::names;
use crate::error::{Error, Result};
use crate::tokenizer::hex;
use crate::words::count;

/// Bytes of a file that are read at once.
const PART: usize = 1 << 18;

/// A text as it is read: valid UTF-8, no byte-order mark, lines ending in a line feed. The text itself is not kept.
#[derive(Clone, Debug)]
pub struct Text {
    from: Origin,
    /// A short name: the file's or folder's name without its ending, or `names`.
    pub name: String,
    /// What messages call it: the path in backquotes, or `the embedded names`.
    pub label: String,
    /// Bytes of a file that are read at once.
    part: usize,
}

#[derive(Clone, Debug)]
enum Origin {
    /// A text that is normalised already: a second time could find a line end that the first one made.
    Memory(String),
    File(PathBuf),
    Folder(Vec<PathBuf>),
}

/// What a text is known by once it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// SHA-256 of its bytes, in hex.
    pub hash: String,
    /// How many bytes it has.
    pub bytes: u64,
}

/// Takes a part of a text.
type Take<'a> = &'a mut dyn FnMut(&str) -> Result<()>;

impl Text {
    /// The text at a path, or the embedded names without one.
    ///
    /// Of a folder, the files directly in it are joined in the order of their names, with a newline between two where the
    /// first does not end in one; subfolders and files whose names begin with a dot are skipped.
    ///
    /// # Errors
    /// Nothing at the path, or a folder without files.
    pub fn open(path: Option<&Path>) -> Result<Text> {
        let Some(path) = path else {
            return Ok(Text::of(Origin::Memory(names()), "names", "the embedded names"));
        };
        let label = format!("`{}`", path.display());
        let meta = fs::metadata(path).map_err(|reason| unreadable(path, &reason))?;
        if !meta.is_dir() && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
            return Err(Error::usage(format!("{label} is a table, not a text"))
                .hint("to train on its characters as on any text, give it another ending, such as .txt"));
        }
        let from = if meta.is_dir() {
            Origin::Folder(files_of(path, &label)?)
        } else if meta.is_file() {
            Origin::File(path.to_path_buf())
        } else {
            // A pipe can be read once only.
            let mut all = String::new();
            read_file(path, PART, &mut |part| {
                all.push_str(part);
                Ok(())
            })?;
            Origin::Memory(all)
        };
        let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let stem = if meta.is_dir() { full.file_name() } else { full.file_stem() };
        let name = stem.map_or_else(|| "text".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Text::of(from, &name, &label))
    }

    /// A text that is at hand already, normalised as a file's is. `label` is what messages call it.
    pub fn new(text: &str, name: &str, label: &str) -> Text {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        Text::of(Origin::Memory(text), name, label)
    }

    fn of(from: Origin, name: &str, label: &str) -> Text {
        Text { from, name: name.to_string(), label: label.to_string(), part: PART }
    }

    /// Reads the whole text, a part after the other: how it is cut says nothing. Gives its hash and size.
    ///
    /// # Errors
    /// A text with nothing in it, bytes that are not UTF-8 (with their place), a failure to read, or what `take` returns.
    pub fn read(&self, take: &mut dyn FnMut(&str) -> Result<()>) -> Result<Scan> {
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut taken = |part: &str| {
            hasher.update(part);
            bytes += part.len() as u64;
            take(part)
        };
        match &self.from {
            Origin::Memory(text) => taken(text)?,
            Origin::File(path) => read_file(path, self.part, &mut taken)?,
            Origin::Folder(files) => read_files(files, self.part, &mut taken)?,
        }
        if bytes == 0 {
            return Err(self.empty());
        }
        Ok(Scan { hash: hex(&hasher.finalize()), bytes })
    }

    /// The whole text as one.
    ///
    /// # Errors
    /// Those of [`Text::read`].
    pub fn whole(&self) -> Result<String> {
        let mut all = String::new();
        self.read(&mut |part| {
            all.push_str(part);
            Ok(())
        })?;
        Ok(all)
    }

    fn empty(&self) -> Error {
        let label = &self.label;
        match &self.from {
            Origin::Folder(files) => {
                let files = count(files.len(), "file");
                Error::usage(format!("the folder {label} has no text in it: of {files}, none has any"))
                    .hint("give a folder of files with text in them")
            }
            Origin::File(_) | Origin::Memory(_) => {
                Error::usage(format!("{label} is empty")).hint("give a file with text in it")
            }
        }
    }
}

fn unreadable(path: &Path, reason: &std::io::Error) -> Error {
    if reason.kind() == IoKind::NotFound {
        return Error::usage(format!("there is no file or folder `{}`", path.display()))
            .hint("give a text file or a folder of text files, or leave DATA out to train on the embedded names");
    }
    Error::io("read", path, reason)
}

/// Reads one file in parts of about `part` bytes, normalised.
fn read_file(path: &Path, part: usize, take: Take<'_>) -> Result<()> {
    let failed = |reason: std::io::Error| unreadable(path, &reason);
    let mut file = File::open(path).map_err(failed)?;
    // What is carried over to the next part: the start of a character, and a carriage return.
    const CARRIED: usize = 4;
    let mut bytes = vec![0; part.max(1) + CARRIED];
    let (mut offset, mut line, mut carried, mut utf16) = (0, 1, 0, false);
    loop {
        let end = (carried + part.max(1)).min(bytes.len());
        let read = match file.read(&mut bytes[carried..end]) {
            Err(reason) if reason.kind() == IoKind::Interrupted => continue,
            read => read.map_err(failed)?,
        };
        let (all, last) = (&bytes[..carried + read], read == 0);
        utf16 |= offset == 0 && (all.starts_with(&[0xff, 0xfe]) || all.starts_with(&[0xfe, 0xff]));
        let mut valid = match std::str::from_utf8(all) {
            Ok(text) => text.len(),
            // A character that goes on in the next part.
            Err(error) if error.error_len().is_none() && !last => error.valid_up_to(),
            // The mark of UTF-16 has two bytes.
            Err(_) if offset == 0 && all.len() < 2 && !last => 0,
            Err(error) => {
                let good = error.valid_up_to();
                let line = line + lines(&all[..good]);
                return Err(not_utf8(path, all[good], (offset + good, line), utf16));
            }
        };
        if !last && all[..valid].ends_with(b"\r") {
            valid -= 1;
        }
        let text = std::str::from_utf8(&all[..valid]).map_err(Error::bug)?;
        let text = if offset == 0 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        match text.contains("\r\n") {
            true => take(&text.replace("\r\n", "\n"))?,
            false if !text.is_empty() => take(text)?,
            false => {}
        }
        if last {
            return Ok(());
        }
        (offset, line) = (offset + valid, line + lines(&all[..valid]));
        carried = carried + read - valid;
        bytes.copy_within(valid..valid + carried, 0);
    }
}

fn lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn not_utf8(path: &Path, byte: u8, (offset, line): (usize, usize), utf16: bool) -> Error {
    let (encoding, looks) = if utf16 { ("UTF-16", "it looks like UTF-16") } else { ("LATIN1", "if it is in Latin-1") };
    Error::usage(format!("`{}` is not valid UTF-8: byte 0x{byte:02x} at offset {offset}, line {line}", path.display()))
        .hint(format!("{looks}, convert it: iconv -f {encoding} -t UTF-8 FILE > NEW"))
}

/// Reads files one after the other, each from a new line on.
fn read_files(files: &[PathBuf], part: usize, take: Take<'_>) -> Result<()> {
    let mut open_line = false;
    for file in files {
        let mut first = true;
        read_file(file, part, &mut |text| {
            if open_line && first {
                take("\n")?;
            }
            (first, open_line) = (false, !text.ends_with('\n'));
            take(text)
        })?;
    }
    Ok(())
}

/// The files directly in a folder, hidden ones left out, in the order of their names.
fn files_of(folder: &Path, label: &str) -> Result<Vec<PathBuf>> {
    let failed = |reason: std::io::Error| Error::io("read", folder, &reason);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // `is_file` follows links, so a folder of links to texts works.
        if !hidden && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::usage(format!("the folder {label} has no text files in it"))
            .hint("the files directly in it are read, whatever their ending; hidden files and subfolders are not"));
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
impl Text {
    /// The same text, read in other parts.
    pub(crate) fn in_parts_of(self, part: usize) -> Text {
        Text { part, ..self }
    }
}
