//! Finds what each container needs for offline use: environment variables, mounts, and the volumes
//! for them; or a leftover for the user, if the site has nothing that the container can use.
//! Whether values or patches meet the needs is decided later, in `plan`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use types::input::rules::{Sure, with_fields};
use types::input::wiring::{Known, Runtime, Source};
use types::site::ModelLayout;

use super::mounts::{self, Mount, Volume, layout, named};
use super::pods::{Container, Pod, Spot, list, text};
use super::recognise::{Variables, meets};
use super::site::{Models, Offline};
use super::{Leftover, Table};
use crate::manifest::Manifests;
use crate::phone_home::{Finding, same_meaning, variables};

/// The needs of all containers.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Variables, with the containers that need them and do not have them.
    pub(super) env: BTreeMap<Env, BTreeSet<Spot>>,
    /// Containers that a variable may also reach, because it only switches telemetry off and they
    /// are in the same pod as one that needs it.
    pub(super) harmless: BTreeMap<Env, BTreeSet<Spot>>,
    /// Variables to which the chart gives another value, so that only a patch can change them.
    pub(super) replaced: BTreeMap<Env, BTreeSet<Spot>>,
    /// Mounts, with the containers that need them.
    pub(super) mounts: BTreeMap<Mount, BTreeSet<Spot>>,
    /// Volumes, with the pods that need them.
    pub(super) volumes: BTreeMap<Volume, BTreeSet<Spot>>,
    /// The reasons, by container and name of the variable or volume.
    pub(super) why: BTreeMap<(Spot, String), String>,
    pub(super) leftovers: Vec<Leftover>,
}

impl Wants {
    /// Whether no container needs anything.
    pub(super) fn is_empty(&self) -> bool {
        self.env.is_empty() && self.replaced.is_empty() && self.mounts.is_empty()
    }
}

/// An environment variable with its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Env {
    pub(super) name: String,
    pub(super) value: String,
}

/// Finds the needs of containers, from the rules, the site and a render.
pub(super) struct Question<'a> {
    pub(super) table: &'a Table,
    pub(super) offline: &'a Offline,
    pub(super) manifests: &'a Manifests,
    /// The values that the user wrote; variables that they name are not changed.
    pub(super) own: &'a Value,
    /// The telemetry that [`crate::phone_home`] found.
    pub(super) findings: &'a [Finding],
}

impl Question<'_> {
    /// The needs of all containers of these pods.
    pub(super) fn wants(&self, pods: &[Pod]) -> Wants {
        let mut wants = Wants::default();
        for pod in pods {
            for container in &pod.containers {
                let own = variables(container.value, self.manifests);
                self.container(pod, container, &own, &mut wants);
            }
        }
        wants
    }

    /// Adds the needs of one container; `own` are its variables.
    fn container(&self, pod: &Pod, container: &Container, own: &Variables, wants: &mut Wants) {
        let mut asked: Vec<(Env, String)> = Vec::new();
        let mut silencing: Vec<Env> = Vec::new();
        // A container that only sleeps (to pull its image onto each node) needs nothing.
        let idle = crate::phone_home::is_idle(container.value);
        let runtime = if idle { None } else { self.runtime(container, own) };
        let mut is_runtime = false;
        if let Some((runtime, how)) = runtime {
            let why = format!("{}: {}", how, runtime.why);
            if runtime.sure == Sure::Possible {
                wants.leftovers.push(Leftover {
                    place: pod.place(container),
                    what: format!("it may be a model runtime ({why})"),
                    next: format!(
                        "if it is, list it under wiring.runtimes in gantry.yaml (containers: [{}]); \
                         otherwise ignore this",
                        container.name()
                    ),
                });
            } else {
                is_runtime = true;
                let mut set = |variables: &BTreeMap<String, String>, fields: &Fields| {
                    for (name, value) in variables {
                        if let Some(value) = with_fields(value, |field| fields.get(field)) {
                            let name = name.clone();
                            asked.push((Env { name, value }, why.clone()));
                        }
                    }
                };
                set(&runtime.set, &Fields::default());
                if let Some((source, fields)) = self.source(pod, container, runtime, &why, wants) {
                    set(&source.set, &fields);
                }
            }
        }
        for finding in self.findings {
            let Finding::Environment { name, off, places, why, .. } = finding else { continue };
            let is_here = |place: &crate::find::Place| {
                place.document == container.spot.0 && place.path == container.spot.1
            };
            let is_models = self.table.0.runtimes.iter().any(|r| of_sources(r).any(|n| n == name));
            // Some telemetry rules switch by a variable that also says where models are
            // (HF_HUB_OFFLINE does both). The rules for runtimes decide about these.
            if places.iter().any(is_here) && !is_models {
                let env = Env { name: name.clone(), value: off.clone() };
                silencing.push(env.clone());
                asked.push((env, why.clone()));
            }
        }
        if !idle {
            self.trust(pod, container, own, is_runtime, &mut asked, wants);
        }
        for (env, why) in asked {
            self.variable(pod, container, own, env, why, wants);
        }
        // One value for the whole pod may set it in sidecars too, unless they set it themselves.
        for env in silencing {
            let beside = pod
                .containers
                .iter()
                .filter(|beside| !variables(beside.value, self.manifests).contains_key(&env.name));
            let spots: Vec<Spot> = beside.map(|beside| beside.spot.clone()).collect();
            wants.harmless.entry(env).or_default().extend(spots);
        }
    }

    /// The first rule for a runtime that describes the container, with the reason.
    fn runtime(&self, container: &Container, own: &Variables) -> Option<(&Runtime, String)> {
        self.table
            .0
            .runtimes
            .iter()
            .find_map(|rule| Some((rule, meets(&rule.known, container.value, own)?)))
    }

    /// Chooses the source from which a runtime reads its models, and the values for the fields of
    /// its rule. If the site has none that the runtime can read, adds a leftover and returns
    /// `None`.
    fn source<'r>(
        &self,
        pod: &Pod,
        container: &Container,
        runtime: &'r Runtime,
        why: &str,
        wants: &mut Wants,
    ) -> Option<(&'r Source, Fields)> {
        let mut elsewhere = None;
        let mut candidates: Vec<&Models> = self.offline.models.iter().collect();
        // A claim that is assigned to this container comes first, then sources with a layout for a
        // certain runtime, then those in the cache layout that most runtimes can read.
        candidates.sort_by_key(|models| {
            let is_own = self.assigned(models, container) == Some(true);
            (!is_own, layout(models) == ModelLayout::default())
        });
        for models in candidates {
            match models {
                Models::Claim { namespace, claim, layout, .. } => {
                    let Some(source) = runtime.claim.as_ref().filter(|s| s.layout == *layout)
                    else {
                        continue;
                    };
                    if self.offline.namespace.as_ref().is_some_and(|own| own != namespace) {
                        elsewhere = Some((namespace, claim));
                        continue;
                    }
                    if self.assigned(models, container) == Some(false) {
                        continue;
                    }
                    let mount = mounts::claim(self.offline, pod, container, models, why, wants);
                    return Some((source, Fields { mount, ..Fields::default() }));
                }
                Models::Depot { url } => {
                    if let Some(source) = &runtime.depot {
                        let depot = Some(url.trim_end_matches('/').to_owned());
                        return Some((source, Fields { depot, ..Fields::default() }));
                    }
                }
                Models::Bucket { url, endpoint, layout } => {
                    let source = runtime.bucket.as_ref().filter(|s| s.layout == *layout);
                    if let Some(source) = source {
                        let (bucket, endpoint) = (Some(url.clone()), endpoint.clone());
                        return Some((source, Fields { bucket, endpoint, ..Fields::default() }));
                    }
                }
            }
        }
        // The models are in the image already: it only has to be told to use them.
        if let Some(source) = &runtime.image {
            return Some((source, Fields::default()));
        }
        // A rule without any source only sets variables.
        if runtime.claim.is_none() && runtime.depot.is_none() && runtime.bucket.is_none() {
            return None;
        }
        let what = match elsewhere {
            Some((namespace, claim)) => format!(
                "{why}; the site's claim {claim} is in the namespace {namespace}, and a pod can only \
                 mount claims of its own namespace"
            ),
            None => format!("{why}; site.yaml names no location from which it can read models"),
        };
        let next = format!("add to site.yaml: {}", ways(runtime));
        wants.leftovers.push(Leftover { place: pod.place(container), what, next });
        None
    }

    /// Whether `claims` of the rules assign a claim to this container (`true`) or to others
    /// (`false`); `None` if it is for all, or is not a claim.
    fn assigned(&self, models: &Models, container: &Container) -> Option<bool> {
        let Models::Claim { claim, .. } = models else { return None };
        let mut own = self.table.0.claims.iter().filter(|own| own.claim == *claim).peekable();
        own.peek()?;
        Some(own.any(|own| own.containers.iter().any(|name| name == container.name())))
    }

    /// Adds the variables and the mount with which a container trusts the site's CA, if it connects
    /// to the site, loads models, or is described by a rule.
    fn trust(
        &self,
        pod: &Pod,
        container: &Container,
        own: &Variables,
        is_runtime: bool,
        asked: &mut Vec<(Env, String)>,
        wants: &mut Wants,
    ) {
        let Some(ca) = &self.offline.ca else { return };
        let host = self.offline.hosts.iter().find(|host| talks_to(container.value, own, host));
        let mut file = None;
        for rule in &self.table.0.trust {
            let how = match (&rule.known, host) {
                // A rule that describes containers is for these only; one that does not is for all
                // that connect to the site.
                (known, _) if *known != Known::default() => meets(known, container.value, own),
                (_, Some(host)) => Some(format!("it connects to {host}")),
                (_, None) if is_runtime => Some("it loads models".to_owned()),
                _ => None,
            };
            let Some(how) = how else { continue };
            let why = format!("{how}: {}", rule.why);
            let path =
                file.get_or_insert_with(|| mounts::ca(pod, container, ca, &why, wants)).clone();
            for (name, value) in &rule.set {
                let value = with_fields(value, |_| Some(path.clone()));
                asked.extend(value.map(|value| (Env { name: name.clone(), value }, why.clone())));
            }
        }
    }

    /// Adds a variable that a container needs, unless the container has it. If the user or the
    /// cluster gives it another value, that is kept, and a leftover is added.
    fn variable(
        &self,
        pod: &Pod,
        container: &Container,
        own: &Variables,
        env: Env,
        why: String,
        wants: &mut Wants,
    ) {
        let current = own.get(&env.name);
        // `true`, `1` and `yes` mean the same to most programs.
        if let Some(Some(value)) = current
            && (value == &env.value || same_meaning(value, &env.value))
        {
            return;
        }
        if let Some(current) = current
            && mentions(self.own, &env.name)
        {
            let has =
                current.as_deref().map_or("set from the cluster".into(), |v| format!("{v:?}"));
            wants.leftovers.push(Leftover {
                place: pod.place(container),
                what: format!(
                    "{} is {has} by your values, which is kept; it should be {:?} ({why})",
                    env.name, env.value
                ),
                next: format!(
                    "remove {} from your values, or make sure that it works without the internet",
                    env.name
                ),
            });
            return;
        }
        // `env` takes precedence over `envFrom`, so a variable of a ConfigMap or Secret that is
        // taken whole can be overridden by an entry in `env`.
        let is_from_cluster = current == Some(&None);
        let spot = container.spot.clone();
        let is_listed = list(container.value, "env").any(|item| text(item, "name") == env.name);
        if is_listed && is_from_cluster {
            wants.leftovers.push(Leftover {
                place: pod.place(container),
                what: format!(
                    "{} is set from the cluster (valueFrom); it should be {:?} ({why})",
                    env.name, env.value
                ),
                next: "make sure that the object that it is set from has this value".to_owned(),
            });
            return;
        }
        let all = if is_listed { &mut wants.replaced } else { &mut wants.env };
        wants.why.insert((spot.clone(), env.name.clone()), why);
        all.entry(env).or_default().insert(spot);
    }
}

/// The values for the fields of a rule, such as `{mount}` in `HF_HUB_CACHE: '{mount}'`.
#[derive(Debug, Clone, Default)]
struct Fields {
    /// The path where the claim with the models is mounted.
    mount: Option<String>,
    /// The URL of the depot.
    depot: Option<String>,
    /// The URL of the bucket.
    bucket: Option<String>,
    /// The URL of the bucket's server.
    endpoint: Option<String>,
}

impl Fields {
    /// The value for a field; `None` for unknown fields and those that the source does not have.
    fn get(&self, field: &str) -> Option<String> {
        match field {
            "mount" => self.mount.clone(),
            "depot" => self.depot.clone(),
            "bucket" => self.bucket.clone(),
            "endpoint" => self.endpoint.clone(),
            _ => None,
        }
    }
}

/// The variables that a rule sets depending on where the models are.
fn of_sources(runtime: &Runtime) -> impl Iterator<Item = &String> {
    let sources = [&runtime.claim, &runtime.depot, &runtime.bucket, &runtime.image];
    sources.into_iter().flatten().flat_map(|source| source.set.keys())
}

/// What can be added to site.yaml so that a runtime finds its models.
fn ways(runtime: &Runtime) -> String {
    let mut ways = Vec::new();
    if let Some(claim) = &runtime.claim {
        let layout = named(claim.layout);
        ways.push(format!("models: [{{to: pvc://NAMESPACE/CLAIM, layout: {layout}}}]"));
    }
    if runtime.depot.is_some() {
        ways.push("depot: {url: https://…}".to_owned());
    }
    if let Some(bucket) = &runtime.bucket {
        let layout = named(bucket.layout);
        ways.push(format!("models: [{{to: s3://BUCKET/PATH, layout: {layout}}}]"));
    }
    ways.join(", or ")
}

/// Whether a container's variables, command or arguments name a host. The host may have a port;
/// without one, it does not match the same host with a port.
fn talks_to(container: &Value, own: &Variables, host: &str) -> bool {
    let named = |text: &str| {
        text.match_indices(host).any(|(start, _)| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
            !text[..start].chars().next_back().is_some_and(is_part)
                && !text[start + host.len()..]
                    .chars()
                    .next()
                    .is_some_and(|c| is_part(c) || c == ':')
        })
    };
    own.values().flatten().any(|value| named(value))
        || ["command", "args"]
            .into_iter()
            .flat_map(|key| list(container, key))
            .filter_map(Value::as_str)
            .any(named)
}

/// Whether values mention a variable: as a key, as the name of an entry, or as a word in a text.
fn mentions(values: &Value, name: &str) -> bool {
    match values {
        Value::Object(map) => map.iter().any(|(key, value)| key == name || mentions(value, name)),
        Value::Array(items) => items.iter().any(|item| mentions(item, name)),
        Value::String(text) => {
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            words.any(|word| word == name)
        }
        _ => false,
    }
}
