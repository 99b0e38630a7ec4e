//! What was written is read back by a reader of the format of its own.

use super::*;
use crate::metrics::{Evaluation, Layers, Norms, Sample, Train};
use crate::scores::Scores;

/// CRC-32C through a table, as its readers compute it.
fn crc(data: &[u8]) -> u32 {
    let entry = |i: u32| (0..8).fold(i, |c, _| (c >> 1) ^ (0u32.wrapping_sub(c & 1) & 0x82f6_3b78));
    let table: Vec<u32> = (0..256).map(entry).collect();
    let mut crc = u32::MAX;
    for byte in data {
        crc = table[((crc ^ u32::from(*byte)) & 255) as usize] ^ (crc >> 8);
    }
    !crc
}

fn unmasked(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// The records of a file; every checksum must be right.
fn records(mut rest: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let word = |at: usize, rest: &[u8]| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        assert_eq!(unmasked(word(8, rest)), crc(&rest[..8]), "the length's checksum");
        let data = &rest[12..12 + length];
        assert_eq!(unmasked(word(12 + length, rest)), crc(data), "the data's checksum");
        found.push(data.to_vec());
        rest = &rest[16 + length..];
    }
    found
}

/// The fields of a message: number and bytes, those of a varint as 8 little-endian ones.
fn fields(mut rest: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn number(rest: &mut &[u8]) -> u64 {
        let length = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (own, others) = rest.split_at(length);
        *rest = others;
        own.iter().rev().fold(0, |n, byte| n << 7 | u64::from(byte & 0x7f))
    }
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = number(&mut rest);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, number(&mut rest).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => number(&mut rest) as usize,
            5 => 4,
            wire => panic!("wire type {wire}"),
        };
        let (own, others) = rest.split_at(length);
        found.push((key >> 3, own.to_vec()));
        rest = others;
    }
    found
}

/// Wall time, step, tag and value of every scalar, behind the event that names the version.
fn read(file: &[u8]) -> Vec<(f64, u64, String, f32)> {
    let only = |fields: &[(u64, Vec<u8>)], number: u64| {
        let found: Vec<_> = fields.iter().filter(|(n, _)| *n == number).collect();
        assert_eq!(found.len(), 1, "field {number} of {fields:?}");
        found[0].1.clone()
    };
    let records = records(file);
    assert_eq!(only(&fields(&records[0]), 3), b"brain.Event:2");
    let scalar = |record: &Vec<u8>| {
        let event = fields(record);
        let value = fields(&only(&fields(&only(&event, 5)), 1));
        let time = f64::from_le_bytes(only(&event, 1).try_into().unwrap());
        let step = u64::from_le_bytes(only(&event, 2).try_into().unwrap());
        let number = f32::from_le_bytes(only(&value, 2).try_into().unwrap());
        (time, step, String::from_utf8(only(&value, 1)).unwrap(), number)
    };
    records[1..].iter().map(scalar).collect()
}

fn lines() -> Vec<Line> {
    let norms = |name: &str, grad_norm| (name.to_string(), Norms { grad_norm, update_norm: 0.25 });
    vec![
        Train { step: 1, loss: 3.5, lr: 0.001, grad_norm: 1.5, ms: 500.0 }.into(),
        Layers { step: 1, layers: vec![norms("h.0", 0.5), norms("h.10", f64::NEG_INFINITY)] }.into(),
        Train { step: 300, loss: f64::NAN, lr: 0.002, grad_norm: 2.5, ms: 10.0 }.into(),
        Evaluation::new(300, &Scores { loss: 2.25, fit: None }).into(),
        Sample { sample: "3.5".into() }.into(),
    ]
}

/// What [`lines`] say, without the time and the speed.
fn expected() -> Vec<(u64, String, String)> {
    [
        (1, "loss", "3.5"),
        (1, "lr", "0.001"),
        (1, "grad_norm", "1.5"),
        (1, "grad_norm/h.0", "0.5"),
        (1, "update_norm/h.0", "0.25"),
        (1, "grad_norm/h.10", "-inf"),
        (1, "update_norm/h.10", "0.25"),
        (300, "loss", "NaN"),
        (300, "lr", "0.002"),
        (300, "grad_norm", "2.5"),
        (300, "val_loss", "2.25"),
    ]
    .map(|(step, tag, value)| (step, tag.to_string(), value.to_string()))
    .to_vec()
}

fn told(file: &Path) -> Vec<(u64, String, String)> {
    let scalars = read(&std::fs::read(file).unwrap()).into_iter().filter(|(_, _, tag, _)| tag != "ms");
    let mut told: Vec<_> = scalars.map(|(_, step, tag, value)| (step, tag, value.to_string())).collect();
    told.sort();
    told
}

fn sorted(mut scalars: Vec<(u64, String, String)>) -> Vec<(u64, String, String)> {
    scalars.sort();
    scalars
}

#[test]
fn another_reader_finds_every_number() {
    let folder = tempfile::tempdir().unwrap();
    let (file, started) = (folder.path().join(FILE), folder.path().join("config.toml"));
    std::fs::write(&started, "").unwrap();
    let mut events = TensorBoard::create(folder.path(), &started, &[]).unwrap();
    assert_eq!(told(&file), []);
    for line in lines() {
        events.append(&line).unwrap();
    }
    assert_eq!(told(&file), sorted(expected()));
    // The first step took half a second, the others ten milliseconds each.
    let times: Vec<f64> = read(&std::fs::read(&file).unwrap()).iter().map(|scalar| scalar.0).collect();
    assert!(times[0] > 1.7e9, "seconds since 1970: {times:?}");
    let last = times.last().unwrap() - times[0];
    assert!((last - 299.0 * 0.01).abs() < 1e-6, "{times:?}");
}

#[test]
fn a_run_that_goes_on_has_each_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let (file, started) = (folder.path().join(FILE), folder.path().join("config.toml"));
    std::fs::write(&started, "").unwrap();
    let whole = TensorBoard::create(folder.path(), &started, &lines()).map(|_| std::fs::read(&file).unwrap()).unwrap();
    // The lines of step 1 stay, the others are told again.
    let mut events = TensorBoard::create(folder.path(), &started, &lines()[..2]).unwrap();
    assert!(told(&file).iter().all(|(step, ..)| *step == 1));
    lines()[2..].iter().for_each(|line| events.append(line).unwrap());
    assert_eq!(std::fs::read(&file).unwrap(), whole);
}

#[test]
fn checksums_are_those_of_the_standard() {
    // RFC 3720, appendix B.4.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[255; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    assert_eq!((0..300).map(|n| varint(n).len()).max(), Some(2));
    assert_eq!(varint(300), [0xac, 0x02]);
}
