//! Reading the files of a fetched model, only when they are the ones expected.

use crate::TextError;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// The file's content once its SHA-256 has been compared; errors name the `command` that restores the file.
pub(crate) fn read(path: &Path, sha256: &str, command: &'static str) -> Result<Vec<u8>, TextError> {
    let bytes = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => TextError::MissingModel { path: path.to_owned(), command },
        _ => TextError::Io { path: path.to_owned(), source },
    })?;
    let found = digest(&bytes);
    if found != sha256 {
        return Err(TextError::AlteredModel { path: path.to_owned(), expected: sha256.to_owned(), found, command });
    }
    Ok(bytes)
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
