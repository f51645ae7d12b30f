//! Suggestions for error messages: known names that look like a name that was not found.

/// Least Jaro-Winkler similarity of a suggestion; one wrong letter in a short name (`wep` for
/// `web`) gives about 0.8.
const ALIKE: f64 = 0.75;
/// At most so many suggestions: a longer list does not help a reader to see the typo.
const MOST: usize = 5;

/// The known names that look like `name`, the most similar one first. Empty when none does.
pub fn find_similar_names<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut near: Vec<(f64, &str)> = known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        // A name that contains the wanted one is a good guess although the scores differ much
        // (`redis` and `bitnami-redis-cluster`).
        .filter(|(likeness, candidate)| *likeness >= ALIKE || candidate.contains(name))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(MOST).map(|(_, candidate)| candidate.to_owned()).collect()
}
