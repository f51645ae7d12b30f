//! Examines this machine for `gantry doctor`: whether helm, the store, proxies, credentials, clock and the
//! registries that are needed will do. Nothing is changed, and no secret is in a finding.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use net::{Client, Credentials, HttpRequest, HttpResponse, Mirrors};
use serde::Serialize;
use types::{ByteSize, error_chain};

use crate::helm::HelmBinary;

/// Less free space than this is a warning: a single model has more.
const LITTLE_SPACE: u64 = 5 << 30;
/// Clocks that differ by more are a warning: tokens and certificates have times in them, and registries
/// hand out tokens for five minutes (Distribution's token specification has 60 s as the shortest).
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// A server that has not answered by then is told as unreachable.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoctorFinding {
    /// What was examined: helm, store, proxy, registry.internal:5000.
    pub subject: String,
    /// How it is.
    pub status: DoctorStatus,
    /// What was found.
    pub detail: String,
    /// What to do; empty where nothing is wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// How something that was examined is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DoctorStatus {
    /// It will do.
    Ok,
    /// It may become a problem.
    Warning,
    /// Commands that need it will fail.
    Failed,
}

impl DoctorStatus {
    /// The word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

impl DoctorFinding {
    /// A finding that something will do.
    pub fn new_ok(subject: impl Into<String>, detail: impl Into<String>) -> Self {
        let (subject, detail) = (subject.into(), detail.into());
        Self { subject, status: DoctorStatus::Ok, detail, next: String::new() }
    }

    /// The same with another status and what to do.
    #[must_use]
    pub fn with_next(self, status: DoctorStatus, next: impl Into<String>) -> Self {
        Self { status, next: next.into(), ..self }
    }
}

/// Looks for helm and its version.
pub fn examine_helm() -> DoctorFinding {
    match HelmBinary::locate() {
        Ok(helm) => DoctorFinding::new_ok("helm", format!("version {}", helm.version())),
        Err(error) => DoctorFinding::new_ok("helm", error_chain(&error))
            .with_next(DoctorStatus::Failed, "without helm, charts cannot be rendered"),
    }
}

/// Looks at the folder of the store and the free space on its disk.
pub fn examine_store(path: &Path) -> DoctorFinding {
    let subject = "store";
    let shown = path.display();
    let Some(existing) = path.ancestors().find(|folder| folder.is_dir()) else {
        return DoctorFinding::new_ok(subject, format!("{shown}: no folder of this path exists"))
            .with_next(DoctorStatus::Failed, "name another folder with --store or GANTRY_STORE");
    };
    if path.is_dir()
        && let Err(error) = store::Store::open_existing(path)
    {
        return DoctorFinding::new_ok(subject, error_chain(&error))
            .with_next(DoctorStatus::Failed, "name another folder with --store or GANTRY_STORE");
    }
    match store::space::free_space(existing) {
        Ok(free) => {
            let state = if path.is_dir() { "" } else { " (it is created by the first use)" };
            let found =
                DoctorFinding::new_ok(subject, format!("{shown}{state}, {} free", ByteSize(free)));
            match free < LITTLE_SPACE {
                true => found.with_next(
                    DoctorStatus::Warning,
                    "gantry plan says how much a fetch needs; name a folder on a larger disk with --store",
                ),
                false => found,
            }
        }
        Err(error) => DoctorFinding::new_ok(subject, error_chain(&error))
            .with_next(DoctorStatus::Failed, "name another folder with --store or GANTRY_STORE"),
    }
}

/// Lists the proxies of the environment, without the passwords in them. `find` looks up a variable.
pub fn examine_proxies(find: impl Fn(&str) -> Option<String>) -> Vec<DoctorFinding> {
    let mut findings = Vec::new();
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        // As in curl, both spellings count, the small one first.
        let found = find(&name.to_lowercase()).or_else(|| find(name));
        let Some(value) = found.filter(|value| !value.is_empty()) else { continue };
        let address = if value.contains("://") { value } else { format!("http://{value}") };
        findings.push(match HttpRequest::get(&address) {
            Ok(request) => DoctorFinding::new_ok(name, request.redacted_url()),
            Err(error) => DoctorFinding::new_ok(name, error_chain(&error))
                .with_next(DoctorStatus::Failed, format!("write {name}=http://HOST:PORT")),
        });
    }
    if let Some(list) =
        find("no_proxy").or_else(|| find("NO_PROXY")).filter(|list| !list.is_empty())
    {
        findings.push(DoctorFinding::new_ok("NO_PROXY", list));
    }
    if findings.is_empty() {
        findings.push(DoctorFinding::new_ok("proxies", "none"));
    }
    findings
}

/// Asks a registry whether it answers, what credential this machine has for it, and what time it has.
pub async fn examine_registry(
    client: &Client,
    mirrors: &Mirrors,
    credentials: &Credentials,
    host: &str,
) -> Vec<DoctorFinding> {
    let endpoint = mirrors.registry_endpoint(host);
    let mut findings = ask_server(client, host, &format!("{}/v2/", endpoint.base)).await;
    findings.push(examine_credential(credentials.clone(), host, endpoint.server).await);
    findings
}

/// Asks another server by HTTP, such as the Hub, whether it answers, and what time it has.
pub async fn examine_server(client: &Client, subject: &str, url: &str) -> Vec<DoctorFinding> {
    ask_server(client, subject, url).await
}

/// Looks for the credential of a registry. Which name it has is told, the secret never.
async fn examine_credential(credentials: Credentials, host: &str, server: String) -> DoctorFinding {
    let subject = format!("credential of {host}");
    // Reading may run a credential helper, which blocks.
    let found = tokio::task::spawn_blocking(move || credentials.find_credential(&server)).await;
    match found {
        Ok(Ok(Some(credential))) => DoctorFinding::new_ok(subject, credential.user().to_owned()),
        Ok(Ok(None)) => DoctorFinding::new_ok(subject, "none, requests are anonymous"),
        Ok(Err(error)) => DoctorFinding::new_ok(subject, error_chain(&error))
            .with_next(DoctorStatus::Failed, format!("run: docker login {host}")),
        Err(error) => DoctorFinding::new_ok(subject, error_chain(&error))
            .with_next(DoctorStatus::Failed, "run the same command again"),
    }
}

async fn ask_server(client: &Client, subject: &str, url: &str) -> Vec<DoctorFinding> {
    let request = match HttpRequest::get(url) {
        Ok(request) => request,
        Err(error) => {
            return vec![
                DoctorFinding::new_ok(subject, error_chain(&error))
                    .with_next(DoctorStatus::Failed, "correct its address"),
            ];
        }
    };
    let started = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, client.send_without_retry(&request)).await;
    let shown = request.redacted_url();
    match answer {
        // Any answer of a server shows that it is reached; without a credential most say 401.
        Ok(Ok(response)) => {
            let milliseconds = started.elapsed().as_millis();
            let status = response.status();
            let detail = format!("{shown} answered {} in {milliseconds} ms", status.as_u16());
            let reached = match status.is_server_error() {
                true => DoctorFinding::new_ok(subject, detail)
                    .with_next(DoctorStatus::Warning, "the server has a problem; try again later"),
                false => DoctorFinding::new_ok(subject, detail),
            };
            let clock = examine_clock(subject, &response, SystemTime::now());
            std::iter::once(reached).chain(clock).collect()
        }
        Ok(Err(error)) => vec![
            DoctorFinding::new_ok(subject, error_chain(&error)).with_next(
                DoctorStatus::Failed,
                "check the address, the proxies (HTTPS_PROXY, NO_PROXY), the firewall and the CA (--ca, SSL_CERT_FILE)",
            ),
        ],
        Err(_) => vec![
            DoctorFinding::new_ok(subject, format!("{shown} did not answer in {PATIENCE:?}"))
                .with_next(DoctorStatus::Failed, "check the proxies and the firewall"),
        ],
    }
}

/// Compares the clock of this machine with the `Date` of a response; nothing where there is none.
fn examine_clock(subject: &str, response: &HttpResponse, now: SystemTime) -> Option<DoctorFinding> {
    let theirs = httpdate::parse_http_date(response.header("date")?).ok()?;
    Some(compare_clocks(subject, theirs, now))
}

fn compare_clocks(subject: &str, theirs: SystemTime, ours: SystemTime) -> DoctorFinding {
    let (difference, word) = match ours.duration_since(theirs) {
        Ok(difference) => (difference, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let about = format!("clock and {subject}");
    if difference <= CLOCK_TOLERANCE {
        return DoctorFinding::new_ok(about, "the same time");
    }
    let detail = format!("this machine is {} s {word} {subject}", difference.as_secs());
    DoctorFinding::new_ok(about, detail).with_next(
        DoctorStatus::Warning,
        "set the clock (NTP): tokens and certificates are refused before and after their time",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn proxies_are_told_without_their_passwords() {
        let find = |name: &str| match name {
            "https_proxy" => Some("http://user:hunter2@proxy.corp:3128".to_owned()),
            "HTTP_PROXY" => Some("proxy.corp:3128".to_owned()),
            "NO_PROXY" => Some("localhost,.internal".to_owned()),
            _ => None,
        };
        let findings = examine_proxies(find);
        let details: Vec<&str> = findings.iter().map(|finding| finding.detail.as_str()).collect();
        assert_eq!(
            details,
            ["http://proxy.corp:3128/", "http://proxy.corp:3128/", "localhost,.internal"]
        );
        assert_eq!(examine_proxies(|_| None)[0].detail, "none");
    }

    #[test]
    fn a_clock_that_differs_is_a_warning() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let compare = |seconds: i64| {
            let offset = Duration::from_secs(seconds.unsigned_abs());
            let theirs = if seconds < 0 { now - offset } else { now + offset };
            compare_clocks("hub", theirs, now)
        };
        assert_eq!(compare(30).status, DoctorStatus::Ok);
        assert_eq!(compare(90).detail, "this machine is 90 s behind hub");
        assert_eq!(compare(-90).detail, "this machine is 90 s ahead of hub");
        assert_eq!(compare(-90).status, DoctorStatus::Warning);
    }

    #[test]
    fn a_store_that_is_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        assert_eq!(examine_store(folder.path()).status, DoctorStatus::Failed);
        let new = examine_store(&folder.path().join("new/store"));
        assert!(new.status < DoctorStatus::Failed && new.detail.contains("free"), "{new:?}");
    }
}
