//! Reports as HTML pages, with one layout and one style for all of them. A crate that has a report
//! fills a [`ReportPage`] with typed blocks (lines of text, tables, a timeline), and
//! [`ReportPage::to_html`] renders it. This crate knows nothing of what the reports say.
//!
//! A page is one file: it loads nothing, runs no scripts, prints on A4, and follows the reader's
//! choice of light or dark. All text in it may come from strangers (image names, DNS names, model
//! cards), so every text is escaped here, and no block takes HTML.
//!
//! ```text
//! audit, relocate, check, evidence ──▶ ReportPage ──▶ templates/page.html + style.css ──▶ one file
//! ```

mod error;
mod group;
mod page;
mod table;
mod text;
mod time;
mod timeline;
mod tone;

pub use error::{Error, Result};
pub use group::group_by_cause;
pub use page::{
    PageBlock, PageFact, PageFigure, PageSection, PageVerdict, ReportPage, SectionFold,
};
pub use table::{ColumnWidth, PageTable, TableCell, TableColumn, TableRow};
pub use text::{TextLine, TextSpan, format_count};
pub use time::{format_instant, format_interval, format_seconds};
pub use timeline::{AttemptTimeline, TimelineLane};
pub use tone::Tone;
