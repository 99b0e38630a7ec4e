//! Ids, round trips, files and errors of the tokenizers. That the library of Hugging Face reads the files and gives the
//! same ids is checked by hand with its Python package; the structure that was checked is pinned here.

use serde_json::{Value, json};

use super::*;
use crate::error::ErrorKind;

mod bpe;

/// Accents, a combining mark, a non-BMP character, control characters, quotes, all in no order.
const AWKWARD: &str = "héllo wörld\n\n  a\tb\r😀e\u{301}\0\"'\\\u{7f}\u{a0}ÿĀ";

#[test]
fn characters_are_numbered_by_code_point() {
    let tokenizer = Tokenizer::chars("banana\nBé");
    assert_eq!(tokenizer.vocab_size(), 6);
    assert_eq!(tokenizer.encode("\nBabné").unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(tokenizer.decode(&[3, 2, 4, 2, 5, 0]), "bana\u{e9}\n");
}

#[test]
fn every_text_returns_from_its_tokens() {
    for kind in TokenizerKind::ALL {
        let tokenizer = Tokenizer::new(*kind, AWKWARD, 260).unwrap();
        let tokens = tokenizer.encode(AWKWARD).unwrap();
        assert!(tokens.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        assert_eq!(tokenizer.decode(&tokens), AWKWARD);
        assert_eq!(tokenizer.kind(), *kind);
        assert_eq!(tokenizer.encode("").unwrap(), [] as [u32; 0]);
        assert_eq!(tokenizer.decode(&[]), "");
    }
    assert_eq!(Tokenizer::bytes().encode("é").unwrap(), [0xc3, 0xa9]);
}

#[test]
fn an_unknown_character_is_named_with_its_place() {
    let tokenizer = Tokenizer::chars("ab\n'\\\"");
    let error = tokenizer.encode("ab\naéb").unwrap_err();
    assert_eq!(error.what, "the tokenizer does not know the character `é` (U+00E9) at line 2, column 2");
    let hint = "the characters it knows are \\n\"'\\ab; a model trained with data.tokenizer=byte takes any text";
    assert_eq!(error.hint.as_deref(), Some(hint));
    assert_eq!(error.kind, ErrorKind::Usage);
    let error = tokenizer.encode("b\ta").unwrap_err();
    assert_eq!(error.what, "the tokenizer does not know the character `\\t` (U+0009) at line 1, column 2");
    let wide: String = ('\u{4e00}'..'\u{5200}').collect();
    let error = Tokenizer::chars(&wide).encode("😀").unwrap_err();
    assert_eq!(error.what, "the tokenizer does not know the character `😀` (U+1F600) at line 1, column 1");
    let hint = "it knows 1,024 characters; a model trained with data.tokenizer=byte takes any text";
    assert_eq!(error.hint.as_deref(), Some(hint));
}

#[test]
fn what_is_no_text_decodes_to_the_replacement_character() {
    let bytes = Tokenizer::bytes();
    assert_eq!(bytes.decode(&[0x61, 0xff, 0x62, 0xc3]), "a\u{fffd}b\u{fffd}");
    assert_eq!(bytes.decode(&[0x61, 256, u32::MAX]), "a\u{fffd}\u{fffd}");
    assert_eq!(Tokenizer::chars("ab").decode(&[1, 2, 0]), "b\u{fffd}a");
}

#[test]
fn files_return_the_same_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let bpe = Tokenizer::new(TokenizerKind::Bpe, &AWKWARD.repeat(2), 264).unwrap();
    for tokenizer in [Tokenizer::chars(AWKWARD), Tokenizer::chars(""), Tokenizer::bytes(), bpe] {
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        assert_eq!(loaded, tokenizer);
        assert_eq!(loaded.hash(), tokenizer.hash());
    }
}

#[test]
fn ids_of_a_file_need_not_follow_the_code_points() {
    let text = Tokenizer::chars("ab").to_json().replace("\"a\": 0", "\"a\": 1").replace("\"b\": 1", "\"b\": 0");
    let loaded = Tokenizer::from_json(&text).unwrap();
    assert_eq!(loaded.encode("ab").unwrap(), [1, 0]);
    assert_ne!(loaded.hash(), Tokenizer::chars("ab").hash());
}

#[test]
fn the_hash_follows_the_ids_alone() {
    assert_eq!(Tokenizer::chars("ba").hash(), Tokenizer::chars("aab").hash());
    assert_ne!(Tokenizer::chars("ab").hash(), Tokenizer::chars("abc").hash());
    assert_ne!(Tokenizer::chars("").hash(), Tokenizer::bytes().hash());
    // printf 'geartrain tokenizer char\nab' | sha256sum
    assert_eq!(Tokenizer::chars("ab").hash(), "d8fbf6f7bd0bd6c98fabe28c3b2131cf02e8265b93af925b5b827caaecd3873c");
}

#[test]
fn files_have_the_structure_of_the_format() {
    let chars: Value = serde_json::from_str(&Tokenizer::chars("a\n").to_json()).unwrap();
    assert_eq!(chars["model"], json!({"type": "WordLevel", "vocab": {"\n": 0, "a": 1}, "unk_token": "<unk>"}));
    assert_eq!(chars["pre_tokenizer"]["pattern"], json!({"Regex": "[\\s\\S]"}));
    assert_eq!(chars["decoder"], json!({"type": "Fuse"}));
    let bytes: Value = serde_json::from_str(&Tokenizer::bytes().to_json()).unwrap();
    let vocab = bytes["model"]["vocab"].as_object().unwrap();
    assert_eq!(vocab.len(), 256);
    // GPT-2's letters: newline is Ċ, space is Ġ, DEL is ġ, a soft hyphen is Ń.
    for (letter, byte) in [("Ā", 0), ("Ċ", 10), ("Ġ", 32), ("!", 33), ("~", 126), ("ġ", 127), ("Ń", 173), ("ÿ", 255)]
    {
        assert_eq!(vocab[letter], byte, "{letter}");
    }
}

#[test]
fn other_files_are_refused_with_the_reason() {
    let refuse = |text: &str| Tokenizer::from_json(text).unwrap_err();
    let error = refuse("{");
    assert!(error.what.starts_with("the tokenizer is not valid JSON: EOF"), "{error}");
    assert_eq!(error.kind, ErrorKind::NoCheckpoint);
    assert_eq!(refuse("{}").what, "the tokenizer has no model");
    let prefix = "the tokenizer is not of a kind that can be read: ";
    let error = refuse(r#"{"model": {"type": "Unigram", "vocab": []}}"#);
    assert_eq!(error.what, format!("{prefix}its model is of type Unigram"));
    let hint =
        "those that can be read: byte-level BPE that cuts words as GPT-2 does, and the characters or bytes of a run";
    assert_eq!(error.hint.as_deref(), Some(hint));
    assert_eq!(
        refuse(r#"{"model": {"type": "WordPiece", "vocab": {}}}"#).what,
        format!("{prefix}its model is of type WordPiece")
    );
    let merged = Tokenizer::bytes().to_json().replace("\"merges\": []", "\"merges\": [\"a b\"]");
    let what = "words are cut by ByteLevel, not by ByteLevel with GPT-2's rule";
    assert_eq!(refuse(&merged).what, format!("{prefix}{what}"));
    let moved = Tokenizer::bytes().to_json().replace("\"a\": 97", "\"a\": 98");
    assert_eq!(refuse(&moved).what, format!("{prefix}its tokens are not the 256 bytes in their order"));
    let word = Tokenizer::chars("ab").to_json().replace("\"a\": 0", "\"at\": 0");
    assert_eq!(refuse(&word).what, format!("{prefix}the token `at` is not one character"));
    let damaged = "the tokenizer is damaged: its 2 tokens must have the ids from 0 to 1, each once";
    for other in ["\"a\": 1", "\"a\": 2", "\"a\": -1", "\"a\": \"0\""] {
        assert_eq!(refuse(&Tokenizer::chars("ab").to_json().replace("\"a\": 0", other)).what, damaged);
    }
}

#[test]
fn a_missing_or_wrong_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let error = Tokenizer::load(&path).unwrap_err();
    assert!(error.what.starts_with(&format!("cannot read `{}`: ", path.display())), "{error}");
    assert_eq!(error.exit_code(), 4);
    std::fs::write(&path, "{}").unwrap();
    let error = Tokenizer::load(&path).unwrap_err();
    assert_eq!(error.what, format!("{}: the tokenizer has no model", path.display()));
    let error = Tokenizer::bytes().save(&folder.path().join("none/tokenizer.json")).unwrap_err();
    assert!(error.what.starts_with("cannot write `"), "{error}");
    assert_eq!(error.exit_code(), 1);
}
