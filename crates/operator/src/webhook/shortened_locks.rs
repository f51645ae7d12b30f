//! Shortens locks to what the webhook needs: names, tags and digests, without layers, charts and
//! files. A complete lock lists every blob, which is too long for a ConfigMap.

use types::lock::Lock;

use crate::{Error, Result};

/// The most bytes of locks: the API server takes 1 MiB of data in a ConfigMap, and the site and the
/// receipts need some of it.
const MOST: usize = (1 << 20) - (16 << 10);

/// The lock without everything that no pod refers to.
pub(super) fn shorten_lock(lock: &Lock) -> Lock {
    let mut short = lock.clone();
    short.charts.clear();
    short.manifests.clear();
    short.files.clear();
    for image in &mut short.images {
        image.attached.clear();
        image.seen.clear();
        image.from = None;
        for manifest in &mut image.manifests {
            manifest.config = None;
            manifest.layers.clear();
        }
    }
    for model in &mut short.models {
        match model {
            types::lock::LockedModel::Hub(model) => model.files.clear(),
            types::lock::LockedModel::Ollama(model) => {
                model.manifest.config = None;
                model.manifest.layers.clear();
            }
            types::lock::LockedModel::Url(_) => {}
        }
    }
    short
}

/// The shortened locks as text, checked to fit into a ConfigMap.
pub(super) fn encode_shortened_locks(locks: &[Lock]) -> Result<Vec<String>> {
    let texts: Vec<String> =
        locks.iter().map(|lock| shorten_lock(lock).to_yaml()).collect::<types::Result<_>>()?;
    let bytes = texts.iter().map(String::len).sum();
    if bytes > MOST {
        return Err(Error::LongLock { bytes, most: MOST });
    }
    Ok(texts)
}
