//! Index files: a header with kind, length and CRC-32 before the payload, all little-endian.
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | `EAS-ANN1` |
//! | 4 | kind of index, four ASCII letters |
//! | 4 | CRC-32 of the payload |
//! | 8 | length of the payload in bytes |
//! | .. | payload |

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::AnnError;

const MAGIC: &[u8; 8] = b"EAS-ANN1";
const HEADER: usize = 24;

/// The payload of an index file, while it is put together.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    payload: Vec<u8>,
}

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.payload.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.payload.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32s(&mut self, values: &[u32]) {
        for &value in values {
            self.u32(value);
        }
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.payload.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64s(&mut self, values: &[u64]) {
        for value in values {
            self.payload.extend_from_slice(&value.to_le_bytes());
        }
    }

    pub(crate) fn bytes(&mut self, values: &[u8]) {
        self.payload.extend_from_slice(values);
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) {
        for value in values {
            self.payload.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Fills up with zeros to a multiple of 64 bytes from the start of the file, so that the next array starts a cache line where
    /// the file is mapped.
    pub(crate) fn align(&mut self) {
        let end = (HEADER + self.payload.len()).next_multiple_of(64);
        self.payload.resize(end - HEADER, 0);
    }

    /// Writes beside `path` first and renames at the end, so that a crash leaves the old file whole.
    pub(crate) fn finish(self, path: &Path, kind: [u8; 4]) -> Result<(), AnnError> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&kind);
        header.extend_from_slice(&crc32fast::hash(&self.payload).to_le_bytes());
        header.extend_from_slice(&(self.payload.len() as u64).to_le_bytes());
        replace(path, &[&header, &self.payload])
    }
}

/// Where a file is written before it takes the place of the one at `path`.
pub(crate) fn partial(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    PathBuf::from(partial)
}

/// Puts the parts, one behind the other, in the place of the file at `path`, whole or not at all.
pub(crate) fn replace(path: &Path, parts: &[&[u8]]) -> Result<(), AnnError> {
    let partial = partial(path);
    let io = |source| AnnError::Io { path: path.to_path_buf(), source };
    let mut file = File::create(&partial).map_err(io)?;
    for part in parts {
        file.write_all(part).map_err(io)?;
    }
    file.sync_all().map_err(io)?;
    std::fs::rename(&partial, path).map_err(io)?;
    sync_folder(path)
}

/// The little-endian number at byte `at`; 0 where the bytes end before.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let number = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    number.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The little-endian number at byte `at`; 0 where the bytes end before.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let number = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    number.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Takes the file for one writer; the system lets go of it when the file is closed, also by a crash.
pub(crate) fn lock(path: &Path, file: &File) -> Result<(), AnnError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(AnnError::Locked { path: path.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(AnnError::io(path, source)),
    }
}

/// Waits until the folder of `path` has written down that the file is there. Where folders can't be opened, as on Windows, the file system
/// sees to that itself.
pub(crate) fn sync_folder(path: &Path) -> Result<(), AnnError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| AnnError::Io { path: folder.to_path_buf(), source })?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// The payload of an index file whose checksum holds, read front to back.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    bytes: Vec<u8>,
    at: usize,
}

impl Reader {
    pub(crate) fn open(path: &Path, kind: [u8; 4]) -> Result<Self, AnnError> {
        let bytes = std::fs::read(path).map_err(|source| AnnError::Io { path: path.to_path_buf(), source })?;
        let corrupt = |reason: String| AnnError::Corrupt { path: path.to_path_buf(), reason };
        let Some((header, payload)) = bytes.split_at_checked(HEADER) else {
            return Err(corrupt(format!("{} bytes are too few for an index file", bytes.len())));
        };
        let field = |from: usize, to: usize| header.get(from..to).unwrap_or_default();
        if field(0, 8) != MAGIC {
            return Err(corrupt("not an index file of this library".into()));
        }
        if field(8, 12) != kind {
            return Err(corrupt(format!(
                "holds an index of kind {}, expected {}",
                String::from_utf8_lossy(field(8, 12)),
                String::from_utf8_lossy(&kind)
            )));
        }
        let checksum = field(12, 16).iter().rev().fold(0u32, |sum, &b| sum << 8 | u32::from(b));
        let length = field(16, 24).iter().rev().fold(0u64, |sum, &b| sum << 8 | u64::from(b));
        if payload.len() as u64 != length {
            return Err(corrupt(format!("the file is cut off or padded: {} bytes of {length}", payload.len())));
        }
        if crc32fast::hash(payload) != checksum {
            return Err(corrupt("the checksum differs: the file was altered".into()));
        }
        Ok(Self { path: path.to_path_buf(), bytes, at: HEADER })
    }

    /// An error about this file.
    pub(crate) fn corrupt(&self, reason: &str) -> AnnError {
        AnnError::Corrupt { path: self.path.clone(), reason: reason.into() }
    }

    fn take(&mut self, bytes: usize) -> Result<&[u8], AnnError> {
        let end = self.at.saturating_add(bytes);
        if end > self.bytes.len() {
            return Err(self.corrupt("the payload ends before its content"));
        }
        let from = std::mem::replace(&mut self.at, end);
        Ok(&self.bytes[from..end])
    }

    /// Skips what [`Writer::align`] filled up.
    pub(crate) fn align(&mut self) -> Result<(), AnnError> {
        let next = self.at.next_multiple_of(64);
        self.take(next - self.at).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, AnnError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, AnnError> {
        Ok(self.take(count)?.to_vec())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, AnnError> {
        Ok(self.u32s(1)?[0])
    }

    pub(crate) fn u64(&mut self) -> Result<u64, AnnError> {
        Ok(self.u64s(1)?[0])
    }

    pub(crate) fn u32s(&mut self, count: usize) -> Result<Vec<u32>, AnnError> {
        let (words, _) = self.take(count.saturating_mul(4))?.as_chunks();
        Ok(words.iter().copied().map(u32::from_le_bytes).collect())
    }

    pub(crate) fn u64s(&mut self, count: usize) -> Result<Vec<u64>, AnnError> {
        let (words, _) = self.take(count.saturating_mul(8))?.as_chunks();
        Ok(words.iter().copied().map(u64::from_le_bytes).collect())
    }

    pub(crate) fn f32s(&mut self, count: usize) -> Result<Vec<f32>, AnnError> {
        let (words, _) = self.take(count.saturating_mul(4))?.as_chunks();
        Ok(words.iter().copied().map(f32::from_le_bytes).collect())
    }

    /// Everything must have been read.
    pub(crate) fn finish(self) -> Result<(), AnnError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.corrupt("the payload goes on after its content")) }
    }
}
