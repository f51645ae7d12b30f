//! The user's configuration file: mirrors, certificates and limits of this machine's network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::{Error, Result, yaml};

/// The whole configuration file (`~/.config/gantry/config.yaml`, `--config`, `GANTRY_CONFIG`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct UserConfig {
    /// From a registry host (or `hf`, `ollama`) to the URL that is used instead.
    pub mirrors: BTreeMap<String, String>,
    /// minisign public keys whose bundles are trusted.
    pub trust: Vec<String>,
    /// Downloads and uploads at once.
    pub concurrency: Option<usize>,
    /// PEM files with further certificate authorities.
    pub ca: Vec<PathBuf>,
    /// Registry hosts that are reached by http without TLS. Loopback hosts always are.
    pub plain_http: Vec<String>,
}

/// More than this many transfers at once help nobody and exhaust file handles.
const MAX_CONCURRENCY: usize = 64;

impl UserConfig {
    /// Reads a configuration. `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        // A file of comments only is an empty document, not a map.
        let is_empty = text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        });
        let config: Self =
            if is_empty { Self::default() } else { yaml::read_document(name, text)? };
        let error = |message: String| Error::Document {
            document: name.to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
        };
        for (host, endpoint) in &config.mirrors {
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                return Err(error(format!(
                    "mirrors.{host}: {endpoint:?} is not a URL; write http://… or https://…"
                )));
            }
        }
        if config.concurrency.is_some_and(|n| n == 0 || n > MAX_CONCURRENCY) {
            return Err(error(format!("concurrency must be from 1 to {MAX_CONCURRENCY}")));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mirrors_are_read_and_what_is_no_url_is_refused() {
        let config =
            UserConfig::parse("c", "mirrors: {docker.io: \"http://127.0.0.1:5000\"}\n").unwrap();
        assert_eq!(config.mirrors["docker.io"], "http://127.0.0.1:5000");
        assert_eq!(UserConfig::parse("c", "# nothing\n").unwrap(), UserConfig::default());
        assert!(UserConfig::parse("c", "mirrors: {docker.io: \"127.0.0.1:5000\"}\n").is_err());
        assert!(UserConfig::parse("c", "concurrency: 0\n").is_err());
    }
}
