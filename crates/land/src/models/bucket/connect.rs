//! The way to a bucket's server: its address, its CA, who asks. What the environment says in the
//! names of each cloud's own tools is taken as `object_store` reads it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::MultipartStore;
use object_store::{Certificate, ClientOptions, HeaderValue, ObjectStore, RetryConfig};
use types::destination::{self, Cloud};

use super::fault;
use crate::models::{Error, Result, at};

/// How a bucket's server is reached, where the environment does not say it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `https://host[:port]`; the environment's, else the cloud's own where it is absent.
    pub endpoint: Option<String>,
    /// PEM files of certificate authorities beside the system's.
    pub ca: Vec<PathBuf>,
    /// Whether the server may be spoken to without TLS.
    pub http: Http,
}

/// Whether a server may be spoken to without TLS. A loopback host always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Http {
    /// Only with TLS.
    #[default]
    Refused,
    /// Somebody said that it may.
    Allowed,
}

/// What Gantry needs of an object store.
pub(super) trait Server: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Server for T {}

/// How often a request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// For the first question: whether the address and the credential are right is told at once.
    Short,
    /// For all others: ten times within three minutes.
    Long,
}

/// A request is at most one part long; a slow line (300 kB/s) moves it in this time, and a server
/// that joins thousands of parts answers in it.
const REQUEST: Duration = Duration::from_secs(5 * 60);
/// The same for the first question.
const QUESTION: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);

/// The server of a bucket. Nothing is asked of it yet.
pub(super) fn server(
    bucket: &destination::Bucket,
    access: &Access,
    patience: Patience,
) -> Result<Arc<dyn Server>> {
    let retry = match patience {
        Patience::Short => RetryConfig { max_retries: 1, ..RetryConfig::default() },
        Patience::Long => RetryConfig::default(),
    };
    let failed = |error: object_store::Error| fault::settings(bucket, &error);
    Ok(match bucket.cloud {
        Cloud::S3 => {
            let mut builder = AmazonS3Builder::from_env();
            if let Some(endpoint) = &access.endpoint {
                // This key is the strongest of those that name an endpoint.
                builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
            }
            let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
                .iter()
                .find_map(|key| builder.get_config_value(key));
            let options = options(bucket, access, endpoint, "AWS_ALLOW_HTTP", patience)?;
            let builder = builder.with_bucket_name(&bucket.name).with_client_options(options);
            Arc::new(builder.with_retry(retry).build().map_err(failed)?)
        }
        Cloud::Gcs => {
            let mut builder = GoogleCloudStorageBuilder::from_env();
            if let Some(endpoint) = &access.endpoint {
                builder = builder.with_base_url(endpoint);
            }
            let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
            let options = options(bucket, access, endpoint, "GOOGLE_ALLOW_HTTP", patience)?;
            let builder = builder.with_bucket_name(&bucket.name).with_client_options(options);
            Arc::new(builder.with_retry(retry).build().map_err(failed)?)
        }
        Cloud::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env();
            if let Some(endpoint) = &access.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
            let options = options(bucket, access, endpoint, "AZURE_ALLOW_HTTP", patience)?;
            let builder = builder.with_container_name(&bucket.name).with_client_options(options);
            Arc::new(builder.with_retry(retry).build().map_err(failed)?)
        }
    })
}

fn options(
    bucket: &destination::Bucket,
    access: &Access,
    endpoint: Option<String>,
    variable: &str,
    patience: Patience,
) -> Result<ClientOptions> {
    let is_plain = endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    let is_allowed = access.http == Http::Allowed
        || std::env::var(variable).is_ok_and(|value| value == "true" || value == "1")
        || endpoint.as_deref().is_some_and(is_loopback);
    if is_plain && !is_allowed {
        return Err(Error::Connect {
            url: bucket.to_string(),
            fault: format!("{} has no TLS", endpoint.unwrap_or_default()),
            next: format!(
                "write https://, or allow it: --plain-http, plainHttp: true in site.yaml, or {variable}=true"
            ),
        });
    }
    let mut options = ClientOptions::new()
        .with_user_agent(HeaderValue::from_static(concat!("gantry/", env!("CARGO_PKG_VERSION"))))
        .with_allow_http(is_plain)
        .with_connect_timeout(CONNECT)
        .with_timeout(if patience == Patience::Short { QUESTION } else { REQUEST });
    for path in &access.ca {
        let pem = std::fs::read(path).map_err(at(path))?;
        let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
        let certificates = certificates.ok_or_else(|| Error::Connect {
            url: bucket.to_string(),
            fault: format!("{} has no certificate in PEM", path.display()),
            next: "give the CA's certificate: -----BEGIN CERTIFICATE-----".into(),
        })?;
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    Ok(options)
}

fn is_loopback(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let host = host.strip_prefix('[').map_or_else(
        || host.rsplit_once(':').map_or(host, |(host, _)| host),
        |rest| rest.split(']').next().unwrap_or_default(),
    );
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_names_that_look_like_it() {
        for url in ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:9000/x"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://127.0.0.1.evil.org", "http://localhost.evil.org:80", "http://10.0.0.1"]
        {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
