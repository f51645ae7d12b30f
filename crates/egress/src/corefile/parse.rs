//! The parsed Corefile, and the parser.

use std::ops::Range;

use super::lexer;
use super::lexer::CorefileToken;
use crate::{Error, Result};

/// A parsed Corefile: the text, and the positions of its blocks and plugins.
#[derive(Debug, Clone)]
pub struct Corefile<'a> {
    pub(super) text: &'a str,
    pub(super) blocks: Vec<ServerBlock>,
}

/// A server block: `ZONE… { PLUGIN… }`.
#[derive(Debug, Clone)]
pub(super) struct ServerBlock {
    pub(super) keys: Vec<ServerBlockKey>,
    /// The byte behind the opening brace.
    pub(super) open: usize,
    /// The byte of the closing brace.
    pub(super) close: usize,
    pub(super) plugins: Vec<CorefilePlugin>,
}

/// A plugin: one line of a server block, with a block of its own where it has one.
#[derive(Debug, Clone)]
pub(super) struct CorefilePlugin {
    /// All of its words, the name first, braces included.
    pub(super) words: Vec<String>,
    /// The lines of its own block, each as words.
    pub(super) body: Vec<Vec<String>>,
    /// The bytes from its name to its last word.
    pub(super) range: Range<usize>,
}

/// What a server block answers: `dns://zone:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerBlockKey {
    pub(super) zone: String,
    pub(super) port: Option<String>,
    /// Whether it is plain DNS and not DNS over TLS, HTTPS or gRPC.
    pub(super) is_plain: bool,
}

impl CorefilePlugin {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The words of its first line after the name.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str).take_while(|word| *word != "{")
    }
}

impl ServerBlockKey {
    /// Without a scheme it is plain DNS, as CoreDNS has it.
    pub(super) fn parse(text: &str) -> Self {
        let (scheme, rest) = text.split_once("://").unwrap_or(("dns", text));
        let (zone, port) = match rest.rsplit_once(':') {
            Some((zone, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (zone, Some(port)),
            _ => (rest, None),
        };
        let zone = zone.trim_end_matches('.').to_ascii_lowercase();
        Self { zone, port: port.map(str::to_owned), is_plain: scheme == "dns" }
    }

    /// Whether it answers all names that no other block answers.
    pub(super) fn is_root(&self) -> bool {
        self.zone.is_empty()
    }
}

impl ServerBlock {
    pub(super) fn is_root(&self) -> bool {
        self.keys.iter().any(|key| key.is_root() && key.is_plain)
    }
}

impl<'a> Corefile<'a> {
    /// Parses a Corefile. An error has the line, and what CoreDNS would not accept there.
    pub fn parse(text: &'a str) -> Result<Self> {
        let tokens = lexer::split_tokens(text);
        let mut parser = CorefileParser { tokens: &tokens, next: 0 };
        let mut blocks = Vec::new();
        while parser.next < tokens.len() {
            blocks.extend(parser.parse_block()?);
        }
        Ok(Self { text, blocks })
    }

    /// Whether CoreDNS notices a change by itself: only with the plugin `reload`.
    pub fn has_reload(&self) -> bool {
        self.plugins().any(|plugin| plugin.name() == "reload")
    }

    /// Whether foreign names are forwarded to this address.
    pub fn forwards_to(&self, address: &str) -> bool {
        self.plugins()
            .any(|plugin| plugin.name() == "forward" && plugin.arguments().eq([".", address]))
    }

    pub(super) fn plugins(&self) -> impl Iterator<Item = &CorefilePlugin> {
        self.blocks.iter().flat_map(|block| &block.plugins)
    }
}

/// Reads blocks and plugins from the tokens.
pub(super) struct CorefileParser<'a> {
    pub(super) tokens: &'a [CorefileToken],
    pub(super) next: usize,
}

impl CorefileParser<'_> {
    /// The next block; `None` for what is not a server (a snippet, an import of files).
    pub(super) fn parse_block(&mut self) -> Result<Option<ServerBlock>> {
        let Some(first) = self.tokens.get(self.next) else { return Ok(None) };
        // `import FILES` outside of a block: those servers are not in this text, and are left alone.
        if first.text == "import" {
            self.next += 1;
            while self.next_on_line(first.line).is_some() {}
            return Ok(None);
        }
        let mut keys = Vec::new();
        let mut is_snippet = false;
        let open = loop {
            let Some(token) = self.tokens.get(self.next) else {
                return Err(syntax_error(first.line, "the server block has no braces"));
            };
            self.next += 1;
            match token.text.as_str() {
                "{" => break token,
                text => {
                    // `(name) { … }` is a snippet that other blocks import; it answers nothing itself.
                    is_snippet |= text.starts_with('(') && text.ends_with(')');
                    let text = text.trim_end_matches(',');
                    if !text.is_empty() {
                        keys.push(ServerBlockKey::parse(text));
                    }
                }
            }
        };
        let mut plugins = Vec::new();
        let close = loop {
            match self.tokens.get(self.next) {
                None => return Err(syntax_error(open.line, "its closing brace is missing")),
                Some(token) if token.text == "}" => break token,
                Some(_) => plugins.push(self.parse_plugin()?),
            }
        };
        self.next += 1;
        let block = ServerBlock { keys, open: open.end, close: close.start, plugins };
        Ok((!is_snippet).then_some(block))
    }

    /// A plugin: the words of its line, and its own block where it has one.
    pub(super) fn parse_plugin(&mut self) -> Result<CorefilePlugin> {
        let first = &self.tokens[self.next];
        let mut plugin =
            CorefilePlugin { words: vec![], body: vec![], range: first.start..first.end };
        let mut line = first.line;
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.next) {
            let is_new_line = token.line != line;
            match token.text.as_str() {
                "{" => depth += 1,
                _ if is_new_line && depth == 0 => break,
                "}" if depth == 0 => {
                    return Err(syntax_error(
                        token.line,
                        "there is a closing brace without an opening one",
                    ));
                }
                "}" => depth -= 1,
                text if depth > 0 => {
                    if is_new_line || plugin.body.is_empty() {
                        plugin.body.push(vec![]);
                    }
                    plugin.body.last_mut().into_iter().for_each(|l| l.push(text.to_owned()));
                }
                _ => {}
            }
            // A quoted word may end on a later line, and the plugin goes on behind it.
            line = token.last_line;
            plugin.words.push(token.text.clone());
            plugin.range.end = token.end;
            self.next += 1;
        }
        if depth > 0 {
            return Err(syntax_error(first.line, "its closing brace is missing"));
        }
        Ok(plugin)
    }

    /// The next token, if it is on this line.
    pub(super) fn next_on_line(&mut self, line: usize) -> Option<&CorefileToken> {
        let token = self.tokens.get(self.next).filter(|token| token.line == line)?;
        self.next += 1;
        Some(token)
    }
}

pub(super) fn syntax_error(line: usize, reason: &str) -> Error {
    Error::Corefile { line, reason: reason.to_owned() }
}
