//! Records of the log: what was inserted or deleted, as bytes.

use anyhow::{Context, bail, ensure};
use eas_retrieval::planner::Value;

/// One change of a shard.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// A row with its vector of unit length, in place of the row of this id if there is one.
    Insert(u64, Vec<f32>, Vec<Value>),
    /// The end of a row.
    Delete(u64),
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Insert(id, vector, metadata) => {
                out.push(1);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&(vector.len() as u32).to_le_bytes());
                out.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
                for value in metadata {
                    match value {
                        Value::Text(text) => {
                            out.push(1);
                            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                            out.extend_from_slice(text.as_bytes());
                        }
                        Value::Number(number) => {
                            out.push(2);
                            out.extend_from_slice(&number.to_le_bytes());
                        }
                    }
                }
            }
            Self::Delete(id) => {
                out.push(2);
                out.extend_from_slice(&id.to_le_bytes());
            }
        }
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> anyhow::Result<Self> {
        let bytes = &mut bytes;
        let [tag] = take(bytes)?;
        let id = u64::from_le_bytes(take(bytes)?);
        match tag {
            1 => {
                let dim = u32::from_le_bytes(take(bytes)?) as usize;
                ensure!(dim <= bytes.len() / 4, "a vector of {dim} values in {} bytes", bytes.len());
                let vector = (0..dim).map(|_| take(bytes).map(f32::from_le_bytes)).collect::<Result<_, _>>()?;
                let mut metadata = Vec::new();
                while !bytes.is_empty() {
                    metadata.push(match take(bytes)? {
                        [1] => {
                            let length = u32::from_le_bytes(take(bytes)?) as usize;
                            let (text, rest) = bytes.split_at_checked(length).context("a text ends too early")?;
                            *bytes = rest;
                            Value::Text(std::str::from_utf8(text)?.to_owned())
                        }
                        [2] => Value::Number(f64::from_le_bytes(take(bytes)?)),
                        [other] => bail!("a value of kind {other}"),
                    });
                }
                Ok(Self::Insert(id, vector, metadata))
            }
            2 if bytes.is_empty() => Ok(Self::Delete(id)),
            _ => bail!("a record of kind {tag} with {} bytes more", bytes.len()),
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> anyhow::Result<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk().context("a record ends too early")?;
    *bytes = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_fragments_are_refused() {
        let insert = Record::Insert(7, vec![0.5, -1.0], vec!["noun.animal".into(), 12.0.into(), "".into()]);
        for record in [insert, Record::Insert(u64::MAX, vec![], vec![]), Record::Delete(9)] {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes).unwrap(), record);
            for cut in 0..bytes.len() {
                assert_ne!(Record::decode(&bytes[..cut]).ok(), Some(record.clone()));
            }
        }
        assert!(Record::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]).is_err());
        assert!(Record::decode(&[3; 9]).is_err());
    }
}
