//! Tries to refute that an image stays: sets every value of the chart by hand and looks whether the
//! image moves, or whether a value is a part of it that no value is said to reach.

use std::collections::BTreeSet;

use chart::find::{ImageScan, ManifestLocation, find_images};
use chart::relocate::ForeignReference;
use chart::report::ImageLeftover;
use regex::Regex;
use serde_json::Value;
use types::Reference;
use types::naming::RegistryPrefix;

use super::set_by_hand::{ChartByHand, ValuePath, format_path};

/// A text that no chart has, and that is a registry, a repository and an image alike.
const PROBE: &str = "probe.invalid/probe";
/// Values that may make up one image together; more are not tried in pairs.
const MOST_IN_PAIRS: usize = 4;

/// What the search for a value that moves a leftover showed.
#[derive(Debug, Default)]
pub(super) struct ReasonCheck {
    /// How many leftovers were looked at.
    pub(super) checked: usize,
    /// The leftovers whose reason is not true.
    pub(super) refuted: Vec<String>,
}

/// Where an image is, whatever the names of objects are.
type LeftoverPlace = (Option<String>, String, String);

/// Checks the reasons of leftovers.
pub(super) fn check_reasons(
    hand: &ChartByHand,
    leftovers: &[ImageLeftover],
    site: &RegistryPrefix,
) -> Result<ReasonCheck, String> {
    let site = &site.to_string();
    let mut check = ReasonCheck::default();
    if leftovers.is_empty() {
        return Ok(check);
    }
    let plain = hand.render(&[]).ok_or("the chart does not render with its overlay")?;
    let again = hand.render(&[]).ok_or("the chart does not render with its overlay")?;
    let base = find_images(&plain);
    let known = |leftover: &ImageLeftover| count_leftover(&base, leftover);
    let shows = |stream: &str| {
        let now = find_images(stream);
        !now.unread.is_empty() || leftovers.iter().any(|l| count_leftover(&now, l) < known(l))
    };
    let paths: Vec<&ValuePath> = hand.paths().iter().collect();
    let reached = hand.find_values(&paths, &Value::from(PROBE), &shows);
    let lines = Lines::new(&plain, &again, site)?;
    for leftover in leftovers {
        check.checked += 1;
        let own: Vec<&(&ValuePath, String)> = reached
            .iter()
            .filter(|(_, stream)| is_part_of(&find_images(stream), leftover))
            .collect();
        let moves = |set: &[(&ValuePath, String)]| {
            let values: Vec<(&ValuePath, Value)> =
                set.iter().map(|(path, text)| (*path, Value::from(text.as_str()))).collect();
            let stream = hand.render(&values)?;
            let now = find_images(&stream);
            let is_moved = count_leftover(&now, leftover) < known(leftover)
                && count_image(&now, &leftover.place, &leftover.to)
                    > count_image(&base, &leftover.place, &leftover.to);
            is_moved.then(|| {
                let lost =
                    lost_image(&base, &now, leftover).map(|image| format!("{image} is lost"));
                lost.or_else(|| lines.find_other_change(&stream, &leftover.image))
            })
        };
        let ways = list_ways(hand, &own, leftover, site);
        let found = ways.iter().find_map(|set| Some((set, moves(set)?)));
        let named = |set: &[(&ValuePath, String)]| {
            let set = set.iter().map(|(path, text)| format!("{}={text}", format_path(path)));
            set.collect::<Vec<_>>().join(", ")
        };
        let said = &leftover.reason;
        let refuted = match found {
            Some((set, None)) => Some(format!("{} moves it", named(set))),
            Some((set, Some(change))) if said.contains("none of the") => {
                Some(format!("{} moves it, and changes {change:?} too", named(set)))
            }
            _ if said.contains("none of the") => {
                own.first().map(|(path, _)| format!("{} appears in it", format_path(path)))
            }
            _ => None,
        };
        if let Some(refuted) = refuted {
            check.refuted.push(format!("{}: {said:?}, but {refuted}", leftover.image));
        }
    }
    Ok(check)
}

/// Checks that no value moves the registries that stay outside: each value with such a registry in it
/// gets the one that the site has.
pub(super) fn check_registries(
    hand: &ChartByHand,
    registries: &[ForeignReference],
    site: &RegistryPrefix,
) -> Result<ReasonCheck, String> {
    let mut check = ReasonCheck::default();
    if registries.is_empty() {
        return Ok(check);
    }
    let plain = hand.render(&[]).ok_or("the chart does not render with its overlay")?;
    for ForeignReference { text, .. } in registries {
        check.checked += 1;
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let at_site = [site.to_string().as_str(), path].join("/");
        let known = plain.matches(text.as_str()).count();
        let own = hand.paths().iter().filter(|path| hand.text(path).contains(host));
        let moves = |path: &&ValuePath| {
            let new = hand.text(path).replace(text.as_str(), at_site.trim_end_matches('/'));
            let stream = hand.render(&[(*path, Value::from(new))]);
            stream.is_some_and(|stream: String| stream.matches(text.as_str()).count() < known)
        };
        if let Some(path) = own.into_iter().find(moves) {
            check.refuted.push(format!("registry {text}: {} sets it", format_path(path)));
        }
    }
    Ok(check)
}

/// What to try: each value that is a part of the image with each text that it may need, and pairs.
fn list_ways<'p>(
    hand: &ChartByHand,
    reached: &[&(&'p ValuePath, String)],
    leftover: &ImageLeftover,
    site: &str,
) -> Vec<Vec<(&'p ValuePath, String)>> {
    let (from, to) = (&leftover.image, &leftover.to);
    let version = from.digest_or_tag();
    let whole = to.to_string();
    let name = whole.strip_suffix(version.as_str()).unwrap_or(&whole).trim_end_matches([':', '@']);
    let short = |text: &str| text.strip_prefix("docker.io/").unwrap_or(text).to_owned();
    let texts = |path: &ValuePath| -> BTreeSet<String> {
        let own = hand.text(path);
        let mut texts: BTreeSet<String> = [
            whole.clone(),
            name.to_owned(),
            site.to_owned(),
            format!("{site}/"),
            to.registry().to_owned(),
            to.repository().to_owned(),
            from.repository().to_owned(),
            format!("{site}/library"),
        ]
        .into();
        // The image inside a longer text.
        let from = from.to_string();
        for old in [from.clone(), short(&from), short(&from).replace("library/", "")] {
            if own.contains(&old) {
                texts.insert(own.replace(&old, &whole));
            }
        }
        texts
    };
    let mut ways: Vec<Vec<(&ValuePath, String)>> = Vec::new();
    for (path, _) in reached {
        ways.extend(texts(path).into_iter().map(|text| vec![(*path, text)]));
    }
    if (2..=MOST_IN_PAIRS).contains(&reached.len()) {
        for (one, _) in reached {
            for (other, _) in reached.iter().filter(|(other, _)| other != one) {
                for text in [site, to.registry()] {
                    for rest in [from.repository(), to.repository()] {
                        ways.push(vec![(*one, text.to_owned()), (*other, rest.to_owned())]);
                    }
                }
            }
        }
    }
    ways
}

fn locate_image(location: &ManifestLocation) -> LeftoverPlace {
    (location.template.clone(), location.kind.clone(), location.path.to_string())
}

/// How often a scan has an image at a place.
fn count_image(scan: &ImageScan, place: &ManifestLocation, image: &Reference) -> usize {
    let place = locate_image(place);
    let own = scan.images.iter().filter(|found| found.reference == *image);
    // An image that an operator has compiled in has the place of its object only.
    own.filter(|found| {
        let (template, kind, path) = locate_image(&found.place);
        (template, kind) == (place.0.clone(), place.1.clone())
            && (place.2.is_empty() || path == place.2)
    })
    .count()
}

/// An image of the first scan that the second does not have.
fn lost_image(base: &ImageScan, now: &ImageScan, leftover: &ImageLeftover) -> Option<String> {
    let now: BTreeSet<String> =
        now.images.iter().map(|found| found.reference.to_string()).collect();
    let all = base.images.iter().filter(|found| found.reference != leftover.image);
    all.map(|found| found.reference.to_string()).find(|image| !now.contains(image))
}

fn count_leftover(scan: &ImageScan, leftover: &ImageLeftover) -> usize {
    count_image(scan, &leftover.place, &leftover.image)
}

/// Whether the text of the probe is a part of the image at a leftover's place.
fn is_part_of(scan: &ImageScan, leftover: &ImageLeftover) -> bool {
    let place = locate_image(&leftover.place);
    let is_there = |location: &ManifestLocation| {
        let (template, kind, path) = locate_image(location);
        (template, kind) == (place.0.clone(), place.1.clone())
            && (place.2.is_empty() || path == place.2)
    };
    let has_probe = |text: &str| text.contains("probe.invalid");
    scan.images.iter().any(|f| is_there(&f.place) && has_probe(&f.reference.to_string()))
        || scan.broken.iter().any(|b| is_there(&b.place) && has_probe(&b.text))
}

/// The lines of a render, to see whether anything else than images changed.
struct Lines {
    known: BTreeSet<String>,
    /// Those that both renders have.
    steady: BTreeSet<String>,
    site: String,
    hash: Regex,
}

impl Lines {
    /// The lines of two renders with the same values: what differs between them is no change.
    fn new(one: &str, other: &str, site: &str) -> Result<Self, String> {
        let hash = Regex::new("[0-9a-f]{8,}").map_err(|error| error.to_string())?;
        let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
        let (one, other) = (lines(one), lines(other));
        let steady = one.intersection(&other).cloned().collect();
        Ok(Self { known: &one | &other, steady, site: site.to_owned(), hash })
    }

    /// A line of another render that is new or gone and names neither this image nor a hash. Lines
    /// with a password that each render makes anew are taken for hashes.
    fn find_other_change(&self, stream: &str, image: &Reference) -> Option<String> {
        let registry = self.site.split('/').next().unwrap_or_default();
        let name = image.repository().rsplit('/').next().unwrap_or_default();
        let is_other = |line: &&str| {
            !line.trim().is_empty()
                && !line.contains(registry)
                && !line.contains(name)
                && !self.hash.is_match(line)
        };
        let now: BTreeSet<&str> = stream.lines().collect();
        let new = now.iter().copied().filter(|line| !self.known.contains(*line));
        let gone = self.steady.iter().map(String::as_str).filter(|line| !now.contains(line));
        new.chain(gone).find(is_other).map(|line| line.trim().chars().take(80).collect())
    }
}
