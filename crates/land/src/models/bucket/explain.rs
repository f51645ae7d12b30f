//! Explains an object store's errors: what went wrong, and the next step. Servers answer in XML (S3,
//! Azure, Google's XML API), with a code that is looked up here; a failure below HTTP (a refused
//! connection, a certificate) is the last one in the error's chain of causes.
//!
//! `object_store` has few error variants and puts the server's answer into the text of a generic one,
//! so that some things can only be found in the text.

use std::error::Error as StdError;

use object_store::Error as E;
use types::destination::{self, BucketProtocol};

use crate::models::Error;

/// An error of the settings: the environment lacks one, or has one that is not valid.
pub(super) fn settings_error(bucket: &destination::Bucket, error: &E) -> Error {
    let fault = innermost_cause(error);
    Error::Connect { url: bucket.to_string(), fault, next: credentials_advice(bucket.cloud) }
}

/// An error of the first request, when nothing was changed yet.
pub(super) fn connect_error(bucket: &destination::Bucket, error: E) -> Error {
    let ExplainedStoreError { fault, next } = ExplainedStoreError::from_store_error(bucket, &error);
    let variable = endpoint_variable(bucket.cloud);
    let next = next.unwrap_or_else(|| {
        format!("check the bucket's name, the credential, and the endpoint (--endpoint, endpoint: in site.yaml, or {variable})")
    });
    Error::Connect { url: bucket.to_string(), fault, next }
}

/// An error of a later request, about one object.
pub(super) fn request_error(bucket: &destination::Bucket, url: String, error: E) -> Error {
    let ExplainedStoreError { fault, next } = ExplainedStoreError::from_store_error(bucket, &error);
    let next = next.unwrap_or_else(|| {
        "look into the server's log, then run the same command again to resume".to_owned()
    });
    Error::Request { url, fault, next }
}

/// Whether an upload does not exist any more: another process completed it, or it was cleaned up.
pub(super) fn is_upload_gone(error: &E) -> bool {
    matches!(error, E::NotFound { .. })
        || parse_error_code(&error.to_string()).is_some_and(|(code, _)| {
            matches!(code, "NoSuchUpload" | "InvalidPart" | "InvalidBlockList" | "InvalidBlockId")
        })
}

/// An error in words.
struct ExplainedStoreError {
    fault: String,
    /// `None` where the error is not one that is known here.
    next: Option<String>,
}

impl ExplainedStoreError {
    fn from_store_error(bucket: &destination::Bucket, error: &E) -> Self {
        let text = error.to_string();
        let told = parse_error_code(&text);
        let is = |codes: &[&str]| told.is_some_and(|(code, _)| codes.contains(&code));
        let fault = match told {
            Some((code, "")) => format!("the server answers {code}"),
            Some((code, message)) => format!("the server answers {code}: {message}"),
            None => innermost_cause(error),
        };
        // Without any credential object_store asks the cloud's metadata service, which exists only on
        // the cloud's own machines: its failure means that no credential was given.
        let next = if is_metadata_address(&text) {
            let fault = "there are no credentials: none in the environment, and no machine or workload identity either";
            return Self { fault: fault.to_owned(), next: Some(credentials_advice(bucket.cloud)) };
        } else if is(&["NoSuchBucket", "ContainerNotFound"]) {
            format!("create the bucket {:?} first, or correct its name", bucket.name)
        } else if is(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
            || matches!(error, E::Unauthenticated { .. })
        {
            format!("correct the credential: {}", credentials_advice(bucket.cloud))
        } else if matches!(error, E::PermissionDenied { .. }) || text.contains(" 403 Forbidden") {
            // object_store returns a denied listing as a generic error.
            rights_advice(bucket.cloud).to_owned()
        } else if is(&["PermanentRedirect", "AuthorizationHeaderMalformed"])
            || text.contains("without LOCATION")
        {
            "the bucket is in another region: set AWS_REGION to it".to_owned()
        } else if is(&["SlowDown", "ServiceUnavailable", "QuotaExceeded", "XMinioStorageFull"]) {
            "free some space or wait, then run the same command again; what was written is kept"
                .to_owned()
        } else if fault.to_lowercase().contains("certificate") {
            "give the CA of the server with --ca FILE, or ca: in site.yaml".to_owned()
        } else if told.is_none() && is_transport_failure(&text) {
            let variable = endpoint_variable(bucket.cloud);
            format!(
                "check the endpoint (--endpoint, endpoint: in site.yaml, or {variable}), and that the server runs"
            )
        } else {
            return Self { fault, next: None };
        };
        Self { fault, next: Some(next) }
    }
}

/// The code and the message of an answer in XML: `<Code>NoSuchBucket</Code><Message>…</Message>`.
fn parse_error_code(text: &str) -> Option<(&str, &str)> {
    let inner = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once(&format!("</{tag}>")).map(|(inner, _)| inner.trim())
    };
    let code = inner("Code").filter(|code| code.bytes().all(|b| b.is_ascii_alphanumeric()))?;
    let message = inner("Message").unwrap_or_default();
    let message = message.strip_prefix("<![CDATA[").unwrap_or(message);
    let message = message.strip_suffix("]]>").unwrap_or(message).lines().next().unwrap_or_default();
    Some((code, message.trim_end_matches('.')))
}

/// The first line of the last cause, which is the system's or the server's own message.
fn innermost_cause(error: &E) -> String {
    // A proxy may answer with a page of HTML.
    const SHOWN: usize = 300;
    let mut last: &dyn StdError = error;
    while let Some(next) = last.source() {
        last = next;
    }
    let text = last.to_string();
    let first = text.lines().next().unwrap_or_default().trim_end_matches(": ");
    first.chars().take(SHOWN).collect()
}

/// Whether a request to a cloud's metadata service failed.
fn is_metadata_address(text: &str) -> bool {
    [
        "169.254.",
        "/latest/api/token",
        "/latest/meta-data",
        "metadata.google.internal",
        "/metadata/identity",
    ]
    .iter()
    .any(|address| text.contains(address))
}

/// Whether the server did not answer, or what answered is no object store.
fn is_transport_failure(text: &str) -> bool {
    ["HTTP error", "error sending request", "404 Not Found", "405 ", "400 Bad", "301 "]
        .iter()
        .any(|part| text.contains(part))
}

/// How a credential is given.
fn credentials_advice(cloud: BucketProtocol) -> String {
    match cloud {
        BucketProtocol::S3 => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a web identity is set up (AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN)",
        BucketProtocol::Gcs => "set GOOGLE_APPLICATION_CREDENTIALS to the path of a key file, or run where a workload identity is set up",
        BucketProtocol::Azure => "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or run where a workload identity is set up (AZURE_FEDERATED_TOKEN_FILE)",
    }
    .to_owned()
}

/// The rights that a push needs.
fn rights_advice(cloud: BucketProtocol) -> &'static str {
    match cloud {
        BucketProtocol::S3 => {
            "grant the credential s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload on its objects"
        }
        BucketProtocol::Gcs => "grant the account the role roles/storage.objectUser on the bucket",
        BucketProtocol::Azure => {
            "grant the identity the role Storage Blob Data Contributor on the container"
        }
    }
}

/// The environment variable of the endpoint.
fn endpoint_variable(cloud: BucketProtocol) -> &'static str {
    match cloud {
        BucketProtocol::S3 => "AWS_ENDPOINT_URL",
        BucketProtocol::Gcs => "GOOGLE_BASE_URL",
        BucketProtocol::Azure => "AZURE_ENDPOINT",
    }
}
