//! Which digests the site's registry has: from receipts, and from the registry itself where they do not
//! say so. It may hold other indexes than the source, in which the platforms are missing that were left
//! out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chart::relocate::RelocationProof;
use net::Credentials;
use remote::site_receipt::read_site_receipt;
use remote::site_registry::RegistryConnection;
use types::lock::Lock;
use types::receipt::Receipt;
use types::site::{RegistryTarget, site_folder};
use types::site_content::{SiteContent, SiteRoot};

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, Result};

/// How long the registry may take to answer. Many commands run where it cannot be reached, and a firewall
/// may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// Receipts that say which digests the site has.
#[derive(clap::Args)]
pub(crate) struct SiteReceiptArgs {
    /// A receipt of gantry load, which says which digests the site has; may be given several times
    /// [default: the site's registry is asked where a digest matters].
    #[arg(long, value_name = "FILE")]
    receipt: Vec<PathBuf>,
}

impl SiteReceiptArgs {
    /// Whether none is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.receipt.is_empty()
    }
}

/// What the site holds of one lock, with what was learnt of its registry.
pub(crate) struct KnownSite {
    lock: Lock,
    registry: RegistryTarget,
    receipts: Vec<Receipt>,
    content: SiteContent,
}

impl KnownSite {
    /// What the receipts say. `site` is the site file, to which the registry's paths are relative.
    pub(crate) fn new(
        lock: Lock,
        registry: &RegistryTarget,
        site: Option<&Path>,
        args: &SiteReceiptArgs,
    ) -> Result<Self> {
        let receipts: Vec<Receipt> = args
            .receipt
            .iter()
            .map(|path| environment::read_receipt(path))
            .collect::<Result<_>>()?;
        let registry = match site {
            Some(file) => registry.with_paths_below(site_folder(file)),
            None => registry.clone(),
        };
        let content = SiteContent::new(std::slice::from_ref(&lock), &receipts, &registry)?;
        Ok(Self { lock, registry, receipts, content })
    }

    /// Writes all that receipts and the registry say as receipts into a folder, for another run of Gantry that
    /// has to know the same. There is at least one.
    pub(crate) fn write_receipts(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let nothing = [Receipt::new(self.registry.url.clone(), vec![], vec![])];
        let all = if self.receipts.is_empty() { &nothing[..] } else { &self.receipts };
        let mut files = Vec::new();
        for (number, receipt) in all.iter().enumerate() {
            let path = folder.join(format!("receipt-{number}.json"));
            environment::write_file(&path, &receipt.to_json()?)?;
            files.push(path);
        }
        Ok(files)
    }

    /// What the site holds.
    pub(crate) fn content(&self) -> &SiteContent {
        &self.content
    }

    /// Asks the registry about the indexes that a proof could not confirm, since the registry may not have
    /// taken them. Returns whether something was learnt, so that the proof is to be made again.
    pub(crate) fn ask_about_unconfirmed(
        &mut self,
        context: &CommandContext,
        proof: &RelocationProof,
    ) -> Result<bool> {
        if proof.unconfirmed.is_empty() {
            return Ok(false);
        }
        self.ask_registry(context, |root| {
            let mut pins = proof.unconfirmed.iter().filter_map(|one| one.image.digest());
            pins.any(|digest| root.role_of(digest).is_some())
        })
    }

    /// Asks the registry for the digests of these roots, whose state no receipt tells. A registry that
    /// does not answer is told, and leaves the content as it is. Returns whether anything was learnt.
    pub(crate) fn ask_registry(
        &mut self,
        context: &CommandContext,
        is_asked: impl Fn(&SiteRoot) -> bool,
    ) -> Result<bool> {
        let roots: Vec<&SiteRoot> =
            self.content.unconfirmed_roots().filter(|root| is_asked(root)).collect();
        if roots.is_empty() {
            return Ok(false);
        }
        let credentials = Credentials::from_system();
        let opened = RegistryConnection::new(&context.config, &self.registry, credentials, None)?;
        let (client, prefix) = (opened.registry_client(), self.content.prefix());
        let answer = environment::block_on(async {
            let question = read_site_receipt(&client, prefix, roots);
            match tokio::time::timeout(PATIENCE, question).await {
                Ok(receipt) => Ok(receipt?),
                Err(_) => Err(CommandError::failure(format!("no answer within {PATIENCE:?}"))),
            }
        });
        let receipt = match answer {
            Ok(receipt) => receipt,
            Err(error) => {
                context.ui.print_warning(&format!(
                    "the site's registry could not be asked for its digests: {}",
                    error.message_with_causes()
                ));
                return Ok(false);
            }
        };
        let is_any = !receipt.roots.is_empty();
        self.receipts.push(receipt);
        self.content =
            SiteContent::new(std::slice::from_ref(&self.lock), &self.receipts, &self.registry)?;
        Ok(is_any)
    }
}

/// The next step where the site may not have a digest.
pub(crate) const CONFIRM_HINT: &str = "load first, then run this where the site's registry can be reached, or give the receipt of the load with --receipt";
/// How a digest is the same at every registry.
pub(crate) const KEEP_HINT: &str = "or carry all platforms of the image, so that its digest stays: platforms: [all] in gantry.yaml";

/// The error of pinning digests where no lock says which ones are meant.
pub(crate) fn missing_lock_error() -> CommandError {
    CommandError::usage_error("digests are pinned by a lock, and there is no gantry.lock here")
        .with_hint("name its folder with -C, or write --pin none")
}
