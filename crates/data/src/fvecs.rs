//! The `.fvecs` and `.bvecs` files of the TEXMEX corpora (SIFT1M, GIST1M, SIFT1B): each row is its dimension as `i32`, then that many
//! `f32` or bytes, little-endian.

use crate::{DataError, npy};
use eas_tensor::Matrix;
use std::io::Write as _;
use std::path::Path;

/// Reads all rows; shape `(rows, dim)`, `(0, 0)` for an empty file. Rows of different length are an error.
pub fn read_f32(path: impl AsRef<Path>) -> Result<Matrix, DataError> {
    let path = path.as_ref();
    parse(&npy::read(path)?).map_err(|problem| DataError::Format { path: path.to_owned(), problem })
}

/// Reads all rows of a `.bvecs` file (SIFT1B), whose values are bytes; shape `(rows, dim)`, `(0, 0)` for an empty file. Rows of different
/// length are an error.
pub fn read_u8(path: impl AsRef<Path>) -> Result<Matrix, DataError> {
    let path = path.as_ref();
    parse_bytes(&npy::read(path)?).map_err(|problem| DataError::Format { path: path.to_owned(), problem })
}

/// Writes one record a row.
pub fn write_f32(path: impl AsRef<Path>, matrix: &Matrix) -> Result<(), DataError> {
    let path = path.as_ref();
    let dim = i32::try_from(matrix.dim()).map_err(|_| DataError::Argument {
        what: "dimension",
        given: matrix.dim().to_string(),
        expected: "at most 2^31 - 1",
    })?;
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for row in matrix.iter_rows() {
            file.write_all(&dim.to_le_bytes())?;
            for value in row {
                file.write_all(&value.to_le_bytes())?;
            }
        }
        file.flush()
    };
    write().map_err(|source| DataError::Io { path: path.to_owned(), source })
}

fn parse(bytes: &[u8]) -> Result<Matrix, String> {
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(format!("{} bytes, a multiple of 4 expected", bytes.len()));
    }
    let Some(&first) = words.first() else {
        return Ok(Matrix::zeros(0, 0));
    };
    let dim = i32::from_le_bytes(first);
    let width = usize::try_from(dim).map_err(|_| format!("row 0 has dimension {dim}"))?;
    if width == 0 || words.len() % (width + 1) != 0 {
        return Err(format!("{} words aren't rows of dimension {dim}", words.len()));
    }
    let mut values = Vec::with_capacity(words.len());
    for (i, record) in words.chunks_exact(width + 1).enumerate() {
        let own = i32::from_le_bytes(record[0]);
        if own != dim {
            return Err(format!("row {i} has dimension {own}, row 0 has {dim}"));
        }
        values.extend(record[1..].iter().map(|word| f32::from_le_bytes(*word)));
    }
    Matrix::from_vec(words.len() / (width + 1), width, values).map_err(|error| error.to_string())
}

fn parse_bytes(bytes: &[u8]) -> Result<Matrix, String> {
    let Some(first) = bytes.first_chunk::<4>() else {
        return if bytes.is_empty() {
            Ok(Matrix::zeros(0, 0))
        } else {
            Err(format!("{} bytes, at least 4 expected", bytes.len()))
        };
    };
    let dim = i32::from_le_bytes(*first);
    let width = usize::try_from(dim).map_err(|_| format!("row 0 has dimension {dim}"))?;
    if width == 0 || !bytes.len().is_multiple_of(width + 4) {
        return Err(format!("{} bytes aren't rows of dimension {dim}", bytes.len()));
    }
    let mut values = Vec::with_capacity(bytes.len());
    for (i, record) in bytes.chunks_exact(width + 4).enumerate() {
        let (head, row) = record.split_at(4);
        if head != first {
            return Err(format!("row {i} doesn't have dimension {dim}, as row 0 has"));
        }
        values.extend(row.iter().map(|&byte| f32::from(byte)));
    }
    Matrix::from_vec(bytes.len() / (width + 4), width, values).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.fvecs");
        let matrix = Matrix::from_rows(&[[1.0, -2.5, 3.0], [0.0, f32::MIN_POSITIVE, 7.0]]).unwrap();
        write_f32(&path, &matrix).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..8], [3, 0, 0, 0, 0, 0, 128, 63]); // dimension 3, then 1.0
        assert_eq!(read_f32(&path).unwrap().as_slice(), matrix.as_slice());
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn broken_files_are_refused() {
        let words = |words: &[i32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        assert!(parse(&words(&[2, 0, 0, 2, 0])).unwrap_err().contains("5 words"));
        assert!(parse(&words(&[2, 0, 0, 1, 0, 0])).unwrap_err().contains("row 1 has dimension 1"));
        assert!(parse(&words(&[-1, 0])).unwrap_err().contains("dimension -1"));
        assert!(parse(&words(&[0, 0])).unwrap_err().contains("dimension 0"));
        assert!(parse(&words(&[i32::MAX, 0])).unwrap_err().contains("aren't rows"));
        assert!(parse(&[1, 0, 0]).unwrap_err().contains("3 bytes"));
    }

    #[test]
    fn byte_rows_are_read_and_broken_ones_refused() {
        let rows = parse_bytes(&[2, 0, 0, 0, 7, 255, 2, 0, 0, 0, 0, 1]).unwrap();
        assert_eq!((rows.rows(), rows.as_slice()), (2, &[7.0, 255.0, 0.0, 1.0][..]));
        assert!(parse_bytes(&[]).unwrap().is_empty());
        assert!(parse_bytes(&[1, 0]).unwrap_err().contains("2 bytes"));
        assert!(parse_bytes(&[0; 4]).unwrap_err().contains("dimension 0"));
        assert!(parse_bytes(&[255; 8]).unwrap_err().contains("dimension -1"));
        assert!(parse_bytes(&[2, 0, 0, 0, 7]).unwrap_err().contains("aren't rows"));
        let mixed = [2, 0, 0, 0, 7, 8, 1, 0, 0, 0, 9, 9];
        assert!(parse_bytes(&mixed).unwrap_err().contains("row 1"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.bvecs");
        std::fs::write(&path, [1, 0, 0, 0, 5]).unwrap();
        assert_eq!(read_u8(&path).unwrap().as_slice(), [5.0]);
    }
}
