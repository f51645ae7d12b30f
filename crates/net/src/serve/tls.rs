//! A server's certificate: read from two PEM files, and read again when they change, so that a
//! renewal (cert-manager, a mounted Secret) needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::{Error, Result};

/// A server's certificate chain and its key, PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The files are looked at by a handshake, and at most this often.
const LOOK: Duration = Duration::from_secs(1);

/// What does the handshakes with the certificate that the files have at the time.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let resolver = Renewed {
        current: Mutex::new(Current {
            stamp: stamp(files),
            looked: Instant::now(),
            key: Arc::new(read(files, &provider)?),
        }),
        files: files.clone(),
        provider: Arc::clone(&provider),
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| unusable(&files.certificate, cause))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Gives each handshake the certificate of the files as they are.
#[derive(Debug)]
struct Renewed {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    stamp: Stamp,
    looked: Instant,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            let stamp = stamp(&self.files);
            if stamp != current.stamp {
                match read(&self.files, &self.provider) {
                    Ok(key) => {
                        current.key = Arc::new(key);
                        current.stamp = stamp;
                    }
                    // Half written, or key and certificate of different turns: looked at again.
                    Err(error) => tracing::warn!("the certificate from before is kept: {error}"),
                }
            }
        }
        Some(Arc::clone(&current.key))
    }
}

/// Time and length of both files.
type Stamp = [Option<(SystemTime, u64)>; 2];

fn stamp(files: &TlsFiles) -> Stamp {
    [&files.certificate, &files.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| unusable(&files.certificate, cause))?;
    if chain.is_empty() {
        return Err(unusable(&files.certificate, "it has no PEM certificate"));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|cause| unusable(&files.key, cause))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|cause| unusable(&files.certificate, cause))
}

fn unusable(path: &Path, reason: impl ToString) -> Error {
    Error::Tls { path: path.to_owned(), reason: reason.to_string() }
}
