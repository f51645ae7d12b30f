//! What was added, removed and changed between two locks, bundles or stores, as an HTML page for a
//! reviewer: what a git diff of the lock has in hundreds of lines, with the versions side by side.

use html::{
    ColumnWidth, PageSection, PageTable, PageVerdict, ReportPage, TableCell, TextLine, Tone,
    format_count,
};
use types::content_diff::{ContentDiff, DiffChange, DiffItem};
use types::lock::ImageReason;
use types::{ByteSize, Digest};

use crate::Result;

/// Renders the page of a difference between two sides, which are called as the user named them. `gantry` is
/// the version that writes it.
pub fn render_changes_page(
    (from, to): (&str, &str),
    diff: &ContentDiff,
    gantry: &str,
) -> Result<String> {
    let mut page = ReportPage {
        kind: "Changes",
        subject: format!("{from} to {to}"),
        verdict: describe_verdict(diff),
        footer: format!("Written by gantry {gantry}."),
        ..ReportPage::default()
    };
    let tone = |count: usize| if count > 0 { Tone::Warning } else { Tone::Neutral };
    page.add_figure(tone(diff.changed.len()), diff.changed.len(), "changed");
    page.add_figure(tone(diff.added.len()), diff.added.len(), "added");
    page.add_figure(tone(diff.removed.len()), diff.removed.len(), "removed");
    page.add_figure(Tone::Neutral, diff.same, "the same");
    page.add_figure(Tone::Neutral, ByteSize(diff.added_bytes), "to carry");
    page.add_fact("Before", TextLine::code(from));
    page.add_fact("After", TextLine::code(to));
    page.add_fact("No longer needed", ByteSize(diff.removed_bytes).to_string());
    page.add_fact("In both", ByteSize(diff.shared_bytes).to_string());
    page.sections = vec![
        changed_section(&diff.changed),
        items_section("Added", Tone::Good, &diff.added),
        items_section("Removed", Tone::Warning, &diff.removed),
    ];
    Ok(page.to_html()?)
}

fn describe_verdict(diff: &ContentDiff) -> PageVerdict {
    if diff.is_empty() {
        return PageVerdict {
            tone: Tone::Good,
            headline: "Nothing differs".to_owned(),
            explanation: format!("{} on both sides.", format_count(diff.same, "item")),
        };
    }
    let count = diff.changed.len() + diff.added.len() + diff.removed.len();
    PageVerdict {
        tone: Tone::Neutral,
        headline: format!("{} to review", format_count(count, "difference")),
        explanation: format!("{} are the same.", format_count(diff.same, "item")),
    }
}

fn changed_section(changes: &[DiffChange]) -> PageSection {
    let mut table = PageTable::new([
        ("Kind", ColumnWidth::Narrow),
        ("Name", ColumnWidth::Text),
        ("Version", ColumnWidth::Narrow),
        ("Digest", ColumnWidth::Text),
        ("Size", ColumnWidth::Number),
        ("Named by", ColumnWidth::Text),
    ]);
    for change in changes {
        let DiffChange { before, after } = change;
        table.add_row(
            Tone::Neutral,
            [
                after.kind.as_str().into(),
                TextLine::code(after.name.name()).into(),
                change.version_change().into(),
                vec![
                    TextLine::muted("before").with_code(shorten_digest(&before.digest)),
                    TextLine::muted("after").with_code(shorten_digest(&after.digest)),
                ]
                .into(),
                format_size(after),
                format_reason(after),
            ],
        );
    }
    PageSection::new("Changed").with_count(changes.len()).with_table(table)
}

fn items_section(title: &str, tone: Tone, items: &[DiffItem]) -> PageSection {
    let mut table = PageTable::new([
        ("Kind", ColumnWidth::Narrow),
        ("Name", ColumnWidth::Text),
        ("Version", ColumnWidth::Narrow),
        ("Digest", ColumnWidth::Text),
        ("Size", ColumnWidth::Number),
        ("Named by", ColumnWidth::Text),
    ]);
    for item in items {
        table.add_row(
            tone,
            [
                item.kind.as_str().into(),
                TextLine::code(item.name.name()).into(),
                item.short_version().into(),
                TextLine::code(shorten_digest(&item.digest)).into(),
                format_size(item),
                format_reason(item),
            ],
        );
    }
    PageSection::new(title).with_count(items.len()).with_table(table)
}

/// Half of a digest: enough to compare by eye, and on one line.
fn shorten_digest(digest: &Digest) -> String {
    const SHOWN: usize = 39;
    let text = digest.to_string();
    text.get(..SHOWN).map_or(text.clone(), |start| format!("{start}…"))
}

fn format_size(item: &DiffItem) -> TableCell {
    item.bytes.map_or_else(TableCell::default, |bytes| ByteSize(bytes).to_string().into())
}

fn format_reason(item: &DiffItem) -> TableCell {
    item.reason.as_ref().map(ImageReason::to_string).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use types::RootKind;
    use types::content_diff::ContentListing;
    use types::lock::Blob;

    use super::*;

    fn make_listing(images: &[(&str, u8)]) -> ContentListing {
        let mut listing = ContentListing::default();
        for (name, content) in images {
            let blob = Blob { digest: Digest::Sha256([*content; 32]), size: 1000 };
            listing.add_item(RootKind::Image, name.parse().unwrap(), blob.digest, [blob]);
        }
        listing
    }

    #[test]
    fn a_reviewer_sees_versions_and_digests_side_by_side() {
        let before = make_listing(&[("ghcr.io/a/b:1.0", 1), ("ghcr.io/a/old:1", 2)]);
        let after = make_listing(&[("ghcr.io/a/b:1.1", 3), ("ghcr.io/a/new:1", 4)]);

        let page =
            render_changes_page(("<b>old.lock", "gantry.lock"), &before.diff(&after), "9.9.9")
                .unwrap();

        assert!(page.contains("1.0 → 1.1"), "{page}");
        assert!(page.contains("3 differences to review"), "{page}");
        assert!(!page.contains("<b>old.lock"), "what a user names is escaped");
        let same = render_changes_page(("a", "b"), &before.diff(&before), "9.9.9").unwrap();
        assert!(same.contains("Nothing differs"), "{same}");
    }
}
