//! Rendered manifests are whatever a chart's author wrote: finding images in them, moving them and
//! looking for what phones home ends, and never panics.
#![no_main]

use chart::phone_home::Switches;
use chart::relocate::Target;
use chart::{Rules, find, inspect, post_render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &str| {
    let findings = find::images(stream);
    for found in &findings.images {
        assert!(!found.explain().is_empty());
    }
    let prefix = "site.internal:5000/ai".parse();
    if let Ok(prefix) = prefix {
        let naming = types::naming::Naming::HostPath;
        let _ = post_render::post_render(stream, &Target { prefix, naming, pull_secret: None });
    }
    let inspection = inspect::stream(stream, Rules::builtin());
    let _ = Switches::builtin().find(&inspection, &|_| false);
});
