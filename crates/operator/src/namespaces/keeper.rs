//! The controller: a watch of namespaces, and a queue of those to write to. Every look repeats all of
//! the work, so that a lost event, a deleted object or a new password is mended by the next one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use cluster::objects::api::core::v1::{Namespace, Secret};
use cluster::{Cluster, ObjectScope, WatchedChange};
use deploy::release::{
    PullSecret, SiteNamespaceObjects, SiteObjects, SupportObject, SupportObjectStatus,
};
use tokio::sync::mpsc;
use types::site::{Site, site_folder};

use crate::{Error, Result};

/// The file with the CA beside the site file, in a pod: what `registry.ca` there names.
pub const SITE_CA: &str = "ca.pem";
/// How often all namespaces are written to again: for objects that somebody deleted, and for a password
/// that was changed.
const RESYNC: Duration = Duration::from_secs(60);
/// The pause before a namespace that could not be written to is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the objects of the site in its namespaces.
#[derive(Clone)]
pub struct NamespaceKeeper {
    /// The cluster.
    pub cluster: Cluster,
    /// The site file; it is read again for each pass.
    pub site: PathBuf,
    /// The namespace that has the site's pull secret, whose credential the others get.
    pub source: String,
}

impl NamespaceKeeper {
    /// Starts to keep the namespaces, in the background and without end.
    ///
    /// # Errors
    /// A site that cannot be read, or that selects no namespaces.
    pub fn start(self) -> Result<()> {
        if self.read_site()?.namespaces.is_none() {
            return Err(Error::NoNamespaces { path: self.site });
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let watching = self.clone();
        tokio::spawn(async move { watching.watch(&sender).await });
        tokio::spawn(async move { self.work(receiver).await });
        Ok(())
    }

    /// Puts the name of every namespace that exists or changes into the queue.
    async fn watch(&self, queue: &mpsc::UnboundedSender<Namespace>) {
        let visit = |change: WatchedChange<Namespace>| {
            if let WatchedChange::Present(namespace) = change {
                // It fails only when the worker has ended, and with it the process.
                let _ = queue.send(namespace);
            }
        };
        let mut visit = visit;
        loop {
            // Only the first list can fail, for a right that is missing or an API server that is away.
            let ended = self.cluster.watch_objects(ObjectScope::Cluster, "", &mut visit).await;
            let Err(error) = ended;
            tracing::warn!("cannot watch the namespaces, trying again: {error}");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Writes to the namespaces of the queue, and to all of them from time to time.
    async fn work(&self, mut queue: mpsc::UnboundedReceiver<Namespace>) {
        let mut known: BTreeSet<String> = BTreeSet::new();
        let mut failed: BTreeSet<String> = BTreeSet::new();
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            let mut due: BTreeSet<String> = BTreeSet::new();
            tokio::select! {
                namespace = queue.recv() => {
                    let Some(namespace) = namespace else { return };
                    due.extend(note_namespace(namespace, &mut known));
                    // A burst, as at the start, is one pass.
                    while let Ok(namespace) = queue.try_recv() {
                        due.extend(note_namespace(namespace, &mut known));
                    }
                }
                _ = resync.tick() => due.clone_from(&known),
                () = tokio::time::sleep(RETRY), if !failed.is_empty() => {
                    due = std::mem::take(&mut failed);
                }
            }
            if due.is_empty() {
                continue;
            }
            let objects = match self.read_objects().await {
                Ok(objects) => objects,
                Err(error) => {
                    tracing::warn!("cannot prepare the site's namespaces yet: {error}");
                    failed.extend(due);
                    continue;
                }
            };
            for name in due {
                match self.keep_namespace(&objects, &name).await {
                    Ok(KeptNamespace::Left) => {
                        known.remove(&name);
                    }
                    Ok(KeptNamespace::Kept(done)) => log_changes(&done),
                    Err(error) => {
                        tracing::warn!("namespace {name}: {error}");
                        failed.insert(name);
                    }
                }
            }
        }
    }

    /// Writes to one namespace, if the site selects it as it is now.
    async fn keep_namespace(
        &self,
        objects: &SiteNamespaceObjects,
        name: &str,
    ) -> Result<KeptNamespace> {
        // Read again: what the watch said may be old by now.
        let found = self.cluster.get_object::<Namespace>(ObjectScope::Cluster, name).await?;
        let Some(found) = found else { return Ok(KeptNamespace::Left) };
        if !objects.is_selected(&found) {
            return Ok(KeptNamespace::Kept(vec![]));
        }
        Ok(KeptNamespace::Kept(objects.apply_to_namespace(&self.cluster, name).await?))
    }

    fn read_site(&self) -> Result<Site> {
        let shown = self.site.display().to_string();
        let text = std::fs::read_to_string(&self.site)
            .map_err(|source| Error::Read { path: self.site.clone(), source })?;
        Ok(Site::parse(&shown, &text)?)
    }

    /// What the namespaces get now: by the site file, and by the pull secret of the source namespace.
    async fn read_objects(&self) -> Result<SiteNamespaceObjects> {
        let site = self.read_site()?;
        let registry = site.registry.with_paths_below(site_folder(&self.site));
        let pull_secret = match &site.registry.pull_secret {
            None => None,
            Some(name) => {
                let scope = ObjectScope::Namespace(&self.source);
                let secret = self.cluster.get_object::<Secret>(scope, name).await?;
                let missing =
                    || Error::NoPullSecret { name: name.clone(), namespace: self.source.clone() };
                let host = site.registry.parse_prefix()?.registry().to_owned();
                let found = PullSecret::select_credential(&secret.ok_or_else(missing)?, &host)?;
                Some(found.ok_or_else(missing)?)
            }
        };
        let objects = SiteObjects::with_pull_secret(&site, &registry, pull_secret)?;
        Ok(SiteNamespaceObjects::of_site(&site, objects)?)
    }
}

/// Notes that a namespace exists. Returns its name, unless it is being deleted.
fn note_namespace(namespace: Namespace, known: &mut BTreeSet<String>) -> Option<String> {
    let metadata = namespace.metadata;
    let name = metadata.name.filter(|_| metadata.deletion_timestamp.is_none())?;
    known.insert(name.clone());
    Some(name)
}

/// What became of a namespace.
enum KeptNamespace {
    /// It has what it should have; these objects were looked at.
    Kept(Vec<SupportObject>),
    /// It does not exist any more.
    Left,
}

fn log_changes(done: &[SupportObject]) {
    for object in done {
        match object.outcome {
            SupportObjectStatus::Created => tracing::info!("created {}", object.object),
            SupportObjectStatus::Changed => tracing::info!("changed {}", object.object),
            SupportObjectStatus::Same | SupportObjectStatus::Kept => {}
        }
    }
}
