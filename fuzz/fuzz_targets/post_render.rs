//! Any stream: the post-renderer changes nothing but names of images, and a second run changes
//! nothing more.
#![no_main]

use chart::find::find_images;
use chart::post_render::post_render;
use chart::relocate::RelocationTarget;
use libfuzzer_sys::fuzz_target;
use types::naming::NamingRule;

const SITE: &str = "site.internal:5000/ai";

fuzz_target!(|stream: &str| {
    let Ok(prefix) = SITE.parse() else { return };
    let target = RelocationTarget { prefix, naming: NamingRule::HostPath, pull_secret: None };
    let Ok(moved) = post_render(stream, &target) else { return };
    if find_images(stream).images.is_empty() {
        assert_eq!(moved.stream, stream, "nothing names an image");
    }
    // Only where the proof holds is the stream written.
    if moved.proof.changes.is_empty() && moved.proof.foreign.is_empty() {
        for (was, is) in stream.lines().zip(moved.stream.lines()) {
            assert!(was == is || is.contains(SITE) || is_base64(is), "{was:?} became {is:?}");
        }
        if let Ok(again) = post_render(&moved.stream, &target) {
            assert_eq!(again.stream, moved.stream, "once is enough");
        }
    }
});

/// Whether a line may be the data of a Secret, which is encoded anew.
fn is_base64(line: &str) -> bool {
    line.split([' ', ':', '"', '\'']).any(|word| {
        word.len() >= 8 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
    })
}
