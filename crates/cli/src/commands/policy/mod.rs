//! `gantry policy images` and `gantry policy egress`: admission and network policies, written as manifests.
//! Nothing is applied, and no cluster is needed.

mod egress;
mod images;

pub(crate) use self::egress::EgressPolicySummary;
pub(crate) use self::images::ImagePolicySummary;
use policy::Namespace;

use crate::context::CommandContext;
use crate::error::Result;

/// Write policies that admit only locked images, and that block connections to the outside.
#[derive(clap::Subcommand)]
pub(crate) enum PolicyCommand {
    Images(images::PolicyImagesArgs),
    Egress(egress::PolicyEgressArgs),
}

pub(crate) fn run(context: &CommandContext, command: &PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Images(args) => images::run(context, args),
        PolicyCommand::Egress(args) => egress::run(context, args),
    }
}

/// Warns about a policy for the namespaces of Kubernetes itself: a cluster whose own pods are refused or
/// cut off does not recover by itself.
fn warn_about_system_namespaces(context: &CommandContext, namespaces: &[Namespace]) {
    let system: Vec<String> = namespaces
        .iter()
        .filter(|namespace| namespace.is_system())
        .map(Namespace::to_string)
        .collect();
    context.ui.print_grouped_warning(
        "this namespace is the cluster's own: its DNS, its network and its controllers run there, and a \
         policy that refuses or cuts off one of them breaks every namespace; try it with --dry-run=server \
         of kubectl and in a test cluster first",
        &system,
    );
}
