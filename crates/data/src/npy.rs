//! NumPy's `.npy` files of float matrices, versions 1.0 to 3.0 of the format.

use crate::DataError;
use eas_tensor::Matrix;
use std::io::{Read as _, Write as _};
use std::path::Path;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a little-endian `float32` or `float64` array in C order; shape `(rows, dim)`, and a one-dimensional array is one row.
///
/// Memory is taken for what the file holds, never for what its header promises. Values are not checked: NaN passes.
pub fn read_f32(path: impl AsRef<Path>) -> Result<Matrix, DataError> {
    let path = path.as_ref();
    let bytes = read(path)?;
    parse(&bytes).map_err(|problem| DataError::Format { path: path.to_owned(), problem })
}

/// Writes `matrix` as a two-dimensional little-endian `float32` array in C order, format version 1.0.
pub fn write_f32(path: impl AsRef<Path>, matrix: &Matrix) -> Result<(), DataError> {
    let path = path.as_ref();
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        file.write_all(&header("<f4", matrix.rows(), matrix.dim()))?;
        for value in matrix.as_slice() {
            file.write_all(&value.to_le_bytes())?;
        }
        file.flush()
    };
    write().map_err(|source| DataError::Io { path: path.to_owned(), source })
}

/// Reads a little-endian integer array (`int32`, `int64`, `uint32` or `uint64`) in C order, such as the ids of a ground truth: one
/// `Vec` a row, and a one-dimensional array is one row. A negative value is an error.
pub fn read_ids(path: impl AsRef<Path>) -> Result<Vec<Vec<u64>>, DataError> {
    let path = path.as_ref();
    let bytes = read(path)?;
    parse_ids(&bytes).map_err(|problem| DataError::Format { path: path.to_owned(), problem })
}

/// Writes rows of ids as a two-dimensional little-endian `int64` array; NumPy's default integer. The rows must be of one length and
/// the ids below 2^63.
pub fn write_ids(path: impl AsRef<Path>, rows: &[Vec<u64>]) -> Result<(), DataError> {
    let path = path.as_ref();
    let dim = rows.first().map_or(0, Vec::len);
    let format = |problem| DataError::Format { path: path.to_owned(), problem };
    if let Some((at, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != dim) {
        return Err(format(format!("row {at} has {} ids, the first has {dim}", row.len())));
    }
    if let Some(id) = rows.iter().flatten().find(|&&id| i64::try_from(id).is_err()) {
        return Err(format(format!("id {id} is too large for int64")));
    }
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        file.write_all(&header("<i8", rows.len(), dim))?;
        for id in rows.iter().flatten() {
            file.write_all(&id.to_le_bytes())?;
        }
        file.flush()
    };
    write().map_err(|source| DataError::Io { path: path.to_owned(), source })
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|source| DataError::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}

fn header(descr: &str, rows: usize, dim: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    // The format wants the data to start at a multiple of 64 bytes, the header to end with a newline.
    let fixed = MAGIC.len() + 4;
    while !(fixed + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

/// What an `.npy` file holds: rows, columns, the elements' type as NumPy writes it, and their bytes.
struct Parts<'a> {
    rows: usize,
    dim: usize,
    descr: &'a str,
    data: &'a [u8],
}

fn parse(bytes: &[u8]) -> Result<Matrix, String> {
    let parts = parts(bytes, &["<f4", "<f8"])?;
    let values = if parts.descr == "<f4" {
        let (chunks, _) = parts.data.as_chunks::<4>();
        chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
    } else {
        let (chunks, _) = parts.data.as_chunks::<8>();
        chunks.iter().map(|chunk| f64::from_le_bytes(*chunk) as f32).collect()
    };
    Matrix::from_vec(parts.rows, parts.dim, values).map_err(|error| error.to_string())
}

fn parse_ids(bytes: &[u8]) -> Result<Vec<Vec<u64>>, String> {
    let parts = parts(bytes, &["<i4", "<i8", "<u4", "<u8"])?;
    let signed = parts.descr.starts_with("<i");
    let width = if parts.descr.ends_with('4') { 4 } else { 8 };
    let mut values = Vec::with_capacity(parts.rows * parts.dim);
    for (at, element) in parts.data.chunks_exact(width).enumerate() {
        if signed && element[width - 1] > 127 {
            return Err(format!("element {at} is negative, ids expected"));
        }
        values.push(element.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte)));
    }
    Ok(match parts.dim {
        0 => vec![Vec::new(); parts.rows],
        dim => values.chunks(dim).map(<[u64]>::to_vec).collect(),
    })
}

fn parts<'a>(bytes: &'a [u8], accepted: &[&'static str]) -> Result<Parts<'a>, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("not an npy file: the magic bytes are missing")?;
    let truncated = || format!("the file ends inside its header ({} bytes)", bytes.len());
    let (version, rest) = rest.split_at_checked(2).ok_or_else(truncated)?;
    let width = match version[0] {
        1 => 2,
        2 | 3 => 4,
        other => return Err(format!("npy format version {other}, 1 to 3 expected")),
    };
    let (length, rest) = rest.split_at_checked(width).ok_or_else(truncated)?;
    let length = length.iter().rev().fold(0usize, |sum, &byte| sum << 8 | usize::from(byte));
    let (head, data) = rest.split_at_checked(length).ok_or_else(truncated)?;
    let head = std::str::from_utf8(head).map_err(|_| "the header isn't text")?;
    if value_of(head, "fortran_order")?.starts_with("True") {
        return Err("the array is in Fortran order, C order expected".to_owned());
    }
    let descr = value_of(head, "descr")?;
    let Some(descr) = accepted.iter().find(|known| descr.get(1..4) == Some(**known)) else {
        let kind = descr.split(',').next().unwrap_or("").trim();
        return Err(format!("elements are {kind}, one of {accepted:?} expected"));
    };
    let size = if descr.ends_with('4') { 4 } else { 8 };
    let (rows, dim) = shape(value_of(head, "shape")?)?;
    let expected = rows.checked_mul(dim).and_then(|n| n.checked_mul(size));
    if expected != Some(data.len()) {
        return Err(format!(
            "shape ({rows}, {dim}) of {size}-byte elements doesn't fit the {} bytes of data",
            data.len()
        ));
    }
    Ok(Parts { rows, dim, descr, data })
}

/// What follows `'key':` in the header's dictionary.
fn value_of<'a>(head: &'a str, key: &str) -> Result<&'a str, String> {
    head.split_once(&format!("'{key}'"))
        .and_then(|(_, rest)| rest.split_once(':'))
        .map(|(_, rest)| rest.trim_start())
        .ok_or_else(|| format!("the header has no '{key}': {head:?}"))
}

fn shape(text: &str) -> Result<(usize, usize), String> {
    let inside = text
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .map(|(inside, _)| inside)
        .ok_or_else(|| format!("the shape isn't a tuple: {text:?}"))?;
    let sizes: Vec<usize> = inside
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().map_err(|_| format!("{size:?} isn't a size")))
        .collect::<Result<_, _>>()?;
    match sizes[..] {
        [dim] => Ok((1, dim)),
        [rows, dim] => Ok((rows, dim)),
        _ => Err(format!("the array has {} dimensions, 1 or 2 expected", sizes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `numpy.save` of `numpy.array([[1.5, -2.0, 3.25]], dtype="<f8")`, NumPy 2.
    fn numpy_file() -> Vec<u8> {
        let mut bytes =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3), }".to_vec();
        bytes.resize(127, b' ');
        bytes.push(b'\n');
        for value in [1.5f64, -2.0, 3.25] {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_file_of_numpy_is_read() {
        let matrix = parse(&numpy_file()).unwrap();
        assert_eq!((matrix.rows(), matrix.dim()), (1, 3));
        assert_eq!(matrix.as_slice(), [1.5, -2.0, 3.25]);
    }

    #[test]
    fn what_is_written_is_read_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.npy");
        for (rows, dim) in [(0, 0), (0, 5), (3, 2), (7, 33)] {
            let values = (0..rows * dim).map(|i| (i as f32).sin()).collect();
            let matrix = Matrix::from_vec(rows, dim, values).unwrap();
            write_f32(&path, &matrix).unwrap();
            assert_eq!((std::fs::metadata(&path).unwrap().len() as usize - 4 * rows * dim) % 64, 0);
            let back = read_f32(&path).unwrap();
            assert_eq!((back.rows(), back.dim()), (rows, dim));
            assert_eq!(back.as_slice(), matrix.as_slice());
        }
        assert!(matches!(read_f32(folder.path().join("none")), Err(DataError::Io { .. })));
    }

    #[test]
    fn ids_are_written_and_read_in_each_width() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids.npy");
        let ids = vec![vec![3, 1 << 40], vec![0, i64::MAX as u64]];
        write_ids(&path, &ids).unwrap();
        assert_eq!(read_ids(&path).unwrap(), ids);
        assert!(read_f32(&path).unwrap_err().to_string().contains("'<i8'"));
        for (descr, negative) in [("<i4", true), ("<u4", false)] {
            let mut bytes = header(descr, 1, 2);
            bytes.extend(7u32.to_le_bytes());
            bytes.extend(u32::MAX.to_le_bytes());
            match parse_ids(&bytes) {
                Ok(ids) => assert!(!negative && ids == [[7, u64::from(u32::MAX)]]),
                Err(reason) => assert!(negative && reason.contains("element 1 is negative"), "{reason}"),
            }
        }
        assert!(write_ids(&path, &[vec![1], vec![]]).unwrap_err().to_string().contains("row 1 has 0"));
        assert!(write_ids(&path, &[vec![u64::MAX]]).unwrap_err().to_string().contains("too large"));
        write_f32(&path, &Matrix::zeros(1, 1)).unwrap();
        assert!(read_ids(&path).unwrap_err().to_string().contains("'<f4'"));
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = numpy_file();
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "{end} bytes were accepted");
        }
    }

    #[test]
    fn hostile_headers_are_refused_with_a_reason() {
        let with = |header: &str| {
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.as_bytes());
            bytes.extend([0; 8]);
            parse(&bytes).unwrap_err()
        };
        let f4 = |shape: &str| with(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"));
        assert!(f4("(18446744073709551615, 18446744073709551615)").contains("doesn't fit"));
        assert!(f4("(99999999999999999999, 2)").contains("isn't a size"));
        assert!(f4("(4000000000, 1)").contains("doesn't fit"));
        assert!(f4("(1, 1, 2)").contains("3 dimensions"));
        assert!(f4("2").contains("isn't a tuple"));
        assert!(with("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }").contains("'>f4'"));
        assert!(with("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }").contains("Fortran"));
        assert!(with("{}").contains("fortran_order"));
        assert!(parse(b"\x93NUMPY\x09\x00").unwrap_err().contains("version 9"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn noise_never_panics(at in 0usize..152, byte in any::<u8>(), cut in 0usize..153) {
            let mut bytes = numpy_file();
            bytes[at] = byte;
            let _ = parse(&bytes[..cut.min(bytes.len())]);
        }
    }
}
