//! Relocates generated charts with any mix of the schemes in which charts name images: each is
//! proven, and images that only the template names are leftovers. The templates are plain Rust
//! here, so that hundreds of charts can be rendered without helm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod scheme;

use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_chart::relocate::{
    ProofVerdict, Relocation, RelocationOptions, RelocationTarget, relocate,
};
use gantry_chart::{HelmChart, Result, find, values};
use proptest::prelude::*;
use scheme::{Alias, Image, image, made_up};
use serde_json::{Value, json};
use types::naming::NamingRule;

fn key(index: usize) -> String {
    format!("app{index}")
}

fn chart(images: &[Image]) -> HelmChart {
    let mut own = json!({"global": {"imageRegistry": ""}});
    let mut dependencies = Vec::new();
    let mut files = Vec::new();
    for (index, image) in images.iter().enumerate() {
        if image.scheme == Alias {
            let folder = format!("charts/sub{index}");
            dependencies.push(json!({"name": format!("sub{index}"), "alias": key(index)}));
            let head = format!("name: sub{index}\nversion: 1.0.0\n");
            files.push((format!("{folder}/Chart.yaml"), head));
            files.push((format!("{folder}/values.yaml"), image.values().to_string()));
        } else {
            own[key(index)] = image.values();
        }
        files.push((format!("templates/{index}.yaml"), image.template(&key(index))));
    }
    let head = json!({"name": "c", "version": "1.0.0", "dependencies": dependencies});
    files.push(("Chart.yaml".to_owned(), head.to_string()));
    files.push(("values.yaml".to_owned(), own.to_string()));
    HelmChart::read(files.into_iter().map(|(path, text)| (path, text.into_bytes()))).unwrap()
}

fn rendered(images: &[Image], chart: &HelmChart, overlay: Option<&str>) -> String {
    let over = values::read_values("overlay", overlay.unwrap_or_default()).unwrap();
    let all = chart.effective_values(&over);
    let global = all["global"]["imageRegistry"].as_str().unwrap_or_default();
    let documents = images.iter().enumerate();
    documents.map(|(index, image)| image.document(index, &all[key(index)], global)).collect()
}

/// Relocates a chart of these images. With `is_unsteady`, each render has another password.
fn moved(
    images: &[Image],
    naming: NamingRule,
    is_unsteady: bool,
) -> (HelmChart, Result<Relocation>) {
    let chart = chart(images);
    let count = AtomicUsize::new(0);
    let render = |overlay: Option<&str>| {
        let mut stream = rendered(images, &chart, overlay);
        if is_unsteady {
            stream += &made_up(count.fetch_add(1, Ordering::Relaxed));
        }
        Ok(stream)
    };
    let prefix = "site.internal:5000/ai".parse().unwrap();
    let target = RelocationTarget { prefix, naming, pull_secret: None };
    let relocation = relocate(
        &chart,
        &Value::Object(serde_json::Map::new()),
        &target,
        &RelocationOptions::default(),
        &render,
    );
    (chart, relocation)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_mix_of_schemes_is_moved_and_proven_or_named(
        images in prop::collection::vec(image(), 1..8),
        naming in prop::sample::select(vec![NamingRule::Path, NamingRule::HostPath, NamingRule::Name]),
        is_unsteady in any::<bool>(),
    ) {
        let (chart, relocation) = moved(&images, naming, is_unsteady);
        let relocation = match relocation {
            Ok(relocation) => relocation,
            // Two generated images may have one name at the site: an error before anything is done.
            Err(error) => {
                prop_assert!(error.to_string().contains("would both be pushed"), "{}", error);
                return Ok(());
            }
        };

        let out_of_reach = images.iter().filter(|image| image.is_out_of_reach()).count();
        prop_assert_eq!(
            relocation.proof.stayed.len(), out_of_reach, "{}{:?}", relocation.overlay, relocation.reasons
        );
        let verdict = if out_of_reach == 0 { ProofVerdict::Proven } else { ProofVerdict::Leftovers };
        prop_assert_eq!(relocation.proof.verdict(), verdict, "{:?}", relocation.proof);
        // Independent of the proof: the same images under other names, and none of the old ones.
        let before = rendered(&images, &chart, None);
        let after = rendered(&images, &chart, Some(&relocation.overlay));
        let versions = |stream: &str| -> Vec<String> {
            find::find_images(stream).images.iter().map(|found| found.reference.digest_or_tag()).collect()
        };
        prop_assert_eq!(versions(&before), versions(&after));
        for image in &images {
            let was = image.hosted();
            let is_left = after.match_indices(&was).any(|(at, _)| !after[..at].ends_with("ai/"));
            let is_out = images.iter().any(|other| other.is_out_of_reach() && other.hosted() == was);
            prop_assert!(!is_left || is_out, "{} is left in {}", was, after);
        }
    }

    #[test]
    fn an_overlay_has_no_line_too_many(
        images in prop::collection::vec(image(), 1..6),
    ) {
        let (chart, Ok(relocation)) = moved(&images, NamingRule::Path, false) else { return Ok(()) };

        // Without any one of its lines, something is not moved.
        let whole = values::read_values("overlay", &relocation.overlay).unwrap();
        let after = rendered(&images, &chart, Some(&relocation.overlay));
        for line in &relocation.lines {
            let mut less = whole.clone();
            let mut at = &mut less;
            for key in line.path.to_string().split('.') {
                // An item of a list cannot be left out alone.
                let Some(inner) = at.get_mut(key) else { return Ok(()) };
                at = inner;
            }
            *at = chart_value(&chart, &line.path.to_string());
            let rendered = rendered(&images, &chart, Some(&less.to_string()));
            prop_assert_ne!(&rendered, &after, "{} is idle in {}", line.path, relocation.overlay);
        }
    }
}

fn chart_value(chart: &HelmChart, path: &str) -> Value {
    let all = chart.effective_values(&json!({}));
    path.split('.').try_fold(&all, |value, key| value.get(key)).cloned().unwrap_or_default()
}
