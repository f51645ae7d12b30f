//! `checks:` of `gantry.yaml`, which `gantry check` asks of what is deployed, and the form of
//! `rules/inference.yaml`, by which it recognises what is there to be asked. `docs/check.md`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A first inference may load a model of many gigabytes from a slow volume; so long is waited.
pub const TIMEOUT: Duration = Duration::from_mins(5);
/// The longest wait that may be asked for.
const LONGEST: Duration = Duration::from_hours(4);

/// What is asked, and how the answer is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `POST /v1/chat/completions`: an answer that is not empty, whole and streamed.
    OpenaiChat,
    /// `POST /v1/embeddings`: a vector that is one.
    OpenaiEmbeddings,
    /// `POST /v1/encode/{model}` of the Superlinked inference engine.
    SieEncode,
    /// `GET /api/tags`, then `POST /api/generate` or `/api/embed`.
    Ollama,
    /// Text embeddings inference: `GET /info`, then `POST /embed` or `/rerank`.
    Tei,
    /// The open inference protocol: ready, model ready, metadata, infer.
    KserveV2,
    /// A plain GET.
    Http,
    /// A connection.
    Tcp,
}

impl Kind {
    /// As it is written in `gantry.yaml`.
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

    /// Whether it asks a model.
    pub fn has_model(self) -> bool {
        !matches!(self, Self::Http | Self::Tcp)
    }
}

/// A declared check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is called in the report.
    pub name: String,
    /// What is asked.
    pub kind: Kind,
    /// The release that it belongs to: it is asked when that release is.
    pub release: Option<String>,
    /// Who is asked.
    pub target: Target,
    /// The model; the server is asked for its models when absent.
    pub model: Option<String>,
    /// The path of the request, where it is not the kind's own.
    pub path: Option<String>,
    /// How long all of it may take.
    pub timeout: Duration,
    /// Headers of every request.
    pub headers: Vec<Header>,
    /// What the answer has to be, beside what the kind asks of it.
    pub expect: Expect,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A Service of the cluster, reached by a port forward of Gantry's own.
    Service {
        /// Its namespace; the release's when absent.
        namespace: Option<String>,
        /// Its name.
        name: String,
        /// The Service's port; its only one when absent.
        port: Option<u16>,
    },
    /// An address that is reached from here: `http(s)://host[:port]`, for tcp `tcp://host:port`.
    Url(String),
}

/// A header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The header.
    pub name: String,
    /// Its value.
    pub value: HeaderValue,
}

/// Where a header's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// In `gantry.yaml`.
    Plain(String),
    /// In a Secret of the target's namespace.
    Secret {
        /// What stands before the secret: `Bearer `.
        prefix: String,
        /// The Secret.
        name: String,
        /// The key in it.
        key: String,
    },
}

/// What the answer has to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// The HTTP status; any success when absent.
    pub status: Option<u16>,
    /// A text that stands in the answer.
    pub contains: Option<String>,
    /// A JSON path (RFC 9535) that finds something in the answer.
    pub json_path: Option<serde_json_path::JsonPath>,
    /// What the path finds.
    pub equals: Option<Value>,
    /// The length of an embedding.
    pub dimensions: Option<u32>,
}

/// How a model server is recognised among the pods; the first rule that fits counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// What is asked of it.
    pub kind: Kind,
    /// Parts of the image's name and tag, one of which is there.
    #[serde(default)]
    pub images: Vec<String>,
    /// Words of command and args, one of which is there, alone or before a `=`.
    #[serde(default)]
    pub words: Vec<String>,
    /// Variables of the environment, one of which is set.
    #[serde(default)]
    pub env: Vec<String>,
    /// The port where neither the container's ports nor its args tell it.
    pub port: Option<u16>,
    /// The args that tell the port, such as `--port`.
    #[serde(default, rename = "portArgs")]
    pub port_args: Vec<String>,
    /// The args that tell the name under which the model is served.
    #[serde(default, rename = "modelArgs")]
    pub model_args: Vec<String>,
    /// One sentence for people.
    pub why: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawCheck {
    name: String,
    kind: Kind,
    release: Option<String>,
    namespace: Option<String>,
    service: Option<String>,
    port: Option<u16>,
    url: Option<String>,
    model: Option<String>,
    path: Option<String>,
    timeout: Option<String>,
    #[serde(default)]
    headers: Vec<RawHeader>,
    #[serde(default)]
    expect: RawExpect,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawHeader {
    name: String,
    value: Option<String>,
    prefix: Option<String>,
    secret_ref: Option<RawSecretRef>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSecretRef {
    name: String,
    key: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawExpect {
    status: Option<u16>,
    contains: Option<String>,
    json_path: Option<String>,
    equals: Option<Value>,
    dimensions: Option<u32>,
}

impl RawCheck {
    pub(super) fn check(self) -> Result<Check, String> {
        if self.name.is_empty() || self.name.len() > 100 {
            return Err("name: give a check a name of up to 100 characters".into());
        }
        let kind = self.kind;
        let target = self.target()?;
        let timeout = self.timeout.as_deref().map(duration).transpose()?.unwrap_or(TIMEOUT);
        if self.model.is_some() && !kind.has_model() {
            return Err(format!("model does not go with the kind {}", kind.as_str()));
        }
        if let Some(path) = &self.path {
            if kind == Kind::Tcp {
                return Err("path does not go with the kind tcp".into());
            }
            if !path.starts_with('/') {
                return Err(format!("path: {path:?} does not begin with /"));
            }
        }
        if kind == Kind::Tcp && !self.headers.is_empty() {
            return Err("headers do not go with the kind tcp".into());
        }
        let headers = self.headers.into_iter().map(RawHeader::check).collect::<Result<_, _>>()?;
        let expect = self.expect.check(kind)?;
        Ok(Check {
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

    fn target(&self) -> Result<Target, String> {
        match (&self.url, &self.service) {
            (Some(_), Some(_)) => Err("give only one of url and service".into()),
            (None, None) => Err("who is asked? give service (and port), or url".into()),
            (Some(url), None) => {
                if self.namespace.is_some() || self.port.is_some() {
                    return Err("namespace and port go with service, not with url".into());
                }
                let schemes: &[&str] = match self.kind {
                    Kind::Tcp => &["tcp://"],
                    _ => &["http://", "https://"],
                };
                let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
                match rest {
                    Some(rest) if !rest.is_empty() => Ok(Target::Url(url.clone())),
                    _ => Err(format!(
                        "url: {url:?} is no address for {}; write {}host:port",
                        self.kind.as_str(),
                        schemes[0]
                    )),
                }
            }
            (None, Some(service)) => {
                if self.namespace.is_none() && self.release.is_none() {
                    return Err(format!(
                        "where is the service {service}? give namespace, or the release that it is of"
                    ));
                }
                Ok(Target::Service {
                    namespace: self.namespace.clone(),
                    name: service.clone(),
                    port: self.port,
                })
            }
        }
    }
}

impl RawHeader {
    fn check(self) -> Result<Header, String> {
        let name = self.name;
        let value = match (self.value, self.secret_ref) {
            (Some(value), None) if self.prefix.is_none() => HeaderValue::Plain(value),
            (None, Some(secret)) => HeaderValue::Secret {
                prefix: self.prefix.unwrap_or_default(),
                name: secret.name,
                key: secret.key,
            },
            (Some(_), None) => {
                return Err(format!("the header {name}: prefix goes with secretRef"));
            }
            _ => return Err(format!("the header {name} needs one of value and secretRef")),
        };
        Ok(Header { name, value })
    }
}

impl RawExpect {
    fn check(self, kind: Kind) -> Result<Expect, String> {
        let of_answer = self.status.is_some() || self.contains.is_some();
        if kind == Kind::Tcp && (of_answer || self.json_path.is_some()) {
            return Err("expect: a TCP connection has no answer to expect something of".into());
        }
        if self.status.is_some() && kind != Kind::Http {
            return Err(format!(
                "expect: status goes with http; {} expects a success",
                kind.as_str()
            ));
        }
        if self.status.is_some_and(|status| !(100..600).contains(&status)) {
            return Err("expect: status is no HTTP status".into());
        }
        if self.equals.is_some() && self.json_path.is_none() {
            return Err("expect: equals goes with jsonPath".into());
        }
        let embeds =
            matches!(kind, Kind::OpenaiEmbeddings | Kind::SieEncode | Kind::Tei | Kind::Ollama);
        if self.dimensions.is_some() && !embeds {
            return Err(format!("expect: {} has no dimensions", kind.as_str()));
        }
        let json_path = self.json_path.map(|path| {
            serde_json_path::JsonPath::parse(&path)
                .map_err(|cause| format!("expect: {path:?} is no JSON path: {cause}"))
        });
        Ok(Expect {
            status: self.status,
            contains: self.contains,
            json_path: json_path.transpose()?,
            equals: self.equals,
            dimensions: self.dimensions,
        })
    }
}

/// `90s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("timeout: {text:?} is no time; write such as 90s, 5m or 1h");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from(parsed).map_err(|_| wrong())?;
    if duration.is_zero() || duration > LONGEST {
        return Err(format!("timeout: {text} is not between 1s and 4h"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::input::Input;

    fn read(check: &str) -> crate::Result<Vec<Check>> {
        let text = format!("version: 1\nname: a\nchecks:\n- {{{check}}}\n");
        Input::parse("gantry.yaml", &text).map(|input| input.checks)
    }

    #[test]
    fn a_declared_check_is_read_whole() {
        let checks = read(
            "name: chat, kind: openai-chat, release: llm, service: llama, port: 8080, model: tiny, \
             timeout: 90s, headers: [{name: Authorization, prefix: 'Bearer ', secretRef: {name: s, key: k}}], \
             expect: {contains: hello, jsonPath: '$.choices[0]'}",
        )
        .unwrap();
        let check = &checks[0];
        assert_eq!(check.timeout, Duration::from_secs(90));
        let service = Target::Service { namespace: None, name: "llama".into(), port: Some(8080) };
        assert_eq!(check.target, service);
        assert!(check.expect.json_path.is_some());
        assert!(
            matches!(&check.headers[0].value, HeaderValue::Secret { prefix, .. } if prefix == "Bearer ")
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
            ("name: x, kind: http", "4:3: who is asked"),
            ("name: x, kind: http, service: s", "give namespace, or the release"),
            ("name: x, kind: http, url: http://a, service: s", "only one of url and service"),
            ("name: x, kind: tcp, url: http://a", "write tcp://host:port"),
            (
                "name: x, kind: http, url: http://a, model: y",
                "model does not go with the kind http",
            ),
            ("name: x, kind: http, url: http://a, timeout: soon", "is no time"),
            ("name: x, kind: http, url: http://a, timeout: 9h", "not between"),
            ("name: x, kind: http, url: http://a, path: a", "does not begin with /"),
            ("name: x, kind: http, url: http://a, expect: {equals: 1}", "goes with jsonPath"),
            ("name: x, kind: http, url: http://a, expect: {jsonPath: 'a['}", "is no JSON path"),
            ("name: x, kind: tei, url: http://a, expect: {status: 200}", "status goes with http"),
            ("name: x, kind: http, url: http://a, headers: [{name: h}]", "needs one of value"),
        ] {
            let error = read(check).unwrap_err().to_string();
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
