//! The client itself: address, token, and the requests that are made of them.

use http::{HeaderValue, header};
use net::{Client, HttpRequest, Mirrors};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use types::{CommitId, ModelId};

use super::token;
use crate::{Error, Result};

/// The Hub's address, unless `mirrors: {hf: …}` or `HF_ENDPOINT` give another one.
const ENDPOINT: &str = "https://huggingface.co";

/// Characters that are not escaped in a URL (Python's `quote(…, safe="")`, which huggingface_hub
/// uses).
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client of the Hub or of a mirror.
#[derive(Clone)]
pub struct HubClient {
    pub(super) client: Client,
    pub(super) base: String,
    pub(super) token: Option<HeaderValue>,
}

impl HubClient {
    /// A client for the address that the configuration or `HF_ENDPOINT` gives, with the token from
    /// `HF_TOKEN` or from the file that `hf auth login` wrote.
    pub fn new(client: &Client, mirrors: &Mirrors) -> Result<Self> {
        // An empty variable counts as unset.
        let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
        let endpoint = mirrors
            .service_endpoint("hf", endpoint.as_deref().unwrap_or(ENDPOINT))
            .map_err(Error::from_net("the Hugging Face Hub"))?;
        Self::at_address(client, &endpoint.base, token::find_token().as_deref())
    }

    /// A client for the Hub at this address. Fails when the token cannot be sent in a header.
    pub fn at_address(client: &Client, base: &str, token: Option<&str>) -> Result<Self> {
        let token = match token {
            None => None,
            Some(token) => Some(bearer_header(token).ok_or_else(|| Error::AccessRefused {
                place: base.to_owned(),
                what: "all models".into(),
                reason:
                    "the token contains characters that are not allowed in an HTTP header".into(),
                next: "check HF_TOKEN, or log in again with: hf auth login".into(),
            })?),
        };
        Ok(Self { client: client.clone(), base: base.trim_end_matches('/').to_owned(), token })
    }

    /// The Hub's address.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// The GET request for a file. The Hub may redirect it to its CDN; the client does not send the
    /// token there.
    pub fn file_request(&self, id: &ModelId, commit: &CommitId, path: &str) -> Result<HttpRequest> {
        let path: Vec<String> = path.split('/').map(quote_segment).collect();
        self.build_request(&format!("{id}/resolve/{commit}/{}", path.join("/")))
    }

    /// A GET request for a path below the Hub's address, with the token.
    pub(super) fn build_request(&self, path: &str) -> Result<HttpRequest> {
        let url = format!("{}/{path}", self.base);
        let request = HttpRequest::get(&url).map_err(Error::from_net(&self.base))?;
        Ok(match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, token.clone()),
            None => request,
        })
    }
}

/// Escapes one segment of a URL's path.
pub(super) fn quote_segment(segment: &str) -> String {
    utf8_percent_encode(segment, KEPT).to_string()
}

fn bearer_header(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    // Keeps the token out of debug output of requests.
    value.set_sensitive(true);
    Some(value)
}
