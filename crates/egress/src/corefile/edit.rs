//! The change to a Corefile: names that nobody in the cluster answers for go to the sink, with the
//! address of who asked. What is not about them stays as it is, byte for byte.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{Block, Corefile, Plugin};
use crate::{Error, Result};

/// The EDNS0 option that carries the address of who asked: 4 or 16 bytes (plugin/rewrite/wire.go,
/// `ipToWire`). One of the codes that RFC 6891 leaves to local use (65001 to 65534).
pub const CLIENT_OPTION: u16 = 0xfeed;

/// What is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish<'a> {
    /// Where the sink listens.
    pub sink: SocketAddr,
    /// Names of the site, which go on being asked where they were asked before.
    pub inside: &'a [String],
    /// Where the text from before is kept, for the comment.
    pub kept_in: &'a str,
}

/// A changed Corefile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub text: String,
    /// Where foreign names went before; empty where nowhere.
    pub before: Vec<String>,
}

/// Sends foreign names to the sink.
pub fn edit(corefile: &Corefile<'_>, wish: &Wish<'_>) -> Result<Edited> {
    if !corefile.reloads() {
        return Err(Error::NoReload);
    }
    let mut text = String::with_capacity(corefile.text.len() + 512);
    let mut before = Vec::new();
    let mut upstream = None;
    let mut copied = 0;
    let mut copy = |text: &mut String, to: usize, from: usize| {
        text.push_str(&corefile.text[copied..to]);
        copied = from;
    };
    for block in corefile.blocks.iter().filter(|block| block.is_root()) {
        copy(&mut text, block.open, block.open);
        // First of all rules: one of the block may be the last that is looked at.
        let _ = write!(
            text,
            "\n    # by gantry audit; the text from before is in {}\n    \
             rewrite continue edns0 local set {CLIENT_OPTION:#x} {{client_ip}}",
            wish.kept_in
        );
        let mut is_placed = false;
        for plugin in block.plugins.iter().filter(|plugin| answers_foreign(plugin)) {
            let written = &corefile.text[plugin.range.clone()];
            before.push(plugin.words.join(" "));
            copy(&mut text, plugin.range.start, plugin.range.end);
            let is_upstream = plugin.name() == "forward";
            if is_upstream && upstream.is_none() {
                upstream = Some(written);
            }
            if !is_placed && plugin.name() != "cache" {
                text.push_str(&forward(wish.sink, &excepted(plugin)));
                is_placed = true;
            }
        }
        if !is_placed {
            let end = corefile.text[..block.close].trim_end().len().max(block.open);
            // Never into a comment: a line of its own.
            copy(&mut text, end, end);
            let _ = write!(text, "\n    {}", forward(wish.sink, &[]));
        }
    }
    text.push_str(&corefile.text[copied..]);
    if !corefile.blocks.iter().any(Block::is_root) {
        let _ = write!(
            text,
            "\n.:53 {{\n    errors\n    rewrite continue edns0 local set {CLIENT_OPTION:#x} \
             {{client_ip}}\n    {}\n}}\n",
            forward(wish.sink, &[])
        );
    }
    if let Some(upstream) = upstream {
        for name in unanswered(corefile, wish.inside) {
            let _ = write!(text, "\n{name}:53 {{\n    errors\n    {upstream}\n}}\n");
        }
    }
    // The change is read again: what cannot be read would stop the cluster's name service.
    let sink = wish.sink.to_string();
    if !Corefile::parse(&text)?.forwards_to(&sink) {
        return Err(Error::Corefile { line: 0, reason: "it could not be changed".into() });
    }
    Ok(Edited { text, before })
}

/// Whether a plugin answers names that nobody in the cluster knows, or keeps their answers, so that
/// the second pod that asks would not be seen.
fn answers_foreign(plugin: &Plugin) -> bool {
    let mut arguments = plugin.arguments();
    match plugin.name() {
        "forward" | "proxy" | "fanout" => arguments.next() == Some("."),
        "cache" | "erratic" => true,
        // CLASS TYPE [ZONE…]
        "template" => {
            let is_any = arguments.nth(1).is_some_and(|kind| kind.eq_ignore_ascii_case("ANY"));
            let mut zones = arguments.peekable();
            let is_everywhere = zones.peek().is_none() || zones.any(|zone| zone == ".");
            // With a pattern it answers for some names only.
            let is_bound = plugin.body.iter().any(|l| l.first().is_some_and(|w| w == "match"));
            is_any && is_everywhere && !is_bound
        }
        _ => false,
    }
}

/// The names that a forward leaves alone, which stay left alone.
fn excepted(plugin: &Plugin) -> Vec<&str> {
    let lines = plugin.body.iter().filter(|line| line.first().is_some_and(|w| w == "except"));
    lines.flat_map(|line| line.iter().skip(1).map(String::as_str)).collect()
}

fn forward(sink: SocketAddr, except: &[&str]) -> String {
    // No failures are counted: CoreDNS' checks of the sink's health would be questions, too.
    let mut text = format!("forward . {sink} {{\n        max_fails 0\n");
    if !except.is_empty() {
        let _ = writeln!(text, "        except {}", except.join(" "));
    }
    text.push_str("    }");
    text
}

/// The names that have no block of their own yet; a second one would stop CoreDNS.
fn unanswered<'a>(corefile: &Corefile<'_>, names: &'a [String]) -> Vec<&'a str> {
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
