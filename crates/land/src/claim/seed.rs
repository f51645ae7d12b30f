//! Runs an order in a seeder pod: starts the pod or takes over the one that is there, follows the
//! order, resumes when the pod or the connection breaks, and removes the pod in the end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::objects::api::apps::v1::DaemonSet;
use cluster::objects::api::core::v1::Pod;
use cluster::{Cluster, Right, Scope, Until};
use store::Source;
use store::progress::Progress;
use tokio::time::sleep;

use super::error::{Error, Result};
use super::order::{Event, Order};
use super::pod::{self, Image, Use};
use super::talk::{self, Tally};
use super::volume::Volume;
use types::destination::Claim;

/// Breaks in a row without any progress in between, after which the push fails. A node that restarts or
/// an API server that is rolled out breaks a connection once or twice.
const MOST_BREAKS: u32 = 5;
/// The wait after a break, and between two tries at a pod that another push uses.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs orders in pods that mount volumes, and remembers what it started.
pub struct Seeder {
    cluster: Cluster,
    image: Image,
    progress: Arc<dyn Progress>,
    /// How long a pod may take until it runs.
    timeout: Duration,
    /// What this process started and has to remove.
    held: Mutex<Vec<Held>>,
}

impl Seeder {
    /// A seeder whose pods run this image and have to run within `timeout`.
    pub fn new(
        cluster: Cluster,
        image: Image,
        timeout: Duration,
        progress: Arc<dyn Progress>,
    ) -> Self {
        Self { cluster, image, progress, timeout, held: Mutex::default() }
    }

    /// The rights that work on these claims needs, with those to make claims where `creates` says so.
    pub fn rights(paths: &[Claim], creates: Creates) -> Vec<Right> {
        let mut rights = Vec::new();
        for path in paths {
            let mut need = |verb: &str, resource: &str| {
                let right = Right::new(verb, "", resource).in_namespace(&path.namespace);
                if !rights.contains(&right) {
                    rights.push(right);
                }
            };
            need("get", "persistentvolumeclaims");
            if creates == Creates::Claims {
                need("create", "persistentvolumeclaims");
            }
            for verb in ["get", "list", "create", "delete"] {
                need(verb, "pods");
            }
            // Over WebSockets it is a GET; from Kubernetes 1.35 on, create is asked for as well.
            need("get", "pods/exec");
            need("create", "pods/exec");
        }
        if creates == Creates::Claims {
            rights.push(Right::new("list", "storage.k8s.io", "storageclasses"));
        }
        rights
    }

    /// Runs an order in a pod that mounts the claim (which is made first where it has to be), and
    /// returns the last event. `source` has the blobs that the pod may ask this process for.
    pub async fn work(
        &self,
        volume: &Volume,
        usage: Use,
        order: &Order,
        source: Option<Arc<dyn Source>>,
    ) -> Result<Event> {
        let namespace = &volume.path.namespace;
        if volume.make(&self.cluster).await? {
            self.progress.note(&format!("created {}", volume.path));
        }
        let pod = pod::pod(&self.cluster, volume, &self.image, usage).await?;
        let start = async || self.start(volume, &pod).await;
        let what = volume.path.to_string();
        let mount = Claim { folder: String::new(), ..volume.path.clone() }.to_string();
        self.through_breaks(namespace, (&what, &mount), order, source, start).await
    }

    /// Runs an order, and starts it again after a break until it is done. `start` starts the pod, or
    /// finds the one that runs, and gives its name; `what` and `mount` name the target and the volume
    /// in messages. The pod keeps what it wrote, so each new start resumes.
    pub(super) async fn through_breaks(
        &self,
        namespace: &str,
        (what, mount): (&str, &str),
        order: &Order,
        source: Option<Arc<dyn Source>>,
        start: impl AsyncFn() -> Result<String>,
    ) -> Result<Event> {
        let mut tally = Tally::new(Arc::clone(&self.progress));
        let (mut breaks, mut waits) = (0, 0_u32);
        loop {
            let name = match start().await {
                // Another push made or removed the pod between our look at it and our request.
                Err(Error::Cluster(
                    cluster::Error::Conflict { .. } | cluster::Error::Missing { .. },
                )) if breaks < MOST_BREAKS => {
                    breaks += 1;
                    sleep(PAUSE).await;
                    continue;
                }
                started => started?,
            };
            let before = tally.done();
            let talk = talk::Talk { cluster: &self.cluster, namespace, pod: &name, what, mount };
            let began = || self.hold(Held::Pod(namespace.to_owned(), name.clone()));
            let outcome = talk.run(order, source.clone(), &mut tally, began).await?;
            match outcome {
                talk::Outcome::Event(event) => return Ok(event),
                talk::Outcome::Busy => {
                    if waits == 0 {
                        let note =
                            format!("another push writes to {what}: waiting until it has finished");
                        self.progress.note(&note);
                    }
                    waits = waits.saturating_add(1);
                    // The pod is the other push's: it must not be removed when this one is stopped.
                    self.let_go(&Held::Pod(namespace.to_owned(), name));
                }
                talk::Outcome::Broken(why) => {
                    // A break after progress is the first of a new row: a long push over a poor line may
                    // break often.
                    breaks = if tally.done() > before { 1 } else { breaks + 1 };
                    if breaks >= MOST_BREAKS {
                        return Err(Error::Broken { what: what.to_owned(), why });
                    }
                    self.progress.note(&format!("{what}: {why}; resuming"));
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Removes the pods and DaemonSets that this process started. It has to be called in every case,
    /// also after a failure or Ctrl-C.
    pub async fn release(&self) -> Result<()> {
        let held = std::mem::take(&mut *self.held());
        for held in held {
            match held {
                Held::Pod(namespace, name) => self.cluster.remove_pod(&namespace, &name).await?,
                Held::DaemonSet(namespace, name) => {
                    let scope = Scope::Namespace(&namespace);
                    self.cluster.delete_own::<DaemonSet>(scope, &name).await?;
                }
            }
        }
        Ok(())
    }

    /// Starts the pod of a claim, or finds the one that is there, waits until it runs, and returns its
    /// name. When it does not start, the error also says what is wrong with the claim.
    async fn start(&self, volume: &Volume, pod: &Pod) -> Result<String> {
        let namespace = &volume.path.namespace;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let scope = Scope::Namespace(namespace);
        let present = self.cluster.get::<Pod>(scope, &name).await?;
        match &present {
            // A pod that another version of Gantry left: its protocol may be another one.
            Some(present) if cluster::is_own(&present.metadata) && image(present) != image(pod) => {
                self.cluster.remove_pod(namespace, &name).await?;
                self.hold(Held::Pod(namespace.clone(), name.clone()));
            }
            // Somebody else's: it is used, and its owner removes it.
            Some(_) => {}
            None => self.hold(Held::Pod(namespace.clone(), name.clone())),
        }
        self.cluster.start_pod(namespace, pod).await?;
        let running = self.cluster.wait_pod(namespace, &name, Until::Running, self.timeout).await;
        match running {
            Ok(_) => Ok(name),
            Err(cluster::Error::NotReady { what, why, next }) => {
                let why = match Volume::why(&self.cluster, &volume.path).await {
                    Some(claim) => format!("{why}; {claim}"),
                    None => why,
                };
                Err(cluster::Error::NotReady { what, why, next }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Remembers something that has to be removed in the end.
    pub(super) fn hold(&self, started: Held) {
        let mut held = self.held();
        if !held.contains(&started) {
            held.push(started);
        }
    }

    /// Forgets a pod that turned out to be another push's.
    fn let_go(&self, pod: &Held) {
        self.held().retain(|held| held != pod);
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that this process started: its namespace and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    Pod(String, String),
    DaemonSet(String, String),
}

/// Whether claims that do not exist are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creates {
    /// They have to exist.
    Nothing,
    /// They are made when they do not exist.
    Claims,
}

fn image(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.containers.first()?.image.as_deref()
}
