//! The integration tests of the HTTP client and server. One binary for all: each more would be linked anew.

mod client_tls;
mod common;
mod downloads;
mod limits;
mod requests;
mod serve;
mod tokens;
