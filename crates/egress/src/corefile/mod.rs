//! Parses CoreDNS' configuration, the Corefile, as CoreDNS itself does (caddyfile/lexer.go and parse.go
//! of coredns/caddy): server blocks with their zones, and in them plugins with their words and their
//! positions in the text. [`redirect_to_sink`] uses the positions to change only what it must.

mod edit;
mod lexer;
mod parse;

pub use edit::{CLIENT_OPTION, EditedCorefile, SinkRedirection, redirect_to_sink};
pub use parse::Corefile;
