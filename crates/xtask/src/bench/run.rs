//! Runs every tool on the whole way, round after round.

use std::error::Error;

use super::ground::Ground;
use super::results::{Results, Samples};
use super::tool::{Step, Tool};
use super::{extra, ground, machine, measure, report, serve};

/// Rounds when none are given: the fewest of which a median bears two bad ones.
const ROUNDS: usize = 5;

/// Measures and writes the report; the argument is the number of rounds.
pub(crate) fn run(rounds: Option<&str>) -> Result<(), Box<dyn Error>> {
    let rounds = match rounds {
        Some(text) => {
            text.parse().ok().filter(|rounds| *rounds > 0).ok_or("usage: bench [ROUNDS]")?
        }
        None => ROUNDS,
    };
    let ground = Ground::new()?;
    let machine = machine::Machine::describe(ground.gantry());
    println!("{} · load {}", machine.processor, machine.load);

    let mut samples = Samples::new();
    for round in 0..rounds {
        let mut tools = Tool::ALL;
        tools.rotate_left(round % Tool::ALL.len());
        // Backwards every other time: nobody is always behind the same other.
        if round % 2 == 1 {
            tools.reverse();
        }
        for tool in tools {
            whole_way(&ground, tool, &mut samples)?;
        }
    }
    let fetch = samples.get(&(Step::Fetch, Tool::Gantry)).and_then(|all| measure::median(all));
    let starts = extra::starts(&ground)?;
    let served = serve::measure_reads(ground.gantry())?;
    let kills = extra::kills(&ground, fetch.unwrap_or_default().wall)?;
    let large = extra::large(&ground)?;
    let images = ground.images();
    let blobs = images.unique_blobs();
    let results = Results {
        machine,
        rounds,
        corpus: (images.iter().count(), blobs.len(), blobs.values().sum()),
        samples,
        kills,
        starts,
        served,
        large,
        typed: ground.typed(),
    };
    report::write(&results)?;
    println!("written: {}", report::PATH);
    Ok(())
}

/// Measures only what verification costs when a blob is served, and prints it. The argument is the
/// binary; without it the release build.
pub(crate) fn run_serve(gantry: Option<&str>) -> Result<(), Box<dyn Error>> {
    let gantry = match gantry {
        Some(path) => std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?,
        None => ground::release_binary()?,
    };
    serve::measure_reads(&gantry).map(drop)
}

/// All steps of one tool, in their order.
fn whole_way(ground: &Ground, tool: Tool, samples: &mut Samples) -> Result<(), Box<dyn Error>> {
    let run = ground.run()?;
    for step in Step::ALL {
        let Some(mut command) = run.command(tool, step) else { continue };
        let sample = measure::measure(&mut command, &[run.folder()])?;
        println!(
            "{:8} {:11} {:7.2} s {:7.2} CPU s {:5.0} MB memory {:6.0} MB disk",
            tool.name(),
            format!("{step:?}"),
            sample.wall,
            sample.cpu,
            sample.memory / 1e6,
            sample.disk / 1e6,
        );
        samples.entry((step, tool)).or_default().push(sample);
    }
    Ok(())
}
