//! What was added, removed and changed between two lists of content, as a table: what `lock` prints of the
//! lock before and after, and `diff` of any two sides.

use std::fmt::Write as _;

use types::ByteSize;
use types::content_diff::{ContentDiff, DiffChange, DiffItem};
use types::lock::ImageReason;

use crate::ui;

/// A line for each item that differs, with its version and digest before and after, and the totals.
pub(crate) fn format_changes(diff: &ContentDiff) -> String {
    let removed = diff.removed.iter().map(|item| format_item("-", item));
    let added = diff.added.iter().map(|item| format_item("+", item));
    let changed = diff.changed.iter().map(format_change);
    let rows: Vec<_> = removed.chain(added).chain(changed).collect();
    let mut text = match rows.is_empty() {
        true => String::new(),
        false => {
            ui::format_table(["", "kind", "name", "version", "digest", "size", "named by"], rows)
        }
    };
    let _ = writeln!(
        text,
        "{} added, {} removed, {} changed, {} the same",
        diff.added.len(),
        diff.removed.len(),
        diff.changed.len(),
        diff.same
    );
    let _ = writeln!(
        text,
        "{} to carry, {} no longer needed, {} in both",
        ByteSize(diff.added_bytes),
        ByteSize(diff.removed_bytes),
        ByteSize(diff.shared_bytes)
    );
    text
}

/// The columns of an item: sign, kind, name without version, version, digest, size, who names it.
fn format_item(sign: &str, item: &DiffItem) -> [String; 7] {
    [
        sign.to_owned(),
        item.kind.as_str().to_owned(),
        item.name.name(),
        item.short_version(),
        item.digest.short_hex(),
        item.bytes.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default(),
        item.reason.as_ref().map(ImageReason::to_string).unwrap_or_default(),
    ]
}

fn format_change(change: &DiffChange) -> [String; 7] {
    let [sign, kind, name, _, _, size, reason] = format_item("~", &change.after);
    [sign, kind, name, change.version_change(), change.digest_change(), size, reason]
}
