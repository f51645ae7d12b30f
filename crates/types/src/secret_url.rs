//! URLs that may hold secrets: a user and password before the host, a token or a signature in the query.
//! They are needed to make a request and must not be written or printed anywhere.

use std::fmt;

/// A URL with its secrets. It displays, and prints for debugging, without them; a lock, a bundle, a
/// message and a log get that form. Only who makes the request asks for [`SecretUrl::expose_secrets`].
///
/// # Examples
///
/// ```
/// let url = gantry_types::SecretUrl::new("https://me:pw@example.org/m.gguf?version=2&token=abc");
/// assert_eq!(url.to_string(), "https://example.org/m.gguf?version=2");
/// assert!(url.expose_secrets().contains("pw"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// A URL as it was written.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole URL, for a request.
    pub fn expose_secrets(&self) -> &str {
        &self.0
    }

    /// The URL without its secrets.
    pub fn public_text(&self) -> String {
        remove_secrets(&self.0)
    }

    /// Whether it has any.
    pub fn has_secrets(&self) -> bool {
        self.public_text() != self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public_text())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({:?})", self.public_text())
    }
}

impl serde::Serialize for SecretUrl {
    /// Without its secrets, as it is displayed: what is serialized may be written.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text with each URL in it as [`SecretUrl`] displays it: for messages of others that may repeat a
/// URL.
pub fn redact_urls(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let start = rest[..at]
            .rfind(|sign: char| !sign.is_ascii_alphanumeric() && !matches!(sign, '+' | '-' | '.'))
            .map_or(0, |before| before + rest[before..].chars().next().map_or(1, char::len_utf8));
        let ends =
            |sign: char| sign.is_whitespace() || matches!(sign, '"' | '\'' | '<' | '>' | '`');
        let end = rest[at..].find(ends).map_or(rest.len(), |length| at + length);
        redacted.push_str(&rest[..start]);
        redacted.push_str(&remove_secrets(&rest[start..end]));
        rest = &rest[end..];
    }
    redacted.push_str(rest);
    redacted
}

/// A URL without user, password, secret parameters and fragment. Plain text work: what does not parse
/// may hold a secret as well.
fn remove_secrets(url: &str) -> String {
    let Some(scheme) = url.find("://").map(|at| at + 3) else { return url.to_owned() };
    let without_fragment = url.split('#').next().unwrap_or(url);
    let (address, query) = match without_fragment.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (without_fragment, None),
    };
    if address.len() < scheme {
        return url.to_owned();
    }
    let (start, rest) = address.split_at(scheme);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A password may hold an `@` of its own.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut public = format!("{start}{host}{path}");
    let kept = query.into_iter().flat_map(|query| query.split('&')).filter(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        !is_secret_parameter(name) && !parameter.is_empty()
    });
    for (number, parameter) in kept.enumerate() {
        public.push(if number == 0 { '?' } else { '&' });
        public.push_str(parameter);
    }
    public
}

/// Whether a query parameter is one of those that sign a URL or hold a credential: of S3 (`X-Amz-…`,
/// `AWSAccessKeyId`), Google (`X-Goog-…`, `GoogleAccessId`), Azure (a shared access signature), CloudFront
/// (`Policy`, `Key-Pair-Id`), and whatever says by its name what it is.
fn is_secret_parameter(name: &str) -> bool {
    const OF_SIGNATURES: [&str; 18] = [
        "expires", "policy", "hmac", "sv", "se", "st", "sr", "sp", "spr", "sip", "si", "ske",
        "skoid", "sks", "skt", "sktid", "skv", "saoid",
    ];
    const PARTS: [&str; 14] = [
        "token",
        "secret",
        "passw",
        "pwd",
        "auth",
        "credential",
        "signature",
        "session",
        "jwt",
        "apikey",
        "api_key",
        "api-key",
        "accesskey",
        "access_key",
    ];
    const STARTS: [&str; 5] = ["x-amz-", "x-goog-", "x-ms-", "sig", "key-pair"];
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "key" | "code" | "ticket" | "googleaccessid")
        || OF_SIGNATURES.contains(&name.as_str())
        || PARTS.iter().any(|part| name.contains(part))
        || STARTS.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_goes_and_the_rest_stays() {
        for (url, expected) in [
            ("https://example.org/a/b.gguf", "https://example.org/a/b.gguf"),
            ("https://me:pw@example.org:8443/a", "https://example.org:8443/a"),
            ("https://me:p@w@example.org", "https://example.org"),
            ("https://token@example.org?x=1", "https://example.org?x=1"),
            ("https://example.org/a@b/c", "https://example.org/a@b/c"),
            ("https://h/f?download=true&token=abc&rev=2#x", "https://h/f?download=true&rev=2"),
            (
                "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=A&X-Amz-Signature=abc&versionId=9",
                "https://b.s3.amazonaws.com/k?versionId=9",
            ),
            (
                "https://a.blob.core.windows.net/c/f?sv=1&sig=x&se=2",
                "https://a.blob.core.windows.net/c/f",
            ),
            ("https://h/f?access_token=x", "https://h/f"),
            ("/local/path?token=x", "/local/path?token=x"),
        ] {
            let secret = SecretUrl::new(url);
            assert_eq!(secret.to_string(), expected);
            assert_eq!(secret.has_secrets(), url != expected);
            assert_eq!(secret.expose_secrets(), url);
            assert!(!format!("{secret:?}").contains("pw@"));
        }
    }

    #[test]
    fn the_urls_of_a_message_are_redacted() {
        for (text, expected) in [
            ("cannot reach https://me:pw@h/a?sig=1: refused", "cannot reach https://h/a refused"),
            (r#"GET "https://u:p@h/a" and http://x:y@z"#, r#"GET "https://h/a" and http://z"#),
            ("no address", "no address"),
            ("ä(https://u:p@h/ö?token=ü) b", "ä(https://h/ö b"),
            ("://", "://"),
        ] {
            assert_eq!(redact_urls(text), expected);
        }
    }
}
