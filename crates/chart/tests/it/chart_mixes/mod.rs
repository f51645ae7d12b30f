//! Relocates generated charts in which several ways to name images meet, rendered by a real helm:
//! each image that a value reaches is moved, and each other one is reported with a true reason. What
//! a chart may run is known from how it was generated, and what still points outside is found in the
//! render by plain text search.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod mechanism;

use std::collections::BTreeSet;

use base64::Engine as _;
use gantry_chart::relocate::{
    ProofVerdict, Relocation, RelocationOptions, RelocationTarget, relocate,
};
use mechanism::{ChartPiece, ImageFate, Mechanism};
use serde_json::{Value, json};
use types::naming::NamingRule;

use crate::post_render_law::choices::{Choices, derive_bytes};
use crate::support::Written;

const SITE: &str = "site.internal:5000/ai";
/// The image of pods whose own one is not the point.
const BASE: &str = "quay.io/base/pause:1";

/// A generated chart.
struct ChartMix {
    pieces: Vec<ChartPiece>,
    chart: Written,
    pull_secret: Option<String>,
}

impl ChartMix {
    /// Picks a chart of at least five pieces.
    fn pick(choices: &mut Choices) -> Self {
        let count = 5 + choices.pick_number(6);
        let pieces: Vec<ChartPiece> =
            (0..count).map(|number| ChartPiece::pick(choices, number)).collect();
        let mut values = json!({"global": {"imageRegistry": ""}, "base": BASE});
        if choices.is_one_in(2) {
            values["global"]["imagePullSecrets"] = json!([]);
        }
        let mut dependencies = Vec::new();
        let mut files = Vec::new();
        for piece in &pieces {
            values[&piece.key] = piece.values();
            files.extend(piece.files());
            if matches!(piece.mechanism, Mechanism::Subchart | Mechanism::DisabledSubchart) {
                let (name, condition) = (&piece.key, format!("{}.enabled", piece.key));
                dependencies
                    .push(json!({"name": name, "version": "1.0.0", "condition": condition}));
            }
        }
        let head = json!({"apiVersion": "v2", "name": "mix", "version": "1.0.0", "appVersion": "9", "dependencies": dependencies});
        files.push(("Chart.yaml".to_owned(), head.to_string()));
        files.push(("values.yaml".to_owned(), values.to_string()));
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let pull_secret = choices.is_one_in(2).then(|| "regcred".to_owned());
        Self { chart: Written::new(&files), pieces, pull_secret }
    }

    fn relocate(&self) -> Relocation {
        let target = RelocationTarget {
            prefix: SITE.parse().unwrap(),
            naming: NamingRule::Path,
            pull_secret: self.pull_secret.clone(),
        };
        let render = |overlay: Option<&str>| self.chart.render(overlay);
        relocate(&self.chart.chart(), &json!({}), &target, &RelocationOptions::default(), &render)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The stream, and behind it what the data of its Secrets says.
fn open_secrets(stream: &str) -> String {
    let words = stream.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c));
    let decode = |word: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(word).ok()?;
        String::from_utf8(bytes).ok()
    };
    let opened: Vec<String> = words.filter(|word| word.len() >= 16).filter_map(decode).collect();
    format!("{stream}\n{}", opened.join("\n"))
}

/// The words of a render that have a path and point outside the site.
fn words_outside(stream: &str, path: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "./-_:@".contains(c);
    stream
        .split(|c: char| !is_part(c))
        .filter(|word| word.contains(path) && !word.starts_with(SITE))
        // A repository without its registry, as values have it, and a key.
        .filter(|word| !word.starts_with(path))
        .map(str::to_owned)
        .collect()
}

/// Says what is wrong with the result for one chart; `None` if nothing is.
fn find_fault(mix: &ChartMix) -> Option<String> {
    let relocation = mix.relocate();
    let proof = &relocation.proof;
    if proof.verdict() == ProofVerdict::Refuted {
        return Some(format!("refuted: {:?} {:?}", proof.changes, proof.foreign));
    }
    let after = open_secrets(&mix.chart.render(Some(&relocation.overlay)).unwrap());
    let reasons: Vec<(String, &str)> = proof
        .stayed
        .iter()
        .zip(&relocation.reasons)
        .map(|(stayed, reason)| (stayed.from.name(), reason.as_str()))
        .collect();
    let mut reported: BTreeSet<String> = reasons.iter().map(|(name, _)| name.clone()).collect();
    reported.extend(proof.registries.iter().map(|registry| registry.text.clone()));
    for piece in &mix.pieces {
        let name = piece.name();
        let outside = words_outside(&after, &piece.path);
        let reason = reasons.iter().find(|(own, _)| *own == name).map(|(_, reason)| *reason);
        // Whatever is reported is really there, and whatever is there is reported.
        if reported.contains(&name) == outside.is_empty() {
            return Some(format!("{piece:?}: reported {reason:?}, outside {outside:?}"));
        }
        let is_lawful = match piece.fate() {
            ImageFate::Moved => outside.is_empty(),
            ImageFate::MovedButMentioned => {
                outside.len() == 1 && reason.is_some_and(|reason| reason.contains("mentions"))
            }
            ImageFate::LeftOver(words) => reason.is_some_and(|reason| reason.contains(words)),
            ImageFate::CompiledIn => {
                let agent = "docker.io/victoriametrics/vmagent";
                proof.compiled_in.iter().any(|image| image.image.name() == agent)
            }
            ImageFate::LoneRegistry => proof.registries.iter().any(|own| own.text == name),
        };
        if !is_lawful {
            return Some(format!("{piece:?}: {reason:?}, outside {outside:?}"));
        }
        if let (Some(fault), Some(reason)) = (refute_reason(mix, &relocation, reason), reason) {
            return Some(format!("{piece:?}: {reason:?} is not true: {fault}"));
        }
    }
    let base: Vec<String> = words_outside(&after, "base/pause");
    (!base.is_empty()).then(|| format!("outside: {base:?}"))
}

/// Tries by hand what a reason says of a value: with that value set, the image must not be moved with
/// nothing else changed. `None` if the reason names no value, or is true.
fn refute_reason(mix: &ChartMix, relocation: &Relocation, reason: Option<&str>) -> Option<String> {
    let path = reason?.strip_prefix("setting ")?.split(' ').next()?;
    let keys: Vec<&str> = path.split('.').collect();
    let overlay: Value = match relocation.overlay.trim() {
        "" => json!({}),
        text => gantry_chart::values::read_values("overlay", text).unwrap(),
    };
    let mut own = overlay;
    let mut at = &mut own;
    for key in &keys {
        at = &mut at[*key];
    }
    let piece = mix.pieces.iter().find(|piece| piece.key == keys[0])?;
    *at = json!(format!("{SITE}/{}:0", piece.path));
    let with = mix.chart.render(Some(&own.to_string())).unwrap();
    let without = mix.chart.render(Some(&relocation.overlay)).unwrap();
    let differing = without
        .lines()
        .zip(with.lines())
        .filter(|(old, new)| old != new && !new.contains(SITE) && !new.contains("checksum"));
    let is_same_length = without.lines().count() == with.lines().count();
    (is_same_length && differing.count() == 0)
        .then(|| format!("setting {path} changes nothing but the image"))
}

#[test]
fn any_mix_of_mechanisms_is_moved_or_reported_truly() {
    let read = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (runs, seed) = (read("GANTRY_MIX_RUNS", 12), read("GANTRY_MIX_SEED", 1));
    let mut faults = Vec::new();
    for number in 0..runs {
        let mix = ChartMix::pick(&mut Choices::new(&derive_bytes(seed, number)));
        if let Some(fault) = find_fault(&mix) {
            let mechanisms: Vec<Mechanism> =
                mix.pieces.iter().map(|piece| piece.mechanism).collect();
            faults.push(format!("seed {seed}, chart {number} {mechanisms:?}: {fault}"));
        }
    }
    println!("{runs} charts of seed {seed}, {} with a fault", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}
