//! What a seeder pod is told to do, and what it tells of it: both JSON, both in the version of one
//! Gantry, since the pod runs the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::Digest;
use types::site::ModelLayout;

use crate::models::{Checked, Plan, Put, Record};

/// Where a seeder pod has the volume.
pub const MOUNT: &str = "/models";

/// What a pod is to do with its volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Order {
    /// The folder below [`MOUNT`].
    pub folder: String,
    /// What is to be done there.
    pub task: Task,
}

/// What is to be done with a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Task {
    /// Put models there.
    #[serde(rename_all = "camelCase")]
    Put {
        /// What goes where.
        plans: Vec<Plan>,
        /// The layout of the plans.
        layout: ModelLayout,
        /// Revisions of each model that are kept; all when absent.
        #[serde(default)]
        keep: Option<usize>,
        /// A registry that the pod asks first.
        #[serde(default)]
        registry: Option<From>,
        /// Whether bytes may come over the API server.
        over_api: bool,
    },
    /// Read every file that was put and compare its digest.
    Verify,
    /// Tell what was put.
    List,
}

/// A registry (the site's, or a depot's door) that has the models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct From {
    /// Its host and port, under which the pull secret has its credential.
    pub host: String,
    /// `http://…` or `https://…`: where it is asked.
    pub url: String,
    /// The authority that signed its certificate, PEM.
    #[serde(default)]
    pub ca: Option<String>,
    /// The repository that has each blob.
    pub repositories: BTreeMap<Digest, String>,
}

/// What a pod tells, a line of JSON on its stderr each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// Another process works on the volume from this pod; nothing was done.
    Busy,
    /// The volume is this process's now.
    Began,
    /// Bytes that are to come, beside those told before.
    Expect {
        /// How many.
        bytes: u64,
    },
    /// Bytes that came, and that were there, since the last time.
    Progress {
        /// Written.
        moved: u64,
        /// Found.
        skipped: u64,
    },
    /// A model is whole.
    Done {
        /// Its name.
        name: String,
    },
    /// What a person should know.
    Note {
        /// In words.
        message: String,
    },
    /// What became of each model, in the order of the plans.
    Put {
        /// One for each plan.
        puts: Vec<Put>,
        /// Which way the bytes came.
        via: Way,
        /// Older revisions that were taken away.
        collected: Vec<String>,
    },
    /// What a check found.
    Checked {
        /// The findings.
        checked: Checked,
    },
    /// What was put.
    Listed {
        /// One record a model.
        records: Vec<Record>,
    },
    /// It failed.
    Failed {
        /// What it means.
        fault: Fault,
        /// In words.
        message: String,
    },
}

/// Which way the bytes came to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Nothing had to come.
    None,
    /// From the registry or the depot.
    Registry,
    /// Over the API server.
    Api,
    /// Some this way, some that.
    Both,
}

/// What a failure in a pod means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The source's bytes are not those that were promised.
    Integrity,
    /// Nothing was touched; something has to be changed first.
    Input,
    /// It was tried; again goes on.
    Failed,
}

impl Order {
    /// Checks that nothing in it leads out of the volume: an order comes from outside of the pod.
    pub fn check(&self) -> Result<(), String> {
        inside(Path::new(&self.folder))?;
        let Task::Put { plans, .. } = &self.task else { return Ok(()) };
        for plan in plans {
            for path in plan.contents.keys() {
                inside(path)?;
            }
            for (path, _) in &plan.pointers {
                inside(path)?;
            }
            let Some(folder) = &plan.folder else { continue };
            inside(&folder.path)?;
            for path in folder.files.keys() {
                inside(path)?;
            }
            for (path, to) in &folder.links {
                inside(path)?;
                leads_inside(&folder.path.join(path), to)?;
            }
        }
        Ok(())
    }

    /// The digests of all that may be asked for.
    pub fn digests(&self) -> BTreeSet<Digest> {
        let Task::Put { plans, .. } = &self.task else { return BTreeSet::new() };
        plans.iter().flat_map(Plan::files).map(|(_, content)| content.digest).collect()
    }
}

fn inside(path: &Path) -> Result<(), String> {
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    Err(format!("the path {} leads out of the volume", path.display()))
}

fn leads_inside(link: &Path, to: &Path) -> Result<(), String> {
    let mut at = link.parent().map(PathBuf::from).unwrap_or_default();
    for part in to.components() {
        let is_inside = match part {
            Component::Normal(name) => {
                at.push(name);
                true
            }
            Component::ParentDir => at.pop(),
            _ => false,
        };
        if !is_inside {
            return Err(format!("the link {} leads out of the volume", link.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_of_an_order_leads_out_of_the_volume() {
        assert!(inside(Path::new("a/b")).is_ok());
        assert!(inside(Path::new("a/../b")).is_err());
        assert!(inside(Path::new("/a")).is_err());
        let link = Path::new("models--a/snapshots/c/x");
        assert!(leads_inside(link, Path::new("../../blobs/y")).is_ok());
        assert!(leads_inside(link, Path::new("../../../../y")).is_err());
        assert!(leads_inside(link, Path::new("/etc/passwd")).is_err());
    }

    #[test]
    fn events_are_lines_of_json() {
        let event = Event::Progress { moved: 1, skipped: 2 };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"event":"progress","moved":1,"skipped":2}"#);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
