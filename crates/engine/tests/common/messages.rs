//! Messages of errors: which ones a source can make, and whether a text shows each of them. Shared by the tests of the
//! engine and those of the program.
#![allow(dead_code, reason = "each test uses some of these")]

use std::fs;
use std::path::{Path, PathBuf};

/// A message as the source writes it, with where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// File and line.
    pub place: String,
    /// The literal; `{..}` are holes.
    pub text: String,
}

/// The string literals of `source` that follow one of `markers`, perhaps inside a `format!(`; tests at its end are left
/// out.
pub fn templates(place: &str, source: &str, markers: &[&str]) -> Vec<Template> {
    let (source, _) = code_and_tests(source);
    let mut found = Vec::new();
    for marker in markers {
        for (at, _) in source.match_indices(marker) {
            let line_start = source[..at].rfind('\n').map_or(0, |i| i + 1);
            if source[line_start..at].trim_start().starts_with("//") {
                continue;
            }
            let rest = source[at + marker.len()..].trim_start();
            let rest = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
            let Some(text) = rest.strip_prefix('"').and_then(literal) else { continue };
            found.push(Template { place: format!("{place}:{}", source[..at].lines().count()), text });
        }
    }
    found
}

/// A source before and after the start of the tests at its end.
pub fn code_and_tests(source: &str) -> (&str, &str) {
    source.split_once("#[cfg(test)]\nmod tests {").unwrap_or((source, ""))
}

/// Every line of a string literal of `source`, in order, but for those behind one of `not`; there are none in comments.
pub fn literals(place: &str, source: &str, not: &[&str]) -> Vec<Template> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let line = || source[..at].matches('\n').count() + 1;
        let mut keep = |text: String| {
            let before = source[..at].trim_end();
            if not.iter().any(|marker| before.ends_with(marker)) {
                return;
            }
            found.extend(text.lines().map(|text| Template { place: format!("{place}:{}", line()), text: text.into() }))
        };
        at += if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some((text, len)) = raw(rest).filter(|_| !source[..at].ends_with(char::is_alphanumeric)) {
            keep(text);
            len
        } else if let Some(inside) = rest.strip_prefix('"') {
            literal(inside).into_iter().for_each(&mut keep);
            literal_len(inside)
        } else {
            character_len(rest)
        };
    }
    found
}

/// A raw string literal at the start of `rest`, and its length.
fn raw(rest: &str) -> Option<(String, usize)> {
    let inner = rest.strip_prefix('r')?;
    let text = inner.trim_start_matches('#');
    let end = format!("\"{}", "#".repeat(inner.len() - text.len()));
    let text = text.strip_prefix('"')?;
    let len = text.find(&end)?;
    Some((text[..len].to_string(), rest.len() - text.len() + len + end.len()))
}

/// The bytes of a string literal, both quotation marks among them, of which `inside` follows the first.
fn literal_len(inside: &str) -> usize {
    let mut escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.unwrap_or(inside.len()) + 2
}

/// The bytes of the character that `rest` starts with, or of the character literal, which may be a quotation mark.
fn character_len(rest: &str) -> usize {
    let mut chars = rest.chars();
    let first = chars.next().map_or(1, char::len_utf8);
    let escaped = rest.starts_with("'\\");
    let inside = chars.by_ref().take(1 + usize::from(escaped)).map(char::len_utf8).sum::<usize>();
    let quoted = rest.starts_with('\'') && rest[first + inside..].starts_with('\'');
    if quoted { first + inside + 1 } else { first }
}

/// A string literal up to its end, with escapes and line breaks resolved.
fn literal(rest: &str) -> Option<String> {
    let (mut text, mut chars) = (String::new(), rest.chars().peekable());
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                '\n' => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                'n' => text.push('\n'),
                c => text.push(c),
            },
            c => text.push(c),
        }
    }
}

/// Whether `told` holds the message: its fixed parts in order, on one line.
pub fn is_told(template: &str, told: &str) -> bool {
    let parts = fixed_parts(template);
    told.lines().any(|line| {
        let mut rest = line;
        parts.iter().all(|part| match rest.find(part.as_str()) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    })
}

/// Whether a text has two words or more besides its holes.
pub fn says_something(template: &Template) -> bool {
    let words = |part: &String| part.split_whitespace().filter(|w| w.matches(char::is_alphabetic).count() > 1).count();
    fixed_parts(&template.text).iter().map(words).sum::<usize>() > 1
}

/// What stands between the holes.
fn fixed_parts(template: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.peek() == Some(&c) && depth == 0 => {
                chars.next();
                parts.last_mut().into_iter().for_each(|part| part.push(c));
            }
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                parts.push(String::new());
            }
            c if depth == 0 => parts.last_mut().into_iter().for_each(|part| part.push(c)),
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// All `.rs` files below a folder, in order.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// The messages behind `markers` that `told` does not show, of those files below `folder` that are `wanted`.
pub fn untold(folder: &Path, wanted: impl Fn(&str) -> bool, markers: &[&str], told: &str) -> Vec<Template> {
    let mut all = Vec::new();
    for path in sources(folder) {
        let place = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        if wanted(&place) && !place.ends_with("tests.rs") {
            all.extend(templates(&place, &fs::read_to_string(&path).unwrap_or_default(), markers));
        }
    }
    assert!(!all.is_empty(), "no message found below {}", folder.display());
    // A hole alone passes on a message that is made elsewhere.
    all.retain(|t| !fixed_parts(&t.text).is_empty() && !is_told(&t.text, told));
    all
}

/// Compares a text with the file that holds what it should be; with `GEARTRAIN_BLESS=1` in the environment it is written
/// anew instead.
#[track_caller]
pub fn same_as_file(path: &Path, text: &str) {
    if std::env::var_os("GEARTRAIN_BLESS").is_some() {
        fs::write(path, text).unwrap();
    }
    let known = fs::read_to_string(path).unwrap_or_default();
    let changed: Vec<String> = difference(&known, text);
    assert!(
        changed.is_empty(),
        "{} differs (- known, + now); read each line aloud, then write it anew with GEARTRAIN_BLESS=1:\n{}",
        path.display(),
        changed.join("\n")
    );
}

/// Lines that only one text has.
fn difference(known: &str, now: &str) -> Vec<String> {
    let gone = known.lines().filter(|line| !now.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
    let new = now.lines().filter(|line| !known.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}
