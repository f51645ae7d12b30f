//! How a server's certificate is checked: by the system's authorities and the given ones, or not at all.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Trusts the system's authorities and the given certificates, also when a server uses one of these
/// itself although it is that of an authority. `openssl req -x509` makes such certificates (`CA:TRUE`),
/// OpenSSL and Go take them, and RFC 5280 allows it: what is given as an anchor is trusted as it is.
#[derive(Debug)]
pub(super) struct GivenCertificateVerifier {
    /// `None` where no authority is known at all: then no other certificate is trusted.
    authorities: Option<Arc<dyn ServerCertVerifier>>,
    given: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl GivenCertificateVerifier {
    pub(super) fn new(ca: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Self {
        let with_system = rustls_platform_verifier::Verifier::new_with_extra_roots(
            ca.iter().cloned(),
            Arc::clone(provider),
        );
        let authorities: Option<Arc<dyn ServerCertVerifier>> = match with_system {
            Ok(verifier) => Some(Arc::new(verifier)),
            // A minimal container has no certificates of authorities.
            Err(_) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(ca.iter().cloned());
                let builder =
                    WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
                builder.build().ok().map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
            }
        };
        let mut given = ca;
        given.extend(read_system_file());
        Self { authorities, given, provider: Arc::clone(provider) }
    }
}

/// The certificates of `SSL_CERT_FILE`, which are given as well. The system's verifier reads them and
/// reports what is wrong with them.
fn read_system_file() -> Vec<CertificateDer<'static>> {
    let path = std::env::var_os("SSL_CERT_FILE");
    let Some(Ok(found)) = path.map(CertificateDer::pem_file_iter) else { return Vec::new() };
    found.flatten().collect()
}

impl ServerCertVerifier for GivenCertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        match result {
            // Its validity was checked before (webpki, `check_issuer_independent_properties`); its name
            // was not.
            Err(error) if is_authority_as_server(&error) && self.is_given(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl GivenCertificateVerifier {
    fn is_given(&self, certificate: &CertificateDer<'_>) -> bool {
        self.given.iter().any(|given| given.as_ref() == certificate.as_ref())
    }
}

/// Whether a certificate was refused for being that of an authority, and for nothing else.
fn is_authority_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error
    else {
        return false;
    };
    matches!(inner.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Takes any certificate (`--insecure-skip-tls-verify`). The server still has to have its key.
#[derive(Debug)]
pub(super) struct UncheckedVerifier {
    provider: Arc<CryptoProvider>,
}

impl UncheckedVerifier {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

impl ServerCertVerifier for UncheckedVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
