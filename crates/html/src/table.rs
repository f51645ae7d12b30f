//! Tables: columns, rows with a tone, and cells of lines, of which the long ones fold.

use crate::{TextLine, Tone};

/// The most lines of a cell that are shown at once; longer lists fold.
const MOST_LINES: usize = 4;

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageTable {
    /// The columns.
    pub columns: Vec<TableColumn>,
    /// The rows.
    pub rows: Vec<TableRow>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its heading; may be empty.
    pub title: &'static str,
    /// How wide it is.
    pub width: ColumnWidth,
}

/// How wide a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnWidth {
    /// As wide as its longest cell, which is never broken: a state, a count.
    Narrow,
    /// A number: as [`Self::Narrow`], on the right.
    Number,
    /// As wide as its text needs, at the expense of the others.
    Text,
}

/// A row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableRow {
    /// How good or bad what it says is; a stripe at its left.
    pub tone: Tone,
    /// The cells, one for each column.
    pub cells: Vec<TableCell>,
}

/// A cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableCell {
    /// Its lines. One without any shows a dash.
    pub(crate) lines: Vec<TextLine>,
    /// More lines, which the reader unfolds, below a summary.
    pub(crate) folded: Vec<(TextLine, Vec<TextLine>)>,
}

impl PageTable {
    /// A table with these columns and no rows.
    pub fn new<const N: usize>(columns: [(&'static str, ColumnWidth); N]) -> Self {
        let columns = columns.map(|(title, width)| TableColumn { title, width });
        Self { columns: columns.into(), rows: vec![] }
    }

    /// Adds a row.
    pub fn add_row<const N: usize>(&mut self, tone: Tone, cells: [TableCell; N]) {
        self.rows.push(TableRow { tone, cells: cells.into() });
    }

    /// The cells of a row with their columns.
    pub(crate) fn cells<'a>(
        &'a self,
        row: &'a TableRow,
    ) -> impl Iterator<Item = (&'a TableColumn, &'a TableCell)> {
        self.columns.iter().zip(&row.cells)
    }
}

impl ColumnWidth {
    /// The class of the style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Narrow => "narrow",
            Self::Number => "number",
            Self::Text => "text",
        }
    }
}

impl TableCell {
    /// A cell with a line for each item. A long list folds: `summary` makes its heading from the
    /// number of items, such as `8 Deployments`.
    pub fn list(
        items: impl IntoIterator<Item = TextLine>,
        summary: impl FnOnce(usize) -> String,
    ) -> Self {
        let lines: Vec<TextLine> = items.into_iter().collect();
        if lines.len() <= MOST_LINES {
            return Self { lines, folded: vec![] };
        }
        let summary = summary(lines.len());
        Self { lines: vec![], folded: vec![(summary.into(), lines)] }
    }

    /// Adds lines that the reader unfolds, below a summary. Without lines it adds nothing.
    #[must_use]
    pub fn with_folded(mut self, summary: impl Into<TextLine>, lines: Vec<TextLine>) -> Self {
        if !lines.is_empty() {
            self.folded.push((summary.into(), lines));
        }
        self
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.folded.is_empty()
    }
}

impl<T: Into<TextLine>> From<T> for TableCell {
    fn from(line: T) -> Self {
        Self { lines: vec![line.into()], folded: vec![] }
    }
}

impl From<Vec<TextLine>> for TableCell {
    fn from(lines: Vec<TextLine>) -> Self {
        Self { lines, folded: vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_folds_below_its_summary() {
        let list = |count: usize| {
            let items = (0..count).map(|number| TextLine::from(number.to_string()));
            TableCell::list(items, |count| format!("{count} Deployments"))
        };
        assert!(list(0).is_empty());
        assert_eq!(list(4).lines.len(), 4);
        let folded = list(8).folded;
        assert_eq!(folded[0].0, TextLine::from("8 Deployments"));
        assert_eq!((folded.len(), folded[0].1.len()), (1, 8));
    }
}
