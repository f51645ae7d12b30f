//! The errors of the crate: why a release could not be prepared, installed, checked or removed. The
//! command line derives its exit code from them.

use std::fmt::Write as _;

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
    /// The release would make the cluster pull images from outside the site.
    #[error("release {release} would pull images from outside the site, so it was not installed:\n{}", format_list(.places))]
    Outside {
        /// The release.
        release: String,
        /// The images, each with its location in the manifests.
        places: Vec<String>,
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
