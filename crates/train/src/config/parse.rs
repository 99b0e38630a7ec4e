//! From text and TOML to checked values, and the errors on the way.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::choices::TokenizerSource;
use super::keys::{KEYS, Key, KeyType, PLANNED_KEYS, PLANNED_VALUES};
use crate::error::{Error, Result};
use crate::words::nearest;

/// A value of one of the types that keys have. Paths and choices are `Text`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Whole(u64),
    Number(f64),
    Pair([f64; 2]),
    Flag(bool),
    Text(String),
}

impl Value {
    /// As TOML; `None` for an empty text, which stands for a path that is not set.
    pub(super) fn toml(&self) -> Option<String> {
        let number = |x: f64| toml::Value::Float(x).to_string();
        match self {
            Value::Whole(value) => Some(value.to_string()),
            Value::Number(value) => Some(number(*value)),
            Value::Pair([a, b]) => Some(format!("[{}, {}]", number(*a), number(*b))),
            Value::Flag(value) => Some(value.to_string()),
            Value::Text(value) if value.is_empty() => None,
            Value::Text(value) => Some(toml::Value::String(value.clone()).to_string()),
        }
    }
}

/// A key and the value that a file or flag gives it.
#[derive(Clone)]
pub(super) struct Assignment {
    pub(super) key: &'static Key,
    pub(super) value: Value,
}

/// The key of a dotted name, or an error with the nearest known one.
pub(super) fn known_key(name: &str) -> Result<&'static Key> {
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return Ok(key);
    }
    if let Some((_, hint)) = PLANNED_KEYS.iter().find(|(planned, _)| *planned == name) {
        return Err(Error::usage(format!("{name} is not available yet")).hint(*hint));
    }
    if let Some(first) = KEYS.iter().find(|key| key.section() == name) {
        return Err(Error::usage(format!("{name} is a section, not a key"))
            .hint(format!("name a key in it too, as in {}", first.name)));
    }
    let error = Error::usage(format!("unknown key `{name}`"));
    Err(match nearest_key(name) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("`geartrain train --help` lists the keys"),
    })
}

/// The known key that a name resembles most: as a whole, or, for a name without its section, in the part after the dot.
fn nearest_key(name: &str) -> Option<&'static str> {
    let whole = name.contains('.');
    let known = |key: &Key| if whole { key.name } else { key.short() };
    let near = |least| {
        let near = nearest(name, KEYS.iter().map(known), least)?;
        KEYS.iter().rfind(|key| known(key) == near)
    };
    let exact = || KEYS.iter().find(|key| name.rsplit('.').next() == Some(key.short()));
    near(0.8).or_else(exact).or_else(|| near(0.6)).map(|key| key.name)
}

/// The value that a flag's text gives a key, checked.
pub(super) fn value_of_text(key: &Key, text: &str) -> Result<Value> {
    let plain = text.replace('_', "");
    let number = || plain.trim().parse::<f64>().map_err(|_| wrong_type(key, text));
    let value = match key.kind {
        KeyType::Whole { .. } => whole(key, &plain, 10, text)?,
        KeyType::Number(_) => Value::Number(number()?),
        KeyType::Pair(_) => {
            let inner = plain.trim();
            let inner = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(inner);
            let numbers: Option<Vec<f64>> = inner.split(',').map(|part| part.trim().parse().ok()).collect();
            Value::Pair(numbers.and_then(|n| n.try_into().ok()).ok_or_else(|| wrong_type(key, text))?)
        }
        KeyType::Flag => Value::Flag(text.parse().map_err(|_| wrong_type(key, text))?),
        KeyType::ChoiceOrFile(_) if TokenizerSource::is_file(text) => Value::Text(text.to_string()),
        KeyType::Choice(words) | KeyType::ChoiceOrFile(words) => choice(key, words, text)?,
        KeyType::Path | KeyType::Names => Value::Text(text.to_string()),
    };
    check_range(key, &value)?;
    Ok(value)
}

/// A whole number, or the right one of two errors: not a number at all, or a number out of range.
fn whole(key: &Key, digits: &str, radix: u32, text: &str) -> Result<Value> {
    if let Ok(value) = u64::from_str_radix(digits, radix) {
        return Ok(Value::Whole(value));
    }
    match i128::from_str_radix(digits, radix) {
        Ok(_) => Err(out_of_range(key, text)),
        Err(_) => Err(wrong_type(key, text)),
    }
}

fn choice(key: &Key, words: &[&str], text: &str) -> Result<Value> {
    if words.contains(&text) {
        return Ok(Value::Text(text.to_string()));
    }
    let planned = PLANNED_VALUES.iter().any(|(name, words)| *name == key.name && words.contains(&text));
    if planned {
        return Err(Error::usage(format!("{} = `{text}` is not available yet", key.name))
            .hint(format!("use {} for now", one_of(words))));
    }
    let error = wrong_type(key, text);
    Err(if let Some(near) = nearest(text, words.iter().copied(), 0.5) {
        error.hint(format!("did you mean {near}?"))
    } else {
        error
    })
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn one_of<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::new(),
        [only] => only.as_ref().to_string(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", first.join(", "), last.as_ref())
        }
    }
}

fn wrong_type(key: &Key, got: &str) -> Error {
    let (wanted, example) = match key.kind {
        KeyType::Whole { .. } => ("a whole number".to_string(), true),
        KeyType::Number(_) => ("a number".to_string(), true),
        KeyType::Pair(_) => ("two numbers".to_string(), true),
        KeyType::Flag => ("true or false".to_string(), false),
        KeyType::Choice(words) => (one_of(words), false),
        KeyType::ChoiceOrFile(words) => (format!("{} or the path of a tokenizer.json", words.join(", ")), false),
        KeyType::Path => ("the path of a file or folder, in quotes".to_string(), false),
        KeyType::Names => ("the names of columns, in quotes".to_string(), false),
    };
    let error = Error::usage(format!("{} wants {wanted}, got `{got}`", key.name));
    let default = match key.kind {
        KeyType::Pair(_) => format!("[{}]", key.default),
        _ => key.default.to_string(),
    };
    if example { error.hint(format!("for example {} = {default}", key.name)) } else { error }
}

fn out_of_range(key: &Key, got: &str) -> Error {
    let range = match key.kind {
        KeyType::Whole { min, .. } if got.starts_with('-') || got.parse::<u64>().is_ok_and(|x| x < min) => {
            format!("at least {min}")
        }
        KeyType::Whole { max, .. } => format!("at most {max}"),
        KeyType::Number(range) => range.words().to_string(),
        KeyType::Pair(range) => format!("two numbers, each {}", range.words()),
        _ => return wrong_type(key, got),
    };
    Error::usage(format!("{} must be {range}, got {got}", key.name))
}

/// Checks a value of the key's type against the key's range.
pub(super) fn check_range(key: &Key, value: &Value) -> Result<()> {
    match (key.kind, value) {
        (KeyType::Whole { min, max }, Value::Whole(x)) if !(min..=max).contains(x) => {
            Err(out_of_range(key, &x.to_string()))
        }
        (KeyType::Number(range), Value::Number(x)) if !range.holds(*x) => Err(out_of_range(key, &x.to_string())),
        (KeyType::Pair(range), Value::Pair([a, b])) if !(range.holds(*a) && range.holds(*b)) => {
            Err(out_of_range(key, &format!("{a} and {b}")))
        }
        _ => Ok(()),
    }
}

/// What a TOML file assigns.
pub(super) fn file(path: &Path) -> Result<Vec<Assignment>> {
    let text = std::fs::read_to_string(path).map_err(|reason| match reason.kind() {
        std::io::ErrorKind::NotFound => Error::usage(format!("there is no configuration file `{}`", path.display()))
            .hint("--config wants a TOML file; `geartrain train --help` lists its keys"),
        std::io::ErrorKind::InvalidData => {
            Error::usage(format!("the configuration file `{}` is not valid UTF-8 text", path.display()))
        }
        _ => Error::io("read", path, &reason),
    })?;
    toml(&text, &path.display().to_string())
}

/// What a TOML text assigns, in the order of its lines; `label` names it in errors.
pub(super) fn toml(text: &str, label: &str) -> Result<Vec<Assignment>> {
    let place = |offset: usize| format!("{label}:{}", text[..offset].matches('\n').count() + 1);
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Error::usage(format!("not valid TOML, {}", error.message())).at(place(offset.min(text.len())))
    })?;
    let mut leaves = Vec::new();
    collect("", table.get_ref(), &mut leaves);
    leaves.sort_by_key(|(_, offset, _)| *offset);
    let assign = |(name, offset, value): (String, usize, &Spanned<DeValue<'_>>)| {
        let key = known_key(&name).map_err(|error| error.at(place(offset)))?;
        let value =
            value_of_toml(key, value.get_ref(), &text[value.span()]).map_err(|error| error.at(place(offset)))?;
        Ok(Assignment { key, value })
    };
    leaves.into_iter().map(assign).collect()
}

/// Every value below a table with its dotted name and where its key starts. A known key or an empty table is a value.
fn collect<'t, 'i>(prefix: &str, table: &'t DeTable<'i>, leaves: &mut Vec<(String, usize, &'t Spanned<DeValue<'i>>)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let is_section = KEYS.iter().any(|known| known.section() == name);
        match value.get_ref() {
            DeValue::Table(inner) if is_section || !inner.is_empty() => collect(&name, inner, leaves),
            _ => leaves.push((name, key.span().start, value)),
        }
    }
}

fn value_of_toml(key: &Key, value: &DeValue<'_>, source: &str) -> Result<Value> {
    let wrong = || wrong_type(key, source);
    let value = match (key.kind, value) {
        (KeyType::Whole { .. }, DeValue::Integer(n)) => whole(key, n.as_str(), n.radix(), source)?,
        (KeyType::Number(_), value) => Value::Number(number(value).ok_or_else(wrong)?),
        (KeyType::Pair(_), DeValue::Array(items)) => {
            let numbers: Option<Vec<f64>> = items.iter().map(|item| number(item.get_ref())).collect();
            Value::Pair(numbers.and_then(|n| n.try_into().ok()).ok_or_else(wrong)?)
        }
        (KeyType::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
        (KeyType::ChoiceOrFile(_), DeValue::String(word)) => value_of_text(key, word)?,
        (KeyType::Choice(words), DeValue::String(word)) => choice(key, words, word)?,
        (KeyType::Path | KeyType::Names, DeValue::String(text)) => Value::Text(text.to_string()),
        _ => return Err(wrong()),
    };
    check_range(key, &value)?;
    Ok(value)
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n as f64),
        DeValue::Float(x) => x.as_str().parse().ok(),
        _ => None,
    }
}
