//! `gantry plan`: compares the lock with the store, before `gantry fetch` and `gantry pack`.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use store::Source;
use types::lock::Lock;
use types::{ByteSize, Digest};

use crate::context::CommandContext;
use crate::environment;
use crate::error::Result;
use crate::ui;

/// Show what `gantry fetch` would download, how much is in the store already, and how much space the
/// bundle needs.
///
/// Reads only gantry.lock and the store: nothing is downloaded and nothing is written.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry plan
  gantry plan --file-size 4GiB        # and how many bundle files of this size that makes
  gantry plan --output json | jq .missingBytes")]
pub(crate) struct PlanArgs {
    /// The largest size of a bundle file, to show how many there will be (4GiB, 650MB).
    #[arg(long, value_name = "SIZE", alias = "volume-size")]
    file_size: Option<ByteSize>,
}

/// The block size of tar: headers and contents are padded to it.
const BLOCK: u64 = 512;
/// What a blob takes in a bundle file beside its content, at most: two tar headers and an index entry.
const PER_BLOB: u64 = 3 * BLOCK;

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FetchPreview {
    name: String,
    #[serde(rename = "roots")]
    things: Vec<FetchPreviewEntry>,
    #[serde(rename = "blobCount")]
    blobs: usize,
    bytes: u64,
    present_bytes: u64,
    missing_bytes: u64,
    /// The size of all bundle files together. Exact once everything is fetched, before that a close
    /// estimate.
    #[serde(rename = "bundleBytes")]
    media_bytes: u64,
    #[serde(rename = "fileCount", skip_serializing_if = "Option::is_none")]
    volumes: Option<u64>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FetchPreviewEntry {
    kind: &'static str,
    name: String,
    bytes: u64,
    missing_bytes: u64,
    /// Bytes that no other entry shares: what leaving this entry out would save.
    own_bytes: u64,
}

pub(crate) fn run(context: &CommandContext, args: &PlanArgs) -> Result<()> {
    let lock = environment::read_current_lock(context)?;
    let store = context.open_existing_store()?;
    let plan = preview_fetch(&lock, store.as_ref(), args.file_size)?;
    context.ui.print_result(&plan, |plan| {
        let rows = plan.things.iter().map(|thing| {
            [
                thing.kind.to_owned(),
                thing.name.clone(),
                ByteSize(thing.bytes).to_string(),
                ByteSize(thing.own_bytes).to_string(),
                ByteSize(thing.missing_bytes).to_string(),
            ]
        });
        let table =
            ui::format_table(["kind", "name", "size", "not shared", "to fetch"], rows.collect());
        let mut totals = vec![
            ["total".to_owned(), format!("{} in {} blobs", ByteSize(plan.bytes), plan.blobs)],
            ["present".to_owned(), ByteSize(plan.present_bytes).to_string()],
            ["to fetch".to_owned(), ByteSize(plan.missing_bytes).to_string()],
            ["bundle size".to_owned(), ByteSize(plan.media_bytes).to_string()],
        ];
        if let Some(volumes) = plan.volumes {
            totals.push(["bundle files".to_owned(), volumes.to_string()]);
        }
        format!("{table}\n{}", ui::format_rows(totals))
    })
}

fn preview_fetch(
    lock: &Lock,
    store: Option<&store::Store>,
    volume: Option<ByteSize>,
) -> Result<FetchPreview> {
    let content = lock.blobs();
    let mut owners: HashMap<Digest, HashSet<String>> = HashMap::new();
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    let mut by_owner: HashMap<String, HashSet<Digest>> = HashMap::new();
    for content in &content {
        let owner = content.owner.to_string();
        owners.entry(content.blob.digest).or_default().insert(owner.clone());
        by_owner.entry(owner).or_default().insert(content.blob.digest);
        sizes.insert(content.blob.digest, content.blob.size);
    }
    let mut missing = HashSet::new();
    for (digest, size) in &sizes {
        let there = match store {
            // The size is checked too: after a power cut a blob may be there and too short.
            Some(store) => store.blob_size(digest)? == Some(*size),
            None => false,
        };
        if !there {
            missing.insert(*digest);
        }
    }
    let sum =
        |digests: &mut dyn Iterator<Item = &Digest>| digests.map(|digest| sizes[digest]).sum();
    let things = lock
        .roots()
        .iter()
        .map(|root| {
            let name = root.name.to_string();
            let own = by_owner.get(&name).cloned().unwrap_or_default();
            FetchPreviewEntry {
                kind: root.kind.as_str(),
                bytes: sum(&mut own.iter()),
                missing_bytes: sum(&mut own.iter().filter(|digest| missing.contains(*digest))),
                own_bytes: sum(&mut own.iter().filter(|digest| owners[*digest].len() == 1)),
                name,
            }
        })
        .collect();
    let bytes: u64 = sizes.values().sum();
    let missing_bytes = sum(&mut missing.iter());
    // The exact layout can be computed only with all blobs in the store. Until then the sizes in the
    // lock give an estimate.
    let (media_bytes, volumes) = match (missing_bytes, store) {
        (0, Some(store)) => {
            let packed = plan_bundle(lock, store, volume)?;
            (packed.size(), volume.map(|_| packed.files().len() as u64))
        }
        _ => {
            let media: u64 =
                sizes.values().map(|size| size.next_multiple_of(BLOCK) + PER_BLOB).sum();
            (media, volume.map(|volume| media.div_ceil(volume.0.max(1))))
        }
    };
    Ok(FetchPreview {
        name: lock.name.clone(),
        things,
        blobs: sizes.len(),
        bytes,
        present_bytes: bytes - missing_bytes,
        missing_bytes,
        media_bytes,
        volumes,
    })
}

/// The layout of the bundle that `gantry pack` would write.
fn plan_bundle(
    lock: &Lock,
    store: &store::Store,
    volume: Option<ByteSize>,
) -> Result<bundle::PackPlan> {
    let contents =
        bundle::BundleContents { roots: lock.roots(), lock: lock.to_yaml()?.into_bytes() };
    let size = volume.map_or(bundle::BundleFileSize::Unlimited, bundle::BundleFileSize::Below);
    let naming = bundle::BundleName::new(&lock.name, "plan")?;
    Ok(bundle::plan_files(store, contents, naming, size)?)
}
