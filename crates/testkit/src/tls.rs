//! A certificate authority of the test's own, and server certificates for loopback names.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// A self-made authority; its files live as long as it does.
#[derive(Debug)]
pub struct TestAuthority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate chain and key, in PEM files.
#[derive(Debug, Clone)]
pub struct TestServerCertificate {
    /// The certificate, signed by the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TestAuthority {
    /// A new authority with a new key.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Gantry testkit authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("an authority can sign itself");
        fs::write(folder.path().join("ca.crt"), certificate.pem()).expect("a PEM can be written");
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// The authority's certificate as a PEM file (for `SSL_CERT_FILE`, `--ca`).
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// The folder of [`ca_file`](Self::ca_file) alone, as skopeo's `--cert-dir` wants it.
    pub fn ca_folder(&self) -> &Path {
        self.folder.path()
    }

    /// A certificate for `localhost` and `127.0.0.1`, its files in `folder`.
    pub fn issue_server_certificate(&self, folder: &Path) -> TestServerCertificate {
        self.issue_server_certificate_for(folder, Ipv4Addr::LOCALHOST.into())
    }

    /// A certificate for this address beside `localhost` and `127.0.0.1`, its files in `folder`.
    pub fn issue_server_certificate_for(
        &self,
        folder: &Path,
        address: IpAddr,
    ) -> TestServerCertificate {
        let key = KeyPair::generate().expect("a key can be made");
        let names = ["localhost", "127.0.0.1", "::1", &address.to_string()].map(String::from);
        let mut params = CertificateParams::new(names).expect("names and addresses are valid");
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let certificate =
            params.signed_by(&key, &self.issuer).expect("an authority signs its servers");
        let files = TestServerCertificate {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        };
        fs::write(&files.certificate, certificate.pem()).expect("a PEM can be written");
        fs::write(&files.key, key.serialize_pem()).expect("a PEM can be written");
        files
    }
}

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new()
    }
}
