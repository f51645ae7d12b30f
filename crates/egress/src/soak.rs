//! All of it together for a while: the helpers are started, names go to the sink, everything is
//! listened to, and everything is put back, whatever happened in between.

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

/// Where names are counted.
const NAMES: &str = "names";
/// How long CoreDNS may take to forward: a kubelet's and CoreDNS' own round are within two minutes.
const TAKE_UP: Duration = Duration::from_secs(150);
/// How long it is waited that CoreDNS forwards no more, before the sink goes.
const TAKE_BACK: Duration = Duration::from_secs(60);
/// How long helpers may take until they say that they are at work.
const START: Duration = Duration::from_secs(60);
/// How long what was seen last may be on its way.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often the record says that we are alive, and the user that it goes on.
const BEAT: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_millis(200);

/// Where names go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// To a sink in a pod.
    Pod,
    /// To a sink in this process, at an address that pods reach.
    Here(SocketAddr),
    /// They are not looked at.
    NotSeen,
}

/// Whether connections are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// On every node.
    Seen,
    /// They are not.
    NotSeen,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How names are seen.
    pub names: Names,
    /// How connections are seen.
    pub connections: Connections,
    /// Gantry's own image, as nodes pull it.
    pub image: String,
    /// A pull secret for it: the namespace that it is in, and its name.
    pub pull_secret: Option<(String, String)>,
    /// How long.
    pub length: Duration,
}

/// Tells the user how it goes.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// The rights that a soak needs, each to be asked for before anything is written.
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

/// Puts back what an audit has changed that did not come to its end. Says what it did.
pub async fn restore(cluster: &Cluster) -> Result<Vec<String>> {
    let mut done = Vec::new();
    if let Some(lock) = Lock::read(cluster).await?
        && dns::put_back(cluster, &lock).await?
    {
        done.push("CoreDNS' Corefile is as it was".to_owned());
    }
    if helpers::remove(cluster).await? {
        done.push(format!("Namespace {NAMESPACE} is deleted"));
    }
    // Last: while it is there, what to put back is known.
    if Lock::remove(cluster).await? {
        done.push(format!("ConfigMap kube-system/{} is deleted", dns::RECORD_NAME));
    }
    Ok(done)
}

/// Soaks. `load` is what is done meanwhile; `stop` ends it early. Everything is put back before this
/// returns, also after a failure.
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
    // What cannot be changed is known before anything is.
    if let Some(coredns) = &coredns {
        let somewhere = SocketAddr::from(([192, 0, 2, 1], crate::sink::PORT));
        changed(coredns, somewhere, around)?;
    }
    let lock = match Lock::take(cluster, coredns.as_ref()).await? {
        Some(lock) => lock,
        None => {
            for done in restore(cluster).await? {
                say(&format!("an audit before this one did not end well: {done}"));
            }
            let lock = Lock::take(cluster, coredns.as_ref()).await?;
            lock.ok_or_else(|| Error::Record {
                what: format!("ConfigMap kube-system/{}", dns::RECORD_NAME),
                reason: "it comes back".to_owned(),
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
            say("stopped; putting everything back …");
            run.heard().evidence.gaps.push("it was stopped before its end".to_owned());
            run.end().await
        }
    };
    // Whatever came: nothing stays behind.
    let restored = restore(cluster).await;
    if let Err(error) = &restored {
        say(&format!("not everything could be put back: {error}. Run: gantry audit restore"));
    }
    outcome?;
    restored?;
    Ok(run.evidence())
}

fn needs_helpers(plan: &Plan) -> bool {
    plan.names == Names::Pod || plan.connections == Connections::Seen
}

fn changed(coredns: &CoreDns, sink: SocketAddr, around: &Surroundings) -> Result<String> {
    let kept_in = format!("ConfigMap {}/{}", coredns.namespace, dns::RECORD_NAME);
    let wish = Wish { sink, inside: around.inside.names(), kept_in: &kept_in };
    Ok(edit(&Corefile::parse(&coredns.corefile)?, &wish)?.text)
}

/// What was heard so far.
#[derive(Default)]
struct Heard {
    evidence: Evidence,
    told: BTreeMap<String, Told>,
}

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
    async fn whole(&self, load: impl Future<Output = Vec<Exercised>>) -> Result<()> {
        let watch = self.cluster.watch::<Pod>(Scope::Cluster, "", |change| {
            self.heard().evidence.book.note(&change);
        });
        tokio::select! {
            error = watch => Err(error.err().map_or(Error::Report { cause: "the watch ended".into() }, Error::from)),
            done = self.with_helpers(load) => done,
        }
    }

    async fn with_helpers(&self, load: impl Future<Output = Vec<Exercised>>) -> Result<()> {
        let helpers = Helpers {
            image: self.plan.image.clone(),
            pull_secret: self.plan.pull_secret.clone(),
            length: self.plan.length + TAKE_UP + START,
        };
        let is_watched = self.plan.connections == Connections::Seen;
        if needs_helpers(self.plan) {
            (self.say)("starting helpers …");
            let security = if is_watched { "privileged" } else { "restricted" };
            helpers.namespace(self.cluster, security).await?;
        }
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
        self.until(START, are_ready).await;
        if let (Some(sink), Some(coredns)) = (sink, &self.coredns) {
            self.divert(sink, coredns).await?;
        }
        let length = self.plan.length;
        (self.say)(&format!("soaking for {length:?} …"));
        self.heard().evidence.from = Some(Timestamp::now());
        let (exercised, ()) = tokio::join!(load, sleep(length));
        self.heard().evidence.exercised = exercised;
        sleep(LAST_WORDS).await;
        self.end().await?;
        // The sink goes when nobody asks it any more.
        if self.plan.names == Names::Pod {
            self.until(TAKE_BACK, || self.forwarding() == 0).await;
        }
        Ok(())
    }

    /// Sends names to the sink, and waits until CoreDNS does.
    async fn divert(&self, sink: SocketAddr, coredns: &CoreDns) -> Result<()> {
        let text = changed(coredns, sink, self.around)?;
        (self.say)("sending foreign names to the sink …");
        dns::switch(self.cluster, coredns, &mut *self.lock.lock().await, &text).await?;
        let wanted = coredns.pods.len();
        if !self.until(TAKE_UP, || self.forwarding() >= wanted).await {
            let gap = format!(
                "{} of {wanted} CoreDNS pods were not seen to forward to the sink within {} s: names \
                 that they were asked for may be missing",
                wanted - self.forwarding().min(wanted),
                TAKE_UP.as_secs()
            );
            self.heard().evidence.gaps.push(gap);
        }
        if coredns.is_behind_node_local {
            let gap = "node-local-dns answers pods on their nodes and forwards foreign names itself: \
                       they do not come to the sink. Its own connections are seen";
            self.heard().evidence.gaps.push(gap.to_owned());
        }
        Ok(())
    }

    /// Puts CoreDNS back, and notes what was seen by what.
    async fn end(&self) -> Result<()> {
        let lock = self.lock.lock().await;
        self.heard().evidence.to = Some(Timestamp::now());
        self.close();
        if lock.after.is_none() {
            return Ok(());
        }
        (self.say)("putting CoreDNS back …");
        dns::put_back(self.cluster, &lock).await?;
        Ok(())
    }

    /// Notes by what was seen, and what was not.
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
            let (source, reason) =
                told.source.clone().unwrap_or((Source::None, Some("it did not answer".into())));
            if source == Source::None {
                let reason = reason.clone().unwrap_or_default();
                evidence.gaps.push(format!("{place}: nothing was seen: {reason}"));
            }
            if told.left_out > 0 {
                evidence.gaps.push(format!(
                    "{place}: {} sightings of more different things than are kept",
                    told.left_out
                ));
            }
            let lost = told.servers.iter().filter(|(_, is_there)| !**is_there);
            for (server, _) in lost {
                evidence.gaps.push(format!(
                    "CoreDNS at {server} stopped forwarding to the sink before the end"
                ));
            }
            evidence.sources.push(Seeing { place: place.to_owned(), source, reason });
        }
    }

    /// Follows a helper's log for as long as it lives.
    async fn listen(&self, place: &str, pod: &str) {
        loop {
            let heard = self.cluster.follow(NAMESPACE, pod, |line| {
                Line::read(line).for_each(|line| self.take(place, line));
            });
            let _ = heard.await;
            // The connection broke, or the log was rotated: from its start again.
            sleep(PERIOD).await;
        }
    }

    /// Takes what the sink in this process has told.
    async fn take_over(&self, lines: &Mutex<Vec<Line>>) {
        loop {
            let told = std::mem::take(&mut *lock(lines));
            for line in told {
                self.take(NAMES, line);
            }
            sleep(PERIOD).await;
        }
    }

    fn take(&self, place: &str, line: Line) {
        let mut heard = self.heard();
        let Heard { evidence, told } = &mut *heard;
        evidence.take(place, told.entry(place.to_owned()).or_default(), line);
    }

    /// How many name servers forward to the sink now.
    fn forwarding(&self) -> usize {
        let heard = self.heard();
        let servers = heard.told.get(NAMES).map(|told| &told.servers);
        servers.into_iter().flatten().filter(|(_, is_there)| **is_there).count()
    }

    async fn stay_alive(&self) {
        let start = Instant::now();
        loop {
            sleep(BEAT).await;
            // Another's reading of it is all that depends on it.
            let _ = timeout(BEAT, async { self.lock.lock().await.renew(self.cluster).await }).await;
            let heard = self.heard();
            let (names, packets) = (heard.evidence.queries.len(), heard.evidence.attempts.len());
            let seconds = start.elapsed().as_secs();
            (self.say)(&format!("{seconds} s: {names} names, {packets} destinations so far"));
        }
    }

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
