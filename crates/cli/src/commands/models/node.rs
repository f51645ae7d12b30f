//! `gantry models push | verify` with `node:///…`: folders on the nodes' own disks, worked on by a
//! DaemonSet of seeders.

use std::path::Path;
use std::sync::Arc;

use land::claim::{Event, NodePath, Order, Task, Use, Way};
use land::models::{self, Checked, Plan, Put};
use serde::Serialize;
use store::Source;
use types::ByteSize;

use super::claim::{Via, Work, site, unexpected};
use super::{PushArgs, VerifyArgs, choice, from, judged, nothing};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::{ui, world};

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
    /// One for each model.
    puts: Vec<Put>,
    via: Way,
    /// Older revisions that were taken away.
    collected: Vec<String>,
}

#[derive(Serialize)]
struct CheckedNode {
    node: String,
    #[serde(flatten)]
    checked: Checked,
}

/// Whether a target is on the nodes' disks.
pub(super) fn is_node(target: &Path) -> bool {
    NodePath::is_one(&target.to_string_lossy())
}

pub(super) fn push(context: &Context, args: &PushArgs) -> Result<()> {
    let [to] = args.to.as_slice() else {
        return Err(CommandError::usage("several targets at once are claims of a cluster")
            .hint("push to one folder of the nodes after the other"));
    };
    let path: NodePath = to.to_string_lossy().parse()?;
    let site = site(&args.seeder)?;
    let source = world::source(&args.sources)?;
    let choice = choice(args);
    let plans = models::plan(&*source, &choice)?;
    let order = Order {
        folder: String::new(),
        task: Task::Put {
            plans: plans.clone(),
            layout: choice.layout,
            keep: args.keep.map(usize::from),
            registry: from::registry(args, site.as_ref(), &*source, &plans)?,
            over_api: matches!(args.claim.via, Via::Auto | Via::Api),
        },
    };
    let work = Work::new(context, &args.seeder, site.as_ref(), "push")?;
    let doing = format!("put models on the nodes' disks, {path}");
    let rights = |cluster: &cluster::Cluster| NodePath::rights(namespace(&path, cluster));
    let nodes = work.run(&doing, rights, args.dry_run, async |seeder, cluster| {
        if args.dry_run {
            return Ok(Vec::new());
        }
        let namespace = namespace(&path, cluster);
        let source: Arc<dyn Source> = Arc::clone(&source);
        let done = seeder.work_on_nodes(&path, namespace, Use::Write, &order, Some(source)).await?;
        done.into_iter().map(pushed).collect()
    })?;
    let pushed = Pushed {
        to: path.to_string(),
        is_dry_run: args.dry_run,
        models: plans.iter().map(|plan| plan.name.clone()).collect(),
        bytes: plans.iter().map(Plan::size).sum(),
        nodes,
    };
    context.ui.result(&pushed, |pushed| {
        let size = ByteSize(pushed.bytes).to_string();
        let rows = pushed.nodes.iter().map(|node| {
            let is_new = node.puts.contains(&Put::Written);
            let put = if is_new { "put" } else { "there already" };
            let models = pushed.models.len().to_string();
            [node.node.clone(), models, size.clone(), put.to_owned()]
        });
        ui::table(["node", "models", "size", ""], rows.collect())
    })
}

pub(super) fn verify(context: &Context, args: &VerifyArgs) -> Result<()> {
    let path: NodePath = args.folder.to_string_lossy().parse()?;
    let site = site(&args.seeder)?;
    let order = Order { folder: String::new(), task: Task::Verify };
    let work = Work::new(context, &args.seeder, site.as_ref(), "verify")?;
    let doing = format!("verify the models on the nodes' disks, {path}");
    let rights = |cluster: &cluster::Cluster| NodePath::rights(namespace(&path, cluster));
    let nodes = work.run(&doing, rights, false, async |seeder, cluster| {
        let namespace = namespace(&path, cluster);
        let done = seeder.work_on_nodes(&path, namespace, Use::Read, &order, None).await?;
        let checked = done.into_iter().map(|(node, event)| match event {
            Event::Checked { checked } => Ok(CheckedNode { node, checked }),
            _ => Err(unexpected()),
        });
        checked.collect::<Result<Vec<_>>>()
    })?;
    if nodes.iter().all(|node| node.checked.models.is_empty()) {
        return Err(nothing(&args.folder));
    }
    context.ui.result(&nodes, |nodes| {
        let rows = nodes.iter().flat_map(|node| {
            node.checked.models.iter().map(|(name, files)| {
                let is_bad = node.checked.bad.iter().any(|bad| bad.model == *name);
                let state = if is_bad { "damaged" } else { "whole" };
                [node.node.clone(), name.clone(), files.to_string(), state.to_owned()]
            })
        });
        ui::table(["node", "model", "files", ""], rows.collect())
    })?;
    for node in &nodes {
        judged(&format!("{}:{}", node.node, path.folder), &node.checked)?;
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
