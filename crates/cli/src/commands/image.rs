//! `gantry image`.

use std::path::PathBuf;

use remote::own_image::Binaries;
use serde::Serialize;
use store::Store;
use types::{ByteSize, Reference, own_image};

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::ui;

/// Make Gantry's own container image from the binary, without a container engine.
///
/// One layer with the static binary; it runs as any user, with a read-only root. The same binary
/// gives the same bytes. It goes into the store, from where `load` takes it, or into a layout that
/// skopeo and crane read; `tools: [gantry]` in gantry.yaml puts it into every bundle.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry image
  gantry image -o ./gantry-image && skopeo inspect --config oci:gantry-image
  gantry image --binary gantry-linux-amd64 --binary gantry-linux-arm64   # one image of both
  gantry image -o ./gantry-image && gantry load ./gantry-image --to registry.internal:5000/tools")]
pub(crate) struct Args {
    /// An OCI image layout to put it into, made if it is not there [default: the store].
    #[arg(short = 'o', long = "out", value_name = "DIR")]
    out: Option<PathBuf>,
    /// A static binary of Gantry for Linux on amd64 or arm64, one an architecture [default: the one
    /// that runs].
    #[arg(long = "binary", value_name = "FILE")]
    binaries: Vec<PathBuf>,
    /// What the image is called [default: ghcr.io/gantry/gantry and this Gantry's version].
    #[arg(long, value_name = "NAME")]
    tag: Option<Reference>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    image: String,
    digest: String,
    media_type: String,
    layout: String,
    platforms: Vec<Platform>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Platform {
    platform: String,
    digest: String,
    /// Of the layer, compressed.
    bytes: u64,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    let reference = match &args.tag {
        Some(tag) => tag.clone(),
        None => own_image::reference()?,
    };
    // Before a store is made: what cannot become an image leaves nothing behind.
    let binaries = Binaries::open(&args.binaries)?;
    let store = match &args.out {
        Some(folder) => Store::open(folder)?,
        None => context.store()?,
    };
    let _session = store.session()?;
    let meter = context.ui.progress("image");
    let image =
        binaries.image(&reference, &store, &*meter).map_err(CommandError::from).and_then(|image| {
            store.publish(std::slice::from_ref(&image.root))?;
            Ok(image)
        });
    meter.clear();
    let image = image?;
    let platforms = image.manifests.iter().map(|manifest| Platform {
        platform: manifest.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
        digest: manifest.digest.to_string(),
        bytes: manifest.layers.iter().map(|layer| layer.size).sum(),
    });
    let summary = Summary {
        image: image.root.name.to_string(),
        digest: image.root.descriptor.digest.to_string(),
        media_type: image.root.descriptor.media_type.clone(),
        layout: store.path().display().to_string(),
        platforms: platforms.collect(),
    };
    context.ui.result(&summary, |summary| {
        let rows = summary.platforms.iter().map(|platform| {
            [
                platform.platform.clone(),
                ByteSize(platform.bytes).to_string(),
                platform.digest.clone(),
            ]
        });
        format!(
            "{}\n{}@{} in {}\n",
            ui::table(["platform", "layer", "manifest"], rows.collect()),
            summary.image,
            summary.digest,
            summary.layout,
        )
    })
}
