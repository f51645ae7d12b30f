//! `docs/explanation/charts.md`, from what was measured.

use std::fmt::Write as _;

use super::ground::MeasuredChartKind;
use super::row::{Cost, LIMIT_FIND, LIMIT_MOVE, RUNS, Row};

/// The whole document. `load` is the machine's load average before and after.
pub(super) fn document(rows: &[Row], load: &str) -> String {
    let mut text = format!(
        "# Real charts\n\nWritten by `cargo xtask charts` (release build) from the charts in \
        `GANTRY_CHARTS`, each with the values in `crates/xtask/charts/`, and from generated ones: an umbrella of a \
        hundred small charts, umbrellas of two and nine of the real ones, and a chart with 10 MB of custom resource \
        definitions. An image is counted once, by its \
        highest confidence; *locations* are all fields and texts that name an image. Times are medians of {RUNS} runs, as \
        multiples of one `helm template` of the same chart that ran right before, by the clock and by the CPU time of all \
        processes \
        (Gantry gives its own helm `GOGC=off` and `GOMEMLIMIT=256MiB`); *own* is the time of finding images without the renders. Renders run in \
        parallel, so on a busy machine compare the CPU times. Load average of this run: {load}.\n\n\
        *Scan* is a plain search which knows nothing of Gantry: for words that look like images, maps of names to images, \
        parts of an image in custom resources, registries and repositories without a tag, and the annotations of Chart.yaml. \
        It looks at the render (was everything found?), at the render with the overlay (is all but what is left over at the \
        site?) and behind the post-renderer. *Reasons* counts the leftovers whose reason held when every value of the \
        chart, and every value that only its templates name, was set by hand. *Secret* counts the pods that get the site's \
        pull secret by the overlay, of all pods; a pod without is counted as a fault where setting any value by hand gives it \
        one.\n\n\
        | chart | certain | likely | possible | locations | moved by overlay | values set | overlay | \
        post-renderer | scan | reasons | secret | helm, s | find (CPU) | own, ms | move and prove (CPU) | renders |\n\
        |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    let listed: Vec<&Row> =
        rows.iter().filter(|row| row.origin != MeasuredChartKind::Folder).collect();
    for row in &listed {
        let [certain, likely, possible] = row.found;
        let cost = |cost: Cost| format!("{:.1} × ({:.1} ×)", cost.clock, cost.cpu);
        let _ = writeln!(
            text,
            "| {} | {certain} | {likely} | {possible} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2} | {} | {:.0} | \
             {} | {} |",
            row.name,
            row.places,
            row.moved,
            row.lines,
            row.verdict.as_str(),
            row.post_rendered.as_str(),
            if row.refuted.is_empty() { "agrees" } else { "refutes" },
            format_share(row.reasons.checked - row.reasons.refuted.len(), row.reasons.checked),
            format_share(row.secrets.with, row.secrets.pods),
            row.helm,
            cost(row.find),
            row.own * 1e3,
            cost(row.relocate),
            row.renders,
        );
    }
    let sum = |of: fn(&Row) -> usize| listed.iter().map(|row| of(row)).sum::<usize>();
    let _ = writeln!(
        text,
        "\nTogether {} locations, {} moved by the overlay alone with {} values; {} of {} pods get the pull secret. {}",
        sum(|row| row.places),
        sum(|row| row.moved),
        sum(|row| row.lines),
        sum(|row| row.secrets.with),
        sum(|row| row.secrets.pods),
        limits(rows),
    );
    let small: Vec<&Row> =
        rows.iter().filter(|row| row.origin == MeasuredChartKind::Folder).collect();
    if !small.is_empty() {
        let faults = small.iter().filter(|row| !row.faults().is_empty()).count();
        let _ = writeln!(
            text,
            "\nBeside them {} small charts with one pattern each were run: {} of their {} locations are moved, {} have a \
             fault.",
            small.len(),
            small.iter().map(|row| row.moved).sum::<usize>(),
            small.iter().map(|row| row.places).sum::<usize>(),
            if faults == 0 { "none".to_owned() } else { faults.to_string() },
        );
    }
    write_list(&mut text, "Leftovers", &listed, |row| row.stayed.clone());
    write_list(&mut text, "Faults", &listed, Row::faults);
    text
}

/// A section with what each chart has of something, if any has.
fn write_list(text: &mut String, title: &str, rows: &[&Row], of: impl Fn(&Row) -> Vec<String>) {
    let all: Vec<(&str, Vec<String>)> = rows
        .iter()
        .map(|row| (row.name.as_str(), of(row)))
        .filter(|(_, all)| !all.is_empty())
        .collect();
    if all.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n## {title}\n");
    for (name, items) in all {
        let _ = writeln!(text, "{name}:\n");
        for item in items {
            let _ = writeln!(text, "- {item}");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
}

/// A count of a total; a dash where there is none.
fn format_share(count: usize, total: usize) -> String {
    if total == 0 { "–".to_owned() } else { format!("{count} of {total}") }
}

/// How many charts hold the limits by the clock and by CPU time, and which do not.
pub(super) fn limits(rows: &[Row]) -> String {
    let held = |what: &str, limit: f64, of: fn(&Row) -> Cost| {
        let over: Vec<String> = rows
            .iter()
            .filter(|row| of(row).greater() > limit)
            .map(|row| format!("{} {:.1}, CPU {:.1}", row.name, of(row).clock, of(row).cpu))
            .collect();
        let within = rows.len() - over.len();
        let over =
            if over.is_empty() { String::new() } else { format!(" (over: {})", over.join("; ")) };
        format!(
            "{what} within {limit} × by the clock and by CPU time for {within} of {}{over}",
            rows.len()
        )
    };
    let find = held("Find is", LIMIT_FIND, |row| row.find);
    let moved = held("move and prove", LIMIT_MOVE, |row| row.relocate);
    format!("{find}, {moved}.")
}
