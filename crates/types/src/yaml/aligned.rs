//! Documents that the YAML standard does not allow and that helm reads.

use serde_saphyr::granit_parser::{ErrorKind, Parser};

/// A document that the YAML standard does not allow and that go-yaml, the parser of helm and kubectl,
/// reads, with blanks where the standard wants them: the header of a block is behind its key, and a
/// quoted text goes on with more indentation than its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignedManifest {
    text: String,
    /// The offsets in the aligned text behind which [`PADDING`] was inserted, in their order.
    insertions: Vec<usize>,
}

/// What is put in front of a line of a quoted text, which loses all blanks at the start of its lines:
/// more than the deepest key of a manifest has.
const PADDING: &str = "                                                                                                                                ";

/// The most lines that are padded, and the most bytes that are read for it again and again.
const MAX_PADDED_LINES: usize = 1000;
const MAX_ALIGNED_BYTES: usize = 64 << 20;

impl AlignedManifest {
    /// Aligns a document. `None` if there is nothing to align.
    pub fn align(text: &str) -> Option<Self> {
        let aligned = align_block_headers(text);
        let is_changed = aligned.is_some();
        let mut aligned =
            Self { text: aligned.unwrap_or_else(|| text.to_owned()), insertions: Vec::new() };
        let most = MAX_PADDED_LINES.min(MAX_ALIGNED_BYTES / (text.len() + 1));
        while aligned.insertions.len() < most
            && let Some(offset) = find_unindented_quote(&aligned.text)
        {
            aligned.text.insert_str(offset, PADDING);
            aligned.insertions.push(offset);
        }
        (is_changed || !aligned.insertions.is_empty()).then_some(aligned)
    }

    /// The document as the standard allows it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The byte offset in the original document of an offset in the aligned one.
    pub fn original_offset(&self, offset: usize) -> usize {
        let before = |start: &&usize| **start < offset;
        let inserted = self.insertions.iter().take_while(before).map(|start| {
            // An offset in the blanks is that of what follows them.
            PADDING.len().min(offset - start)
        });
        offset - inserted.sum::<usize>()
    }
}

/// The offset of the first line of a quoted text that is not indented more than its key; `None` if
/// the document has another fault first, or none.
fn find_unindented_quote(text: &str) -> Option<usize> {
    let fault = Parser::new_from_str(text).find_map(std::result::Result::err)?;
    let is_quote = matches!(fault.kind(), ErrorKind::InvalidQuotedScalarIndent);
    fault.marker().byte_offset().filter(|_| is_quote)
}

/// A document that the YAML standard does not allow and that go-yaml, the parser of helm and
/// kubectl, reads: the `|` or `>` of a block on a line of its own that is not indented more than its
/// key. It is put behind the key, and every byte stays where it is: the line break and the
/// indentation become blanks. `None` if there is no such line.
///
/// ```yaml
/// config.yaml:      # becomes `config.yaml:   |`
///   |
///   a: 1
/// ```
pub(super) fn align_block_headers(text: &str) -> Option<String> {
    let indentation = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let mut aligned = text.to_owned();
    let (mut is_any, mut start) = (false, 0);
    // The end of the last key or dash without a value, and the indentation below which an open block ends.
    let (mut key, mut block): (Option<usize>, Option<usize>) = (None, None);
    for line in text.split_inclusive('\n') {
        let (bare, own, line_start) = (line.trim(), indentation(line), start);
        start += line.len();
        if block.is_some_and(|block| bare.is_empty() || own > block) {
            continue;
        }
        block = None;
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let content = bare.split_once(" #").map_or(bare, |(content, _)| content.trim_end());
        if let Some(end) = key.take().filter(|_| is_block_header(content)) {
            let header = line_start + own;
            aligned.replace_range(end..header, &" ".repeat(header - end));
            is_any = true;
        }
        if content.rsplit([' ', ':']).next().is_some_and(is_block_header) {
            // The content is indented more than the key, or more than the header's own line has it.
            let dashes = bare.len() - bare.trim_start_matches("- ").len();
            block =
                Some(if is_block_header(content) { own.saturating_sub(1) } else { own + dashes });
        }
        let own_content = without_properties(content);
        let ends = own_content.ends_with(':') || own_content == "-" || own_content.ends_with(" -");
        key = ends.then_some(line_start + (line.len() - line.trim_start().len()) + content.len());
    }
    is_any.then_some(aligned)
}

/// A line without the anchor and the tag at its end: `key:` of `key: &name !!str`.
fn without_properties(line: &str) -> &str {
    match line.rsplit_once(' ') {
        Some((rest, last)) if last.starts_with(['&', '!']) => without_properties(rest.trim_end()),
        _ => line,
    }
}

/// Whether a word starts a block scalar: `|`, `>-`, `|2+`.
fn is_block_header(word: &str) -> bool {
    word.strip_prefix(['|', '>']).is_some_and(|rest| {
        rest.len() <= 2 && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'+')
    })
}
