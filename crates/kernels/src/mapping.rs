//! Files that are read as memory.

use std::fs::File;

use memmap2::Mmap;

/// A file mapped into memory to be read: its pages are loaded when they are touched, and the system may drop them again.
///
/// The file must not be changed while it is mapped. This is for files that this program writes under a new name and puts in
/// place whole (a new file of the same name leaves the mapped one as it was), never for files that a user may edit.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
}

impl Mapping {
    /// Maps a whole file.
    ///
    /// # Errors
    /// It is not a file that can be mapped.
    pub fn new(file: &File) -> std::io::Result<Mapping> {
        // SAFETY: what is read here are plain bytes, of which every pattern is valid. Nobody writes to the file: the callers
        // map files of their own that are replaced by renaming and never written again.
        let map = unsafe { Mmap::map(file)? };
        Ok(Mapping { map })
    }

    /// Its bytes, from the start of a page on.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_keeps_its_bytes_when_another_takes_its_name() {
        let path = std::env::temp_dir().join(format!("geartrain-mapping-{}", std::process::id()));
        std::fs::write(&path, b"tokens").unwrap();
        let mapping = Mapping::new(&File::open(&path).unwrap()).unwrap();
        let other = path.with_extension("new");
        std::fs::write(&other, b"others").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!((mapping.bytes(), &std::fs::read(&path).unwrap()[..]), (&b"tokens"[..], &b"others"[..]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mapping.bytes(), b"tokens");
    }
}
