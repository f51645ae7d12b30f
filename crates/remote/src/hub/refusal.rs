//! Explains the Hub's error responses, as huggingface_hub 2.4 does (`utils/_http.py`,
//! `hf_raise_for_status`): the header `X-Error-Code` says more than the HTTP status.

use net::HttpResponse;
use types::ModelId;

use crate::{Error, Result};

/// The header with the reason of an error.
pub(super) const CODE: &str = "x-error-code";
/// The Hub's message for a token that it does not know.
const BAD_TOKEN: &str = "Invalid credentials in Authorization header";

/// Returns a successful response unchanged, and turns any other one into an error that says what it
/// means for the model. `place` is the Hub's address.
pub(super) async fn check_response(
    place: &str,
    id: &ModelId,
    response: HttpResponse,
) -> Result<HttpResponse> {
    let status = response.status().as_u16();
    if response.status().is_success() {
        return Ok(response);
    }
    let code = response.header(CODE).unwrap_or_default().to_owned();
    let cause = response.into_error().await;
    let said = match &cause {
        net::Error::Status { message, .. } => message.clone(),
        _ => String::new(),
    };
    Err(match (status, code.as_str()) {
        (_, "GatedRepo") => Error::Gated { id: id.to_string(), reason: said },
        (401, _) if said.contains(BAD_TOKEN) => bad_token_error(place, id, said),
        (403, _) => Error::AccessRefused {
            place: place.to_owned(),
            what: id.to_string(),
            reason: said,
            next: "check that the account of the token in HF_TOKEN may read it".into(),
        },
        // The Hub does not reveal whether a private model exists: without a valid token both a
        // private and a missing model are answered with 401.
        (401, _) | (404, "RepoNotFound" | "") => Error::NotFound {
            what: format!("model {id} on {place}"),
            hint: "check the spelling (upper and lower case count); if it is private, set HF_TOKEN"
                .into(),
        },
        _ => Error::Net { what: id.to_string(), cause },
    })
}

/// Explains why a file was refused although its model was found: the Hub shows the list of files of
/// a gated model to everyone, but serves the files only to accounts that accepted its terms.
pub(super) fn explain_file_refusal(id: &ModelId, error: Error) -> Error {
    match error {
        Error::Net { cause: net::Error::Status { status: 401 | 403, message, .. }, .. } => {
            Error::Gated { id: id.to_string(), reason: message }
        }
        other => other,
    }
}

fn bad_token_error(place: &str, id: &ModelId, reason: String) -> Error {
    Error::AccessRefused {
        place: place.to_owned(),
        what: id.to_string(),
        reason,
        next: "check HF_TOKEN, or log in again with: hf auth login".into(),
    }
}
