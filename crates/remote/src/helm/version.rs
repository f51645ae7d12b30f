//! Chooses the version of a chart as helm does (Masterminds/semver 3, constraints.go). Ranges are
//! `1.2.3`, `1.2.x`, `^1.2`, `~1.2`, `>=1 <2`, `1.2 - 1.4`, with `||` between alternatives. The crate
//! `semver` cannot be used for them: in Cargo's ranges `1.2.3` means `^1.2.3`.
//!
//! How much of a version was written changes what it means: `>1.2` excludes all of 1.2.x, while
//! `>1.2.0` includes 1.2.1. So a condition keeps its [`VersionPrecision`] beside the number.

use semver::{BuildMetadata, Prerelease, Version};
use std::cmp::Ordering;

use crate::{Error, Result};

/// Longest range (Masterminds/semver, `MaxConstraintLen`).
const MAX_LENGTH: usize = 512;

/// Chooses one of `candidates` (version, value): the one whose version is exactly `wanted`, or else
/// the newest that the range `wanted` accepts; without it the newest that is not a prerelease.
/// `chart` is the chart's name in errors. The error lists the versions that exist, newest first.
pub fn choose_version<'a, T>(
    chart: &str,
    candidates: impl IntoIterator<Item = (&'a str, T)>,
    wanted: Option<&str>,
) -> Result<T> {
    let range = VersionRange::parse(chart, wanted.unwrap_or("*"))?;
    let mut versions: Vec<(Version, &str, T)> = Vec::new();
    for (text, value) in candidates {
        // Before any parsing: an exact text may be a version that is not valid semver.
        if wanted == Some(text) {
            return Ok(value);
        }
        // Texts that are not versions (the tag `latest`) can only be chosen literally.
        if let Some(version) = parse_lenient_version(text) {
            versions.push((version, text, value));
        }
    }
    versions.sort_by(|a, b| b.0.cmp(&a.0));
    if let Some(found) = versions.iter().position(|(version, ..)| range.accepts(version)) {
        return Ok(versions.swap_remove(found).2);
    }
    let newest: Vec<String> = versions.into_iter().map(|(_, text, _)| text.to_owned()).collect();
    let wanted = wanted.unwrap_or("without a prerelease");
    Err(Error::not_found_among(format!("version {wanted} of chart {chart}"), &newest))
}

/// Parses a version as people write it in tags: `v1.2` means 1.2.0. `None` when it is not a
/// version.
pub fn parse_lenient_version(text: &str) -> Option<Version> {
    let text = text.trim();
    let text = text.strip_prefix('v').unwrap_or(text);
    if let Ok(version) = Version::parse(text) {
        return Some(version);
    }
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let filled = match core.split('.').count() {
        1 => format!("{core}.0.0{rest}"),
        2 => format!("{core}.0{rest}"),
        _ => return None,
    };
    Version::parse(&filled).ok()
}

/// A range: alternatives, each of which is a list of conditions that must all hold.
struct VersionRange(Vec<Vec<VersionCondition>>);

/// One comparison, such as `>=1.2`.
struct VersionCondition {
    operator: VersionOperator,
    bound: Version,
    precision: VersionPrecision,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum VersionOperator {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    Tilde,
    Caret,
}

/// How many numbers of a version were written: `*` none, `1.x` the major, `1.2` the minor, `1.2.3`
/// all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VersionPrecision {
    Any,
    Major,
    Minor,
    Full,
}

/// The signs of the operators. Longer ones come first, since `>=` begins with `>`.
const OPERATORS: &[(&str, VersionOperator)] = &[
    ("!=", VersionOperator::NotEqual),
    (">=", VersionOperator::GreaterOrEqual),
    ("=>", VersionOperator::GreaterOrEqual),
    ("<=", VersionOperator::LessOrEqual),
    ("=<", VersionOperator::LessOrEqual),
    ("~>", VersionOperator::Tilde),
    ("=", VersionOperator::Equal),
    (">", VersionOperator::Greater),
    ("<", VersionOperator::Less),
    ("~", VersionOperator::Tilde),
    ("^", VersionOperator::Caret),
];

impl VersionRange {
    fn parse(chart: &str, text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid_document(
                format!("version {text:?} of chart {chart}"),
                "it is not a version such as 1.2.3 nor a range such as ^1.2 or >=1 <2",
            )
        };
        if text.len() > MAX_LENGTH {
            return Err(bad());
        }
        let alternatives: Option<Vec<_>> = text.split("||").map(parse_conditions).collect();
        alternatives.map(Self).ok_or_else(bad)
    }

    fn accepts(&self, version: &Version) -> bool {
        self.0.iter().any(|conditions| {
            // Prereleases are accepted only by an alternative that mentions one (`>=1.0.0-0`).
            let names_one = conditions.iter().any(|condition| !condition.bound.pre.is_empty());
            (version.pre.is_empty() || names_one)
                && conditions.iter().all(|condition| condition.accepts(version))
        })
    }
}

/// Parses the conditions of one alternative, which are separated by blanks or commas.
fn parse_conditions(text: &str) -> Option<Vec<VersionCondition>> {
    let words: Vec<&str> = text.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Some(vec![parse_condition(VersionOperator::Equal, "*")?]);
    }
    let mut conditions = Vec::new();
    let mut at = 0;
    while at < words.len() {
        // `1.2 - 1.4`: both ends belong to the range.
        if words.get(at + 1) == Some(&"-") {
            conditions.push(parse_condition(VersionOperator::GreaterOrEqual, words[at])?);
            conditions.push(parse_condition(VersionOperator::LessOrEqual, words.get(at + 2)?)?);
            at += 3;
            continue;
        }
        let (operator, rest) = OPERATORS
            .iter()
            .find_map(|(sign, operator)| Some((*operator, words[at].strip_prefix(sign)?)))
            .unwrap_or((VersionOperator::Equal, words[at]));
        // A blank between the sign and the version is allowed (`>= 1.2`).
        let version = if rest.is_empty() {
            at += 1;
            words.get(at)?
        } else {
            rest
        };
        conditions.push(parse_condition(operator, version)?);
        at += 1;
    }
    Some(conditions)
}

/// Parses the version of one condition.
fn parse_condition(operator: VersionOperator, text: &str) -> Option<VersionCondition> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, build) = text.split_once('+').unwrap_or((text, ""));
    let (core, pre) = text.split_once('-').unwrap_or((text, ""));
    let mut numbers = [0; 3];
    let mut written = 0;
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() > numbers.len() {
        return None;
    }
    for part in parts {
        if matches!(part, "x" | "X" | "*") {
            break;
        }
        numbers[written] = part.parse().ok()?;
        written += 1;
    }
    let precision = [
        VersionPrecision::Any,
        VersionPrecision::Major,
        VersionPrecision::Minor,
        VersionPrecision::Full,
    ][written];
    let bound = Version {
        major: numbers[0],
        minor: numbers[1],
        patch: numbers[2],
        pre: Prerelease::new(pre).ok()?,
        build: BuildMetadata::new(build).ok()?,
    };
    Some(VersionCondition { operator, bound, precision })
}

impl VersionCondition {
    fn accepts(&self, version: &Version) -> bool {
        let order = version.cmp_precedence(&self.bound);
        match self.operator {
            VersionOperator::Equal if self.precision == VersionPrecision::Full => {
                order == Ordering::Equal
            }
            VersionOperator::Equal | VersionOperator::Tilde => {
                order != Ordering::Less && self.is_tilde_match(version)
            }
            VersionOperator::NotEqual => match self.precision {
                VersionPrecision::Full => order != Ordering::Equal,
                VersionPrecision::Any => false,
                VersionPrecision::Major | VersionPrecision::Minor => {
                    self.compare_prefix(version) != Ordering::Equal
                }
            },
            VersionOperator::Greater => match self.precision {
                VersionPrecision::Full | VersionPrecision::Any => order == Ordering::Greater,
                VersionPrecision::Major | VersionPrecision::Minor => {
                    self.compare_prefix(version) == Ordering::Greater
                }
            },
            VersionOperator::Less => order == Ordering::Less,
            VersionOperator::GreaterOrEqual => order != Ordering::Less,
            VersionOperator::LessOrEqual => match self.precision {
                VersionPrecision::Full => order != Ordering::Greater,
                VersionPrecision::Any => true,
                VersionPrecision::Major | VersionPrecision::Minor => {
                    self.compare_prefix(version) != Ordering::Greater
                }
            },
            VersionOperator::Caret => order != Ordering::Less && self.is_caret_match(version),
        }
    }

    /// `~1.2.3`, `~1.2`: the same minor version. `~1`: the same major version.
    fn is_tilde_match(&self, version: &Version) -> bool {
        match self.precision {
            VersionPrecision::Any => true,
            VersionPrecision::Major => version.major == self.bound.major,
            VersionPrecision::Minor | VersionPrecision::Full => {
                (version.major, version.minor) == (self.bound.major, self.bound.minor)
            }
        }
    }

    /// `^1.2.3`: the leftmost number that is not zero must be the same. `^0.2.3` accepts 0.2.9 but
    /// not 0.3.0; `^0.0.3` accepts only 0.0.3.
    fn is_caret_match(&self, version: &Version) -> bool {
        let bound = &self.bound;
        match self.precision {
            VersionPrecision::Any => true,
            _ if version.major != bound.major => false,
            VersionPrecision::Major => true,
            _ if bound.major > 0 => true,
            VersionPrecision::Minor => version.minor == bound.minor,
            VersionPrecision::Full if bound.minor > 0 => version.minor == bound.minor,
            VersionPrecision::Full => version.minor == 0 && version.patch == bound.patch,
        }
    }

    /// Compares only the numbers that were written: 1.2.9 and `1.2` are equal.
    fn compare_prefix(&self, version: &Version) -> Ordering {
        match self.precision {
            VersionPrecision::Major => version.major.cmp(&self.bound.major),
            _ => (version.major, version.minor).cmp(&(self.bound.major, self.bound.minor)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn choose_newest(wanted: Option<&str>, versions: &[&'static str]) -> Option<&'static str> {
        choose_version("c", versions.iter().map(|version| (*version, *version)), wanted).ok()
    }

    #[test]
    fn ranges_take_what_helm_takes() {
        // Rows of Masterminds/semver 3.4, constraints_test.go, and of `helm pull --version`.
        for (range, version, expected) in [
            ("1.2.3", "1.2.3", true),
            ("1.2.3", "1.2.4", false),
            ("=2.0", "2.0.7", true),
            ("4.1", "4.1.9", true),
            ("4.1", "4.2.0", false),
            ("1.x", "1.9.0", true),
            ("*", "3.0.0", true),
            ("*", "3.0.0-beta", false),
            (">0", "0.1.0", false),
            (">0", "1.1.0", true),
            (">11", "11.1.0", false),
            (">11.1", "11.2.1", true),
            (">= 1.1", "1.1.0", true),
            ("<2", "1.9.9", true),
            ("<=11.1", "11.1.5", true),
            ("<=11.1", "11.2.0", false),
            ("!=4.1", "4.1.3", false),
            ("!=4.x", "5.1.0", true),
            ("^1.2", "1.9.0", true),
            ("^1.2", "2.0.0", false),
            ("^0.2.3", "0.2.9", true),
            ("^0.2.3", "0.3.0", false),
            ("^0.0.3", "0.0.4", false),
            ("^0", "0.9.0", true),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
            ("~1", "1.9.0", true),
            ("~>1.2", "1.2.5", true),
            (">=1 <2", "1.5.0", true),
            (">=1, <2", "2.0.0", false),
            ("1.2 - 1.4", "1.4.7", true),
            ("1.2 - 1.4", "1.5.0", false),
            ("^1 || ^3", "3.2.0", true),
            (">=1.0.0-0", "1.1.0-beta", true),
            ("v1.2.3", "1.2.3", true),
        ] {
            let range_of = VersionRange::parse("c", range).unwrap();
            assert_eq!(
                range_of.accepts(&parse_lenient_version(version).unwrap()),
                expected,
                "{range} {version}"
            );
        }
    }

    #[test]
    fn the_newest_is_taken_and_prereleases_only_when_named() {
        let versions = ["1.0.0", "1.10.0", "1.9.0", "2.0.0-rc.1", "not a version"];
        assert_eq!(choose_newest(None, &versions), Some("1.10.0"));
        assert_eq!(choose_newest(Some("^1"), &versions), Some("1.10.0"));
        assert_eq!(choose_newest(Some("2.0.0-rc.1"), &versions), Some("2.0.0-rc.1"));
        assert_eq!(choose_newest(Some(">=2.0.0-0"), &versions), Some("2.0.0-rc.1"));
        assert_eq!(choose_newest(Some("^3"), &versions), None);
    }

    #[test]
    fn what_is_no_range_is_said() {
        let error = choose_version("c", [("1.0.0", ())], Some("latest")).unwrap_err().to_string();
        assert!(error.contains("latest") && error.contains("range"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_range_or_an_error(text in "[0-9xX*.^~<>=!| ,v+a-c-]{0,40}") {
            let _ = choose_newest(Some(&text), &["1.2.3", "0.0.1-a"]);
        }
    }
}
