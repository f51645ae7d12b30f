//! Changes a Corefile so that CoreDNS forwards foreign names to the sink: those that nothing in the
//! cluster answers. The address that asked goes with them. Everything else stays byte for byte.
//!
//! For example, a cluster with the site's own name `git.site.net`:
//!
//! ```text
//! before                                 after
//! .:53 {                                 .:53 {
//!                                            # by gantry audit; …
//!                                            rewrite continue edns0 local set 0xfeed {client_ip}
//!     kubernetes cluster.local …             kubernetes cluster.local …
//!     forward . /etc/resolv.conf             forward . 10.244.1.9:5353 {
//!                                                max_fails 0
//!                                            }
//!     cache 30
//!     reload                                 reload
//! }                                      }
//!
//!                                        git.site.net:53 {
//!                                            errors
//!                                            forward . /etc/resolv.conf
//!                                        }
//! ```

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::parse::{Corefile, CorefilePlugin, ServerBlock};
use crate::{Error, Result};

/// The EDNS0 option that carries the address that asked, in 4 or 16 bytes (coredns,
/// plugin/rewrite/wire.go, `ipToWire`). One of the codes that RFC 6891 leaves to local use (65001 to
/// 65534).
pub const CLIENT_OPTION: u16 = 0xfeed;

/// The change that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkRedirection<'a> {
    /// Where the sink listens.
    pub sink: SocketAddr,
    /// The site's own names: they are still asked where they were asked before.
    pub inside: &'a [String],
    /// Where the original text is kept, for the comment in the changed one.
    pub kept_in: &'a str,
}

/// A changed Corefile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedCorefile {
    /// The changed text.
    pub text: String,
    /// The lines that answered or cached foreign names before; empty where there were none.
    pub before: Vec<String>,
}

/// Changes a Corefile to forward foreign names to the sink. Fails where CoreDNS would not reload it.
pub fn redirect_to_sink(
    corefile: &Corefile<'_>,
    wish: &SinkRedirection<'_>,
) -> Result<EditedCorefile> {
    if !corefile.has_reload() {
        return Err(Error::NoReload);
    }
    let mut text = String::with_capacity(corefile.text.len() + 512);
    let mut before = Vec::new();
    let mut upstream = None;
    let mut copied = 0;
    // Copies the original up to `to`, and goes on behind `from`: what is between is left out.
    let mut copy = |text: &mut String, to: usize, from: usize| {
        text.push_str(&corefile.text[copied..to]);
        copied = from;
    };
    for block in corefile.blocks.iter().filter(|block| block.is_root()) {
        copy(&mut text, block.open, block.open);
        // Before all other rewrite rules: a rule without `continue` ends the processing of a question.
        let _ = write!(
            text,
            "\n    # by gantry audit; the original is in {}\n    \
             rewrite continue edns0 local set {CLIENT_OPTION:#x} {{client_ip}}",
            wish.kept_in
        );
        let mut is_placed = false;
        for plugin in block.plugins.iter().filter(|plugin| answers_foreign_names(plugin)) {
            let written = &corefile.text[plugin.range.clone()];
            before.push(plugin.words.join(" "));
            copy(&mut text, plugin.range.start, plugin.range.end);
            let is_upstream = plugin.name() == "forward";
            if is_upstream && upstream.is_none() {
                upstream = Some(written);
            }
            // At the place of the old forward: the order of other plugins stays. A cache is only left out.
            if !is_placed && plugin.name() != "cache" {
                text.push_str(&forward_block(wish.sink, &forward_exceptions(plugin)));
                is_placed = true;
            }
        }
        if !is_placed {
            let end = corefile.text[..block.close].trim_end().len().max(block.open);
            // On a line of its own: the last line may end with a comment.
            copy(&mut text, end, end);
            let _ = write!(text, "\n    {}", forward_block(wish.sink, &[]));
        }
    }
    text.push_str(&corefile.text[copied..]);
    // No block answers for all names: foreign names are refused today, and asked by nobody else.
    if !corefile.blocks.iter().any(ServerBlock::is_root) {
        let _ = write!(
            text,
            "\n.:53 {{\n    errors\n    rewrite continue edns0 local set {CLIENT_OPTION:#x} \
             {{client_ip}}\n    {}\n}}\n",
            forward_block(wish.sink, &[])
        );
    }
    if let Some(upstream) = upstream {
        for name in names_without_block(corefile, wish.inside) {
            let _ = write!(text, "\n{name}:53 {{\n    errors\n    {upstream}\n}}\n");
        }
    }
    // The changed text is parsed again: one that CoreDNS cannot read would stop the cluster's DNS.
    let sink = wish.sink.to_string();
    if !Corefile::parse(&text)?.forwards_to(&sink) {
        return Err(Error::Corefile {
            line: 0,
            reason: "Gantry could not change it; please report this with the Corefile".into(),
        });
    }
    Ok(EditedCorefile { text, before })
}

/// Whether a plugin answers names that nothing in the cluster knows, or caches their answers, so that a
/// second pod that asks for the same name would not be seen.
fn answers_foreign_names(plugin: &CorefilePlugin) -> bool {
    let mut arguments = plugin.arguments();
    match plugin.name() {
        "forward" | "proxy" | "fanout" => arguments.next() == Some("."),
        "cache" | "erratic" => true,
        // template CLASS TYPE [ZONE…] { … }
        "template" => {
            let is_any = arguments.nth(1).is_some_and(|kind| kind.eq_ignore_ascii_case("ANY"));
            let mut zones = arguments.peekable();
            let is_everywhere = zones.peek().is_none() || zones.any(|zone| zone == ".");
            // With a pattern it answers only some names, which are not foreign then.
            let is_bound = plugin.body.iter().any(|l| l.first().is_some_and(|w| w == "match"));
            is_any && is_everywhere && !is_bound
        }
        _ => false,
    }
}

/// The names that a `forward` excepts: they stay excepted.
fn forward_exceptions(plugin: &CorefilePlugin) -> Vec<&str> {
    let lines = plugin.body.iter().filter(|line| line.first().is_some_and(|w| w == "except"));
    lines.flat_map(|line| line.iter().skip(1).map(String::as_str)).collect()
}

/// The text of the plugin that forwards all names to the sink, except some.
fn forward_block(sink: SocketAddr, except: &[&str]) -> String {
    // max_fails 0 turns health checks off: CoreDNS would send them as questions to the sink.
    let mut text = format!("forward . {sink} {{\n        max_fails 0\n");
    if !except.is_empty() {
        let _ = writeln!(text, "        except {}", except.join(" "));
    }
    text.push_str("    }");
    text
}

/// The names that have no block of their own yet. CoreDNS does not start with two blocks for the same
/// name and port.
fn names_without_block<'a>(corefile: &Corefile<'_>, names: &'a [String]) -> Vec<&'a str> {
    let mut wanted: Vec<&str> = names.iter().map(|name| name.trim_matches('.')).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let keys = || corefile.blocks.iter().flat_map(|block| &block.keys);
    let has = |name: &str| {
        keys().any(|key| key.zone == name && key.port.as_deref().is_none_or(|port| port == "53"))
    };
    wanted.retain(|name| !name.is_empty() && !has(name));
    wanted
}
