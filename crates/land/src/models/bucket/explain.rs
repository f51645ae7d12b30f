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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn make_bucket() -> destination::Bucket {
        destination::Bucket { cloud: BucketProtocol::S3, name: "ai".into(), prefix: "m".into() }
    }

    fn make_error(text: &str) -> E {
        E::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn explain(text: &str) -> (String, String) {
        let ExplainedStoreError { fault, next } =
            ExplainedStoreError::from_store_error(&make_bucket(), &make_error(text));
        (fault, next.unwrap_or_default())
    }

    #[test]
    fn the_code_and_the_first_line_of_the_message_are_taken_out_of_an_answer() {
        let s3 = "403: <?xml?><Error><Code>AccessDenied</Code><Message>No.\nMore</Message></Error>";
        assert_eq!(parse_error_code(s3), Some(("AccessDenied", "No")));
        let google = "<Error><Code> SlowDown </Code><Message><![CDATA[wait.]]></Message></Error>";
        assert_eq!(parse_error_code(google), Some(("SlowDown", "wait")));
        assert_eq!(parse_error_code("<Code>X</Code>"), Some(("X", "")));
        for none in ["plain text", "<Code>cut off", "<Code><b>no</b></Code>", "<Code>a b</Code>"] {
            assert_eq!(parse_error_code(none), None, "{none}");
        }
    }

    #[test]
    fn each_known_answer_has_its_next_step() {
        let code = |code: &str| format!("<Error><Code>{code}</Code><Message>m.</Message></Error>");
        for (text, fault, next) in [
            (code("NoSuchBucket"), "NoSuchBucket: m", "create the bucket \"ai\" first"),
            (
                code("ExpiredToken"),
                "ExpiredToken: m",
                "correct the credential: set AWS_ACCESS_KEY_ID",
            ),
            (code("PermanentRedirect"), "PermanentRedirect: m", "set AWS_REGION"),
            (code("XMinioStorageFull"), "XMinioStorageFull: m", "free some space"),
            (
                "status 403 Forbidden".into(),
                "status 403 Forbidden",
                "grant the credential s3:ListBucket",
            ),
            ("invalid peer certificate: UnknownIssuer".into(), "UnknownIssuer", "--ca FILE"),
            ("error sending request for url".into(), "error sending", "or AWS_ENDPOINT_URL)"),
            (
                "HTTP error at http://169.254.169.254/latest".into(),
                "there are no credentials",
                "AWS_WEB_IDENTITY",
            ),
            (code("SomethingNew"), "the server answers SomethingNew: m", ""),
        ] {
            let (shown, step) = explain(&text);
            assert!(shown.contains(fault), "{shown}");
            assert!(step.contains(next) && next.is_empty() == step.is_empty(), "{text}: {step}");
        }
    }

    #[test]
    fn an_unknown_error_has_a_next_step_all_the_same() {
        let connect = connect_error(&make_bucket(), make_error("odd")).to_string();
        assert!(connect.starts_with("s3://ai/m: odd; check the bucket's name"), "{connect}");
        let request = request_error(&make_bucket(), "s3://ai/m/x".into(), make_error("odd"));
        assert!(request.to_string().ends_with("run the same command again to resume"), "{request}");
    }

    #[test]
    fn an_answer_that_is_a_page_of_a_proxy_is_cut() {
        let page = format!("{}\nsecond line", "ä".repeat(1000));
        let (fault, _) = explain(&page);
        assert_eq!(fault, "ä".repeat(300));
    }

    #[test]
    fn an_upload_that_the_server_does_not_know_any_more_is_told_from_other_failures() {
        let missing = E::NotFound { path: "x".into(), source: "gone".into() };
        assert!(is_upload_gone(&missing));
        for code in ["NoSuchUpload", "InvalidPart", "InvalidBlockList"] {
            assert!(is_upload_gone(&make_error(&format!("<Code>{code}</Code>"))), "{code}");
        }
        for text in ["<Code>SlowDown</Code>", "NoSuchUpload", "connection refused"] {
            assert!(!is_upload_gone(&make_error(text)), "{text}");
        }
    }
}
