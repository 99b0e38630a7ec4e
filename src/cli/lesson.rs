//! `lesson`.

use clap::Args;
use geartrain::lesson::{self, Epoch, Lesson};
use geartrain::train::Error;
use serde_json::json;

use super::output::line;
use super::{Failure, Outcome};

/// What `lesson` takes.
#[derive(Args)]
pub struct LessonArgs {
    /// xor or tokens; left out: a list
    name: Option<String>,
    /// Print one JSON object an epoch
    #[arg(long)]
    json: bool,
}

/// Lists the lessons, or trains one.
pub fn lesson(args: &LessonArgs) -> Outcome {
    let Some(name) = &args.name else {
        for lesson in lesson::LESSONS {
            if args.json {
                line(&json!({ "lesson": lesson.name, "title": lesson.title }).to_string())?;
            } else {
                line(&format!("{:8} {}", lesson.name, lesson.title))?;
            }
        }
        return if args.json { Ok(()) } else { line("\nnext: geartrain lesson xor") };
    };
    let lesson = find(name)?;
    if args.json { as_json(lesson) } else { for_people(lesson) }
}

/// The lesson of this name, or an error that lists them.
pub fn find(name: &str) -> Result<&'static Lesson, Error> {
    lesson::find(name).ok_or_else(|| {
        let names: Vec<&str> = lesson::LESSONS.iter().map(|l| l.name).collect();
        Error::usage(format!("there is no lesson `{name}`")).hint(format!("the lessons are: {}", names.join(", ")))
    })
}

fn as_json(lesson: &Lesson) -> Outcome {
    let mut told: Outcome = Ok(());
    let trained = lesson.train(lesson.epochs, |e| {
        if told.is_ok() {
            let row = json!({ "epoch": e.epoch, "loss": e.loss, "correct": e.correct });
            told = line(&row.to_string());
        }
    });
    told?;
    let trained = trained.map_err(|e| Failure::Error(Error::failed(e.to_string())))?;
    line(&json!({ "done": true, "predictions": trained.after_last_update }).to_string())
}

fn for_people(lesson: &Lesson) -> Outcome {
    line(lesson.title)?;
    line(&format!("\n{}", lesson.listing().map_err(|e| Error::failed(e.to_string()))?))?;
    line("training")?;
    let mut rows: Vec<Epoch> = Vec::new();
    let last = lesson.epochs - 1;
    let trained = lesson
        .train(lesson.epochs, |e| {
            if e.epoch % lesson.every == 0 || e.epoch == last {
                rows.push(e);
            }
        })
        .map_err(|e| Error::failed(e.to_string()))?;
    for row in rows {
        line(&format!(
            "  epoch {:>5}   loss {:.4}   correct {}/{}",
            row.epoch, row.loss, row.correct, lesson.examples
        ))?;
    }
    line("\npredictions of the trained network")?;
    for (i, prediction) in trained.after_last_update.iter().enumerate() {
        line(&format!("  {}", (lesson.describe)(i, *prediction)))?;
    }
    line(&format!("\nnext: geartrain explain {} shows where each line comes from", lesson.name))
}
