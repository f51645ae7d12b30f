//! Makes and renews the webhook's self-signed certificate. The certificate is in a Secret, which
//! all pods of the webhook share; its authority is in the `caBundle` of the configuration, which
//! the API server reads.
//!
//! On renewal the new authority is added to the `caBundle` before any pod uses the new certificate,
//! and the old one stays there, so that the API server trusts every pod at every moment.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster::objects::ByteString;
use cluster::objects::api::admissionregistration::v1::MutatingWebhookConfiguration;
use cluster::objects::api::core::v1::Secret;
use cluster::{Cluster, ObjectScope, is_own, mark_as_own};
use jiff::Timestamp;
use net::serve::TlsFiles;

use super::certificate::SelfSignedCertificate;
use crate::{Error, Result};

/// Annotations of the Secret: when its certificate expires, and the host that it is for.
const ENDS: &str = "gantry.dev/certificate-ends";
const HOST: &str = "gantry.dev/certificate-host";
/// The keys of the Secret, as in Secrets of the type `kubernetes.io/tls` and of cert-manager.
const KEYS: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];
/// The most authorities in a `caBundle`: the current one, the one before, and one of another pod
/// that renewed at the same moment.
const TRUSTED: usize = 3;
/// How often the certificate is checked; and how often while the configuration does not exist yet.
const LOOK: Duration = Duration::from_secs(20);
const LOOK_UNTRUSTED: Duration = Duration::from_secs(1);
/// How long the first certificate may take, with a retry after each pause.
const FIRST: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the certificate of one webhook.
#[derive(Clone)]
pub struct CertificateKeeper {
    /// The cluster.
    pub cluster: Cluster,
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The name of the `MutatingWebhookConfiguration`.
    pub configuration: String,
    /// The host that the API server calls: a DNS name or an IP address.
    pub host: String,
    /// The folder for the certificate files that the server reads.
    pub folder: PathBuf,
}

/// Whether the API server trusts the authority.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AuthorityTrust {
    Known,
    NoConfiguration,
}

impl CertificateKeeper {
    /// Reads or makes the certificate, writes its files, and goes on renewing it in the background.
    pub async fn start(self) -> Result<TlsFiles> {
        let started = Instant::now();
        let mut trust = loop {
            let error = match self.renew_if_due().await {
                Ok(trust) => break trust,
                Err(error) => error,
            };
            if started.elapsed() > FIRST || error.is_bad_input() {
                return Err(error);
            }
            tracing::warn!("cannot set up the certificate yet, trying again: {error}");
            tokio::time::sleep(RETRY).await;
        };
        let files = self.tls_files();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(match trust {
                    AuthorityTrust::Known => LOOK,
                    AuthorityTrust::NoConfiguration => LOOK_UNTRUSTED,
                })
                .await;
                match self.renew_if_due().await {
                    Ok(now) => trust = now,
                    Err(error) => {
                        tracing::warn!("cannot check the certificate, trying again later: {error}");
                    }
                }
            }
        });
        Ok(files)
    }

    /// Checks everything once, and makes what is missing or due, in the order that the module's
    /// documentation explains.
    async fn renew_if_due(&self) -> Result<AuthorityTrust> {
        let scope = ObjectScope::Namespace(&self.namespace);
        let secret: Option<Secret> = self.cluster.get_object(scope, &self.secret).await?;
        if let Some(secret) = secret.as_ref().filter(|secret| !is_own(&secret.metadata)) {
            return Err(not_ours_error("Secret", secret.metadata.name.as_deref()));
        }
        let now = Timestamp::now();
        let held = secret.as_ref().and_then(|secret| self.read_certificate(secret));
        let (made, trust) = match held.filter(|held| !held.is_renewal_due(now)) {
            Some(held) => {
                let trust = self.trust_authority(&held.authority).await?;
                (held, trust)
            }
            None => {
                // Trust comes before the Secret: a pod must not serve a certificate that the API
                // server does not trust yet.
                let made = SelfSignedCertificate::new(&self.host, now)?;
                let trust = self.trust_authority(&made.authority).await?;
                // If another pod was faster, this is a conflict (the resource version has changed);
                // the next check then finds that pod's certificate.
                match secret {
                    Some(secret) => {
                        self.cluster
                            .replace_object(scope, &self.put_certificate(secret, &made))
                            .await?;
                    }
                    None => {
                        let mut secret = Secret::default();
                        secret.metadata.name = Some(self.secret.clone());
                        secret.metadata.namespace = Some(self.namespace.clone());
                        mark_as_own(&mut secret.metadata, "webhook");
                        self.cluster
                            .create_object(scope, &self.put_certificate(secret, &made))
                            .await?;
                    }
                }
                tracing::info!(
                    "made a new certificate for {}, valid until {}",
                    self.host,
                    made.ends
                );
                (made, trust)
            }
        };
        self.write_files(&made)?;
        Ok(trust)
    }

    /// The certificate in a Secret, if it is for this host.
    fn read_certificate(&self, secret: &Secret) -> Option<SelfSignedCertificate> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        let annotations = secret.metadata.annotations.as_ref()?;
        if annotations.get(HOST)? != &self.host {
            return None;
        }
        let [authority, certificate, key] = KEYS.map(text);
        Some(SelfSignedCertificate {
            authority: authority?,
            certificate: certificate?,
            key: key?,
            ends: annotations.get(ENDS)?.parse().ok()?,
        })
    }

    /// The Secret with the certificate in it.
    fn put_certificate(&self, mut secret: Secret, made: &SelfSignedCertificate) -> Secret {
        let annotations = secret.metadata.annotations.get_or_insert_with(BTreeMap::new);
        annotations.insert(ENDS.to_owned(), made.ends.to_string());
        annotations.insert(HOST.to_owned(), self.host.clone());
        let texts = [&made.authority, &made.certificate, &made.key];
        let data = KEYS
            .iter()
            .zip(texts)
            .map(|(key, text)| ((*key).to_owned(), ByteString(text.clone().into_bytes())));
        secret.data = Some(data.collect());
        secret
    }

    /// Makes the API server trust an authority, in addition to those that it trusts already.
    async fn trust_authority(&self, authority: &str) -> Result<AuthorityTrust> {
        let found: Option<MutatingWebhookConfiguration> =
            self.cluster.get_object(ObjectScope::Cluster, &self.configuration).await?;
        let Some(mut configuration) = found else {
            // The configuration is applied last, after the pods are ready; a later check finds it.
            tracing::debug!("there is no MutatingWebhookConfiguration {} yet", self.configuration);
            return Ok(AuthorityTrust::NoConfiguration);
        };
        if !is_own(&configuration.metadata) {
            return Err(not_ours_error("MutatingWebhookConfiguration", Some(&self.configuration)));
        }
        let mut is_changed = false;
        for webhook in configuration.webhooks.iter_mut().flatten() {
            let bundle = webhook.client_config.ca_bundle.take().unwrap_or_default();
            let before = String::from_utf8_lossy(&bundle.0).into_owned();
            let after = append_authority(&before, authority);
            is_changed |= after != before;
            webhook.client_config.ca_bundle = Some(ByteString(after.into_bytes()));
        }
        if is_changed {
            self.cluster.replace_object(ObjectScope::Cluster, &configuration).await?;
        }
        Ok(AuthorityTrust::Known)
    }

    /// The paths of the certificate files.
    fn tls_files(&self) -> TlsFiles {
        TlsFiles { certificate: self.folder.join("tls.crt"), key: self.folder.join("tls.key") }
    }

    /// Writes the certificate files, if their content differs.
    fn write_files(&self, made: &SelfSignedCertificate) -> Result<()> {
        let files = self.tls_files();
        for (path, text) in [(&files.key, &made.key), (&files.certificate, &made.certificate)] {
            if fs::read_to_string(path).is_ok_and(|before| before == *text) {
                continue;
            }
            write_private_file(path, text)
                .map_err(|source| Error::Write { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// The bundle with the authority in it; of more than [`TRUSTED`] certificates the oldest are
/// removed.
fn append_authority(bundle: &str, authority: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    // What is not a certificate (such as the `Cg==`, a line break, of an empty bundle) is dropped.
    let mut all: Vec<&str> = bundle.split_inclusive(END).map(str::trim).collect();
    all.retain(|part| part.ends_with(END));
    let authority = authority.trim();
    if !all.contains(&authority) {
        all.push(authority);
    }
    let from = all.len().saturating_sub(TRUSTED);
    let lines: Vec<String> = all[from..].iter().map(|part| format!("{part}\n")).collect();
    lines.concat()
}

/// Writes a file atomically, readable by its owner only.
fn write_private_file(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(new, path)
}

fn not_ours_error(kind: &str, name: Option<&str>) -> Error {
    cluster::Error::NotOurs {
        what: format!("{kind} {}", name.unwrap_or_default()),
        next: "give the webhook another name".to_owned(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample_authority(n: u32) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{n}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn the_one_before_stays_trusted_and_old_ones_go() {
        let mut bundle = String::new();
        for n in 1..=4 {
            bundle = append_authority(&bundle, &sample_authority(n));
        }
        assert_eq!(bundle, [2, 3, 4].map(sample_authority).concat());
        assert_eq!(append_authority(&bundle, &sample_authority(3)), bundle);
        assert_eq!(append_authority("Cg==", &sample_authority(1)), sample_authority(1));
    }

    #[test]
    fn a_key_is_written_for_our_eyes_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.key");
        write_private_file(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
