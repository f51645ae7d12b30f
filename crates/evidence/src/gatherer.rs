//! The gathering itself: the files and findings collected so far, and the source that their content
//! is read from. `gather` makes one and hands it to `images`, `models` and `charts`.

use serde::Deserialize;
use store::Source;
use types::Digest;
use types::lock::Lock;
use types::receipt::Receipt;

use crate::Result;
use crate::document::EvidenceDocument;
use crate::index::{EvidenceFinding, ReportEvidence, Severity};
use crate::part::{EvidencePartKind, LARGEST, PartCollection};

/// The values of `verdict` in reports that mean success. The reports are those of several commands
/// and versions, hence the synonyms.
const GOOD: [&str; 8] = ["proven", "passed", "pass", "ok", "clean", "quiet", "good", "success"];

/// Collects files and findings while the locks are read.
pub(crate) struct Gatherer<'a> {
    pub(crate) source: Option<&'a dyn Source>,
    pub(crate) parts: PartCollection,
    pub(crate) findings: Vec<EvidenceFinding>,
}

impl Gatherer<'_> {
    /// Adds a document. For a report, its verdict is read and judged.
    pub(crate) fn add_document(
        &mut self,
        document: EvidenceDocument,
    ) -> Result<Option<ReportEvidence>> {
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
    pub(crate) fn report_missing_at_site(&mut self, lock: &Lock, receipts: &[Receipt]) {
        if receipts.is_empty() {
            return;
        }
        for root in lock.roots() {
            let is_held =
                receipts.iter().any(|receipt| receipt.holds(&root.name, &root.descriptor.digest));
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
    pub(crate) fn add_finding(&mut self, weight: Severity, what: &str, why: &str, next: &str) {
        self.findings.push(EvidenceFinding {
            weight,
            what: what.to_owned(),
            why: why.to_owned(),
            next: next.to_owned(),
        });
    }

    /// Reads a small blob from the source. Returns `None`, with a finding, if the source does not
    /// have it or it is too large; and without a finding if there is no source at all.
    pub(crate) fn read_blob(&mut self, digest: &Digest, what: &str) -> Result<Option<Vec<u8>>> {
        let Some(source) = self.source else { return Ok(None) };
        match source.blob_size(digest)? {
            Some(size) if size <= LARGEST => Ok(Some(store::read_blob(source, digest, LARGEST)?)),
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

/// What is read of a JSON report.
#[derive(Deserialize)]
struct JudgedReport {
    verdict: String,
}

/// Reads the field `verdict` of a JSON report.
fn read_verdict(bytes: &[u8]) -> Option<String> {
    const LONGEST: usize = 100;
    // Of a report of any length only this field is kept.
    let JudgedReport { verdict } = serde_json::from_slice(bytes).ok()?;
    Some(verdict.chars().take(LONGEST).collect())
}
