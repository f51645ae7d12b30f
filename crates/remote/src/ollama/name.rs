//! Names of Ollama models. Missing parts (host, namespace, tag) are filled in as Ollama does it.

use std::fmt;
use std::str::FromStr;

use types::Reference;

use crate::{Error, Result};

/// Default values of the parts that a name may omit (Ollama, types/model/name.go).
pub(super) const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";
/// Longest part of a name (Ollama, types/model/name.go).
const MAX_PART: usize = 350;

/// A model's name, with all parts: `registry.ollama.ai/library/qwen2.5:3b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OllamaName {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

impl OllamaName {
    /// The registry's host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path in the registry, in its original case: `library/qwen2.5`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.namespace, self.model)
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The path of its manifest below `manifests/` in Ollama's models folder.
    pub fn manifest_path(&self) -> String {
        format!("{}/{}/{}/{}", self.host, self.namespace, self.model, self.tag)
    }

    /// The name that belongs to a path below `manifests/`; `None` for any other file there.
    pub fn from_path(path: &str) -> Option<Self> {
        let [host, namespace, model, tag] = path.split('/').collect::<Vec<_>>()[..] else {
            return None;
        };
        Self::new(host, namespace, model, tag).ok()
    }

    /// The reference in a store: in lower case, since OCI repositories have no upper case.
    pub fn reference(&self) -> Result<Reference> {
        let repository = self.repository().to_ascii_lowercase();
        Ok(Reference::new(&self.host.to_ascii_lowercase(), &repository, Some(&self.tag), None)?)
    }

    fn new(host: &str, namespace: &str, model: &str, tag: &str) -> Result<Self> {
        let whole = format!("{host}/{namespace}/{model}:{tag}");
        let invalid = |part: &str| Error::Model {
            id: whole.clone(),
            reason: format!(
                "{part:?} is not valid in the name of an Ollama model; write the name as for `ollama pull`, such as qwen2.5:3b"
            ),
        };
        for (part, is_host) in [(host, true), (namespace, false), (model, false), (tag, false)] {
            let valid = |sign: char| {
                sign.is_ascii_alphanumeric()
                    || matches!(sign, '-' | '_' | '.')
                    || (is_host && sign == ':')
            };
            if part.is_empty()
                || part.len() > MAX_PART
                || !part.chars().all(valid)
                || part.starts_with(['.', '-'])
            {
                return Err(invalid(part));
            }
        }
        Ok(Self {
            host: host.to_owned(),
            namespace: namespace.to_owned(),
            model: model.to_owned(),
            tag: tag.to_owned(),
        })
    }
}

impl FromStr for OllamaName {
    type Err = Error;

    /// `[scheme://][host/][namespace/]model[:tag]`.
    fn from_str(text: &str) -> Result<Self> {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            // A colon before a slash belongs to a port: `127.0.0.1:5000/library/x`.
            _ => (rest, TAG),
        };
        match path.split('/').collect::<Vec<_>>()[..] {
            [model] => Self::new(HOST, NAMESPACE, model, tag),
            [namespace, model] => Self::new(HOST, namespace, model, tag),
            [host, namespace, model] => Self::new(host, namespace, model, tag),
            _ => Err(Error::Model {
                id: text.to_owned(),
                reason:
                    "the name has too many parts; write it as for `ollama pull`, such as qwen2.5:3b"
                        .into(),
            }),
        }
    }
}

impl fmt::Display for OllamaName {
    /// The short form, without default host and namespace, as `ollama list` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host != HOST {
            write!(f, "{}/", self.host)?;
        }
        if self.host != HOST || self.namespace != NAMESPACE {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}:{}", self.model, self.tag)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_completed_as_ollama_does_it() {
        for (text, path, shown) in [
            ("qwen2.5:3b", "registry.ollama.ai/library/qwen2.5/3b", "qwen2.5:3b"),
            (
                "nomic-embed-text",
                "registry.ollama.ai/library/nomic-embed-text/latest",
                "nomic-embed-text:latest",
            ),
            ("me/own:1", "registry.ollama.ai/me/own/1", "me/own:1"),
            (
                "hf.co/Org/Repo-GGUF:Q4_K_M",
                "hf.co/Org/Repo-GGUF/Q4_K_M",
                "hf.co/Org/Repo-GGUF:Q4_K_M",
            ),
            (
                "http://127.0.0.1:5000/library/x",
                "127.0.0.1:5000/library/x/latest",
                "127.0.0.1:5000/library/x:latest",
            ),
        ] {
            let name: OllamaName = text.parse().unwrap();
            assert_eq!(name.manifest_path(), path);
            assert_eq!(name.to_string(), shown);
            assert_eq!(OllamaName::from_path(path).unwrap(), name);
        }
        assert_eq!(
            "hf.co/Org/Repo:Q4".parse::<OllamaName>().unwrap().reference().unwrap().to_string(),
            "hf.co/org/repo:Q4"
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in ["", "a/b/c/d", "a:", "../x", "a b", "/x"] {
            assert!(wrong.parse::<OllamaName>().is_err(), "{wrong}");
        }
    }
}
