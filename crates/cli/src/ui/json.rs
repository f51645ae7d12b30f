//! Results as JSON, as they may be printed: addresses in them without their secrets, nothing that a
//! terminal obeys.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter};
use types::foreign_text::escape_json;
use types::redact_urls;

/// The indented document of a value.
pub(crate) fn format_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, ResultFormatter::new());
    value.serialize(&mut serializer)?;
    // The formatter writes nothing but JSON, which is UTF-8.
    Ok(escape_json(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Indents, and removes secrets from texts. While a value is written, and not from the document: there,
/// the end of an address may be an escape. Not from a tree of values either, which would be held in
/// memory a second time.
struct ResultFormatter {
    layout: PrettyFormatter<'static>,
    /// The current text, as JSON has it between its quotes.
    text: Vec<u8>,
}

impl ResultFormatter {
    fn new() -> Self {
        Self { layout: PrettyFormatter::new(), text: Vec::new() }
    }
}

impl Formatter for ResultFormatter {
    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.text.clear();
        self.layout.begin_string(writer)
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        _: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.text.extend_from_slice(fragment.as_bytes());
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        _: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        CompactFormatter.write_char_escape(&mut self.text, escape)
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if !self.text.windows(3).any(|window| window == b"://") {
            writer.write_all(&self.text)?;
            return self.layout.end_string(writer);
        }
        let json = [b"\"", self.text.as_slice(), b"\""].concat();
        let text: String = serde_json::from_slice(&json)?;
        let json = serde_json::to_string(&redact_urls(&text))?;
        // The first quote is written already.
        writer.write_all(&json.as_bytes()[1..])
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.layout.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.layout.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.layout.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_result_without_addresses_is_what_the_library_prints() {
        let value = json!({
            "a": [1, -2.5, null, true, [], {}],
            "texts": ["", "plain", "quote \" back \\ slash", "line\nbreak\ttab", "ünïcode 模型"],
            "key \"with\" quotes": {"b": {"c": "d"}},
        });
        assert_eq!(format_json(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap());
        let numbers = BTreeMap::from([(1_u8, "x"), (2, "y")]);
        assert_eq!(format_json(&numbers).unwrap(), serde_json::to_string_pretty(&numbers).unwrap());
    }

    #[test]
    fn an_address_loses_its_secrets_wherever_it_ends() {
        let value = json!({
            "url": "https://me:geh\\eim@host/a?token=geheim",
            "quoted": "GET \"https://host/a?sig=geheim\"\nnext: https://me:geheim@host/b",
            "https://me:geheim@host/key": 1,
        });
        let printed = format_json(&value).unwrap();
        assert!(!printed.contains("geh"), "{printed}");
        let read: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(read["url"], "https://host/a");
        assert_eq!(read["quoted"], "GET \"https://host/a\"\nnext: https://host/b");
        assert_eq!(read["https://host/key"], 1);
    }
}
