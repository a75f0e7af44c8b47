//! The bundled tables: gzip-compressed CSV without quoting, one header line.

use crate::{DataError, bundle};
use flate2::read::GzDecoder;
use std::io::Read as _;

/// A verified table as text cells, row by row.
pub(crate) struct Table {
    name: &'static str,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn open(name: &'static str) -> Result<Self, DataError> {
        Self::parse(name, &bundle::read_verified(name)?)
    }

    fn parse(name: &'static str, gz: &[u8]) -> Result<Self, DataError> {
        let mut table = Self { name, header: Vec::new(), rows: Vec::new() };
        let mut text = String::new();
        GzDecoder::new(gz)
            .read_to_string(&mut text)
            .map_err(|error| table.error(format!("doesn't inflate: {error}")))?;
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        table.header = lines.next().ok_or_else(|| table.error("no header line".to_owned()))?;
        for row in lines {
            if row.len() != table.header.len() {
                let problem = format!("a row has {} cells, {} expected", row.len(), table.header.len());
                return Err(table.error(problem));
            }
            table.rows.push(row);
        }
        Ok(table)
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, cell: &str) -> Result<T, DataError> {
        cell.parse().map_err(|_| self.error(format!("{cell:?} isn't a number of the expected kind")))
    }

    pub(crate) fn error(&self, problem: String) -> DataError {
        DataError::Format { path: bundle::root().join(self.name), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gz(text: &str) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn ragged_empty_and_corrupt_tables_are_refused() {
        let problem = |bytes: &[u8]| Table::parse("uci/x.csv.gz", bytes).err().unwrap().to_string();
        assert!(problem(&gz("a,b\n1,2\n3\n")).contains("a row has 1 cells, 2 expected"));
        assert!(problem(&gz("")).contains("no header"));
        let bytes = gz("a,b\n1,2\n");
        assert!(problem(&bytes[..bytes.len() - 9]).contains("x.csv.gz"));
        let table = Table::parse("uci/x.csv.gz", &gz("a,b\n1,two\n")).unwrap();
        assert!(table.number::<f64>(&table.rows[0][1]).is_err());
        assert_eq!(table.number::<f64>(&table.rows[0][0]).unwrap(), 1.0);
    }
}
