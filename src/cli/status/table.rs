//! Rows of cells in columns as wide as their widest cell.

/// A table without a head; columns stand two spaces apart.
#[derive(Default)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One line a row, nothing behind its last cell.
    pub fn text(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        let mut text = String::new();
        for row in &self.0 {
            let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0).map(|(cell, width)| format!("{cell:width$}"));
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}
