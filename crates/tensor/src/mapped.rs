//! [`MappedFile`]: the bytes of a file as memory, read from the disk page by page when they are first looked at.
//!
//! Every memory map of the workspace is made here, so that the one promise it takes is argued once.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Bytes that the processor brings in at once; touching one byte of a page reads it all.
const PAGE: usize = 4096;

/// In what order the bytes of a map will be read: a hint, by which the system reads ahead or doesn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No particular order.
    Normal,
    /// From front to back: read far ahead.
    Sequential,
    /// Anywhere: read nothing but what is asked for.
    Random,
}

/// A read-only map of a part of a file.
///
/// The mapped part must not change or shrink while the map lives. The file formats of this workspace are made for that: index files
/// are written whole and replaced by renaming (the map keeps the old file), vector files grow at the end, and a map covers only
/// rows that are published, which nobody writes again. Another program that shortens the file ends this one with `SIGBUS`.
#[derive(Debug)]
pub struct MappedFile {
    /// None for no bytes at all, which can't be mapped.
    map: Option<memmap2::Mmap>,
}

impl MappedFile {
    /// Maps the whole file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Self::part(&file, 0, bytes)
    }

    /// Maps `bytes` bytes from `offset`; an error when the file ends before.
    pub fn part(file: &File, offset: u64, bytes: u64) -> Result<Self> {
        let there = file.metadata()?.len();
        if offset.checked_add(bytes).is_none_or(|end| end > there) {
            let message = format!("bytes {offset} to {offset} + {bytes} of a file of {there} bytes");
            return Err(Error::new(ErrorKind::UnexpectedEof, message));
        }
        let length = usize::try_from(bytes).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
        if length == 0 {
            return Ok(Self { map: None });
        }
        let mut options = memmap2::MmapOptions::new();
        options.offset(offset).len(length);
        // SAFETY: the part lies within the file (checked above) and is mapped read-only; nothing writes to it or cuts it off as long
        // as the map lives, which is the promise in the type's documentation that every file format here keeps.
        let map = unsafe { options.map(file) }?;
        Ok(Self { map: Some(map) })
    }

    /// The mapped bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// Tells the system in what order the bytes will be read. Only a hint: a system that has none is not an error.
    pub fn advise(&self, access: Access) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            let advice = match access {
                Access::Normal => memmap2::Advice::Normal,
                Access::Sequential => memmap2::Advice::Sequential,
                Access::Random => memmap2::Advice::Random,
            };
            let _ = map.advise(advice);
        }
        #[cfg(not(unix))]
        let _ = access;
    }
}

/// Brings `bytes` of a map into memory by reading one byte of each page.
pub fn touch(bytes: &[u8]) {
    let sum = bytes.iter().step_by(PAGE).fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    std::hint::black_box(sum);
}

/// A number that any bits make, stored little-endian.
pub trait Plain: Copy + private::Sealed {}

mod private {
    pub trait Sealed {}
}

macro_rules! plain {
    ($($number:ty),*) => {$(
        impl private::Sealed for $number {}
        impl Plain for $number {}
    )*};
}
plain!(u8, u16, u32, u64, i8, f32, f64);

/// The bytes as little-endian numbers, without a copy. `None` when they begin at an odd address or aren't a whole number of values, and
/// always on a processor whose own order is the other one.
///
/// ```
/// use eas_tensor::mapped::view;
///
/// let one: [u64; 1] = [7];
/// let bytes = one[0].to_le_bytes();
/// assert_eq!(view::<u8>(&bytes), Some(&[7, 0, 0, 0, 0, 0, 0, 0][..]));
/// assert_eq!(view::<u32>(&bytes[..7]), None);
/// ```
pub fn view<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: `Plain` is sealed and implemented for numbers only, which have no padding and for which every bit pattern is a value.
    let (before, values, after) = unsafe { bytes.align_to::<T>() };
    (cfg!(target_endian = "little") && before.is_empty() && after.is_empty()).then_some(values)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_part_of_a_file_reads_as_numbers() {
        let path = std::env::temp_dir().join(format!("eas-mapped-{}", std::process::id()));
        let mut file = File::create_new(&path).unwrap();
        for i in 0..5000u32 {
            file.write_all(&i.to_le_bytes()).unwrap();
        }
        let map = MappedFile::open(&path).unwrap();
        map.advise(Access::Sequential);
        touch(map.bytes());
        assert_eq!(view::<u32>(map.bytes()).unwrap(), (0..5000).collect::<Vec<u32>>());
        assert_eq!(view::<u32>(&map.bytes()[1..5]), None, "not aligned");
        assert_eq!(view::<u64>(&map.bytes()[..12]), None, "one and a half");

        let file = File::open(&path).unwrap();
        let part = MappedFile::part(&file, 4096, 400).unwrap();
        assert_eq!(view::<u32>(part.bytes()).unwrap(), (1024..1124).collect::<Vec<u32>>());
        assert!(MappedFile::part(&file, 20_000, 0).unwrap().bytes().is_empty());
        for (offset, bytes) in [(0, 20_001), (20_001, 0), (u64::MAX, 2), (1, u64::MAX)] {
            let error = MappedFile::part(&file, offset, bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
