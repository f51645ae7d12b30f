//! What the connections of a client need of TLS: all of them, and those to single servers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use types::{Cause, ClientCertificate};
use url::Url;

use super::certificate_folders::HostCertificates;
use super::pem_files::{read_certificates, read_client_certificate};
use super::verifiers::{GivenCertificateVerifier, UncheckedVerifier};
use crate::{Error, Result};

/// What all connections of a client have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientTlsSettings {
    /// Certificates that are trusted beside the system's.
    pub(crate) ca: Vec<CertificateDer<'static>>,
    /// Hosts (with port, where it is not 443) of which the certificate is not checked.
    pub(crate) unchecked: UncheckedHosts,
    /// By host, as above.
    pub(crate) certificates: BTreeMap<String, ClientCertificate>,
    /// Folders with one folder for each host.
    pub(crate) folders: Vec<PathBuf>,
}

/// The servers of which the certificate is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UncheckedHosts {
    /// All of them.
    All,
    /// These; a host has its port, where it is not 443.
    Some(Vec<String>),
}

impl UncheckedHosts {
    /// Hosts as the configuration has them; `*` means all.
    pub fn from_names(names: &[String]) -> Self {
        if names.iter().any(|name| name == "*") { Self::All } else { Self::Some(names.to_vec()) }
    }
}

impl Default for UncheckedHosts {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

/// What one server needs otherwise than the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct HostTls {
    is_unchecked: bool,
    certificates: HostCertificates,
}

impl HostTls {
    /// Whether the server's certificate is not checked.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.is_unchecked
    }
}

impl ClientTlsSettings {
    /// What the server of a URL needs otherwise than the others; `None` for nothing.
    pub(crate) fn find_host_settings(&self, url: &Url) -> Result<Option<HostTls>> {
        if url.scheme() != "https" {
            return Ok(None);
        }
        let names = host_names(url);
        let is_unchecked = match &self.unchecked {
            UncheckedHosts::All => true,
            UncheckedHosts::Some(hosts) => hosts.iter().any(|host| names.contains(host)),
        };
        let mut certificates = HostCertificates::read(&self.folders, &names)?;
        if let Some(given) = names.iter().find_map(|name| self.certificates.get(name)) {
            certificates.client = Some(given.clone());
        }
        let found = HostTls { is_unchecked, certificates };
        Ok((found != HostTls::default()).then_some(found))
    }

    /// The configuration of connections to one server, or to all that need nothing else (`None`).
    pub(crate) fn build_config(&self, host: Option<&HostTls>) -> Result<rustls::ClientConfig> {
        // Named and not the process's default, which panics where two providers are compiled in.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let failed = |cause: rustls::Error| Error::Setup {
            what: "TLS cannot be set up".into(),
            cause: Cause::from_error(cause),
        };
        let verifier: Arc<dyn ServerCertVerifier> = if host.is_some_and(|host| host.is_unchecked) {
            Arc::new(UncheckedVerifier::new(provider.clone()))
        } else {
            let mut ca = self.ca.clone();
            for file in host.map_or(&[][..], |host| &host.certificates.ca) {
                ca.extend(read_certificates(file)?);
            }
            Arc::new(GivenCertificateVerifier::new(ca, &provider))
        };
        let builder =
            rustls::ClientConfig::builder_with_provider(Arc::<CryptoProvider>::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(failed)?
                .dangerous()
                .with_custom_certificate_verifier(verifier);
        let mut config = match host.and_then(|host| host.certificates.client.as_ref()) {
            Some(files) => {
                let (chain, key) = read_client_certificate(files)?;
                builder.with_client_auth_cert(chain, key).map_err(|cause| Error::Tls {
                    path: files.certificate.clone(),
                    reason: Cause::about("it does not belong to the key", cause),
                })?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// The names under which options and folders may have the server of a URL: with its port, and without it
/// where it is the usual one.
fn host_names(url: &Url) -> Vec<String> {
    let Some(host) = url.host_str() else { return Vec::new() };
    let port = url.port_or_known_default().unwrap_or(443);
    let mut names = vec![format!("{host}:{port}")];
    if url.port().is_none() {
        names.push(host.to_owned());
    }
    names
}
