//! Index files that are mapped and not read: sections of plain numbers, and a checksum for every page of 4096 bytes.
//!
//! Opening reads the header and the table of checksums, which is a thousandth of the file. A page is checked when it is first looked at, so that an altered
//! byte is an error at the search that would have used it, and nothing else is slower by more than the first look.
//!
//! | bytes | content, little-endian |
//! | --- | --- |
//! | 8 | `EASPAGE1` |
//! | 4 | kind of index, four ASCII letters |
//! | 4 | version, 1 |
//! | 8 | length of the file |
//! | 8 | where the checksums of the pages behind the header's begin; the sections end there |
//! | 4 | CRC-32 of these checksums |
//! | 4 | number of sections |
//! | 32 each | the sections: name (16 bytes, filled up with zeros), offset, length |
//! | .. | zeros up to byte 4092 |
//! | 4 | CRC-32 of the 4092 bytes above |
//! | .. | sections, each from a multiple of 64 bytes on; zeros up to a multiple of 4096 |
//! | .. | checksums: the CRC-32 of every page from byte 4096 on |

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use eas_tensor::mapped::{MappedFile, Plain, view};

use crate::AnnError;
use crate::file::{partial, sync_folder, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"EASPAGE1";
const VERSION: u32 = 1;
const PAGE: usize = 4096;
const ALIGN: usize = 64;
const SECTIONS: usize = 40;
const ENTRY: usize = 32;
const NAME: usize = 16;
const MAX_SECTIONS: usize = (PAGE - 4 - SECTIONS) / ENTRY;

/// A file of sections while it is written, beside the path it will have.
#[derive(Debug)]
pub(crate) struct PagesWriter {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    kind: [u8; 4],
    sections: Vec<(String, u64, u64)>,
    at: u64,
    /// Checksum of the page that is being filled, and of those that are full.
    page: crc32fast::Hasher,
    pages: Vec<u32>,
}

impl PagesWriter {
    pub(crate) fn create(path: &Path, kind: [u8; 4]) -> Result<Self, AnnError> {
        let partial = partial(path);
        let io = |source| AnnError::io(&partial, source);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial).map_err(io)?);
        file.write_all(&[0; PAGE]).map_err(io)?;
        Ok(Self {
            path: path.to_path_buf(),
            partial,
            file,
            kind,
            sections: Vec::new(),
            at: PAGE as u64,
            page: crc32fast::Hasher::new(),
            pages: Vec::new(),
        })
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), AnnError> {
        self.file.write_all(bytes).map_err(|source| AnnError::io(&self.partial, source))?;
        while !bytes.is_empty() {
            let room = PAGE - (self.at % PAGE as u64) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.page.update(now);
            self.at += now.len() as u64;
            if self.at.is_multiple_of(PAGE as u64) {
                self.pages.push(std::mem::take(&mut self.page).finalize());
            }
            bytes = later;
        }
        Ok(())
    }

    fn pad_to(&mut self, multiple: usize) -> Result<(), AnnError> {
        let zeros = self.at.next_multiple_of(multiple as u64) - self.at;
        self.put(&vec![0; zeros as usize])
    }

    /// Adds a section: the little-endian bytes of `values`, one after the other.
    pub(crate) fn section<const N: usize>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = [u8; N]>,
    ) -> Result<(), AnnError> {
        self.pad_to(ALIGN)?;
        let from = self.at;
        let mut buffer = Vec::with_capacity(PAGE + N);
        for value in values {
            buffer.extend_from_slice(&value);
            if buffer.len() >= PAGE {
                self.put(&buffer)?;
                buffer.clear();
            }
        }
        self.put(&buffer)?;
        self.sections.push((name.to_owned(), from, self.at - from));
        Ok(())
    }

    /// Writes checksums and header, waits until all is on the disk, and puts the file in the place of the one before.
    pub(crate) fn finish(mut self) -> Result<(), AnnError> {
        self.pad_to(PAGE)?;
        let table_at = self.at;
        let table: Vec<u8> = self.pages.iter().flat_map(|checksum| checksum.to_le_bytes()).collect();
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&self.kind);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(table_at + table.len() as u64).to_le_bytes());
        header.extend_from_slice(&table_at.to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&table).to_le_bytes());
        header.extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        for (name, from, bytes) in &self.sections {
            let mut field = name.as_bytes().to_vec();
            field.resize(NAME, 0);
            header.extend_from_slice(&field);
            header.extend_from_slice(&from.to_le_bytes());
            header.extend_from_slice(&bytes.to_le_bytes());
        }
        if self.sections.len() > MAX_SECTIONS {
            return Err(AnnError::Parameter {
                name: "sections",
                got: self.sections.len().to_string(),
                expected: "at most 126",
            });
        }
        header.resize(PAGE - 4, 0);
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        let io = |source| AnnError::io(&self.partial, source);
        self.file.write_all(&table).map_err(io)?;
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        self.file.write_all(&header).map_err(io)?;
        self.file.flush().map_err(io)?;
        self.file.get_ref().sync_all().map_err(io)?;
        std::fs::rename(&self.partial, &self.path).map_err(io)?;
        sync_folder(&self.path)
    }
}

/// A file of sections, mapped. What it gives out has been checked.
#[derive(Debug)]
pub(crate) struct Pages {
    path: PathBuf,
    map: MappedFile,
    sections: Vec<(Vec<u8>, Range<usize>)>,
    /// Where the checksums begin.
    table: usize,
    /// One bit a page from byte 4096 on: it has been checked.
    checked: Vec<AtomicU64>,
}

impl Pages {
    pub(crate) fn open(path: &Path, kind: [u8; 4]) -> Result<Self, AnnError> {
        let map = MappedFile::open(path).map_err(|source| AnnError::io(path, source))?;
        let bytes = map.bytes();
        let corrupt = |reason: String| AnnError::Corrupt { path: path.to_path_buf(), reason };
        let Some(header) = bytes.get(..PAGE) else {
            return Err(AnnError::Truncated {
                path: path.to_path_buf(),
                bytes: bytes.len() as u64,
                expected: PAGE as u64,
            });
        };
        if header[..8] != *MAGIC {
            return Err(corrupt("not an index file that can be mapped".into()));
        }
        if crc32fast::hash(&header[..PAGE - 4]) != u32_at(header, PAGE - 4) {
            return Err(corrupt("the header's checksum differs: it was altered".into()));
        }
        if header[8..12] != kind || u32_at(header, 12) != VERSION {
            return Err(corrupt(format!(
                "holds an index of kind {}, version {}, expected {}, version {VERSION}",
                String::from_utf8_lossy(&header[8..12]),
                u32_at(header, 12),
                String::from_utf8_lossy(&kind)
            )));
        }
        let (length, table) = (u64_at(header, 16), u64_at(header, 24));
        if length != bytes.len() as u64 {
            return Err(AnnError::Truncated { path: path.to_path_buf(), bytes: bytes.len() as u64, expected: length });
        }
        // The header's checksum holds, but who wrote it need not be this library: nothing is believed without bounds.
        let pages = table / PAGE as u64;
        let fits = table.is_multiple_of(PAGE as u64)
            && pages >= 1
            && (pages - 1).checked_mul(4).and_then(|bytes| bytes.checked_add(table)) == Some(length);
        if !fits {
            return Err(corrupt(format!("checksums from byte {table} on in a file of {length} bytes")));
        }
        let table = table as usize;
        if crc32fast::hash(&bytes[table..]) != u32_at(header, 32) {
            return Err(corrupt("the checksum of its checksums differs: it was altered".into()));
        }
        let count = u32_at(header, 36) as usize;
        if count > MAX_SECTIONS {
            return Err(corrupt(format!("{count} sections, at most {MAX_SECTIONS}")));
        }
        let mut sections = Vec::with_capacity(count);
        for entry in header[SECTIONS..].chunks_exact(ENTRY).take(count) {
            let (from, bytes) = (u64_at(entry, NAME), u64_at(entry, NAME + 8));
            let end = from.checked_add(bytes).filter(|&end| end <= table as u64);
            match end {
                Some(end) if from >= PAGE as u64 && from.is_multiple_of(ALIGN as u64) => {
                    let name = entry[..NAME].split(|&byte| byte == 0).next().unwrap_or_default();
                    sections.push((name.to_vec(), from as usize..end as usize));
                }
                _ => return Err(corrupt(format!("a section of {bytes} bytes from byte {from} on"))),
            }
        }
        let words = (pages as usize - 1).div_ceil(64);
        Ok(Self {
            path: path.to_path_buf(),
            sections,
            table,
            checked: (0..words).map(|_| AtomicU64::new(0)).collect(),
            map,
        })
    }

    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> AnnError {
        AnnError::Corrupt { path: self.path.clone(), reason: reason.into() }
    }

    pub(crate) fn map(&self) -> &MappedFile {
        &self.map
    }

    /// Where the section lies; it must hold `count` values of `T`.
    pub(crate) fn section<T: Plain>(&self, name: &str, count: u64) -> Result<Section<T>, AnnError> {
        let found = self.sections.iter().find(|(own, _)| own == name.as_bytes());
        let Some((_, range)) = found else {
            return Err(self.corrupt(format!("has no section {name}")));
        };
        if count.checked_mul(size_of::<T>() as u64) != Some(range.len() as u64) {
            return Err(self.corrupt(format!("section {name} has {} bytes for {count} values", range.len())));
        }
        Ok(Section { range: range.clone(), values: std::marker::PhantomData })
    }

    /// Values `range` of a section. An error where a page's checksum differs or the section has fewer.
    pub(crate) fn get<T: Plain>(&self, section: &Section<T>, range: Range<usize>) -> Result<&[T], AnnError> {
        let size = size_of::<T>();
        let to = range.end.checked_mul(size).filter(|&to| to <= section.range.len());
        let (Some(to), true) = (to, range.start <= range.end) else {
            return Err(self.corrupt(format!("values {range:?} of {}", section.range.len() / size)));
        };
        let bytes = section.range.start + range.start * size..section.range.start + to;
        self.check(&bytes)?;
        view(&self.map.bytes()[bytes])
            .ok_or_else(|| self.corrupt("can't be mapped on a processor with big-endian numbers"))
    }

    /// Checks the pages that hold these bytes, where that hasn't been done.
    fn check(&self, bytes: &Range<usize>) -> Result<(), AnnError> {
        if bytes.is_empty() {
            return Ok(());
        }
        for page in bytes.start / PAGE..=(bytes.end - 1) / PAGE {
            let (word, bit) = ((page - 1) / 64, 1 << ((page - 1) % 64));
            if self.checked[word].load(Ordering::Relaxed) & bit != 0 {
                continue;
            }
            let all = self.map.bytes();
            let checksum = u32_at(all, self.table + 4 * (page - 1));
            if crc32fast::hash(&all[page * PAGE..(page + 1) * PAGE]) != checksum {
                return Err(self.corrupt(format!("page {page} was altered: its checksum differs")));
            }
            self.checked[word].fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Checks every page, also those that were checked before.
    pub(crate) fn verify(&self) -> Result<(), AnnError> {
        for word in &self.checked {
            word.store(0, Ordering::Relaxed);
        }
        self.check(&(PAGE..self.table))
    }
}

/// The place of a section with values of `T`.
#[derive(Debug, Clone)]
pub(crate) struct Section<T> {
    range: Range<usize>,
    values: std::marker::PhantomData<T>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, values: u32) {
        let mut out = PagesWriter::create(path, *b"TEST").unwrap();
        out.section("numbers", (0..values).map(u32::to_le_bytes)).unwrap();
        out.section("empty", std::iter::empty::<[u8; 8]>()).unwrap();
        out.section("more", (0..10u64).map(u64::to_le_bytes)).unwrap();
        out.finish().unwrap();
    }

    #[test]
    fn sections_come_back_aligned() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pages");
        for values in [0, 1, 1023, 1024, 1025, 5_000] {
            write(&path, values);
            let pages = Pages::open(&path, *b"TEST").unwrap();
            let numbers = pages.section::<u32>("numbers", u64::from(values)).unwrap();
            assert_eq!(pages.get(&numbers, 0..values as usize).unwrap(), (0..values).collect::<Vec<_>>());
            let more = pages.section::<u64>("more", 10).unwrap();
            assert_eq!(pages.get(&more, 3..5).unwrap(), [3, 4]);
            assert!(pages.get(&more, 3..11).is_err() && pages.get(&more, 0..usize::MAX).is_err());
            assert!(pages.section::<u64>("empty", 0).is_ok());
            assert!(pages.section::<u64>("more", 9).is_err() && pages.section::<u64>("more", 1 << 61).is_err());
            assert!(pages.section::<u8>("absent", 1).is_err());
            pages.verify().unwrap();
        }
        assert!(Pages::open(&path, *b"OTHR").unwrap_err().to_string().contains("kind TEST"));
    }

    #[test]
    fn a_page_is_checked_when_it_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pages");
        write(&path, 5_000);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[PAGE + 2 * PAGE + 5] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let pages = Pages::open(&path, *b"TEST").unwrap();
        let numbers = pages.section::<u32>("numbers", 5_000).unwrap();
        assert_eq!(pages.get(&numbers, 0..2048).unwrap().len(), 2048);
        for _ in 0..2 {
            let error = pages.get(&numbers, 2047..2049).unwrap_err();
            assert!(error.to_string().contains("page 3"), "{error}");
        }
        assert!(pages.get(&numbers, 3072..5_000).is_ok());
        assert!(pages.verify().is_err());
    }
}
