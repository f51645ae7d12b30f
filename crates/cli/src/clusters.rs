//! Opens the cluster that a subcommand works on, and makes sure that it is the intended one before
//! anything is written to it.

use std::path::{Path, PathBuf};

use cluster::{Cluster, ClusterAccess};
use remote::helm::{HelmBinary, HelmClient};
use types::site::Site;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};
use crate::ui::{self, Answer};

/// Options of every subcommand that connects to a cluster.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ClusterArgs {
    /// The kubeconfig file [default: KUBECONFIG, then ~/.kube/config, then the pod's service account].
    #[arg(long, value_name = "FILE", help_heading = "Cluster options")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: `context` of site.yaml, then the current context].
    #[arg(long, value_name = "NAME", help_heading = "Cluster options")]
    context: Option<String>,
    /// Do not ask before changing the cluster of the current context. (Where --context or site.yaml
    /// names the context, Gantry does not ask.)
    #[arg(short, long, help_heading = "Cluster options")]
    yes: bool,
}

impl ClusterArgs {
    /// The kubeconfig file, if one was given; helm gets the same.
    pub(crate) fn kubeconfig(&self) -> Option<&std::path::Path> {
        self.kubeconfig.as_deref()
    }
}

/// Prepares a connection to the cluster that the arguments or the site name, without a request to it.
pub(crate) async fn connect_cluster(args: &ClusterArgs, site: Option<&Site>) -> Result<Cluster> {
    let named = args.context.clone().or_else(|| site.and_then(|site| site.context.clone()));
    let access = ClusterAccess { kubeconfig: args.kubeconfig.clone(), context: named };
    Ok(Cluster::connect(&access).await?)
}

/// Opens a cluster to read from, and checks that its API server answers.
pub(crate) async fn open_cluster(args: &ClusterArgs, site: Option<&Site>) -> Result<Cluster> {
    let cluster = connect_cluster(args, site).await?;
    cluster.fetch_version().await?;
    Ok(cluster)
}

/// Opens a cluster to write to. If neither the user nor the site names the context, the user has to
/// confirm it. `doing` is what will be done ("deploy rag").
pub(crate) async fn open_cluster_to_write(
    context: &CommandContext,
    args: &ClusterArgs,
    site: Option<&Site>,
    doing: &str,
) -> Result<Cluster> {
    // Writing to whatever context happens to be current is how the wrong cluster gets changed.
    let is_named = args.context.is_some() || site.is_some_and(|site| site.context.is_some());
    let cluster = open_cluster(args, site).await?;
    let (name, server) = (cluster.context(), cluster.server());
    context.ui.print_status(&format!("cluster {name} ({server})"));
    if is_named || args.yes {
        return Ok(cluster);
    }
    let question = format!("{doing} in the current context {name} ({server})?");
    // In a script or CI nobody can answer, and waiting would hang it.
    if !ui::is_interactive() {
        return Err(CommandError::usage_error(format!("{question} There is no terminal to confirm it on")).with_hint(
            format!("name the context with --context {name} or in site.yaml (context: {name}), or give --yes"),
        ));
    }
    match ui::ask_question(&question) {
        Answer::Yes => Ok(cluster),
        Answer::No => Err(CommandError::usage_error("not confirmed; nothing was changed")),
    }
}

/// helm, set up for the given cluster. It runs under `gantry tether`, so that it ends with this process.
pub(crate) fn open_helm(cluster: &Cluster, args: &ClusterArgs) -> Result<HelmClient> {
    let mut helm = HelmClient::new(HelmBinary::locate()?)?;
    helm.kubeconfig = args.kubeconfig().map(Path::to_owned);
    // In a pod, helm finds the pod's service account by itself; there is no context to name.
    helm.context = Some(cluster.context().to_owned()).filter(|name| name != "in-cluster");
    let parent = std::process::id().to_string();
    let own = environment::find_own_binary()?;
    helm.tether = vec![own.into(), "tether".into(), "--parent".into(), parent.into(), "--".into()];
    Ok(helm)
}
