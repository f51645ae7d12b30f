//! A server's TLS certificate: read from two PEM files, and again when they change, so that a renewal
//! (cert-manager, a mounted Secret) needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use types::Cause;

use crate::{Error, Result};

/// The PEM files of a server's certificate chain and its key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How often handshakes check whether the files changed: two `stat` calls a second cost nothing, and a
/// watch would miss the way in which the kubelet swaps a mounted Secret's symbolic links.
const LOOK: Duration = Duration::from_secs(1);

/// The acceptor of TLS connections, which uses the certificate that the files have at the time.
pub(super) fn build_acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    // Named and not the process's default, which panics where two providers are compiled in.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let resolver = ReloadingCertificate {
        current: Mutex::new(LoadedCertificate {
            stamp: read_stamps(files),
            looked: Instant::now(),
            key: Arc::new(read_certified_key(files, &provider)?),
        }),
        files: files.clone(),
        provider: Arc::clone(&provider),
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| tls_file_error(&files.certificate, Cause::from_error(cause)))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    // HTTP/2 first: clients then use one connection for all layers.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Returns for each handshake the certificate that the files have at the time.
#[derive(Debug)]
struct ReloadingCertificate {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Mutex<LoadedCertificate>,
}

#[derive(Debug)]
struct LoadedCertificate {
    stamp: FileStamps,
    looked: Instant,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ReloadingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            // Before reading, so that files that stay unreadable are not read at each handshake.
            current.looked = Instant::now();
            let stamp = read_stamps(&self.files);
            if stamp != current.stamp {
                match read_certified_key(&self.files, &self.provider) {
                    Ok(key) => {
                        current.key = Arc::new(key);
                        current.stamp = stamp;
                    }
                    // Half written, or certificate and key of two renewals: the stamp stays, so the
                    // files are read again at the next check.
                    Err(error) => tracing::warn!("the previous certificate stays in use: {error}"),
                }
            }
        }
        Some(Arc::clone(&current.key))
    }
}

/// Modification time and length of both files; `None` for a missing one.
type FileStamps = [Option<(SystemTime, u64)>; 2];

fn read_stamps(files: &TlsFiles) -> FileStamps {
    [&files.certificate, &files.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read_certified_key(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| tls_file_error(&files.certificate, Cause::from_error(cause)))?;
    if chain.is_empty() {
        return Err(tls_file_error(&files.certificate, "it contains no PEM certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|cause| tls_file_error(&files.key, Cause::from_error(cause)))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|cause| tls_file_error(&files.certificate, Cause::from_error(cause)))
}

fn tls_file_error(path: &Path, reason: Cause) -> Error {
    Error::Tls { path: path.to_owned(), reason }
}
