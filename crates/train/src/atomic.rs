//! Files that are there whole or not at all: written to a new name beside the old file, then put in its place.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// The end of the name of every file that is still being written.
const SUFFIX: &str = ".tmp";

/// What writes into a file that [`replace`] made.
pub(crate) type Sink = BufWriter<File>;

/// Writes a file whole: into a new file in the same folder, then fsync, rename, fsync of the folder. Whatever happens,
/// `path` holds the old contents or the new ones, and once this returns the new ones survive a crash of the machine.
///
/// # Errors
/// The folder does not exist or cannot be written, the disk is full, or `fill` fails. The new file is then removed.
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&mut Sink) -> std::io::Result<()>) -> Result<()> {
    let (new, file) = create_beside(path)?;
    let done = write_through(file, fill).and_then(|()| std::fs::rename(&new, path)).and_then(|()| sync_folder_of(path));
    done.map_err(|reason| {
        // It may be renamed already; then there is nothing to remove.
        let _ = std::fs::remove_file(&new);
        Error::io("write", path, &reason)
    })
}

/// [`replace`] with bytes that are at hand.
pub(crate) fn replace_with(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |sink| sink.write_all(bytes))
}

/// Removes what writers that were killed have left in a folder; a folder that does not exist has none.
///
/// # Errors
/// The folder cannot be read or a file in it cannot be removed.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(reason) if reason.kind() == ErrorKind::NotFound => return Ok(()),
        Err(reason) => return Err(Error::io("read", folder, &reason)),
    };
    for entry in entries {
        let path = entry.map_err(|reason| Error::io("read", folder, &reason))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') && name.ends_with(SUFFIX) {
            std::fs::remove_file(&path).map_err(|reason| Error::io("remove", &path, &reason))?;
        }
    }
    Ok(())
}

/// Makes the entries of the folder that `path` stands in survive a crash of the machine.
pub(crate) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    // Only Unix lets a program open a folder to flush it.
    if cfg!(unix) {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn create_beside(path: &Path) -> Result<(PathBuf, File)> {
    // Process ids come back after a while, so one name may be taken by the leftover of an older process.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Some(name) = path.file_name() else {
        return Err(Error::failed(format!("cannot write `{}`: it does not name a file", path.display())));
    };
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = path.with_file_name(format!(".{}.{}-{n}{SUFFIX}", name.display(), std::process::id()));
        match File::create_new(&new) {
            Ok(file) => return Ok((new, file)),
            Err(reason) if reason.kind() == ErrorKind::AlreadyExists => {}
            Err(reason) => return Err(Error::io("write", path, &reason)),
        }
    }
}

fn write_through(file: File, fill: impl FnOnce(&mut Sink) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut sink = BufWriter::with_capacity(1 << 16, file);
    fill(&mut sink)?;
    sink.flush()?;
    sink.get_ref().sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        replace_with(&path, b"one").unwrap();
        replace_with(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        replace_with(&path, b"one").unwrap();
        let error = replace(&path, |sink| {
            sink.write_all(b"half")?;
            Err(std::io::Error::other("no space left"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write `{}`: no space left", path.display()));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = replace_with(&folder.path().join("no/a.txt"), b"x").unwrap_err();
        assert!(error.to_string().contains("no/a.txt"), "{error}");
    }

    #[test]
    fn leftovers_go_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.txt", ".a.txt.12-0.tmp", "mine.tmp", ".hidden"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".hidden", "a.txt", "mine.tmp"]);
        remove_leftovers(&folder.path().join("no")).unwrap();
    }
}
