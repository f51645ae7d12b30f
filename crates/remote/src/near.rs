//! Names that are near a name that is not there, for messages.

/// How alike two names must be, by Jaro and Winkler; a swapped letter in a short name has 0.8.
const ALIKE: f64 = 0.75;
/// More names help nobody.
const MOST: usize = 5;

/// The nearest names, nearest first.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(f64, &str)> = known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, candidate)| *likeness >= ALIKE || candidate.contains(name))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(MOST).map(|(_, candidate)| candidate.to_owned()).collect()
}
