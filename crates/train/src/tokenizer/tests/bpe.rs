//! Byte-pair encodings: what is learned, round trips, parts, files and errors.

use geartrain_engine::philox;

use super::*;
use crate::config::TokenizerKind::Bpe;

const SONG: &str =
    "row row row your boat\ngently down the stream\nmerrily merrily merrily merrily\nlife is but a dream\n";

fn learned(text: &str, vocab: usize) -> Tokenizer {
    Tokenizer::new(Bpe, text, vocab).unwrap()
}

fn merges(tokenizer: &Tokenizer) -> Vec<String> {
    let file: Value = serde_json::from_str(&tokenizer.to_json()).unwrap();
    file["model"]["merges"].as_array().unwrap().iter().map(|merge| merge.as_str().unwrap().to_string()).collect()
}

/// Ids in parts of some characters.
fn in_parts(tokenizer: &Tokenizer, text: &str, size: usize) -> Vec<u32> {
    let (mut stream, mut ids) = (Stream::new(tokenizer), Vec::new());
    let chars: Vec<char> = text.chars().collect();
    for part in chars.chunks(size) {
        stream.push(&part.iter().collect::<String>(), &mut ids).unwrap();
    }
    stream.finish(&mut ids);
    ids
}

/// Texts of random code points, of random pieces that the rule of words looks at, and extremes.
fn texts() -> Vec<String> {
    const PIECES: [&str; 24] = [
        "a",
        "th",
        "the ",
        " ",
        "  ",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\0",
        "'",
        "'s",
        "'re",
        "'LL",
        "é",
        "e\u{301}",
        "\u{301}",
        "😀",
        "👨\u{200d}👩\u{200d}👧",
        "中",
        "½",
        "٣",
        "\u{a0}",
        "\u{10ffff}",
    ];
    let draw = |n: u64, below: usize| (philox::uniform(7, philox::stream_of("texts"), n) * below as f64) as usize;
    let mut texts = vec!["a".repeat(3000), "ab".repeat(2000), " ".repeat(999), "\u{301}".repeat(99), "\0".to_string()];
    for i in 0..300 {
        let length = draw(1000 * i, 40) as u64;
        let any = (0..length).filter_map(|j| char::from_u32(draw(1000 * i + 2 * j + 1, 0x11_0000) as u32));
        texts.push(any.collect());
        texts.push((0..length).map(|j| PIECES[draw(1000 * i + 2 * j + 2, PIECES.len())]).collect());
    }
    texts
}

#[test]
fn the_most_frequent_neighbours_are_joined_first() {
    // Words: low x5, lower x2, newest x6, widest x3 (the example of Sennrich and others, 2016), here on lines of their own.
    let text = ["low\n".repeat(5), "lower\n".repeat(2), "newest\n".repeat(6), "widest\n".repeat(3)].concat();
    let tokenizer = learned(&text, 266);
    // e s and s t occur 9 times: the smaller ids first. l o occurs 7 times, n e 6.
    let expected = ["e s", "es t", "l o", "lo w", "e w", "n ew", "new est", "d est", "i dest", "w idest"];
    assert_eq!(merges(&tokenizer), expected);
    assert_eq!(tokenizer.vocab_size(), 266);
    let ids = tokenizer.encode("lowest newer").unwrap();
    let tokens: Vec<String> = ids.iter().map(|id| tokenizer.decode(&[*id])).collect();
    assert_eq!(tokens, ["low", "est", " ", "new", "e", "r"]);
}

#[test]
fn bytes_come_first_in_the_order_of_gpt2() {
    let tokenizer = learned("", 300);
    assert_eq!(tokenizer.vocab_size(), 256, "no text, no merges");
    // In GPT-2's vocabulary ! is 0, A is 32, a is 64, Ċ (newline) is 198 and Ġ (space) is 220.
    assert_eq!(tokenizer.encode("!Aa\n ").unwrap(), [0, 32, 64, 198, 220]);
}

#[test]
fn joining_stops_where_nothing_occurs_twice() {
    assert_eq!(learned("abc", 300).vocab_size(), 256);
    // ab, abab, abababab: the four left of two are no longer neighbours.
    assert_eq!(merges(&learned(&"ab".repeat(8), 300)), ["a b", "ab ab", "abab abab"]);
    // Of three equal letters in a row, two are joined.
    let tokenizer = learned("aaa aaa", 257);
    assert_eq!((merges(&tokenizer), tokenizer.encode("aaa").unwrap().len()), (vec!["a a".to_string()], 2));
    // The first two: then a and b are neighbours, as aa and a are, and have the smaller ids.
    assert_eq!(merges(&learned("aaab aaab", 258)), ["a a", "a b"]);
}

#[test]
fn what_is_learned_follows_from_the_text_alone() {
    let first = learned(SONG, 271);
    assert_eq!(first.to_json(), learned(SONG, 271).to_json());
    for size in [1, 2, 7, 50] {
        let mut learner = Learner::new(Bpe);
        let chars: Vec<char> = SONG.chars().collect();
        chars.chunks(size).for_each(|part| learner.push(&part.iter().collect::<String>()));
        assert_eq!(learner.finish(271).unwrap(), first, "parts of {size}");
    }
    assert_ne!(first.hash(), learned(SONG, 270).hash());
    // The ids that Hugging Face's BpeTrainer and its encoder give for this text and size.
    assert_eq!(merges(&first)[..9], ["l y", "e r", "i ly", "m er", "o w", "r ily", "mer rily", "r ow", "Ġ merrily"]);
    assert_eq!(first.encode("merry boats\n").unwrap(), [259, 81, 88, 268, 78, 64, 83, 82, 198]);
}

#[test]
fn every_text_returns_and_its_parts_give_the_same_ids() {
    let tokenizer = learned(&(texts().concat() + &SONG.repeat(3)), 700);
    assert_eq!(tokenizer.vocab_size(), 700);
    for text in texts() {
        let ids = tokenizer.encode(&text).unwrap();
        assert!(ids.iter().all(|id| *id < 700));
        assert_eq!(tokenizer.decode(&ids), text);
        for size in [1, 3, 17] {
            assert_eq!(in_parts(&tokenizer, &text, size), ids, "{text:?} in parts of {size}");
        }
    }
    let whole = texts().concat();
    let ids = tokenizer.encode(&whole).unwrap();
    assert_eq!(tokenizer.decode(&ids), whole);
    for size in [1, 2, 5, 1000, 4096] {
        assert!(in_parts(&tokenizer, &whole, size) == ids, "parts of {size}");
    }
}

#[test]
fn words_are_encoded_as_by_the_definition() {
    // Looks for the earliest merge anywhere, applies it at the leftmost place, and begins again.
    let draw = |n: u64, below: f64| (philox::uniform(8, philox::stream_of("words"), n) * below) as u64;
    let word =
        |n: u64, length: u64| -> String { (0..length).map(|i| b"aabcd"[draw(n + i, 5.0) as usize] as char).collect() };
    let text: String = (0..600).map(|i| word(100 * i, 9) + "\n").collect();
    let tokenizer = learned(&text, 400);
    let file: Value = serde_json::from_str(&tokenizer.to_json()).unwrap();
    let id = |token: &str| file["model"]["vocab"][token].as_u64().unwrap() as u32;
    let merges = merges(&tokenizer);
    let mut checked = 0;
    let words = (0..200).map(|i| word(100_000 + 100 * i, 1 + i % 60));
    for word in words.chain(["ab".repeat(51) + "a", "a".repeat(77)]) {
        let mut parts: Vec<String> = word.chars().map(String::from).collect();
        while let Some((a, b)) = merges
            .iter()
            .map(|merge| merge.split_once(' ').unwrap())
            .find(|(a, b)| parts.windows(2).any(|two| two == [*a, *b]))
        {
            let at = parts.windows(2).position(|two| two == [a, b]).unwrap();
            parts.splice(at..at + 2, [a.to_string() + b]);
        }
        let expected: Vec<u32> = parts.iter().map(|part| id(part)).collect();
        assert_eq!(tokenizer.encode(&word).unwrap(), expected, "{word}");
        checked += usize::from(parts.len() < word.len());
    }
    assert!(checked > 150, "merges were applied: {checked}");
}

/// The structure of GPT-2's own file: no types, merges as text, one token that is added.
fn gpt2() -> Value {
    let ours: Value = serde_json::from_str(&learned(SONG, 271).to_json()).unwrap();
    let mut vocab = ours["model"]["vocab"].clone();
    vocab["<|endoftext|>"] = 271.into();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 271, "special": true, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {"dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "vocab": vocab, "merges": ours["model"]["merges"]}
    })
}

#[test]
fn a_file_of_gpt2s_structure_is_read() {
    let tokenizer = Tokenizer::from_json(&gpt2().to_string()).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.kind()), (272, Bpe));
    let ours = learned(SONG, 271);
    assert_eq!(tokenizer.encode(SONG).unwrap(), ours.encode(SONG).unwrap());
    let text = "row  <|endoftext|> row <|end <|endoftext|><|endoftext|>";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!(ids.iter().filter(|id| **id == 271).count(), 3);
    assert_eq!(tokenizer.decode(&ids), text);
    for size in [1, 2, 3, 5, 8, 13] {
        assert_eq!(in_parts(&tokenizer, text, size), ids, "parts of {size}");
    }
    // It returns from the file that a run keeps, also where merges are pairs, and where the added token is not in the vocabulary.
    let again = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
    assert_eq!((&again, again.hash()), (&tokenizer, tokenizer.hash()));
    let mut other = gpt2();
    for merge in other["model"]["merges"].as_array_mut().unwrap() {
        *merge = merge.as_str().unwrap().split(' ').collect();
    }
    other["model"]["vocab"].as_object_mut().unwrap().remove("<|endoftext|>");
    assert_eq!(Tokenizer::from_json(&other.to_string()).unwrap(), tokenizer);
    assert_ne!(tokenizer.hash(), ours.hash());
}

#[test]
fn files_that_would_give_other_ids_are_refused() {
    let refuse = |path: &str, value: Value| {
        let mut file = gpt2();
        *file.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        let error = Tokenizer::from_json(&file.to_string()).unwrap_err();
        assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::NoCheckpoint, true));
        error.what
    };
    let unfit = |why: &str| format!("the tokenizer is not of a kind that can be read: {why}");
    assert_eq!(refuse("/normalizer", json!({"type": "NFC"})), unfit("it changes the text first, by NFC"));
    let what = unfit("words are cut by Sequence, not by ByteLevel with GPT-2's rule");
    assert_eq!(refuse("/pre_tokenizer", json!({"type": "Sequence", "pretokenizers": []})), what);
    assert_eq!(refuse("/pre_tokenizer/add_prefix_space", true.into()), unfit("it puts a space before the text"));
    assert_eq!(refuse("/decoder/type", "WordPiece".into()), unfit("it is decoded by WordPiece, not by ByteLevel"));
    assert_eq!(refuse("/model/dropout", 0.1.into()), unfit("it leaves out merges at random"));
    assert_eq!(refuse("/model/end_of_word_suffix", "</w>".into()), unfit("its end_of_word_suffix is \"</w>\""));
    assert_eq!(refuse("/added_tokens/0/lstrip", true.into()), unfit("the added token `<|endoftext|>` sets lstrip"));
    let template = serde_json::json!({"type": "TemplateProcessing"});
    assert_eq!(refuse("/post_processor", template), unfit("it puts tokens around a text, by TemplateProcessing"));
}

#[test]
fn damaged_files_say_what_is_wrong() {
    let refuse = |change: &dyn Fn(&mut Value)| {
        let mut file = gpt2();
        change(&mut file);
        Tokenizer::from_json(&file.to_string()).unwrap_err().what
    };
    let damaged = |why: &str| format!("the tokenizer is damaged: {why}");
    let rename = |file: &mut Value, old: &str, new: &str| {
        let vocab = file["model"]["vocab"].as_object_mut().unwrap();
        let id = vocab.remove(old).unwrap();
        vocab.insert(new.to_string(), id);
    };
    assert_eq!(refuse(&|file| rename(file, "!", "!!")), damaged("it has no token for the byte 0x21"));
    let what = "the tokenizer is not of a kind that can be read: the token `a b` is not bytes";
    assert_eq!(refuse(&|file| rename(file, "!", "a b")), what);
    assert_eq!(refuse(&|file| rename(file, "Ġrow", "~~~~")), damaged("the merge \"Ġ row\" gives no token"));
    let ids = damaged("its 272 tokens must have the ids from 0 to 271, each once");
    for id in [json!(1), json!(272), json!(-1), json!("0"), json!(4e9), Value::Null] {
        assert_eq!(refuse(&|file| file["model"]["vocab"]["!"] = id.clone()), ids, "{id}");
    }
    assert_eq!(refuse(&|file| file["added_tokens"][0]["id"] = 7.into()), ids);
    for merge in [json!("a"), json!("a b c"), json!(["a"]), json!(3), json!("a zz")] {
        let what = damaged(&format!("the merge {merge} is not of two of its tokens"));
        assert_eq!(refuse(&|file| file["model"]["merges"][1] = merge.clone()), what);
    }
    let twice = |file: &mut Value| {
        let mut again = file["added_tokens"][0].clone();
        again["id"] = 272.into();
        file["added_tokens"].as_array_mut().unwrap().push(again);
    };
    assert_eq!(refuse(&twice), damaged("the added token `<|endoftext|>` is there twice"));
    let what = refuse(&|file| file["added_tokens"][0]["content"] = "".into());
    assert!(what.starts_with("the tokenizer is damaged: the added token {"), "{what}");
}

#[test]
fn a_part_of_a_character_decodes_to_the_replacement_character() {
    let tokenizer = learned(SONG, 271);
    let ids = tokenizer.encode("a😀b").unwrap();
    assert_eq!(ids.len(), 6, "an emoji that was never seen is its four bytes");
    let decoded: Vec<String> = (1..=6).map(|n| tokenizer.decode(&ids[..n])).collect();
    assert_eq!(decoded, ["a", "a\u{fffd}", "a\u{fffd}", "a\u{fffd}", "a😀", "a😀b"]);
    assert_eq!(tokenizer.decode(&[300, u32::MAX]), "\u{fffd}\u{fffd}");
}
