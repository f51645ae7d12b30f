//! The lists of the OCI endpoint: catalog, tags and referrers, the first two in pages.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json as value;
use types::{Digest, media_type};

use crate::Depot;
use crate::catalogue::CatalogueRepository;

/// The most entries of a page, however many are requested.
const MOST_ENTRIES: usize = 10_000;

/// The parameters of a request's query.
type QueryParameters = HashMap<String, String>;

/// `GET /v2/_catalog?n=&last=`.
pub(super) fn answer_catalog(depot: &Depot, query: &QueryParameters) -> Response {
    let (page, next) = select_page(depot.catalogue.repositories(), query);
    let body = value!({ "repositories": page });
    add_next_link(json_response("application/json", &body), "/v2/_catalog", query, next)
}

/// `GET /v2/<name>/tags/list?n=&last=`.
pub(super) fn answer_tags(
    name: &str,
    repository: &CatalogueRepository,
    query: &QueryParameters,
) -> Response {
    let (page, next) = select_page(&repository.tags, query);
    let body = value!({ "name": name, "tags": page });
    add_next_link(
        json_response("application/json", &body),
        &format!("/v2/{name}/tags/list"),
        query,
        next,
    )
}

/// `GET /v2/<name>/referrers/<digest>?artifactType=`.
pub(super) fn answer_referrers(
    depot: &Depot,
    repository: &CatalogueRepository,
    subject: &Digest,
    query: &QueryParameters,
) -> Response {
    const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
    let wanted = query.get("artifactType");
    let found: Vec<_> = depot
        .catalogue
        .list_referrers(repository, subject)
        .filter(|descriptor| wanted.is_none() || descriptor.artifact_type.as_ref() == wanted)
        .collect();
    // Required even when nothing was found: an empty index, not a 404 (OCI Distribution Spec 1.1,
    // "Listing Referrers").
    let body = value!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": found,
    });
    let mut response = json_response(media_type::OCI_INDEX, &body);
    if wanted.is_some() {
        response.headers_mut().insert(FILTERS, HeaderValue::from_static("artifactType"));
    }
    response
}

/// The entries after `last`, at most `n` of them; and if there are more, the page's length and its
/// last entry, where the next page goes on.
fn select_page<'a, V>(
    all: &'a BTreeMap<String, V>,
    query: &QueryParameters,
) -> (Vec<&'a String>, Option<(usize, &'a String)>) {
    let most =
        query.get("n").and_then(|n| n.parse().ok()).unwrap_or(MOST_ENTRIES).min(MOST_ENTRIES);
    let after = query.get("last").map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = all.range::<String, _>((after, Bound::Unbounded)).map(|(name, _)| name);
    let page: Vec<&String> = rest.by_ref().take(most).collect();
    // There is a next page only if another entry follows.
    let next = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => Some((most, *last)),
        _ => None,
    };
    (page, next)
}

/// Adds the `Link` header to the next page (RFC 5988, OCI Distribution Spec 1.1, "Listing Tags").
/// It keeps the parameter `ns` of a mirror's request.
fn add_next_link(
    mut response: Response,
    path: &str,
    query: &QueryParameters,
    next: Option<(usize, &String)>,
) -> Response {
    let Some((n, last)) = next else { return response };
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("n", &n.to_string()).append_pair("last", last);
    if let Some(ns) = query.get("ns") {
        form.append_pair("ns", ns);
    }
    let link = format!("<{path}?{}>; rel=\"next\"", form.finish());
    if let Ok(value) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}

/// A JSON response of the given media type.
fn json_response(media_type: &'static str, value: &serde_json::Value) -> Response {
    let content_type = HeaderValue::from_static(media_type);
    (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], value.to_string()).into_response()
}
