//! `tokenizer.json`: tokenizers in the format of Hugging Face's library `tokenizers`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::bpe::{Bpe, Broken};
use super::chars::Chars;
use super::split::Added;
use super::{Model, Tokenizer};
use crate::error::{Error, Result};
use crate::words::thousands;

/// The text of `tokenizer.json`.
pub(super) fn write(tokenizer: &Tokenizer) -> String {
    let value = match &tokenizer.model {
        Model::Chars(chars) => {
            let vocab: Map<String, Value> =
                (chars.chars.iter().zip(0u32..)).map(|(c, id)| (c.to_string(), id.into())).collect();
            json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                "pre_tokenizer": char_split(), "post_processor": null, "decoder": {"type": "Fuse"},
                "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
            })
        }
        Model::Bytes => {
            let vocab = (0..=255u8).map(|byte| (byte_letter(byte).to_string(), byte.into())).collect();
            byte_level_file(vocab, &[], false, &[])
        }
        Model::Bpe(bpe) => {
            let added = |id: u32| bpe.added.iter().find(|token| token.id == id).map(|token| token.text.clone());
            let name = |id: u32| added(id).unwrap_or_else(|| letters(&bpe.tokens[id as usize]));
            let vocab = (0..bpe.tokens.len() as u32).map(|id| (name(id), id.into())).collect();
            let merges: Vec<String> = bpe.merges.iter().map(|(a, b)| format!("{} {}", name(*a), name(*b))).collect();
            byte_level_file(vocab, &merges, true, &bpe.added)
        }
    };
    format!("{value:#}\n")
}

fn byte_level_file(vocab: Map<String, Value>, merges: &[String], words: bool, added: &[Added]) -> Value {
    let added: Vec<Value> = added.iter().map(added_token).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level(words), "post_processor": null, "decoder": byte_level(words),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges
        }
    })
}

fn added_token(token: &Added) -> Value {
    json!({
        "id": token.id, "content": token.text, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": token.special
    })
}

fn char_split() -> Value {
    json!({"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false})
}

fn byte_level(words: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": words})
}

/// Reads the text of a `tokenizer.json`: see [`Tokenizer::from_json`].
pub(super) fn read(text: &str) -> Result<Tokenizer> {
    let value: Value = serde_json::from_str(text)
        .map_err(|reason| Error::no_checkpoint(format!("the tokenizer is not valid JSON: {reason}")))?;
    let model = &value["model"];
    let Some(vocab) = model["vocab"].as_object().filter(|_| model.is_object()) else {
        let what = match model["type"].as_str() {
            Some(kind) => return Err(unfit(&format!("its model is of type {kind}"))),
            None => "the tokenizer has no model",
        };
        return Err(Error::no_checkpoint(what)
            .hint("a tokenizer.json in the format of Hugging Face's tokenizers library is needed"));
    };
    // Older files leave the type of the model out; those with merges are BPE.
    let kind = model["type"].as_str().or(model["merges"].is_array().then_some("BPE"));
    let splits = &value["pre_tokenizer"];
    let merged = model["merges"].as_array().is_some_and(|merges| !merges.is_empty());
    let words = splits["use_regex"] != false;
    match kind {
        Some("WordLevel") if *splits == char_split() => read_chars(vocab),
        Some("BPE") if splits["type"] == "ByteLevel" && !words && !merged => read_bytes(vocab),
        Some("BPE") => read_bpe(&value, vocab),
        Some(kind) => Err(unfit(&format!("its model is of type {kind}"))),
        None => Err(unfit("its model has no type")),
    }
}

fn unfit(why: &str) -> Error {
    Error::no_checkpoint(format!("the tokenizer is not of a kind that can be read: {why}")).hint(
        "those that can be read: byte-level BPE that cuts words as GPT-2 does, and the characters or bytes of a run",
    )
}

fn damaged(why: &str) -> Error {
    Error::no_checkpoint(format!("the tokenizer is damaged: {why}")).hint("fetch or write the file once more")
}

fn read_chars(vocab: &Map<String, Value>) -> Result<Tokenizer> {
    let mut chars = vec![None; vocab.len()];
    for (token, id) in vocab {
        let mut letters = token.chars();
        let (Some(c), None) = (letters.next(), letters.next()) else {
            return Err(unfit(&format!("the token `{}` is not one character", token.escape_debug())));
        };
        match slot(&mut chars, id) {
            Some(slot @ None) => *slot = Some(c),
            _ => return Err(ids_wrong(vocab.len())),
        }
    }
    Ok(Model::Chars(Chars::new(chars.into_iter().flatten().collect())).into())
}

fn read_bytes(vocab: &Map<String, Value>) -> Result<Tokenizer> {
    let is_byte = |byte: u8| vocab.get(&byte_letter(byte).to_string()).and_then(Value::as_u64) == Some(byte.into());
    if vocab.len() != 256 || !(0..=255).all(is_byte) {
        return Err(unfit("its tokens are not the 256 bytes in their order"));
    }
    Ok(Tokenizer::bytes())
}

fn read_bpe(value: &Value, vocab: &Map<String, Value>) -> Result<Tokenizer> {
    refuse_other_bpe(value)?;
    let added = read_added(&value["added_tokens"])?;
    let more = added.iter().filter(|token| !vocab.contains_key(&token.text)).count();
    let by_letter = (0..=255).map(|byte| (byte_letter(byte), byte)).collect();
    let mut tokens: Vec<Option<Box<[u8]>>> = vec![None; vocab.len() + more];
    for (token, id) in vocab {
        let added = added.iter().find(|added| added.text == *token);
        let bytes = added.map_or_else(|| bytes_of(token, &by_letter), |added| Some(added.text.as_bytes().into()));
        let bytes = bytes.ok_or_else(|| unfit(&format!("the token `{}` is not bytes", token.escape_debug())))?;
        match slot(&mut tokens, id) {
            Some(slot @ None) if added.is_none_or(|added| id.as_u64() == Some(added.id.into())) => *slot = Some(bytes),
            _ => return Err(ids_wrong(vocab.len() + more)),
        }
    }
    for token in added.iter().filter(|token| !vocab.contains_key(&token.text)) {
        match tokens.get_mut(token.id as usize) {
            Some(slot @ None) => *slot = Some(token.text.as_bytes().into()),
            _ => return Err(ids_wrong(vocab.len() + more)),
        }
    }
    let mut merges = Vec::new();
    for merge in value["model"]["merges"].as_array().into_iter().flatten() {
        let id = |token: &str| u32::try_from(vocab.get(token)?.as_u64()?).ok();
        let pair = parts(merge).and_then(|(a, b)| Some((id(a)?, id(b)?)));
        merges.push(pair.ok_or_else(|| damaged(&format!("the merge {merge} is not of two of its tokens")))?);
    }
    let bpe = Bpe::new(tokens.into_iter().flatten().collect(), merges, added);
    let bpe = bpe.map_err(|broken| match broken {
        Broken::NoByte(byte) => damaged(&format!("it has no token for the byte 0x{byte:02x}")),
        Broken::NoToken(n) => damaged(&format!("the merge {} gives no token", value["model"]["merges"][n])),
    })?;
    Ok(Model::Bpe(bpe.into()).into())
}

/// Refuses what would give other ids than the library does.
fn refuse_other_bpe(value: &Value) -> Result<()> {
    let (model, splits, decoder) = (&value["model"], &value["pre_tokenizer"], &value["decoder"]);
    let kind = |value: &Value| value["type"].as_str().unwrap_or("nothing").to_string();
    let set = |name: &str| !matches!(&model[name], Value::Null | Value::Bool(false)) && model[name] != "";
    let why = if !value["normalizer"].is_null() {
        format!("it changes the text first, by {}", kind(&value["normalizer"]))
    } else if splits["type"] != "ByteLevel" || splits["use_regex"] == false {
        format!("words are cut by {}, not by ByteLevel with GPT-2's rule", kind(splits))
    } else if splits["add_prefix_space"] != false {
        "it puts a space before the text".to_string()
    } else if !decoder.is_null() && decoder["type"] != "ByteLevel" {
        format!("it is decoded by {}, not by ByteLevel", kind(decoder))
    } else if !value["post_processor"].is_null() && value["post_processor"]["type"] != "ByteLevel" {
        format!("it puts tokens around a text, by {}", kind(&value["post_processor"]))
    } else if model["dropout"].as_f64().is_some_and(|dropout| dropout != 0.0) {
        "it leaves out merges at random".to_string()
    } else if let Some(name) =
        ["continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"].into_iter().find(|name| set(name))
    {
        format!("its {name} is {}", model[name])
    } else {
        return Ok(());
    };
    Err(unfit(&why))
}

fn read_added(value: &Value) -> Result<Vec<Added>> {
    let mut added = Vec::new();
    for token in value.as_array().into_iter().flatten() {
        let (text, id) = (token["content"].as_str(), token["id"].as_u64().and_then(|id| u32::try_from(id).ok()));
        let (Some(text), Some(id)) = (text.filter(|text| !text.is_empty()), id) else {
            return Err(damaged(&format!("the added token {token} has no content or no id")));
        };
        if let Some(name) = ["single_word", "lstrip", "rstrip"].into_iter().find(|name| token[name] == true) {
            return Err(unfit(&format!("the added token `{}` sets {name}", text.escape_debug())));
        }
        if added.iter().any(|known: &Added| known.text == text) {
            return Err(damaged(&format!("the added token `{}` is there twice", text.escape_debug())));
        }
        added.push(Added { id, text: text.to_string(), special: token["special"] == true });
    }
    Ok(added)
}

/// The two parts of a merge: `"a b"`, or `["a", "b"]` in newer files.
fn parts(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(both) => both.split_once(' ').filter(|(_, b)| !b.contains(' ')),
        Value::Array(both) if both.len() == 2 => Some((both[0].as_str()?, both[1].as_str()?)),
        _ => None,
    }
}

fn slot<'a, T>(slots: &'a mut [T], id: &Value) -> Option<&'a mut T> {
    slots.get_mut(usize::try_from(id.as_u64()?).ok()?)
}

fn ids_wrong(size: usize) -> Error {
    let last = size.saturating_sub(1);
    damaged(&format!("its {} tokens must have the ids from 0 to {last}, each once", thousands(size)))
}

/// The bytes in the order of their letters: the ids of GPT-2, and of every encoding that is learned here.
pub(super) fn bytes_in_order() -> impl Iterator<Item = u8> {
    (0..=255).filter(|byte| printable(*byte)).chain((0..=255).filter(|byte| !printable(*byte)))
}

fn printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The letter that stands for a byte in `ByteLevel` files: printable Latin-1 bytes are themselves, the others follow from
/// U+0100 on in the order of their values (GPT-2's table).
pub(super) fn byte_letter(byte: u8) -> char {
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| byte_letter(*byte)).collect()
}

/// The bytes that letters stand for; `None` where one stands for none.
fn bytes_of(letters: &str, by_letter: &HashMap<char, u8>) -> Option<Box<[u8]>> {
    letters.chars().map(|letter| by_letter.get(&letter).copied()).collect()
}
