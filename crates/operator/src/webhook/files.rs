//! The files that say what is locked: the site, locks and receipts. They are read at the start, and
//! again when they change, since a mounted ConfigMap changes under a running pod.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use types::lock::Lock;
use types::receipt::Receipt;
use types::site::Site;

use super::images::{ImagePinning, WebhookImages};
use crate::{Error, Result};

/// How often the files are checked for changes. (Polling, since the kubelet updates a mounted
/// ConfigMap by swapping a symlink, which a watch of the file would miss.)
const LOOK: Duration = Duration::from_secs(2);

/// The paths of the files, and how images are to be named.
#[derive(Debug, Clone)]
pub struct WebhookFiles {
    /// `site.yaml`.
    pub site: PathBuf,
    /// The locks, at least one.
    pub locks: Vec<PathBuf>,
    /// The receipts of `gantry load`.
    pub receipts: Vec<PathBuf>,
    /// How the images at the site are named.
    pub pin: ImagePinning,
}

impl WebhookFiles {
    /// Reads all of them.
    pub fn read(&self) -> Result<WebhookImages> {
        let site = read_text(&self.site).and_then(|(name, text)| Ok(Site::parse(&name, &text)?))?;
        let locks = self.locks.iter().map(|path| {
            let (name, text) = read_text(path)?;
            Ok(Lock::parse(&name, &text)?)
        });
        let locks: Vec<Lock> = locks.collect::<Result<_>>()?;
        let receipts = self.receipts.iter().map(|path| {
            let (name, text) = read_text(path)?;
            Ok(Receipt::parse(&name, &text)?)
        });
        let receipts: Vec<Receipt> = receipts.collect::<Result<_>>()?;
        WebhookImages::new(&locks, &receipts, &site, self.pin)
    }

    /// The modification time and length of each file; `None` for one that cannot be read.
    fn read_stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let all = std::iter::once(&self.site).chain(&self.locks).chain(&self.receipts);
        let stamps = all.map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        });
        stamps.collect()
    }
}

/// What is locked, kept up to date with the files.
#[derive(Debug, Clone)]
pub struct WebhookImagesWatch {
    current: Arc<RwLock<Arc<WebhookImages>>>,
}

impl WebhookImagesWatch {
    /// Reads the files, and reads them again whenever they change, for as long as the result
    /// exists. If that fails, `failed` is called and the last state is kept.
    pub fn start(files: WebhookFiles, failed: impl Fn(&Error) + Send + 'static) -> Result<Self> {
        let mut stamp = files.read_stamps();
        let current = Arc::new(RwLock::new(Arc::new(files.read()?)));
        // The task ends when the last clone of the result is dropped.
        let weak = Arc::downgrade(&current);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK);
            loop {
                ticks.tick().await;
                let Some(current) = weak.upgrade() else { break };
                let now = files.read_stamps();
                if now == stamp {
                    continue;
                }
                match files.read() {
                    Ok(locked) => {
                        tracing::info!(
                            "read the locks again: {} repositories are locked",
                            locked.len()
                        );
                        *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(locked);
                    }
                    Err(error) => failed(&error),
                }
                // Also after a failure: the same broken files are not read again and again.
                stamp = now;
            }
        });
        Ok(Self { current })
    }

    /// The current state. A caller keeps it while the next one is read.
    pub fn current(&self) -> Arc<WebhookImages> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read_text(path: &Path) -> Result<(String, String)> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok((path.display().to_string(), text))
}
