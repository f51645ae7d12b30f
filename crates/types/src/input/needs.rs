//! Dependencies between releases (`needs:` of `gantry.yaml`), and the order in which `deploy` installs
//! them.

use super::content::Input;
use super::releases::InputRelease;

impl Input {
    /// The indices of the releases ([`Input::releases`]) in the order of their installation: needed ones
    /// before those that need them, then those for which `is_first` is true (they bring custom
    /// resource definitions that others may use), else charts before manifests, as in the file.
    ///
    /// For releases 0 to 2, where 0 needs 2 and `is_first` holds for none: first 1 (needs nothing), then
    /// 2, then 0.
    pub fn install_order(&self, is_first: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let releases = self.releases();
        let mut order = Vec::with_capacity(releases.len());
        let mut left: Vec<usize> = (0..releases.len()).collect();
        // A stable sort, so that the file's order stays in both halves.
        left.sort_by_key(|release| !is_first(*release));
        while !left.is_empty() {
            let is_free = |release: &usize| {
                find_needed_releases(&releases, *release)
                    .iter()
                    .all(|needed| order.contains(needed))
            };
            // An input that was parsed has no cycle; for one that was built in code, any order will do.
            let next = left.iter().position(is_free).unwrap_or_default();
            order.push(left.remove(next));
        }
        order
    }
}

/// Checks that every `needs:` names another release and that there is no cycle. The error has the
/// index of the release and the reason.
pub(super) fn check_needs(releases: &[InputRelease<'_>]) -> Result<(), (usize, String)> {
    for (number, release) in releases.iter().enumerate() {
        for need in release.needs() {
            match find_release(releases, need) {
                None => {
                    let reason = format!(
                        "needs: there is no release {need:?}; set `release: {need}` on the chart or the manifests that are meant"
                    );
                    return Err((number, reason));
                }
                Some(other) if other == number => {
                    return Err((number, format!("needs: {need:?} is this release itself")));
                }
                Some(_) => {}
            }
        }
    }
    for number in 0..releases.len() {
        if let Some(circle) = find_cycle(releases, number, &mut vec![number]) {
            let names: Vec<&str> = circle
                .iter()
                .map(|release| releases[*release].known_name().unwrap_or("?"))
                .collect();
            let reason = format!("needs: the releases need each other: {}", names.join(" → "));
            return Err((number, reason));
        }
    }
    Ok(())
}

fn find_release(releases: &[InputRelease<'_>], need: &str) -> Option<usize> {
    releases.iter().position(|release| release.known_name() == Some(need))
}

fn find_needed_releases(releases: &[InputRelease<'_>], release: usize) -> Vec<usize> {
    let needs = releases[release].needs().iter();
    needs.filter_map(|need| find_release(releases, need)).collect()
}

/// A path of needs from the first release of `way` back to itself, by depth-first search: `way` is the
/// path from the first release to `at`. For a → b → a it is `[a, b, a]`.
fn find_cycle(
    releases: &[InputRelease<'_>],
    at: usize,
    way: &mut Vec<usize>,
) -> Option<Vec<usize>> {
    for next in find_needed_releases(releases, at) {
        if next == way[0] {
            way.push(next);
            return Some(way.clone());
        }
        // A release on the path already is part of another cycle, which is found from its own start.
        if !way.contains(&next) {
            way.push(next);
            if let Some(found) = find_cycle(releases, next, way) {
                return Some(found);
            }
            way.pop();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse_charts(charts: &str) -> crate::Result<Input> {
        Input::parse("f", &format!("version: 1\nname: a\ncharts:\n{charts}"))
    }

    #[test]
    fn what_is_needed_comes_first_and_the_rest_stays_as_it_stands() {
        let input = parse_charts(
            "- {chart: ./app, release: app, needs: [db, cache]}\n- {chart: ./web, release: web}\n\
             - {chart: ./operator, release: operator}\n- {chart: oci://x.example/charts/db}\n\
             - {chart: ./cache, release: cache, needs: [operator]}\n",
        )
        .unwrap();
        assert_eq!(input.install_order(&|_| false), [1, 2, 3, 4, 0]);
        assert_eq!(input.install_order(&|chart| chart == 2), [2, 1, 3, 4, 0]);
    }

    #[test]
    fn charts_and_manifests_may_need_each_other() {
        let input = parse_charts(
            "- {chart: ./app, release: app, needs: [crds]}\n- {chart: ./db, release: db}\n\
             manifests:\n- {release: web, from: ./w, needs: [db]}\n- {release: crds, from: ./c}\n",
        )
        .unwrap();
        assert_eq!(input.install_order(&|_| false), [1, 2, 3, 0]);
        assert_eq!(input.install_order(&|release| release == 3), [3, 0, 1, 2]);
        let names: Vec<_> = input.releases().iter().map(|one| one.known_name()).collect();
        assert_eq!(names, [Some("app"), Some("db"), Some("web"), Some("crds")]);
    }

    #[test]
    fn needs_that_cannot_be_met_are_named_with_their_line() {
        for (charts, expected) in [
            ("- {chart: ./a, release: a, needs: [b]}\n", "f:4:3: needs: there is no release \"b\""),
            ("- {chart: ./a, release: a, needs: [a]}\n", "is this release itself"),
            (
                "- {chart: ./x, release: x}\n- {chart: ./a, release: a, needs: [b]}\n\
                 - {chart: ./b, release: b, needs: [a]}\n",
                "f:5:3: needs: the releases need each other: a → b → a",
            ),
        ] {
            let error = parse_charts(charts).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
