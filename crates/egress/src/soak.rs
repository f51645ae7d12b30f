//! Runs an audit in the cluster for a while ("soak"): starts the helpers, makes CoreDNS forward to the
//! sink, listens, and undoes every change, whatever happened in between.
//!
//! ```text
//! check     find CoreDNS, compute the changed Corefile          nothing is changed yet
//! lock      ConfigMap with the original Corefile                from here on, restore_cluster can undo
//! start     namespace, watchers, sink; wait until they report
//! divert    write the changed Corefile; wait until each CoreDNS pod forwards to the sink
//! soak      listen for the time that was asked for, run the load meanwhile
//! end       restore the Corefile; wait until CoreDNS forwards no more; delete namespace and lock
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::objects::api::core::v1::Pod;
use cluster::{Cluster, ObjectScope};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster_network::ClusterNetwork;
use crate::corefile::{Corefile, SinkRedirection, redirect_to_sink};
use crate::dns::{self, AuditLock, CoreDns};
use crate::evidence::{AuditEvidence, ExerciseResult, Observer, ObserverStatus};
use crate::helper_namespace::NAMESPACE;
use crate::helpers::{self, AuditHelpers};
use crate::observer::{ObservationMethod, ObserverMessage};
use crate::sink::DnsSink;
use crate::soak_options::needs_helpers;
pub use crate::soak_options::{
    ConnectionObservation, NameObservation, SoakOptions, required_rights,
};
use crate::{Error, Result};

/// The name of the sink among the observers; the others have names of nodes.
const NAMES: &str = "names";
/// How long CoreDNS may take to forward to the sink: the kubelet updates the mounted file within a minute
/// or so, and CoreDNS looks for a change every 30 s.
const TAKE_UP: Duration = Duration::from_secs(150);
/// How long to wait until CoreDNS forwards no more, before the sink is removed. Questions to a sink that
/// is gone would time out for pods, so the sink stays as long as it is asked.
const TAKE_BACK: Duration = Duration::from_secs(60);
/// How long helpers may take until they report that they have started.
const START: Duration = Duration::from_secs(60);
/// How long the last reports may take through the pods' logs.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often the lock is renewed, and the user gets a line of progress.
const BEAT: Duration = Duration::from_secs(10);
/// How often a condition is checked that is waited for.
const PERIOD: Duration = Duration::from_millis(200);

/// Gets the lines of progress for the user.
pub type SoakNotifier<'a> = &'a (dyn Fn(&str) + Sync);

/// Undoes the changes of an audit that was killed. Returns what was done, in words; nothing when there
/// was nothing to undo.
pub async fn restore_cluster(cluster: &Cluster) -> Result<Vec<String>> {
    let mut done = Vec::new();
    if let Some(lock) = AuditLock::read_current(cluster).await?
        && dns::restore_corefile(cluster, &lock).await?
    {
        done.push("CoreDNS' Corefile is restored".to_owned());
    }
    if helpers::remove_helpers(cluster).await? {
        done.push(format!("Namespace {NAMESPACE} is deleted"));
    }
    // The lock goes last: as long as it is there, the next run knows what to restore.
    if AuditLock::release(cluster).await? {
        done.push(format!("ConfigMap kube-system/{} is deleted", dns::RECORD_NAME));
    }
    Ok(done)
}

/// Runs a soak and returns what was seen. `load` is run meanwhile, so that workloads do their work;
/// `stop` ends it early. All changes are undone before this returns, also after a failure.
pub async fn run_soak(
    cluster: &Cluster,
    plan: &SoakOptions,
    around: &ClusterNetwork,
    load: impl Future<Output = Vec<ExerciseResult>>,
    stop: impl Future<Output = ()>,
    say: SoakNotifier<'_>,
) -> Result<AuditEvidence> {
    let coredns = match plan.names {
        NameObservation::NotSeen => None,
        NameObservation::Pod | NameObservation::Local(_) => Some(dns::find_coredns(cluster).await?),
    };
    // A Corefile that cannot be changed is an error before anything is changed. The sink's address is
    // not known yet; any will do (192.0.2.1 is reserved for examples).
    if let Some(coredns) = &coredns {
        let somewhere = SocketAddr::from(([192, 0, 2, 1], crate::sink::PORT));
        redirected_corefile(coredns, somewhere, around)?;
    }
    let lock = match AuditLock::acquire(cluster, coredns.as_ref()).await? {
        Some(lock) => lock,
        None => {
            for done in restore_cluster(cluster).await? {
                say(&format!("undoing the changes of an earlier audit that was killed: {done}"));
            }
            let lock = AuditLock::acquire(cluster, coredns.as_ref()).await?;
            lock.ok_or_else(|| Error::Record {
                what: format!("ConfigMap kube-system/{}", dns::RECORD_NAME),
                source: "it was deleted and is there again: another audit may be starting".into(),
            })?
        }
    };
    let run = SoakRun {
        cluster,
        options: plan,
        network: around,
        coredns,
        lock: tokio::sync::Mutex::new(lock),
        state: Mutex::new(SoakState::default()),
        notify: say,
    };
    let outcome = tokio::select! {
        outcome = run.run_with_pod_watch(load) => outcome,
        () = stop => {
            say("stopped; undoing all changes …");
            run.lock_state().evidence.gaps.push("the audit was stopped before its time was over".to_owned());
            run.end_soak().await
        }
    };
    // In every case: nothing stays in the cluster.
    let restored = restore_cluster(cluster).await;
    if let Err(error) = &restored {
        say(&format!("not all changes could be undone: {error}. Run again: gantry audit restore"));
    }
    outcome?;
    restored?;
    Ok(run.into_evidence())
}

/// The Corefile that forwards foreign names to a sink.
fn redirected_corefile(
    coredns: &CoreDns,
    sink: SocketAddr,
    around: &ClusterNetwork,
) -> Result<String> {
    let kept_in = format!("ConfigMap {}/{}", coredns.namespace, dns::RECORD_NAME);
    let wish = SinkRedirection { sink, inside: around.perimeter.names(), kept_in: &kept_in };
    Ok(redirect_to_sink(&Corefile::parse(&coredns.corefile)?, &wish)?.text)
}

/// What was observed so far. It is shared by the futures that read the observers' messages.
#[derive(Default)]
struct SoakState {
    evidence: AuditEvidence,
    /// The state of each observer, by `names` or the node.
    observers: BTreeMap<String, ObserverStatus>,
}

/// A soak that is running.
struct SoakRun<'a> {
    cluster: &'a Cluster,
    options: &'a SoakOptions,
    network: &'a ClusterNetwork,
    coredns: Option<CoreDns>,
    lock: tokio::sync::Mutex<AuditLock>,
    state: Mutex<SoakState>,
    notify: SoakNotifier<'a>,
}

impl SoakRun<'_> {
    /// The soak, with the pods watched all the time: an address means a pod only at a moment.
    async fn run_with_pod_watch(
        &self,
        load: impl Future<Output = Vec<ExerciseResult>>,
    ) -> Result<()> {
        let watch = self.cluster.watch_objects::<Pod>(ObjectScope::Cluster, "", |change| {
            self.lock_state().evidence.book.apply_change(&change);
        });
        // The watch ends only with an error it cannot retry; then attempts could not be attributed.
        tokio::select! {
            error = watch => Err(error.err().map_or(Error::Report { source: "the watch ended".into() }, Error::from)),
            done = self.run_with_helpers(load) => done,
        }
    }

    /// Starts the observers, then listens to them while the soak runs. The first future that ends, ends
    /// all: only the soak itself does, or a failure.
    async fn run_with_helpers(
        &self,
        load: impl Future<Output = Vec<ExerciseResult>>,
    ) -> Result<()> {
        let helpers = AuditHelpers {
            image: self.options.image.clone(),
            pull_secret: self.options.pull_secret.clone(),
            length: self.options.length + TAKE_UP + START,
        };
        let is_watched = self.options.connections == ConnectionObservation::Seen;
        if needs_helpers(self.options) {
            (self.notify)("starting helper pods …");
            let security = if is_watched { "privileged" } else { "restricted" };
            helpers.create_namespace(self.cluster, security).await?;
        }
        // CoreDNS' pods by their own addresses: behind the service's address only one of them would be
        // tested at a time.
        let servers: Vec<SocketAddr> =
            self.coredns.iter().flat_map(|dns| dns.pods.iter().map(|(_, at)| *at)).collect();
        let mut pods = BTreeMap::new();
        if is_watched {
            for node in self.network.nodes.keys() {
                let name =
                    Box::pin(helpers.start_watcher(self.cluster, node, &self.network.perimeter))
                        .await?;
                pods.insert(node.clone(), name);
            }
        }
        // A sink in this process hands its messages over through a list, as pods do through their logs.
        let mut here = None;
        let mut sink = match self.options.names {
            NameObservation::NotSeen => None,
            NameObservation::Pod => {
                Box::pin(helpers.start_sink(self.cluster, &servers)).await?;
                pods.insert(NAMES.to_owned(), helpers::SINK.to_owned());
                None
            }
            NameObservation::Local(address) => {
                let lines = Arc::new(Mutex::new(Vec::new()));
                let told = lines.clone();
                let tell = Arc::new(move |line| lock_mutex(&told).push(line));
                let sink = DnsSink::bind(address, &servers, tell).await?;
                let address = sink.address()?;
                here = Some((sink, lines));
                Some(address)
            }
        };
        let names: Vec<&str> = pods.values().map(String::as_str).collect();
        Box::pin(helpers.wait_until_running(self.cluster, &names)).await?;
        if self.options.names == NameObservation::Pod {
            sink = Some(helpers::read_sink_address(self.cluster).await?);
        }
        let mut places: Vec<String> = pods.keys().cloned().collect();
        let mut listening: FuturesUnordered<_> =
            pods.iter().map(|(place, pod)| self.follow_helper(place, pod)).collect();
        let in_pods = async {
            // Without pods the list is empty: that must not end the soak.
            while listening.next().await.is_some() {}
            std::future::pending::<()>().await;
        };
        let in_process = async {
            if let Some((sink, lines)) = here {
                tokio::join!(sink.serve(std::future::pending()), self.drain_local_messages(&lines));
            }
            std::future::pending::<()>().await;
        };
        if matches!(self.options.names, NameObservation::Local(_)) {
            places.push(NAMES.to_owned());
        }
        tokio::select! {
            () = in_pods => Ok(()),
            () = in_process => Ok(()),
            () = self.renew_lock() => Ok(()),
            done = self.soak_for_length(sink, &places, load) => done,
        }
    }

    /// Waits for the observers, diverts names, listens for the wanted time, and ends.
    async fn soak_for_length(
        &self,
        sink: Option<SocketAddr>,
        places: &[String],
        load: impl Future<Output = Vec<ExerciseResult>>,
    ) -> Result<()> {
        let are_ready = || {
            let heard = self.lock_state();
            let is_ready =
                |place| heard.observers.get(place).is_some_and(|told| told.source.is_some());
            places.iter().all(is_ready)
        };
        // An observer that does not report in time becomes a gap at the end, no failure: the others see.
        self.wait_until(START, are_ready).await;
        if let (Some(sink), Some(coredns)) = (sink, &self.coredns) {
            self.divert_names(sink, coredns).await?;
        }
        let length = self.options.length;
        (self.notify)(&format!("listening for {length:?} …"));
        // From here on silence means something; what was seen before is kept as well.
        self.lock_state().evidence.from = Some(Timestamp::now());
        let (exercised, ()) = tokio::join!(load, sleep(length));
        self.lock_state().evidence.exercised = exercised;
        sleep(LAST_WORDS).await;
        self.end_soak().await?;
        // The sink is removed only when CoreDNS does not ask it any more.
        if self.options.names == NameObservation::Pod {
            self.wait_until(TAKE_BACK, || self.count_forwarding_servers() == 0).await;
        }
        Ok(())
    }

    /// Makes CoreDNS forward to the sink, and waits until all of its pods do. Those that do not become a
    /// gap in the evidence.
    async fn divert_names(&self, sink: SocketAddr, coredns: &CoreDns) -> Result<()> {
        let text = redirected_corefile(coredns, sink, self.network)?;
        (self.notify)("making CoreDNS forward foreign names to the sink …");
        dns::switch_corefile(self.cluster, coredns, &mut *self.lock.lock().await, &text).await?;
        let wanted = coredns.pods.len();
        if !self.wait_until(TAKE_UP, || self.count_forwarding_servers() >= wanted).await {
            let gap = format!(
                "{} of {wanted} CoreDNS pods did not forward to the sink within {} s: names that they \
                 were asked for may be missing",
                wanted - self.count_forwarding_servers().min(wanted),
                TAKE_UP.as_secs()
            );
            self.lock_state().evidence.gaps.push(gap);
        }
        if coredns.is_behind_node_local {
            let gap = "node-local-dns answers pods on their nodes and forwards foreign names itself, \
                       so that the sink does not see them; its own connections are seen";
            self.lock_state().evidence.gaps.push(gap.to_owned());
        }
        Ok(())
    }

    /// Ends the soak: notes how each observer saw, and restores the Corefile.
    async fn end_soak(&self) -> Result<()> {
        let lock = self.lock.lock().await;
        self.lock_state().evidence.to = Some(Timestamp::now());
        self.record_observers();
        // Absent while the Corefile was not changed: without names, or when stopped early.
        if lock.after.is_none() {
            return Ok(());
        }
        (self.notify)("restoring CoreDNS' Corefile …");
        dns::restore_corefile(self.cluster, &lock).await?;
        Ok(())
    }

    /// Notes in the evidence how each observer saw, and what could not be seen.
    fn record_observers(&self) {
        let mut heard = self.lock_state();
        let SoakState { evidence, observers: told } = &mut *heard;
        let mut places: Vec<&str> = vec![];
        if self.options.names != NameObservation::NotSeen {
            places.push(NAMES);
        }
        if self.options.connections == ConnectionObservation::Seen {
            places.extend(self.network.nodes.keys().map(String::as_str));
        }
        for place in places {
            let unheard = ObserverStatus::default();
            let told = told.get(place).unwrap_or(&unheard);
            let (source, reason) = told
                .source
                .clone()
                .unwrap_or((ObservationMethod::None, Some("the helper did not report".into())));
            if source == ObservationMethod::None {
                let reason = reason.clone().unwrap_or_default();
                evidence.gaps.push(format!("{place}: nothing could be observed: {reason}"));
            }
            if told.left_out > 0 {
                evidence.gaps.push(format!(
                    "{place}: {} sightings were not recorded, since there were too many different ones",
                    told.left_out
                ));
            }
            let lost = told.servers.iter().filter(|(_, is_there)| !**is_there);
            for (server, _) in lost {
                evidence.gaps.push(format!(
                    "CoreDNS at {server} stopped forwarding to the sink before the audit ended"
                ));
            }
            evidence.sources.push(Observer { place: place.to_owned(), source, reason });
        }
    }

    /// Follows a helper's log; never ends.
    async fn follow_helper(&self, place: &str, pod: &str) {
        loop {
            let heard = self.cluster.follow_log(NAMESPACE, pod, |line| {
                ObserverMessage::parse_log(line).for_each(|line| self.record_message(place, line));
            });
            let _ = heard.await;
            // The connection broke, or the log was rotated: it is read again from its start. Messages have
            // totals, so reading one twice changes nothing.
            sleep(PERIOD).await;
        }
    }

    /// Records the messages of the sink in this process; never ends.
    async fn drain_local_messages(&self, lines: &Mutex<Vec<ObserverMessage>>) {
        loop {
            let told = std::mem::take(&mut *lock_mutex(lines));
            for line in told {
                self.record_message(NAMES, line);
            }
            sleep(PERIOD).await;
        }
    }

    /// Records a message of an observer.
    fn record_message(&self, place: &str, line: ObserverMessage) {
        let mut heard = self.lock_state();
        let SoakState { evidence, observers: told } = &mut *heard;
        evidence.record_message(place, told.entry(place.to_owned()).or_default(), line);
    }

    /// How many CoreDNS pods forward to the sink now.
    fn count_forwarding_servers(&self) -> usize {
        let heard = self.lock_state();
        let servers = heard.observers.get(NAMES).map(|told| &told.servers);
        servers.into_iter().flatten().filter(|(_, is_there)| **is_there).count()
    }

    /// Renews the lock and reports progress; never ends.
    async fn renew_lock(&self) {
        let start = Instant::now();
        loop {
            sleep(BEAT).await;
            // A failure is ignored: the worst is that another audit takes this one for dead, and then finds
            // the Corefile changed.
            let _ = timeout(BEAT, async { self.lock.lock().await.renew(self.cluster).await }).await;
            let heard = self.lock_state();
            let (names, packets) = (heard.evidence.queries.len(), heard.evidence.attempts.len());
            let seconds = start.elapsed().as_secs();
            (self.notify)(&format!(
                "{seconds} s: {names} DNS questions and {packets} connections to outside so far"
            ));
        }
    }

    /// Waits until a condition holds, for at most `most`. Returns whether it does.
    async fn wait_until(&self, most: Duration, is_so: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + most;
        while !is_so() {
            if Instant::now() > deadline {
                return false;
            }
            sleep(PERIOD).await;
        }
        true
    }

    fn lock_state(&self) -> MutexGuard<'_, SoakState> {
        lock_mutex(&self.state)
    }

    fn into_evidence(self) -> AuditEvidence {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).evidence
    }
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
