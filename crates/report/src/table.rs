//! A table of typed cells.

use comfy_table::{CellAlignment, ContentArrangement};

use crate::Cell;

/// Rows of typed cells under named columns; shown by [`crate::Listing::table`].
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these column headings.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row. A row with more or fewer cells than there are columns is shown, and fails the listing when it finishes.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> &mut Self {
        self.rows.push(cells.into_iter().collect());
        self
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row has been added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What is wrong with the table's shape, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.rows.is_empty() {
            return Some("has no rows".to_string());
        }
        self.rows
            .iter()
            .enumerate()
            .find(|(_, row)| row.len() != self.columns.len())
            .map(|(i, row)| format!("row {} has {} cells for {} columns", i + 1, row.len(), self.columns.len()))
    }

    /// The table as text no wider than `width` characters where its words allow it.
    pub(crate) fn render(&self, width: u16) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(style());
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
        let numeric: Vec<bool> = (0..self.columns.len())
            .map(|i| self.rows.iter().filter_map(|row| row.get(i)).all(Cell::is_numeric) && !self.rows.is_empty())
            .collect();
        let align = |i: usize| {
            if numeric.get(i) == Some(&true) { CellAlignment::Right } else { CellAlignment::Left }
        };
        table.set_header(
            self.columns.iter().enumerate().map(|(i, name)| comfy_table::Cell::new(name).set_alignment(align(i))),
        );
        for row in &self.rows {
            table.add_row(row.iter().enumerate().map(|(i, cell)| {
                let alignment = if cell.is_numeric() { CellAlignment::Right } else { align(i) };
                comfy_table::Cell::new(cell.text()).set_alignment(alignment)
            }));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
        lines.join("\n") + "\n"
    }
}

/// A rule under the headings and nothing else.
fn style() -> comfy_table::TableStyle {
    use comfy_table::{ContentLineStyle, LineStyle, TableStyle};
    TableStyle::new()
        .header_lines(ContentLineStyle::none())
        .header_separator(LineStyle::none().fill('-').junction('-'))
        .content_lines(ContentLineStyle::none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num;

    #[test]
    fn numbers_are_flush_right_and_text_flush_left() {
        let mut table = Table::new(["query", "hits", "recall@2"]);
        table.row(["laptop".into(), 1.into(), num(0.5, 3)]).row(["running shoes".into(), 12.into(), num(1, 3)]);
        let text = table.render(96);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.iter().any(|line| line.trim_start().starts_with("laptop ") && line.ends_with(" 1      0.500")),
            "{text}"
        );
        assert_eq!(table.problem(), None);
    }

    #[test]
    fn long_text_wraps_inside_the_width() {
        let mut table = Table::new(["gloss", "n"]);
        table.row(["a word ".repeat(60).into(), 1.into()]);
        assert!(table.render(80).lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn a_ragged_or_empty_table_is_reported() {
        let mut table = Table::new(["a", "b"]);
        assert_eq!(table.problem().as_deref(), Some("has no rows"));
        table.row(["x".into(), 1.into()]).row(["y".into()]);
        assert_eq!(table.problem().as_deref(), Some("row 2 has 1 cells for 2 columns"));
        assert!(table.render(80).contains('y'));
    }
}
