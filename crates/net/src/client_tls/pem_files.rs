//! Certificates and keys from PEM files.

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use types::{Cause, ClientCertificate};

use crate::{Error, Result};

/// The certificates in a file, which are to be trusted; at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |reason: Cause| Error::Tls { path: path.to_owned(), reason };
    let found = read_chain(path)?;
    // Tried here, where the file is known.
    let mut roots = RootCertStore::empty();
    for certificate in &found {
        roots
            .add(certificate.clone())
            .map_err(|cause| unusable(Cause::about("it contains no valid certificate", cause)))?;
    }
    Ok(found)
}

/// The certificate chain and key with which a client shows who it is.
pub(super) fn read_client_certificate(
    files: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|cause| Error::Tls {
        path: files.key.clone(),
        reason: Cause::about("it contains no private key in PEM format", cause),
    })?;
    Ok((read_chain(&files.certificate)?, key))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |reason: Cause| Error::Tls { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|cause| unusable(cause.into()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|cause| unusable(Cause::about("not a PEM file", cause)))?;
    if found.is_empty() {
        return Err(unusable("it contains no PEM certificate".into()));
    }
    Ok(found)
}
