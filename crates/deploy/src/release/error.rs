//! What can go wrong with a release, by meaning.

use std::fmt::Write as _;

use super::live::Pending;

/// What went wrong with a release.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// helm, or what it was given.
    #[error(transparent)]
    Helm(#[from] remote::Error),
    /// What is rendered is no Kubernetes manifest.
    #[error(transparent)]
    Chart(#[from] chart::Error),
    /// The cluster would be told to pull from outside.
    #[error("release {release} would pull from outside, nothing of it was installed:\n{}", lines(.places))]
    Outside {
        /// The release.
        release: String,
        /// The images with their places, one a line.
        places: Vec<String>,
    },
    /// The cluster has a release of this name that Gantry did not install.
    #[error(
        "release {release} in {namespace} was installed by somebody else (chart {chart}); take it over with --take-over, or give the chart another `release:`"
    )]
    NotOurs {
        /// The release.
        release: String,
        /// Its namespace.
        namespace: String,
        /// The chart that it was made from.
        chart: String,
    },
    /// There is no credential for the site's registry.
    #[error(
        "the pull secret {name} needs a credential for {host}, and there is none; run: docker login {host}, or give --registry-auth FILE"
    )]
    NoCredential {
        /// The pull secret.
        name: String,
        /// The registry's host.
        host: String,
    },
    /// It did not come up.
    #[error("release {release} in {namespace} is not ready after {seconds} s:\n{}", told(.pending))]
    NotReady {
        /// The release.
        release: String,
        /// Its namespace.
        namespace: String,
        /// How long it was waited for.
        seconds: u64,
        /// What is missing, and why.
        pending: Vec<Pending>,
    },
    /// The cluster would refuse objects.
    #[error("the cluster would refuse objects of release {release}:\n{}", lines(.reasons))]
    Refused {
        /// The release.
        release: String,
        /// Its words, one object a line.
        reasons: Vec<String>,
    },
    /// A task ended without a result.
    #[error("{what} was lost: {cause}; run it again")]
    Lost {
        /// What was being done.
        what: String,
        /// The cause.
        cause: String,
    },
}

/// `Result` with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn lines(all: &[String]) -> String {
    all.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n")
}

fn told(all: &[Pending]) -> String {
    let mut text = String::new();
    for one in all {
        let _ = writeln!(text, "- {one}");
        for line in &one.log {
            let _ = writeln!(text, "    | {line}");
        }
    }
    text.trim_end().to_owned()
}
