//! A page: the verdict with the figures that carry it, then sections of blocks.

use askama::Template;

use crate::text::Escaped;
use crate::{AttemptTimeline, PageTable, Result, TextLine, Tone};

/// A report as a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportPage {
    /// What kind of report it is: `Egress audit`.
    pub kind: &'static str,
    /// What it is about: a cluster, a chart.
    pub subject: String,
    /// The result.
    pub verdict: PageVerdict,
    /// The few figures that carry the verdict.
    pub figures: Vec<PageFigure>,
    /// What the reader has to know about the report itself.
    pub facts: Vec<PageFact>,
    /// The sections. One without blocks is left out.
    pub sections: Vec<PageSection>,
    /// The last line: who wrote the page and when.
    pub footer: String,
}

/// The result of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageVerdict {
    /// How good or bad it is.
    pub tone: Tone,
    /// The result in a sentence.
    pub headline: String,
    /// What it means, or what to do next; may be empty.
    pub explanation: String,
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFigure {
    /// How good or bad it is.
    pub tone: Tone,
    /// The figure: `8`, `10 min`.
    pub value: String,
    /// What it counts.
    pub label: &'static str,
}

/// A fact about the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFact {
    /// What the fact is about.
    pub name: &'static str,
    /// The fact.
    pub text: TextLine,
}

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSection {
    /// Its heading.
    pub title: String,
    /// How much is in it, beside the heading.
    pub count: Option<usize>,
    /// Whether the reader sees its blocks at once.
    pub fold: SectionFold,
    /// Its content.
    pub blocks: Vec<PageBlock>,
}

/// Whether the blocks of a section are seen at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionFold {
    /// At once.
    Open,
    /// When the reader unfolds them.
    Closed,
}

/// A part of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageBlock {
    /// A paragraph.
    Paragraph(TextLine),
    /// A list.
    List(Vec<TextLine>),
    /// A table.
    Table(PageTable),
    /// A timeline.
    Timeline(AttemptTimeline),
    /// A file that the reader may copy, below its name.
    File {
        /// The name.
        name: TextLine,
        /// The content.
        text: String,
    },
}

#[derive(Template)]
#[template(path = "page.html")]
struct PageTemplate<'a> {
    page: &'a ReportPage,
}

impl ReportPage {
    /// The page as HTML.
    pub fn to_html(&self) -> Result<String> {
        Ok(PageTemplate { page: self }.render()?)
    }

    /// Adds a figure.
    pub fn add_figure(&mut self, tone: Tone, value: impl ToString, label: &'static str) {
        self.figures.push(PageFigure { tone, value: value.to_string(), label });
    }

    /// Adds a fact about the report.
    pub fn add_fact(&mut self, name: &'static str, text: impl Into<TextLine>) {
        self.facts.push(PageFact { name, text: text.into() });
    }

    /// The sections that have content.
    fn filled_sections(&self) -> impl Iterator<Item = &PageSection> {
        self.sections.iter().filter(|section| !section.blocks.is_empty())
    }
}

impl PageSection {
    /// An open section without content.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), count: None, fold: SectionFold::Open, blocks: vec![] }
    }

    /// Writes a count beside the heading, unless it is 0.
    #[must_use]
    pub fn with_count(mut self, count: usize) -> Self {
        self.count = (count > 0).then_some(count);
        self
    }

    /// Closes the section until the reader unfolds it.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.fold = SectionFold::Closed;
        self
    }

    /// Adds a paragraph.
    #[must_use]
    pub fn with_paragraph(self, line: impl Into<TextLine>) -> Self {
        self.with_block(PageBlock::Paragraph(line.into()))
    }

    /// Adds a list. An empty one adds nothing.
    #[must_use]
    pub fn with_list(self, lines: Vec<TextLine>) -> Self {
        if lines.is_empty() { self } else { self.with_block(PageBlock::List(lines)) }
    }

    /// Adds a table. One without rows adds nothing.
    #[must_use]
    pub fn with_table(self, table: PageTable) -> Self {
        if table.rows.is_empty() { self } else { self.with_block(PageBlock::Table(table)) }
    }

    /// Adds a block.
    #[must_use]
    pub fn with_block(mut self, block: PageBlock) -> Self {
        self.blocks.push(block);
        self
    }
}
