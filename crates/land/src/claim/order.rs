//! The order that a seeder pod gets, and the events that it sends back. Both are JSON and need no
//! versions of their own: the pod runs the image of the Gantry that started it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::Digest;
use types::node_folder::NodeFolder;
use types::site::ModelLayout;

use super::transfer_route::TransferRoute;
use crate::models::{ModelPlan, ModelPutOutcome, ModelRecord, ModelVerifyReport};

/// Where a seeder pod has the volume mounted.
pub const MOUNT: &str = "/models";

/// What a seeder pod is to do, and where in its volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SeederOrder {
    /// The folder below [`MOUNT`]; empty for the volume itself.
    pub folder: String,
    /// The folder of the node that has to be mounted at [`MOUNT`]; absent for a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_folder: Option<NodeFolder>,
    /// The work.
    pub task: SeederTask,
}

/// The work of a seeder pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum SeederTask {
    /// Write models into the volume.
    #[serde(rename_all = "camelCase")]
    Put {
        /// The models, with the path of each of their files.
        plans: Vec<ModelPlan>,
        /// The layout of the plans.
        layout: ModelLayout,
        /// How many revisions of each model are kept; all when absent.
        #[serde(default)]
        keep: Option<usize>,
        /// The registry or depot that the pod asks first for each blob.
        #[serde(default)]
        registry: Option<ModelRegistry>,
        /// Whether the pod may also get blobs through the API server, from the process that started it.
        over_api: bool,
    },
    /// Read every file that was written and compare its digest.
    Verify,
    /// List the models that were written.
    List,
}

/// A registry (the site's, or a depot's OCI endpoint) that has the models' blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ModelRegistry {
    /// Its host and port: the key of its credential in the pull secret.
    pub host: String,
    /// The URL that the pod reaches it at: `http://…` or `https://…`.
    pub url: String,
    /// The certificate of the CA that signed its certificate, PEM.
    #[serde(default)]
    pub ca: Option<String>,
    /// The repository that each blob is in.
    pub repositories: BTreeMap<Digest, String>,
    /// The most bytes per second that the pod downloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

/// What a pod reports, each a line of JSON on its standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum SeederEvent {
    /// Another push uses this pod at the moment; nothing was done.
    Busy,
    /// The order is accepted, and this process alone writes to the volume.
    Began,
    /// More bytes are to come than were announced so far.
    Expect {
        /// How many more.
        bytes: u64,
    },
    /// Progress since the last event of this kind.
    Progress {
        /// Bytes that were written.
        moved: u64,
        /// Bytes that were there already.
        skipped: u64,
    },
    /// A model is complete.
    Done {
        /// Its name.
        name: String,
    },
    /// A message for the user.
    Note {
        /// The text.
        message: String,
    },
    /// The last event of [`SeederTask::ModelPutOutcome`]: all models are there.
    Put {
        /// What was done for each model, in the order of the plans.
        puts: Vec<ModelPutOutcome>,
        /// Where the bytes came from.
        via: TransferRoute,
        /// The older revisions that were removed.
        collected: Vec<String>,
    },
    /// The last event of [`SeederTask::Verify`].
    Checked {
        /// What is damaged or missing.
        checked: ModelVerifyReport,
    },
    /// The last event of [`SeederTask::List`].
    Listed {
        /// One record for each model.
        records: Vec<ModelRecord>,
    },
    /// The last event of an order that failed.
    Failed {
        /// Who has to do something about it.
        fault: SeederFailureKind,
        /// What went wrong.
        message: String,
    },
}

/// The kind of a failure in a pod: who has to do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeederFailureKind {
    /// The source's bytes do not have the digest that they should have.
    Integrity,
    /// Nothing was changed; the user has to change something first.
    Input,
    /// Something failed on the way; running the same command again resumes.
    Failed,
}

impl SeederOrder {
    /// Refuses an order with a path or a link that leads out of the volume. The pod checks it, since
    /// whoever may exec into the pod can send it an order.
    pub fn check_paths(&self) -> Result<(), String> {
        check_path_inside(Path::new(&self.folder))?;
        let SeederTask::Put { plans, .. } = &self.task else { return Ok(()) };
        for plan in plans {
            for path in plan.contents.keys().chain(plan.named.keys()) {
                check_path_inside(path)?;
            }
            for (path, _) in &plan.pointers {
                check_path_inside(path)?;
            }
            let Some(folder) = &plan.folder else { continue };
            check_path_inside(&folder.path)?;
            for path in folder.files.keys() {
                check_path_inside(path)?;
            }
            for (path, to) in &folder.links {
                check_path_inside(path)?;
                check_link_inside(&folder.path.join(path), to)?;
            }
        }
        Ok(())
    }

    /// The digests of all blobs that the pod may ask for; it gets no others.
    pub fn digests(&self) -> BTreeSet<Digest> {
        let SeederTask::Put { plans, .. } = &self.task else { return BTreeSet::new() };
        plans.iter().flat_map(ModelPlan::files).map(|(_, content)| content.digest).collect()
    }
}

/// Only plain names: no `..`, no `/` in front.
fn check_path_inside(path: &Path) -> Result<(), String> {
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    Err(format!("the path {} leads out of the volume", path.display()))
}

/// Follows the components of a relative link from the folder that it is in; going up above the volume
/// at any moment is refused, also if it comes back.
fn check_link_inside(link: &Path, to: &Path) -> Result<(), String> {
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
    use crate::models::{FileContent, FolderIdentity, ModelFolder};

    #[test]
    fn nothing_of_an_order_leads_out_of_the_volume() {
        assert!(check_path_inside(Path::new("a/b")).is_ok());
        assert!(check_path_inside(Path::new("a/../b")).is_err());
        assert!(check_path_inside(Path::new("/a")).is_err());
        let link = Path::new("models--a/snapshots/c/x");
        assert!(check_link_inside(link, Path::new("../../blobs/y")).is_ok());
        assert!(check_link_inside(link, Path::new("../../../../y")).is_err());
        assert!(check_link_inside(link, Path::new("/etc/passwd")).is_err());
    }

    #[test]
    fn events_are_lines_of_json() {
        let event = SeederEvent::Progress { moved: 1, skipped: 2 };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(line, r#"{"event":"progress","moved":1,"skipped":2}"#);
        assert_eq!(serde_json::from_str::<SeederEvent>(&line).unwrap(), event);
    }

    fn content(byte: u8) -> FileContent {
        FileContent { digest: Digest::Sha256([byte; 32]), size: 1 }
    }

    fn make_plan() -> ModelPlan {
        ModelPlan {
            name: "o/n@c".into(),
            contents: [("m/blobs/x".into(), content(1))].into(),
            named: [].into(),
            folder: Some(ModelFolder {
                path: "m/snapshots/c".into(),
                files: [("a.txt".into(), content(2))].into(),
                links: [("b.txt".into(), "../../blobs/x".into())].into(),
                identity: FolderIdentity::Commit,
            }),
            pointers: vec![("m/refs/main".into(), b"c".to_vec())],
        }
    }

    fn make_order(plans: Vec<ModelPlan>) -> SeederOrder {
        let layout = ModelLayout::HfCache;
        let task = SeederTask::Put { plans, layout, keep: Some(2), registry: None, over_api: true };
        SeederOrder { folder: "team/models".into(), node_folder: None, task }
    }

    #[test]
    fn every_path_of_an_order_is_checked() {
        assert_eq!(make_order(vec![make_plan()]).check_paths(), Ok(()));
        let out = || PathBuf::from("../out");
        let changes: [fn(&mut ModelPlan, PathBuf); 6] = [
            |plan, out| plan.contents.extend([(out, content(3))]),
            |plan, out| plan.named.extend([(out, content(3))]),
            |plan, out| plan.pointers.push((out, vec![])),
            |plan, out| plan.folder.as_mut().unwrap().path = out,
            |plan, out| plan.folder.as_mut().unwrap().files.extend([(out, content(3))]),
            |plan, out| plan.folder.as_mut().unwrap().links.extend([(out, "x".into())]),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut plan = make_plan();
            change(&mut plan, out());
            // Behind a harmless one: not only the first plan is looked at.
            let checked = make_order(vec![make_plan(), plan]).check_paths();
            assert_eq!(
                checked,
                Err("the path ../out leads out of the volume".to_owned()),
                "{index}"
            );
        }
        let mut order = make_order(vec![]);
        order.folder = "/etc".into();
        assert!(order.check_paths().is_err());
    }

    #[test]
    fn a_link_may_not_leave_the_volume_even_if_it_comes_back() {
        let link = Path::new("m/snapshots/c/x");
        assert!(check_link_inside(link, Path::new("../../../m/blobs/y")).is_ok());
        assert!(check_link_inside(link, Path::new("../../../../models/m/blobs/y")).is_err());
        let mut plan = make_plan();
        plan.folder.as_mut().unwrap().links.insert("sub/z".into(), "../../../../../y".into());
        assert!(make_order(vec![plan]).check_paths().is_err());
    }

    #[test]
    fn a_pod_may_ask_for_the_blobs_of_its_order_and_for_no_others() {
        let digests = make_order(vec![make_plan(), make_plan()]).digests();
        assert_eq!(digests, [[1; 32], [2; 32]].map(Digest::Sha256).into());
        for task in [SeederTask::Verify, SeederTask::List] {
            let order = SeederOrder { folder: String::new(), node_folder: None, task };
            assert_eq!(order.digests(), BTreeSet::new());
        }
    }

    #[test]
    fn an_order_reads_back_as_it_was_sent() {
        let order = make_order(vec![make_plan()]);
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<SeederOrder>(&text).unwrap(), order);
        let unknown = text.replacen("\"folder\"", "\"more\":1,\"folder\"", 1);
        assert!(serde_json::from_str::<SeederOrder>(&unknown).is_err(), "{unknown}");
    }
}
