//! Connects to a bucket's server: address, CA, credential, time limits. Environment variables with the
//! names that each cloud's own tools use (`AWS_…`, `GOOGLE_…`, `AZURE_…`) are read by `object_store`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::MultipartStore;
use object_store::{Certificate, ClientOptions, HeaderValue, ObjectStore, RetryConfig};
use types::ByteSize;
use types::destination::{self, BucketProtocol};

use super::explain;
use crate::models::error::{Error, Result, disk_error};

/// How a bucket's server is reached, as far as the environment does not say it.
#[derive(Debug, Clone, Default)]
pub struct BucketAccess {
    /// `https://host[:port]`; where it is absent, that of the environment, else the cloud's own.
    pub endpoint: Option<String>,
    /// PEM files of CA certificates that are trusted in addition to the system's.
    pub ca: Vec<PathBuf>,
    /// Whether http:// is allowed.
    pub http: PlainHttpPolicy,
    /// The most bytes per second, sent and received. Parts of uploads pass as a whole.
    pub bandwidth: Option<ByteSize>,
}

/// Whether a server may be used over http://. A loopback host always may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlainHttpPolicy {
    /// Only https://.
    #[default]
    Refused,
    /// The user allowed it.
    Allowed,
}

/// What Gantry needs from an object store: plain requests, and multipart uploads whose parts it sends
/// itself (`object_store`'s own writer cannot be resumed by another process).
pub(super) trait MultipartObjectStore: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> MultipartObjectStore for T {}

/// How long a request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestPatience {
    /// For the first request, so that a wrong address or credential is reported at once.
    Short,
    /// For all others: up to ten times within three minutes (`object_store`'s default).
    Long,
}

/// The time limit of a request. It moves at most one part (8 MiB, more for files above 80 GiB), which a
/// line of 300 kB/s does in this time; and a server that joins thousands of parts needs minutes.
const REQUEST: Duration = Duration::from_secs(5 * 60);
/// The same for the first request.
const QUESTION: Duration = Duration::from_secs(15);
/// The time limit of a connection's start.
const CONNECT: Duration = Duration::from_secs(5);

/// A client of the bucket's server. No request is sent yet.
pub(super) fn connect_object_store(
    bucket: &destination::Bucket,
    access: &BucketAccess,
    patience: RequestPatience,
) -> Result<Arc<dyn MultipartObjectStore>> {
    let retry = match patience {
        RequestPatience::Short => RetryConfig { max_retries: 1, ..RetryConfig::default() },
        RequestPatience::Long => RetryConfig::default(),
    };
    let failed = |error: object_store::Error| explain::settings_error(bucket, &error);
    Ok(match bucket.cloud {
        BucketProtocol::S3 => {
            let mut builder = AmazonS3Builder::from_env();
            if let Some(endpoint) = &access.endpoint {
                // Of the settings that name an endpoint (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, …) this
                // one wins over all others in object_store.
                builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
            }
            let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
                .iter()
                .find_map(|key| builder.get_config_value(key));
            let options =
                build_client_options(bucket, access, endpoint, "AWS_ALLOW_HTTP", patience)?;
            let builder = builder.with_bucket_name(&bucket.name).with_client_options(options);
            Arc::new(builder.with_retry(retry).build().map_err(failed)?)
        }
        BucketProtocol::Gcs => {
            let mut builder = GoogleCloudStorageBuilder::from_env();
            if let Some(endpoint) = &access.endpoint {
                builder = builder.with_base_url(endpoint);
            }
            let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
            let options =
                build_client_options(bucket, access, endpoint, "GOOGLE_ALLOW_HTTP", patience)?;
            let builder = builder.with_bucket_name(&bucket.name).with_client_options(options);
            Arc::new(builder.with_retry(retry).build().map_err(failed)?)
        }
        BucketProtocol::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env();
            if let Some(endpoint) = &access.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
            let options =
                build_client_options(bucket, access, endpoint, "AZURE_ALLOW_HTTP", patience)?;
            let builder = builder.with_container_name(&bucket.name).with_client_options(options);
            Arc::new(builder.with_retry(retry).build().map_err(failed)?)
        }
    })
}

/// The HTTP client's options. http:// is refused unless it is allowed: a credential must not cross a
/// network in clear by mistake.
fn build_client_options(
    bucket: &destination::Bucket,
    access: &BucketAccess,
    endpoint: Option<String>,
    variable: &str,
    patience: RequestPatience,
) -> Result<ClientOptions> {
    let is_plain = endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    let is_allowed = access.http == PlainHttpPolicy::Allowed
        || std::env::var(variable).is_ok_and(|value| value == "true" || value == "1")
        || endpoint.as_deref().is_some_and(is_loopback_url);
    if is_plain && !is_allowed {
        return Err(Error::Connect {
            url: bucket.to_string(),
            fault: format!("the endpoint {} has no TLS", endpoint.unwrap_or_default()),
            next: format!(
                "use an https:// endpoint, or allow http:// with --plain-http, plainHttp: true in site.yaml, or {variable}=true"
            ),
        });
    }
    let mut options = ClientOptions::new()
        .with_user_agent(HeaderValue::from_static(concat!("gantry/", env!("CARGO_PKG_VERSION"))))
        .with_allow_http(is_plain)
        .with_connect_timeout(CONNECT)
        .with_timeout(if patience == RequestPatience::Short { QUESTION } else { REQUEST });
    for path in &access.ca {
        let pem = std::fs::read(path).map_err(disk_error(path))?;
        let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
        let certificates = certificates.ok_or_else(|| Error::Connect {
            url: bucket.to_string(),
            fault: format!("the CA file {} has no certificate in PEM format", path.display()),
            next: "give a file that has the CA's certificate, from -----BEGIN CERTIFICATE----- on"
                .into(),
        })?;
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    Ok(options)
}

/// Whether a URL's host is this machine. The host is taken out of the URL first: `127.0.0.1.evil.org`
/// is not loopback.
fn is_loopback_url(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
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
            assert!(is_loopback_url(url), "{url}");
        }
        for url in ["http://127.0.0.1.evil.org", "http://localhost.evil.org:80", "http://10.0.0.1"]
        {
            assert!(!is_loopback_url(url), "{url}");
        }
    }

    #[test]
    fn a_user_name_in_front_of_the_host_is_not_taken_for_the_host() {
        assert!(!is_loopback_url("http://localhost:secret@evil.org"));
        assert!(is_loopback_url("http://user:secret@localhost:9000"));
    }
}
