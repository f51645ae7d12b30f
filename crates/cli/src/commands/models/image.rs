//! `gantry models push --to image://…`: writes models as an OCI image that pods mount as a volume
//! (Kubernetes' ImageVolume feature).

use std::sync::Arc;

use land::models::{self, ModelImage, ModelPushReport, ModelSelection, PushMode, UnfitModelPolicy};
use land::{LoadOptions, LoadOutcome};
use net::Credentials;
use remote::oci::{RegistrySink, SparsePolicy};
use remote::site_registry::RegistryConnection;
use store::Source;
use types::naming::NamingRule;
use types::site::{ModelTarget, RegistryTarget};
use types::{ByteSize, Reference};

use super::claim::SeederArgs;
use super::report::print_push;
use super::summary::PushedModelTarget;
use crate::context::CommandContext;
use crate::error::{CommandError, ErrorKind, Result};
use crate::{environment, ui};

/// The number of blobs to upload in parallel.
const AT_ONCE: usize = 4;

pub(super) fn push_image(
    context: &CommandContext,
    source: &Arc<dyn Source>,
    target: &ModelTarget,
    name: &Reference,
    seeder: &SeederArgs,
    mode: PushMode,
) -> Result<()> {
    let planned = models::plan_models(
        &**source,
        &ModelSelection::of_target(target, UnfitModelPolicy::Refused),
    )?;
    // The image is put together and hashed also in a dry run, since the digest is a part of the result:
    // a user can write it into a manifest before the image is pushed.
    let meter = context.ui.start_progress("hash");
    let packed = ModelImage::new(Arc::clone(source), &planned.plans, name, &*meter);
    meter.clear();
    let packed = Arc::new(packed?);
    let digest = packed.root().descriptor.digest;
    let push = open_registry(context, seeder, name)?;
    let (outcome, missing_bytes) = match mode {
        PushMode::DryRun => preview_image(context, push, name, packed)?,
        PushMode::Put => (Some(upload_image(context, push, name, packed)?), None),
    };
    let report = ModelPushReport::new(target, &planned, None, mode);
    let report = ModelPushReport { to: name.to_string(), ..report };
    let digest = Some(digest);
    let pushed = PushedModelTarget { digest, missing_bytes, outcome, ..report.into() };
    print_push(context, mode, pushed, format_push)
}

/// Whether the registry has the image already, and how much would be pushed at most. A registry that
/// cannot be asked is no failure of a dry run.
fn preview_image(
    context: &CommandContext,
    push: RegistrySink,
    name: &Reference,
    packed: Arc<ModelImage>,
) -> Result<(Option<LoadOutcome>, Option<u64>)> {
    let roots = vec![packed.root().clone()];
    let preview = environment::block_on(async {
        Ok(land::preview_load(packed, roots, Some(Arc::new(push))).await)
    })?;
    if let Some(failure) = &preview.failure {
        context.ui.print_warning(&format!(
            "{} could not be asked, so it is not known what is there already: {failure}",
            name.registry()
        ));
    }
    let is_there = preview.roots.iter().all(|root| root.present == Some(true));
    Ok((is_there.then_some(LoadOutcome::Present), Some(preview.missing_bytes)))
}

/// Connects to the registry of an image. No request is sent yet.
fn open_registry(
    context: &CommandContext,
    seeder: &SeederArgs,
    name: &Reference,
) -> Result<RegistrySink> {
    let host = name.registry().to_owned();
    let prefix = host.parse()?;
    // The site's CA and scheme apply to the site's registry alone; the image may go to another one.
    let registry = match seeder.read_site()? {
        Some(site) if site.registry.parse_prefix()?.registry() == host => {
            site.registry.with_paths_below(seeder.site_folder())
        }
        _ => RegistryTarget::from_prefix(&prefix, NamingRule::default()),
    };
    let credentials = Credentials::from_system();
    let opened = RegistryConnection::new(&context.config, &registry, credentials, Some(AT_ONCE))?;
    let targets = [(name.clone(), name.clone())];
    let mut push =
        RegistrySink::new(&opened.client, &opened.mirrors, &prefix, targets, SparsePolicy::Keep);
    if let Some(folder) = CommandContext::uploads_path() {
        push = push.keep_uploads_in(folder);
    }
    Ok(push)
}

fn upload_image(
    context: &CommandContext,
    push: RegistrySink,
    name: &Reference,
    packed: Arc<ModelImage>,
) -> Result<LoadOutcome> {
    let root = packed.root().clone();
    let meter = context.ui.start_progress("push");
    let watched = Arc::clone(&meter);
    let report = environment::block_on(async {
        push.check_access().await?;
        let options = LoadOptions { concurrency: AT_ONCE };
        let source: Arc<dyn Source> = packed;
        Ok(land::load_roots(source, vec![root], Arc::new(push), options, watched).await?)
    });
    match &report {
        Ok(report) if report.failed.is_empty() => meter.finish(),
        _ => meter.clear(),
    }
    let report = report?;
    if let Some(failed) = report.failed.first() {
        let kind = match failed.cause.fault {
            land::LoadFailureKind::Integrity => ErrorKind::Integrity,
            land::LoadFailureKind::Other => ErrorKind::Failed,
        };
        return Err(CommandError::new(kind, failed.cause.error.clone())
            .with_hint("what was pushed is kept; run the same command again to resume"));
    }
    let landed = report.landed.first().map(|landed| landed.outcome);
    landed.ok_or_else(|| {
        CommandError::failure(format!("{name} was not pushed, and the registry gave no reason"))
    })
}

fn format_push(pushed: &PushedModelTarget) -> String {
    let outcome = match pushed.outcome {
        Some(LoadOutcome::Present) => "already present",
        Some(LoadOutcome::Loaded) => "pushed",
        None => "would be pushed",
    };
    let rows = pushed.report.models.iter().map(|model| {
        let size = ByteSize(model.bytes).to_string();
        [model.name.clone(), model.files.to_string(), size, outcome.to_owned()]
    });
    let table = ui::format_table(["model", "files", "size", ""], rows.collect());
    let image = pushed.report.to.as_str();
    let image = image.rsplit_once(':').map_or(image, |(name, _)| name);
    format!(
        "{table}\nvolume for a pod: {{name: models, image: {{reference: {image}@{}}}}}\n",
        pushed.digest.map(|digest| digest.to_string()).unwrap_or_default()
    )
}
