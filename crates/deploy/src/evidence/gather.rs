//! Gathers evidence: goes through the locks, reads their content from a store or bundle, and adds
//! the reports. `images`, `models` and `charts` do this for one entry of a lock each; all of them
//! write into one [`Gatherer`].

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

/// A file that is added unchanged.
#[derive(Debug, Clone)]
pub struct Document {
    /// What the file is.
    pub kind: PartKind,
    /// The file name, without folders.
    pub name: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// The input of [`gather_evidence`].
pub struct Request<'a> {
    /// The locks whose content was transferred.
    pub locks: &'a [Lock],
    /// Receipts, which say what the site holds. Their files have to be among the documents as well.
    pub receipts: &'a [Receipt],
    /// The store or bundle with the content; without it, no content is inspected.
    pub source: Option<&'a dyn Source>,
    /// The files of locks, site, receipts and reports.
    pub documents: Vec<Document>,
}

/// Gathered evidence, ready to be written.
#[derive(Debug)]
pub struct Evidence {
    /// The index, which describes everything that was gathered.
    pub index: Index,
    parts: Parts,
}

/// The values of `verdict` in reports that mean success. The reports are those of several commands
/// and versions, hence the synonyms.
const GOOD: [&str; 8] = ["proven", "passed", "pass", "ok", "clean", "quiet", "good", "success"];

/// Collects files and findings while the locks are read.
pub(super) struct Gathering<'a> {
    pub(super) source: Option<&'a dyn Source>,
    pub(super) parts: Parts,
    pub(super) findings: Vec<Finding>,
}

/// Gathers evidence. The same input gives the same evidence, byte for byte. Blocks on the disk.
///
/// # Errors
/// Content that cannot be read, and more of it than an archive may have.
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
            "no store and no bundle files were given: licences, SBOMs and model files were not inspected",
            "name a store or bundle files: --from STORE or --from BUNDLE_FILE",
        );
    }
    index.findings = gathering.findings;
    // Sorted and without repetitions: several locks may share content, and the order of the input
    // must not change the bytes.
    index.findings.sort();
    index.findings.dedup();
    index.images.sort_by(|a, b| a.reference.cmp(&b.reference));
    index.images.dedup();
    index.reports.sort_by(|a, b| a.path.cmp(&b.path));
    let mut parts = gathering.parts;
    index.parts = parts.index();
    // The page lists the files without itself; the final index has the page as well.
    let page = page::html(&index);
    parts.add_page(page.into_bytes())?;
    index.parts = parts.index();
    Ok(Evidence { index, parts })
}

impl Evidence {
    /// Writes the archive or the folder, with a signature over the index if there is a key.
    ///
    /// # Errors
    /// A target that cannot be written or is a folder with content, and a key that cannot sign.
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
    /// Adds a document. For a report, its verdict is read and judged.
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
        // A report without a verdict is not good news: it may be of an older version, or forged.
        match &verdict {
            Some(verdict) if GOOD.contains(&verdict.to_lowercase().as_str()) => {}
            Some(verdict) => self.finding(
                Weight::High,
                &path,
                &format!("its verdict is {verdict:?}"),
                "read the report",
            ),
            None => self.finding(
                Weight::Medium,
                &path,
                "it has no verdict that Gantry can read",
                "read the report",
            ),
        }
        Ok(Some(Report { path, kind, verdict }))
    }

    /// Adds a finding for everything in a lock that no receipt names with the same digest.
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
                    "it is in the lock, but no receipt says that the site holds it with this digest",
                    "load it, and add the receipt of that",
                );
            }
        }
    }

    /// Adds a finding: what it is about, what was found, and the next step.
    pub(super) fn finding(&mut self, weight: Weight, what: &str, why: &str, next: &str) {
        self.findings.push(Finding {
            weight,
            what: what.to_owned(),
            why: why.to_owned(),
            next: next.to_owned(),
        });
    }

    /// Reads a small blob from the source. Returns `None`, with a finding, if the source does not
    /// have it or it is too large; and without a finding if there is no source at all.
    pub(super) fn blob(&mut self, digest: &Digest, what: &str) -> Result<Option<Vec<u8>>> {
        let Some(source) = self.source else { return Ok(None) };
        match source.size(digest)? {
            Some(size) if size <= super::part::LARGEST => {
                Ok(Some(store::document(source, digest, super::part::LARGEST)?))
            }
            Some(size) => {
                let size = types::ByteSize(size);
                let why = format!("{digest} has {size}, which is too large to be included");
                self.finding(Weight::Low, what, &why, "inspect it in the store");
                Ok(None)
            }
            None => {
                let why = format!("{digest} is not in the content that was searched");
                self.finding(
                    Weight::Medium,
                    what,
                    &why,
                    "name a store or bundle that has everything: --from",
                );
                Ok(None)
            }
        }
    }
}

/// Reads the field `verdict` of a JSON report.
fn verdict(bytes: &[u8]) -> Option<String> {
    const LONGEST: usize = 100;
    let report: Value = serde_json::from_slice(bytes).ok()?;
    let verdict = report.get("verdict")?.as_str()?;
    Some(verdict.chars().take(LONGEST).collect())
}

/// The last segment of a path, as the name of a document.
pub(super) fn base_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is larger than one file of the archive may be.
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
