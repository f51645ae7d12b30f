//! `gantry plan`: compares the lock with the store, before `gantry fetch` and `gantry pack`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;
use store::Source;
use types::lock::{ImageReason, Lock, LockedBlob};
use types::{ByteSize, Digest, Reference, Root};

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
    /// Why an image is in the lock.
    #[serde(flatten)]
    reason: Option<ImageReason>,
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
                thing.reason.as_ref().map(ImageReason::to_string).unwrap_or_default(),
            ]
        });
        let head = ["kind", "name", "size", "not shared", "to fetch", "named by"];
        let table = ui::format_table(head, rows.collect());
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
    let uses = BlobUses::count_uses(lock, store)?;
    let mut reasons = lock.image_reasons();
    let things = lock
        .roots()
        .iter()
        .map(|root| uses.preview_root(root, reasons.remove(&root.name)))
        .collect();
    let bytes = uses.sum_sizes(|_| true);
    let missing_bytes = uses.sum_sizes(|blob| blob.is_missing);
    // The exact layout can be computed only with all blobs in the store. Until then the sizes in the
    // lock give an estimate.
    let (media_bytes, volumes) = match (missing_bytes, store) {
        (0, Some(store)) => {
            let packed = plan_bundle(lock, store, volume)?;
            (packed.size(), volume.map(|_| packed.files().len() as u64))
        }
        _ => {
            let media: u64 =
                uses.blobs.iter().map(|blob| blob.size.next_multiple_of(BLOCK) + PER_BLOB).sum();
            (media, volume.map(|volume| media.div_ceil(volume.0.max(1))))
        }
    };
    Ok(FetchPreview {
        name: lock.name.clone(),
        things,
        blobs: uses.blobs.len(),
        bytes,
        present_bytes: bytes - missing_bytes,
        missing_bytes,
        media_bytes,
        volumes,
    })
}

/// Which blob is used by which root. By numbers: a lock may have 10,000 roots and some 150,000 blobs.
struct BlobUses<'a> {
    /// Each blob once.
    blobs: Vec<BlobUse>,
    /// The numbers of each root's blobs, in any order, each once.
    by_root: HashMap<&'a Reference, Vec<usize>>,
}

struct BlobUse {
    size: u64,
    is_missing: bool,
    /// Whether several roots use it.
    is_shared: bool,
}

impl<'a> BlobUses<'a> {
    fn count_uses(lock: &'a Lock, store: Option<&store::Store>) -> Result<Self> {
        let mut numbers: HashMap<Digest, usize> = HashMap::new();
        let mut uses = Self { blobs: Vec::new(), by_root: HashMap::new() };
        for LockedBlob { blob, owner, .. } in lock.blobs() {
            let number = match numbers.entry(blob.digest) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    let is_missing = match store {
                        // The size is checked too: after a power cut a blob may be there and too short.
                        Some(store) => store.blob_size(&blob.digest)? != Some(blob.size),
                        None => true,
                    };
                    let size = blob.size;
                    uses.blobs.push(BlobUse { size, is_missing, is_shared: false });
                    *new.insert(uses.blobs.len() - 1)
                }
            };
            uses.by_root.entry(owner).or_default().push(number);
        }
        let mut is_used = vec![false; uses.blobs.len()];
        for own in uses.by_root.values_mut() {
            own.sort_unstable();
            own.dedup();
            own.shrink_to_fit();
            for number in own.iter().copied() {
                uses.blobs[number].is_shared = std::mem::replace(&mut is_used[number], true);
            }
        }
        Ok(uses)
    }

    fn preview_root(&self, root: &Root, reason: Option<ImageReason>) -> FetchPreviewEntry {
        let own = self.by_root.get(&root.name).map(Vec::as_slice).unwrap_or_default();
        let sum = |is_counted: fn(&BlobUse) -> bool| {
            let blobs = own.iter().map(|number| &self.blobs[*number]);
            blobs.filter(|blob| is_counted(blob)).map(|blob| blob.size).sum()
        };
        FetchPreviewEntry {
            reason,
            kind: root.kind.as_str(),
            name: root.name.to_string(),
            bytes: sum(|_| true),
            missing_bytes: sum(|blob| blob.is_missing),
            own_bytes: sum(|blob| !blob.is_shared),
        }
    }

    fn sum_sizes(&self, is_counted: fn(&BlobUse) -> bool) -> u64 {
        self.blobs.iter().filter(|blob| is_counted(blob)).map(|blob| blob.size).sum()
    }
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
