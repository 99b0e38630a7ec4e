//! Files of tokens: what is written returns, and what was altered does not.

use super::*;

/// A file in a folder that is not there yet, with ids of `width` bytes.
fn file(folder: &Path, width: usize) -> TokenFile {
    TokenFile::new(&folder.join("new/cache"), "text", "tokenizer", width)
}

fn fill(ids: &[u32]) -> impl FnOnce(Take<'_>) -> Result<()> {
    move |take| ids.chunks(7).try_for_each(take)
}

#[test]
fn what_is_written_returns() {
    let folder = tempfile::tempdir().unwrap();
    for (width, last) in [(2, 0xffff), (4, u32::MAX)] {
        for n in [0, 1, 2, 1000] {
            let ids: Vec<u32> = (0..n).map(|i| i * 31 % last).chain([last]).skip(usize::from(n == 0)).collect();
            let file = file(folder.path(), width);
            assert!(file.write(fill(&ids)).unwrap());
            let tokens = file.read().unwrap();
            assert!(tokens.is_mapped());
            assert_eq!(tokens.to_vec(), ids, "{n} ids of {width} bytes");
            let size = std::fs::metadata(&file.path).unwrap().len() as usize;
            assert_eq!(size, HEADER + ids.len() * width + TRAILER);
        }
        assert!(file(folder.path(), 6 - width).read().is_none(), "ids of another width");
    }
    let names = std::fs::read_dir(folder.path().join("new/cache")).unwrap().count();
    assert_eq!(names, 1, "nothing is left beside the file");
    assert!(TokenFile::new(folder.path(), "other", "tokenizer", 2).read().is_none());
}

#[test]
fn the_file_is_what_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), 2);
    file.write(fill(&[1, 0x203])).unwrap();
    let bytes = std::fs::read(&file.path).unwrap();
    let mut expected = b"geartrain tokens\x01\0\0\0\x02\0\0\0".to_vec();
    expected.resize(64, 0);
    expected.extend([1, 0, 3, 2, 2, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend(Sha256::digest(&expected));
    assert_eq!(bytes, expected);
    let name = file.path.file_name().unwrap().to_str().unwrap();
    let version = crate::tokenizer::split::version();
    assert_eq!(name, hex(&Sha256::digest(format!("text tokenizer {version}"))) + ".tokens");
}

#[test]
fn any_change_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), 2);
    file.write(fill(&[5, 6, 7])).unwrap();
    let good = std::fs::read(&file.path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&file.path, &bad).unwrap();
        assert!(file.read().is_none(), "byte {at} was altered");
        std::fs::write(&file.path, &good[..at]).unwrap();
        assert!(file.read().is_none(), "cut to {at} bytes");
    }
    std::fs::write(&file.path, [&good[..], b"\0"].concat()).unwrap();
    assert!(file.read().is_none(), "a byte more");
    std::fs::write(&file.path, &good).unwrap();
    assert_eq!(file.read().unwrap().to_vec(), [5, 6, 7]);
}

#[test]
fn a_count_that_lies_is_noticed_though_the_sum_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), 2);
    file.write(fill(&[5, 6, 7])).unwrap();
    let mut bytes = std::fs::read(&file.path).unwrap();
    for count in [0, 2, 4, u64::MAX, 3 | 1 << 63] {
        let at = bytes.len() - TRAILER;
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        let sum = Sha256::digest(&bytes[..at + 8]);
        bytes[at + 8..].copy_from_slice(&sum);
        std::fs::write(&file.path, &bytes).unwrap();
        assert!(file.read().is_none(), "{count} tokens");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_no_failure_and_a_wrong_text_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("new"), "a file where a folder should be").unwrap();
    let beneath = file(folder.path(), 2);
    assert!(!beneath.write(fill(&[1])).unwrap());
    assert!(beneath.read().is_none());
    let file = TokenFile::new(folder.path(), "a", "b", 2);
    let error = file.write(|_| Err(Error::usage("no such character"))).unwrap_err();
    assert_eq!(error.what, "no such character");
    assert!(!file.path.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn what_killed_writers_left_goes_and_other_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let file = TokenFile::new(folder.path(), "a", "b", 2);
    let name = file.path.file_name().unwrap().to_str().unwrap().to_string();
    let leftover = format!(".{name}.7-0.tmp");
    for other in [leftover.as_str(), ".mine.tmp", ".x.tokens.7-0.tmp"] {
        std::fs::write(folder.path().join(other), "").unwrap();
    }
    assert!(file.write(fill(&[1])).unwrap());
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected = [".mine.tmp", ".x.tokens.7-0.tmp", &name].map(String::from);
    expected.sort();
    assert_eq!(names, expected);
}
