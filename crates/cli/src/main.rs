//! The program `gantry`. See the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    gantry_cli::run()
}
