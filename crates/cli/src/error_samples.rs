//! A sample of every error of the library crates, as a user sees it: the exit code, the message and
//! the hints, in one snapshot for each crate.
#![allow(clippy::items_after_statements)]
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use types::{Digest, Reference};

use crate::error::CommandError;

/// Compares the errors of a crate with what was reviewed.
#[track_caller]
fn assert_reviewed(name: &str, errors: Vec<CommandError>) {
    let lines: Vec<String> = errors
        .iter()
        .map(|error| format!("exit code {}\n{}", error.exit_code(), error.to_text()))
        .collect();
    insta::with_settings!({ omit_expression => true }, {
        insta::assert_snapshot!(format!("errors-{name}"), lines.join("\n"));
    });
}

/// All of a crate's errors as the command's.
fn convert<E: Into<CommandError>>(errors: impl IntoIterator<Item = E>) -> Vec<CommandError> {
    errors.into_iter().map(Into::into).collect()
}

/// A text, as the string or the cause that an error holds.
fn text<T: From<String>>(text: &str) -> T {
    text.to_owned().into()
}

fn path(path: &str) -> PathBuf {
    PathBuf::from(path)
}

fn digest(byte: u8) -> Digest {
    Digest::Sha256([byte; 32])
}

fn reference() -> Reference {
    "quay.io/shop/web:2.1".parse().unwrap()
}

fn cause() -> io::Error {
    io::Error::from_raw_os_error(13)
}

fn document() -> types::Error {
    types::Error::Document {
        document: text("gantry.yaml"),
        line: 3,
        column: 1,
        message: text("unknown key \"imgaes\"; did you mean \"images\"?"),
    }
}

fn fault() -> types::yaml::DocumentFault {
    types::yaml::DocumentFault { line: 3, column: 5, message: text("a bracket is not closed") }
}

#[test]
fn errors_of_types_are_as_reviewed() {
    use types::Error as E;
    let errors = [
        "UPPER".parse::<Reference>().unwrap_err(),
        document(),
        E::Collision {
            first: text("docker.io/library/a:1"),
            second: text("quay.io/library/a:1"),
            target: text("registry.internal/library/a:1"),
            hint: text("use --naming host-path"),
        },
        E::NotAHost {
            registry: text("registry"),
            target: text("registry/web:1"),
            read: text("docker.io/registry/web:1"),
        },
    ];
    assert_reviewed("types", convert(errors));
}

#[test]
fn errors_of_the_store_are_as_reviewed() {
    use store::Error as E;
    let errors = [
        E::BlobMissing { digest: digest(1) },
        E::Range { digest: digest(1), start: 5, end: 9, size: 7 },
        E::TooLarge { digest: digest(1), size: 9 << 20, most: 4 << 20 },
        E::DigestMismatch { digest: digest(1), actual: digest(2) },
        E::SizeMismatch { digest: digest(1), expected: 9, actual: 7 },
        E::RootMissing { name: Box::new(reference()), path: path("store") },
        E::Broken {
            name: Box::new(reference()),
            cause: Box::new(E::BlobMissing { digest: digest(1) }),
        },
        E::ForeignDigest { path: path("store"), digest: text("sha384:ab") },
        E::InUse { path: path("store") },
        E::TooDeep { digest: digest(1), most: 4 },
        E::NoSpace { path: path("store"), needed: 9 << 30, free: 1 << 30 },
        E::Document(document()),
        E::NotAStore { path: path("store"), reason: text("it has no oci-layout") },
        E::Read { what: text("blob"), cause: cause() },
        E::Write { what: text("blob"), cause: cause() },
    ];
    assert_reviewed("store", convert(errors));
}

fn unauthorized() -> net::Error {
    net::Error::Unauthorized {
        server: text("registry.internal"),
        message: text("denied"),
        next: text("no credential was found; run: docker login registry.internal"),
    }
}

#[test]
fn errors_of_the_network_are_as_reviewed() {
    use net::Error as E;
    let attempt = |after, cause: &str| net::RequestAttempt {
        after: Duration::from_secs(after),
        cause: text(cause),
    };
    let url = || text("https://registry.internal/v2/");
    let errors = [
        E::Request {
            method: text("GET"),
            url: url(),
            attempts: vec![attempt(0, "connection refused"), attempt(2, "timed out")],
            unreachable: true,
        },
        E::Status { method: text("GET"), url: url(), status: 500, message: text("oops") },
        unauthorized(),
        E::Untrusted {
            host: text("registry.internal"),
            reason: net::CertificateError::UnknownIssuer,
        },
        E::PlainHttp { server: text("hub.corp:8080") },
        E::Credentials { server: text("registry.internal"), cause: text("no such helper") },
        E::Range { url: url(), reason: text("the server ignored the range") },
        E::TooLarge { url: url(), most: 4 << 20 },
        E::Url { text: text("x"), reason: text("it has no scheme") },
        E::Tls { path: path("ca.pem"), reason: text("contains no certificate") },
        E::Setup { what: text("the proxy"), cause: text("it is not a URL") },
    ];
    assert_reviewed("net", convert(errors));
}

fn missing_image() -> remote::Error {
    remote::Error::NotFound { what: text("quay.io/shop/web:2.1"), hint: text("did you mean 2.0?") }
}

#[test]
fn errors_of_remote_are_as_reviewed() {
    use remote::Error as E;
    let what = || text("quay.io/shop/web:2.1");
    let errors = [
        E::Net { what: what(), cause: unauthorized() },
        E::Store(store::Error::BlobMissing { digest: digest(1) }),
        E::Document(document()),
        missing_image(),
        E::NoPlatform {
            reference: what(),
            wanted: text("linux/arm64"),
            available: text("linux/amd64"),
        },
        E::DigestMismatch {
            server: text("quay.io"),
            what: what(),
            expected: digest(1).to_string(),
            actual: digest(2).to_string(),
        },
        E::UploadMismatch {
            registry: text("registry.internal"),
            digest: digest(1).to_string(),
            message: text("DIGEST_INVALID"),
        },
        E::SparseIndexRefused {
            registry: text("registry.internal"),
            target: text("registry.internal/shop/web:2.1"),
        },
        E::PushRefused {
            registry: text("registry.internal"),
            repositories: vec![text("ai/shop/web")],
            cause: unauthorized(),
        },
        E::PushRefused {
            registry: text("registry.internal"),
            repositories: vec![text("ai/shop/api"), text("ai/shop/web")],
            cause: unauthorized(),
        },
        E::UploadOffset { what: what(), start: 10, length: 5, offset: 30 },
        E::BodyLimit { what: what(), size: types::ByteSize(65536), cause: unauthorized() },
        E::Stopped,
        E::Local { path: path("own.tar"), reason: text("is not an image archive") },
        E::Read { what: text("own.tar"), cause: cause() },
        E::Write { what: text("store"), cause: cause() },
        E::Damaged { what: text("own.tar"), reason: text("it ends too early") },
        E::TooLarge { what: text("index.yaml"), size: 9 << 30, most: 1 << 30 },
        E::EndlessList { what: text("the tags of quay.io/shop/web"), read: text("10000 pages") },
        E::Model { id: text("BAAI/bge-m3"), reason: text("has no revision v2") },
        E::Gated { id: text("org/gated"), reason: text("not in the list") },
        E::AccessRefused {
            place: text("huggingface.co"),
            what: text("org/private"),
            reason: text("401"),
            next: text("set HF_TOKEN"),
        },
        E::Helm { release: text("web"), message: text("timed out") },
        E::Render { chart: text("shop"), message: text("image is required") },
        E::Program { program: text("helm"), reason: text("was not found") },
    ];
    assert_reviewed("remote", convert(errors));
}

#[test]
fn errors_of_resolve_are_as_reviewed() {
    use resolve::Error as E;
    let problem = |cause| resolve::ResolveProblem { thing: text("quay.io/shop/web:2.1"), cause };
    let damaged = || remote::Error::Damaged { what: text("own.tar"), reason: text("is cut off") };
    let failed = || remote::Error::Net { what: text("quay.io"), cause: unauthorized() };
    let errors = [
        E::Several(vec![problem(missing_image())]),
        E::Several(vec![problem(missing_image()), problem(failed())]),
        E::Several(vec![problem(missing_image()), problem(damaged())]),
        E::Store(store::Error::BlobMissing { digest: digest(1) }),
        E::Upgrade { name: text("web") },
        E::Changed { thing: text("quay.io/shop/web:2.1") },
        E::NameCollision {
            name: text("docker.io/library/own:1"),
            first: text("0101010101 of the archive a.tar"),
            second: text("0202020202 of the archive b.tar"),
        },
    ];
    assert_reviewed("resolve", convert(errors));
}

#[test]
fn errors_of_charts_and_policies_are_as_reviewed() {
    use chart::Error as E;
    let errors = [
        E::File { file: text("values.yaml"), reason: text("is not valid YAML") },
        E::Document(document()),
        E::Render { message: text("image is required") },
        E::Unread { template: text("shop/templates/web.yaml"), line: 12, fault: fault() },
    ];
    assert_reviewed("chart", convert(errors));

    use policy::Error as P;
    let errors = [
        P::Invalid { what: "namespace", text: text("Shop"), reason: text("write lower case") },
        P::NothingLocked { lock: text("site") },
        P::LongList { images: 9000, bytes: 900_000, most: 500_000 },
        P::Types(document()),
    ];
    assert_reviewed("policy", convert(errors));
}

#[test]
fn errors_of_bundles_are_as_reviewed() {
    use bundle::{BundleFileFault as F, Error as E};
    let file = || path("site-1.gantry");
    let invalid = |fault| E::InvalidFile { path: file(), fault };
    let errors = [
        invalid(F::NotABundleFile),
        invalid(F::Cut { actual: 5, expected: 9 }),
        invalid(F::Longer { actual: 9, expected: 5 }),
        invalid(F::NoEnd),
        invalid(F::EndDamaged),
        invalid(F::IndexDamaged),
        E::Missing { name: text("site-1"), count: 3, numbers: vec![2] },
        E::Missing { name: text("site-1"), count: 3, numbers: vec![2, 3] },
        E::Duplicate { path: file(), other: path("copy.gantry"), number: 1 },
        E::OtherBundle {
            path: file(),
            id: bundle::BundleId([1; 32]),
            other: path("other-2.gantry"),
            expected: bundle::BundleId([2; 32]),
        },
        E::NoFiles,
        E::Document { path: file(), document: text("index"), reason: text("is not JSON") },
        E::Damaged { path: file(), entry: text("blob 1") },
        E::Name { text: text("a/b"), reason: "it contains a slash" },
        E::FileTooSmall { size: 1 << 20, what: "its end record", needed: 4 << 20 },
        E::TooManyFiles { size: 1 << 20, most: 9999 },
        E::NotOneFile { count: 3 },
        E::BlobDamaged { digest: digest(1), actual: digest(2) },
        E::Busy { path: path("media") },
        E::NoSpace { path: path("media"), needed: 9 << 30, free: 1 << 30 },
        E::Source(store::Error::BlobMissing { digest: digest(1) }),
        E::Read { what: text("site-1.gantry"), cause: cause() },
        E::Write { what: text("site-1.gantry"), cause: cause() },
    ];
    assert_reviewed("bundle", convert(errors));
}

#[test]
fn errors_of_extracting_are_as_reviewed() {
    use land::extract::Error as E;
    let errors = [
        E::NothingNamed { name: text("ngnix"), near: vec![text("docker.io/library/nginx:1.25")] },
        E::NothingNamed { name: text("x"), near: vec![] },
        E::Nothing,
        E::Exists { paths: vec!["out/nginx-1.25.tar".into()] },
        E::Exists { paths: (1..8).map(|number| format!("out/{number}.tar").into()).collect() },
        E::InTheWay { path: "out/BAAI/bge-m3".into(), reason: "it is not a folder" },
        E::Source(store::Error::DigestMismatch { digest: digest(1), actual: digest(2) }),
        E::Disk { path: "out".into(), cause: cause() },
    ];
    assert_reviewed("extract", convert(errors));
}

#[test]
fn errors_of_land_are_as_reviewed() {
    use land::models::Error as E;
    let errors = [
        E::NoModel { name: text("org/other"), has: vec![text("BAAI/bge-m3")] },
        E::Layout { name: text("qwen2.5:3b"), layout: "flat", reason: "it is Ollama's" },
        E::NothingFits {
            layout: "ollama",
            left_out: vec![land::models::UnfitModel {
                name: text("files.gantry/x.gguf:0123456789ab"),
                reason: text("it is a single file; choose the layout flat"),
            }],
        },
        E::SameName {
            path: "x.gguf".into(),
            names: [
                text("files.gantry/x.gguf:0123456789ab"),
                text("files.gantry/x.gguf:ba9876543210"),
            ],
        },
        E::Source(store::Error::BlobMissing { digest: digest(1) }),
        E::Name(document()),
        E::InTheWay { path: path("models/x"), reason: text("it is a file") },
        E::Disk { path: path("models/x"), cause: cause() },
    ];
    assert_reviewed("land-models", convert(errors));

    use land::claim::{Error as C, SeederFailureKind as F};
    let what = || text("pvc://rag/models");
    let work = |fault| C::Work { what: what(), fault, message: text("the disk is full") };
    let errors = [
        C::Input { what: what(), why: text("does not exist"), next: text("add --create") },
        work(F::Input),
        work(F::Integrity),
        work(F::Failed),
        C::Broken { what: what(), why: text("the connection was lost") },
    ];
    assert_reviewed("land-claim", convert(errors));
}

#[test]
fn errors_of_clusters_are_as_reviewed() {
    use cluster::Error as E;
    let doing = || text("read pods");
    let reason = || text("pods is forbidden");
    let errors = [
        E::NoContext { name: text("site"), known: text("dev, test") },
        E::NoKind { version: text("example.com/v1"), kind: text("App") },
        E::MissingRights {
            doing: doing(),
            missing: vec![cluster::Permission {
                verb: text("get"),
                group: text(""),
                resource: text("pods/log"),
                namespace: Some(text("shop")),
            }],
        },
        E::NotOurs { what: text("Secret shop/site"), next: text("choose another name") },
        E::Missing { what: text("node node9"), next: text("check its name") },
        E::NotReady {
            what: text("Pod shop/web"),
            why: text("its image cannot be pulled"),
            next: text("check the pull secret"),
        },
        E::BeingDeleted { doing: doing(), what: text("namespace shop") },
        E::Conflict { doing: doing(), reason: reason(), fields: vec![] },
        E::Refused { doing: doing(), reason: reason() },
        E::Forbidden { doing: doing(), reason: reason() },
        E::NoObject { source: "it has no kind".into() },
    ];
    assert_reviewed("cluster", convert(errors));
}

/// A kubeconfig whose API server is a port that nothing listens on.
const NO_SERVER: &str = "\
apiVersion: v1
kind: Config
clusters: [{name: site, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: me, user: {token: t}}]
contexts: [{name: site, context: {cluster: site, user: me}}]
current-context: site
";

#[tokio::test]
async fn errors_of_connecting_to_a_cluster_are_as_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    let (absent, file) = (folder.path().join("absent"), folder.path().join("config"));
    std::fs::write(&file, NO_SERVER).unwrap();
    let access =
        |kubeconfig| cluster::ClusterAccess { kubeconfig: Some(kubeconfig), context: None };
    let no_access = cluster::Cluster::connect(&access(absent)).await.err().unwrap();
    let silent = cluster::Cluster::connect(&access(file)).await.unwrap();
    let unreachable = silent.fetch_version().await.unwrap_err();
    assert!(matches!(no_access, cluster::Error::NoAccess { .. }), "{no_access:?}");
    assert!(matches!(unreachable, cluster::Error::Unreachable { .. }), "{unreachable:?}");

    let folder = folder.path().display().to_string();
    insta::with_settings!({ filters => vec![(&*folder, "[folder]")] }, {
        assert_reviewed("cluster-connect", convert([no_access, unreachable]));
    });
}

#[test]
fn errors_of_evidence_are_as_reviewed() {
    use evidence::Error as E;
    let json = || serde_json::from_str::<serde_json::Value>("{").unwrap_err();
    let errors = [
        E::Read { path: path("check.json"), cause: cause() },
        E::Write { path: path("evidence.tar.zst"), cause: cause() },
        E::Taken { path: path("evidence") },
        E::Index { document: "index.json", cause: json() },
        E::IndexVersion { document: "index.json", found: 2, known: 1 },
        E::TooMuch { most: 1 << 30 },
        evidence::TrustedKey::read("nonsense").err().unwrap(),
        E::Unreadable { what: text("evidence.tar.zst"), cause: cause() },
        E::Altered { what: text("reports/check.json"), reason: text("its SHA-256 differs") },
        E::Untrusted { reason: text("it is by the key 12AB"), cause: None },
        E::Store(store::Error::BlobMissing { digest: digest(1) }),
        E::Types(document()),
    ];
    assert_reviewed("evidence", convert(errors));
}

#[test]
fn errors_of_deployments_are_as_reviewed() {
    use deploy::Error as E;
    let errors = [
        E::NotOurs { release: text("web"), namespace: text("shop"), chart: text("web-1.0") },
        E::NoCredential { name: text("site"), host: text("registry.internal") },
        E::NotReady {
            release: text("web"),
            namespace: text("shop"),
            seconds: 600,
            pending: vec![deploy::release::PendingObject {
                object: text("Deployment shop/web"),
                why: text("its image cannot be pulled"),
                next: text("check the pull secret"),
                log: vec![text("connection refused")],
                is_final: true,
            }],
        },
        E::UnsupportedKubernetes {
            release: text("web"),
            version: text("v1.33.4"),
            message: text(
                "chart requires kubeVersion: >=1.99.0 which is incompatible with Kubernetes v1.33.4",
            ),
        },
        E::Refused { release: text("web"), reasons: vec![text("Pod web: no such field")] },
    ];
    assert_reviewed("deploy", convert(errors));

    use deploy::prepare::{PostRendererReach as Reach, ReleaseRefusal as R};
    let release = || text("web");
    let images = || {
        vec![chart::report::ImageLeftover {
            image: reference(),
            to: "registry.internal:5000/shop/web:2.1".parse().unwrap(),
            place: chart::find::ManifestLocation {
                template: Some(text("shop/templates/web.yaml")),
                document: 0,
                kind: text("Deployment"),
                name: text("web"),
                path: chart::DocumentPath::default().key("spec"),
            },
            kind: chart::report::LeftoverKind::Rendered,
            reason: text("only the template names it"),
        }]
    };
    let registries = vec![chart::relocate::ForeignReference {
        place: images()[0].place.clone(),
        text: text("quay.io/shop"),
    }];
    let leftovers = |post_renderer| R::Leftovers {
        release: release(),
        leftovers: chart::report::OpenLeftovers { images: images(), ..Default::default() },
        post_renderer,
    };
    let registry = R::Leftovers {
        release: release(),
        leftovers: chart::report::OpenLeftovers { registries, ..Default::default() },
        post_renderer: Reach::NotAll,
    };
    let errors = [
        R::Unproven { release: release(), report: text("Deployment web differs") },
        leftovers(Reach::All),
        leftovers(Reach::AllWithHelm4),
        leftovers(Reach::NotAll),
        registry,
        R::NotOffline {
            release: release(),
            leftover: chart::wiring::WiringLeftover {
                place: text("Deployment web, container web"),
                what: text("HF_HUB_OFFLINE cannot be set"),
                next: text("set env of the chart"),
            },
        },
        R::OverriddenBySet { release: release(), value: text("image.tag") },
        R::OutsideImages {
            release: release(),
            places: vec![text("quay.io/shop/web:2.1 in Deployment web")],
        },
        R::NotRendered { release: release(), cause: text("no matches for kind \"Route\"") },
    ];
    assert_reviewed("deploy-refusals", convert(errors));
}

#[test]
fn errors_of_the_audit_and_the_depot_are_as_reviewed() {
    use egress::Error as E;
    let reason = || text("a brace is open");
    let address: SocketAddr = "10.0.0.1:53".parse().unwrap();
    let errors = [
        E::Corefile { line: 3, reason: reason() },
        E::NoReload,
        E::NameService { reason: text("it is not CoreDNS"), next: text("use --no-dns") },
        E::ChangedMeanwhile { what: text("the Corefile"), record: text("gantry-audit") },
        E::Busy { host: text("laptop"), pid: 7, since: text("2026-01-01T00:00:00Z") },
        E::Record { what: text("ConfigMap gantry-audit"), source: "it has no key before".into() },
        E::PullSecret { secret: text("shop/site-pull"), source: "it is not valid JSON".into() },
        E::Listen { address, source: cause() },
        E::Manifests { name: text("all.yaml"), line: 12, fault: fault() },
        E::Report { source: "a key is not a text".into() },
    ];
    assert_reviewed("egress", convert(errors));

    use depot::Error as D;
    let errors = [
        D::Source(store::Error::BlobMissing { digest: digest(1) }),
        D::Document(document()),
        D::Damaged { digest: digest(1) },
    ];
    assert_reviewed("depot", convert(errors));
}

#[test]
fn errors_of_the_webhook_are_as_reviewed() {
    use operator::Error as E;
    let errors = [
        E::Read { path: path("gantry.lock"), source: cause() },
        E::Write { path: path("tls.crt"), source: cause() },
        E::NothingLocked { lock: text("site") },
        E::LongLock { bytes: 2 << 20, most: 1 << 20 },
        E::NoImage { image: text("ghcr.io/gantry/gantry:0.1.0") },
        E::Invalid { what: "URL of a webhook", text: text("x"), reason: text("no scheme") },
        E::Types(document()),
    ];
    assert_reviewed("operator", convert(errors));
}
