//! What an object store's error means, with the next step. Servers tell it as XML (S3, Azure,
//! Google's XML API); what lies below it (a refused connection, a certificate) is at the end of the
//! chain of causes.

use std::error::Error as StdError;

use object_store::Error as E;
use types::destination::{self, Cloud};

use crate::models::Error;

/// The environment does not say enough, or says what is no setting.
pub(super) fn settings(bucket: &destination::Bucket, error: &E) -> Error {
    let fault = innermost(error);
    Error::Connect { url: bucket.to_string(), fault, next: credentials(bucket.cloud) }
}

/// An error of the first question, when nothing was touched yet.
pub(super) fn connect(bucket: &destination::Bucket, error: E) -> Error {
    let Fault { fault, next } = Fault::of(bucket, &error);
    let variable = endpoint(bucket.cloud);
    let next = next.unwrap_or_else(|| {
        format!("check the bucket's name, the credential, and the endpoint (--endpoint, endpoint: in site.yaml, or {variable})")
    });
    Error::Connect { url: bucket.to_string(), fault, next }
}

/// An error of a later request, about one object.
pub(super) fn request(bucket: &destination::Bucket, url: String, error: E) -> Error {
    let Fault { fault, next } = Fault::of(bucket, &error);
    let next = next.unwrap_or_else(|| {
        "see what the server's log says; run the same command again to go on".to_owned()
    });
    Error::Request { url, fault, next }
}

/// Whether an upload that should go on is not there any more: completed by another, or cleaned up.
pub(super) fn is_gone(error: &E) -> bool {
    matches!(error, E::NotFound { .. })
        || code(&error.to_string()).is_some_and(|(code, _)| {
            matches!(code, "NoSuchUpload" | "InvalidPart" | "InvalidBlockList" | "InvalidBlockId")
        })
}

struct Fault {
    fault: String,
    /// `None` where what was said tells nothing known.
    next: Option<String>,
}

impl Fault {
    fn of(bucket: &destination::Bucket, error: &E) -> Self {
        let text = error.to_string();
        let told = code(&text);
        let is = |codes: &[&str]| told.is_some_and(|(code, _)| codes.contains(&code));
        let fault = match told {
            Some((code, "")) => format!("the server answers {code}"),
            Some((code, message)) => format!("the server answers {code}: {message}"),
            None => innermost(error),
        };
        let next = if is_metadata(&text) {
            let fault = "there are no credentials: none in the environment, and no machine or workload identity answers";
            return Self { fault: fault.to_owned(), next: Some(credentials(bucket.cloud)) };
        } else if is(&["NoSuchBucket", "ContainerNotFound"]) {
            format!("make the bucket {:?} first, or correct its name", bucket.name)
        } else if is(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
            || matches!(error, E::Unauthenticated { .. })
        {
            format!("correct the credential: {}", credentials(bucket.cloud))
        } else if matches!(error, E::PermissionDenied { .. }) || text.contains(" 403 Forbidden") {
            // A listing that is denied comes as a general error.
            rights(bucket.cloud).to_owned()
        } else if is(&["PermanentRedirect", "AuthorizationHeaderMalformed"])
            || text.contains("without LOCATION")
        {
            "the bucket is in another region: set AWS_REGION to it".to_owned()
        } else if is(&["SlowDown", "ServiceUnavailable", "QuotaExceeded", "XMinioStorageFull"]) {
            "make room or wait, then run the same command again; what was put stays".to_owned()
        } else if fault.to_lowercase().contains("certificate") {
            "give the CA of the server: --ca FILE, or ca: in site.yaml".to_owned()
        } else if told.is_none() && is_transport(&text) {
            let variable = endpoint(bucket.cloud);
            format!(
                "check the endpoint (--endpoint, endpoint: in site.yaml, or {variable}), and that the server runs"
            )
        } else {
            return Self { fault, next: None };
        };
        Self { fault, next: Some(next) }
    }
}

/// A code and a message in an answer in XML.
fn code(text: &str) -> Option<(&str, &str)> {
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

/// The last cause, which is the system's or the server's.
fn innermost(error: &E) -> String {
    const SHOWN: usize = 300;
    let mut last: &dyn StdError = error;
    while let Some(next) = last.source() {
        last = next;
    }
    let text = last.to_string();
    let first = text.lines().next().unwrap_or_default().trim_end_matches(": ");
    first.chars().take(SHOWN).collect()
}

fn is_metadata(text: &str) -> bool {
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

fn is_transport(text: &str) -> bool {
    ["HTTP error", "error sending request", "404 Not Found", "405 ", "400 Bad", "301 "]
        .iter()
        .any(|part| text.contains(part))
}

fn credentials(cloud: Cloud) -> String {
    match cloud {
        Cloud::S3 => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a web identity is given (AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN)",
        Cloud::Gcs => "set GOOGLE_APPLICATION_CREDENTIALS to a key's file, or run where a workload identity is given",
        Cloud::Azure => "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or run where a workload identity is given (AZURE_FEDERATED_TOKEN_FILE)",
    }
    .to_owned()
}

fn rights(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => {
            "give the credential s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload on its objects"
        }
        Cloud::Gcs => "give the account the role roles/storage.objectUser on the bucket",
        Cloud::Azure => "give the identity the role Storage Blob Data Contributor on the container",
    }
}

fn endpoint(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => "AWS_ENDPOINT_URL",
        Cloud::Gcs => "GOOGLE_BASE_URL",
        Cloud::Azure => "AZURE_ENDPOINT",
    }
}
