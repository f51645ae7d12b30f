//! Which charts need which (`needs:`), and the order in which they are installed.

use super::{Chart, ChartSource, Input};

impl Chart {
    /// What the release is called, as far as the input alone tells: a local chart without `release:`
    /// has its name in its own files.
    pub fn called(&self) -> Option<&str> {
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
    /// The numbers of the charts in the order in which they are installed: what is needed comes first,
    /// then what `is_first` says (it brings kinds of objects that others may use), else as in the file.
    pub fn order(&self, is_first: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.charts.len());
        let mut left: Vec<usize> = (0..self.charts.len()).collect();
        // A stable sort, so that the file's order stays in both halves.
        left.sort_by_key(|chart| !is_first(*chart));
        while !left.is_empty() {
            let is_free = |chart: &usize| {
                needed(&self.charts, *chart).iter().all(|needed| order.contains(needed))
            };
            // A read input has no circle; the first one is taken where a made one has.
            let next = left.iter().position(is_free).unwrap_or_default();
            order.push(left.remove(next));
        }
        order
    }
}

/// What is wrong with the needs of a list of charts: the number of the chart and the reason.
pub(super) fn check(charts: &[Chart]) -> Result<(), (usize, String)> {
    for (number, chart) in charts.iter().enumerate() {
        for need in &chart.needs {
            match find(charts, need) {
                None => {
                    let reason = format!(
                        "needs: there is no release {need:?}; give the chart that is meant `release: {need}`"
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
        if let Some(circle) = circle(charts, number, &mut vec![number]) {
            let names: Vec<&str> =
                circle.iter().map(|chart| charts[*chart].called().unwrap_or("?")).collect();
            let reason = format!("needs: the releases need each other: {}", names.join(" → "));
            return Err((number, reason));
        }
    }
    Ok(())
}

fn find(charts: &[Chart], need: &str) -> Option<usize> {
    charts.iter().position(|chart| chart.called() == Some(need))
}

fn needed(charts: &[Chart], chart: usize) -> Vec<usize> {
    charts[chart].needs.iter().filter_map(|need| find(charts, need)).collect()
}

/// A way from the first chart of `way` back to it.
fn circle(charts: &[Chart], at: usize, way: &mut Vec<usize>) -> Option<Vec<usize>> {
    for next in needed(charts, at) {
        if next == way[0] {
            way.push(next);
            return Some(way.clone());
        }
        if !way.contains(&next) {
            way.push(next);
            if let Some(found) = circle(charts, next, way) {
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

    fn parse(charts: &str) -> crate::Result<Input> {
        Input::parse("f", &format!("version: 1\nname: a\ncharts:\n{charts}"))
    }

    #[test]
    fn what_is_needed_comes_first_and_the_rest_stays_as_it_stands() {
        let input = parse(
            "- {chart: ./app, release: app, needs: [db, cache]}\n- {chart: ./web, release: web}\n\
             - {chart: ./operator, release: operator}\n- {chart: oci://x.example/charts/db}\n\
             - {chart: ./cache, release: cache, needs: [operator]}\n",
        )
        .unwrap();
        assert_eq!(input.order(&|_| false), [1, 2, 3, 4, 0]);
        assert_eq!(input.order(&|chart| chart == 2), [2, 1, 3, 4, 0]);
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
            let error = parse(charts).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
