//! Gathers: goes through the locks, looks at what the source has of them, and takes the reports.

use std::path::Path;

use serde_json::Value;
use store::Source;
use types::lock::{Lock, Model as LockedModel};
use types::receipt::Receipt;
use types::{Digest, own_image};

use super::archive::{self, Target};
use super::index::{self, Finding, Index, Report, Weight};
use super::part::{PartKind, Parts};
use super::sign::Key;
use super::{Result, charts, images, models, page};

/// A file that is taken as it is.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it is.
    pub kind: PartKind,
    /// Its file's name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What is gathered from.
pub struct Request<'a> {
    /// The locks.
    pub locks: &'a [Lock],
    /// Receipts, for what the site holds; their texts are among the documents.
    pub receipts: &'a [Receipt],
    /// Where the content is; without it, it is not looked into.
    pub source: Option<&'a dyn Source>,
    /// Locks, site, receipts and reports as they are.
    pub documents: Vec<Document>,
}

/// What was gathered.
#[derive(Debug)]
pub struct Evidence {
    /// The index.
    pub index: Index,
    parts: Parts,
}

/// Verdicts that reports give themselves when all is well.
const GOOD: [&str; 8] = ["proven", "passed", "pass", "ok", "clean", "quiet", "good", "success"];

/// What is gathered on the way.
pub(super) struct Gathering<'a> {
    pub(super) source: Option<&'a dyn Source>,
    pub(super) parts: Parts,
    pub(super) findings: Vec<Finding>,
}

/// Gathers. The same input gives the same evidence, byte for byte. Blocks on the disk.
pub fn gather(request: Request<'_>) -> Result<Evidence> {
    let mut gathering =
        Gathering { source: request.source, parts: Parts::default(), findings: Vec::new() };
    let mut index = Index {
        version: index::VERSION,
        name: request.locks.iter().map(|lock| lock.name.as_str()).collect::<Vec<_>>().join(", "),
        gantry: own_image::VERSION.to_owned(),
        images: vec![],
        models: vec![],
        charts: vec![],
        reports: vec![],
        findings: vec![],
        parts: vec![],
    };
    for document in request.documents {
        let report = gathering.document(document)?;
        index.reports.extend(report);
    }
    for lock in request.locks {
        for image in &lock.images {
            index.images.push(images::image(&mut gathering, image)?);
        }
        for model in &lock.models {
            index.models.push(match model {
                LockedModel::Hub(model) => models::hub(&mut gathering, model)?,
                LockedModel::Ollama(model) => models::ollama(&mut gathering, model)?,
                LockedModel::Url(model) => models::url(&mut gathering, model)?,
            });
        }
        for chart in &lock.charts {
            index.charts.push(charts::chart(&mut gathering, chart)?);
        }
        images::sbom_files(&mut gathering, &lock.files)?;
        gathering.not_at_site(lock, request.receipts);
    }
    if request.source.is_none() {
        gathering.finding(
            Weight::Medium,
            "content",
            "no store and no volumes were given: licences, bills of materials and model files were not looked at",
            "give --from STORE or VOLUME",
        );
    }
    index.findings = gathering.findings;
    index.findings.sort();
    index.findings.dedup();
    index.images.sort_by(|a, b| a.reference.cmp(&b.reference));
    index.images.dedup();
    index.reports.sort_by(|a, b| a.path.cmp(&b.path));
    let mut parts = gathering.parts;
    index.parts = parts.index();
    let page = page::html(&index);
    parts.add_page(page.into_bytes())?;
    index.parts = parts.index();
    Ok(Evidence { index, parts })
}

impl Evidence {
    /// Writes the archive or the folder, signed where there is a key.
    pub fn write(self, target: &Target, key: Option<&Key>) -> Result<()> {
        let text = self.index.print()?;
        let mut files = self.parts.into_files();
        if let Some(key) = key {
            let signature = key.sign(text.as_bytes(), &self.index.name)?;
            files.insert(index::SIGNATURE.to_owned(), signature.into_bytes());
        }
        files.insert(index::PATH.to_owned(), text.into_bytes());
        archive::write(target, &files)
    }
}

impl Gathering<'_> {
    /// Takes a document in; a report is read for its verdict.
    fn document(&mut self, document: Document) -> Result<Option<Report>> {
        let Document { kind, name, bytes } = document;
        let folder = match kind {
            PartKind::Lock => "locks",
            PartKind::Site => "site",
            PartKind::Receipt => "receipts",
            _ => "reports",
        };
        let is_report = matches!(kind, PartKind::Proof | PartKind::Check | PartKind::Audit);
        let verdict = is_report.then(|| verdict(&bytes)).flatten();
        let path = self.parts.add(folder, &name, kind, &name, bytes)?;
        if !is_report {
            return Ok(None);
        }
        match &verdict {
            Some(verdict) if GOOD.contains(&verdict.to_lowercase().as_str()) => {}
            Some(verdict) => self.finding(
                Weight::High,
                &path,
                &format!("it gives itself the verdict {verdict:?}"),
                "read the report",
            ),
            None => self.finding(
                Weight::Medium,
                &path,
                "it gives itself no verdict that could be read",
                "read the report",
            ),
        }
        Ok(Some(Report { path, kind, verdict }))
    }

    /// What is locked and in no receipt.
    fn not_at_site(&mut self, lock: &Lock, receipts: &[Receipt]) {
        if receipts.is_empty() {
            return;
        }
        for root in lock.roots() {
            let is_held = receipts
                .iter()
                .flat_map(|receipt| &receipt.roots)
                .any(|held| held.name == root.name && held.digest == root.descriptor.digest);
            if !is_held {
                self.finding(
                    Weight::Medium,
                    &root.name.to_string(),
                    "it is locked, and no receipt says that the site holds it with this digest",
                    "load it, and give the receipt",
                );
            }
        }
    }

    pub(super) fn finding(&mut self, weight: Weight, what: &str, why: &str, next: &str) {
        self.findings.push(Finding {
            weight,
            what: what.to_owned(),
            why: why.to_owned(),
            next: next.to_owned(),
        });
    }

    /// A small document out of the source; `None` where it is not here or too large to be one.
    pub(super) fn blob(&mut self, digest: &Digest, what: &str) -> Result<Option<Vec<u8>>> {
        let Some(source) = self.source else { return Ok(None) };
        match source.size(digest)? {
            Some(size) if size <= super::part::LARGEST => {
                Ok(Some(store::document(source, digest, super::part::LARGEST)?))
            }
            Some(size) => {
                let size = types::ByteSize(size);
                let why = format!("{digest} has {size}, which is too large to be taken in");
                self.finding(Weight::Low, what, &why, "look at it where it is");
                Ok(None)
            }
            None => {
                let why = format!("{digest} is not in what was looked through");
                self.finding(Weight::Medium, what, &why, "gather where everything is: --from");
                Ok(None)
            }
        }
    }
}

/// The field `verdict` of a report, a word.
fn verdict(bytes: &[u8]) -> Option<String> {
    const LONGEST: usize = 100;
    let report: Value = serde_json::from_slice(bytes).ok()?;
    let verdict = report.get("verdict")?.as_str()?;
    Some(verdict.chars().take(LONGEST).collect())
}

/// The last part of a path, for a document's name.
pub(super) fn base_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Document {
    /// A file as it is, up to the size that a part may have.
    pub fn read(kind: PartKind, path: &Path) -> Result<Self> {
        let failed = |cause| super::Error::Read { path: path.to_owned(), cause };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > super::part::LARGEST {
            return Err(super::Error::TooMuch { most: super::part::LARGEST });
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        Ok(Self { kind, name: base_name(path), bytes })
    }
}
