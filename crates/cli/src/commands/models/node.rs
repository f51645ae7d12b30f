//! `gantry models push` and `verify` with `node:///…`: folders on the nodes' own disks, which the pods of a
//! DaemonSet read and write.

use std::sync::Arc;

use land::claim::{NodePath, SeederEvent, SeederOrder, SeederPush, SeederTask, VolumeUse};
use land::models::{ModelPlan, ModelPushReport, ModelPutOutcome, PushMode, UnfitModelPolicy};
use store::Source;
use types::ByteSize;
use types::site::ModelTarget;

use super::claim::{ClaimArgs, SeederArgs};
use super::report::{build_no_models_error, print_push, require_undamaged};
use super::summary::{
    ModelsVerifySummary, NodeModel, NodePushReport, PushedModelTarget, VerifiedModelTarget,
};
use crate::context::CommandContext;
use crate::error::Result;
use crate::ui;

pub(super) fn push_to_nodes(
    context: &CommandContext,
    source: &Arc<dyn Source>,
    target: &ModelTarget,
    path: &NodePath,
    (claim, seeder): (&ClaimArgs, &SeederArgs),
    mode: PushMode,
) -> Result<()> {
    let site = seeder.read_site()?;
    let allowed = path.require_allowed(site.as_ref())?;
    let of_site = site.as_ref().map(|site| (site, seeder.site_folder()));
    let refused = UnfitModelPolicy::Refused;
    let push = SeederPush::plan(source, target, of_site, &claim.seed_route(), refused)?;
    let order = push.build_order("");
    let seeding = seeder.seeder_session(context, site.as_ref(), "push")?;
    let doing = format!("write models to the nodes' disks, {path}");
    let rights =
        |cluster: &cluster::Cluster| NodePath::required_rights(choose_namespace(path, cluster));
    let nodes = seeding.run_with_seeder(&doing, rights, mode, async |seeder, cluster| {
        // Even to look at the nodes' disks a DaemonSet would have to run.
        if mode == PushMode::DryRun {
            return Ok(Vec::new());
        }
        let namespace = choose_namespace(path, cluster);
        let source = Some(push.source());
        let done = seeder
            .run_order_on_nodes(&allowed, namespace, VolumeUse::Write, &order, source)
            .await?;
        done.into_iter().map(|done| read_push_event(done, push.plans())).collect()
    })?;
    let report = ModelPushReport::new(target, push.planned(), None, mode);
    let report = ModelPushReport { to: path.to_string(), ..report };
    print_push(context, mode, PushedModelTarget { nodes, ..report.into() }, format_push)
}

fn format_push(pushed: &PushedModelTarget) -> String {
    let models = &pushed.report.models;
    let size = ByteSize(models.iter().map(|model| model.bytes).sum()).to_string();
    let rows = pushed.nodes.iter().map(|node| {
        let is_new = node.models.iter().any(|model| model.outcome == ModelPutOutcome::Written);
        let put = if is_new { "written" } else { "already present" };
        [node.node.clone(), models.len().to_string(), size.clone(), put.to_owned()]
    });
    ui::format_table(["node", "models", "size", ""], rows.collect())
}

pub(super) fn verify_nodes(
    context: &CommandContext,
    args: &SeederArgs,
    path: &NodePath,
) -> Result<()> {
    let site = args.read_site()?;
    let allowed = path.require_allowed(site.as_ref())?;
    let order = SeederOrder { folder: String::new(), node_folder: None, task: SeederTask::Verify };
    let seeding = args.seeder_session(context, site.as_ref(), "verify")?;
    let doing = format!("verify the models on the nodes' disks, {path}");
    let rights =
        |cluster: &cluster::Cluster| NodePath::required_rights(choose_namespace(path, cluster));
    let nodes =
        seeding.run_with_seeder(&doing, rights, PushMode::Put, async |seeder, cluster| {
            let namespace = choose_namespace(path, cluster);
            let done = seeder
                .run_order_on_nodes(&allowed, namespace, VolumeUse::Read, &order, None)
                .await?;
            let checked = done.into_iter().map(|(node, event)| match event {
                SeederEvent::Checked { checked } => Ok((node, checked)),
                _ => Err(land::claim::Error::UnexpectedEvent.into()),
            });
            checked.collect::<Result<Vec<_>>>()
        })?;
    if nodes.iter().all(|(_, checked)| checked.models.is_empty()) {
        return Err(build_no_models_error(&path.to_string()));
    }
    let targets = nodes.iter().map(|(node, checked)| {
        VerifiedModelTarget::new(path.to_string(), Some(node.clone()), checked)
    });
    let summary = ModelsVerifySummary { targets: targets.collect() };
    context.ui.print_result(&summary, |summary| {
        let rows = summary.targets.iter().flat_map(|target| {
            target.models.iter().map(|model| {
                let state = if model.intact { "ok" } else { "damaged" };
                let node = target.node.clone().unwrap_or_default();
                [node, model.name.clone(), model.file_count.to_string(), state.to_owned()]
            })
        });
        ui::format_table(["node", "model", "files", ""], rows.collect())
    })?;
    for (node, checked) in &nodes {
        let shown = |file: &std::path::Path| format!("{node}:{}/{}", path.folder, file.display());
        require_undamaged(&path.to_string(), shown, checked)?;
    }
    Ok(())
}

fn choose_namespace<'a>(path: &'a NodePath, cluster: &'a cluster::Cluster) -> &'a str {
    path.namespace.as_deref().unwrap_or_else(|| cluster.namespace())
}

fn read_push_event(
    (node, event): (String, SeederEvent),
    plans: &[ModelPlan],
) -> Result<NodePushReport> {
    match event {
        SeederEvent::Put { puts, via, collected } => {
            let models = plans.iter().zip(puts);
            let models =
                models.map(|(plan, outcome)| NodeModel { name: plan.name.clone(), outcome });
            let models = models.collect();
            Ok(NodePushReport { node, models, via, deleted_revisions: collected })
        }
        _ => Err(land::claim::Error::UnexpectedEvent.into()),
    }
}
