//! The file that a training run is resumed from.
//!
//! ```text
//! offset  bytes  content
//! 0       8      "EAS-RUN\n"
//! 8       4      version, little-endian: 1
//! 12      4      CRC-32 of all that follows offset 24
//! 16      8      length of what follows, little-endian
//! 24      …      safetensors: the tensors, and one string of JSON under the metadata key "progress"
//! ```
//!
//! A file is written under another name, flushed to disk and then renamed: whatever happens, the name holds the old file or the new one.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::NnError;

const MAGIC: &[u8; 8] = b"EAS-RUN\n";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const KEY: &str = "progress";

/// Writes tensors and a text.
pub(crate) fn write(path: &Path, tensors: BTreeMap<String, Tensor>, progress: String) -> Result<(), NnError> {
    let failed = |reason: String| NnError::Checkpoint { path: path.display().to_string(), reason };
    let payload = safetensors::serialize(tensors, Some(HashMap::from([(KEY.to_owned(), progress)])))
        .map_err(|error| failed(error.to_string()))?;
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend(crc32fast::hash(&payload).to_le_bytes());
    header.extend((payload.len() as u64).to_le_bytes());
    let mut name = path.file_name().ok_or_else(|| failed("not the name of a file".to_owned()))?.to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let save = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&header)?;
        file.write_all(&payload)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The rename itself lives in the folder; not every system lets one be opened.
        if let Ok(folder) = File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))) {
            let _ = folder.sync_all();
        }
        Ok(())
    };
    save().map_err(|error| failed(error.to_string()))
}

/// Reads what [`write`] wrote; anything else is an error that says what is wrong with the file.
pub(crate) fn read(path: &Path, device: &Device) -> Result<(BTreeMap<String, Tensor>, String), NnError> {
    let failed = |reason: String| NnError::Checkpoint { path: path.display().to_string(), reason };
    let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let Some((header, payload)) = bytes.split_at_checked(HEADER).filter(|(header, _)| header.starts_with(MAGIC)) else {
        return Err(failed(if bytes.len() < HEADER && MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
            format!("truncated: {} bytes are less than its header", bytes.len())
        } else {
            "not a training checkpoint: it doesn't begin with \"EAS-RUN\"".to_owned()
        }));
    };
    let four = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let version = four(8);
    if version != VERSION {
        return Err(failed(format!("version {version}, this program reads version {VERSION}")));
    }
    let length = u64::from(four(16)) | u64::from(four(20)) << 32;
    if length != payload.len() as u64 {
        return Err(failed(format!("truncated or extended: {} bytes of {length}", payload.len())));
    }
    let (stated, found) = (four(12), crc32fast::hash(payload));
    if stated != found {
        return Err(failed(format!("damaged: its checksum is {found:08x}, stated is {stated:08x}")));
    }
    let (_, metadata) = safetensors::SafeTensors::read_metadata(payload).map_err(|error| failed(error.to_string()))?;
    let progress = metadata.metadata().as_ref().and_then(|texts| texts.get(KEY));
    let progress = progress.ok_or_else(|| failed("it holds no progress".to_owned()))?.clone();
    let tensors = candle_core::safetensors::load_buffer(payload, device).map_err(|error| failed(error.to_string()))?;
    Ok((tensors.into_iter().collect(), progress))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn example() -> BTreeMap<String, Tensor> {
        BTreeMap::from([
            ("a".to_owned(), Tensor::new(&[1f32, -0.0, f32::MIN_POSITIVE], &Device::Cpu).unwrap()),
            ("b".to_owned(), Tensor::new(&[[7u32, 8]], &Device::Cpu).unwrap()),
        ])
    }

    #[test]
    fn tensors_and_text_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        write(&path, example(), "{\"step\": 3}".to_owned()).unwrap();
        let (tensors, progress) = read(&path, &Device::Cpu).unwrap();
        assert_eq!(progress, "{\"step\": 3}");
        assert_eq!(tensors.len(), 2);
        let a = tensors["a"].to_vec1::<f32>().unwrap();
        assert_eq!(
            a.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            [1f32, -0.0, f32::MIN_POSITIVE].map(f32::to_bits)
        );
        assert_eq!(tensors["b"].dtype(), DType::U32);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        write(&path, BTreeMap::new(), "{}".to_owned()).unwrap();
        assert!(read(&path, &Device::Cpu).unwrap().0.is_empty());
    }

    /// Every prefix, every flipped byte and some foreign files: an error each time, never a panic, never tensors.
    #[test]
    fn damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        write(&path, example(), "{}".to_owned()).unwrap();
        let bytes = fs::read(&path).unwrap();
        let message = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read(&path, &Device::Cpu).unwrap_err().to_string()
        };
        for length in 0..bytes.len() {
            let message = message(&bytes[..length]);
            assert!(message.contains("truncated") && message.contains("run"), "{length}: {message}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            message(&flipped);
        }
        assert!(message(b"not a checkpoint at all, and longer than a header").contains("not a training checkpoint"));
        assert!(message(&[&bytes[..8], &[2, 0, 0, 0], &bytes[12..]].concat()).contains("version 2"));
        assert!(read(&folder.path().join("absent"), &Device::Cpu).unwrap_err().to_string().contains("absent"));
        assert!(write(&folder.path().join("no/such/folder"), example(), String::new()).is_err());
    }
}
