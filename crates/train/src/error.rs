//! The crate's one error type: what is wrong and where, what to do about it, and the exit code it stands for.

use std::path::Path;

/// A result with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure an [`Error`] is; it decides the exit code of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The run failed: reading, writing or computing did not work. Exit code 1.
    Failed,
    /// What was asked for cannot be done as asked: flags, configuration or data. Exit code 2.
    Usage,
    /// A number became infinite or not a number. Exit code 3.
    NonFinite,
    /// No checkpoint, tokenizer or weights could be loaded. Exit code 4.
    NoCheckpoint,
}

/// What went wrong, in the words shown to the user. `Display` prints `what` alone; the hint is shown apart from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    /// One line: what is wrong and where (file, line, key, sizes).
    pub what: String,
    /// What to do about it, if there is something to do.
    pub hint: Option<String>,
    /// What sort of failure it is.
    pub kind: ErrorKind,
}

impl Error {
    fn new(kind: ErrorKind, what: impl Into<String>) -> Error {
        Error { what: what.into(), hint: None, kind }
    }

    /// The run failed (exit code 1).
    pub fn failed(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Failed, what)
    }

    /// Flags, configuration or data cannot be used as they are (exit code 2).
    pub fn usage(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, what)
    }

    /// A number became infinite or not a number (exit code 3).
    pub fn non_finite(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::NonFinite, what)
    }

    /// No checkpoint, tokenizer or weights could be loaded (exit code 4).
    pub fn no_checkpoint(what: impl Into<String>) -> Error {
        Error::new(ErrorKind::NoCheckpoint, what)
    }

    /// An operation of the system failed on a path: ``cannot {verb} `{path}`: {reason}`` (exit code 1).
    pub fn io(verb: &str, path: &Path, reason: &std::io::Error) -> Error {
        Error::failed(format!("cannot {verb} `{}`: {reason}", path.display()))
    }

    /// A program of ours could not be fed or run (exit code 1).
    pub(crate) fn bug(reason: impl std::fmt::Display) -> Error {
        Error::failed(format!("the step could not run: {reason}"))
    }

    /// The same error with a hint on what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with a place in front, as in `config.toml:3: ...`.
    #[must_use]
    pub fn at(mut self, place: impl std::fmt::Display) -> Error {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The exit code of the command line for this error.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Failed => 1,
            ErrorKind::Usage => 2,
            ErrorKind::NonFinite => 3,
            ErrorKind::NoCheckpoint => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_exit_code() {
        assert_eq!(Error::failed("x").exit_code(), 1);
        assert_eq!(Error::usage("x").exit_code(), 2);
        assert_eq!(Error::non_finite("x").exit_code(), 3);
        assert_eq!(Error::no_checkpoint("x").exit_code(), 4);
    }

    #[test]
    fn display_prints_what_is_wrong_without_the_hint() {
        let error = Error::usage("train.steps wants a whole number").hint("write 100").at("c.toml:3");
        assert_eq!(error.to_string(), "c.toml:3: train.steps wants a whole number");
        assert_eq!(error.hint.as_deref(), Some("write 100"));
    }

    #[test]
    fn system_errors_name_the_path() {
        let reason = std::io::Error::other("no space left");
        let error = Error::io("write", Path::new("a/b"), &reason);
        assert_eq!(error.to_string(), "cannot write `a/b`: no space left");
        assert_eq!(error.kind, ErrorKind::Failed);
    }
}
