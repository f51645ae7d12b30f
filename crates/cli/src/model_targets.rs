//! Writes models to the targets of a site or of the command line, for `models push` and `load --site`.
//! The crate `land` does the work.

use std::path::Path;
use std::sync::Arc;

use land::claim::{POD_TIMEOUT, SeedRouteChoice, SeederImage, TransferRoute};
use land::models::bucket::BucketAccess;
use land::models::{
    self, ModelPush, ModelPushReport, ModelPutOutcome, OpenModelTarget, PushMode, UnfitModelPolicy,
};
use store::Source;
use types::ByteSize;
use types::destination::{ClaimFolder, ModelDestination};
use types::site::{ModelTarget, Site, site_folder};

use crate::clusters::ClusterArgs;
use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::output_files;
use crate::seeder_session::SeederSession;
use crate::ui;

/// Writes the models of a source that a target selects to a folder or a bucket. Paths of the target are
/// used as they are, relative to the current folder.
pub(crate) fn push_models(
    context: &CommandContext,
    source: &dyn Source,
    target: &ModelTarget,
    unfit: UnfitModelPolicy,
    mode: PushMode,
) -> Result<ModelPushReport> {
    let push = ModelPush::plan(source, target, unfit)?;
    if push.is_empty() {
        return Ok(push.preview());
    }
    if mode == PushMode::DryRun {
        return preview_push(context, &push, target);
    }
    let opened = push.open_target(&context.config)?;
    let meter = context.ui.start_progress("push");
    let report = push.write(source, &opened, &*meter);
    if report.is_ok() {
        meter.finish();
    } else {
        meter.clear();
    }
    Ok(report?)
}

/// What would be written, and what is there already. A bucket that cannot be asked is no failure of a dry
/// run.
fn preview_push(
    context: &CommandContext,
    push: &ModelPush<'_>,
    target: &ModelTarget,
) -> Result<ModelPushReport> {
    use models::Error as E;
    let found = push.open_target(&context.config).and_then(|opened| push.preview_at(&opened));
    match found {
        Ok(report) => Ok(report),
        Err(error @ (E::Connect { .. } | E::Request { .. })) => {
            context.ui.print_warning(&format!(
                "{} could not be asked, so it is not known what is there already: {error}",
                target.to
            ));
            Ok(push.preview())
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks the model targets of a site before anything is copied: what is in the way of a folder, and the
/// settings, certificates and credentials of a bucket. Nothing is connected to.
pub(crate) fn check_site_targets(context: &CommandContext, site: &Site, file: &Path) -> Result<()> {
    for target in &site.models {
        let beside = models::resolve_target_paths(target, site_folder(file));
        let checked = match &beside.to {
            ModelDestination::Depot => Ok(()),
            ModelDestination::Claim(_) => SeederImage::at_site(site).map(drop).map_err(Into::into),
            ModelDestination::Folder(path) => output_files::check_folder(path),
            ModelDestination::Bucket(_) => {
                let access = BucketAccess::of_target(&beside, &context.config);
                OpenModelTarget::open_to_write(&beside.to, &access).map(drop).map_err(Into::into)
            }
        };
        checked.map_err(|error: CommandError| {
            error.with_context(&format!("models to {}", target.to))
        })?;
    }
    Ok(())
}

/// Writes the models of a source to all model targets of a site. A failure for one target does not
/// stop the others; the first error is returned beside the results, later ones are printed as warnings.
pub(crate) fn push_to_site_targets(
    context: &CommandContext,
    source: &Arc<dyn Source>,
    site: &Site,
    file: &Path,
    mode: PushMode,
) -> (Vec<ModelPushReport>, Option<CommandError>) {
    let folder = site_folder(file);
    let (mut all, mut failed) = (Vec::new(), None);
    for target in &site.models {
        if target.to == ModelDestination::Depot {
            context.ui.print_status(
                "model target depot: nothing to copy, the depot serves the models it has",
            );
            continue;
        }
        let beside = models::resolve_target_paths(target, folder);
        let pushed = match &beside.to {
            ModelDestination::Claim(claim) => {
                push_to_claim(context, source, (site, file), &beside, claim, mode)
            }
            _ => push_models(context, &**source, &beside, UnfitModelPolicy::LeftOut, mode),
        };
        match pushed {
            Ok(pushed) => {
                // A site file serves several bundles, and not every bundle has every model, so this is a warning
                // here. `models push --model` refuses it instead.
                for name in &pushed.missing {
                    context.ui.print_warning(&format!(
                        "{}: the bundle or store has no model {name}",
                        target.to
                    ));
                }
                all.push(pushed);
            }
            Err(error) => {
                let error = error.into_part_of(&format!("models to {}", target.to));
                match &failed {
                    Some(_) => context.ui.print_warning(&error.message_with_causes()),
                    None => failed = Some(error),
                }
            }
        }
    }
    (all, failed)
}

/// Writes models to a claim, through a pod that runs Gantry's image from the site's registry.
fn push_to_claim(
    context: &CommandContext,
    source: &Arc<dyn Source>,
    (site, file): (&Site, &Path),
    target: &ModelTarget,
    claim: &ClaimFolder,
    mode: PushMode,
) -> Result<ModelPushReport> {
    let session = SeederSession {
        context,
        cluster: &ClusterArgs::default(),
        site: Some((site, site_folder(file))),
        image: SeederImage::at_site(site)?,
        timeout: POD_TIMEOUT,
        verb: "push",
    };
    let claims = std::slice::from_ref(claim);
    let route = SeedRouteChoice::default();
    let mut all =
        session.push_models(source, target, claims, &route, UnfitModelPolicy::LeftOut, mode)?;
    all.pop().ok_or_else(|| land::claim::Error::UnexpectedEvent.into())
}

/// A table of the models at one target, below a line that names the target.
pub(crate) fn format_push_with_target(pushed: &ModelPushReport) -> String {
    if pushed.models.is_empty() {
        return format!("no models to write to {}\n", pushed.to);
    }
    format!("models at {}\n{}", pushed.to, format_push(pushed))
}

/// A table of the models at one target.
pub(crate) fn format_push(pushed: &ModelPushReport) -> String {
    let rows = pushed.models.iter().map(|model| {
        let put = match model.put {
            Some(ModelPutOutcome::Present) => "already present".to_owned(),
            Some(ModelPutOutcome::Written) => format!("written{}", describe_route(pushed.via)),
            None if pushed.is_made == Some(true) => "would be written to a new claim".to_owned(),
            None => match model.missing_bytes.filter(|missing| *missing < model.bytes) {
                Some(missing) => format!("would be written, {} of it", ByteSize(missing)),
                None => "would be written".to_owned(),
            },
        };
        let size = ByteSize(model.bytes).to_string();
        [model.name.clone(), model.files.to_string(), size, put]
    });
    let gone = pushed
        .collected
        .iter()
        .map(|name| [name.clone(), String::new(), String::new(), "deleted".to_owned()]);
    ui::format_table(["model", "files", "size", ""], rows.chain(gone).collect())
}

fn describe_route(via: Option<TransferRoute>) -> &'static str {
    match via {
        Some(TransferRoute::Registry) => " from the registry",
        Some(TransferRoute::Api) => " through the API server",
        Some(TransferRoute::Both) => " from the registry and through the API server",
        Some(TransferRoute::None) | None => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use land::models::PushedModel;
    use types::site::ModelLayout;

    use super::*;

    fn make_report(put: Option<ModelPutOutcome>) -> ModelPushReport {
        let model =
            PushedModel { name: "o/n@1".into(), files: 3, bytes: 2048, missing_bytes: None, put };
        ModelPushReport {
            to: "pvc://ai/models".into(),
            layout: ModelLayout::HfCache,
            is_dry_run: put.is_none(),
            models: vec![model],
            is_made: None,
            via: None,
            collected: vec![],
            left_out: vec![],
            missing: vec![],
        }
    }

    #[test]
    fn a_row_says_what_was_done_and_how_the_bytes_came() {
        let last = |report: &ModelPushReport| {
            let text = format_push(report);
            let row = text.lines().nth(1).unwrap();
            row.split(&ByteSize(2048).to_string()).nth(1).unwrap().trim().to_owned()
        };
        let written = |via| ModelPushReport { via, ..make_report(Some(ModelPutOutcome::Written)) };
        assert_eq!(last(&make_report(Some(ModelPutOutcome::Present))), "already present");
        assert_eq!(last(&written(None)), "written");
        assert_eq!(last(&written(Some(TransferRoute::Registry))), "written from the registry");
        assert_eq!(last(&written(Some(TransferRoute::Api))), "written through the API server");
        assert_eq!(last(&make_report(None)), "would be written");
        let mut begun = make_report(None);
        begun.models[0].missing_bytes = Some(1024);
        assert_eq!(last(&begun), "would be written, 1.0 KiB of it");
        let to_make = ModelPushReport { is_made: Some(true), ..make_report(None) };
        assert_eq!(last(&to_make), "would be written to a new claim");
    }

    #[test]
    fn revisions_that_were_removed_are_rows_of_their_own() {
        let collected = vec!["o/n@0".to_owned()];
        let text = format_push(&ModelPushReport {
            collected,
            ..make_report(Some(ModelPutOutcome::Written))
        });
        let row = text.lines().nth(2).unwrap();
        assert!(row.starts_with("o/n@0") && row.ends_with("deleted"), "{text}");
    }

    #[test]
    fn a_target_without_models_is_a_sentence_and_no_empty_table() {
        let report = ModelPushReport { models: vec![], ..make_report(None) };
        assert_eq!(format_push_with_target(&report), "no models to write to pvc://ai/models\n");
    }
}
