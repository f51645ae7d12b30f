//! `gantry models push` and `verify` with `node:///…`: folders on the nodes' own disks, which the pods of a
//! DaemonSet read and write.

use std::sync::Arc;

use land::claim::{Event, NodePath, Order, Task, Use, Way};
use land::models::{self, Checked, Plan, Put, Unfit};
use serde::Serialize;
use store::Source;
use types::ByteSize;
use types::site::ModelTarget;

use super::claim::{ClaimArgs, SeederArgs};
use super::{judged, nothing};
use crate::claims::{self, Via, unexpected};
use crate::context::Context;
use crate::error::Result;
use crate::place::Mode;
use crate::ui;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    to: String,
    is_dry_run: bool,
    models: Vec<String>,
    bytes: u64,
    nodes: Vec<PushedNode>,
}

#[derive(Serialize)]
struct PushedNode {
    node: String,
    /// What was done, for each model in the order of `models`.
    puts: Vec<Put>,
    via: Way,
    /// Older revisions that were deleted (`--keep`).
    collected: Vec<String>,
}

#[derive(Serialize)]
struct CheckedNode {
    node: String,
    #[serde(flatten)]
    checked: Checked,
}

pub(super) fn push(
    context: &Context,
    source: &Arc<dyn Source>,
    target: &ModelTarget,
    path: &NodePath,
    (claim, seeder): (&ClaimArgs, &SeederArgs),
    mode: Mode,
) -> Result<()> {
    let site = seeder.site()?;
    let choice = claims::choice(target, Unfit::Refused);
    let plans = models::plan(&**source, &choice)?;
    let ways = claim.ways();
    let of_site = site.as_ref().map(|site| (site, seeder.folder()));
    let order = Order {
        folder: String::new(),
        task: Task::Put {
            plans: plans.clone(),
            layout: choice.layout,
            keep: target.keep.map(|keep| usize::from(keep.get())),
            registry: claims::registry(&ways, of_site, &**source, &plans)?,
            over_api: matches!(ways.via, Via::Auto | Via::Api),
        },
    };
    let seeding = seeder.seeding(context, site.as_ref(), "push")?;
    let doing = format!("write models to the nodes' disks, {path}");
    let rights = |cluster: &cluster::Cluster| NodePath::rights(namespace(path, cluster));
    let nodes = seeding.run(&doing, rights, mode, async |seeder, cluster| {
        // Even to look at the nodes' disks a DaemonSet would have to run.
        if mode == Mode::DryRun {
            return Ok(Vec::new());
        }
        let namespace = namespace(path, cluster);
        let source = Some(Arc::clone(source));
        let done = seeder.work_on_nodes(path, namespace, Use::Write, &order, source).await?;
        done.into_iter().map(pushed).collect()
    })?;
    let pushed = Pushed {
        to: path.to_string(),
        is_dry_run: mode == Mode::DryRun,
        models: plans.iter().map(|plan| plan.name.clone()).collect(),
        bytes: plans.iter().map(Plan::size).sum(),
        nodes,
    };
    context.ui.result(&pushed, |pushed| {
        let size = ByteSize(pushed.bytes).to_string();
        let rows = pushed.nodes.iter().map(|node| {
            let is_new = node.puts.contains(&Put::Written);
            let put = if is_new { "written" } else { "already present" };
            let models = pushed.models.len().to_string();
            [node.node.clone(), models, size.clone(), put.to_owned()]
        });
        ui::table(["node", "models", "size", ""], rows.collect())
    })
}

pub(super) fn verify(context: &Context, args: &SeederArgs, path: &NodePath) -> Result<()> {
    let site = args.site()?;
    let order = Order { folder: String::new(), task: Task::Verify };
    let seeding = args.seeding(context, site.as_ref(), "verify")?;
    let doing = format!("verify the models on the nodes' disks, {path}");
    let rights = |cluster: &cluster::Cluster| NodePath::rights(namespace(path, cluster));
    let nodes = seeding.run(&doing, rights, Mode::Put, async |seeder, cluster| {
        let namespace = namespace(path, cluster);
        let done = seeder.work_on_nodes(path, namespace, Use::Read, &order, None).await?;
        let checked = done.into_iter().map(|(node, event)| match event {
            Event::Checked { checked } => Ok(CheckedNode { node, checked }),
            _ => Err(unexpected()),
        });
        checked.collect::<Result<Vec<_>>>()
    })?;
    if nodes.iter().all(|node| node.checked.models.is_empty()) {
        return Err(nothing(&path.to_string()));
    }
    context.ui.result(&nodes, |nodes| {
        let rows = nodes.iter().flat_map(|node| {
            node.checked.models.iter().map(|(name, files)| {
                let is_bad = node.checked.bad.iter().any(|bad| bad.model == *name);
                let state = if is_bad { "damaged" } else { "ok" };
                [node.node.clone(), name.clone(), files.to_string(), state.to_owned()]
            })
        });
        ui::table(["node", "model", "files", ""], rows.collect())
    })?;
    for node in &nodes {
        let shown =
            |file: &std::path::Path| format!("{}:{}/{}", node.node, path.folder, file.display());
        judged(&path.to_string(), shown, &node.checked)?;
    }
    Ok(())
}

fn namespace<'a>(path: &'a NodePath, cluster: &'a cluster::Cluster) -> &'a str {
    path.namespace.as_deref().unwrap_or_else(|| cluster.namespace())
}

fn pushed((node, event): (String, Event)) -> Result<PushedNode> {
    match event {
        Event::Put { puts, via, collected } => Ok(PushedNode { node, puts, via, collected }),
        _ => Err(unexpected()),
    }
}
