//! Where the file of `--site` is: as gantry.yaml and gantry.lock, in the folder that `-C` names.

use std::path::PathBuf;

use super::GantryCommand;
use crate::context::CommandContext;

impl GantryCommand {
    /// Makes the path of `--site` one that this process can open, whichever command has it.
    pub(super) fn resolve_site_file(&mut self, context: &CommandContext) {
        if let Some(file) = self.site_file_mut() {
            *file = context.resolve_project_file(file);
        }
    }

    /// What `--site` names, if this command has the option and it is given.
    fn site_file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Load(args) => args.site.as_mut(),
            Self::Models(command) => command.seeder_mut()?.site.as_mut(),
            Self::Relocate(args) => args.site.as_mut(),
            Self::PostRender(args) => args.site.as_mut(),
            Self::Render(args) => args.site_mut(),
            Self::Check(args) => args.site.as_mut(),
            Self::Deploy(args) => Some(&mut args.site),
            Self::Undeploy(args) => args.site.as_mut(),
            Self::Policy(command) => Some(command.site_mut()),
            Self::Webhook(args) => args.site_mut(),
            Self::Audit(args) => args.site_mut(),
            Self::Evidence(args) => args.site_mut(),
            Self::Doctor(args) => args.site.as_mut(),
            _ => None,
        }
    }
}
