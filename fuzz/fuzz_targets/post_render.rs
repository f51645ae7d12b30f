//! The law of the post-renderer, with the choices that libFuzzer makes: whatever it changes is an
//! image reference in a position of an image, and everything else is byte for byte the same. The same
//! check runs in the tests of the crate and, ten million times, in `make test-laws`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/chart/tests/it/post_render_law/mod.rs"]
#[allow(dead_code)]
mod post_render_law;

fuzz_target!(|choices: &[u8]| {
    if let Err(violation) = post_render_law::check_law(choices) {
        panic!("{violation}");
    }
});
