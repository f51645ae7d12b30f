//! The errors of the crate: why a release could not be prepared, installed, checked or removed. The
//! command line derives its exit code from them.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::prepare::{ChartOrigin, ReleaseRefusal};
use crate::release::PendingObject;

/// Why a release could not be prepared, installed, checked or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster refused or did not answer.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// helm failed, or its input is not usable.
    #[error(transparent)]
    Helm(#[from] remote::Error),
    /// A rendered document is not a valid Kubernetes manifest.
    #[error(transparent)]
    Chart(#[from] chart::Error),
    /// A registry does not answer, or the client cannot be set up.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// A name or a path of the site is not valid.
    #[error(transparent)]
    Types(#[from] types::Error),
    /// The release cannot be deployed as it is.
    #[error(transparent)]
    NotDeployable(#[from] ReleaseRefusal),
    /// A chart of gantry.yaml is not in the lock.
    #[error("gantry.lock does not match gantry.yaml: chart {chart} is not locked as written there")]
    NotLocked {
        /// The chart as gantry.yaml has it.
        chart: String,
    },
    /// A set of manifests of gantry.yaml is not in the lock.
    #[error(
        "gantry.lock does not match gantry.yaml: the manifests of release {release} are not locked as written there"
    )]
    ManifestsNotLocked {
        /// The release.
        release: String,
    },
    /// gantry.yaml has no releases.
    #[error("gantry.yaml has no charts and no manifests")]
    NoCharts,
    /// gantry.yaml has no such release.
    #[error("gantry.yaml has no release {name:?}; its releases are: {known}")]
    UnknownRelease {
        /// The name.
        name: String,
        /// The releases that it has.
        known: String,
    },
    /// The lock has no such release.
    #[error("gantry.lock has no release {name:?}")]
    UnlockedRelease {
        /// The name.
        name: String,
        /// The releases that it has.
        known: Vec<String>,
    },
    /// A declared check is for a release that is not in the lock.
    #[error("checks: {check:?} is for the release {release:?}, which is not in gantry.lock")]
    CheckOfUnlockedRelease {
        /// The check's name.
        check: String,
        /// The release.
        release: String,
        /// The releases that the lock has.
        known: Vec<String>,
    },
    /// A values file of a release does not exist.
    #[error("release {release}: the values file {} does not exist", .path.display())]
    MissingValuesFile {
        /// The release.
        release: String,
        /// The file.
        path: PathBuf,
    },
    /// The chart does not support the cluster's version of Kubernetes.
    #[error(
        "release {release} does not run on this cluster, which has Kubernetes {version}: {message}"
    )]
    UnsupportedKubernetes {
        /// The release.
        release: String,
        /// The version of the cluster.
        version: String,
        /// helm's message, with the versions that the chart supports.
        message: String,
    },
    /// A chart is in none of the places inside the air gap.
    #[error("{cause}")]
    NoChart {
        /// The release.
        release: String,
        /// Where it was looked for.
        origin: ChartOrigin,
        /// Why it is not there.
        #[source]
        cause: remote::Error,
    },
    /// A set of manifests is in none of the places inside the air gap.
    #[error("{cause}")]
    NoManifests {
        /// The release.
        release: String,
        /// Where it was looked for.
        origin: ChartOrigin,
        /// Why it is not there.
        #[source]
        cause: remote::Error,
    },
    /// A local chart differs from the locked one.
    #[error("{} differs from the chart that was locked for release {release}: its digest is {}", .path.display(), .digest.short_hex())]
    ChartChanged {
        /// The chart.
        path: PathBuf,
        /// The release.
        release: String,
        /// The digest that it has.
        digest: types::Digest,
    },
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Two objects of a release have the same name in every way that a file name tells.
    #[error("release {release}: {} and {} would both be written to {}", .objects[0], .objects[1], .path.display())]
    SameFile {
        /// The release.
        release: String,
        /// The file, in the output folder.
        path: PathBuf,
        /// The objects.
        objects: [String; 2],
    },
    /// An object does not survive being written as YAML.
    #[error(
        "{object} does not read the same from the YAML that was written for it; this is a bug in Gantry, please report it"
    )]
    NotWritable {
        /// The object.
        object: String,
    },
    /// The cluster has a release of this name that Gantry did not install.
    #[error(
        "release {release} in namespace {namespace} was not installed by Gantry (chart {chart}); take it over with --take-over, or give your chart another `release:` in gantry.yaml"
    )]
    NotOurs {
        /// The release.
        release: String,
        /// Its namespace.
        namespace: String,
        /// The chart that it was installed from.
        chart: String,
    },
    /// A release is in several namespaces, and it is not known which one is meant.
    #[error("release {release} is in several namespaces: {}", .namespaces.join(", "))]
    SeveralNamespaces {
        /// The release.
        release: String,
        /// Its namespaces.
        namespaces: Vec<String>,
    },
    /// No credential is known for the pull secret of the site's registry.
    #[error(
        "the pull secret {name} needs a credential for {host}, and none is configured; run: docker login {host}, or name a file with one: --registry-auth FILE"
    )]
    NoCredential {
        /// The pull secret.
        name: String,
        /// The registry's host.
        host: String,
    },
    /// The release did not become ready in time, or cannot become ready.
    #[error("release {release} in namespace {namespace} is not ready after {seconds} s:\n{}", format_pending(.pending))]
    NotReady {
        /// The release.
        release: String,
        /// Its namespace.
        namespace: String,
        /// How long Gantry waited.
        seconds: u64,
        /// The objects that are not ready, and why.
        pending: Vec<PendingObject>,
    },
    /// The API server would reject objects of the release.
    #[error("the cluster would reject objects of release {release}:\n{}", format_list(.reasons))]
    Refused {
        /// The release.
        release: String,
        /// The API server's reasons, one object a line.
        reasons: Vec<String>,
    },
    /// Objects of a release exist and are somebody else's.
    #[error(
        "release {release} has objects that exist and are not its own, so nothing was changed:\n{}\ntake them over with --take-over, or take them out of the release",
        format_list(.objects)
    )]
    ObjectsOfOthers {
        /// The release.
        release: String,
        /// The objects, each with its owner.
        objects: Vec<String>,
    },
    /// Others own fields that a release sets.
    #[error(
        "release {release} sets fields that others own, so nothing was changed:\n{}\ntake them out of the manifests, or take them from their owners with --force-conflicts",
        format_list(.fields)
    )]
    FieldsOfOthers {
        /// The release.
        release: String,
        /// The fields, each with its object and its field manager.
        fields: Vec<String>,
    },
    /// An object could not be applied, after others were.
    #[error(
        "{source}\nrelease {release} is half applied; applied: {}; not applied: {}",
        format_names(.applied), format_names(.missing)
    )]
    HalfApplied {
        /// The release.
        release: String,
        /// The objects that were applied.
        applied: Vec<String>,
        /// Those that were not; the first one failed.
        missing: Vec<String>,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A release of manifests is too large for its record in the cluster.
    #[error(
        "release {release} has too many objects for one record in the cluster: {bytes} bytes compressed, more than the 1000000 that fit; divide it into several releases"
    )]
    ReleaseTooLarge {
        /// The release.
        release: String,
        /// The size of its record.
        bytes: usize,
    },
    /// The record of a release cannot be written or read.
    #[error(
        "the record {what} of a release is damaged or cannot be made: {cause}; delete it, and deploy again with --take-over"
    )]
    Record {
        /// The Secret, or the release.
        what: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A release is a chart, and there is no helm.
    #[error(
        "release {release} is a chart, which only helm can remove; install helm, or name it with GANTRY_HELM"
    )]
    NeedsHelm {
        /// The release.
        release: String,
    },
    /// A background task ended without a result.
    #[error("{what} ended without a result; run the command again")]
    Lost {
        /// What was being done.
        what: String,
        /// Why, as the runtime reports it.
        #[source]
        cause: tokio::task::JoinError,
    },
    /// A report cannot be written as JUnit XML.
    #[error("the report cannot be written as JUnit XML; use --output json instead")]
    Junit {
        /// What the XML writer reported.
        #[source]
        cause: quick_junit::SerializeError,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn format_list(all: &[String]) -> String {
    all.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n")
}

fn format_names(all: &[String]) -> String {
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn format_pending(all: &[PendingObject]) -> String {
    let mut text = String::new();
    for one in all {
        let _ = writeln!(text, "- {one}");
        for line in &one.log {
            let _ = writeln!(text, "    | {line}");
        }
    }
    text.trim_end().to_owned()
}
