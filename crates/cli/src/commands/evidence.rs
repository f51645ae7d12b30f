//! `gantry evidence`: collects what an auditor asks for in one archive; `gantry evidence verify` verifies
//! such an archive.

use std::fmt::Write as _;
use std::path::PathBuf;

use deploy::evidence::{
    Document, Finding, Key, PartKind, Request, Signature, Target, Trusted, Weight, gather, verify,
};
use serde::Serialize;
use types::ByteSize;
use types::lock::Lock;
use types::receipt::Receipt;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::ui;
use crate::world;

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

The content of the archive, and how to read it without Gantry: docs/evidence.md"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
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

#[derive(clap::Subcommand)]
enum Command {
    Verify(VerifyArgs),
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
struct VerifyArgs {
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
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gathered {
    written: String,
    is_signed: bool,
    images: usize,
    models: usize,
    charts: usize,
    parts: usize,
    bytes: u64,
    findings: Vec<Finding>,
}

/// The result of verifying an archive.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Proven {
    name: String,
    signature: Signature,
    parts: usize,
    findings: Vec<Finding>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    match &args.command {
        Some(Command::Verify(args)) => prove(context, args),
        None => write(context, args),
    }
}

fn write(context: &Context, args: &Args) -> Result<()> {
    let Some(out) = &args.out else {
        return Err(CommandError::usage("name the archive to write: -o evidence.tar.zst"));
    };
    let key = args.sign.as_deref().map(|path| Key::read(path, std::env::var(PASSWORD).ok()));
    let key = key.transpose()?;
    let lock_files = match args.lock.as_slice() {
        [] => vec![context.file(world::LOCK)],
        paths => paths.to_vec(),
    };
    let locks: Vec<Lock> =
        lock_files.iter().map(|path| world::lock_at(path)).collect::<Result<_>>()?;
    let receipts: Vec<Receipt> =
        args.receipt.iter().map(|path| world::receipt_at(path)).collect::<Result<_>>()?;
    // Parsed only to refuse an invalid file; the archive gets the file itself, unchanged.
    if let Some(path) = &args.site {
        world::site(path)?;
    }
    let site: Vec<PathBuf> = args.site.iter().cloned().collect();
    let kinds = [
        (PartKind::Lock, &lock_files),
        (PartKind::Site, &site),
        (PartKind::Receipt, &args.receipt),
        (PartKind::Proof, &args.proof),
        (PartKind::Check, &args.check),
        (PartKind::Audit, &args.audit),
    ];
    let documents =
        kinds.iter().flat_map(|(kind, paths)| paths.iter().map(|path| Document::read(*kind, path)));
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    let source: Option<std::sync::Arc<dyn store::Source>> = match args.from.as_slice() {
        [] => context.existing_store()?.map(|store| std::sync::Arc::new(store) as _),
        from => Some(world::source(from)?),
    };
    let evidence = gather(Request {
        locks: &locks,
        receipts: &receipts,
        source: source.as_deref(),
        documents,
    })?;
    let index = &evidence.index;
    let gathered = Gathered {
        written: out.display().to_string(),
        is_signed: key.is_some(),
        images: index.images.len(),
        models: index.models.len(),
        charts: index.charts.len(),
        parts: index.parts.len(),
        bytes: index.parts.iter().map(|part| part.size).sum(),
        findings: index.findings.clone(),
    };
    evidence.write(&Target::of(out), key.as_ref())?;
    if !gathered.is_signed {
        context.ui.warn(
            "the archive is not signed, so nobody can tell who made it; sign it with --sign KEY",
        );
    }
    context.ui.result(&gathered, |gathered| {
        let mut text = findings(&gathered.findings);
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

fn prove(context: &Context, args: &VerifyArgs) -> Result<()> {
    let mut keys = args.trust.clone();
    if let Some(path) = &args.site {
        keys.extend(world::site(path)?.trust);
    }
    let trusted = keys.iter().map(|key| Trusted::read(key)).collect::<Result<Vec<_>, _>>()?;
    // A site file without keys would silently turn the verification of the signature off.
    if trusted.is_empty() && args.site.is_some() {
        return Err(CommandError::usage("the site file has no trusted keys")
            .hint("list keys under trust: in site.yaml, or give --trust PUBKEY"));
    }
    let verified = verify(&args.path, &trusted)?;
    let proven = Proven {
        name: verified.index.name,
        signature: verified.signature,
        parts: verified.index.parts.len(),
        findings: verified.index.findings,
    };
    match &proven.signature {
        Signature::Good { .. } => {}
        Signature::NotChecked { .. } => {
            context
                .ui
                .warn("the signature was not verified; give the key to trust with --trust PUBKEY");
        }
        Signature::None => context.ui.warn("the archive is not signed: anybody could have made it"),
    }
    context.ui.result(&proven, |proven| {
        let mut text = findings(&proven.findings);
        let signed = match &proven.signature {
            Signature::Good { key, comment } => format!("signed by {key} ({comment})"),
            Signature::NotChecked { key } => {
                format!("signed by {}, not verified", key.as_deref().unwrap_or("an unknown key"))
            }
            Signature::None => "not signed".to_owned(),
        };
        let _ =
            writeln!(text, "{}: all {} parts match the index, {signed}", proven.name, proven.parts);
        text
    })
}

fn findings(all: &[Finding]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows = all.iter().map(|finding| {
        let weight = match finding.weight {
            Weight::High => "high",
            Weight::Medium => "medium",
            Weight::Low => "low",
        };
        [weight.to_owned(), finding.what.clone(), finding.why.clone()]
    });
    ui::table(["severity", "subject", "finding"], rows.collect())
}
