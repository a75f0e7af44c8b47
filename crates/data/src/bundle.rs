//! Finding the bundled files and proving them intact: each has a row in `data/PROVENANCE.md` with its length and SHA-256.

use crate::DataError;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The table of origins, relative to the data folder.
const TABLE: &str = "PROVENANCE.md";

/// One row of the table of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// File name relative to the data folder, with `/`.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Where the content comes from.
    pub source: String,
    /// Its licence.
    pub licence: String,
}

/// A bundled file and whether it is intact.
#[derive(Debug)]
pub struct FileCheck {
    /// The file's row in the table.
    pub origin: Origin,
    /// `Ok` when length and digest agree with the row.
    pub state: Result<(), DataError>,
}

/// The data folder: `EAS_DATA` if set, else `data/` of the workspace this crate was built in.
pub fn root() -> PathBuf {
    std::env::var_os("EAS_DATA").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data"), PathBuf::from)
}

/// The content of bundled file `name` (relative to [`root`], with `/`), after its length and SHA-256 have been checked.
pub fn read_verified(name: &str) -> Result<Vec<u8>, DataError> {
    read_verified_in(&root(), name)
}

/// The table of origins of [`root`].
pub fn origins() -> Result<Vec<Origin>, DataError> {
    origins_in(&root())
}

/// Checks every file of the table of origins, in the order of the table.
pub fn verify_all() -> Result<Vec<FileCheck>, DataError> {
    verify_all_in(&root())
}

pub(crate) fn verify_all_in(root: &Path) -> Result<Vec<FileCheck>, DataError> {
    Ok(origins_in(root)?
        .into_iter()
        .map(|origin| FileCheck { state: read_checked(root, &origin).map(|_| ()), origin })
        .collect())
}

pub(crate) fn read_verified_in(root: &Path, name: &str) -> Result<Vec<u8>, DataError> {
    let origin = origins_in(root)?
        .into_iter()
        .find(|origin| origin.name == name)
        .ok_or_else(|| DataError::Unlisted { name: name.to_owned(), table: root.join(TABLE) })?;
    read_checked(root, &origin)
}

fn read_checked(root: &Path, origin: &Origin) -> Result<Vec<u8>, DataError> {
    let path = root.join(&origin.name);
    let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing { path: path.clone(), name: origin.name.clone() },
        _ => DataError::Io { path: path.clone(), source },
    })?;
    if bytes.len() as u64 != origin.bytes {
        return Err(DataError::WrongLength {
            path,
            name: origin.name.clone(),
            expected: origin.bytes,
            found: bytes.len() as u64,
        });
    }
    let found = sha256_hex(&bytes);
    if found != origin.sha256 {
        return Err(DataError::Altered { path, name: origin.name.clone(), expected: origin.sha256.clone(), found });
    }
    Ok(bytes)
}

fn origins_in(root: &Path) -> Result<Vec<Origin>, DataError> {
    let table = root.join(TABLE);
    let text = std::fs::read_to_string(&table).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound if !root.is_dir() => DataError::NoRoot { path: root.to_owned() },
        std::io::ErrorKind::NotFound => DataError::Missing { path: table.clone(), name: TABLE.to_owned() },
        _ => DataError::Io { path: table.clone(), source },
    })?;
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            parse_origin(line).ok_or_else(|| DataError::Format {
                path: table.clone(),
                problem: format!("row isn't `file | bytes | sha256 | source | licence | script`: {line}"),
            })
        })
        .collect()
}

fn parse_origin(line: &str) -> Option<Origin> {
    let mut cells = line.trim_matches('|').split('|').map(str::trim);
    let origin = Origin {
        name: cells.next()?.trim_matches('`').to_owned(),
        bytes: cells.next()?.parse().ok()?,
        sha256: cells.next()?.to_owned(),
        source: cells.next()?.to_owned(),
        licence: cells.next()?.to_owned(),
    };
    (origin.sha256.len() == 64).then_some(origin)
}

/// SHA-256 of `bytes` in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(content: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.bin"), content).unwrap();
        let row = format!(
            "| file | bytes |\n| --- | --- |\n| `a.bin` | 5 | {} | here | MIT | by hand |\n",
            sha256_hex(b"hello")
        );
        std::fs::write(folder.path().join(TABLE), row).unwrap();
        folder
    }

    fn message(content: &[u8]) -> String {
        let folder = bundle(content);
        read_verified_in(folder.path(), "a.bin").unwrap_err().to_string()
    }

    #[test]
    fn the_digest_is_sha256() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn an_intact_file_is_read() {
        let folder = bundle(b"hello");
        assert_eq!(read_verified_in(folder.path(), "a.bin").unwrap(), b"hello");
        assert!(verify_all_in(folder.path()).unwrap()[0].state.is_ok());
    }

    #[test]
    fn a_damaged_file_is_named_with_the_remedy() {
        for (content, says) in [(&b"hellO"[..], "is altered"), (b"hell", "has 4 bytes, 5 expected")] {
            let message = message(content);
            assert!(message.contains(says), "{message}");
            assert!(message.contains("a.bin"), "{message}");
            assert!(message.contains("git checkout -- data/a.bin"), "{message}");
        }
    }

    #[test]
    fn a_missing_file_folder_or_row_is_an_error() {
        let folder = bundle(b"hello");
        std::fs::remove_file(folder.path().join("a.bin")).unwrap();
        let error = read_verified_in(folder.path(), "a.bin").unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }), "{error}");
        assert!(matches!(verify_all_in(folder.path()).unwrap()[0].state, Err(DataError::Missing { .. })));
        let error = read_verified_in(folder.path(), "b.bin").unwrap_err();
        assert!(matches!(error, DataError::Unlisted { .. }), "{error}");
        let error = read_verified_in(&folder.path().join("nowhere"), "a.bin").unwrap_err();
        assert!(error.to_string().contains("EAS_DATA"), "{error}");
    }

    #[test]
    fn a_broken_table_is_an_error() {
        let folder = bundle(b"hello");
        std::fs::write(folder.path().join(TABLE), "| `a.bin` | five | abc | x | y | z |\n").unwrap();
        let error = read_verified_in(folder.path(), "a.bin").unwrap_err();
        assert!(error.to_string().contains("PROVENANCE.md"), "{error}");
    }

    /// The files below `folder`, relative to `root`, hidden ones and the downloaded model left out.
    fn files_below(root: &Path, folder: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if hidden || name == "models/all-MiniLM-L6-v2" {
                continue;
            }
            if path.is_dir() {
                files_below(root, &path, out);
            } else {
                out.push(name);
            }
        }
    }

    #[test]
    fn every_file_has_a_row() {
        let rows: Vec<String> = origins().unwrap().into_iter().map(|origin| origin.name).collect();
        let mut files = Vec::new();
        files_below(&root(), &root(), &mut files);
        // The table itself, and the list of listings that this workspace's authors keep by hand.
        files.retain(|name| name != TABLE && name != "catalogue.tsv" && !rows.contains(name));
        assert!(files.is_empty(), "no row in {TABLE} for {files:?}");
    }

    #[test]
    fn every_bundled_file_is_intact() {
        let checks = verify_all().unwrap();
        assert!(checks.len() >= 2);
        for check in checks {
            assert!(check.state.is_ok(), "{}", check.state.unwrap_err());
        }
    }
}
