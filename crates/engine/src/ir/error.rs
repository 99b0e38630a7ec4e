//! Errors of a graph: what is wrong, where, and what to do.

use std::fmt;
use std::panic::Location;

use crate::ir::types::Type;

/// A rule that an operation's inputs broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is wrong, in one clause.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Rule {
    /// A rule without a hint.
    pub fn new(what: impl Into<String>) -> Rule {
        Rule { what: what.into(), hint: None }
    }

    /// Adds what to do.
    pub fn hint(self, hint: impl Into<String>) -> Rule {
        Rule { hint: Some(hint.into()), ..self }
    }
}

/// One operation that could not be added, or one gradient that could not be made.
#[derive(Clone, Debug)]
pub struct OpError {
    /// The operation's name.
    pub op: String,
    /// The rule that was broken.
    pub rule: Rule,
    /// The types of its inputs.
    pub inputs: Vec<Type>,
    /// The layer path, `transformer.h.0.attn`; empty outside layers.
    pub path: String,
    /// The caller's line.
    pub location: &'static Location<'static>,
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.op, self.rule.what)?;
        if !self.inputs.is_empty() {
            let types: Vec<String> = self.inputs.iter().map(Type::to_string).collect();
            write!(f, "; inputs: {}", types.join(" and "))?;
        }
        write!(f, " [{}:{}", self.location.file(), self.location.line())?;
        if !self.path.is_empty() {
            write!(f, ", in {}", self.path)?;
        }
        write!(f, "]")
    }
}

/// All errors of a graph, at least one.
#[derive(Clone, Debug, Default)]
pub struct GraphError {
    errors: Vec<OpError>,
}

impl GraphError {
    /// From a list that is not empty; an empty one becomes `Ok`.
    pub fn check(errors: Vec<OpError>) -> Result<(), GraphError> {
        if errors.is_empty() { Ok(()) } else { Err(GraphError { errors }) }
    }

    /// The errors in the order they were made.
    pub fn errors(&self) -> &[OpError] {
        &self.errors
    }

    /// The first hint.
    pub fn hint(&self) -> Option<&str> {
        self.errors.iter().find_map(|e| e.rule.hint.as_deref())
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for GraphError {}
