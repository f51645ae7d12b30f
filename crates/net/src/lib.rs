//! The HTTP client and the HTTP server that all of Gantry shares. Everything that leaves or enters this
//! machine goes through here: TLS, proxies, credentials, retries, resumed downloads, deadlines.
//!
//! `remote` and `land` use [`Client`]; `depot` and `operator` pass their routers to [`serve_connection`].

mod attempt;
pub mod auth;
mod bandwidth;
pub mod body;
mod client;
mod client_builder;
mod client_tls;
mod credential;
mod credentials;
mod docker_config;
mod download;
mod error;
mod history;
mod mirrors;
mod no_proxy;
mod origin;
mod plain_http;
mod redirect;
mod request;
mod retry;
pub mod serve;
mod stall;
mod token_cache;
mod token_exchange;
mod token_scope;
mod transports;

pub use bandwidth::BandwidthLimit;
pub use client::{Client, TransferPermit};
pub use client_builder::ClientBuilder;
pub use client_tls::UncheckedHosts;
pub use credential::Credential;
pub use credentials::Credentials;
pub use download::Download;
pub use error::{Error, RequestAttempt, Result};
pub use mirrors::{Mirrors, UpstreamEndpoint};
pub use origin::RedirectPolicy;
pub use request::{
    AccessScope, HttpRequest, HttpResponse, RepeatPolicy, RequestBody, extract_error_message,
};
pub use retry::RetryPolicy;
pub use rustls::CertificateError;
