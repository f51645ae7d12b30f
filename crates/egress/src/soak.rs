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
use cluster::{Cluster, Right, Scope};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};

use crate::corefile::{Corefile, Wish, edit};
use crate::dns::{self, CoreDns, Lock};
use crate::evidence::{Evidence, Exercised, Seeing, Told};
use crate::helpers::{self, Helpers, NAMESPACE};
use crate::line::{Line, Source};
use crate::sink::Sink;
use crate::surroundings::Surroundings;
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

/// How DNS names are observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// By a sink in a pod.
    Pod,
    /// By a sink in this process, at an address that pods can reach.
    Here(SocketAddr),
    /// Not at all.
    NotSeen,
}

/// How connections are observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// By a watcher on every node.
    Seen,
    /// Not at all.
    NotSeen,
}

/// The settings of a soak.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How DNS names are observed.
    pub names: Names,
    /// How connections are observed.
    pub connections: Connections,
    /// The reference of Gantry's own image, as nodes pull it.
    pub image: String,
    /// A pull secret for it: its namespace and its name.
    pub pull_secret: Option<(String, String)>,
    /// How long to listen.
    pub length: Duration,
}

/// Gets the lines of progress for the user.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// The rights that a soak needs, to be checked before anything is changed.
pub fn rights(plan: &Plan) -> Vec<Right> {
    let system =
        |verb: &str, resource: &str| Right::new(verb, "", resource).in_namespace("kube-system");
    let mut rights: Vec<Right> = ["list", "watch"].map(|verb| Right::new(verb, "", "pods")).into();
    rights.extend(["get", "create", "update", "delete"].map(|verb| system(verb, "configmaps")));
    if needs_helpers(plan) {
        let own =
            |verb: &str, resource: &str| Right::new(verb, "", resource).in_namespace(NAMESPACE);
        rights.extend(["get", "patch", "delete"].map(|verb| Right::new(verb, "", "namespaces")));
        rights.extend(["get", "create", "delete"].map(|verb| own(verb, "pods")));
        rights.push(own("get", "pods/log"));
        if let Some((namespace, _)) = &plan.pull_secret {
            rights.push(Right::new("get", "", "secrets").in_namespace(namespace));
            rights.push(own("patch", "secrets"));
        }
    }
    if plan.names != Names::NotSeen {
        rights.push(system("patch", "pods"));
    }
    rights
}

/// Undoes the changes of an audit that was killed. Returns what was done, in words; nothing when there
/// was nothing to undo.
pub async fn restore(cluster: &Cluster) -> Result<Vec<String>> {
    let mut done = Vec::new();
    if let Some(lock) = Lock::read(cluster).await?
        && dns::put_back(cluster, &lock).await?
    {
        done.push("CoreDNS' Corefile is restored".to_owned());
    }
    if helpers::remove(cluster).await? {
        done.push(format!("Namespace {NAMESPACE} is deleted"));
    }
    // The lock goes last: as long as it is there, the next run knows what to restore.
    if Lock::remove(cluster).await? {
        done.push(format!("ConfigMap kube-system/{} is deleted", dns::RECORD_NAME));
    }
    Ok(done)
}

/// Runs a soak and returns what was seen. `load` is run meanwhile, so that workloads do their work;
/// `stop` ends it early. All changes are undone before this returns, also after a failure.
pub async fn soak(
    cluster: &Cluster,
    plan: &Plan,
    around: &Surroundings,
    load: impl Future<Output = Vec<Exercised>>,
    stop: impl Future<Output = ()>,
    say: Say<'_>,
) -> Result<Evidence> {
    let coredns = match plan.names {
        Names::NotSeen => None,
        Names::Pod | Names::Here(_) => Some(dns::find(cluster).await?),
    };
    // A Corefile that cannot be changed is an error before anything is changed. The sink's address is
    // not known yet; any will do (192.0.2.1 is reserved for examples).
    if let Some(coredns) = &coredns {
        let somewhere = SocketAddr::from(([192, 0, 2, 1], crate::sink::PORT));
        changed(coredns, somewhere, around)?;
    }
    let lock = match Lock::take(cluster, coredns.as_ref()).await? {
        Some(lock) => lock,
        None => {
            for done in restore(cluster).await? {
                say(&format!("undoing the changes of an earlier audit that was killed: {done}"));
            }
            let lock = Lock::take(cluster, coredns.as_ref()).await?;
            lock.ok_or_else(|| Error::Record {
                what: format!("ConfigMap kube-system/{}", dns::RECORD_NAME),
                reason: "it was deleted and is there again: another audit may be starting"
                    .to_owned(),
            })?
        }
    };
    let run = Run {
        cluster,
        plan,
        around,
        coredns,
        lock: tokio::sync::Mutex::new(lock),
        heard: Mutex::new(Heard::default()),
        say,
    };
    let outcome = tokio::select! {
        outcome = run.whole(load) => outcome,
        () = stop => {
            say("stopped; undoing all changes …");
            run.heard().evidence.gaps.push("the audit was stopped before its time was over".to_owned());
            run.end().await
        }
    };
    // In every case: nothing stays in the cluster.
    let restored = restore(cluster).await;
    if let Err(error) = &restored {
        say(&format!("not all changes could be undone: {error}. Run again: gantry audit restore"));
    }
    outcome?;
    restored?;
    Ok(run.evidence())
}

fn needs_helpers(plan: &Plan) -> bool {
    plan.names == Names::Pod || plan.connections == Connections::Seen
}

/// The Corefile that forwards foreign names to a sink.
fn changed(coredns: &CoreDns, sink: SocketAddr, around: &Surroundings) -> Result<String> {
    let kept_in = format!("ConfigMap {}/{}", coredns.namespace, dns::RECORD_NAME);
    let wish = Wish { sink, inside: around.inside.names(), kept_in: &kept_in };
    Ok(edit(&Corefile::parse(&coredns.corefile)?, &wish)?.text)
}

/// What was observed so far. It is shared by the futures that read the observers' messages.
#[derive(Default)]
struct Heard {
    evidence: Evidence,
    /// The state of each observer, by `names` or the node.
    told: BTreeMap<String, Told>,
}

/// A soak that is running.
struct Run<'a> {
    cluster: &'a Cluster,
    plan: &'a Plan,
    around: &'a Surroundings,
    coredns: Option<CoreDns>,
    lock: tokio::sync::Mutex<Lock>,
    heard: Mutex<Heard>,
    say: Say<'a>,
}

impl Run<'_> {
    /// The soak, with the pods watched all the time: an address means a pod only at a moment.
    async fn whole(&self, load: impl Future<Output = Vec<Exercised>>) -> Result<()> {
        let watch = self.cluster.watch::<Pod>(Scope::Cluster, "", |change| {
            self.heard().evidence.book.note(&change);
        });
        // The watch ends only with an error it cannot retry; then attempts could not be attributed.
        tokio::select! {
            error = watch => Err(error.err().map_or(Error::Report { cause: "the watch ended".into() }, Error::from)),
            done = self.with_helpers(load) => done,
        }
    }

    /// Starts the observers, then listens to them while the soak runs. The first future that ends, ends
    /// all: only the soak itself does, or a failure.
    async fn with_helpers(&self, load: impl Future<Output = Vec<Exercised>>) -> Result<()> {
        let helpers = Helpers {
            image: self.plan.image.clone(),
            pull_secret: self.plan.pull_secret.clone(),
            length: self.plan.length + TAKE_UP + START,
        };
        let is_watched = self.plan.connections == Connections::Seen;
        if needs_helpers(self.plan) {
            (self.say)("starting helper pods …");
            let security = if is_watched { "privileged" } else { "restricted" };
            helpers.namespace(self.cluster, security).await?;
        }
        // CoreDNS' pods by their own addresses: behind the service's address only one of them would be
        // tested at a time.
        let servers: Vec<SocketAddr> =
            self.coredns.iter().flat_map(|dns| dns.pods.iter().map(|(_, at)| *at)).collect();
        let mut pods = BTreeMap::new();
        if is_watched {
            for node in self.around.nodes.keys() {
                let name =
                    Box::pin(helpers.watcher(self.cluster, node, &self.around.inside)).await?;
                pods.insert(node.clone(), name);
            }
        }
        // A sink in this process hands its messages over through a list, as pods do through their logs.
        let mut here = None;
        let sink = match self.plan.names {
            Names::NotSeen => None,
            Names::Pod => {
                let address = Box::pin(helpers.sink(self.cluster, &servers)).await?;
                pods.insert(NAMES.to_owned(), helpers::SINK.to_owned());
                Some(address)
            }
            Names::Here(address) => {
                let lines = Arc::new(Mutex::new(Vec::new()));
                let told = lines.clone();
                let tell = Arc::new(move |line| lock(&told).push(line));
                let sink = Sink::bind(address, &servers, tell).await?;
                let address = sink.address()?;
                here = Some((sink, lines));
                Some(address)
            }
        };
        for name in pods.values() {
            helpers::is_running(self.cluster, name).await?;
        }
        let mut places: Vec<String> = pods.keys().cloned().collect();
        let mut listening: FuturesUnordered<_> =
            pods.iter().map(|(place, pod)| self.listen(place, pod)).collect();
        let in_pods = async {
            // Without pods the list is empty: that must not end the soak.
            while listening.next().await.is_some() {}
            std::future::pending::<()>().await;
        };
        let in_process = async {
            if let Some((sink, lines)) = here {
                tokio::join!(sink.serve(std::future::pending()), self.take_over(&lines));
            }
            std::future::pending::<()>().await;
        };
        if matches!(self.plan.names, Names::Here(_)) {
            places.push(NAMES.to_owned());
        }
        tokio::select! {
            () = in_pods => Ok(()),
            () = in_process => Ok(()),
            () = self.stay_alive() => Ok(()),
            done = self.timed(sink, &places, load) => done,
        }
    }

    /// Waits for the observers, diverts names, listens for the wanted time, and ends.
    async fn timed(
        &self,
        sink: Option<SocketAddr>,
        places: &[String],
        load: impl Future<Output = Vec<Exercised>>,
    ) -> Result<()> {
        let are_ready = || {
            let heard = self.heard();
            let is_ready = |place| heard.told.get(place).is_some_and(|told| told.source.is_some());
            places.iter().all(is_ready)
        };
        // An observer that does not report in time becomes a gap at the end, no failure: the others see.
        self.until(START, are_ready).await;
        if let (Some(sink), Some(coredns)) = (sink, &self.coredns) {
            self.divert(sink, coredns).await?;
        }
        let length = self.plan.length;
        (self.say)(&format!("listening for {length:?} …"));
        // From here on silence means something; what was seen before is kept as well.
        self.heard().evidence.from = Some(Timestamp::now());
        let (exercised, ()) = tokio::join!(load, sleep(length));
        self.heard().evidence.exercised = exercised;
        sleep(LAST_WORDS).await;
        self.end().await?;
        // The sink is removed only when CoreDNS does not ask it any more.
        if self.plan.names == Names::Pod {
            self.until(TAKE_BACK, || self.forwarding() == 0).await;
        }
        Ok(())
    }

    /// Makes CoreDNS forward to the sink, and waits until all of its pods do. Those that do not become a
    /// gap in the evidence.
    async fn divert(&self, sink: SocketAddr, coredns: &CoreDns) -> Result<()> {
        let text = changed(coredns, sink, self.around)?;
        (self.say)("making CoreDNS forward foreign names to the sink …");
        dns::switch(self.cluster, coredns, &mut *self.lock.lock().await, &text).await?;
        let wanted = coredns.pods.len();
        if !self.until(TAKE_UP, || self.forwarding() >= wanted).await {
            let gap = format!(
                "{} of {wanted} CoreDNS pods did not forward to the sink within {} s: names that they \
                 were asked for may be missing",
                wanted - self.forwarding().min(wanted),
                TAKE_UP.as_secs()
            );
            self.heard().evidence.gaps.push(gap);
        }
        if coredns.is_behind_node_local {
            let gap = "node-local-dns answers pods on their nodes and forwards foreign names itself, \
                       so that the sink does not see them; its own connections are seen";
            self.heard().evidence.gaps.push(gap.to_owned());
        }
        Ok(())
    }

    /// Ends the soak: notes how each observer saw, and restores the Corefile.
    async fn end(&self) -> Result<()> {
        let lock = self.lock.lock().await;
        self.heard().evidence.to = Some(Timestamp::now());
        self.close();
        // Absent while the Corefile was not changed: without names, or when stopped early.
        if lock.after.is_none() {
            return Ok(());
        }
        (self.say)("restoring CoreDNS' Corefile …");
        dns::put_back(self.cluster, &lock).await?;
        Ok(())
    }

    /// Notes in the evidence how each observer saw, and what could not be seen.
    fn close(&self) {
        let mut heard = self.heard();
        let Heard { evidence, told } = &mut *heard;
        let mut places: Vec<&str> = vec![];
        if self.plan.names != Names::NotSeen {
            places.push(NAMES);
        }
        if self.plan.connections == Connections::Seen {
            places.extend(self.around.nodes.keys().map(String::as_str));
        }
        for place in places {
            let unheard = Told::default();
            let told = told.get(place).unwrap_or(&unheard);
            let (source, reason) = told
                .source
                .clone()
                .unwrap_or((Source::None, Some("the helper did not report".into())));
            if source == Source::None {
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
            evidence.sources.push(Seeing { place: place.to_owned(), source, reason });
        }
    }

    /// Follows a helper's log; never ends.
    async fn listen(&self, place: &str, pod: &str) {
        loop {
            let heard = self.cluster.follow(NAMESPACE, pod, |line| {
                Line::read(line).for_each(|line| self.take(place, line));
            });
            let _ = heard.await;
            // The connection broke, or the log was rotated: it is read again from its start. Messages have
            // totals, so reading one twice changes nothing.
            sleep(PERIOD).await;
        }
    }

    /// Records the messages of the sink in this process; never ends.
    async fn take_over(&self, lines: &Mutex<Vec<Line>>) {
        loop {
            let told = std::mem::take(&mut *lock(lines));
            for line in told {
                self.take(NAMES, line);
            }
            sleep(PERIOD).await;
        }
    }

    /// Records a message of an observer.
    fn take(&self, place: &str, line: Line) {
        let mut heard = self.heard();
        let Heard { evidence, told } = &mut *heard;
        evidence.take(place, told.entry(place.to_owned()).or_default(), line);
    }

    /// How many CoreDNS pods forward to the sink now.
    fn forwarding(&self) -> usize {
        let heard = self.heard();
        let servers = heard.told.get(NAMES).map(|told| &told.servers);
        servers.into_iter().flatten().filter(|(_, is_there)| **is_there).count()
    }

    /// Renews the lock and reports progress; never ends.
    async fn stay_alive(&self) {
        let start = Instant::now();
        loop {
            sleep(BEAT).await;
            // A failure is ignored: the worst is that another audit takes this one for dead, and then finds
            // the Corefile changed.
            let _ = timeout(BEAT, async { self.lock.lock().await.renew(self.cluster).await }).await;
            let heard = self.heard();
            let (names, packets) = (heard.evidence.queries.len(), heard.evidence.attempts.len());
            let seconds = start.elapsed().as_secs();
            (self.say)(&format!(
                "{seconds} s: {names} DNS questions and {packets} connections to outside so far"
            ));
        }
    }

    /// Waits until a condition holds, for at most `most`. Returns whether it does.
    async fn until(&self, most: Duration, is_so: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + most;
        while !is_so() {
            if Instant::now() > deadline {
                return false;
            }
            sleep(PERIOD).await;
        }
        true
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }

    fn evidence(self) -> Evidence {
        self.heard.into_inner().unwrap_or_else(PoisonError::into_inner).evidence
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
