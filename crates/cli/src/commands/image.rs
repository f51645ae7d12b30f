//! `gantry image`: makes Gantry's own container image, for what Gantry runs inside a cluster (seeder
//! pods, the webhook, the helpers of an audit).

use std::path::PathBuf;

use remote::own_image::GantryBinaries;
use serde::Serialize;
use store::Store;
use types::{ByteSize, Reference, own_image};

use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::ui;

/// Build Gantry's own container image from the binary, without a container engine.
///
/// The image has one layer with the static binary, runs as any user, and needs no writable root file
/// system. The same binary gives an identical image. It is written to the store, from which `gantry
/// load` pushes it, or to an OCI image layout that skopeo and crane can read. `tools: [gantry]` in
/// gantry.yaml adds it to the bundle.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry image
  gantry image -o ./gantry-image && skopeo inspect --config oci:gantry-image
  gantry image --binary gantry-linux-amd64 --binary gantry-linux-arm64   # for both platforms
  gantry image -o ./gantry-image && gantry load ./gantry-image --to registry.internal:5000/tools")]
pub(crate) struct ImageArgs {
    /// The OCI image layout to write to, created if it does not exist [default: the store].
    #[arg(short = 'o', long = "out", value_name = "DIR")]
    out: Option<PathBuf>,
    /// A static binary of Gantry for Linux on amd64 or arm64; may be given once per architecture
    /// [default: the running binary].
    #[arg(long = "binary", value_name = "FILE")]
    binaries: Vec<PathBuf>,
    /// The name of the image [default: ghcr.io/gantry/gantry:VERSION].
    #[arg(long, value_name = "NAME")]
    tag: Option<Reference>,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnImageSummary {
    pub(super) image: String,
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) layout: String,
    pub(super) platforms: Vec<OwnImagePlatform>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnImagePlatform {
    pub(super) platform: String,
    pub(super) digest: String,
    /// The size of the compressed layer.
    pub(super) bytes: u64,
}

pub(crate) fn run(context: &CommandContext, args: &ImageArgs) -> Result<()> {
    let reference = match &args.tag {
        Some(tag) => tag.clone(),
        None => own_image::image_reference()?,
    };
    // Checked before the store is opened, since opening creates it: a binary that cannot become an
    // image must leave nothing behind.
    let binaries = GantryBinaries::open(&args.binaries)?;
    let store = match &args.out {
        Some(folder) => Store::open(folder)?,
        None => context.open_store()?,
    };
    // Held until the image is published: `gantry store gc` in another process would delete its blobs,
    // which nothing refers to before that.
    let _session = store.open_session()?;
    let meter = context.ui.start_progress("image");
    let image = binaries
        .build_image(&reference, &store, &*meter)
        .map_err(CommandError::from)
        .and_then(|image| {
            store.publish_roots(std::slice::from_ref(&image.root))?;
            Ok(image)
        });
    meter.clear();
    let image = image?;
    let platforms = image.manifests.iter().map(|manifest| OwnImagePlatform {
        platform: manifest.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
        digest: manifest.digest.to_string(),
        bytes: manifest.layers.iter().map(|layer| layer.size).sum(),
    });
    let summary = OwnImageSummary {
        image: image.root.name.to_string(),
        digest: image.root.descriptor.digest.to_string(),
        media_type: image.root.descriptor.media_type.clone(),
        layout: store.path().display().to_string(),
        platforms: platforms.collect(),
    };
    context.ui.print_result(&summary, format_summary)
}

pub(super) fn format_summary(summary: &OwnImageSummary) -> String {
    let rows = summary.platforms.iter().map(|platform| {
        [platform.platform.clone(), ByteSize(platform.bytes).to_string(), platform.digest.clone()]
    });
    format!(
        "{}\n{}@{} in {}\n",
        ui::format_table(["platform", "layer", "manifest"], rows.collect()),
        summary.image,
        summary.digest,
        summary.layout,
    )
}
