//! `gantry models push --to image://…`: models as an OCI image that pods mount (image volumes).

use std::path::Path;
use std::sync::Arc;

use land::models::{self, Packed, Plan};
use land::{Options, Outcome};
use remote::oci::{Push, SparsePolicy};
use serde::Serialize;
use store::Source;
use types::{ByteSize, Digest, Reference};

use super::{PushArgs, choice};
use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::{ui, world};

/// How an image is written as a target.
const SCHEME: &str = "image://";
/// Blobs that are moved at once.
const AT_ONCE: usize = 4;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    image: String,
    is_dry_run: bool,
    /// The index's digest: what a pod should name.
    digest: Digest,
    /// Whether it was there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    models: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    name: String,
    files: usize,
    bytes: u64,
}

/// Whether a target is an image.
pub(super) fn is_image(target: &Path) -> bool {
    target.to_string_lossy().starts_with(SCHEME)
}

pub(super) fn push(context: &Context, args: &PushArgs) -> Result<()> {
    let [to] = args.to.as_slice() else {
        return Err(CommandError::usage("several targets at once are volumes of a cluster")
            .hint("push one image after the other"));
    };
    let text = to.to_string_lossy();
    let name: Reference = text.trim_start_matches(SCHEME).parse()?;
    if name.tag().is_none() || name.digest().is_some() {
        return Err(CommandError::usage(format!("{text} has no tag of its own"))
            .hint("write image://registry.internal:5000/models/name:1"));
    }
    let source = world::source(&args.sources)?;
    let plans = models::plan(&*source, &choice(args))?;
    let meter = context.ui.progress("hash");
    let packed = Packed::new(source, &plans, &name, &*meter);
    meter.clear();
    let packed = Arc::new(packed?);
    let digest = packed.root().descriptor.digest;
    let outcome = if args.dry_run { None } else { Some(pushed(context, args, &name, packed)?) };
    let pushed = Pushed {
        image: name.to_string(),
        is_dry_run: args.dry_run,
        digest,
        outcome,
        models: plans.iter().map(model).collect(),
    };
    context.ui.result(&pushed, print)
}

fn pushed(
    context: &Context,
    args: &PushArgs,
    name: &Reference,
    packed: Arc<Packed>,
) -> Result<Outcome> {
    let host = name.registry().to_owned();
    let mut config = context.config.clone();
    let mut ca = Vec::new();
    if let Some(path) = &args.seeder.site {
        let site = world::site(path)?;
        if site.registry.prefix()?.registry() == host {
            let folder = path.parent().unwrap_or_else(|| Path::new("."));
            ca.extend(site.registry.ca.iter().map(|path| folder.join(path)));
            if site.registry.plain_http {
                config.plain_http.push(host.clone());
            }
        }
    }
    if !ca.is_empty() {
        config.mirrors.entry(host.clone()).or_insert_with(|| format!("https://{host}"));
    }
    let client = context.client(Some(AT_ONCE), &ca)?;
    let mirrors = net::Mirrors::new(&config.mirrors, &config.plain_http)?;
    let targets = [(name.clone(), name.clone())];
    let push = Push::new(&client, &mirrors, &host.parse()?, targets, SparsePolicy::Keep);
    let root = packed.root().clone();
    let meter = context.ui.progress("push");
    let watched = Arc::clone(&meter);
    let report = world::block_on(async {
        push.check().await?;
        let options = Options { concurrency: AT_ONCE };
        let source: Arc<dyn Source> = packed;
        Ok(land::load(source, vec![root], Arc::new(push), options, watched).await?)
    });
    match &report {
        Ok(report) if report.failed.is_empty() => meter.finish(),
        _ => meter.clear(),
    }
    let report = report?;
    if let Some(failed) = report.failed.first() {
        let kind = match failed.cause.fault {
            land::Fault::Integrity => Kind::Integrity,
            land::Fault::Other => Kind::Failed,
        };
        return Err(CommandError::new(kind, failed.cause.error.clone())
            .hint("what was put stays; run the same command again to go on"));
    }
    let landed = report.landed.first().map(|landed| landed.outcome);
    landed.ok_or_else(|| CommandError::failed(format!("{name} did not get there")))
}

fn model(plan: &Plan) -> Model {
    Model { name: plan.name.clone(), files: plan.files().count(), bytes: plan.size() }
}

fn print(pushed: &Pushed) -> String {
    let outcome = match pushed.outcome {
        Some(Outcome::Present) => "there already",
        Some(Outcome::Loaded) => "put",
        None => "would be put",
    };
    let rows = pushed.models.iter().map(|model| {
        let size = ByteSize(model.bytes).to_string();
        [model.name.clone(), model.files.to_string(), size, outcome.to_owned()]
    });
    let table = ui::table(["model", "files", "size", ""], rows.collect());
    let image = pushed.image.rsplit_once(':').map_or(pushed.image.as_str(), |(name, _)| name);
    format!(
        "{table}\nmount it as a volume: {{name: models, image: {{reference: {image}@{}}}}}\n",
        pushed.digest
    )
}
