//! `lesson`.

use clap::Args;
use geartrain::lesson::{self, Lesson, Network};
use geartrain::train::Error;
use geartrain::train::words::nearest;
use serde_json::json;

use super::Outcome;
use super::output::{line, print};

/// What `lesson` takes.
#[derive(Args)]
pub struct LessonArgs {
    /// One of the lessons; left out: a list of them
    name: Option<String>,
    /// Print one JSON object a line: the rows of the tables, or every epoch of a training
    #[arg(long)]
    json: bool,
}

/// Lists the lessons, or prints one.
pub fn lesson(args: &LessonArgs) -> Outcome {
    let Some(name) = &args.name else { return list(args.json) };
    // Networks this small are not worth sharing among threads.
    let page = find(name)?.page(1).map_err(|e| Error::failed(e.to_string()))?;
    match args.json {
        true => page.json().try_for_each(|row| line(&row.to_string())),
        false => print(page.text()),
    }
}

fn list(json: bool) -> Outcome {
    for lesson in lesson::LESSONS {
        match json {
            true => line(&json!({ "lesson": lesson.name, "title": lesson.title }).to_string())?,
            false => {
                // The name says already what stands before the colon.
                let what = lesson.title.split_once(": ").map_or(lesson.title, |(_, what)| what);
                line(&format!("{:14}  {what}", lesson.name))?;
            }
        }
    }
    match lesson::LESSONS.first() {
        Some(first) if !json => line(&format!("\nnext: geartrain lesson {}", first.name)),
        _ => Ok(()),
    }
}

/// The lesson of this name, or an error with the nearest one.
fn find(name: &str) -> Result<&'static Lesson, Error> {
    let names = || lesson::LESSONS.iter().map(|lesson| lesson.name);
    lesson::find(name).ok_or_else(|| unknown(&format!("there is no lesson `{name}`"), name, names()))
}

/// The network of the lesson of this name, or an error with the nearest one.
pub fn network(name: &str) -> Result<&'static Network, Error> {
    let with_network = || lesson::LESSONS.iter().filter(|lesson| lesson.network.is_some()).map(|lesson| lesson.name);
    match lesson::find(name) {
        Some(lesson) => lesson.network.ok_or_else(|| {
            let names: Vec<&str> = with_network().collect();
            Error::usage(format!("the lesson `{name}` has no network of its own"))
                .hint(format!("these have: {}", names.join(", ")))
        }),
        None => Err(unknown(&format!("there is no lesson `{name}`"), name, with_network())),
    }
}

/// An error for a word that is none of some names, with the nearest of them, or all where none is near.
pub fn unknown<'a>(what: &str, word: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let names: Vec<&str> = names.collect();
    let hint = match nearest(word, names.iter().copied(), 0.6) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are: {}", names.join(", ")),
    };
    Error::usage(what).hint(hint)
}
