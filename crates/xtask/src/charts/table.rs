//! `docs/explanation/charts.md`, from what was measured.

use std::fmt::Write as _;

use super::row::{LIMIT_FIND, LIMIT_MOVE, RUNS, Row};

/// The whole document. `load` is the machine's load average before and after.
pub(super) fn document(rows: &[Row], load: &str) -> String {
    let mut text = format!(
        "# Real charts\n\nWritten by `cargo xtask charts` (release build) from the charts in \
        `GANTRY_CHARTS`, each with the values in `crates/xtask/charts/`. An image is counted once, by its \
        highest confidence; *locations* are all fields and texts that name an image. Times are medians of {RUNS} runs, as \
        multiples of one `helm template` of the same chart that ran right before \
        (Gantry gives its own helm `GOGC=400`); *own* is the time of finding images without the renders. Renders run in \
        parallel, so on a busy machine compare the multiples with the number of renders. Load average of this run: {load}.\n\n\
        *Scan* is a plain search for words that look like images, which knows nothing of Gantry: in the render \
        (were all found?), in the render with the overlay (all but the leftovers at the site?) and after the \
        post-renderer (all at the site?).\n\n\
        | chart | certain | likely | possible | locations | moved by overlay | values set | overlay | \
        post-renderer | scan | helm, s | find | own, ms | move and prove | renders |\n\
        |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let [certain, likely, possible] = row.found;
        let _ = writeln!(
            text,
            "| {} | {certain} | {likely} | {possible} | {} | {} | {} | {} | {} | {} | {:.2} | {:.1} × | {:.0} | \
             {:.1} × | {} |",
            row.name,
            row.places,
            row.moved,
            row.lines,
            row.verdict.as_str(),
            row.post_rendered.as_str(),
            if row.refuted.is_empty() { "agrees" } else { "refutes" },
            row.helm,
            row.find,
            row.own * 1e3,
            row.relocate,
            row.renders,
        );
    }
    let sum = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let _ = writeln!(
        text,
        "\nTogether {} locations, {} moved by the overlay alone with {} values. {}\n\n## Leftovers\n",
        sum(|row| row.places),
        sum(|row| row.moved),
        sum(|row| row.lines),
        limits(rows),
    );
    for row in rows.iter().filter(|row| !row.stayed.is_empty()) {
        let _ = writeln!(text, "{}:\n", row.name);
        for stayed in &row.stayed {
            let _ = writeln!(text, "- {stayed}");
        }
        text.push('\n');
    }
    text
}

/// How many charts hold the limits, and which do not.
pub(super) fn limits(rows: &[Row]) -> String {
    let held = |what: &str, limit: f64, of: fn(&Row) -> f64| {
        let over: Vec<String> = rows
            .iter()
            .filter(|row| of(row) > limit)
            .map(|row| format!("{} {:.1}", row.name, of(row)))
            .collect();
        let within = rows.len() - over.len();
        let over =
            if over.is_empty() { String::new() } else { format!(" (over: {})", over.join(", ")) };
        format!("{what} within {limit} × for {within} of {}{over}", rows.len())
    };
    let find = held("Find is", LIMIT_FIND, |row| row.find);
    let moved = held("move and prove", LIMIT_MOVE, |row| row.relocate);
    format!("{find}, {moved}.")
}
