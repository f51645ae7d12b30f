//! Gathers evidence: goes through the locks, reads their content from a store or bundle, and adds
//! the reports. `images`, `models` and `charts` do this for one entry of a lock each; all of them
//! write into one [`Gatherer`].

use std::path::Path;

use serde_json::Value;
use store::Source;
use types::lock::{Lock, LockedModel};
use types::receipt::Receipt;
use types::{Digest, own_image};

use super::archive::{self, EvidenceTarget};
use super::index::{self, EvidenceFinding, EvidenceIndex, ReportEvidence, Severity};
use super::part::{EvidencePartKind, PartCollection};
use super::sign::SigningKey;
use super::{Result, charts, images, models, page};

/// A file that is added unchanged.
#[derive(Debug, Clone)]
pub struct EvidenceDocument {
    /// What the file is.
    pub kind: EvidencePartKind,
    /// The file name, without folders.
    pub name: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// The input of [`gather_evidence`].
pub struct EvidenceInput<'a> {
    /// The locks whose content was transferred.
    pub locks: &'a [Lock],
    /// Receipts, which say what the site holds. Their files have to be among the documents as well.
    pub receipts: &'a [Receipt],
    /// The store or bundle with the content; without it, no content is inspected.
    pub source: Option<&'a dyn Source>,
    /// The files of locks, site, receipts and reports.
    pub documents: Vec<EvidenceDocument>,
}

/// Gathered evidence, ready to be written.
#[derive(Debug)]
pub struct GatheredEvidence {
    /// The index, which describes everything that was gathered.
    pub index: EvidenceIndex,
    parts: PartCollection,
}

/// The values of `verdict` in reports that mean success. The reports are those of several commands
/// and versions, hence the synonyms.
const GOOD: [&str; 8] = ["proven", "passed", "pass", "ok", "clean", "quiet", "good", "success"];

/// Collects files and findings while the locks are read.
pub(super) struct Gatherer<'a> {
    pub(super) source: Option<&'a dyn Source>,
    pub(super) parts: PartCollection,
    pub(super) findings: Vec<EvidenceFinding>,
}

/// Gathers evidence. The same input gives the same evidence, byte for byte. Blocks on the disk.
///
/// # Errors
/// Content that cannot be read, and more of it than an archive may have.
pub fn gather_evidence(request: EvidenceInput<'_>) -> Result<GatheredEvidence> {
    let mut gathering =
        Gatherer { source: request.source, parts: PartCollection::default(), findings: Vec::new() };
    let mut index = EvidenceIndex {
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
        let report = gathering.add_document(document)?;
        index.reports.extend(report);
    }
    for lock in request.locks {
        for image in &lock.images {
            index.images.push(images::gather_image(&mut gathering, image)?);
        }
        for model in &lock.models {
            index.models.push(match model {
                LockedModel::Hub(model) => models::gather_hub_model(&mut gathering, model)?,
                LockedModel::Ollama(model) => models::gather_ollama_model(&mut gathering, model)?,
                LockedModel::Url(model) => models::gather_url_model(&mut gathering, model)?,
            });
        }
        for chart in &lock.charts {
            index.charts.push(charts::gather_chart(&mut gathering, chart)?);
        }
        images::gather_sbom_files(&mut gathering, &lock.files)?;
        gathering.report_missing_at_site(lock, request.receipts);
    }
    if request.source.is_none() {
        gathering.add_finding(
            Severity::Medium,
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
    index.parts = parts.list_parts();
    // The page lists the files without itself; the final index has the page as well.
    let page = page::render_page(&index);
    parts.add_page(page.into_bytes())?;
    index.parts = parts.list_parts();
    Ok(GatheredEvidence { index, parts })
}

impl GatheredEvidence {
    /// Writes the archive or the folder, with a signature over the index if there is a key.
    ///
    /// # Errors
    /// A target that cannot be written or is a folder with content, and a key that cannot sign.
    pub fn write(self, target: &EvidenceTarget, key: Option<&SigningKey>) -> Result<()> {
        let text = self.index.to_json()?;
        let mut files = self.parts.into_files();
        if let Some(key) = key {
            let signature = key.sign(text.as_bytes(), &self.index.name)?;
            files.insert(index::SIGNATURE.to_owned(), signature.into_bytes());
        }
        files.insert(index::PATH.to_owned(), text.into_bytes());
        archive::write_files(target, &files)
    }
}

impl Gatherer<'_> {
    /// Adds a document. For a report, its verdict is read and judged.
    fn add_document(&mut self, document: EvidenceDocument) -> Result<Option<ReportEvidence>> {
        let EvidenceDocument { kind, name, bytes } = document;
        let folder = match kind {
            EvidencePartKind::Lock => "locks",
            EvidencePartKind::Site => "site",
            EvidencePartKind::Receipt => "receipts",
            _ => "reports",
        };
        let is_report = matches!(
            kind,
            EvidencePartKind::Proof | EvidencePartKind::Check | EvidencePartKind::Audit
        );
        let verdict = is_report.then(|| read_verdict(&bytes)).flatten();
        let path = self.parts.add(folder, &name, kind, &name, bytes)?;
        if !is_report {
            return Ok(None);
        }
        // A report without a verdict is not good news: it may be of an older version, or forged.
        match &verdict {
            Some(verdict) if GOOD.contains(&verdict.to_lowercase().as_str()) => {}
            Some(verdict) => self.add_finding(
                Severity::High,
                &path,
                &format!("its verdict is {verdict:?}"),
                "read the report",
            ),
            None => self.add_finding(
                Severity::Medium,
                &path,
                "it has no verdict that Gantry can read",
                "read the report",
            ),
        }
        Ok(Some(ReportEvidence { path, kind, verdict }))
    }

    /// Adds a finding for everything in a lock that no receipt names with the same digest.
    fn report_missing_at_site(&mut self, lock: &Lock, receipts: &[Receipt]) {
        if receipts.is_empty() {
            return;
        }
        for root in lock.roots() {
            let is_held = receipts
                .iter()
                .flat_map(|receipt| &receipt.roots)
                .any(|held| held.name == root.name && held.digest == root.descriptor.digest);
            if !is_held {
                self.add_finding(
                    Severity::Medium,
                    &root.name.to_string(),
                    "it is in the lock, but no receipt says that the site holds it with this digest",
                    "load it, and add the receipt of that",
                );
            }
        }
    }

    /// Adds a finding: what it is about, what was found, and the next step.
    pub(super) fn add_finding(&mut self, weight: Severity, what: &str, why: &str, next: &str) {
        self.findings.push(EvidenceFinding {
            weight,
            what: what.to_owned(),
            why: why.to_owned(),
            next: next.to_owned(),
        });
    }

    /// Reads a small blob from the source. Returns `None`, with a finding, if the source does not
    /// have it or it is too large; and without a finding if there is no source at all.
    pub(super) fn read_blob(&mut self, digest: &Digest, what: &str) -> Result<Option<Vec<u8>>> {
        let Some(source) = self.source else { return Ok(None) };
        match source.blob_size(digest)? {
            Some(size) if size <= super::part::LARGEST => {
                Ok(Some(store::read_blob(source, digest, super::part::LARGEST)?))
            }
            Some(size) => {
                let size = types::ByteSize(size);
                let why = format!("{digest} has {size}, which is too large to be included");
                self.add_finding(Severity::Low, what, &why, "inspect it in the store");
                Ok(None)
            }
            None => {
                let why = format!("{digest} is not in the content that was searched");
                self.add_finding(
                    Severity::Medium,
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
fn read_verdict(bytes: &[u8]) -> Option<String> {
    const LONGEST: usize = 100;
    let report: Value = serde_json::from_slice(bytes).ok()?;
    let verdict = report.get("verdict")?.as_str()?;
    Some(verdict.chars().take(LONGEST).collect())
}

/// The last segment of a path, as the name of a document.
pub(super) fn base_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl EvidenceDocument {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is larger than one file of the archive may be.
    pub fn read(kind: EvidencePartKind, path: &Path) -> Result<Self> {
        let failed = |cause| super::Error::Read { path: path.to_owned(), cause };
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > super::part::LARGEST {
            return Err(super::Error::TooMuch { most: super::part::LARGEST });
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        Ok(Self { kind, name: base_name(path), bytes })
    }
}
