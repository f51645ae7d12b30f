//! The audit's lock, which is also its record: a ConfigMap beside CoreDNS' that has the Corefile from
//! before the audit, written before anything is changed. Only one audit can create it, and any run
//! after a crash finds in it what to restore.

use std::path::Path;

use cluster::objects::api::core::v1::ConfigMap;
use cluster::objects::serde_json::{from_value, json};
use cluster::{Cluster, Scope, own};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::find::{CoreDns, NAMESPACE};
use crate::{Error, Result};

/// The ConfigMap's name.
pub(crate) const NAME: &str = "gantry-audit";
/// The component of Gantry that made it, for its labels.
const PART: &str = "audit";
/// How long after its last renewal an audit on another machine counts as running: four renewals may
/// fail in a row (they are ten seconds apart). On the same machine the process is looked up instead.
const ALIVE: SignedDuration = SignedDuration::from_secs(45);

/// The lock of an audit. While it exists, no other audit begins.
#[derive(Debug)]
pub(crate) struct Lock {
    /// The ConfigMap as the API server has it.
    object: ConfigMap,
    /// Who holds it, and which ConfigMap is changed.
    pub(crate) entry: Entry,
    /// The Corefile from before the audit.
    pub(crate) before: Option<String>,
    /// The Corefile that the audit wrote; absent while nothing is changed.
    pub(crate) after: Option<String>,
}

/// Who holds the lock, and which ConfigMap is changed: the JSON under the key `audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Entry {
    host: String,
    pid: u32,
    since: Timestamp,
    renewed: Timestamp,
    /// The name of CoreDNS' ConfigMap.
    pub(crate) config_map: Option<String>,
    /// The key of the Corefile in it.
    pub(crate) key: Option<String>,
}

impl Lock {
    /// Takes the lock. [`Error::Busy`] where a running audit holds it; `None` where one holds it that was
    /// killed, and whose changes have to be undone first.
    pub(crate) async fn take(cluster: &Cluster, coredns: Option<&CoreDns>) -> Result<Option<Self>> {
        let now = Timestamp::now();
        let entry = Entry {
            host: host(),
            pid: std::process::id(),
            since: now,
            renewed: now,
            config_map: coredns.map(|coredns| coredns.config_map.clone()),
            key: coredns.map(|coredns| coredns.key.clone()),
        };
        let mut object: ConfigMap = ConfigMap::default();
        object.metadata.name = Some(NAME.to_owned());
        object.metadata.namespace = Some(NAMESPACE.to_owned());
        own(&mut object.metadata, PART);
        let before = coredns.map(|coredns| coredns.corefile.clone());
        let mut lock = Self { object, entry, before, after: None };
        lock.write_data()?;
        // Creating an object is atomic: of two audits one gets a conflict.
        match cluster.create(Scope::Namespace(NAMESPACE), &lock.object).await {
            Ok(object) => {
                lock.object = object;
                Ok(Some(lock))
            }
            Err(cluster::Error::Conflict { .. }) => match Self::read(cluster).await? {
                Some(other) if other.entry.is_alive() => Err(other.entry.busy()),
                _ => Ok(None),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The lock that is in the cluster, if there is one.
    pub(crate) async fn read(cluster: &Cluster) -> Result<Option<Self>> {
        let found = cluster.get::<ConfigMap>(Scope::Namespace(NAMESPACE), NAME).await?;
        let Some(object) = found else { return Ok(None) };
        let wrong = |reason: String| Error::Record { what: called(), reason };
        if !cluster::is_own(&object.metadata) {
            return Err(wrong("Gantry did not make it".to_owned()));
        }
        let text = |key: &str| object.data.as_ref().and_then(|data| data.get(key)).cloned();
        let entry = text("audit").ok_or_else(|| wrong("it has no key `audit`".to_owned()))?;
        let entry = serde_json::from_str(&entry).map_err(|cause| wrong(cause.to_string()))?;
        let (before, after) = (text("before"), text("after"));
        Ok(Some(Self { object, entry, before, after }))
    }

    /// Records the Corefile that CoreDNS will get, before it gets it.
    pub(crate) async fn will_change(&mut self, cluster: &Cluster, after: &str) -> Result<()> {
        self.after = Some(after.to_owned());
        self.write(cluster).await
    }

    /// Renews the lock: this audit is still running.
    pub(crate) async fn renew(&mut self, cluster: &Cluster) -> Result<()> {
        self.entry.renewed = Timestamp::now();
        self.write(cluster).await
    }

    /// Releases the lock. Returns whether it was there.
    pub(crate) async fn remove(cluster: &Cluster) -> Result<bool> {
        Ok(cluster.delete_own::<ConfigMap>(Scope::Namespace(NAMESPACE), NAME).await?)
    }

    /// Writes the object; a conflict means that somebody else changed it.
    async fn write(&mut self, cluster: &Cluster) -> Result<()> {
        self.write_data()?;
        self.object = cluster.replace(Scope::Namespace(NAMESPACE), &self.object).await?;
        Ok(())
    }

    fn write_data(&mut self) -> Result<()> {
        let wrong =
            |cause: serde_json::Error| Error::Record { what: called(), reason: cause.to_string() };
        let mut data = json!({"audit": serde_json::to_string(&self.entry).map_err(wrong)?});
        for (key, text) in [("before", &self.before), ("after", &self.after)] {
            if let Some(text) = text {
                data[key] = text.as_str().into();
            }
        }
        self.object.data = from_value(data).map_err(wrong)?;
        Ok(())
    }
}

impl Entry {
    /// Whether the audit that holds it may still be running.
    fn is_alive(&self) -> bool {
        // A process id means nothing on another machine, and machine names may be equal: a wrong `true`
        // only makes the user run `gantry audit restore`.
        if self.host == host() {
            return Path::new("/proc").join(self.pid.to_string()).exists();
        }
        Timestamp::now().duration_since(self.renewed) < ALIVE
    }

    fn busy(&self) -> Error {
        Error::Busy { host: self.host.clone(), pid: self.pid, since: self.since.to_string() }
    }
}

/// What errors call the lock's object.
pub(crate) fn called() -> String {
    format!("ConfigMap {NAMESPACE}/{NAME}")
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
