//! Tasks of the project, run as `cargo xtask <task>`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool")]

#[expect(clippy::cast_precision_loss, reason = "bytes and medians for people, three digits each")]
mod bench;
mod charts;
mod dist;
mod lint;
#[expect(clippy::cast_precision_loss, reason = "numbers of images, for people")]
mod scale;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task>

  bench [ROUNDS]   side by side with skopeo, crane and regctl; writes docs/explanation/benchmarks.md
  bench serve [GANTRY]
                   what the verification of a blob costs when it is served; prints it
  scale [GANTRY [IMAGES]]
                   every verb with 250 to 10,000 images; writes docs/explanation/scale.md
  charts [NAME...] find, move and prove over real charts; writes docs/explanation/charts.md
                   (with names of charts: only those, and writes nothing)
  dist [OPTIONS]   the static binary that Gantry's image is made of, in target/dist:
                   --dev (quick to build, for tests), --target TRIPLE (another architecture)
  layers           layers of crates and module cycles (`cargo lint layers`)
  vocabulary       what names say (`cargo lint vocabulary`)
";

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let result = match task.as_deref() {
        Some("bench") => match std::env::args().nth(2).as_deref() {
            Some("serve") => bench::run_serve(std::env::args().nth(3).as_deref()),
            rounds => bench::run(rounds),
        },
        Some("scale") => scale::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("charts") => {
            charts::measure(&std::env::args().skip(2).collect::<Vec<_>>()).map_err(Into::into)
        }
        Some("dist") => dist::build(std::env::args().skip(2)),
        Some("floors") => lint::run_check("layers", std::iter::empty()),
        Some(check @ ("layers" | "vocabulary")) => lint::run_check(check, std::env::args().skip(2)),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
