//! `cargo xtask bench`: the main job on the slow images, side by side with skopeo, crane, regctl and
//! the floor, and what the design promises beyond that. The result is `docs/explanation/benchmarks.md`.
//!
//! ```text
//!  testkit's images ──▶ a docker-registry ──Tool, Step──▶ measure ──▶ Results ──▶ report
//! ```
//!
//! Everything runs on one machine, the registries too, in one run on one corpus. Each round gives
//! every tool the whole way in a fresh folder, to a fresh registry; the order moves on by one each
//! round, and is turned every other round, so that nobody always has the tired machine.

mod extra;
mod ground;
mod machine;
mod measure;
mod report;
mod tool;

use std::collections::BTreeMap;
use std::error::Error;

use ground::Ground;
use measure::Sample;
use tool::{Step, Tool};

/// Rounds when none are given: the fewest of which a median bears two bad ones.
const ROUNDS: usize = 5;

/// Every sample of a tool's step, in the order of the rounds.
type Samples = BTreeMap<(Step, Tool), Vec<Sample>>;

/// All that was measured.
struct Results {
    machine: machine::Machine,
    rounds: usize,
    /// Images, different blobs and their bytes.
    corpus: (usize, usize, u64),
    samples: Samples,
    kills: Vec<extra::Kill>,
    starts: Vec<extra::Start>,
    large: Vec<(&'static str, Sample)>,
    /// What was typed for one image, by tool and step.
    typed: Vec<(Tool, Step, String)>,
}

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
        large,
        typed: ground.typed(),
    };
    report::write(&results)?;
    println!("written: {}", report::PATH);
    Ok(())
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
