//! The files that tell the webhook what is locked: read at the start, and again when they change (a
//! ConfigMap that is mounted changes under a running pod).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use types::lock::Lock;
use types::receipt::Receipt;
use types::site::Site;

use super::locked::{Locked, Pin};
use crate::{Error, Result};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where it stands what is locked.
#[derive(Debug, Clone)]
pub struct Files {
    /// The site's description.
    pub site: PathBuf,
    /// The locks, one at least.
    pub locks: Vec<PathBuf>,
    /// Receipts of `load`.
    pub receipts: Vec<PathBuf>,
    /// How moved images are named.
    pub pin: Pin,
}

impl Files {
    /// Reads all of them.
    pub fn read(&self) -> Result<Locked> {
        let site = text(&self.site).and_then(|(name, text)| Ok(Site::parse(&name, &text)?))?;
        let locks = self.locks.iter().map(|path| {
            let (name, text) = text(path)?;
            Ok(Lock::parse(&name, &text)?)
        });
        let locks: Vec<Lock> = locks.collect::<Result<_>>()?;
        let receipts = self.receipts.iter().map(|path| {
            let (name, text) = text(path)?;
            Ok(Receipt::parse(&name, &text)?)
        });
        let receipts: Vec<Receipt> = receipts.collect::<Result<_>>()?;
        Locked::new(&locks, &receipts, &site, self.pin)
    }

    /// Time and length of each file.
    fn stamp(&self) -> Vec<Option<(SystemTime, u64)>> {
        let all = std::iter::once(&self.site).chain(&self.locks).chain(&self.receipts);
        let stamps = all.map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        });
        stamps.collect()
    }
}

/// What is locked, as the files say it now.
#[derive(Debug, Clone)]
pub struct Watched {
    current: Arc<RwLock<Arc<Locked>>>,
}

impl Watched {
    /// Reads the files, and reads them again for as long as the result lives when they change. What
    /// cannot be read leaves what was there before; `failed` is told.
    pub fn start(files: Files, failed: impl Fn(&Error) + Send + 'static) -> Result<Self> {
        let mut stamp = files.stamp();
        let current = Arc::new(RwLock::new(Arc::new(files.read()?)));
        let weak = Arc::downgrade(&current);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK);
            loop {
                ticks.tick().await;
                let Some(current) = weak.upgrade() else { break };
                let now = files.stamp();
                if now == stamp {
                    continue;
                }
                match files.read() {
                    Ok(locked) => {
                        tracing::info!("{} repositories are locked now", locked.len());
                        *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(locked);
                    }
                    Err(error) => failed(&error),
                }
                stamp = now;
            }
        });
        Ok(Self { current })
    }

    /// What is locked now.
    pub fn locked(&self) -> Arc<Locked> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn text(path: &Path) -> Result<(String, String)> {
    let text =
        fs::read_to_string(path).map_err(|cause| Error::Read { path: path.to_owned(), cause })?;
    Ok((path.display().to_string(), text))
}
