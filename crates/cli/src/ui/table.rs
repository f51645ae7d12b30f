//! Tables and lists of results as text. On a terminal they fit its width.

use console::measure_text_width;
use types::foreign_text::{clean_line, shorten_middle};

use super::terminal;

/// The space between two columns.
const GAP: usize = 2;
/// No column is made narrower than this: less of a name says nothing.
const NARROWEST: usize = 12;

/// A table with aligned columns and no borders, which is easy to read and to process with `cut`. Where
/// standard output is a terminal that is too narrow, the widest cells are shortened in their middle.
pub(crate) fn format_table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    format_table_within(terminal::find_stdout_width(), head, rows)
}

fn format_table_within<const N: usize>(
    width: Option<usize>,
    head: [&str; N],
    rows: Vec<[String; N]>,
) -> String {
    let head = head.map(str::to_uppercase);
    // Names come from servers, charts and files: a line break in one would look like another row.
    let mut rows: Vec<[String; N]> =
        rows.into_iter().map(|row| row.map(|cell| clean_line(&cell).into_owned())).collect();
    if let Some(width) = width {
        shorten_columns(width, &head, &mut rows);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Shortens the cells of the widest columns until a row fits the width, as far as that is possible.
fn shorten_columns<const N: usize>(width: usize, head: &[String; N], rows: &mut [[String; N]]) {
    let mut widths: [usize; N] = std::array::from_fn(|at| {
        let cells = rows.iter().map(|row| measure_text_width(&row[at])).max();
        cells.unwrap_or_default().max(measure_text_width(&head[at]))
    });
    // comfy-table has a space on both sides of a cell; those at the ends of a line are trimmed.
    let mut excess =
        (widths.iter().sum::<usize>() + GAP * N.saturating_sub(1)).saturating_sub(width);
    while excess > 0 {
        let widest = (0..N).max_by_key(|at| widths[*at]);
        let Some(widest) = widest.filter(|at| widths[*at] > NARROWEST.max(head[*at].len())) else {
            break;
        };
        widths[widest] -= 1;
        excess -= 1;
    }
    for row in rows {
        for (at, cell) in row.iter_mut().enumerate() {
            // Characters may take two columns (CJK): shortened until the text fits.
            let mut longest = widths[at];
            while measure_text_width(cell) > widths[at] && longest > 0 {
                *cell = shorten_middle(cell, longest).into_owned();
                longest -= 1;
            }
        }
    }
}

/// Lines of a name and a value, with the values aligned.
pub(crate) fn format_rows(rows: Vec<[String; 2]>) -> String {
    let rows = rows.into_iter().map(|row| row.map(|cell| clean_line(&cell).into_owned()));
    let rows: Vec<[String; 2]> = rows.collect();
    let width = rows.iter().map(|[name, _]| measure_text_width(name)).max().unwrap_or_default();
    let lines = rows.iter().map(|[name, value]| {
        let gap = " ".repeat(width - measure_text_width(name) + GAP);
        format!("{name}{gap}{value}").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_no_line_ends_with_spaces() {
        let rows = vec![["a".into(), "1".into()], ["long name".into(), String::new()]];
        let table = format_table_within(None, ["name", "size"], rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1].find('1'), lines[0].find("SIZE"));
        assert!(lines.iter().all(|line| line.trim_end() == *line), "{table:?}");
        assert_eq!(lines[2], "long name");
    }

    #[test]
    fn the_longest_cells_are_shortened_in_the_middle_until_a_row_fits() {
        let long =
            "registry.internal:5000/ai/ghcr.io/some-organization/some-image-with-a-name:1.25.3";
        let rows = || vec![["image".into(), long.to_owned(), "12.5 MiB".into()]];
        let head = ["kind", "name", "size"];
        let table = format_table_within(Some(60), head, rows());
        assert_eq!(
            table,
            "KIND   NAME                                         SIZE\n\
             image  registry.internal:500…ge-with-a-name:1.25.3  12.5 MiB\n"
        );
        assert!(table.lines().all(|line| measure_text_width(line) <= 60), "{table}");
        // Piped, nothing is shortened.
        assert!(format_table_within(None, head, rows()).contains(long));
        // A terminal that is far too narrow still shows a part of everything.
        let narrow = format_table_within(Some(10), head, rows());
        assert!(narrow.contains("regist….25.3"), "{narrow}");
    }

    #[test]
    fn wide_characters_count_twice() {
        let rows = vec![["模型".repeat(20), "1".into()]];
        let table = format_table_within(Some(40), ["name", "size"], rows);
        assert!(table.lines().all(|line| measure_text_width(line) <= 40), "{table}");
    }

    #[test]
    fn a_cell_can_neither_break_its_row_nor_control_the_terminal() {
        let rows = vec![["a\nimage  evil".into(), "\u{1b}[2J".into()]];
        let table = format_table_within(None, ["name", "size"], rows);
        assert_eq!(table.lines().count(), 2);
        assert!(table.contains("a image  evil") && table.contains("\\u{1b}[2J"), "{table}");
    }

    #[test]
    fn values_stand_below_each_other() {
        let rows = format_rows(vec![["a".into(), "1".into()], ["longer".into(), "2".into()]]);
        assert_eq!(rows, "a       1\nlonger  2\n");
        assert_eq!(format_rows(vec![]), "\n");
    }
}
