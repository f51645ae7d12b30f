//! The checks that read source only. They are a package of their own (`dev/lint`), with a parser of
//! Rust whose features would otherwise change how every other crate of the workspace is compiled.

use std::env;
use std::error::Error;
use std::process::Command;

/// Runs `layers` or `vocabulary` of `dev/lint`.
pub(crate) fn run_check(
    check: &str,
    arguments: impl Iterator<Item = String>,
) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--locked", "--manifest-path", "dev/lint/Cargo.toml"]);
    cargo.args(["--target-dir", "target/lint", "--", check]).args(arguments);
    if cargo.status()?.success() { Ok(()) } else { Err(format!("{check}: see above").into()) }
}
