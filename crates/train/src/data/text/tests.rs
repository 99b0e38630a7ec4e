//! Loading, splitting and their errors.

use std::fs;

use super::*;
use crate::config::{DataKind, TokenizerKind};
use crate::error::ErrorKind;

/// The text of a file, its hash and its name; read in parts of every size up to 9 bytes, with one result.
fn text_of(bytes: &[u8]) -> Result<(String, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.txt");
    fs::write(&path, bytes).unwrap();
    // The folder's name is random; messages are compared with the file's name alone.
    let short = |what: String| what.replace(&format!("{}/", folder.path().display()), "");
    let read = |part: Option<usize>| {
        let text = Text::open(Some(&path))?;
        let text = part.map_or_else(|| text.clone(), |part| text.clone().in_parts_of(part));
        let scan = text.read(&mut |_| Ok(()))?;
        let whole = text.whole()?;
        assert_eq!(scan.bytes, whole.len() as u64);
        Ok((whole, scan.hash, text.name))
    };
    let whole: Result<_> = read(None);
    (1..10).for_each(|part| assert_eq!(read(Some(part)), whole, "parts of {part} bytes"));
    whole.map_err(|error: Error| Error { what: short(error.what.clone()), ..error })
}

fn corpus(text: &str, validation: f64, context: usize) -> Result<Corpus> {
    let text = Text::new(text, "t", "`t.txt`");
    Corpus::new(&text, Tokenizer::chars(&text.whole().unwrap()), validation, context)
}

#[test]
fn line_ends_and_byte_order_marks_do_not_matter() {
    let plain = text_of(b"one\ntwo\n").unwrap();
    for same in [&b"one\r\ntwo\r\n"[..], b"\xef\xbb\xbfone\ntwo\n", b"\xef\xbb\xbfone\r\ntwo\n"] {
        assert_eq!(text_of(same).unwrap(), plain);
    }
    assert_eq!(text_of(b"one\ntwo").unwrap().0, "one\ntwo", "no newline is added at the end");
    assert_eq!(text_of(b"a\rb\r\r\nc").unwrap().0, "a\rb\r\nc", "a lone CR is a character");
    // printf 'one\ntwo\n' | sha256sum
    assert_eq!(plain.1, "c3f9c8c283a2b1f2f1896f27a01cbe3cddc0c9d93f752e4639035a0f5b36f6e8");
    assert_eq!(plain.2, "some");
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
    let text = Text::open(Some(folder.path())).unwrap();
    for part in 1..10 {
        assert_eq!(text.clone().in_parts_of(part).whole().unwrap(), "first\nsecond\nthird");
    }
    assert_eq!(Some(text.name.as_str()), folder.path().file_name().and_then(|name| name.to_str()));
}

#[test]
fn nothing_to_read_is_an_exact_error() {
    let error = Text::open(Some(Path::new("no/such.txt"))).unwrap_err();
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
    let error = Text::open(Some(folder.path())).unwrap_err();
    assert_eq!(error.what, format!("the folder `{shown}` has no text files in it"));
    let hint = "the files directly in it are read, whatever their ending; hidden files and subfolders are not";
    assert_eq!(error.hint.as_deref(), Some(hint));
    fs::write(folder.path().join("a"), "").unwrap();
    fs::write(folder.path().join("b"), "\u{feff}").unwrap();
    let error = Text::open(Some(folder.path())).unwrap().whole().unwrap_err();
    assert_eq!(error.what, format!("the folder `{shown}` has no text in it: of 2 files, none has any"));
    assert_eq!(error.hint.as_deref(), Some("give a folder of files with text in them"));
}

#[test]
fn a_table_is_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("iris.CSV");
    fs::write(&path, "a,b\n").unwrap();
    let error = Text::open(Some(&path)).unwrap_err();
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
    let error = Text::open(Some(folder.path())).unwrap().whole().unwrap_err();
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
    assert_eq!(corpus.train.to_vec(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(corpus.validation.to_vec(), [7, 8, 9]);
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

#[test]
fn a_text_learns_as_many_tokens_as_it_is_asked_for() {
    let mut config = Config::defaults(DataKind::Names);
    config.set("data.tokenizer", "bpe").unwrap();
    let corpus = Corpus::load(&config, None).unwrap();
    assert_eq!((corpus.tokenizer.kind(), corpus.tokenizer.vocab_size()), (TokenizerKind::Bpe, VOCAB));
    let all = [corpus.train.to_vec(), corpus.validation.to_vec()].concat();
    assert_eq!(corpus.tokenizer.decode(&all), crate::data::names());
    config.set("data.vocab", "300").unwrap();
    assert_eq!(Corpus::load(&config, None).unwrap().tokenizer.vocab_size(), 300);
    config.set("data.vocab", "100000").unwrap();
    let error = Corpus::load(&config, None).unwrap_err();
    let reached = learn(&Text::open(None).unwrap(), TokenizerKind::Bpe, 0).unwrap().0.vocab_size();
    assert_eq!(reached, VOCAB, "left open, it is no error");
    let start = "data.vocab asks for 100,000 tokens, but only ";
    let end = " can be learned from the embedded names: after that, no pair of neighbours occurs twice";
    assert!(error.what.starts_with(start) && error.what.ends_with(end), "{error}");
    // What the hint says works.
    let most = error.hint.unwrap().split(' ').nth(3).unwrap().to_string();
    config.set("data.vocab", &most).unwrap();
    assert_eq!(Corpus::load(&config, None).unwrap().tokenizer.vocab_size().to_string(), most);
}

#[test]
fn a_tokenizer_comes_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my.json");
    let mut config = Config::defaults(DataKind::Names);
    config.set("data.tokenizer", path.to_str().unwrap()).unwrap();
    assert_eq!(Corpus::load(&config, None).unwrap_err().kind, ErrorKind::NoCheckpoint, "there is no such file");
    let tokenizer = Tokenizer::new(TokenizerKind::Bpe, "Anna\nAnna\n", 258).unwrap();
    tokenizer.save(&path).unwrap();
    assert_eq!(Corpus::load(&config, None).unwrap().tokenizer, tokenizer);
    Tokenizer::chars("Ana\n").save(&path).unwrap();
    let error = Corpus::load(&config, None).unwrap_err();
    let what = "the embedded names: the tokenizer does not know the character `C` (U+0043) at line 1, column 1";
    assert_eq!(error.what, what);
}

/// Tokens of a text of two characters, with a cache or without.
fn cached(text: &Text, folder: Option<&Path>) -> Corpus {
    let scan = text.read(&mut |_| Ok(())).unwrap();
    Corpus::of(text, &scan, Tokenizer::chars("ab"), folder).unwrap()
}

#[test]
fn large_texts_are_kept_and_mapped_and_kept_again_when_altered() {
    let folder = tempfile::tempdir().unwrap();
    let text = Text::new(&"aab".repeat(CACHED as usize / 3 + 1), "t", "`t`");
    let plain = cached(&text, None);
    assert!(!plain.train.is_mapped());
    assert!(cached(&text, Some(folder.path())).train.is_mapped());
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let (good, made) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
    let second = cached(&text, Some(folder.path()));
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), made, "the second time it is only read");
    assert!(second.train.is_mapped() && second.train.to_vec() == plain.train.to_vec());
    for bad in [&good[..good.len() / 2], &[&good[..999], b"x", &good[1000..]].concat()] {
        fs::write(&file, bad).unwrap();
        let third = cached(&text, Some(folder.path()));
        assert!(third.train.is_mapped() && third.train.to_vec() == plain.train.to_vec());
        assert!(fs::read(&file).unwrap() == good, "it was written anew");
    }
    // Another tokenizer and another text have files of their own.
    let bytes =
        Corpus::of(&text, &text.read(&mut |_| Ok(())).unwrap(), Tokenizer::bytes(), Some(folder.path())).unwrap();
    assert_eq!(bytes.train.to_vec()[..3], [97, 97, 98]);
    cached(&Text::new(&"b".repeat(CACHED as usize), "t", "`t`"), Some(folder.path()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    cached(&Text::new(&"b".repeat(CACHED as usize - 1), "t", "`t`"), Some(folder.path()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "a small text is not kept");
    // Without a folder that can be written, it works as well.
    assert!(cached(&text, Some(&file)).train.to_vec() == plain.train.to_vec());
}

#[test]
fn mapped_and_gathered_tokens_are_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let text = Text::new(&"abbab".repeat(CACHED as usize / 5 + 1), "t", "`t`");
    let parts = |folder| cached(&text, folder).split(&text, 0.3, 7).unwrap();
    let (mapped, gathered) = (parts(Some(folder.path())), parts(None));
    assert!(mapped.validation.is_mapped() && !gathered.validation.is_mapped());
    for (a, b) in [(&mapped.train, &gathered.train), (&mapped.validation, &gathered.validation)] {
        assert_eq!(a.len(), b.len());
        for start in [0, 1, 12_345, a.len() - 9] {
            let (mut x, mut y) = ([9; 9], [8; 9]);
            a.copy(start, &mut x);
            b.copy(start, &mut y);
            assert_eq!(x, y, "from {start} on");
        }
    }
    let wide = Tokens::from(gathered.validation.to_vec());
    assert!(wide.to_vec() == mapped.validation.to_vec());
}

#[test]
fn a_text_that_changes_between_two_looks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    fs::write(&path, "one text").unwrap();
    let text = Text::open(Some(&path)).unwrap();
    let scan = text.read(&mut |_| Ok(())).unwrap();
    fs::write(&path, "two text").unwrap();
    let error = Corpus::of(&text, &scan, Tokenizer::bytes(), None).unwrap_err();
    assert_eq!(error.what, format!("`{}` changed while it was read", path.display()));
    assert_eq!(error.hint.unwrap(), "start again when it is finished");
}

#[test]
fn an_unknown_character_has_its_place_however_the_text_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    fs::write(&path, "ab\r\na\r\nbb\u{e9}\n").unwrap();
    for part in 1..12 {
        let text = Text::open(Some(&path)).unwrap().in_parts_of(part);
        let error = Corpus::new(&text, Tokenizer::chars("ab\n"), 0.0, 1).unwrap_err();
        let what = "the tokenizer does not know the character `\u{e9}` (U+00E9) at line 3, column 3";
        assert_eq!(error.what, format!("`{}`: {what}", path.display()));
    }
}
