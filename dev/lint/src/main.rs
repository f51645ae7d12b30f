//! Checks that read source only: `cargo lint layers`, `cargo lint vocabulary` (or `cargo xtask …`).
//! Run from the root of the workspace.

mod layers;
mod vocabulary;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo lint <check>

  layers                 a crate depends on lower layers only; no module cycles (docs/ARCHITECTURE.md)
  vocabulary [OPTION]    shares of type names with two meanings, of one-word functions, of comments
                         inside functions; --check fails on too many shared names, --list prints all
";

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("layers") => layers::check(),
        Some("vocabulary") => vocabulary::report(std::env::args().skip(2)),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lint: {error}");
            ExitCode::FAILURE
        }
    }
}
