//! Gathers evidence: goes through the locks, reads their content from a store or bundle, and adds
//! the reports. `images`, `models` and `charts` do this for one entry of a lock each; all of them
//! write into one [`Gatherer`].

use store::Source;
use types::lock::{Lock, LockedModel};
use types::own_image;
use types::receipt::Receipt;

use crate::archive::{self, EvidenceTarget};
use crate::document::EvidenceDocument;
use crate::gatherer::Gatherer;
use crate::index::{EvidenceIndex, Severity};
use crate::part::{self, PartCollection};
use crate::sign::SigningKey;
use crate::{Result, charts, images, index, models, page};

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
    let page = page::render_page(&index)?;
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
            files.insert(part::SIGNATURE.to_owned(), signature.into_bytes());
        }
        files.insert(part::INDEX.to_owned(), text.into_bytes());
        archive::write_files(target, &files)
    }
}
