//! What each library's error is for a user: its kind, which decides the exit code, and the hints for
//! the next step.

use deploy::prepare::{ChartOrigin, PostRendererReach, ReleaseRefusal};

use super::{CommandError, ErrorKind};

/// The hint where the site's registry does not have what is to be deployed.
const LOAD_HINT: &str =
    "load the bundle first: gantry load BUNDLE… --site site.yaml, or name it here: --from BUNDLE…";

impl From<html::Error> for CommandError {
    fn from(error: html::Error) -> Self {
        Self::from_error(ErrorKind::Failed, &error)
    }
}

impl From<types::Error> for CommandError {
    fn from(error: types::Error) -> Self {
        let shown = Self::from_error(ErrorKind::Usage, &error);
        match error {
            types::Error::NotAHost { .. } => shown.with_hint(
                "write registry.url in site.yaml with a dot or a port, such as registry.internal:5000",
            ),
            _ => shown,
        }
    }
}

impl From<store::Error> for CommandError {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        let kind = match &error {
            E::DigestMismatch { .. } | E::SizeMismatch { .. } => ErrorKind::Integrity,
            E::NotAStore { .. } | E::Document(_) => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        Self::from_error(kind, &error)
    }
}

impl From<net::Error> for CommandError {
    fn from(error: net::Error) -> Self {
        use net::Error as E;
        let kind = match &error {
            // A wrong credential, address or certificate fails again however often it is retried.
            E::Unauthorized { .. }
            | E::Credentials { .. }
            | E::Url { .. }
            | E::Tls { .. }
            | E::Untrusted { .. }
            | E::PlainHttp { .. }
            | E::Setup { .. } => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        Self::from_error(kind, &error)
    }
}

impl From<remote::Error> for CommandError {
    fn from(error: remote::Error) -> Self {
        // Damage outweighs bad input where an error is both.
        let kind = if error.is_integrity() {
            ErrorKind::Integrity
        } else if error.is_input() {
            ErrorKind::Usage
        } else {
            ErrorKind::Failed
        };
        Self::from_error(kind, &error)
    }
}

impl From<resolve::Error> for CommandError {
    fn from(error: resolve::Error) -> Self {
        use resolve::Error as E;
        let kind = match &error {
            E::Several(problems) => {
                let any =
                    |test: fn(&remote::Error) -> bool| problems.iter().any(|p| test(&p.cause));
                // One wrong digest outweighs everything else. Exit code 2 (nothing to retry) is
                // right only if every single problem is bad input.
                if any(remote::Error::is_integrity) {
                    ErrorKind::Integrity
                } else if problems.iter().all(|problem| problem.cause.is_input()) {
                    ErrorKind::Usage
                } else {
                    ErrorKind::Failed
                }
            }
            E::Store(_) => ErrorKind::Failed,
            E::Upgrade { .. } => ErrorKind::Usage,
            E::NameCollision { .. } | E::Request { .. } => ErrorKind::Usage,
            E::Changed { .. } => ErrorKind::Integrity,
        };
        Self::from_error(kind, &error)
    }
}

impl From<chart::Error> for CommandError {
    fn from(error: chart::Error) -> Self {
        // The chart crate only reads charts, values and renders, so nothing was changed yet.
        Self::from_error(ErrorKind::Usage, &error)
    }
}

impl From<policy::Error> for CommandError {
    fn from(error: policy::Error) -> Self {
        use policy::Error as E;
        let hint = match &error {
            E::NothingLocked { .. } => "add images or charts to gantry.yaml, then: gantry lock",
            E::LongList { .. } => "split gantry.yaml, so that each namespace has its own lock",
            E::Types(error) => return error.clone().into(),
            E::Invalid { .. } => return Self::from_error(ErrorKind::Usage, &error),
        };
        Self::from_error(ErrorKind::Usage, &error).with_hint(hint)
    }
}

impl From<land::Error> for CommandError {
    fn from(error: land::Error) -> Self {
        match error {
            land::Error::Source(error) => error.into(),
            land::Error::Target(error) => error.into(),
        }
    }
}

impl From<land::models::Error> for CommandError {
    fn from(error: land::models::Error) -> Self {
        use land::models::Error as E;
        let kind = match &error {
            error if error.is_integrity() => ErrorKind::Integrity,
            E::NoModel { .. }
            | E::Layout { .. }
            | E::NothingFits { .. }
            | E::SameName { .. }
            | E::Name(_)
            | E::InTheWay { .. }
            | E::NoFolder { .. }
            | E::NotAFolder { .. }
            | E::OnlyInCluster { .. }
            | E::NoFiles
            | E::Connect { .. } => ErrorKind::Usage,
            E::Source(_)
            | E::Disk { .. }
            | E::Request { .. }
            | E::Record { .. }
            | E::Runtime { .. } => ErrorKind::Failed,
        };
        let shown = Self::from_error(kind, &error);
        match &error {
            E::OnlyInCluster { .. } => {
                shown.with_hint("gantry models push, verify and ls start such a pod")
            }
            _ => shown,
        }
    }
}

impl From<land::extract::Error> for CommandError {
    fn from(error: land::extract::Error) -> Self {
        use land::extract::Error as E;
        match error {
            E::Pattern(error) => error.into(),
            E::Source(error) => error.into(),
            error => {
                let kind = match &error {
                    E::NothingNamed { .. } | E::Nothing | E::Exists { .. } | E::InTheWay { .. } => {
                        ErrorKind::Usage
                    }
                    _ => ErrorKind::Failed,
                };
                let shown = Self::from_error(kind, &error);
                match &error {
                    E::NothingNamed { .. } => {
                        shown.with_hint("list what there is with: gantry inspect BUNDLE")
                    }
                    _ => shown,
                }
            }
        }
    }
}

impl From<land::claim::Error> for CommandError {
    fn from(error: land::claim::Error) -> Self {
        use land::claim::{Error as E, SeederFailureKind};
        let kind = match &error {
            E::Input { .. }
            | E::NoDepot
            | E::NoSiteRegistry
            | E::NotADepot { .. }
            | E::Certificate(_)
            | E::Name(_)
            | E::Work { fault: SeederFailureKind::Input, .. } => ErrorKind::Usage,
            E::Work { fault: SeederFailureKind::Integrity, .. } => ErrorKind::Integrity,
            E::UnexpectedEvent | E::Work { fault: SeederFailureKind::Failed, .. } => {
                ErrorKind::Failed
            }
            // The connection to the pod broke. What it wrote is kept, and the next run resumes.
            E::Broken { .. } => ErrorKind::Partial,
            E::Cluster(_) | E::Models(_) => {
                return match error {
                    E::Cluster(error) => error.into(),
                    E::Models(error) => error.into(),
                    error => Self::from_error(ErrorKind::Failed, &error),
                };
            }
        };
        let shown = Self::from_error(kind, &error);
        match &error {
            E::NoDepot => Self::new(kind, "--via depot needs the address of a depot").with_hint(
                "give --from-depot http://HOST:PORT, or write depot: {url: …} in site.yaml",
            ),
            E::NoSiteRegistry => Self::new(kind, "--via registry needs the site's registry")
                .with_hint("name the site file: --site FILE"),
            E::NotADepot { .. } => {
                Self { message: format!("--from-depot {}", shown.message), ..shown }
                    .with_hint("write http://HOST:PORT or https://HOST:PORT")
            }
            E::UnexpectedEvent => shown.with_hint(
                "its image may be of another version of Gantry; name the right one with --image",
            ),
            _ => shown,
        }
    }
}

impl From<cluster::Error> for CommandError {
    fn from(error: cluster::Error) -> Self {
        use cluster::Error as E;
        let kind = match &error {
            // These are detected before anything is written.
            E::NoAccess { .. }
            | E::NoContext { .. }
            | E::MissingRights { .. }
            | E::NoObject { .. }
            | E::NotOurs { .. } => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        Self::from_error(kind, &error)
    }
}

impl From<evidence::Error> for CommandError {
    fn from(error: evidence::Error) -> Self {
        let kind = if error.is_integrity() {
            ErrorKind::Integrity
        } else if error.is_bad_input() {
            ErrorKind::Usage
        } else {
            ErrorKind::Failed
        };
        Self::from_error(kind, &error)
    }
}

impl From<operator::Error> for CommandError {
    fn from(error: operator::Error) -> Self {
        use operator::Error as E;
        let kind = if error.is_bad_input() { ErrorKind::Usage } else { ErrorKind::Failed };
        let shown = Self::from_error(kind, &error);
        match &error {
            E::NoImage { .. } => shown
                .with_hint(
                    "add it to gantry.yaml with `tools: [gantry]`, then lock, fetch, pack and load",
                )
                .with_hint("or name an image that the site's registry has: --image REFERENCE"),
            _ => shown,
        }
    }
}

impl From<egress::Error> for CommandError {
    fn from(error: egress::Error) -> Self {
        use egress::Error as E;
        let kind = match error {
            E::Cluster(error) => return error.into(),
            E::Policy(error) => return error.into(),
            E::Page(error) => return error.into(),
            // These are detected before anything is written.
            E::Corefile { .. }
            | E::NoReload
            | E::NameService { .. }
            | E::PullSecret { .. }
            | E::Busy { .. }
            | E::Manifests { .. } => ErrorKind::Usage,
            E::ChangedMeanwhile { .. } | E::Record { .. } | E::Listen { .. } | E::Report { .. } => {
                ErrorKind::Failed
            }
        };
        Self::from_error(kind, &error)
    }
}

impl From<deploy::Error> for CommandError {
    fn from(error: deploy::Error) -> Self {
        use deploy::Error as E;
        let shown = Self::from_error(ErrorKind::Usage, &error);
        match error {
            E::Cluster(error) => error.into(),
            E::Helm(error) => error.into(),
            E::Chart(error) => error.into(),
            E::Net(error) => error.into(),
            E::Types(error) => error.into(),
            E::NotDeployable(refusal) => refusal.into(),
            E::NoChart { release, origin, cause } => {
                Self::from(cause).with_hint(match origin {
                    ChartOrigin::Given => format!(
                        "check that the bundle or store named with --from contains the chart of release {release}"
                    ),
                    ChartOrigin::Registry => LOAD_HINT.to_owned(),
                })
            }
            E::NoManifests { release, origin, cause } => {
                Self::from(cause).with_hint(match origin {
                    ChartOrigin::Given => format!(
                        "check that the bundle or store named with --from contains the manifests of release {release}"
                    ),
                    ChartOrigin::Registry => LOAD_HINT.to_owned(),
                })
            }
            E::SeveralNamespaces { .. } => {
                shown.with_hint("name one: --namespace NAMESPACE")
            }
            E::UnlockedRelease { known, .. } => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                shown.with_hint(format!("its releases are: {known}"))
            }
            E::CheckOfUnlockedRelease { known, .. } => {
                shown.with_hint(match known.is_empty() {
                    true => "lock the chart first: gantry lock".to_owned(),
                    false => format!("its releases are: {}", known.join(", ")),
                })
            }
            E::NotLocked { .. } | E::ManifestsNotLocked { .. } => shown.with_hint(
                "where there is internet access, run gantry lock, then fetch and pack, and load the new bundle",
            ),
            E::MissingValuesFile { .. } => shown.with_hint(
                "copy it here beside gantry.yaml, or carry it in the bundle by naming it under files: in gantry.yaml",
            ),
            E::UnsupportedKubernetes { .. } => shown.with_hint(
                "upgrade the cluster, or lock another version of the chart where there is internet access",
            ),
            E::ChartChanged { .. } => shown.with_kind(ErrorKind::Integrity).with_hint(
                "run gantry lock again where there is internet access, or use the chart in the bundle: --from BUNDLE…",
            ),
            E::SameFile { .. } => {
                shown.with_hint("give one of them another name, or put it into another release")
            }
            E::NoCharts
            | E::UnknownRelease { .. }
            | E::Read { .. }
            | E::NotOurs { .. }
            | E::ObjectsOfOthers { .. }
            | E::FieldsOfOthers { .. }
            | E::ReleaseTooLarge { .. }
            | E::NeedsHelm { .. }
            | E::NoCredential { .. } => shown,
            E::HalfApplied { .. } => shown.with_kind(ErrorKind::Failed).with_hint(
                "correct the cause and run the same command again; --rollback undoes what was applied, and so does gantry undeploy",
            ),
            E::Record { .. }
            | E::Write { .. }
            | E::NotReady { .. }
            | E::Refused { .. }
            | E::NotWritable { .. }
            | E::Lost { .. }
            | E::Junit { .. } => shown.with_kind(ErrorKind::Failed),
        }
    }
}

impl From<ReleaseRefusal> for CommandError {
    fn from(refusal: ReleaseRefusal) -> Self {
        use ReleaseRefusal as R;
        // An image from outside the site is a failed proof, the same as in `gantry relocate`.
        let unproven = Self::from_error(ErrorKind::Integrity, &refusal);
        match refusal {
            R::OutsideImages { .. } => unproven,
            R::Unproven { .. } => {
                unproven.with_hint("read the report: gantry relocate … --report review.md")
            }
            R::Leftovers { leftovers, post_renderer, .. } => {
                let error = match post_renderer {
                    PostRendererReach::All => unproven
                        .with_hint("let helm's post-renderer move them: --leftovers post-render"),
                    PostRendererReach::AllWithHelm4 => unproven.with_hint(
                        "helm 3 does not pass hooks to a post-renderer, helm 4 does: install it, name it with GANTRY_HELM, and use --leftovers post-render",
                    ),
                    PostRendererReach::NotAll => unproven,
                };
                let error = match leftovers.images.is_empty() && leftovers.registries.is_empty() {
                    true => error,
                    false => error.with_hint(
                        "or use --leftovers mirrors (--mirrors DIR writes the configuration for the nodes), or --leftovers webhook",
                    ),
                };
                match leftovers.registries.is_empty() && leftovers.broken.is_empty() {
                    true => error,
                    false => error.with_hint(
                        "registries and texts that are no images: correct the values, or accept them as they are: --leftovers accept",
                    ),
                }
            }
            R::NotOffline { leftover, .. } => unproven
                .with_hint(leftover.next)
                .with_hint("or deploy it all the same: --allow-online"),
            R::OverriddenBySet { .. } => unproven
                .with_kind(ErrorKind::Usage)
                .with_hint("move it to one of the release's values files"),
            R::NotRendered { .. } => unproven.with_kind(ErrorKind::Failed).with_hint(
                "install the definitions of these kinds first, for example as a release of their own that this one names under needs:",
            ),
        }
    }
}

impl From<depot::Error> for CommandError {
    fn from(error: depot::Error) -> Self {
        match error {
            depot::Error::Source(error) => error.into(),
            depot::Error::Document(error) => error.into(),
            // The depot compares the digests of the documents that it reads.
            damaged @ depot::Error::Damaged { .. } => {
                Self::from_error(ErrorKind::Integrity, &damaged)
            }
        }
    }
}

impl From<bundle::Error> for CommandError {
    fn from(error: bundle::Error) -> Self {
        use bundle::{BundleFileFault as F, Error as E};
        let kind = match &error {
            // The named files are no bundle files of one bundle: the user chose wrong ones. Damage
            // inside a bundle file (below) is a failed integrity check instead.
            E::InvalidFile {
                fault: F::NotABundleFile | F::Newer { .. } | F::Unreadable { .. },
                ..
            }
            | E::OtherBundle { .. }
            | E::Missing { .. }
            | E::Duplicate { .. }
            | E::NoFiles
            | E::Name { .. }
            | E::FileTooSmall { .. }
            | E::TooManyFiles { .. }
            | E::NotOneFile { .. } => ErrorKind::Usage,
            E::InvalidFile { .. }
            | E::Damaged { .. }
            | E::BlobDamaged { .. }
            | E::Document { .. } => ErrorKind::Integrity,
            E::Source(_)
            | E::Read { .. }
            | E::Write { .. }
            | E::NoSpace { .. }
            | E::FoldersFull { .. }
            | E::Busy { .. } => ErrorKind::Failed,
        };
        Self::from_error(kind, &error)
    }
}
