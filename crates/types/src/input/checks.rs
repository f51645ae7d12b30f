//! `checks:` of `gantry.yaml`, the requests that `gantry check` sends to what is deployed, and the
//! format of `rules/inference.yaml`, by which it recognises model servers. See `docs/reference/checks.md`.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::GoDuration;

/// How long a check may take unless it says otherwise: a first inference may load a model of many
/// gigabytes from a slow volume.
pub const TIMEOUT: Duration = Duration::from_mins(5);
/// The timeouts that a check may have; longer ones are mostly typing errors.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(4);

/// The protocol of a check: which requests are sent, and what a good response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// `POST /v1/chat/completions`, plain and streamed: a response with text.
    OpenaiChat,
    /// `POST /v1/embeddings`: a vector of numbers that are not all zero.
    OpenaiEmbeddings,
    /// `POST /v1/encode/{model}` of the Superlinked inference engine.
    SieEncode,
    /// `GET /api/tags`, then `POST /api/generate` or `/api/embed`.
    Ollama,
    /// Text embeddings inference: `GET /info`, then `POST /embed` or `/rerank`.
    Tei,
    /// The open inference protocol: ready, model ready, metadata, infer.
    KserveV2,
    /// A plain HTTP GET.
    Http,
    /// A TCP connection.
    Tcp,
}

impl CheckKind {
    /// The value as it is written in `gantry.yaml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai-chat",
            Self::OpenaiEmbeddings => "openai-embeddings",
            Self::SieEncode => "sie-encode",
            Self::Ollama => "ollama",
            Self::Tei => "tei",
            Self::KserveV2 => "kserve-v2",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }

    /// Whether it sends a request to a model.
    pub fn asks_model(self) -> bool {
        !matches!(self, Self::Http | Self::Tcp)
    }
}

/// A check that `gantry.yaml` declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredCheck {
    /// Its name in the report.
    pub name: String,
    /// The protocol.
    pub kind: CheckKind,
    /// The release that it belongs to: it runs when that release is checked.
    pub release: Option<String>,
    /// Where the request is sent.
    pub target: CheckTarget,
    /// The model; when absent, one that the server lists.
    pub model: Option<String>,
    /// The path of the request, where it is not the kind's own.
    pub path: Option<String>,
    /// How long the whole check may take.
    pub timeout: Duration,
    /// Headers of every request.
    pub headers: Vec<CheckHeader>,
    /// What the response must be, besides what the kind requires.
    pub expect: CheckExpectation,
}

/// Where the request of a check is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckTarget {
    /// A Service of the cluster, reached by a port forward of Gantry's own.
    Service {
        /// Its namespace; the release's when absent.
        namespace: Option<String>,
        /// Its name.
        name: String,
        /// The Service's port; its only one when absent.
        port: Option<u16>,
    },
    /// An address that this machine reaches: `http(s)://host[:port]`, for tcp `tcp://host:port`.
    Url(String),
}

/// A header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckHeader {
    /// The header.
    pub name: String,
    /// Its value.
    pub value: CheckHeaderValue,
}

/// Where a header's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckHeaderValue {
    /// In `gantry.yaml`.
    Plain(String),
    /// In a Secret of the target's namespace.
    Secret {
        /// Text to put before the secret: `Bearer `.
        prefix: String,
        /// The Secret.
        name: String,
        /// The key in it.
        key: String,
    },
}

/// What the response to a check must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckExpectation {
    /// The HTTP status; any success when absent.
    pub status: Option<u16>,
    /// A text that the response contains.
    pub contains: Option<String>,
    /// A JSON path (RFC 9535) that matches something in the response.
    pub json_path: Option<serde_json_path::JsonPath>,
    /// The value that the path must match.
    pub equals: Option<Value>,
    /// The length of an embedding.
    pub dimensions: Option<u32>,
}

/// How a model server is recognised among the pods; the first rule that matches applies.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelServerRule {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// The protocol of the check that it gets.
    pub kind: CheckKind,
    /// Parts of the image's `name:tag`, of which one must match.
    #[serde(default)]
    pub images: Vec<String>,
    /// Words of command and args, of which one must be there, alone or before a `=`.
    #[serde(default)]
    pub words: Vec<String>,
    /// Environment variables, of which one must be set.
    #[serde(default)]
    pub env: Vec<String>,
    /// The port, where neither the container's ports nor its args say it.
    pub port: Option<u16>,
    /// The args that set the port, such as `--port`.
    #[serde(default, rename = "portArgs")]
    pub port_args: Vec<String>,
    /// The args that set the name under which the model is served.
    #[serde(default, rename = "modelArgs")]
    pub model_args: Vec<String>,
    /// One sentence for people: what the server is.
    pub why: String,
}

/// A request that `gantry check` sends, and what the response must be.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawCheck {
    /// The check's name in the report.
    name: String,
    /// The protocol.
    kind: CheckKind,
    /// The release that it belongs to: it runs when that release is checked.
    release: Option<String>,
    /// The namespace of the service [default: the release's].
    namespace: Option<String>,
    /// The Service to send the request to.
    service: Option<String>,
    /// The Service's port, where it has several.
    port: Option<u16>,
    /// An address to send the request to, instead of a service.
    url: Option<String>,
    /// The model [default: one that the server lists].
    model: Option<String>,
    /// The path of the request, where it is not the kind's own.
    path: Option<String>,
    /// How long the whole check may take, such as 90s or 5m [default: 5m].
    timeout: Option<String>,
    /// Headers of every request.
    #[serde(default)]
    headers: Vec<RawHeader>,
    /// What the response must be, besides what the kind requires.
    #[serde(default)]
    expect: RawExpectation,
}

/// A header of a request: a value, or a key of a Secret.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawHeader {
    /// The header.
    name: String,
    /// Its value.
    value: Option<String>,
    /// Text before the value of the Secret, such as `Bearer `.
    prefix: Option<String>,
    /// The key of a Secret in the target's namespace that has the value.
    secret_ref: Option<RawSecretRef>,
}

/// A key of a Secret.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawSecretRef {
    /// The Secret.
    name: String,
    /// The key in it.
    key: String,
}

/// What the response must be.
#[derive(Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawExpectation {
    /// The HTTP status, for the kind http.
    status: Option<u16>,
    /// A text that the response contains.
    contains: Option<String>,
    /// A JSON path (RFC 9535) that matches something in the response.
    json_path: Option<String>,
    /// The value that the path must match.
    equals: Option<Value>,
    /// The length of an embedding.
    dimensions: Option<u32>,
}

impl RawCheck {
    pub(super) fn into_check(self) -> Result<DeclaredCheck, String> {
        if self.name.is_empty() || self.name.len() > 100 {
            return Err("name: give a check a name of up to 100 characters".into());
        }
        let kind = self.kind;
        let target = self.parse_target()?;
        let timeout = self.timeout.as_deref().map(parse_timeout).transpose()?.unwrap_or(TIMEOUT);
        if self.model.is_some() && !kind.asks_model() {
            return Err(format!("model cannot be used with the kind {}", kind.as_str()));
        }
        if let Some(path) = &self.path {
            if kind == CheckKind::Tcp {
                return Err("path cannot be used with the kind tcp".into());
            }
            if !path.starts_with('/') {
                return Err(format!("path: {path:?} does not start with /"));
            }
        }
        if kind == CheckKind::Tcp && !self.headers.is_empty() {
            return Err("headers cannot be used with the kind tcp".into());
        }
        let headers =
            self.headers.into_iter().map(RawHeader::into_header).collect::<Result<_, _>>()?;
        let expect = self.expect.into_expectation(kind)?;
        Ok(DeclaredCheck {
            name: self.name,
            kind,
            release: self.release,
            target,
            model: self.model,
            path: self.path,
            timeout,
            headers,
            expect,
        })
    }

    fn parse_target(&self) -> Result<CheckTarget, String> {
        match (&self.url, &self.service) {
            (Some(_), Some(_)) => Err("give only one of url and service".into()),
            (None, None) => Err("give service (and port) or url: where the request is sent".into()),
            (Some(url), None) => {
                if self.namespace.is_some() || self.port.is_some() {
                    return Err(
                        "namespace and port can only be used with service, not with url".into()
                    );
                }
                let schemes: &[&str] = match self.kind {
                    CheckKind::Tcp => &["tcp://"],
                    _ => &["http://", "https://"],
                };
                let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
                match rest {
                    Some(rest) if !rest.is_empty() => Ok(CheckTarget::Url(url.clone())),
                    _ => Err(format!(
                        "url: {url:?} is not an address for {}; write {}host:port",
                        self.kind.as_str(),
                        schemes[0]
                    )),
                }
            }
            (None, Some(service)) => {
                if self.namespace.is_none() && self.release.is_none() {
                    return Err(format!(
                        "give the namespace of the service {service}, or the release that it belongs to"
                    ));
                }
                Ok(CheckTarget::Service {
                    namespace: self.namespace.clone(),
                    name: service.clone(),
                    port: self.port,
                })
            }
        }
    }
}

impl RawHeader {
    fn into_header(self) -> Result<CheckHeader, String> {
        let name = self.name;
        let value = match (self.value, self.secret_ref) {
            // A prefix makes sense with a secret only: a plain value can contain it.
            (Some(value), None) if self.prefix.is_none() => CheckHeaderValue::Plain(value),
            (None, Some(secret)) => CheckHeaderValue::Secret {
                prefix: self.prefix.unwrap_or_default(),
                name: secret.name,
                key: secret.key,
            },
            (Some(_), None) => {
                return Err(format!("the header {name}: prefix can only be used with secretRef"));
            }
            _ => return Err(format!("the header {name} needs one of value and secretRef")),
        };
        Ok(CheckHeader { name, value })
    }
}

impl RawExpectation {
    fn into_expectation(self, kind: CheckKind) -> Result<CheckExpectation, String> {
        let of_answer = self.status.is_some() || self.contains.is_some();
        if kind == CheckKind::Tcp && (of_answer || self.json_path.is_some()) {
            return Err("expect: the kind tcp has no response that could be checked".into());
        }
        if self.status.is_some() && kind != CheckKind::Http {
            return Err(format!(
                "expect: status can only be used with http; {} always expects success",
                kind.as_str()
            ));
        }
        if self.status.is_some_and(|status| !(100..600).contains(&status)) {
            return Err("expect: status must be an HTTP status, such as 200".into());
        }
        if self.equals.is_some() && self.json_path.is_none() {
            return Err("expect: equals can only be used with jsonPath".into());
        }
        // The kinds whose responses can have an embedding.
        let embeds = matches!(
            kind,
            CheckKind::OpenaiEmbeddings | CheckKind::SieEncode | CheckKind::Tei | CheckKind::Ollama
        );
        if self.dimensions.is_some() && !embeds {
            return Err(format!(
                "expect: dimensions cannot be used with the kind {}",
                kind.as_str()
            ));
        }
        let json_path = self.json_path.map(|path| {
            serde_json_path::JsonPath::parse(&path).map_err(|_| {
                format!("expect: {path:?} is not a JSON path; write such as $.choices[0]")
            })
        });
        Ok(CheckExpectation {
            status: self.status,
            contains: self.contains,
            json_path: json_path.transpose()?,
            equals: self.equals,
            dimensions: self.dimensions,
        })
    }
}

/// Reads the timeout of a check: `90s`, `5m`, `1h30m`.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let parsed = text.parse().and_then(|time: GoDuration| time.require_within(&TIMEOUTS));
    parsed.map_err(|error| format!("timeout: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::input::Input;

    fn read_checks(check: &str) -> crate::Result<Vec<DeclaredCheck>> {
        let text = format!("version: 1\nname: a\nchecks:\n- {{{check}}}\n");
        Input::parse("gantry.yaml", &text).map(|input| input.checks)
    }

    #[test]
    fn a_declared_check_is_read_whole() {
        let checks = read_checks(
            "name: chat, kind: openai-chat, release: llm, service: llama, port: 8080, model: tiny, \
             timeout: 90s, headers: [{name: Authorization, prefix: 'Bearer ', secretRef: {name: s, key: k}}], \
             expect: {contains: hello, jsonPath: '$.choices[0]'}",
        )
        .unwrap();
        let check = &checks[0];
        assert_eq!(check.timeout, Duration::from_secs(90));
        for (text, seconds) in [("90", 90), ("1h30m", 5400)] {
            let check = format!("name: a, kind: http, url: 'http://a', timeout: {text}");
            assert_eq!(read_checks(&check).unwrap()[0].timeout, Duration::from_secs(seconds));
        }
        let service =
            CheckTarget::Service { namespace: None, name: "llama".into(), port: Some(8080) };
        assert_eq!(check.target, service);
        assert!(check.expect.json_path.is_some());
        assert!(
            matches!(&check.headers[0].value, CheckHeaderValue::Secret { prefix, .. } if prefix == "Bearer ")
        );
    }

    #[test]
    fn each_mistake_of_a_check_is_named_with_its_place() {
        let web = "name: web, kind: http";
        for (check, expected) in [
            (
                "name: x, kind: openai-chatt, url: http://a",
                "4:19: unknown value \"openai-chatt\"; did you mean \"openai-chat\"",
            ),
            (
                "name: x, kind: http, url: http://a, modle: y",
                "unknown key \"modle\"; did you mean \"model\"",
            ),
            ("name: x, kind: http", "4:3: give service (and port) or url"),
            (
                "name: x, kind: http, service: s",
                "give the namespace of the service s, or the release",
            ),
            ("name: x, kind: http, url: http://a, service: s", "only one of url and service"),
            ("name: x, kind: tcp, url: http://a", "write tcp://host:port"),
            (
                "name: x, kind: http, url: http://a, model: y",
                "model cannot be used with the kind http",
            ),
            (
                "name: x, kind: http, url: http://a, timeout: soon",
                "is not a valid duration: write a time such as",
            ),
            ("name: x, kind: http, url: http://a, timeout: 9h", "from 1ms to 4h"),
            ("name: x, kind: http, url: http://a, path: a", "does not start with /"),
            (
                "name: x, kind: http, url: http://a, expect: {equals: 1}",
                "only be used with jsonPath",
            ),
            ("name: x, kind: http, url: http://a, expect: {jsonPath: 'a['}", "is not a JSON path"),
            (
                "name: x, kind: tei, url: http://a, expect: {status: 200}",
                "status can only be used with http",
            ),
            ("name: x, kind: http, url: http://a, headers: [{name: h}]", "needs one of value"),
        ] {
            let error = read_checks(check).unwrap_err().to_string();
            assert!(
                error.starts_with("gantry.yaml:4:") && error.contains(expected),
                "{check}: {error}"
            );
        }
        let twice = format!(
            "version: 1\nname: a\nchecks:\n- {{{web}, url: http://a}}\n- {{{web}, url: http://b}}\n"
        );
        let error = Input::parse("f", &twice).unwrap_err().to_string();
        assert!(error.contains("f:5:3: there are two checks"), "{error}");
    }
}
