//! `gantry policy images` and `gantry policy egress`: admission and network policies, written as manifests.
//! Nothing is applied, and no cluster is needed.

mod egress;
mod images;

use std::path::PathBuf;

pub(crate) use self::egress::EgressPolicySummary;
pub(crate) use self::images::ImagePolicySummary;
use crate::context::CommandContext;
use crate::error::Result;

/// Write policies that admit only locked images, and that block connections to the outside.
#[derive(clap::Subcommand)]
pub(crate) enum PolicyCommand {
    Images(images::PolicyImagesArgs),
    Egress(egress::PolicyEgressArgs),
}

impl PolicyCommand {
    /// The path of `--site`.
    pub(super) fn site_mut(&mut self) -> &mut PathBuf {
        match self {
            Self::Images(args) => &mut args.site,
            Self::Egress(args) => &mut args.site,
        }
    }
}

pub(crate) fn run(context: &CommandContext, command: &PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Images(args) => images::run(context, args),
        PolicyCommand::Egress(args) => egress::run(context, args),
    }
}
