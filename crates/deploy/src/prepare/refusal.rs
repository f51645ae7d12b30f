//! Why a release is not deployed although everything about it could be read: a proof failed, or
//! something is left that the user has to decide.

use chart::report::OpenLeftovers;
use chart::wiring::WiringLeftover;

/// What of the leftovers of a release helm's post-renderer would move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostRendererReach {
    /// All of them.
    All,
    /// All of them with helm 4: helm 3 does not pass hooks to it.
    AllWithHelm4,
    /// Not all.
    NotAll,
}

/// Why a release is refused. It is refused again until its values, the lock or the site change.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseRefusal {
    /// The proof that the overlay changes nothing but images failed.
    #[error("release {release}: the proof failed, so nothing is deployed:\n{report}")]
    Unproven {
        /// The release.
        release: String,
        /// What refutes the proof, as Markdown.
        report: String,
    },
    /// No chart value moves some images, and no accepted workaround does.
    #[error("release {release}: no chart value moves these to the site, and nothing was installed:\n{}", format_list(&.leftovers.lines()))]
    Leftovers {
        /// The release.
        release: String,
        /// What is left.
        leftovers: OpenLeftovers,
        /// What helm's post-renderer would move of them.
        post_renderer: PostRendererReach,
    },
    /// A container cannot be configured for offline use.
    #[error("release {release} is not fully configured for offline use: {}: {}", .leftover.place, .leftover.what)]
    NotOffline {
        /// The release.
        release: String,
        /// The first of what is left to do.
        leftover: WiringLeftover,
    },
    /// A value of the user (`set:`, `setString:`, `setFile:`, `setJson:`) overrides the overlay.
    #[error(
        "release {release}: {value} is given under set: or one of its siblings, which in helm override every values file, the overlay too"
    )]
    OverriddenBySet {
        /// The release.
        release: String,
        /// The path of the value.
        value: String,
    },
    /// The render against the real cluster has images from outside the site.
    #[error("release {release} would pull images from outside the site, so it was not installed:\n{}", format_list(.places))]
    OutsideImages {
        /// The release.
        release: String,
        /// The images, each with its location in the manifests.
        places: Vec<String>,
    },
    /// helm cannot render the release against the cluster, so what it would install is not known.
    #[error(
        "release {release}: helm cannot render it against the cluster, so it cannot be proven that all of its images come from the site, and nothing of it was installed: {cause}"
    )]
    NotRendered {
        /// The release.
        release: String,
        /// What helm says.
        cause: String,
    },
}

fn format_list(all: &[String]) -> String {
    all.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n")
}
