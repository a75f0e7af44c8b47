//! What the benchmarks share.

#![forbid(unsafe_code)]

pub mod lessons;
pub mod memory;
pub mod quality;
pub mod sweep;

use anyhow::{Context, Result, bail};
use std::path::Path;

/// The lines of a UTF-8 text file; an error names the first line that isn't UTF-8.
pub fn read_lines(path: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let mut texts = Vec::with_capacity(lines.len());
    for (number, line) in lines.into_iter().enumerate() {
        match std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)) {
            Ok(text) => texts.push(text.to_owned()),
            Err(e) => bail!(
                "{}, line {}: invalid UTF-8 after {} bytes of the line",
                path.display(),
                number + 1,
                e.valid_up_to()
            ),
        }
    }
    Ok(texts)
}

/// Sets the number of threads of every parallel loop; 0 means all of the machine's.
pub fn set_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("setting the number of threads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_bad_utf8_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.txt");
        std::fs::write(&path, "one\r\n\ntwo\n").unwrap();
        assert_eq!(read_lines(&path).unwrap(), ["one", "", "two"]);
        std::fs::write(&path, b"fine\nna\xefve\n").unwrap();
        let message = read_lines(&path).unwrap_err().to_string();
        assert!(message.contains("line 2: invalid UTF-8 after 2 bytes"), "{message}");
        assert!(read_lines(&folder.path().join("absent")).is_err());
    }
}
