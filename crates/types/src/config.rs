//! The user's configuration file: mirrors, certificates and limits of this machine's network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::{ByteSize, ClientCertificate, Error, GoDuration, Result, yaml};

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
    /// Attempts of a request in all, including the first.
    pub retries: Option<u32>,
    /// How long a transfer may go without a byte before it counts as failed.
    pub timeout: Option<GoDuration>,
    /// The most bytes per second of all transfers with registries and other servers together.
    pub bandwidth: Option<ByteSize>,
    /// Hosts, with the port where it is not 80: registries among them are reached by http without TLS,
    /// and they get credentials without TLS. Loopback hosts always do.
    pub plain_http: Vec<String>,
    /// Hosts, with the port where it is not 443, of which the TLS certificate is not verified: whoever is
    /// in between can read and change everything. `*` means all. Each connection prints a warning.
    pub insecure_skip_tls_verify: Vec<String>,
    /// The certificates with which this machine shows single servers who it is, by host, with the port
    /// where it is not 443.
    pub client_certificates: BTreeMap<String, ClientCertificate>,
}

/// More than this many transfers at once help nobody and exhaust file handles.
const MAX_CONCURRENCY: usize = 64;

/// More attempts than this only hide that a server is gone.
pub const MAX_ATTEMPTS: u32 = 100;

/// A slower transfer would count as stalled between two chunks.
pub const LEAST_BANDWIDTH: ByteSize = ByteSize(64 << 10);

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
        let with_tls =
            config.insecure_skip_tls_verify.iter().map(|host| ("insecureSkipTlsVerify", host));
        let with_certificate =
            config.client_certificates.keys().map(|host| ("clientCertificates", host));
        for (key, host) in with_tls.chain(with_certificate) {
            if host.contains('/') {
                return Err(error(format!(
                    "{key}: {host:?} is not a host; write host or host:port"
                )));
            }
        }
        if config.concurrency.is_some_and(|n| n == 0 || n > MAX_CONCURRENCY) {
            return Err(error(format!("concurrency must be from 1 to {MAX_CONCURRENCY}")));
        }
        if config.retries.is_some_and(|count| !(1..=MAX_ATTEMPTS).contains(&count)) {
            return Err(error(format!("retries must be from 1 to {MAX_ATTEMPTS}")));
        }
        if config.bandwidth.is_some_and(|limit| limit < LEAST_BANDWIDTH) {
            return Err(error(format!(
                "bandwidth must be at least {LEAST_BANDWIDTH} (per second)"
            )));
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
        let text = "insecureSkipTlsVerify: [reg:5000]\nclientCertificates: {reg: {certificate: a, key: b}}\n";
        let config = UserConfig::parse("c", text).unwrap();
        assert_eq!(config.insecure_skip_tls_verify, ["reg:5000"]);
        assert_eq!(config.client_certificates["reg"].key, PathBuf::from("b"));
        assert!(UserConfig::parse("c", "insecureSkipTlsVerify: ['https://reg']\n").is_err());
        let limits = UserConfig::parse("c", "retries: 3\ntimeout: 2m\nbandwidth: 10MiB\n").unwrap();
        assert_eq!((limits.retries, limits.bandwidth), (Some(3), Some(ByteSize(10 << 20))));
        assert!(UserConfig::parse("c", "retries: 0\n").is_err());
        assert!(UserConfig::parse("c", "bandwidth: 1KiB\n").is_err());
    }
}
