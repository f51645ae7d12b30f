//! `gantry models push` and `verify` with `node:///…`: folders on the nodes' own disks, which the pods of a
//! DaemonSet read and write.

use std::sync::Arc;

use land::claim::{
    NodePath, SeederEvent, SeederOrder, SeederPush, SeederTask, TransferRoute, VolumeUse,
};
use land::models::{ModelPlan, ModelPutOutcome, ModelVerifyReport, PushMode, UnfitModelPolicy};
use serde::Serialize;
use store::Source;
use types::ByteSize;
use types::site::ModelTarget;

use super::claim::{ClaimArgs, SeederArgs};
use super::report::{build_no_models_error, require_undamaged};
use crate::context::CommandContext;
use crate::error::Result;
use crate::ui;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodesPushReport {
    to: String,
    is_dry_run: bool,
    models: Vec<String>,
    bytes: u64,
    nodes: Vec<NodePushReport>,
}

#[derive(Serialize)]
struct NodePushReport {
    node: String,
    /// What was done, for each model in the order of `models`.
    puts: Vec<ModelPutOutcome>,
    via: TransferRoute,
    /// Older revisions that were deleted (`--keep`).
    collected: Vec<String>,
}

#[derive(Serialize)]
struct NodeCheckReport {
    node: String,
    #[serde(flatten)]
    checked: ModelVerifyReport,
}

pub(super) fn push_to_nodes(
    context: &CommandContext,
    source: &Arc<dyn Source>,
    target: &ModelTarget,
    path: &NodePath,
    (claim, seeder): (&ClaimArgs, &SeederArgs),
    mode: PushMode,
) -> Result<()> {
    let site = seeder.read_site()?;
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
        let done =
            seeder.run_order_on_nodes(path, namespace, VolumeUse::Write, &order, source).await?;
        done.into_iter().map(read_push_event).collect()
    })?;
    let pushed = NodesPushReport {
        to: path.to_string(),
        is_dry_run: mode == PushMode::DryRun,
        models: push.plans().iter().map(|plan| plan.name.clone()).collect(),
        bytes: push.plans().iter().map(ModelPlan::size).sum(),
        nodes,
    };
    context.ui.print_result(&pushed, |pushed| {
        let size = ByteSize(pushed.bytes).to_string();
        let rows = pushed.nodes.iter().map(|node| {
            let is_new = node.puts.contains(&ModelPutOutcome::Written);
            let put = if is_new { "written" } else { "already present" };
            let models = pushed.models.len().to_string();
            [node.node.clone(), models, size.clone(), put.to_owned()]
        });
        ui::format_table(["node", "models", "size", ""], rows.collect())
    })
}

pub(super) fn verify_nodes(
    context: &CommandContext,
    args: &SeederArgs,
    path: &NodePath,
) -> Result<()> {
    let site = args.read_site()?;
    let order = SeederOrder { folder: String::new(), task: SeederTask::Verify };
    let seeding = args.seeder_session(context, site.as_ref(), "verify")?;
    let doing = format!("verify the models on the nodes' disks, {path}");
    let rights =
        |cluster: &cluster::Cluster| NodePath::required_rights(choose_namespace(path, cluster));
    let nodes =
        seeding.run_with_seeder(&doing, rights, PushMode::Put, async |seeder, cluster| {
            let namespace = choose_namespace(path, cluster);
            let done =
                seeder.run_order_on_nodes(path, namespace, VolumeUse::Read, &order, None).await?;
            let checked = done.into_iter().map(|(node, event)| match event {
                SeederEvent::Checked { checked } => Ok(NodeCheckReport { node, checked }),
                _ => Err(land::claim::Error::UnexpectedEvent.into()),
            });
            checked.collect::<Result<Vec<_>>>()
        })?;
    if nodes.iter().all(|node| node.checked.models.is_empty()) {
        return Err(build_no_models_error(&path.to_string()));
    }
    context.ui.print_result(&nodes, |nodes| {
        let rows = nodes.iter().flat_map(|node| {
            node.checked.models.iter().map(|(name, files)| {
                let is_bad = node.checked.bad.iter().any(|bad| bad.model == *name);
                let state = if is_bad { "damaged" } else { "ok" };
                [node.node.clone(), name.clone(), files.to_string(), state.to_owned()]
            })
        });
        ui::format_table(["node", "model", "files", ""], rows.collect())
    })?;
    for node in &nodes {
        let shown =
            |file: &std::path::Path| format!("{}:{}/{}", node.node, path.folder, file.display());
        require_undamaged(&path.to_string(), shown, &node.checked)?;
    }
    Ok(())
}

fn choose_namespace<'a>(path: &'a NodePath, cluster: &'a cluster::Cluster) -> &'a str {
    path.namespace.as_deref().unwrap_or_else(|| cluster.namespace())
}

fn read_push_event((node, event): (String, SeederEvent)) -> Result<NodePushReport> {
    match event {
        SeederEvent::Put { puts, via, collected } => {
            Ok(NodePushReport { node, puts, via, collected })
        }
        _ => Err(land::claim::Error::UnexpectedEvent.into()),
    }
}
