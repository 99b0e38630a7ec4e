//! Event files for TensorBoard, made from the lines of `metrics.jsonl`.
//!
//! Every number of a line with a step becomes a scalar of that step, named as in the line: `loss`, `lr`, `val_loss`, and for
//! layers `grad_norm/transformer.h.0`. A new kind of line needs nothing here. The file is a function of the lines and of
//! the time at which the run started, so a run that goes on writes it anew from the lines that stay, and no step is in it
//! twice.
//!
//! Format: records of TensorFlow (`tensorflow/core/lib/io/record_writer.h`), each a protocol-buffer `Event`
//! (`tensorflow/core/util/event.proto`), of which the few fields that are needed are written by hand.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::Value;

use crate::atomic;
use crate::error::{Error, Result};
use crate::metrics::Line;

/// The file's name: TensorBoard takes any that has `tfevents` in it.
pub const FILE: &str = "events.out.tfevents.geartrain";

/// What the first event of a file says.
const VERSION: &str = "brain.Event:2";

/// The event file of a run, open at its end.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: File,
    clock: Clock,
}

/// The time of an event: when the run began, and how long its steps took up to there.
#[derive(Clone, Copy, Debug)]
struct Clock {
    seconds: f64,
    step: u64,
}

impl TensorBoard {
    /// Writes the file of a run with the lines that it has told so far. `started` is a file that was written when the run
    /// began.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(folder: &Path, started: &Path, lines: &[Line]) -> Result<TensorBoard> {
        let time = std::fs::metadata(started).and_then(|found| found.modified()).ok();
        let began = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let mut clock = Clock { seconds: began.map_or(0.0, |time| time.as_secs_f64()), step: 0 };
        let mut bytes = record(&event(clock.seconds, 0, &[string(3, VERSION)]));
        lines.iter().for_each(|line| bytes.extend(clock.records(line)));
        let path = folder.join(FILE);
        atomic::replace_with(&path, &bytes)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|reason| Error::io("write", &path, &reason))?;
        Ok(TensorBoard { path, file, clock })
    }

    /// Adds the numbers of a line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, line: &Line) -> Result<()> {
        let records = self.clock.records(line);
        self.file.write_all(&records).map_err(|reason| Error::io("write", &self.path, &reason))
    }
}

impl Clock {
    /// The records of a line; none for a line without a step.
    fn records(&mut self, line: &Line) -> Vec<u8> {
        let value = serde_json::to_value(line).unwrap_or_default();
        let Some(step) = value.get("step").and_then(Value::as_u64) else { return Vec::new() };
        if let Line::Train(train) = line {
            self.seconds += train.ms / 1e3 * step.saturating_sub(self.step) as f64;
            self.step = step;
        }
        scalars(&value).iter().flat_map(|(tag, value)| record(&scalar(self.seconds, step, tag, *value))).collect()
    }
}

/// The numbers of a line with their names. Those that JSON lacks are strings in it.
fn scalars(line: &Value) -> Vec<(String, f64)> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let mut found = Vec::new();
    for (name, value) in line.as_object().into_iter().flatten().filter(|(name, _)| *name != "step") {
        found.extend(number(value).map(|value| (name.clone(), value)));
        for (layer, norms) in value.as_object().into_iter().flatten() {
            let norms = norms.as_object().into_iter().flatten();
            found.extend(norms.filter_map(|(norm, value)| Some((format!("{norm}/{layer}"), number(value)?))));
        }
    }
    found
}

/// `Event { wall_time, step, summary { value { tag, simple_value } } }`
fn scalar(seconds: f64, step: u64, tag: &str, value: f64) -> Vec<u8> {
    let value = [string(1, tag), field(2, FIXED32, &(value as f32).to_le_bytes())].concat();
    let summary = bytes(1, &value);
    event(seconds, step, &[bytes(5, &summary)])
}

fn event(seconds: f64, step: u64, fields: &[Vec<u8>]) -> Vec<u8> {
    [field(1, FIXED64, &seconds.to_le_bytes()), field(2, VARINT, &varint(step)), fields.concat()].concat()
}

// The wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED32: u8 = 5;

/// A field whose number is below 16.
fn field(number: u8, wire: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | wire], value].concat()
}

fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    field(number, LENGTH, &[&varint(value.len() as u64), value].concat())
}

fn string(number: u8, value: &str) -> Vec<u8> {
    bytes(number, value.as_bytes())
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The length with its checksum, the data with its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()].concat()
}

/// CRC-32C turned and shifted, so that a checksum of data with checksums in it is no fixed point.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 with Castagnoli's polynomial, bits reflected (RFC 3720, section 12.1).
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    };
    !data.iter().fold(!0, step)
}

#[cfg(test)]
mod tests;
