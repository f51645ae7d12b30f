//! The options that say what is locked, and where the site has it.

use std::path::{Path, PathBuf};

use operator::webhook::{ImagePinning, WebhookFiles};
use types::site::Site;

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};

/// Options for what is locked, and where the site has it.
#[derive(clap::Args)]
pub(super) struct LockedFilesArgs {
    /// The site file (site.yaml): its registry, naming and pull secret.
    // An `Option` because clap leaves it empty when the subcommand `manifests` is used.
    #[arg(long, value_name = "FILE", required = true)]
    pub(super) site: Option<PathBuf>,
    /// A lock file whose images are moved; may be given several times [default: gantry.lock].
    #[arg(long, value_name = "FILE")]
    pub(super) lock: Vec<PathBuf>,
    /// A receipt of gantry load, for the new digests of image indexes that had to be rewritten for the
    /// registry; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub(super) receipt: Vec<PathBuf>,
    /// Add the locked digest to each image, since a tag can be pushed again with other content.
    #[arg(long)]
    pub(super) digests: bool,
}

impl LockedFilesArgs {
    pub(super) fn pin(&self) -> ImagePinning {
        if self.digests { ImagePinning::Digest } else { ImagePinning::AsNamed }
    }

    /// The path of the site file.
    pub(super) fn site_file(&self) -> Result<&Path> {
        self.site
            .as_deref()
            .ok_or_else(|| CommandError::usage_error("name the site file: --site FILE"))
    }

    pub(super) fn read_site(&self) -> Result<Site> {
        environment::read_site(self.site_file()?)
    }

    pub(super) fn webhook_files(&self, context: &CommandContext) -> Result<WebhookFiles> {
        let locks = match self.lock.as_slice() {
            [] => vec![context.resolve_file(environment::LOCK)],
            paths => paths.to_vec(),
        };
        Ok(WebhookFiles {
            site: self.site_file()?.to_owned(),
            locks,
            receipts: self.receipt.clone(),
            pin: self.pin(),
        })
    }
}
