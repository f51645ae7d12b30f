//! `gantry evidence`: collects what an auditor asks for in one archive; `gantry evidence verify` verifies
//! such an archive.

use std::fmt::Write as _;
use std::path::PathBuf;

use evidence::{
    EvidenceDocument, EvidenceFinding, EvidenceInput, EvidencePartKind, EvidenceTarget, Severity,
    SignatureStatus, SigningKey, TrustedKey, gather_evidence, verify_evidence,
};
use serde::Serialize;
use types::ByteSize;
use types::lock::Lock;
use types::receipt::Receipt;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::ui;

/// The environment variable with the password of an encrypted key.
const PASSWORD: &str = "GANTRY_SIGN_PASSWORD";

/// Collect evidence for an auditor in one archive, with a page to read.
///
/// The archive contains what was locked and where it came from, licences, signatures and SBOMs from the
/// store, a description of the models' files (pickle files are parsed and never executed: the archive
/// lists what they would import), and the receipts and reports that are given, unchanged. The same input
/// gives an identical archive. With a minisign key, its index, which has the SHA-256 of every part, is
/// signed.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = "\
Examples:
  gantry evidence -o evidence.tar.zst --site site.yaml --receipt receipt.json
  gantry evidence -o evidence.tar.zst --proof relocate.json --check check.json --audit audit.json \\
    --sign minisign.key
  gantry evidence -o ./evidence --from /media/disk             # from bundle files, into a folder
  gantry evidence verify evidence.tar.zst --trust minisign.pub

The content of the archive, and how to read it without Gantry: docs/reference/evidence.md"
)]
pub(crate) struct EvidenceArgs {
    #[command(subcommand)]
    command: Option<EvidenceCommand>,
    /// The archive to write (NAME.tar.zst), or a folder to create.
    #[arg(short = 'o', long = "out", value_name = "FILE or DIR", required = true)]
    out: Option<PathBuf>,
    /// A lock file; may be given several times [default: gantry.lock].
    #[arg(long, value_name = "FILE")]
    lock: Vec<PathBuf>,
    /// The site file (site.yaml) to include.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// A receipt of gantry load; may be given several times.
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
    /// A JSON report of gantry relocate; may be given several times.
    #[arg(long, value_name = "FILE")]
    proof: Vec<PathBuf>,
    /// A JSON report of gantry check; may be given several times.
    #[arg(long, value_name = "FILE")]
    check: Vec<PathBuf>,
    /// A JSON report of gantry audit; may be given several times.
    #[arg(long, value_name = "FILE")]
    audit: Vec<PathBuf>,
    /// Read the content from this store folder or these bundle files; may be given several times
    /// [default: the store].
    #[arg(long, value_name = "STORE or BUNDLE")]
    from: Vec<PathBuf>,
    /// Sign with this minisign secret key; the password of an encrypted one is taken from
    /// GANTRY_SIGN_PASSWORD.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
}

impl EvidenceArgs {
    /// The path of `--site`, of the collection or of the verification.
    pub(super) fn site_mut(&mut self) -> Option<&mut PathBuf> {
        match &mut self.command {
            Some(EvidenceCommand::Verify(args)) => args.site.as_mut(),
            None => self.site.as_mut(),
        }
    }
}

#[derive(clap::Subcommand)]
enum EvidenceCommand {
    Verify(EvidenceVerifyArgs),
}

/// Verify an evidence archive: every part matches the index, and the index is signed by a trusted key.
///
/// Exit code 3 if a part was changed, removed or added, or if the signature is not by a trusted key.
/// Without --trust or --site, the signature is shown but not verified.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry evidence verify evidence.tar.zst --trust minisign.pub
  gantry evidence verify ./evidence --site site.yaml           # with the keys under `trust:`")]
struct EvidenceVerifyArgs {
    /// The archive or the folder to verify.
    #[arg(value_name = "FILE or DIR")]
    path: PathBuf,
    /// A trusted minisign public key, as a file or as text; may be given several times.
    #[arg(long, value_name = "PUBKEY")]
    trust: Vec<String>,
    /// The site file (site.yaml), whose keys under `trust:` are trusted.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
}

/// The result of collecting evidence.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EvidenceSummary {
    #[serde(rename = "file")]
    written: String,
    #[serde(rename = "signed")]
    is_signed: bool,
    #[serde(rename = "imageCount")]
    images: usize,
    #[serde(rename = "modelCount")]
    models: usize,
    #[serde(rename = "chartCount")]
    charts: usize,
    #[serde(rename = "partCount")]
    parts: usize,
    bytes: u64,
    findings: Vec<EvidenceFinding>,
}

/// The result of verifying an archive.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EvidenceVerification {
    name: String,
    signature: SignatureStatus,
    #[serde(rename = "partCount")]
    parts: usize,
    findings: Vec<EvidenceFinding>,
}

pub(crate) fn run(context: &CommandContext, args: &EvidenceArgs) -> Result<()> {
    match &args.command {
        Some(EvidenceCommand::Verify(args)) => verify_evidence_file(context, args),
        None => write_evidence(context, args),
    }
}

fn write_evidence(context: &CommandContext, args: &EvidenceArgs) -> Result<()> {
    let Some(out) = &args.out else {
        return Err(CommandError::usage_error("name the archive to write: -o evidence.tar.zst"));
    };
    let key = args.sign.as_deref().map(|path| SigningKey::read(path, std::env::var(PASSWORD).ok()));
    let key = key.transpose()?;
    let lock_files = match args.lock.as_slice() {
        [] => vec![context.resolve_file(environment::LOCK)],
        paths => paths.to_vec(),
    };
    let locks: Vec<Lock> =
        lock_files.iter().map(|path| environment::read_lock_at(path)).collect::<Result<_>>()?;
    let receipts: Vec<Receipt> =
        args.receipt.iter().map(|path| environment::read_receipt(path)).collect::<Result<_>>()?;
    // Parsed only to refuse an invalid file; the archive gets the file itself, unchanged.
    if let Some(path) = &args.site {
        environment::read_site(path)?;
    }
    let site: Vec<PathBuf> = args.site.iter().cloned().collect();
    let kinds = [
        (EvidencePartKind::Lock, &lock_files),
        (EvidencePartKind::Site, &site),
        (EvidencePartKind::Receipt, &args.receipt),
        (EvidencePartKind::Proof, &args.proof),
        (EvidencePartKind::Check, &args.check),
        (EvidencePartKind::Audit, &args.audit),
    ];
    let documents = kinds
        .iter()
        .flat_map(|(kind, paths)| paths.iter().map(|path| EvidenceDocument::read(*kind, path)));
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    let source: Option<std::sync::Arc<dyn store::Source>> = match args.from.as_slice() {
        [] => {
            let store = context.open_existing_store()?;
            store.iter().try_for_each(store::Store::keep_read_session)?;
            store.map(|store| std::sync::Arc::new(store) as _)
        }
        from => Some(environment::open_source(from)?),
    };
    let evidence = gather_evidence(EvidenceInput {
        locks: &locks,
        receipts: &receipts,
        source: source.as_deref(),
        documents,
    })?;
    let index = &evidence.index;
    let gathered = EvidenceSummary {
        written: out.display().to_string(),
        is_signed: key.is_some(),
        images: index.images.len(),
        models: index.models.len(),
        charts: index.charts.len(),
        parts: index.parts.len(),
        bytes: index.parts.iter().map(|part| part.size).sum(),
        findings: index.findings.clone(),
    };
    evidence.write(&EvidenceTarget::from_path(out), key.as_ref())?;
    if !gathered.is_signed {
        context.ui.print_warning(
            "the archive is not signed, so nobody can tell who made it; sign it with --sign KEY",
        );
    }
    context.ui.print_result(&gathered, |gathered| {
        let mut text = format_findings(&gathered.findings);
        let _ = writeln!(
            text,
            "{} written: {} images, {} models, {} charts; {} parts, {}{}",
            gathered.written,
            gathered.images,
            gathered.models,
            gathered.charts,
            gathered.parts,
            ByteSize(gathered.bytes),
            if gathered.is_signed { ", signed" } else { "" },
        );
        text
    })
}

fn verify_evidence_file(context: &CommandContext, args: &EvidenceVerifyArgs) -> Result<()> {
    let mut keys = args.trust.clone();
    if let Some(path) = &args.site {
        keys.extend(environment::read_site(path)?.trust);
    }
    let trusted = keys.iter().map(|key| TrustedKey::read(key)).collect::<Result<Vec<_>, _>>()?;
    // A site file without keys would silently turn the verification of the signature off.
    if trusted.is_empty() && args.site.is_some() {
        return Err(CommandError::usage_error("the site file has no trusted keys")
            .with_hint("list keys under trust: in site.yaml, or give --trust PUBKEY"));
    }
    let verified = verify_evidence(&args.path, &trusted)?;
    let proven = EvidenceVerification {
        name: verified.index.name,
        signature: verified.signature,
        parts: verified.index.parts.len(),
        findings: verified.index.findings,
    };
    match &proven.signature {
        SignatureStatus::Good { .. } => {}
        SignatureStatus::NotChecked { .. } => {
            context.ui.print_warning(
                "the signature was not verified; give the key to trust with --trust PUBKEY",
            );
        }
        SignatureStatus::None => {
            context.ui.print_warning("the archive is not signed: anybody could have made it");
        }
    }
    context.ui.print_result(&proven, |proven| {
        let mut text = format_findings(&proven.findings);
        let signed = match &proven.signature {
            SignatureStatus::Good { key, comment } => format!("signed by {key} ({comment})"),
            SignatureStatus::NotChecked { key } => {
                format!("signed by {}, not verified", key.as_deref().unwrap_or("an unknown key"))
            }
            SignatureStatus::None => "not signed".to_owned(),
        };
        let _ =
            writeln!(text, "{}: all {} parts match the index, {signed}", proven.name, proven.parts);
        text
    })
}

fn format_findings(all: &[EvidenceFinding]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows = all.iter().map(|finding| {
        let weight = match finding.weight {
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
        };
        [weight.to_owned(), finding.what.clone(), finding.why.clone()]
    });
    ui::format_table(["severity", "subject", "finding"], rows.collect())
}
