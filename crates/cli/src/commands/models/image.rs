//! `gantry models push --to image://…`: writes models as an OCI image that pods mount as a volume
//! (Kubernetes' ImageVolume feature).

use std::sync::Arc;

use land::models::{self, Packed, Plan, Unfit};
use land::{Options, Outcome};
use remote::oci::{Push, SparsePolicy};
use serde::Serialize;
use store::Source;
use types::site::ModelTarget;
use types::{ByteSize, Digest, Reference};

use super::claim::SeederArgs;
use crate::claims;
use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::place::Mode;
use crate::{ui, world};

/// The number of blobs to upload in parallel.
const AT_ONCE: usize = 4;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    image: String,
    is_dry_run: bool,
    /// The digest of the image's index, which a pod should name.
    digest: Digest,
    /// Whether it was pushed or was in the registry already; absent in a dry run.
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

pub(super) fn push(
    context: &Context,
    source: &Arc<dyn Source>,
    target: &ModelTarget,
    name: &Reference,
    seeder: &SeederArgs,
    mode: Mode,
) -> Result<()> {
    let plans = models::plan(&**source, &claims::choice(target, Unfit::Refused))?;
    // The image is put together and hashed also in a dry run, since the digest is a part of the result:
    // a user can write it into a manifest before the image is pushed.
    let meter = context.ui.progress("hash");
    let packed = Packed::new(Arc::clone(source), &plans, name, &*meter);
    meter.clear();
    let packed = Arc::new(packed?);
    let digest = packed.root().descriptor.digest;
    let outcome = match mode {
        Mode::DryRun => None,
        Mode::Put => Some(pushed(context, seeder, name, packed)?),
    };
    let pushed = Pushed {
        image: name.to_string(),
        is_dry_run: mode == Mode::DryRun,
        digest,
        outcome,
        models: plans.iter().map(model).collect(),
    };
    context.ui.result(&pushed, print)
}

fn pushed(
    context: &Context,
    seeder: &SeederArgs,
    name: &Reference,
    packed: Arc<Packed>,
) -> Result<Outcome> {
    let host = name.registry().to_owned();
    let mut config = context.config.clone();
    let mut ca = Vec::new();
    // The site's CA and scheme apply to the site's registry alone; the image may go to another one.
    if let Some(site) = seeder.site()?
        && site.registry.prefix()?.registry() == host
    {
        let folder = seeder.folder();
        ca.extend(site.registry.ca.iter().map(|path| folder.join(path)));
        if site.registry.plain_http {
            config.plain_http.push(host.clone());
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
            .hint("what was pushed is kept; run the same command again to resume"));
    }
    let landed = report.landed.first().map(|landed| landed.outcome);
    landed.ok_or_else(|| {
        CommandError::failed(format!("{name} was not pushed, and the registry gave no reason"))
    })
}

fn model(plan: &Plan) -> Model {
    Model { name: plan.name.clone(), files: plan.files().count(), bytes: plan.size() }
}

fn print(pushed: &Pushed) -> String {
    let outcome = match pushed.outcome {
        Some(Outcome::Present) => "already present",
        Some(Outcome::Loaded) => "pushed",
        None => "would be pushed",
    };
    let rows = pushed.models.iter().map(|model| {
        let size = ByteSize(model.bytes).to_string();
        [model.name.clone(), model.files.to_string(), size, outcome.to_owned()]
    });
    let table = ui::table(["model", "files", "size", ""], rows.collect());
    let image = pushed.image.rsplit_once(':').map_or(pushed.image.as_str(), |(name, _)| name);
    format!(
        "{table}\nvolume for a pod: {{name: models, image: {{reference: {image}@{}}}}}\n",
        pushed.digest
    )
}
