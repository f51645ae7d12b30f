//! Check `inference`: deployed model servers answer a first request. Runs the checks that
//! `gantry.yaml` declares, and asks every other model server that [`crate::inference::recognise`]
//! finds, each through a port forward.

use std::collections::BTreeMap;

use cluster::objects::api::core::v1::{Pod, Secret, Service};
use cluster::{ForwardTarget as Forwarded, ObjectScope, PortForward, explain_pod};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue as Value};
use types::input::checks::{CheckHeaderValue, CheckKind, CheckTarget, DeclaredCheck};
use types::lock::LockedModel;

use super::pods::list_release_pods;
use super::workloads::report_missing_release;
use super::{CheckFinding, CheckName, CheckSubject, CheckedRelease, FindingState};
use crate::inference::recognise::{RecognisedServer, find_service};
use crate::inference::{self, InferenceProbe, ServerConnection};

/// The most servers that are asked at the same time. Few, since the time of each answer is
/// reported.
const AT_ONCE: usize = 2;

/// A request to one server, and how to reach it.
struct ServerCheck {
    /// What findings call it.
    what: String,
    /// Its namespace or URL.
    place: String,
    /// Whether `gantry.yaml` declares it. Then a missing credential is a failure and not only a
    /// warning.
    is_declared: bool,
    probe: InferenceProbe,
    route: ServerRoute,
}

/// How a server is reached.
enum ServerRoute {
    /// By the URL in the probe.
    Url,
    /// By a port forward through the API server.
    Forward { namespace: String, target: Forwarded, port: u16 },
}

/// Asks all model servers.
pub(super) async fn check_inference(subject: &CheckSubject) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    let mut questions = Vec::new();
    for check in &subject.checks {
        match build_declared_check(subject, check).await {
            Ok(question) => questions.push(question),
            Err(finding) => findings.push(finding),
        }
    }
    for release in &subject.releases {
        match find_recognised_servers(subject, release).await {
            Ok(Some(found)) => {
                for question in found {
                    // What the user declared about a server replaces the default request.
                    if !questions.iter().any(|other| is_same_server(other, &question)) {
                        questions.push(question);
                    }
                }
            }
            Ok(None) => {
                findings.push(report_missing_release(subject, release, CheckName::Inference));
            }
            Err(error) => {
                let what = format!("model servers of {}", release.name);
                let place = &release.namespace;
                findings.push(CheckFinding::from_cluster_error(
                    CheckName::Inference,
                    place,
                    what,
                    &error,
                    FindingState::Failed,
                ));
            }
        }
    }
    clear_models_of_several_ollamas(&mut questions);
    let asked =
        futures::stream::iter(&questions).map(|question| run_server_check(subject, question));
    findings.extend(asked.buffered(AT_ONCE).collect::<Vec<_>>().await);
    if findings.is_empty() {
        let why = "no model server was recognised; declare one under checks: in gantry.yaml";
        findings.push(CheckFinding::skipped(
            CheckName::Inference,
            "cluster",
            "first inference",
            why,
        ));
    }
    findings
}

/// With several Ollama servers nobody knows which one should have which locked model. Only a single
/// one is expected to have them all.
fn clear_models_of_several_ollamas(questions: &mut [ServerCheck]) {
    let is_ollama = |question: &&ServerCheck| question.probe.kind == CheckKind::Ollama;
    if questions.iter().filter(is_ollama).count() > 1 {
        for question in
            questions.iter_mut().filter(|question| question.probe.kind == CheckKind::Ollama)
        {
            question.probe.likely.clear();
        }
    }
}

/// Whether two requests go to the same server and port.
fn is_same_server(one: &ServerCheck, other: &ServerCheck) -> bool {
    match (&one.route, &other.route) {
        (
            ServerRoute::Forward { namespace, target, port },
            ServerRoute::Forward { namespace: n, target: t, port: p },
        ) => namespace == n && target == t && port == p,
        _ => false,
    }
}

/// Builds the request of a check in `gantry.yaml`; the error is its finding.
async fn build_declared_check(
    subject: &CheckSubject,
    check: &DeclaredCheck,
) -> Result<ServerCheck, CheckFinding> {
    let release = check.release.as_deref();
    let of_release = subject.releases.iter().find(|one| Some(one.name.as_str()) == release);
    let place = match &check.target {
        CheckTarget::Url(url) => url.clone(),
        CheckTarget::Service { namespace: Some(namespace), .. } => namespace.clone(),
        CheckTarget::Service { .. } => {
            of_release.map(|one| one.namespace.clone()).unwrap_or_default()
        }
    };
    let failed = |why: String, next: &str| {
        CheckFinding::failed(CheckName::Inference, &place, &check.name).with_reason(why, next)
    };
    let namespace = match &check.target {
        CheckTarget::Url(_) => of_release.map(|one| one.namespace.clone()),
        CheckTarget::Service { .. } => Some(place.clone()),
    };
    let mut headers = HeaderMap::new();
    for header in &check.headers {
        let next = "correct headers: of the check in gantry.yaml";
        let text = match &header.value {
            CheckHeaderValue::Plain(text) => text.clone(),
            CheckHeaderValue::Secret { prefix, name, key } => {
                let namespace = namespace.as_deref().unwrap_or_default();
                let secret = read_secret_key(subject, namespace, name, key).await;
                format!("{prefix}{}", secret.map_err(|why| failed(why, next))?)
            }
        };
        let parsed = HeaderName::from_bytes(header.name.as_bytes());
        let (Ok(name), Ok(mut value)) = (parsed, Value::from_str(&text)) else {
            return Err(failed(
                format!(
                    "{} is not a valid HTTP header name, or its value is not a valid header value",
                    header.name
                ),
                next,
            ));
        };
        // Keeps keys out of debug output.
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let (base, way) = match &check.target {
        CheckTarget::Url(url) => (url.trim_end_matches('/').to_owned(), ServerRoute::Url),
        CheckTarget::Service { name, port, .. } => {
            let port = match port {
                Some(port) => *port,
                None => find_only_port(subject, &place, name)
                    .await
                    .map_err(|why| failed(why, "set port: of the check in gantry.yaml"))?,
            };
            let target = Forwarded::Service(name.clone());
            (String::new(), ServerRoute::Forward { namespace: place.clone(), target, port })
        }
    };
    let probe = InferenceProbe {
        base,
        via: if matches!(way, ServerRoute::Url) {
            ServerConnection::Direct
        } else {
            ServerConnection::Forward
        },
        kind: check.kind,
        model: check.model.clone(),
        likely: list_locked_models(subject, check.kind),
        path: check.path.clone(),
        headers,
        timeout: check.timeout,
        expect: check.expect.clone(),
    };
    Ok(ServerCheck { what: check.name.clone(), place, is_declared: true, probe, route: way })
}

/// Reads a key of a Secret as text.
async fn read_secret_key(
    subject: &CheckSubject,
    namespace: &str,
    name: &str,
    key: &str,
) -> Result<String, String> {
    let found = subject.cluster.get_object::<Secret>(ObjectScope::Namespace(namespace), name).await;
    let secret = found.map_err(|error| error.to_string())?;
    let secret = secret.ok_or_else(|| format!("the Secret {namespace}/{name} does not exist"))?;
    let value = secret.data.and_then(|mut data| data.remove(key));
    let value = value.ok_or_else(|| format!("the Secret {namespace}/{name} has no key {key}"))?;
    let text = String::from_utf8(value.0);
    // Secrets made with `echo … | kubectl create` often end with a line break, which no header
    // allows.
    text.map(|text| text.trim_end_matches('\n').to_owned()).map_err(|_| {
        format!("the key {key} of the Secret {namespace}/{name} is not valid UTF-8 text")
    })
}

/// Returns the port of a Service that has only one.
async fn find_only_port(
    subject: &CheckSubject,
    namespace: &str,
    name: &str,
) -> Result<u16, String> {
    let found =
        subject.cluster.get_object::<Service>(ObjectScope::Namespace(namespace), name).await;
    let service = found.map_err(|error| error.to_string())?;
    let service =
        service.ok_or_else(|| format!("the Service {namespace}/{name} does not exist"))?;
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    match ports.as_slice() {
        [only] => u16::try_from(only.port)
            .map_err(|_| format!("{} is not a valid port number", only.port)),
        all => {
            let known: Vec<String> = all.iter().map(|port| port.port.to_string()).collect();
            Err(format!(
                "the Service {namespace}/{name} has several ports or none: {}",
                known.join(", ")
            ))
        }
    }
}

/// Recognises the model servers among the ready pods of a release, one of all replicas. `None` if
/// the release has no pods.
async fn find_recognised_servers(
    subject: &CheckSubject,
    release: &CheckedRelease,
) -> cluster::Result<Option<Vec<ServerCheck>>> {
    let namespace = &release.namespace;
    let pods = list_release_pods(subject, release).await?;
    if pods.is_empty() {
        return Ok(None);
    }
    let services =
        subject.cluster.list_objects::<Service>(ObjectScope::Namespace(namespace), "").await?;
    let mut questions: BTreeMap<(String, String), ServerCheck> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_pod_ready(pod)) {
        let Some(spec) = &pod.spec else { continue };
        for served in subject.servers.recognise_pod(spec) {
            let labels = pod.metadata.labels.clone().unwrap_or_default();
            let (target, port) = match find_service(&services, &labels, spec, served.port) {
                Some((name, port)) => (Forwarded::Service(name.to_owned()), port),
                // Without a Service other pods cannot reach it either, but it can still be asked.
                None => {
                    let name = pod.metadata.name.clone().unwrap_or_default();
                    (Forwarded::Pod(name), served.port)
                }
            };
            // Replicas share their controller, and one of them answers for all.
            let key = (find_pod_owner(pod), served.container.clone());
            questions
                .entry(key)
                .or_insert_with(|| build_recognised_check(subject, release, served, target, port));
        }
    }
    Ok(Some(questions.into_values().collect()))
}

/// Builds the default request for a recognised server.
fn build_recognised_check(
    subject: &CheckSubject,
    release: &CheckedRelease,
    served: RecognisedServer,
    target: Forwarded,
    port: u16,
) -> ServerCheck {
    let mut probe = InferenceProbe::new("", served.kind);
    probe.via = ServerConnection::Forward;
    probe.model = served.model;
    probe.likely = list_locked_models(subject, served.kind);
    let namespace = release.namespace.clone();
    ServerCheck {
        what: format!("{} at {target}:{port} ({})", served.kind.as_str(), served.rule),
        place: namespace.clone(),
        is_declared: false,
        probe,
        route: ServerRoute::Forward { namespace, target, port },
    }
}

/// Sends the request and reports the result.
async fn run_server_check(subject: &CheckSubject, question: &ServerCheck) -> CheckFinding {
    let (place, what) = (&question.place, &question.what);
    let mut probe = question.probe.clone();
    let forward: Option<PortForward> = match &question.route {
        ServerRoute::Url => None,
        ServerRoute::Forward { namespace, target, port } => {
            match subject.cluster.forward_port(namespace, target, *port).await {
                Ok(forward) => {
                    let scheme = if probe.kind == CheckKind::Tcp { "tcp" } else { "http" };
                    probe.base = format!("{scheme}://{}", forward.address);
                    Some(forward)
                }
                Err(error) => {
                    return CheckFinding::from_cluster_error(
                        CheckName::Inference,
                        place,
                        what,
                        &error,
                        FindingState::Failed,
                    );
                }
            }
        }
    };
    let client = match inference::build_client(&subject.ca, &probe) {
        Ok(client) => client,
        Err(error) => {
            let next = "correct the files with CA certificates";
            return CheckFinding::failed(CheckName::Inference, place, what)
                .with_reason(error.to_string(), next);
        }
    };
    let outcome = inference::run_probe(&client, &probe).await;
    // Names the pod behind a Service, so that the user knows whose log to read.
    let through = forward.as_ref().map(|forward| format!(" (pod {})", forward.pod));
    match outcome {
        Ok(answer) => {
            let model = answer.model.map(|model| format!("{model}: ")).unwrap_or_default();
            let later = match answer.put_off {
                0 => String::new(),
                1 => "; it asked once to retry later".to_owned(),
                times => format!("; it asked {times} times to retry later"),
            };
            let seconds = answer.first.as_secs_f64();
            let why = format!(
                "{model}{}; first answer after {seconds:.2} s{later}{}",
                answer.says,
                through.unwrap_or_default()
            );
            CheckFinding::ok(CheckName::Inference, place, what, why).with_duration(answer.first)
        }
        Err(failure) => {
            let why = format!("{}{}", failure.why, through.unwrap_or_default());
            match failure.needs_key && !question.is_declared {
                true => CheckFinding::warning(CheckName::Inference, place, what),
                false => CheckFinding::failed(CheckName::Inference, place, what),
            }
            .with_reason(why, failure.next)
        }
    }
}

/// Whether a pod runs and all its containers are ready.
fn is_pod_ready(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && explain_pod(pod).is_none()
}

/// Returns the controller of a pod, which all replicas have in common; its own name without one.
fn find_pod_owner(pod: &Pod) -> String {
    let owners = pod.metadata.owner_references.iter().flatten();
    let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
    controller.map_or_else(
        || pod.metadata.name.clone().unwrap_or_default(),
        |owner| format!("{}/{}", owner.kind, owner.name),
    )
}

/// Lists the locked models that a server with this protocol may have.
fn list_locked_models(subject: &CheckSubject, kind: CheckKind) -> Vec<String> {
    let models = subject.lock.iter().flat_map(|lock| &lock.models);
    models
        .filter_map(|model| match (model, kind) {
            (LockedModel::Ollama(model), CheckKind::Ollama) => Some(model.ollama.clone()),
            (LockedModel::Hub(_), CheckKind::Ollama) => None,
            (LockedModel::Hub(model), _) => Some(model.hf.to_string()),
            _ => None,
        })
        .collect()
}
