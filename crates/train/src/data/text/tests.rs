//! Loading, splitting and their errors.

use std::fs;

use super::*;
use crate::config::{DataKind, TokenizerKind};
use crate::error::ErrorKind;

fn text_of(bytes: &[u8]) -> Result<Text> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.txt");
    fs::write(&path, bytes).unwrap();
    // The folder's name is random; messages are compared with the file's name alone.
    let short = |what: String| what.replace(&format!("{}/", folder.path().display()), "");
    Text::load(Some(&path)).map_err(|error| Error { what: short(error.what.clone()), ..error })
}

fn corpus(text: &str, validation: f64, context: usize) -> Result<Corpus> {
    let text = Text::new(text, "t", "`t.txt`");
    Corpus::new(&text, Tokenizer::chars(&text.text), validation, context)
}

#[test]
fn line_ends_and_byte_order_marks_do_not_matter() {
    let plain = text_of(b"one\ntwo\n").unwrap();
    for same in [&b"one\r\ntwo\r\n"[..], b"\xef\xbb\xbfone\ntwo\n", b"\xef\xbb\xbfone\r\ntwo\n"] {
        let text = text_of(same).unwrap();
        assert_eq!((&text.text, &text.hash), (&plain.text, &plain.hash));
    }
    assert_eq!(text_of(b"one\ntwo").unwrap().text, "one\ntwo", "no newline is added at the end");
    assert_eq!(text_of(b"a\rb\r\r\nc").unwrap().text, "a\rb\r\nc", "a lone CR is a character");
    // printf 'one\ntwo\n' | sha256sum
    assert_eq!(plain.hash, "c3f9c8c283a2b1f2f1896f27a01cbe3cddc0c9d93f752e4639035a0f5b36f6e8");
    assert_eq!(plain.name, "some");
}

#[test]
fn a_folder_is_its_files_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("b.md", "\u{feff}second\r\n");
    write("a.txt", "first");
    write("c", "");
    write("d.csv", "third");
    write(".hidden", "no");
    fs::create_dir(folder.path().join("sub")).unwrap();
    write("sub/e.txt", "no");
    let text = Text::load(Some(folder.path())).unwrap();
    assert_eq!(text.text, "first\nsecond\nthird");
    assert_eq!(Some(text.name.as_str()), folder.path().file_name().and_then(|name| name.to_str()));
}

#[test]
fn nothing_to_read_is_an_exact_error() {
    let error = Text::load(Some(Path::new("no/such.txt"))).unwrap_err();
    assert_eq!(error.what, "there is no file or folder `no/such.txt`");
    let hint = "give a text file or a folder of text files, or leave DATA out to train on the embedded names";
    assert_eq!(error.hint.as_deref(), Some(hint));
    for empty in [&b""[..], b"\xef\xbb\xbf"] {
        let error = text_of(empty).unwrap_err();
        assert_eq!(error.what, "`some.txt` is empty");
        assert_eq!(error.hint.as_deref(), Some("give a file with text in it"));
        assert_eq!(error.kind, ErrorKind::Usage);
    }
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().display();
    fs::write(folder.path().join(".hidden"), "text").unwrap();
    let error = Text::load(Some(folder.path())).unwrap_err();
    assert_eq!(error.what, format!("the folder `{shown}` has no text files in it"));
    let hint = "the files directly in it are read, whatever their ending; hidden files and subfolders are not";
    assert_eq!(error.hint.as_deref(), Some(hint));
    fs::write(folder.path().join("a"), "").unwrap();
    fs::write(folder.path().join("b"), "\u{feff}").unwrap();
    let error = Text::load(Some(folder.path())).unwrap_err();
    assert_eq!(error.what, format!("the folder `{shown}` has no text in it: of 2 files, none has any"));
    assert_eq!(error.hint.as_deref(), Some("give a folder of files with text in them"));
}

#[test]
fn a_table_is_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("iris.CSV");
    fs::write(&path, "a,b\n").unwrap();
    let error = Text::load(Some(&path)).unwrap_err();
    let shown = path.display();
    assert_eq!(error.what, format!("`{shown}` is a table, not a text"));
    let hint = "to train on its characters as on any text, give it another ending, such as .txt";
    assert_eq!(error.hint.as_deref(), Some(hint));
}

#[test]
fn bytes_that_are_not_utf8_have_a_place() {
    let error = text_of(b"ab\ncaf\xe9 noir").unwrap_err();
    assert_eq!(error.what, "`some.txt` is not valid UTF-8: byte 0xe9 at offset 6, line 2");
    assert_eq!(error.hint.as_deref(), Some("if it is in Latin-1, convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW"));
    let error = text_of(b"\xef\xbb\xbfa\r\nb\xff").unwrap_err();
    assert_eq!(error.what, "`some.txt` is not valid UTF-8: byte 0xff at offset 7, line 2", "offsets are the file's");
    let error = text_of(b"cut \xe2\x82").unwrap_err();
    assert_eq!(error.what, "`some.txt` is not valid UTF-8: byte 0xe2 at offset 4, line 1");
    let error = text_of(b"\xff\xfea\0b\0").unwrap_err();
    assert_eq!(error.what, "`some.txt` is not valid UTF-8: byte 0xff at offset 0, line 1");
    assert_eq!(error.hint.as_deref(), Some("it looks like UTF-16, convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.txt"), "fine").unwrap();
    fs::write(folder.path().join("b.bin"), b"\x80").unwrap();
    let error = Text::load(Some(folder.path())).unwrap_err();
    let file = folder.path().join("b.bin");
    assert_eq!(error.what, format!("`{}` is not valid UTF-8: byte 0x80 at offset 0, line 1", file.display()));
}

#[test]
fn the_cut_is_pythons() {
    // int((1 - validation) * n) of Python, for n around a rounding of the product.
    let python = [(0.1, 10, 9), (0.1, 1_115_394, 1_003_854), (0.1, 20_958, 18_862), (0.2, 5, 4), (0.3, 10, 7)];
    for (validation, n, cut) in python {
        assert_eq!(split_at(n, validation), cut, "{n} at {validation}");
    }
    assert_eq!(split_at(7, 0.0), 7);
    assert_eq!(split_at(7, 0.5), 3);
    assert_eq!(split_at(0, 0.1), 0);
}

#[test]
fn the_parts_are_the_text_in_order() {
    let corpus = corpus("abcdefghij", 0.3, 2).unwrap();
    assert_eq!(corpus.train, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(corpus.validation, [7, 8, 9]);
    let whole = super::tests::corpus("abcde", 0.0, 4).unwrap();
    assert_eq!((whole.train.len(), whole.validation.len()), (5, 0));
}

#[test]
fn a_short_text_says_what_is_there_and_what_is_needed() {
    let refuse = |n: usize, validation, context| {
        let error = corpus(&"a".repeat(n), validation, context).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        (error.what, error.hint.unwrap())
    };
    let (what, hint) = refuse(40, 0.1, 64);
    assert_eq!(
        what,
        "`t.txt` is too short: its training part has 36 of 40 tokens, but a context of 64 needs at least 65"
    );
    assert_eq!(hint, "lower --context to 3 or less, or use a longer text");
    let (what, hint) = refuse(640, 0.1, 64);
    assert_eq!(
        what,
        "`t.txt` is too short: its validation part has 64 of 640 tokens, but a context of 64 needs at least 65"
    );
    let ways = "raise data.validation, set data.validation=0 to train without evaluation, or use a longer text";
    assert_eq!(hint, format!("lower --context to 63 or less, {ways}"));
    let (what, hint) = refuse(5, 0.1, 3);
    assert_eq!(
        what,
        "`t.txt` is too short: its validation part has 1 of 5 tokens, but a context of 3 needs at least 4"
    );
    assert_eq!(hint, "set data.validation=0 to train without evaluation, or use a longer text");
    let (what, hint) = refuse(1, 0.0, 1);
    assert_eq!(what, "`t.txt` is too short: its training part has 1 of 1 token, but a context of 1 needs at least 2");
    assert_eq!(hint, "use a longer text");
    assert!(corpus(&"a".repeat(650), 0.1, 64).is_ok());
    assert!(corpus(&"a".repeat(65), 0.0, 64).is_ok());
}

#[test]
fn a_corpus_comes_from_its_configuration() {
    let mut config = Config::defaults(DataKind::Names);
    let corpus = Corpus::load(&config, None).unwrap();
    assert_eq!(corpus.tokenizer.vocab_size(), 53);
    assert_eq!((corpus.train.len(), corpus.validation.len()), (18_862, 2_096));
    assert_eq!(corpus.name, "names");
    config.set("data.tokenizer", "byte").unwrap();
    let bytes = Corpus::load(&config, None).unwrap();
    assert_eq!((bytes.tokenizer.kind(), bytes.train.len()), (TokenizerKind::Byte, 18_862));
    assert_eq!(bytes.hash, corpus.hash, "the hash is the text's");
    let error = Corpus::load(&config, Some(Tokenizer::chars("abc\n"))).unwrap_err();
    let what = "the embedded names: the tokenizer does not know the character `C` (U+0043) at line 1, column 1";
    assert_eq!(error.what, what);
}
