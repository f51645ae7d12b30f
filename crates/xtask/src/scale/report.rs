//! `docs/explanation/scale.md`: times, memory and exponents as tables. What people wrote below [`NOTES`]
//! is kept when the document is generated again.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::largest_lock;
use super::sample::{ScaleSample, growth_exponent};
use super::verbs;
use crate::bench::machine::Machine;
use crate::bench::measure::Sample;

pub(super) const PATH: &str = "docs/explanation/scale.md";
/// From this line on the document is written by hand.
const NOTES: &str = "## What is behind the numbers";

pub(super) fn write_report(
    gantry: &Path,
    machine: &Machine,
    largest: Option<&Sample>,
    sizes: &[usize],
    samples: &[ScaleSample],
) -> Result<(), Box<dyn Error>> {
    let old = fs::read_to_string(PATH).unwrap_or_default();
    let notes = old.find(NOTES).map_or_else(|| format!("{NOTES}\n"), |at| old[at..].to_owned());
    let command = match gantry.parent().and_then(Path::file_name) {
        Some(profile) if profile == "release" => "cargo xtask scale".to_owned(),
        profile => format!(
            "cargo xtask scale target/{}/gantry",
            profile.unwrap_or_default().to_string_lossy()
        ),
    };
    let head = format!(
        "# Scale\n\n\
         Written by `{command}`; the last section by hand. Images of two small layers, one of their own and one that all \
         share, from an OCI layout. One run each. The exponent says how the time or the memory grows between two \
         numbers of images: 1 is a straight line, 2 the square. Below a tenth of a second, and below 20 MB, it says \
         nothing: that is the start of a process. CPU time is that of the command and what it started (not the registry's), and \
         unlike the time by the clock it hardly depends on what else runs. `deploy`, `check` and `audit` need a cluster and are not here.\n\n\
         - machine: {}; {}; {}\n\
         - load averages before the first run: {} ({})\n",
        machine.processor, machine.system, machine.disk, machine.load, machine.date,
    );
    let time = table("Time", "s", sizes, samples, |sample| sample.used.wall, 2);
    let cpu = table("CPU time", "s", sizes, samples, |sample| sample.used.cpu, 2);
    let memory = table("Peak memory", "MB", sizes, samples, |sample| sample.used.memory / 1e6, 0);
    let plan = largest.map(describe_largest);
    let parts: Vec<String> = [Some(head), plan, Some(time), Some(cpu), Some(memory), Some(notes)]
        .into_iter()
        .flatten()
        .collect();
    Ok(fs::write(PATH, parts.join("\n"))?)
}

/// What `plan` of the largest lock took, beside what is promised.
fn describe_largest(used: &Sample) -> String {
    let judge = |reached: bool| if reached { "reached" } else { "missed" };
    format!(
        "## The largest lock\n\n\
         `gantry plan` of 10,000 images on two platforms with 100,000 layers of their own, none in the store:\n\n\
         | | promised | measured | |\n|---|---|---|---|\n\
         | time | {:.0} s | {:.2} s | {} |\n\
         | peak memory | {:.0} MB | {:.0} MB | {} |\n",
        largest_lock::MOST_SECONDS,
        used.wall,
        judge(used.wall <= largest_lock::MOST_SECONDS),
        largest_lock::MOST_BYTES / 1e6,
        used.memory / 1e6,
        judge(used.memory <= largest_lock::MOST_BYTES),
    )
}

/// A row for each verb: the figure for each number of images, and the exponents between them.
fn table(
    title: &str,
    unit: &str,
    sizes: &[usize],
    samples: &[ScaleSample],
    figure: impl Fn(&ScaleSample) -> f64,
    digits: usize,
) -> String {
    let mut text = format!("## {title}\n\n| verb |");
    for size in sizes {
        let _ = write!(text, " {size} |");
    }
    text.push_str(" exponents |\n|---|");
    text.push_str(&"---|".repeat(sizes.len() + 1));
    text.push('\n');
    for (verb, _) in verbs::VERBS {
        let figures: Vec<(usize, f64)> = samples
            .iter()
            .filter(|sample| sample.verb == verb)
            .map(|sample| (sample.images, figure(sample)))
            .collect();
        let _ = write!(text, "| {verb} |");
        for (_, value) in &figures {
            let _ = write!(text, " {value:.digits$} {unit} |");
        }
        let exponents: Vec<String> = figures
            .windows(2)
            .map(|pair| format!("{:.1}", growth_exponent(pair[0], pair[1])))
            .collect();
        let _ = writeln!(text, " {} |", exponents.join(", "));
    }
    text
}
