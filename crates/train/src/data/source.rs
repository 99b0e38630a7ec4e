//! Loading a text: a UTF-8 file, a folder of files, or the embedded names.

use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data::names;
use crate::error::{Error, Result, count};
use crate::tokenizer::hex;

/// A normalised text: valid UTF-8, no byte-order mark, lines ending in a line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text itself.
    pub text: String,
    /// SHA-256 of the text's bytes, in hex.
    pub hash: String,
    /// A short name: the file's or folder's name without its ending, or `names`.
    pub name: String,
    /// What messages call it: the path in backquotes, or `the embedded names`.
    pub label: String,
}

impl Text {
    /// Loads the text at a path, or the embedded names without one.
    ///
    /// Of a folder, the files directly in it are joined in the order of their names, with a newline between two where the
    /// first does not end in one; subfolders and files whose names begin with a dot are skipped.
    ///
    /// # Errors
    /// Nothing at the path, no text there, bytes that are not UTF-8 (with their place), or a failure to read.
    pub fn load(path: Option<&Path>) -> Result<Text> {
        let Some(path) = path else {
            return Ok(Text::of(names(), "names", "the embedded names"));
        };
        let label = format!("`{}`", path.display());
        let meta = fs::metadata(path).map_err(|reason| unreadable(path, &reason))?;
        if !meta.is_dir() && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv")) {
            return Err(Error::usage(format!("{label} is a table, not a text"))
                .hint("to train on its characters as on any text, give it another ending, such as .txt"));
        }
        let text = if meta.is_dir() { read_folder(path, &label)? } else { read_file(path)? };
        if text.is_empty() {
            return Err(Error::usage(format!("{label} is empty")).hint("give a file with text in it"));
        }
        let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let stem = if meta.is_dir() { full.file_name() } else { full.file_stem() };
        let name = stem.map_or_else(|| "text".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Text::of(text, &name, &label))
    }

    /// A text that is at hand already, normalised as a file's is. `label` is what messages call it.
    pub fn new(text: &str, name: &str, label: &str) -> Text {
        Text::of(normalised(text), name, label)
    }

    /// A text that is normalised already: a second time could find a line end that the first one made.
    fn of(text: String, name: &str, label: &str) -> Text {
        let hash = hex(&Sha256::digest(text.as_bytes()));
        Text { text, hash, name: name.to_string(), label: label.to_string() }
    }
}

fn normalised(text: &str) -> String {
    text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n")
}

fn unreadable(path: &Path, reason: &std::io::Error) -> Error {
    if reason.kind() == IoKind::NotFound {
        return Error::usage(format!("there is no file or folder `{}`", path.display()))
            .hint("give a text file or a folder of text files, or leave DATA out to train on the embedded names");
    }
    Error::io("read", path, reason)
}

fn read_file(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|reason| unreadable(path, &reason))?;
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
        let (encoding, looks) =
            if utf16 { ("UTF-16", "it looks like UTF-16") } else { ("LATIN1", "if it is in Latin-1") };
        Error::usage(format!(
            "`{}` is not valid UTF-8: byte 0x{:02x} at offset {offset}, line {line}",
            path.display(),
            error.as_bytes()[offset]
        ))
        .hint(format!("{looks}, convert it: iconv -f {encoding} -t UTF-8 FILE > NEW"))
    })?;
    Ok(normalised(&text))
}

fn read_folder(folder: &Path, label: &str) -> Result<String> {
    let files = files_of(folder)?;
    if files.is_empty() {
        return Err(Error::usage(format!("the folder {label} has no text files in it"))
            .hint("the files directly in it are read, whatever their ending; hidden files and subfolders are not"));
    }
    let mut all = String::new();
    for file in &files {
        let text = read_file(file)?;
        if !all.is_empty() && !all.ends_with('\n') && !text.is_empty() {
            all.push('\n');
        }
        all.push_str(&text);
    }
    if all.is_empty() {
        let files = count(files.len(), "file");
        return Err(Error::usage(format!("the folder {label} has no text in it: of {files}, none has any"))
            .hint("give a folder of files with text in them"));
    }
    Ok(all)
}

/// The files directly in a folder, hidden ones left out, in the order of their names.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
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
    files.sort_unstable();
    Ok(files)
}
