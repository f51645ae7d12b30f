//! `docs/explanation/benchmarks.md`: everything that was measured as tables, and goals.
//!
//! What people wrote below [`NOTES`] is kept when the document is generated again.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;

use super::measure::{self, Sample};
use super::results::Results;
use super::tool::{Step, Tool};

pub(super) const PATH: &str = "docs/explanation/benchmarks.md";
/// From this line on the document is written by hand.
const NOTES: &str = "## What is behind the numbers";
const MEGABYTE: f64 = 1e6;
const GIGABYTE: f64 = 1e9;

pub(super) fn write(results: &Results) -> Result<(), Box<dyn Error>> {
    let old = fs::read_to_string(PATH).unwrap_or_default();
    let notes = old.find(NOTES).map_or_else(|| format!("{NOTES}\n"), |at| old[at..].to_owned());
    let parts = [
        head(results),
        targets(results),
        steps(results),
        kills(results),
        starts(results),
        served(results),
        large(results),
        typed(results),
        notes,
    ];
    Ok(fs::write(PATH, parts.join("\n"))?)
}

fn head(results: &Results) -> String {
    let machine = &results.machine;
    let (images, blobs, bytes) = results.corpus;
    let mut text = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench {}` (`make bench`); the last section by hand. Medians of {} \
         rounds; the order of the tools changes each round. In brackets the fastest and the slowest round. Every run \
         starts with an empty folder, an empty registry to load into, a synced disk and touched memory. The \
         registries run on the same cores as the tools: their work is in nobody's CPU seconds, but in everybody's \
         wall time. *floor* is the least that any tool must do: `cp` and one sha256.\n\n\
         - corpus: the slow images of testkit, {images} images, {blobs} different blobs, {:.0} MB\n\
         - machine: {}; {}; {}\n\
         - load averages before the first round: {} ({})\n",
        results.rounds,
        results.rounds,
        bytes as f64 / MEGABYTE,
        machine.processor,
        machine.system,
        machine.disk,
        machine.load,
        machine.date,
    );
    for (name, version) in &machine.versions {
        let _ = writeln!(text, "- {name}: {version}");
    }
    text
}

fn targets(results: &Results) -> String {
    let sample = |tool, step| median(results, tool, step).unwrap_or_default();
    let gantry = |step| sample(Tool::Gantry, step);
    let floor = sample(Tool::Floor, Step::Fetch).wall;
    let gigabytes = results.corpus.2 as f64 / GIGABYTE;
    let (fetch, pack, load) = (gantry(Step::Fetch), gantry(Step::Pack), gantry(Step::Load));
    let again = [Step::FetchAgain, Step::PackAgain, Step::LoadAgain]
        .map(|step| gantry(step).wall)
        .into_iter()
        .fold(0.0, f64::max);
    let steps = Step::ALL.map(gantry).into_iter();
    let large = results.large.iter().map(|(_, sample)| *sample);
    let memory = steps.chain(large).map(|sample| sample.memory).fold(0.0, f64::max);
    let killed = results.kills.iter().map(share).fold(0.0, f64::max);
    let ready = results.starts.iter().map(|start| start.ready).fold(0.0, f64::max);

    let mut rows = Rows::new(&["goal", "limit", "measured", ""]);
    let mut row = |aim: &str, limit: f64, measured: f64, unit: &str| {
        let reached = if measured <= limit { "reached" } else { "**not reached**" };
        rows.push(&[
            aim.to_owned(),
            format!("{limit:.2} {unit}"),
            format!("{measured:.2} {unit}"),
            reached.to_owned(),
        ]);
    };
    row("fetch no slower than regctl", sample(Tool::Regctl, Step::Fetch).wall, fetch.wall, "s");
    row("fetch ≤ 1.3 × the floor", 1.3, fetch.wall / floor, "×");
    row("pack ≤ 1.2 × the floor", 1.2, pack.wall / floor, "×");
    row("load no slower than crane", sample(Tool::Crane, Step::Load).wall, load.wall, "s");
    row("load ≤ 1.5 CPU seconds a GB", 1.5, load.cpu / gigabytes, "s/GB");
    row("load without extra disk", 0.0, load.disk / MEGABYTE, "MB");
    row("again with nothing new ≤ 0.5 s (the slowest of three)", 0.5, again, "s");
    row("peak memory ≤ 80 MB, 4 GiB blob included", 80.0, memory / MEGABYTE, "MB");
    row("after kill -9 < 1 % fetched again (the worst kill)", 1.0, killed * 100.0, "%");
    row("serve ready in under 2 s (the slowest)", 2.0, ready, "s");
    let verified = results.served.iter().map(|blob| blob.shares()[1] * 100.0).fold(0.0, f64::max);
    row(
        "serve: a verified blob's first request ≤ 10 % longer than later ones",
        10.0,
        verified,
        "%",
    );
    format!("## Goals\n\n{}", rows.text)
}

fn steps(results: &Results) -> String {
    let mut text = String::new();
    let gigabytes = results.corpus.2 as f64 / GIGABYTE;
    for step in Step::ALL {
        let _ = write!(text, "## {}\n\n", step.title());
        let floor_step = if step == Step::Pack { Step::Fetch } else { step };
        let floor = median(results, Tool::Floor, floor_step);
        let gantry = median(results, Tool::Gantry, step).unwrap_or_default();
        let mut rows = Rows::new(&[
            "tool",
            "wall",
            "of gantry's",
            "of the floor",
            "CPU",
            "CPU a GB",
            "peak memory",
            "peak disk",
        ]);
        for tool in Tool::ALL {
            // What the floor does for a fetch, copy and hash, is also that of a pack.
            let from = if tool == Tool::Floor { floor_step } else { step };
            let Some(samples) = results.samples.get(&(from, tool)) else { continue };
            let Some(sample) = measure::median(samples) else { continue };
            let walls = || samples.iter().map(|sample| sample.wall);
            let (least, most) =
                (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max));
            rows.push(&[
                tool.name().to_owned(),
                format!("{:.2} s ({least:.2} – {most:.2})", sample.wall),
                format!("{:.2} ×", sample.wall / gantry.wall),
                floor.map_or("–".into(), |floor| format!("{:.2} ×", sample.wall / floor.wall)),
                format!("{:.2} s", sample.cpu),
                format!("{:.2} s", sample.cpu / gigabytes),
                megabytes(sample.memory),
                megabytes(sample.disk),
            ]);
        }
        let _ = writeln!(text, "{}", rows.text);
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn kills(results: &Results) -> String {
    let mut rows = Rows::new(&["killed after", "was there", "sent again", "share"]);
    for kill in &results.kills {
        rows.push(&[
            format!("{:.2} s", kill.after),
            format!("{:.1} MB", kill.there as f64 / MEGABYTE),
            format!("{} bytes", kill.again),
            format!("{:.3} %", share(kill) * 100.0),
        ]);
    }
    format!(
        "## Fetch after kill -9 at a random instant\n\n\
         By the registry's own count of what it sent to the second run, blobs and manifests.\n\n{}",
        rows.text
    )
}

fn starts(results: &Results) -> String {
    let mut rows = Rows::new(&["serve", "ready after"]);
    for start in &results.starts {
        rows.push(&[start.what.to_owned(), format!("{:.3} s", start.ready)]);
    }
    format!("## Serve: from the start of the process to the first 200 of /readyz\n\n{}", rows.text)
}

fn served(results: &Results) -> String {
    let mut rows =
        Rows::new(&["served from", "to", "first, not verified yet", "first, verified", "later"]);
    for blob in &results.served {
        let [before, after] = blob.shares().map(|share| share * 100.0);
        rows.push(&[
            blob.source.to_owned(),
            blob.load.what.to_owned(),
            format!("{:.2} s ({before:+.0} %)", blob.unverified),
            format!("{:.2} s ({after:+.0} %)", blob.verified),
            format!("{:.2} s", blob.later),
        ]);
    }
    format!(
        "## Serve: a blob of 1 GiB\n\n\
         A server verifies its blobs in the background while nothing is sent. A request that comes before \
         that verifies its blob while it is sent; of several at once, one does so for all (`cargo xtask bench serve`). \
         The clients run on the same cores.\n\n{}",
        rows.text
    )
}

fn large(results: &Results) -> String {
    let mut rows = Rows::new(&["step", "wall", "CPU", "peak memory", "peak disk"]);
    for (step, sample) in &results.large {
        rows.push(&[
            (*step).to_owned(),
            format!("{:.2} s", sample.wall),
            format!("{:.2} s", sample.cpu),
            megabytes(sample.memory),
            megabytes(sample.disk),
        ]);
    }
    format!("## One blob of 4 GiB\n\nOne run each, with gantry.\n\n{}", rows.text)
}

fn typed(results: &Results) -> String {
    let mut text =
        "## What was typed\n\nFor one image; with several, one line each, but crane pull, \
                    which takes all of them, and gantry, which has them in gantry.lock.\n\n```sh\n"
            .to_owned();
    let mut last = "";
    for (tool, step, script) in &results.typed {
        if last != script {
            let title = step.title().split(':').next().unwrap_or_default();
            let _ = writeln!(text, "# {}: {}\n{script}", tool.name(), title.to_lowercase());
        }
        last = script;
    }
    text + "```\n"
}

fn median(results: &Results, tool: Tool, step: Step) -> Option<Sample> {
    results.samples.get(&(step, tool)).and_then(|samples| measure::median(samples))
}

/// What was sent again, of what was there.
fn share(kill: &super::extra::Kill) -> f64 {
    kill.again as f64 / kill.there.max(1) as f64
}

fn megabytes(bytes: f64) -> String {
    format!("{:.0} MB", bytes / MEGABYTE)
}

/// A table of Markdown.
struct Rows {
    text: String,
}

impl Rows {
    fn new(titles: &[&str]) -> Self {
        let text = format!("| {} |\n|{}\n", titles.join(" | "), " --- |".repeat(titles.len()));
        Self { text }
    }

    fn push(&mut self, cells: &[String]) {
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }
}
