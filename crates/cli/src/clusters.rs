//! What the verbs on the inside do alike: which cluster is meant, and that it is the right one
//! before anything is written to it.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use cluster::{Access, Cluster};
use types::site::Site;

use crate::context::Context;
use crate::error::{CommandError, Result};

/// Options of every verb that talks to a cluster.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ClusterArgs {
    /// The kubeconfig [default: KUBECONFIG, then ~/.kube/config, then the pod's own account].
    #[arg(long, value_name = "FILE", help_heading = "Cluster options")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: site.yaml's `context`, then the current one].
    #[arg(long, value_name = "NAME", help_heading = "Cluster options")]
    context: Option<String>,
    /// Write to the current context without asking, where neither --context nor site.yaml names one.
    #[arg(short, long, help_heading = "Cluster options")]
    yes: bool,
}

impl ClusterArgs {
    /// What helm is told of the same cluster.
    pub(crate) fn kubeconfig(&self) -> Option<&std::path::Path> {
        self.kubeconfig.as_deref()
    }
}

/// The cluster that is meant; nothing was asked of it yet.
pub(crate) async fn connect(args: &ClusterArgs, site: Option<&Site>) -> Result<Cluster> {
    let named = args.context.clone().or_else(|| site.and_then(|site| site.context.clone()));
    let access = Access { kubeconfig: args.kubeconfig.clone(), context: named };
    Ok(Cluster::connect(&access).await?)
}

/// A cluster to read from. It answered.
pub(crate) async fn open(args: &ClusterArgs, site: Option<&Site>) -> Result<Cluster> {
    let cluster = connect(args, site).await?;
    cluster.version().await?;
    Ok(cluster)
}

/// A cluster to write to: the context is named by the user or the site, or the user says yes to it.
/// `doing` is what will be done ("deploy rag").
pub(crate) async fn open_to_write(
    context: &Context,
    args: &ClusterArgs,
    site: Option<&Site>,
    doing: &str,
) -> Result<Cluster> {
    let is_named = args.context.is_some() || site.is_some_and(|site| site.context.is_some());
    let cluster = open(args, site).await?;
    let (name, server) = (cluster.context(), cluster.server());
    context.ui.status(&format!("cluster {name} ({server})"));
    if is_named || args.yes {
        return Ok(cluster);
    }
    let question = format!("{doing} in the current context {name} ({server})?");
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(CommandError::usage(format!("{question} nobody is there to be asked")).hint(
            format!("name it: --context {name}, or context: {name} in site.yaml, or say --yes"),
        ));
    }
    context.ui.status(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    match (read, answer.trim().to_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(cluster),
        _ => Err(CommandError::usage("it was not confirmed, nothing was written")),
    }
}
