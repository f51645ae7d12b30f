//! `cargo xtask scale`: every verb that carries, with 250 to 10,000 small images, and how its time and
//! memory grow from one number to the next. The result is `docs/explanation/scale.md`.
//!
//! ```text
//!  synthetic images in a layout ──verbs──▶ time, memory ──▶ exponents ──▶ report
//! ```
//!
//! An exponent of 1 is a straight line: twice the images, twice the time. What grows with the square
//! of the number has 2, and shows here long before a user waits for it.

mod chart;
mod images;
mod largest_lock;
mod report;
mod sample;
mod verbs;

use std::error::Error;
use std::fs;
use std::path::Path;

use sample::ScaleSample;

use crate::bench::machine::Machine;
use crate::bench::measure::Sample;

/// The numbers of images.
const SIZES: [usize; 4] = [250, 1_000, 4_000, 10_000];
/// The folder below which all is made: on the disk that is built on, never a tmpfs.
const FOLDER: &str = "target/scale";

/// Measures and writes the report. The first argument is the binary, the second the largest number of
/// images; without them the release build and 10,000.
pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let gantry = match arguments.first() {
        Some(path) => fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?,
        None => crate::bench::ground::release_binary()?,
    };
    let most = match arguments.get(1) {
        Some(text) => text.parse().map_err(|error| format!("{text}: {error}"))?,
        None => usize::MAX,
    };
    let sizes: Vec<usize> = SIZES.into_iter().filter(|size| *size <= most).collect();
    fs::create_dir_all(FOLDER)?;
    let machine = Machine::describe(&gantry);
    let mut samples = Vec::new();
    for images in sizes.iter().copied() {
        let folder = tempfile::tempdir_in(fs::canonicalize(FOLDER)?)?;
        measure_size(&gantry, folder.path(), images, &mut samples)?;
        // After each, so that a run that is stopped has a report of what it did.
        let measured: Vec<usize> = sizes.iter().copied().filter(|size| *size <= images).collect();
        report::write_report(&gantry, &machine, None, &measured, &samples)?;
    }
    // Last: the kernel counts the memory of this task, which makes the lock, to what it starts.
    let largest = measure_largest_lock(&gantry)?;
    report::write_report(&gantry, &machine, Some(&largest), &sizes, &samples)?;
    println!("written: {}", report::PATH);
    Ok(())
}

/// `plan` of the largest lock, with nothing in the store.
fn measure_largest_lock(gantry: &Path) -> Result<Sample, Box<dyn Error>> {
    let folder = tempfile::tempdir_in(fs::canonicalize(FOLDER)?)?;
    largest_lock::write_lock(folder.path())?;
    let used = verbs::measure_in_folder(gantry, folder.path(), &["plan"])?;
    println!("plan of the largest lock: {:.2} s {:.0} MB", used.wall, used.memory / 1e6);
    Ok(used)
}

fn measure_size(
    gantry: &Path,
    folder: &Path,
    images: usize,
    samples: &mut Vec<ScaleSample>,
) -> Result<(), Box<dyn Error>> {
    images::make_images(folder, images)?;
    chart::make_chart(folder, images)?;
    let run = verbs::ScaleRun::new(gantry, folder);
    for (verb, step) in verbs::VERBS {
        let used = run.measure_step(step)?;
        println!("{images:6} {verb:28} {:8.2} s {:6.0} MB", used.wall, used.memory / 1e6);
        samples.push(ScaleSample { verb, images, used });
    }
    Ok(())
}
