//! A self-signed certificate: a new authority signs one server certificate, then its key is thrown
//! away. The API server trusts the authority by the `caBundle` of the webhook's configuration.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::{Error, Result};

/// How long a certificate is valid.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long before its end a certificate is renewed: enough for a webhook that was down for weeks.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Certificates are valid from this long ago on, since the clocks of nodes may be behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// A server's certificate, its key, and the certificate of the authority that signed it, all as
/// PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct SelfSignedCertificate {
    /// The authority's certificate.
    pub authority: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's key.
    pub key: String,
    /// When both certificates expire.
    pub ends: Timestamp,
}

impl fmt::Debug for SelfSignedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SelfSignedCertificate {{ ends: {} }}", self.ends)
    }
}

impl SelfSignedCertificate {
    /// Makes a new certificate for a DNS name or an IP address.
    pub fn new(host: &str, now: Timestamp) -> Result<Self> {
        let validity = ValidityPeriod::starting_at(now)?;
        let authority_key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        validity.set_in_params(&mut params);
        params.distinguished_name.push(DnType::CommonName, "gantry webhook authority");
        // It may sign server certificates, but no further authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = params.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(params, authority_key);

        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        validity.set_in_params(&mut params);
        // Not the host, which can be longer than the 64 characters of a common name (RFC 5280,
        // upper bounds). Go checks only the subject alternative name, which has the host.
        params.distinguished_name.push(DnType::CommonName, "gantry webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Self { authority, certificate, key: key.serialize_pem(), ends: validity.ends })
    }

    /// Whether it is time to renew it.
    pub fn is_renewal_due(&self, now: Timestamp) -> bool {
        self.ends.as_second().saturating_sub(now.as_second()) < RENEWAL.as_secs().cast_signed()
    }
}

/// The host in a webhook's URL, a DNS name or an IP address, that its certificate must be for.
pub fn host_of_url(url: &str) -> Result<String> {
    let invalid = |reason: &str| Error::Invalid {
        what: "URL of a webhook",
        text: url.chars().take(200).collect(),
        reason: reason.to_owned(),
    };
    let rest = url.strip_prefix("https://").ok_or_else(|| {
        invalid("the API server calls webhooks by https:// only; write https://HOST:PORT")
    })?;
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') || url.contains(['?', '#']) {
        return Err(invalid(
            "the API server accepts no user, query or fragment in it; write https://HOST:PORT",
        ));
    }
    // An IPv6 address is in brackets: `[fd00::1]:8443`.
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if host.is_empty() || !(is_name || host.parse::<IpAddr>().is_ok()) {
        return Err(invalid("it has no valid host; write https://HOST:PORT"));
    }
    Ok(host.to_owned())
}

/// From when to when a certificate is valid, in whole seconds as X.509 has them.
#[derive(Clone, Copy)]
struct ValidityPeriod {
    starts: Timestamp,
    ends: Timestamp,
}

impl ValidityPeriod {
    fn starting_at(now: Timestamp) -> Result<Self> {
        let out_of_range = |source| Error::Clock { text: now.to_string(), source };
        Ok(Self {
            starts: now.checked_sub(BACKDATED).map_err(out_of_range)?,
            ends: now.checked_add(LIFE).map_err(out_of_range)?,
        })
    }

    fn set_in_params(self, params: &mut CertificateParams) {
        let epoch = date_time_ymd(1970, 1, 1);
        let at = |time: Timestamp| {
            epoch + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default())
        };
        params.not_before = at(self.starts);
        params.not_after = at(self.ends);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_certificate_is_due_long_before_it_ends_and_not_when_it_is_new() {
        let now = Timestamp::now();
        let made = SelfSignedCertificate::new("gantry-webhook.gantry-system.svc", now).unwrap();
        assert!(!made.is_renewal_due(now));
        let late = now.checked_add(Duration::from_secs(61 * 24 * 3600)).unwrap();
        assert!(made.is_renewal_due(late) && late < made.ends);
        assert!(!format!("{made:?}").contains("PRIVATE"), "a key is never printed");
    }

    #[test]
    fn the_host_of_a_url_is_what_the_certificate_is_for() {
        for (url, host) in [
            ("https://10.99.0.1:8443", "10.99.0.1"),
            ("https://[fd00::1]:8443/x", "fd00::1"),
            ("https://hook.site.internal", "hook.site.internal"),
        ] {
            assert_eq!(host_of_url(url).unwrap(), host);
        }
        for wrong in ["http://a", "a:8443", "https://", "https://u@h", "https://h?x"] {
            assert!(host_of_url(wrong).is_err(), "{wrong}");
        }
    }
}
