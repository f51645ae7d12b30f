//! Tasks of the project: `cargo xtask floors`.
fn main() {}
