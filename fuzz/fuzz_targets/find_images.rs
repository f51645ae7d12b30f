//! Rendered manifests are whatever a chart's author wrote: finding images in them, moving them and
//! looking for what phones home ends, and never panics.
#![no_main]

use gantry_chart::phone_home::PhoneHomeRules;
use gantry_chart::relocate::RelocationTarget;
use gantry_chart::{OperatorRules, find, inspect, post_render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &str| {
    let findings = find::find_images(stream);
    for found in &findings.images {
        assert!(!found.explain().is_empty());
    }
    let prefix = "site.internal:5000/ai".parse();
    if let Ok(prefix) = prefix {
        let naming = types::naming::NamingRule::HostPath;
        let _ = post_render::post_render(stream, &RelocationTarget { prefix, naming, pull_secret: None });
    }
    let inspection = inspect::inspect_stream(stream, OperatorRules::builtin());
    let _ = PhoneHomeRules::builtin().find_phone_home(&inspection, &|_| false);
});
