//! What `gantry.yaml` asked for when a lock was made, and how that differs from what it asks for now.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One entry of `gantry.yaml`, as the lock remembers it. Comments, order and layout of the file are
/// no part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedRequest {
    /// What people call it: `image docker.io/library/nginx:1.25`, `release shop`.
    pub entry: String,
    /// The first 16 hex digits of the sha256 of the entry in its normal form.
    pub digest: String,
    /// For a chart: the same of the contents of its values files, and of a local chart itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
}

impl Serialize for LockedRequest {
    /// On one line, so that a diff shows one entry per line.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct RequestFields<'a> {
            entry: &'a str,
            digest: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            files: Option<&'a str>,
        }
        let Self { entry, digest, files } = self;
        serde_saphyr::FlowMap(RequestFields { entry, digest, files: files.as_deref() })
            .serialize(serializer)
    }
}

/// How an entry of `gantry.yaml` differs from what was locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputChange {
    /// It was not there.
    Added(String),
    /// It is no longer there.
    Removed(String),
    /// It is written otherwise.
    Changed(String),
    /// It is written the same, but a values file or the local chart has other content.
    FilesChanged(String),
}

impl fmt::Display for InputChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(entry) => write!(f, "added {entry}"),
            Self::Removed(entry) => write!(f, "removed {entry}"),
            Self::Changed(entry) => write!(f, "changed {entry}"),
            Self::FilesChanged(entry) => write!(f, "changed files of {entry}"),
        }
    }
}

impl InputChange {
    /// Compares what was locked with what is requested now, sorted by entry.
    pub fn list(locked: &[LockedRequest], requested: &[LockedRequest]) -> Vec<Self> {
        let by_entry = |all: &[LockedRequest]| -> BTreeMap<String, Vec<LockedRequest>> {
            let mut map = BTreeMap::<String, Vec<LockedRequest>>::new();
            for request in all {
                map.entry(request.entry.clone()).or_default().push(request.clone());
            }
            // Two entries may have one name; their order in the file does not matter.
            for entries in map.values_mut() {
                entries.sort();
            }
            map
        };
        let (before, now) = (by_entry(locked), by_entry(requested));
        let mut changes: Vec<(&String, Self)> = Vec::new();
        for (entry, requests) in &now {
            let digests = |all: &[LockedRequest]| -> Vec<String> {
                all.iter().map(|request| request.digest.clone()).collect()
            };
            match before.get(entry) {
                None => changes.push((entry, Self::Added(entry.clone()))),
                Some(locked) if digests(locked) != digests(requests) => {
                    changes.push((entry, Self::Changed(entry.clone())));
                }
                Some(locked) if locked != requests => {
                    changes.push((entry, Self::FilesChanged(entry.clone())));
                }
                Some(_) => {}
            }
        }
        let removed = before.keys().filter(|entry| !now.contains_key(*entry));
        changes.extend(removed.map(|entry| (entry, Self::Removed(entry.clone()))));
        changes.sort_by(|a, b| a.0.cmp(b.0));
        changes.into_iter().map(|(_, change)| change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(entry: &str, digest: &str, files: Option<&str>) -> LockedRequest {
        let files = files.map(str::to_owned);
        LockedRequest { entry: entry.into(), digest: digest.into(), files }
    }

    #[test]
    fn each_kind_of_change_is_named() {
        let before = [
            request("image a", "1", None),
            request("image b", "1", None),
            request("release c", "1", Some("1")),
            request("release d", "1", Some("1")),
        ];
        let now = [
            request("release d", "1", Some("1")),
            request("release c", "1", Some("2")),
            request("image b", "2", None),
            request("model e", "1", None),
        ];
        let changes: Vec<String> =
            InputChange::list(&before, &now).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            ["removed image a", "changed image b", "added model e", "changed files of release c"]
        );
        assert_eq!(InputChange::list(&now, &now), []);
    }
}
