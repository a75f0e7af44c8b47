//! [`VectorFile`]: rows of vectors in a file that may be larger than memory, opens at once, and survives a crash in the midst of an
//! append.
//!
//! | bytes | content, little-endian |
//! | --- | --- |
//! | 8 | `VECF0001` |
//! | 4 | version, 1 |
//! | 4 | type of a value: 0 f32, 1 f16 |
//! | 4 | dimension |
//! | 4 | stride: bytes of a row |
//! | 8 | number of published rows |
//! | 8 | offset of row 0: 4096 |
//! | 4 | CRC-32 of the published rows |
//! | 4 | CRC-32 of the fields above |
//! | .. | zeros; the same fields again at byte 2048; zeros up to byte 4096 |
//! | .. | rows |
//!
//! An append writes its rows behind the published ones and waits until they are on the disk; only then it writes the new number of rows
//! into the header, and waits again. A crash before that leaves a tail that no header counts, which the next append overwrites. The header stands twice, the second
//! copy written after the first, so that one that was torn or damaged is made good by the other.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, mpsc};

use eas_tensor::mapped::{Access, MappedFile, touch, view};
use eas_tensor::{Matrix, TopK, kernels};
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::AnnError;
use crate::file::{lock, sync_folder, u32_at, u64_at};
use crate::index::{Hit, Metric, check_dim, check_queries, prepare_query};

const MAGIC: &[u8; 8] = b"VECF0001";
const VERSION: u32 = 1;
/// Where row 0 begins.
const DATA: u64 = 4096;
/// Where the two copies of the header's fields begin.
const COPIES: [u64; 2] = [0, 2048];
const FIELDS: usize = 48;
/// Bytes of rows that an append writes at a time.
const WRITE: usize = 1 << 20;

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision, 4 bytes.
    F32,
    /// IEEE half precision, 2 bytes; what is out of its range (above 65,504) is refused.
    F16,
}

impl Dtype {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// The fields of the header that vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    dtype: Dtype,
    dim: u32,
    count: u64,
    rows_crc: u32,
}

impl Header {
    fn stride(&self) -> u64 {
        u64::from(self.dim) * self.dtype.bytes() as u64
    }

    /// Bytes of a file with `count` rows, where that is a number.
    fn file_bytes(&self, count: u64) -> Option<u64> {
        self.stride().checked_mul(count)?.checked_add(DATA)
    }

    fn encode(&self) -> [u8; FIELDS] {
        let mut bytes = Vec::with_capacity(FIELDS);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::from(self.dtype == Dtype::F16).to_le_bytes());
        bytes.extend_from_slice(&self.dim.to_le_bytes());
        bytes.extend_from_slice(&(self.stride() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&DATA.to_le_bytes());
        bytes.extend_from_slice(&self.rows_crc.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut fields = [0; FIELDS];
        fields.copy_from_slice(&bytes);
        fields
    }

    /// The fields, or what is wrong with them.
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (u32_at, u64_at) = (|at| u32_at(bytes, at), |at| u64_at(bytes, at));
        if bytes[..8] != *MAGIC {
            return Err("not a vector file".into());
        }
        if crc32fast::hash(&bytes[..FIELDS - 4]) != u32_at(FIELDS - 4) {
            return Err("the header's checksum differs: it was altered".into());
        }
        if u32_at(8) != VERSION {
            return Err(format!("version {} of the format, expected {VERSION}", u32_at(8)));
        }
        let dtype = match u32_at(12) {
            0 => Dtype::F32,
            1 => Dtype::F16,
            other => return Err(format!("values of unknown type {other}")),
        };
        let header = Self { dtype, dim: u32_at(16), count: u64_at(24), rows_crc: u32_at(40) };
        let whole = header.dim > 0 && header.stride() == u64::from(u32_at(20)) && u64_at(32) == DATA;
        if !whole || header.file_bytes(header.count).is_none() {
            return Err(format!(
                "{} rows of dimension {} and {} bytes from byte {} on are not possible",
                header.count,
                header.dim,
                u32_at(20),
                u64_at(32)
            ));
        }
        Ok(header)
    }
}

/// Vectors of one dimension by row number, on disk. One writer at a time; readers see the rows that were published when they opened the
/// file or called [`refresh`](Self::refresh).
///
/// ```
/// use eas_ann::{Dtype, VectorFile};
/// use eas_tensor::Matrix;
///
/// let folder = std::env::temp_dir().join(format!("eas-vectors-{}", std::process::id()));
/// std::fs::create_dir_all(&folder)?;
/// let path = folder.join("two.vec");
/// let mut file = VectorFile::create(&path, 2, Dtype::F32)?;
/// file.append(&Matrix::from_rows(&[[1.0, 0.0], [3.0, 4.0]])?)?;
///
/// let reader = VectorFile::open_read(&path)?;
/// assert_eq!(*reader.get(1)?, [3.0, 4.0]);
/// assert_eq!(reader.scan(&[0.6, 0.8], 1, 10_000)?[0].id, 1);
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct VectorFile {
    path: PathBuf,
    file: File,
    writable: bool,
    header: Header,
    /// The published rows, mapped when first read after an append.
    rows: OnceLock<MappedFile>,
    /// Euclidean length of each row, from the first scan on.
    norms: OnceLock<Vec<f32>>,
}

impl VectorFile {
    /// A new, empty file for vectors of `dim >= 1` values, open for appending. A file that is there already is left alone and an error.
    pub fn create(path: &Path, dim: usize, dtype: Dtype) -> Result<Self, AnnError> {
        check_dim(dim)?;
        let stride = dim.checked_mul(dtype.bytes()).and_then(|stride| u32::try_from(stride).ok());
        if stride.is_none() {
            return Err(AnnError::Parameter { name: "dim", got: dim.to_string(), expected: "rows of less than 4 GiB" });
        }
        let io = |source| AnnError::io(path, source);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(io)?;
        lock(path, &file)?;
        let header = Header { dtype, dim: dim as u32, count: 0, rows_crc: crc32fast::hash(&[]) };
        file.set_len(DATA).map_err(io)?;
        let mut created = Self::new(path, file, true, header);
        created.publish(header)?;
        sync_folder(path)?;
        Ok(created)
    }

    /// Opens a file for reading.
    pub fn open_read(path: &Path) -> Result<Self, AnnError> {
        let file = File::open(path).map_err(|source| AnnError::io(path, source))?;
        let header = read_header(path, &file)?.0;
        Ok(Self::new(path, file, false, header))
    }

    /// Opens a file for reading and appending. What an interrupted append left behind the published rows is cut off.
    pub fn open_append(path: &Path) -> Result<Self, AnnError> {
        let io = |source| AnnError::io(path, source);
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        lock(path, &file)?;
        let (header, copies_agree) = read_header(path, &file)?;
        if let Some(end) = header.file_bytes(header.count) {
            file.set_len(end).map_err(io)?;
        }
        let mut opened = Self::new(path, file, true, header);
        if !copies_agree {
            opened.publish(header)?;
        }
        Ok(opened)
    }

    fn new(path: &Path, file: File, writable: bool, header: Header) -> Self {
        Self { path: path.to_path_buf(), file, writable, header, rows: OnceLock::new(), norms: OnceLock::new() }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Values of a row.
    pub fn dim(&self) -> usize {
        self.header.dim as usize
    }

    /// How values are stored.
    pub fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    /// Number of published rows.
    pub fn len(&self) -> u64 {
        self.header.count
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds rows, shape `(n, dim)`, at the end and returns the number of the first. They are published, all or none, when this returns: a crash
    /// leaves either the file before or the file after. Values that are not finite are refused.
    pub fn append(&mut self, rows: &Matrix) -> Result<u64, AnnError> {
        if !self.writable {
            return Err(AnnError::ReadOnly { path: self.path.clone() });
        }
        check_queries(self.dim(), rows)?;
        let first = self.header.count;
        if rows.is_empty() {
            return Ok(first);
        }
        let count = first + rows.rows() as u64;
        let (Some(end), Some(_)) = (self.header.file_bytes(first), self.header.file_bytes(count)) else {
            return Err(AnnError::OutOfRange { row: count, rows: u64::MAX / self.header.stride() });
        };
        let mut checksum = crc32fast::Hasher::new_with_initial_len(self.header.rows_crc, end - DATA);
        let io = |source| AnnError::io(&self.path, source);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(end)).map_err(io)?;
        let mut buffer = Vec::with_capacity(WRITE.min(rows.as_slice().len() * 4));
        for values in rows.as_slice().chunks(WRITE / self.header.dtype.bytes()) {
            buffer.clear();
            match self.header.dtype {
                Dtype::F32 => buffer.extend(values.iter().flat_map(|value| value.to_le_bytes())),
                Dtype::F16 => {
                    for value in values {
                        let half = f16::from_f32(*value);
                        if half.is_infinite() {
                            return Err(AnnError::Parameter {
                                name: "value",
                                got: value.to_string(),
                                expected: "at most 65,504 in absolute value, to be stored as f16",
                            });
                        }
                        buffer.extend_from_slice(&half.to_le_bytes());
                    }
                }
            }
            checksum.update(&buffer);
            file.write_all(&buffer).map_err(io)?;
        }
        self.file.sync_data().map_err(io)?;
        self.publish(Header { count, rows_crc: checksum.finalize(), ..self.header })?;
        Ok(first)
    }

    /// Writes the header: one copy, on the disk before the other is touched. The second needs no waiting, since the next append
    /// waits for it before it writes to the first.
    fn publish(&mut self, header: Header) -> Result<(), AnnError> {
        let fields = header.encode();
        let io = |source| AnnError::io(&self.path, source);
        for at in COPIES {
            let mut file = &self.file;
            file.seek(SeekFrom::Start(at)).map_err(io)?;
            file.write_all(&fields).map_err(io)?;
            if at == COPIES[0] {
                self.file.sync_data().map_err(io)?;
            }
        }
        self.header = header;
        self.rows = OnceLock::new();
        self.norms = OnceLock::new();
        Ok(())
    }

    /// Looks for rows that a writer has published since, and returns their number.
    pub fn refresh(&mut self) -> Result<u64, AnnError> {
        let header = read_header(&self.path, &self.file)?.0;
        let new = header.count.saturating_sub(self.header.count);
        if header != self.header {
            self.header = header;
            self.rows = OnceLock::new();
            self.norms = OnceLock::new();
        }
        Ok(new)
    }

    /// The bytes of all published rows.
    fn rows(&self) -> Result<&[u8], AnnError> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows.bytes());
        }
        let bytes = self.header.stride() * self.header.count;
        let map = MappedFile::part(&self.file, DATA, bytes).map_err(|source| AnnError::io(&self.path, source))?;
        Ok(self.rows.get_or_init(|| map).bytes())
    }

    fn row_bytes(&self, row: u64) -> Result<&[u8], AnnError> {
        let rows = self.len();
        if row >= rows {
            return Err(AnnError::OutOfRange { row, rows });
        }
        let stride = self.header.stride() as usize;
        let from = row as usize * stride;
        Ok(&self.rows()?[from..from + stride])
    }

    /// Row `row`: borrowed from the map, or a copy when the values are stored as f16.
    pub fn get(&self, row: u64) -> Result<Cow<'_, [f32]>, AnnError> {
        Ok(decode(self.dtype(), self.row_bytes(row)?))
    }

    /// The rows with these numbers, in their order; shape `(rows.len(), dim)`. Rows are read in the order in which they lie in the file.
    pub fn get_many(&self, rows: &[u64]) -> Result<Matrix, AnnError> {
        if let Some(&row) = rows.iter().find(|&&row| row >= self.len()) {
            return Err(AnnError::OutOfRange { row, rows: self.len() });
        }
        let mut out = Matrix::zeros(rows.len(), self.dim());
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&at| rows[at]);
        for at in order {
            out.row_mut(at).copy_from_slice(&self.get(rows[at])?);
        }
        Ok(out)
    }

    /// The `k` rows with the highest cosine to `query`, best first, by reading all of them once, `batch` rows at a time: while one batch is
    /// compared, a helper thread brings the next into memory. The rows' lengths are computed in the first scan and kept.
    pub fn scan(&self, query: &[f32], k: usize, batch: usize) -> Result<Vec<Hit>, AnnError> {
        if batch == 0 {
            return Err(AnnError::Parameter { name: "batch", got: "0".into(), expected: "at least 1" });
        }
        let query = prepare_query(Metric::Cosine, self.dim(), query)?;
        let rows = self.rows()?;
        if let Some(map) = self.rows.get() {
            map.advise(Access::Sequential);
        }
        let stride = self.header.stride() as usize;
        let known = self.norms.get();
        let mut norms = Vec::with_capacity(if known.is_none() { self.len() as usize } else { 0 });
        let mut best = TopK::new(k);
        std::thread::scope(|scope| {
            // Room for one batch: the helper is at most two ahead.
            let (ready, batches) = mpsc::sync_channel::<(usize, &[u8])>(1);
            scope.spawn(move || {
                for (at, bytes) in rows.chunks(batch.saturating_mul(stride)).enumerate() {
                    touch(bytes);
                    if ready.send((at * batch, bytes)).is_err() {
                        break;
                    }
                }
            });
            for (first, bytes) in batches {
                let values = decode(self.dtype(), bytes);
                for (row, vector) in (first..).zip(values.chunks_exact(self.dim())) {
                    let norm = known.map_or_else(|| kernels::norm(vector), |norms| norms[row]);
                    if known.is_none() {
                        norms.push(norm);
                    }
                    let score = if norm > 0.0 { kernels::dot(query.row(0), vector) / norm } else { 0.0 };
                    best.push(row, score);
                }
            }
        });
        if known.is_none() {
            self.norms.get_or_init(|| norms);
        }
        if let Some(map) = self.rows.get() {
            map.advise(Access::Normal);
        }
        let hits = best.into_sorted_vec().into_iter().map(|found| Hit { id: found.id as u64, score: found.score });
        Ok(hits.collect())
    }

    /// Reads every published row and compares their checksum with the header's. Opening doesn't, so that it takes no longer for a large file.
    pub fn verify(&self) -> Result<(), AnnError> {
        if crc32fast::hash(self.rows()?) == self.header.rows_crc {
            return Ok(());
        }
        Err(AnnError::Corrupt {
            path: self.path.clone(),
            reason: format!("the checksum of its {} rows differs: they were altered", self.len()),
        })
    }

    /// Bytes of a range of rows, for reading ahead.
    pub fn prefetch(&self, rows: Range<u64>) -> Result<(), AnnError> {
        let stride = self.header.stride() as usize;
        let rows = rows.start.min(self.len()) as usize..rows.end.min(self.len()) as usize;
        if !rows.is_empty() {
            touch(&self.rows()?[rows.start * stride..rows.end * stride]);
        }
        Ok(())
    }
}

/// The newer of the two good copies of the header, and whether both say the same.
fn read_header(path: &Path, mut file: &File) -> Result<(Header, bool), AnnError> {
    let io = |source| AnnError::io(path, source);
    let bytes = file.metadata().map_err(io)?.len();
    let truncated = |expected| AnnError::Truncated { path: path.to_path_buf(), bytes, expected };
    let mut page = [0; DATA as usize];
    let there = &mut page[..bytes.min(DATA) as usize];
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    file.read_exact(there).map_err(io)?;
    if bytes < DATA {
        return Err(truncated(DATA));
    }
    let [first, second] = COPIES.map(|at| Header::decode(&page[at as usize..at as usize + FIELDS]));
    let header = match (&first, &second) {
        (Ok(a), Ok(b)) => *if b.count > a.count { b } else { a },
        (Ok(good), Err(_)) | (Err(_), Ok(good)) => *good,
        (Err(reason), Err(_)) => {
            return Err(AnnError::Corrupt { path: path.to_path_buf(), reason: reason.clone() });
        }
    };
    match header.file_bytes(header.count) {
        Some(expected) if expected > bytes => Err(truncated(expected)),
        _ => Ok((header, first == second)),
    }
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Cow<'_, [f32]> {
    match dtype {
        Dtype::F32 => match view::<f32>(bytes) {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()),
        },
        Dtype::F16 => {
            let halves: Vec<f16> = bytes.as_chunks().0.iter().copied().map(f16::from_le_bytes).collect();
            let mut values = vec![0.0; halves.len()];
            halves.convert_to_f32_slice(&mut values);
            Cow::Owned(values)
        }
    }
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;

    use super::*;
    use crate::{FlatIndex, VectorIndex};

    fn random(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    fn filled(path: &Path, rows: &Matrix, batch: usize) -> VectorFile {
        let mut file = VectorFile::create(path, rows.dim(), Dtype::F32).unwrap();
        for from in (0..rows.rows()).step_by(batch) {
            let to = (from + batch).min(rows.rows());
            let first = file.append(&rows.select(&(from..to).collect::<Vec<_>>())).unwrap();
            assert_eq!(first, from as u64);
        }
        file
    }

    #[test]
    fn rows_come_back_bit_for_bit_and_take_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vec");
        let rows = random(1_000, 12, 1);
        drop(filled(&path, &rows, 300));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4096 + 1_000 * 12 * 4);
        let mut file = VectorFile::open_append(&path).unwrap();
        assert_eq!((file.len(), file.dim(), file.dtype()), (1_000, 12, Dtype::F32));
        for row in 0..1_000 {
            assert_eq!(*file.get(row).unwrap(), *rows.row(row as usize));
        }
        assert_eq!(file.get_many(&[999, 0, 5, 0]).unwrap(), rows.select(&[999, 0, 5, 0]));
        assert_eq!(file.append(&rows.select(&[7])).unwrap(), 1_000);
        assert_eq!(*file.get(1_000).unwrap(), *rows.row(7));
        file.verify().unwrap();
        file.prefetch(990..5_000).unwrap();
    }

    #[test]
    fn a_scan_is_a_flat_search() {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = random(2_500, 24, 2);
        rows.row_mut(40).fill(0.0);
        let file = filled(&dir.path().join("a.vec"), &rows, 1_000);
        let mut flat = FlatIndex::new(24, Metric::Cosine).unwrap();
        flat.add(&(0..2_500).collect::<Vec<_>>(), &rows).unwrap();
        for (q, query) in random(6, 24, 3).iter_rows().enumerate() {
            let expected = flat.search(query, 25).unwrap();
            for batch in [1 + 699 * q, 10_000] {
                let found = file.scan(query, 25, batch).unwrap();
                assert_eq!(found.len(), 25);
                for (a, b) in found.iter().zip(&expected) {
                    assert!(a.id == b.id && (a.score - b.score).abs() < 1e-6, "{a:?} {b:?}");
                }
            }
        }
        assert_eq!(file.scan(rows.row(0), 5_000, 100).unwrap().len(), 2_500);
        assert!(file.scan(rows.row(0), 0, 100).unwrap().is_empty());
    }

    #[test]
    fn half_precision_rounds_each_value_to_its_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vec");
        let rows = random(50, 7, 4);
        let mut file = VectorFile::create(&path, 7, Dtype::F16).unwrap();
        file.append(&rows).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4096 + 50 * 7 * 2);
        for (row, expected) in (0..).zip(rows.iter_rows()) {
            for (got, want) in file.get(row).unwrap().iter().zip(expected) {
                assert!((got - want).abs() <= want.abs() * 2f32.powi(-11) + 1e-7, "{got} {want}");
            }
        }
        assert_eq!(file.scan(rows.row(3), 1, 10).unwrap()[0].id, 3);
        let large = Matrix::from_rows(&[[1e6; 7]]).unwrap();
        assert!(file.append(&large).unwrap_err().to_string().contains("1000000"));
        assert_eq!(file.len(), 50);
    }

    #[test]
    fn misuse_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vec");
        assert!(matches!(VectorFile::open_read(&path), Err(AnnError::NotFound { .. })));
        assert!(matches!(VectorFile::open_append(&path), Err(AnnError::NotFound { .. })));
        assert!(!path.exists());
        let rows = random(10, 4, 5);
        let mut file = filled(&path, &rows, 10);
        assert!(VectorFile::create(&path, 4, Dtype::F32).is_err(), "it is there");
        assert!(matches!(VectorFile::open_append(&path), Err(AnnError::Locked { .. })));
        let mut reader = VectorFile::open_read(&path).unwrap();
        assert!(matches!(reader.append(&rows), Err(AnnError::ReadOnly { .. })));
        assert!(matches!(reader.get(10), Err(AnnError::OutOfRange { row: 10, rows: 10 })));
        assert!(matches!(reader.get(u64::MAX), Err(AnnError::OutOfRange { .. })));
        assert!(matches!(reader.get_many(&[3, 11]), Err(AnnError::OutOfRange { row: 11, .. })));
        let wrong = AnnError::Dimension { expected: 4, got: 5 }.to_string();
        assert_eq!(file.append(&random(2, 5, 6)).unwrap_err().to_string(), wrong);
        assert_eq!(reader.scan(&[0.0; 5], 1, 9).unwrap_err().to_string(), wrong);
        assert!(reader.scan(&[0.0; 4], 1, 0).is_err() && VectorFile::create(&path, 0, Dtype::F32).is_err());
        assert!(file.append(&Matrix::from_rows(&[[0.0, 1.0, f32::NAN, 0.0]]).unwrap()).is_err());
        file.append(&rows).unwrap();
        assert_eq!((reader.len(), reader.refresh().unwrap(), reader.len()), (10, 10, 20));
        assert_eq!(*reader.get(19).unwrap(), *rows.row(9));
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused_or_holds_the_published_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vec");
        let rows = random(30, 6, 7);
        drop(filled(&path, &rows, 10));
        let published = std::fs::read(&path).unwrap();
        let copy = dir.path().join("b.vec");
        // Behind the published rows lies what an interrupted append left.
        let mut torn = published.clone();
        torn.extend_from_slice(&[0xAB; 300]);
        for length in (0..torn.len()).step_by(7).chain([published.len() - 1, published.len(), torn.len()]) {
            std::fs::write(&copy, &torn[..length]).unwrap();
            match VectorFile::open_append(&copy) {
                Ok(file) => {
                    assert!(length >= published.len());
                    assert_eq!(file.len(), 30);
                    file.verify().unwrap();
                    assert_eq!(std::fs::metadata(&copy).unwrap().len(), published.len() as u64);
                }
                Err(AnnError::Truncated { bytes, .. }) => {
                    assert_eq!(bytes, length as u64);
                    assert!(length < published.len());
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn either_header_makes_good_the_other_and_altered_rows_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vec");
        let rows = random(30, 6, 8);
        drop(filled(&path, &rows, 15));
        let whole = std::fs::read(&path).unwrap();
        let altered = dir.path().join("b.vec");
        for at in 0..DATA as usize {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&altered, &bytes).unwrap();
            let file = VectorFile::open_append(&altered).unwrap();
            file.verify().unwrap();
            assert_eq!((file.len(), file.dim()), (30, 6));
            drop(file);
            let healed = std::fs::read(&altered).unwrap();
            assert!(at % 2048 >= FIELDS || healed == whole, "byte {at}");
        }
        for at in 0..FIELDS {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            bytes[2048 + at] ^= 0x40;
            std::fs::write(&altered, &bytes).unwrap();
            assert!(matches!(VectorFile::open_read(&altered), Err(AnnError::Corrupt { .. })));
        }
        for at in (DATA as usize..whole.len()).step_by(11) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&altered, &bytes).unwrap();
            let error = VectorFile::open_read(&altered).unwrap().verify().unwrap_err();
            assert!(error.to_string().contains("30 rows"), "{error}");
        }
        // A whole header that promises more than there can be.
        let absurd = Header { dtype: Dtype::F32, dim: 6, count: 0, rows_crc: 0 };
        for count in [31, 1 << 50, 1 << 60, u64::MAX] {
            let fields = Header { count, ..absurd }.encode();
            let mut bytes = whole.clone();
            for at in COPIES {
                bytes[at as usize..at as usize + FIELDS].copy_from_slice(&fields);
            }
            std::fs::write(&altered, &bytes).unwrap();
            assert!(VectorFile::open_read(&altered).is_err(), "{count} rows");
        }
    }
}
