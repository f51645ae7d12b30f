//! The integration tests of charts. One binary for all: each more would be linked anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Long runs print how much they tried.
#![allow(clippy::print_stdout)]

mod any_mix;
mod chart_mixes;
mod chart_patterns;
mod difficult_charts;
mod hostile;
mod odd_yaml;
mod patterns;
mod pinned_values;
mod places;
mod post_render;
mod post_render_law;
mod real_charts;
mod relocation_page;
mod support;
mod unrendered;
mod wired;
mod wiring;
