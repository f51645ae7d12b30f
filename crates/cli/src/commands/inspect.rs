//! `gantry inspect`: lists the content of bundle files, without reading the blobs.

use std::path::PathBuf;

use bundle::{Bundle, Completeness};
use serde::Serialize;
use types::ByteSize;
use types::lock::{ImageReason, Lock};

use crate::context::CommandContext;
use crate::environment;
use crate::error::Result;
use crate::ui;

/// List the content of bundle files.
///
/// Reads only their indexes and the documents in the first file, which takes about a second whatever
/// their size.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry inspect /media/disk/*.gantry
  gantry inspect /media/disk --find nginx            # is it in there?
  gantry inspect /media/disk --lock > gantry.lock    # the lock it was packed from")]
pub(crate) struct InspectArgs {
    /// Bundle files, folders of bundle files, or the .gantry.json beside them. The first file of the
    /// bundle must be among them.
    #[arg(required = true, value_name = "BUNDLE")]
    volumes: Vec<PathBuf>,
    /// Print the lock that the bundle was packed from.
    #[arg(long)]
    lock: bool,
    /// List only what has this text in its name, or whose digest begins with it; upper and lower case are
    /// the same.
    #[arg(long, value_name = "TEXT", conflicts_with = "lock")]
    find: Option<String>,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BundleListing {
    bundle: String,
    #[serde(rename = "fileCount")]
    volumes: usize,
    #[serde(rename = "missingFiles")]
    missing: Vec<u32>,
    roots: Vec<InspectedRoot>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InspectedRoot {
    name: String,
    kind: &'static str,
    digest: types::Digest,
    #[serde(rename = "complete")]
    is_complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Why an image is in the bundle.
    #[serde(flatten)]
    reason: Option<ImageReason>,
}

pub(crate) fn run(context: &CommandContext, args: &InspectArgs) -> Result<()> {
    // Unlike for `load`, missing files are fine: the first file has the documents of all of them.
    let bundle = Bundle::open_partial(&environment::find_bundle_files(&args.volumes)?)?;
    if args.lock {
        return context.ui.print_document(&String::from_utf8_lossy(bundle.lock()));
    }
    let lock = String::from_utf8_lossy(bundle.lock());
    // A lock of a later version is no reason to refuse the list.
    let mut reasons =
        Lock::parse("gantry.lock", &lock).map(|lock| lock.image_reasons()).unwrap_or_default();
    let rows = bundle
        .check_completeness()?
        .into_iter()
        .filter(|(root, _)| args.find.as_deref().is_none_or(|text| is_match(root, text)))
        .map(|(root, completeness)| InspectedRoot {
            name: root.name.to_string(),
            kind: root.kind.as_str(),
            digest: root.descriptor.digest,
            is_complete: completeness == Completeness::Complete,
            bytes: store::find_closure(&bundle, &root).ok().map(|closure| closure.size()),
            reason: reasons.remove(&root.name),
        })
        .collect();
    let contents = BundleListing {
        bundle: bundle.id().to_string(),
        volumes: bundle.file_set().files().len(),
        missing: bundle.file_set().missing_numbers().to_vec(),
        roots: rows,
    };
    context.ui.print_result(&contents, |contents| {
        let rows = contents.roots.iter().map(|row| {
            let size = match row.bytes {
                Some(bytes) => ByteSize(bytes).to_string(),
                None => "incomplete".to_owned(),
            };
            let reason = row.reason.as_ref().map(ImageReason::to_string).unwrap_or_default();
            [row.kind.to_owned(), row.name.clone(), row.digest.short_hex(), size, reason]
        });
        let head = ["kind", "name", "digest", "size", "named by"];
        let table = ui::format_table(head, rows.collect());
        let missing: Vec<_> = contents.missing.iter().map(ToString::to_string).collect();
        let missing = match missing.is_empty() {
            true => String::new(),
            false => format!(", missing: file {}", missing.join(", ")),
        };
        let plural = if contents.volumes == 1 { "" } else { "s" };
        format!("{table}\n{} bundle file{plural}{missing}\n", contents.volumes)
    })
}

/// Whether a root has a text in its name, or a digest that begins with it.
fn is_match(root: &types::Root, text: &str) -> bool {
    let text = text.to_lowercase();
    let digest = root.descriptor.digest;
    let hex = match text.split_once(':') {
        Some((algorithm, hex)) if algorithm == digest.algorithm().name() => hex,
        _ => &text,
    };
    root.name.to_string().to_lowercase().contains(&text)
        || !hex.is_empty() && digest.hex().starts_with(hex)
}
