//! The records of a release of manifests: one Secret for each revision, with all its objects as
//! gzipped JSON, beside helm's records of charts. They are the only state of a deploy: what an earlier
//! revision had and this one has not is removed, and a killed run is continued, by them alone.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use cluster::objects::ByteString;
use cluster::objects::api::core::v1::Secret;
use cluster::objects::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use cluster::{Cluster, ObjectScope};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// The value of the label `owner` on records; helm's have `helm`.
pub(in crate::release) const OWNER: &str = "gantry";
/// The value of the label `gantry.dev/part` on records.
pub(in crate::release) const MANIFESTS: &str = "manifest-release";
/// The type of the Secrets.
const TYPE: &str = "gantry.dev/release.v1";
/// The key in their data.
const KEY: &str = "release";
/// How many revisions are kept, as helm does (`--history-max`).
const KEPT: usize = 10;
/// How large a record may be: a Secret holds at most 1 MiB (kubernetes.io, "Secrets").
const LARGEST: usize = 1_000_000;
/// How large the objects of a record may be when they are unpacked.
const UNPACKED: u64 = 256 << 20;

/// The state of a revision, kept in a label of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RevisionState {
    /// It is being applied, or the run that did so was killed.
    Pending,
    /// It is the current revision.
    Deployed,
    /// A later revision replaced it.
    Superseded,
    /// It could not be applied, or did not become ready.
    Failed,
    /// It is being removed, or the run that did so was killed.
    Uninstalling,
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RevisionContent {
    /// Where the manifests came from.
    pub(super) source: String,
    /// The objects, as they were applied, in that order.
    pub(super) objects: Vec<Value>,
}

/// One revision of a release.
#[derive(Debug, Clone)]
pub(super) struct ManifestRevision {
    /// Its number, from 1.
    pub(super) number: u32,
    pub(super) state: RevisionState,
    pub(super) content: RevisionContent,
}

/// All revisions of a release, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct ManifestHistory {
    pub(super) revisions: Vec<ManifestRevision>,
}

impl RevisionState {
    const ALL: [Self; 5] =
        [Self::Pending, Self::Deployed, Self::Superseded, Self::Failed, Self::Uninstalling];

    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Deployed => "deployed",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::Uninstalling => "uninstalling",
        }
    }
}

impl ManifestHistory {
    /// Reads all records of a release.
    pub(super) async fn read(cluster: &Cluster, namespace: &str, release: &str) -> Result<Self> {
        let scope = ObjectScope::Namespace(namespace);
        let selector = format!("owner={OWNER},name={release}");
        let mut revisions = Vec::new();
        for secret in cluster.list_objects::<Secret>(scope, &selector).await? {
            let label = |key: &str| secret.metadata.labels.as_ref()?.get(key);
            let state = RevisionState::ALL
                .into_iter()
                .find(|state| label("status").is_some_and(|text| text == state.as_str()));
            let number = label("version").and_then(|text| text.parse().ok());
            let (Some(state), Some(number)) = (state, number) else { continue };
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            let what = format!("Secret {namespace}/{name}");
            let content = unpack_content(&what, secret.data.as_ref())?;
            revisions.push(ManifestRevision { number, state, content });
        }
        revisions.sort_by_key(|revision| revision.number);
        Ok(Self { revisions })
    }

    /// The newest revision.
    pub(super) fn newest(&self) -> Option<&ManifestRevision> {
        self.revisions.last()
    }

    /// The newest revision that worked.
    pub(super) fn deployed(&self) -> Option<&ManifestRevision> {
        let newest_in = |state| self.revisions.iter().rev().find(move |one| one.state == state);
        newest_in(RevisionState::Deployed).or_else(|| newest_in(RevisionState::Superseded))
    }

    /// Every object that may be in the cluster: those of the newest revision that worked, and of all
    /// that were begun since.
    pub(super) fn list_possible_objects(&self) -> Vec<&Value> {
        let since = self.deployed().map_or(0, |revision| revision.number);
        let begun = self.revisions.iter().filter(|revision| revision.number >= since);
        begun.flat_map(|revision| &revision.content.objects).collect()
    }
}

/// Writes a new revision, of which nothing is applied yet.
///
/// # Errors
/// [`Error::ReleaseTooLarge`], and [`cluster::Error::Conflict`] if another run has begun it.
pub(super) async fn write_pending(
    cluster: &Cluster,
    (release, namespace): (&str, &str),
    number: u32,
    content: &RevisionContent,
) -> Result<()> {
    let packed = pack_content(release, content)?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name_record(release, number)),
            labels: Some(BTreeMap::from([
                ("owner".to_owned(), OWNER.to_owned()),
                ("name".to_owned(), release.to_owned()),
                ("version".to_owned(), number.to_string()),
                ("status".to_owned(), RevisionState::Pending.as_str().to_owned()),
                (cluster::PART.to_owned(), MANIFESTS.to_owned()),
            ])),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(packed))])),
        ..Secret::default()
    };
    cluster.create_object(ObjectScope::Namespace(namespace), &secret).await?;
    Ok(())
}

/// Notes the state of a revision.
pub(super) async fn note_state(
    cluster: &Cluster,
    (release, namespace): (&str, &str),
    number: u32,
    state: RevisionState,
) -> Result<()> {
    let scope = ObjectScope::Namespace(namespace);
    let name = name_record(release, number);
    let Some(mut secret) = cluster.get_object::<Secret>(scope, &name).await? else {
        return Ok(());
    };
    let labels = secret.metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.insert("status".to_owned(), state.as_str().to_owned());
    cluster.replace_object(scope, &secret).await?;
    Ok(())
}

/// Notes that a revision works: it is the current one, those before are history, of which the last few
/// are kept.
pub(super) async fn note_deployed(
    cluster: &Cluster,
    release: (&str, &str),
    number: u32,
    history: &ManifestHistory,
) -> Result<()> {
    note_state(cluster, release, number, RevisionState::Deployed).await?;
    let before = history.revisions.iter().filter(|one| one.number < number);
    for revision in before.clone() {
        if revision.state == RevisionState::Deployed {
            note_state(cluster, release, revision.number, RevisionState::Superseded).await?;
        }
    }
    let numbers: Vec<u32> = before.map(|revision| revision.number).collect();
    let surplus = (numbers.len() + 1).saturating_sub(KEPT);
    for old in &numbers[..surplus] {
        delete_record(cluster, release, *old).await?;
    }
    Ok(())
}

/// Deletes the record of a revision.
pub(super) async fn delete_record(
    cluster: &Cluster,
    (release, namespace): (&str, &str),
    number: u32,
) -> Result<()> {
    let scope = ObjectScope::Namespace(namespace);
    cluster.delete_object::<Secret>(scope, &name_record(release, number)).await?;
    Ok(())
}

fn name_record(release: &str, number: u32) -> String {
    format!("{TYPE}.{release}.v{number}").replace('/', ".")
}

fn pack_content(release: &str, content: &RevisionContent) -> Result<Vec<u8>> {
    let lost = |cause: std::io::Error| Error::Record { what: release.to_owned(), cause };
    let json = serde_json::to_vec(content).map_err(|cause| lost(cause.into()))?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let packed = packed.write_all(&json).and_then(|()| packed.finish()).map_err(lost)?;
    if packed.len() > LARGEST {
        return Err(Error::ReleaseTooLarge { release: release.to_owned(), bytes: packed.len() });
    }
    Ok(packed)
}

fn unpack_content(
    what: &str,
    data: Option<&BTreeMap<String, ByteString>>,
) -> Result<RevisionContent> {
    let packed = data.and_then(|data| data.get(KEY)).map_or(&[][..], |packed| &packed.0);
    let lost = |cause: std::io::Error| Error::Record { what: what.to_owned(), cause };
    let mut json = Vec::new();
    GzDecoder::new(packed).take(UNPACKED).read_to_end(&mut json).map_err(lost)?;
    serde_json::from_slice(&json).map_err(|cause| lost(cause.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn revision(number: u32, state: RevisionState) -> ManifestRevision {
        let objects = vec![json!({"number": number})];
        ManifestRevision {
            number,
            state,
            content: RevisionContent { source: "manifests".to_owned(), objects },
        }
    }

    #[test]
    fn a_record_holds_its_objects() {
        let content = revision(3, RevisionState::Pending).content;
        let packed = pack_content("web", &content).unwrap();
        let data = BTreeMap::from([(KEY.to_owned(), ByteString(packed))]);
        assert_eq!(unpack_content("a", Some(&data)).unwrap(), content);
        assert!(matches!(unpack_content("a", None), Err(Error::Record { .. })));
        assert_eq!(name_record("web", 3), "gantry.dev.release.v1.web.v3");
    }

    #[test]
    fn what_may_be_in_the_cluster_is_of_the_last_good_revision_and_of_all_since() {
        use RevisionState as S;
        let history = ManifestHistory {
            revisions: vec![
                revision(1, S::Superseded),
                revision(2, S::Deployed),
                revision(3, S::Failed),
                revision(4, S::Pending),
            ],
        };
        assert_eq!(history.deployed().unwrap().number, 2);
        let numbers: Vec<_> =
            history.list_possible_objects().iter().map(|one| one["number"].as_u64()).collect();
        assert_eq!(numbers, [Some(2), Some(3), Some(4)]);
    }
}
