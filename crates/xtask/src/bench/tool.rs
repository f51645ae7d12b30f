//! The tools side by side: what a good user of each would type for a step of the main job.
//!
//! A step is a line for `sh`, run in the round's folder. The report prints these lines as they are,
//! for one image.

use std::fmt::Write as _;

use testkit::TestImages;
use testkit::images::TestImage;

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(super) enum Tool {
    Gantry,
    Regctl,
    Crane,
    Skopeo,
    /// What the bytes cost at the least: copied once, hashed once.
    Floor,
}

/// A step of the main job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(super) enum Step {
    /// All images from a registry onto the disk.
    Fetch,
    FetchAgain,
    /// From the disk into files to carry.
    Pack,
    PackAgain,
    /// Into an empty registry.
    Load,
    LoadAgain,
}

/// What the lines speak of.
pub(super) struct Place<'a> {
    pub(super) images: &'a TestImages,
    /// `host:port` of the registry to fetch from.
    pub(super) upstream: &'a str,
    /// `host:port` of the registry to load into.
    pub(super) site: &'a str,
}

impl Tool {
    pub(super) const ALL: [Self; 5] =
        [Self::Gantry, Self::Regctl, Self::Crane, Self::Skopeo, Self::Floor];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gantry => "gantry",
            Self::Regctl => "regctl",
            Self::Crane => "crane",
            Self::Skopeo => "skopeo",
            Self::Floor => "floor",
        }
    }

    /// The lines of a step over all images; `None` where the tool has nothing like it.
    ///
    /// Every step reads what the tool's own step before has written, but crane's push, which takes
    /// one image a layout: it has the corpus's own layouts.
    pub(super) fn script(self, step: Step, place: &Place) -> Option<String> {
        let (upstream, site) = (place.upstream, place.site);
        let all = || place.images.iter();
        Some(match (self, step) {
            (Self::Gantry, Step::Fetch | Step::FetchAgain) => "gantry fetch".into(),
            (Self::Gantry, Step::Pack | Step::PackAgain) => "gantry pack -o bundle".into(),
            (Self::Gantry, Step::Load | Step::LoadAgain) => {
                format!("gantry load bundle --to {site}")
            }

            (Self::Regctl, Step::Fetch | Step::FetchAgain) => lines(all(), |image| {
                let from = remote(upstream, image);
                format!("{} {from} ocidir://images:{}", regctl(upstream), label(image))
            }),
            (Self::Regctl, Step::Pack) => lines(all(), |image| {
                let label = label(image);
                format!("regctl image export ocidir://images:{label} archives/{label}.tar")
            }),
            (Self::Regctl, Step::Load | Step::LoadAgain) => lines(all(), |image| {
                let to = remote(site, image);
                format!("{} ocidir://images:{} {to}", regctl(site), label(image))
            }),

            (Self::Crane, Step::Fetch | Step::FetchAgain) => {
                let mut line = "crane pull --format oci".to_owned();
                for image in all() {
                    // Writing to a string cannot fail.
                    let _ = write!(line, " {}", remote(upstream, image));
                }
                line + " images"
            }
            (Self::Crane, Step::Load | Step::LoadAgain) => lines(all(), |image| {
                format!("crane push layouts/{} {}", label(image), remote(site, image))
            }),

            (Self::Skopeo, Step::Fetch | Step::FetchAgain) => lines(all(), |image| {
                let (from, label) = (remote(upstream, image), label(image));
                format!("{SKOPEO} --src-tls-verify=false docker://{from} oci:images:{label}")
            }),
            (Self::Skopeo, Step::Pack) => lines(all(), |image| {
                let label = label(image);
                format!("{SKOPEO} oci:images:{label} oci-archive:archives/{label}.tar")
            }),
            (Self::Skopeo, Step::Load | Step::LoadAgain) => lines(all(), |image| {
                let (label, to) = (label(image), remote(site, image));
                format!("{SKOPEO} --dest-tls-verify=false oci:images:{label} docker://{to}")
            }),

            (Self::Floor, Step::Fetch) => {
                "cp corpus/* images/ && openssl dgst -sha256 images/*".into()
            }
            // An archive is written anew each time; crane and the floor have no step of this kind.
            (Self::Regctl | Self::Skopeo, Step::PackAgain)
            | (Self::Crane, Step::Pack | Step::PackAgain)
            | (Self::Floor, _) => return None,
        })
    }
}

impl Step {
    pub(super) const ALL: [Self; 6] =
        [Self::Fetch, Self::FetchAgain, Self::Pack, Self::PackAgain, Self::Load, Self::LoadAgain];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Fetch => "Fetch: from a registry onto the disk",
            Self::FetchAgain => "Fetch again, nothing is new",
            Self::Pack => "Pack: from the disk into files to carry",
            Self::PackAgain => "Pack again, nothing is new",
            Self::Load => "Load: into an empty docker-registry",
            Self::LoadAgain => "Load again, nothing is new",
        }
    }
}

/// The quiet flag of all of skopeo's lines is not needed: it draws nothing without a terminal.
const SKOPEO: &str = "skopeo --insecure-policy copy --all";

/// regctl has to be told that a registry speaks plain HTTP; the others see it from the address.
fn regctl(host: &str) -> String {
    format!("regctl --host reg={host},tls=disabled image copy")
}

/// One line an image; the first that fails ends it.
fn lines<'a>(
    images: impl Iterator<Item = &'a TestImage>,
    line: impl Fn(&TestImage) -> String,
) -> String {
    let lines: Vec<String> = images.map(line).collect();
    lines.join(" &&\n")
}

/// `127.0.0.1:5000/library/nginx:1.22`.
fn remote(host: &str, image: &TestImage) -> String {
    format!("{host}/{}:{}", image.repository(), image.tag())
}

/// The image's name in a layout of several and in file names: `nginx-1.22`.
pub(super) fn label(image: &TestImage) -> String {
    let name = image.repository().rsplit('/').next().unwrap_or_default();
    format!("{name}-{}", image.tag())
}
