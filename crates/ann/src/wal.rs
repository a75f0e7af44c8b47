//! [`Wal`]: a write-ahead log. What was acknowledged is on the disk, in order; what a crash tore off is dropped; what was altered is
//! reported and never passed on.
//!
//! The file begins with `EASWAL01`, the sequence number of its first record (8 bytes) and the CRC-32 of these 16 bytes. A record is,
//! little-endian:
//!
//! | bytes | content |
//! | --- | --- |
//! | 4 | length of the payload |
//! | 8 | sequence number, one more than that of the record before |
//! | 4 | CRC-32 of the 12 bytes above |
//! | .. | payload |
//! | 4 | CRC-32 of the payload |
//!
//! The length has a checksum of its own: were it believed when it is wrong, one altered byte in it would look like a torn tail and
//! take every record behind it along.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::AnnError;
use crate::file::{lock, partial, sync_folder, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"EASWAL01";
/// Where the first record begins.
const RECORDS: u64 = 20;
/// Bytes of a record before its payload, and behind it.
const HEAD: usize = 16;
const FOOT: usize = 4;

/// What [`Wal::open`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whole records, each passed on once.
    pub records: u64,
    /// Bytes of a record that a crash had torn, now cut off.
    pub torn_bytes: u64,
}

/// A log that is open for appending; one writer at a time.
///
/// ```
/// use eas_ann::wal::Wal;
///
/// let path = std::env::temp_dir().join(format!("eas-wal-{}", std::process::id()));
/// let (mut log, _) = Wal::open(&path, |_, _| Ok(()))?;
/// log.append(b"add 7")?;
/// log.append(b"remove 7")?;
/// log.sync()?; // both are acknowledged
/// drop(log);
///
/// let mut seen = Vec::new();
/// let (_, found) = Wal::open(&path, |sequence, payload| {
///     seen.push((sequence, payload.to_vec()));
///     Ok(())
/// })?;
/// assert_eq!((found.records, &seen[1]), (2, &(1, b"remove 7".to_vec())));
/// # std::fs::remove_file(path).ok();
/// # Ok::<(), eas_ann::AnnError>(())
/// ```
#[derive(Debug)]
pub struct Wal {
    path: PathBuf,
    file: File,
    /// Sequence number of the next record.
    next: u64,
    /// End of the last acknowledged record.
    end: u64,
    /// Records that were appended and not yet acknowledged.
    pending: Vec<u8>,
}

impl Wal {
    /// Opens the log at `path`, or makes an empty one, and passes each whole record to `replay` in order: its sequence number and its
    /// payload. An error of `replay` ends the opening with that error.
    ///
    /// A last record that isn't there to its end was torn by a crash, and is cut off. So is a tail of zeros, which a file system may leave
    /// where it had made room for what was never written. Anything else that doesn't match its checksum is [`AnnError::Corrupt`], and
    /// the file is left as it is.
    pub fn open(
        path: &Path,
        mut replay: impl FnMut(u64, &[u8]) -> Result<(), AnnError>,
    ) -> Result<(Self, Recovery), AnnError> {
        let io = |source| AnnError::io(path, source);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok((Self::empty(path, 0)?, Recovery::default()));
            }
            opened => opened.map_err(io)?,
        };
        lock(path, &file)?;
        let bytes = file.metadata().map_err(io)?.len();
        if bytes < RECORDS {
            return Err(AnnError::Truncated { path: path.to_path_buf(), bytes, expected: RECORDS });
        }
        let mut input = BufReader::with_capacity(1 << 16, file.try_clone().map_err(io)?);
        let mut log = Self { path: path.to_path_buf(), file, next: 0, end: RECORDS, pending: Vec::new() };
        let mut header = [0; RECORDS as usize];
        input.read_exact(&mut header).map_err(io)?;
        if header[..8] != *MAGIC {
            return Err(log.corrupt("not a log of this library".into()));
        }
        if crc32fast::hash(&header[..16]) != u32_at(&header, 16) {
            return Err(log.corrupt("the header's checksum differs: it was altered".into()));
        }
        log.next = u64_at(&header, 8);

        let first = log.next;
        let mut payload = Vec::new();
        while bytes - log.end >= HEAD as u64 {
            let left = bytes - log.end;
            let mut head = [0; HEAD];
            input.read_exact(&mut head).map_err(io)?;
            if head == [0; HEAD] && only_zeros(&mut input).map_err(io)? {
                break;
            }
            if crc32fast::hash(&head[..12]) != u32_at(&head, 12) || u64_at(&head, 4) != log.next {
                return Err(log.corrupt(format!("the head of record {} at byte {} was altered", log.next, log.end)));
            }
            let length = u64::from(u32_at(&head, 0));
            let whole = HEAD as u64 + length + FOOT as u64;
            if whole > left {
                break;
            }
            payload.resize(length as usize + FOOT, 0);
            input.read_exact(&mut payload).map_err(io)?;
            let (content, checksum) = payload.split_at(length as usize);
            if crc32fast::hash(content) != u32_at(checksum, 0) {
                return Err(log.corrupt(format!("record {} at byte {} was altered", log.next, log.end)));
            }
            replay(log.next, content)?;
            log.next += 1;
            log.end += whole;
        }
        let recovery = Recovery { records: log.next - first, torn_bytes: bytes - log.end };
        if recovery.torn_bytes > 0 {
            log.file.set_len(log.end).map_err(io)?;
            log.file.sync_all().map_err(io)?;
        }
        Ok((log, recovery))
    }

    /// A new log without records at `path`, in place of what is there; made beside it and renamed, so that there is always a whole one.
    fn empty(path: &Path, next: u64) -> Result<Self, AnnError> {
        let partial = partial(path);
        let io = |source| AnnError::io(&partial, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(&partial).map_err(io)?;
        lock(&partial, &file)?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&next.to_le_bytes());
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        file.write_all(&header).map_err(io)?;
        file.sync_all().map_err(io)?;
        std::fs::rename(&partial, path).map_err(io)?;
        sync_folder(path)?;
        Ok(Self { path: path.to_path_buf(), file, next, end: RECORDS, pending: Vec::new() })
    }

    /// Adds a record and returns its sequence number. It is acknowledged by the next [`sync`](Self::sync), not before.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, AnnError> {
        let Ok(length) = u32::try_from(payload.len()) else {
            return Err(AnnError::Parameter {
                name: "payload",
                got: format!("{} bytes", payload.len()),
                expected: "less than 4 GiB",
            });
        };
        let head = self.pending.len();
        self.pending.extend_from_slice(&length.to_le_bytes());
        self.pending.extend_from_slice(&self.next.to_le_bytes());
        let checksum = crc32fast::hash(&self.pending[head..]);
        self.pending.extend_from_slice(&checksum.to_le_bytes());
        self.pending.extend_from_slice(payload);
        self.pending.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Writes what was appended and waits until it is on the disk: one wait for all of it. Returns the sequence number up to which,
    /// exclusive, records are acknowledged. After an error nothing new is, and the call may be repeated.
    pub fn sync(&mut self) -> Result<u64, AnnError> {
        if self.pending.is_empty() {
            return Ok(self.next);
        }
        let io = |source| AnnError::io(&self.path, source);
        self.file.seek(SeekFrom::Start(self.end)).map_err(io)?;
        self.file.write_all(&self.pending).map_err(io)?;
        self.file.sync_data().map_err(io)?;
        self.end += self.pending.len() as u64;
        self.pending.clear();
        Ok(self.next)
    }

    /// Begins an empty log, for when all records up to the next one are kept elsewhere. Sequence numbers go on.
    pub fn reset(&mut self) -> Result<(), AnnError> {
        *self = Self::empty(&self.path, self.next)?;
        Ok(())
    }

    /// Sequence number of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Bytes of the acknowledged log.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    fn corrupt(&self, reason: String) -> AnnError {
        AnnError::Corrupt { path: self.path.clone(), reason }
    }
}

/// Reads to the end; whether there were only zeros.
fn only_zeros(input: &mut impl Read) -> std::io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(true),
            n if buffer[..n].iter().any(|&byte| byte != 0) => return Ok(false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Records = Vec<(u64, Vec<u8>)>;

    fn read(path: &Path) -> Result<(Records, Recovery), AnnError> {
        let mut records = Vec::new();
        let (_, recovery) = Wal::open(path, |sequence, payload| {
            records.push((sequence, payload.to_vec()));
            Ok(())
        })?;
        Ok((records, recovery))
    }

    fn written(path: &Path, payloads: &[&[u8]]) -> (Records, Vec<u8>) {
        let (mut log, _) = Wal::open(path, |_, _| Ok(())).unwrap();
        for payload in payloads {
            log.append(payload).unwrap();
            log.sync().unwrap();
        }
        let records = (0..).zip(payloads.iter().map(|payload| payload.to_vec())).collect();
        (records, std::fs::read(path).unwrap())
    }

    const PAYLOADS: [&[u8]; 5] = [b"one", b"", b"a longer third record", b"4", &[0; 50]];

    #[test]
    fn cut_off_anywhere_the_whole_records_remain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (records, bytes) = written(&path, &PAYLOADS);
        let mut ends = vec![RECORDS as usize];
        for payload in PAYLOADS {
            ends.push(ends.last().unwrap() + HEAD + payload.len() + FOOT);
        }
        for length in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            match read(&path) {
                Ok((found, recovery)) => {
                    let whole = ends.iter().filter(|&&end| end <= length).count() - 1;
                    assert_eq!(found, records[..whole]);
                    assert_eq!(recovery.torn_bytes, (length - ends[whole]) as u64);
                    // Opening cut the torn tail off, and the log goes on behind it.
                    let (mut log, recovery) = Wal::open(&path, |_, _| Ok(())).unwrap();
                    assert_eq!(recovery.torn_bytes, 0);
                    assert_eq!(log.append(b"next").unwrap(), whole as u64);
                    log.sync().unwrap();
                    drop(log);
                    assert_eq!(read(&path).unwrap().0.len(), whole + 1);
                }
                Err(error) => assert!(matches!(error, AnnError::Truncated { .. }) && length < 20, "{error}"),
            }
        }
    }

    #[test]
    fn every_altered_byte_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (_, bytes) = written(&path, &PAYLOADS);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                std::fs::write(&path, &altered).unwrap();
                let error = read(&path).unwrap_err();
                assert!(matches!(error, AnnError::Corrupt { .. }), "byte {at}: {error}");
                assert_eq!(std::fs::read(&path).unwrap(), altered, "left as it is");
            }
        }
    }

    #[test]
    fn a_tail_of_zeros_is_dropped_and_a_length_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (records, bytes) = written(&path, &PAYLOADS);
        for zeros in [1, 15, 16, 10_000] {
            let mut padded = bytes.clone();
            padded.resize(bytes.len() + zeros, 0);
            std::fs::write(&path, &padded).unwrap();
            let (found, recovery) = read(&path).unwrap();
            assert_eq!((&found, recovery.torn_bytes), (&records, zeros as u64));
        }
        // A whole head that promises 4 GiB: a torn record, and nothing is allocated for it.
        let mut promise = bytes.clone();
        promise.extend_from_slice(&u32::MAX.to_le_bytes());
        promise.extend_from_slice(&5u64.to_le_bytes());
        let checksum = crc32fast::hash(&promise[bytes.len()..]);
        promise.extend_from_slice(&checksum.to_le_bytes());
        std::fs::write(&path, &promise).unwrap();
        assert_eq!(read(&path).unwrap().0, records);
    }

    #[test]
    fn unsynced_records_are_not_there_and_a_reset_log_counts_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, _) = Wal::open(&path, |_, _| Ok(())).unwrap();
        assert!(matches!(Wal::open(&path, |_, _| Ok(())), Err(AnnError::Locked { .. })));
        assert_eq!((log.append(b"a").unwrap(), log.append(b"b").unwrap(), log.sync().unwrap()), (0, 1, 2));
        log.append(b"never acknowledged").unwrap();
        drop(log);
        assert_eq!(read(&path).unwrap().1.records, 2);
        let (mut log, _) = Wal::open(&path, |_, _| Ok(())).unwrap();
        log.reset().unwrap();
        assert_eq!((log.bytes(), log.next_sequence()), (RECORDS, 2));
        log.append(b"c").unwrap();
        log.sync().unwrap();
        drop(log);
        assert_eq!(read(&path).unwrap().0, [(2, b"c".to_vec())]);
        let stop = Wal::open(&path, |_, _| Err(AnnError::DuplicateId(9)));
        assert!(matches!(stop, Err(AnnError::DuplicateId(9))));
        std::fs::write(&path, b"something else altogether").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("not a log"));
    }
}
