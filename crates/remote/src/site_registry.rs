//! Opens a site's registry as `registry:` of site.yaml describes it: its CA, whether it is reached
//! without TLS, and the user's credentials and mirrors. All commands that push to or read from the
//! site open it here, so that one that works means that the others do.

use std::path::PathBuf;

use net::{Client, Credentials, Mirrors};
use types::Cause;
use types::config::UserConfig;
use types::site::RegistryTarget;

use crate::oci::RegistryClient;
use crate::{Error, Result};

/// The client and the addresses for a site's registry. Nothing is connected yet.
#[derive(Clone)]
pub struct RegistryConnection {
    /// The HTTP client, which trusts the registry's CA beside the system's and the configured ones.
    pub client: Client,
    /// The addresses of registries, which know whether this one uses TLS.
    pub mirrors: Mirrors,
    /// The files with additional CA certificates: the configured ones and the registry's.
    pub ca: Vec<PathBuf>,
    host: String,
}

impl RegistryConnection {
    /// Prepares the connection. The paths in `registry` are as the process reads them
    /// ([`RegistryTarget::with_paths_below`]). `concurrency` overrides the configured number of
    /// parallel transfers.
    ///
    /// # Errors
    /// A CA file that cannot be read, or an address that is not valid.
    pub fn new(
        config: &UserConfig,
        registry: &RegistryTarget,
        credentials: Credentials,
        concurrency: Option<usize>,
    ) -> Result<Self> {
        let host = registry.parse_prefix()?.registry().to_owned();
        let what = || format!("the registry {host}");
        // The site's CA is added to the configured ones and to the system's; it replaces neither.
        let ca: Vec<PathBuf> = config.ca.iter().chain(&registry.ca).cloned().collect();
        let mut builder = Client::builder()
            .user_config(config)
            .site_registry(&host, registry)
            .credentials(credentials);
        if let Some(transfers) = concurrency {
            builder = builder.concurrency(transfers);
        }
        let client = builder.build().map_err(|error| match error {
            // The key is what a person has to correct; the file's name alone may be that of another one.
            net::Error::Tls { path, reason } if registry.ca.as_ref() == Some(&path) => {
                invalid_ca(Cause::about(path.display().to_string(), reason))
            }
            error => Error::from_net(what())(error),
        })?;
        let (mut endpoints, mut plain_http) = (config.mirrors.clone(), config.plain_http.clone());
        if registry.plain_http {
            plain_http.push(host.clone());
        } else if registry.ca.is_some()
            || registry.client_certificate.is_some()
            || registry.insecure_skip_tls_verify
        {
            // A registry on this machine is asked by http first. A site that names a certificate wants
            // TLS, so the scheme is written out as a mirror of the registry to itself.
            endpoints.entry(host.clone()).or_insert_with(|| format!("https://{host}"));
        }
        let mirrors = Mirrors::new(&endpoints, &plain_http).map_err(Error::from_net(what()))?;
        Ok(Self { client, mirrors, ca, host })
    }

    /// A client of the registry's API.
    pub fn registry_client(&self) -> RegistryClient {
        RegistryClient::new(&self.client, &self.mirrors, &self.host)
    }
}

/// Reads the certificate of the CA that `registry.ca` names, as PEM; `None` if it names none.
///
/// # Errors
/// A file that cannot be read or has no certificate.
pub fn read_ca(registry: &RegistryTarget) -> Result<Option<String>> {
    let Some(file) = &registry.ca else { return Ok(None) };
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|cause| invalid_ca(Cause::about(format!("cannot read {shown}"), cause)))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        return Err(invalid_ca(format!("{shown} is not a PEM file with a certificate").into()));
    }
    Ok(Some(text))
}

/// The error of a CA file that cannot be used, with the key of site.yaml that names it.
fn invalid_ca(message: Cause) -> Error {
    Error::Document(types::Error::Document {
        document: "registry.ca of site.yaml".to_owned(),
        line: 0,
        column: 0,
        message,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::naming::NamingRule;

    use super::*;

    fn scheme_of(registry: &RegistryTarget, config: &UserConfig) -> String {
        let opened =
            RegistryConnection::new(config, registry, Credentials::from_system(), None).unwrap();
        let host = registry.parse_prefix().unwrap().registry().to_owned();
        opened.mirrors.registry_endpoint(&host).base
    }

    #[test]
    fn a_registry_with_a_ca_is_reached_by_tls_also_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&ca, own.cert.pem()).unwrap();
        let config = UserConfig::default();
        let mut registry =
            RegistryTarget::from_prefix(&"127.0.0.1:5000/ai".parse().unwrap(), NamingRule::Path);
        assert!(scheme_of(&registry, &config).starts_with("http://"));
        registry.ca = Some(ca.clone());
        assert!(scheme_of(&registry, &config).starts_with("https://"));
        assert!(read_ca(&registry).unwrap().unwrap().contains("CERTIFICATE"));
        registry.plain_http = true;
        assert!(scheme_of(&registry, &config).starts_with("http://"));

        std::fs::write(&ca, "no certificate").unwrap();
        let error = read_ca(&registry).unwrap_err().to_string();
        assert!(error.contains("registry.ca") && error.contains("PEM"), "{error}");
        // A file that only looks like a certificate, and one that does not exist.
        registry.plain_http = false;
        for content in
            [Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), None]
        {
            match content {
                Some(content) => std::fs::write(&ca, content).unwrap(),
                None => std::fs::remove_file(&ca).unwrap(),
            }
            let credentials = Credentials::from_system();
            let error = RegistryConnection::new(&config, &registry, credentials, None);
            let error = error.err().unwrap().to_string();
            assert!(
                error.contains("registry.ca of site.yaml") && error.contains("ca.pem"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_mirror_that_the_user_configured_stays() {
        let mirrors = [("site:5000".to_owned(), "http://127.0.0.1:1".to_owned())].into();
        let config = UserConfig { mirrors, ..UserConfig::default() };
        let registry = RegistryTarget::from_prefix(&"site:5000".parse().unwrap(), NamingRule::Path);
        assert!(scheme_of(&registry, &config).contains("127.0.0.1:1"));
    }
}
