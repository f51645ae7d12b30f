//! The audit's lock, which is also its record: a ConfigMap beside CoreDNS' that has the Corefile from
//! before the audit, written before anything is changed. Only one audit can create it, and any run
//! after a crash finds in it what to restore.

use std::path::Path;

use cluster::objects::api::core::v1::ConfigMap;
use cluster::objects::serde_json::{from_value, json};
use cluster::{Cluster, ObjectScope, mark_as_own};
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
pub(crate) struct AuditLock {
    /// The ConfigMap as the API server has it.
    object: ConfigMap,
    /// Who holds it, and which ConfigMap is changed.
    pub(crate) holder: AuditLockHolder,
    /// The Corefile from before the audit.
    pub(crate) before: Option<String>,
    /// The Corefile that the audit wrote; absent while nothing is changed.
    pub(crate) after: Option<String>,
}

/// Who holds the lock, and which ConfigMap is changed: the JSON under the key `audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuditLockHolder {
    host: String,
    pid: u32,
    since: Timestamp,
    renewed: Timestamp,
    /// The name of CoreDNS' ConfigMap.
    pub(crate) config_map: Option<String>,
    /// The key of the Corefile in it.
    pub(crate) key: Option<String>,
}

impl AuditLock {
    /// Takes the lock. [`Error::Busy`] where a running audit holds it; `None` where one holds it that was
    /// killed, and whose changes have to be undone first.
    pub(crate) async fn acquire(
        cluster: &Cluster,
        coredns: Option<&CoreDns>,
    ) -> Result<Option<Self>> {
        let now = Timestamp::now();
        let entry = AuditLockHolder {
            host: host_name(),
            pid: std::process::id(),
            since: now,
            renewed: now,
            config_map: coredns.map(|coredns| coredns.config_map.clone()),
            key: coredns.map(|coredns| coredns.key.clone()),
        };
        let mut object: ConfigMap = ConfigMap::default();
        object.metadata.name = Some(NAME.to_owned());
        object.metadata.namespace = Some(NAMESPACE.to_owned());
        mark_as_own(&mut object.metadata, PART);
        let before = coredns.map(|coredns| coredns.corefile.clone());
        let mut lock = Self { object, holder: entry, before, after: None };
        lock.fill_data()?;
        // Creating an object is atomic: of two audits one gets a conflict.
        match cluster.create_object(ObjectScope::Namespace(NAMESPACE), &lock.object).await {
            Ok(object) => {
                lock.object = object;
                Ok(Some(lock))
            }
            Err(cluster::Error::Conflict { .. }) => match Self::read_current(cluster).await? {
                Some(other) if other.holder.is_alive() => Err(other.holder.busy_error()),
                _ => Ok(None),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The lock that is in the cluster, if there is one.
    pub(crate) async fn read_current(cluster: &Cluster) -> Result<Option<Self>> {
        let found =
            cluster.get_object::<ConfigMap>(ObjectScope::Namespace(NAMESPACE), NAME).await?;
        let Some(object) = found else { return Ok(None) };
        if !cluster::is_own(&object.metadata) {
            return Err(record_error("Gantry did not make it"));
        }
        let text = |key: &str| object.data.as_ref().and_then(|data| data.get(key)).cloned();
        let entry = text("audit").ok_or_else(|| record_error("it has no key `audit`"))?;
        let entry = serde_json::from_str(&entry).map_err(record_error)?;
        let (before, after) = (text("before"), text("after"));
        Ok(Some(Self { object, holder: entry, before, after }))
    }

    /// Records the Corefile that CoreDNS will get, before it gets it.
    pub(crate) async fn write_planned_change(
        &mut self,
        cluster: &Cluster,
        after: &str,
    ) -> Result<()> {
        self.after = Some(after.to_owned());
        self.write_object(cluster).await
    }

    /// Renews the lock: this audit is still running.
    pub(crate) async fn renew(&mut self, cluster: &Cluster) -> Result<()> {
        self.holder.renewed = Timestamp::now();
        self.write_object(cluster).await
    }

    /// Releases the lock. Returns whether it was there.
    pub(crate) async fn release(cluster: &Cluster) -> Result<bool> {
        Ok(cluster.delete_own_object::<ConfigMap>(ObjectScope::Namespace(NAMESPACE), NAME).await?)
    }

    /// Writes the object; a conflict means that somebody else changed it.
    async fn write_object(&mut self, cluster: &Cluster) -> Result<()> {
        self.fill_data()?;
        self.object =
            cluster.replace_object(ObjectScope::Namespace(NAMESPACE), &self.object).await?;
        Ok(())
    }

    fn fill_data(&mut self) -> Result<()> {
        let mut data = json!({"audit": serde_json::to_string(&self.holder).map_err(record_error)?});
        for (key, text) in [("before", &self.before), ("after", &self.after)] {
            if let Some(text) = text {
                data[key] = text.as_str().into();
            }
        }
        self.object.data = from_value(data).map_err(record_error)?;
        Ok(())
    }
}

impl AuditLockHolder {
    /// Whether the audit that holds it may still be running.
    fn is_alive(&self) -> bool {
        // A process id means nothing on another machine, and machine names may be equal: a wrong `true`
        // only makes the user run `gantry audit restore`.
        if self.host == host_name() {
            return Path::new("/proc").join(self.pid.to_string()).exists();
        }
        Timestamp::now().duration_since(self.renewed) < ALIVE
    }

    fn busy_error(&self) -> Error {
        Error::Busy { host: self.host.clone(), pid: self.pid, since: self.since.to_string() }
    }
}

/// What errors call the lock's object.
pub(crate) fn lock_object_name() -> String {
    format!("ConfigMap {NAMESPACE}/{NAME}")
}

/// The error where the lock's object is not as an audit writes it.
fn record_error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Record { what: lock_object_name(), source: source.into() }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
