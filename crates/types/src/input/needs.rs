//! Dependencies between charts (`needs:` of `gantry.yaml`), and the order in which `deploy` installs
//! the charts.

use super::content::{ChartSource, Input, InputChart};

impl InputChart {
    /// The name of the release, as far as the input alone says: a local chart without `release:` has
    /// its name in its Chart.yaml.
    pub fn known_release_name(&self) -> Option<&str> {
        if let Some(release) = &self.release {
            return Some(release);
        }
        match &self.source {
            ChartSource::Oci { repository } => repository.rsplit('/').next(),
            ChartSource::Repository { name, .. } => Some(name),
            ChartSource::Local(_) => None,
        }
    }
}

impl Input {
    /// The indices of the charts in the order of their installation: needed charts before those that
    /// need them, then charts for which `is_first` is true (they bring custom resource definitions
    /// that others may use), else as in the file.
    ///
    /// For charts 0 to 2, where 0 needs 2 and `is_first` holds for none: first 1 (needs nothing), then
    /// 2, then 0.
    pub fn install_order(&self, is_first: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.charts.len());
        let mut left: Vec<usize> = (0..self.charts.len()).collect();
        // A stable sort, so that the file's order stays in both halves.
        left.sort_by_key(|chart| !is_first(*chart));
        while !left.is_empty() {
            let is_free = |chart: &usize| {
                find_needed_charts(&self.charts, *chart).iter().all(|needed| order.contains(needed))
            };
            // An input that was parsed has no cycle; for one that was built in code, any order will do.
            let next = left.iter().position(is_free).unwrap_or_default();
            order.push(left.remove(next));
        }
        order
    }
}

/// Checks that every `needs:` names another release and that there is no cycle. The error has the
/// index of the chart and the reason.
pub(super) fn check_needs(charts: &[InputChart]) -> Result<(), (usize, String)> {
    for (number, chart) in charts.iter().enumerate() {
        for need in &chart.needs {
            match find_chart(charts, need) {
                None => {
                    let reason = format!(
                        "needs: there is no release {need:?}; set `release: {need}` on the chart that is meant"
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
    for number in 0..charts.len() {
        if let Some(circle) = find_cycle(charts, number, &mut vec![number]) {
            let names: Vec<&str> = circle
                .iter()
                .map(|chart| charts[*chart].known_release_name().unwrap_or("?"))
                .collect();
            let reason = format!("needs: the releases need each other: {}", names.join(" → "));
            return Err((number, reason));
        }
    }
    Ok(())
}

fn find_chart(charts: &[InputChart], need: &str) -> Option<usize> {
    charts.iter().position(|chart| chart.known_release_name() == Some(need))
}

fn find_needed_charts(charts: &[InputChart], chart: usize) -> Vec<usize> {
    charts[chart].needs.iter().filter_map(|need| find_chart(charts, need)).collect()
}

/// A path of needs from the first chart of `way` back to itself, by depth-first search: `way` is the
/// path from the first chart to `at`. For a → b → a it is `[a, b, a]`.
fn find_cycle(charts: &[InputChart], at: usize, way: &mut Vec<usize>) -> Option<Vec<usize>> {
    for next in find_needed_charts(charts, at) {
        if next == way[0] {
            way.push(next);
            return Some(way.clone());
        }
        // A chart on the path already is part of another cycle, which is found from its own start.
        if !way.contains(&next) {
            way.push(next);
            if let Some(found) = find_cycle(charts, next, way) {
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
