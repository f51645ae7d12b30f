//! Finds what each container needs for offline use: environment variables, mounts, and the volumes
//! for them; or a leftover for the user, if the site has nothing that the container can use.
//! Whether values or patches meet the needs is decided later, in `plan`.

use std::collections::BTreeMap;

use serde_json::Value;
use types::input::rules::{RuleCertainty, fill_fields};
use types::input::wiring::{ContainerCriteria, RuntimeModelSource, RuntimeRule};
use types::site::ModelLayout;

use super::entries::EnvironmentVariable;
use super::mounts::{self, layout_name, layout_of_source};
use super::needs::WiringNeeds;
use super::offline_wiring::WiringLeftover;
use super::pods::{RenderedContainer, RenderedPod, SpecLocation, list_field, text_field};
use super::recognise::{ContainerVariables, match_rule};
use super::site::{ModelSource, SiteServices};
use super::table::WiringTable;
use crate::manifest::Manifests;
use crate::phone_home::{PhoneHomeFinding, has_same_meaning, read_container_variables};

/// Finds the needs of containers, from the rules, the site and a render.
pub(super) struct NeedsFinder<'a> {
    pub(super) table: &'a WiringTable,
    pub(super) offline: &'a SiteServices,
    pub(super) manifests: &'a Manifests,
    /// The values that the user wrote; variables that they name are not changed.
    pub(super) own: &'a Value,
    /// The telemetry that [`crate::phone_home`] found.
    pub(super) findings: &'a [PhoneHomeFinding],
}

impl NeedsFinder<'_> {
    /// The needs of all containers of these pods.
    pub(super) fn find_needs(&self, pods: &[RenderedPod]) -> WiringNeeds {
        let mut wants = WiringNeeds::default();
        for pod in pods {
            for container in &pod.containers {
                let own = read_container_variables(container.value, self.manifests);
                self.add_container_needs(pod, container, &own, &mut wants);
            }
        }
        wants
    }

    /// Adds the needs of one container; `own` are its variables.
    fn add_container_needs(
        &self,
        pod: &RenderedPod,
        container: &RenderedContainer,
        own: &ContainerVariables,
        wants: &mut WiringNeeds,
    ) {
        let mut asked: Vec<(EnvironmentVariable, String)> = Vec::new();
        let mut silencing: Vec<EnvironmentVariable> = Vec::new();
        // A container that only sleeps (to pull its image onto each node) needs nothing.
        let idle = crate::phone_home::is_idle_container(container.value);
        let runtime = if idle { None } else { self.match_runtime(container, own) };
        let mut is_runtime = false;
        if let Some((runtime, how)) = runtime {
            let why = format!("{}: {}", how, runtime.why);
            if runtime.sure == RuleCertainty::Possible {
                wants.leftovers.push(WiringLeftover {
                    place: pod.describe_container(container),
                    what: format!("it may be a model runtime ({why})"),
                    next: format!(
                        "if it is, list it under wiring.runtimes in gantry.yaml (containers: [{}]); \
                         otherwise ignore this",
                        container.name()
                    ),
                });
            } else {
                is_runtime = true;
                let mut set = |variables: &BTreeMap<String, String>, fields: &RuleFields| {
                    for (name, value) in variables {
                        if let Some(value) = fill_fields(value, |field| fields.get_field(field)) {
                            let name = name.clone();
                            asked.push((EnvironmentVariable { name, value }, why.clone()));
                        }
                    }
                };
                set(&runtime.set, &RuleFields::default());
                if let Some((source, fields)) =
                    self.choose_source(pod, container, runtime, &why, wants)
                {
                    set(&source.set, &fields);
                }
            }
        }
        for finding in self.findings {
            let PhoneHomeFinding::Environment { name, off, places, why, .. } = finding else {
                continue;
            };
            let is_here = |place: &crate::find::ManifestLocation| {
                place.document == container.spot.0 && place.path == container.spot.1
            };
            let is_models =
                self.table.0.runtimes.iter().any(|r| source_variable_names(r).any(|n| n == name));
            // Some telemetry rules switch by a variable that also says where models are
            // (HF_HUB_OFFLINE does both). The rules for runtimes decide about these.
            if places.iter().any(is_here) && !is_models {
                let env = EnvironmentVariable { name: name.clone(), value: off.clone() };
                silencing.push(env.clone());
                asked.push((env, why.clone()));
            }
        }
        if !idle {
            self.add_trust_needs(pod, container, own, is_runtime, &mut asked, wants);
        }
        for (env, why) in asked {
            self.add_variable_need(pod, container, own, env, why, wants);
        }
        // One value for the whole pod may set it in sidecars too, unless they set it themselves.
        for env in silencing {
            let beside = pod.containers.iter().filter(|beside| {
                !read_container_variables(beside.value, self.manifests).contains_key(&env.name)
            });
            let spots: Vec<SpecLocation> = beside.map(|beside| beside.spot.clone()).collect();
            wants.harmless.entry(env).or_default().extend(spots);
        }
    }

    /// The first rule for a runtime that describes the container, with the reason.
    fn match_runtime(
        &self,
        container: &RenderedContainer,
        own: &ContainerVariables,
    ) -> Option<(&RuntimeRule, String)> {
        self.table
            .0
            .runtimes
            .iter()
            .find_map(|rule| Some((rule, match_rule(&rule.known, container.value, own)?)))
    }

    /// Chooses the source from which a runtime reads its models, and the values for the fields of
    /// its rule. If the site has none that the runtime can read, adds a leftover and returns
    /// `None`.
    fn choose_source<'r>(
        &self,
        pod: &RenderedPod,
        container: &RenderedContainer,
        runtime: &'r RuntimeRule,
        why: &str,
        wants: &mut WiringNeeds,
    ) -> Option<(&'r RuntimeModelSource, RuleFields)> {
        let mut elsewhere = None;
        let mut candidates: Vec<&ModelSource> = self.offline.models.iter().collect();
        // A claim that is assigned to this container comes first, then one that it mounts already (each of
        // two servers may have its own), then sources with a layout for a
        // certain runtime, then those in the cache layout that most runtimes can read.
        candidates.sort_by_key(|models| {
            let is_own = self.is_claim_assigned(models, container) == Some(true);
            let is_mounted = mounts::is_claim_mounted(pod, container, models);
            (!is_own, !is_mounted, layout_of_source(models) == ModelLayout::default())
        });
        for models in candidates {
            match models {
                ModelSource::Claim { namespace, claim, layout, .. } => {
                    let Some(source) = runtime.claim.as_ref().filter(|s| s.layout == *layout)
                    else {
                        continue;
                    };
                    // Where it is not known, helm renders into a namespace that means nothing.
                    let release = self.offline.namespace.as_deref();
                    let own = release.map(|release| pod.namespace().unwrap_or(release));
                    if own.is_some_and(|own| own != namespace) {
                        elsewhere = Some((namespace, claim));
                        continue;
                    }
                    if self.is_claim_assigned(models, container) == Some(false) {
                        continue;
                    }
                    let mount =
                        mounts::mount_claim(self.offline, pod, container, models, why, wants);
                    return Some((source, RuleFields { mount, ..RuleFields::default() }));
                }
                ModelSource::Depot { url } => {
                    if let Some(source) = &runtime.depot {
                        let depot = Some(url.trim_end_matches('/').to_owned());
                        return Some((source, RuleFields { depot, ..RuleFields::default() }));
                    }
                }
                ModelSource::Bucket { url, endpoint, layout } => {
                    let source = runtime.bucket.as_ref().filter(|s| s.layout == *layout);
                    if let Some(source) = source {
                        let (bucket, endpoint) = (Some(url.clone()), endpoint.clone());
                        return Some((
                            source,
                            RuleFields { bucket, endpoint, ..RuleFields::default() },
                        ));
                    }
                }
            }
        }
        // The models are in the image already: it only has to be told to use them.
        if let Some(source) = &runtime.image {
            return Some((source, RuleFields::default()));
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
        let next = format!("add to site.yaml: {}", describe_site_options(runtime));
        wants.leftovers.push(WiringLeftover {
            place: pod.describe_container(container),
            what,
            next,
        });
        None
    }

    /// Whether `claims` of the rules assign a claim to this container (`true`) or to others
    /// (`false`); `None` if it is for all, or is not a claim.
    fn is_claim_assigned(
        &self,
        models: &ModelSource,
        container: &RenderedContainer,
    ) -> Option<bool> {
        let ModelSource::Claim { claim, .. } = models else { return None };
        let mut own = self.table.0.claims.iter().filter(|own| own.claim == *claim).peekable();
        own.peek()?;
        Some(own.any(|own| own.containers.iter().any(|name| name == container.name())))
    }

    /// Adds the variables and the mount with which a container trusts the site's CA, if it connects
    /// to the site, loads models, or is described by a rule.
    fn add_trust_needs(
        &self,
        pod: &RenderedPod,
        container: &RenderedContainer,
        own: &ContainerVariables,
        is_runtime: bool,
        asked: &mut Vec<(EnvironmentVariable, String)>,
        wants: &mut WiringNeeds,
    ) {
        let Some(ca) = &self.offline.ca else { return };
        let host = self.offline.hosts.iter().find(|host| mentions_host(container.value, own, host));
        let mut file = None;
        for rule in &self.table.0.trust {
            let how = match (&rule.known, host) {
                // A rule that describes containers is for these only; one that does not is for all
                // that connect to the site.
                (known, _) if *known != ContainerCriteria::default() => {
                    match_rule(known, container.value, own)
                }
                (_, Some(host)) => Some(format!("it connects to {host}")),
                (_, None) if is_runtime => Some("it loads models".to_owned()),
                _ => None,
            };
            let Some(how) = how else { continue };
            let why = format!("{how}: {}", rule.why);
            let path = file
                .get_or_insert_with(|| mounts::mount_ca(pod, container, ca, &why, wants))
                .clone();
            for (name, value) in &rule.set {
                let value = fill_fields(value, |_| Some(path.clone()));
                asked.extend(
                    value.map(|value| {
                        (EnvironmentVariable { name: name.clone(), value }, why.clone())
                    }),
                );
            }
        }
    }

    /// Adds a variable that a container needs, unless the container has it. If the user or the
    /// cluster gives it another value, that is kept, and a leftover is added.
    fn add_variable_need(
        &self,
        pod: &RenderedPod,
        container: &RenderedContainer,
        own: &ContainerVariables,
        env: EnvironmentVariable,
        why: String,
        wants: &mut WiringNeeds,
    ) {
        let current = own.get(&env.name);
        // `true`, `1` and `yes` mean the same to most programs.
        if let Some(Some(value)) = current
            && (value == &env.value || has_same_meaning(value, &env.value))
        {
            return;
        }
        if let Some(current) = current
            && mentions_variable(self.own, &env.name)
        {
            let has =
                current.as_deref().map_or("set from the cluster".into(), |v| format!("{v:?}"));
            wants.leftovers.push(WiringLeftover {
                place: pod.describe_container(container),
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
        let is_listed =
            list_field(container.value, "env").any(|item| text_field(item, "name") == env.name);
        if is_listed && is_from_cluster {
            wants.leftovers.push(WiringLeftover {
                place: pod.describe_container(container),
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
struct RuleFields {
    /// The path where the claim with the models is mounted.
    mount: Option<String>,
    /// The URL of the depot.
    depot: Option<String>,
    /// The URL of the bucket.
    bucket: Option<String>,
    /// The URL of the bucket's server.
    endpoint: Option<String>,
}

impl RuleFields {
    /// The value for a field; `None` for unknown fields and those that the source does not have.
    fn get_field(&self, field: &str) -> Option<String> {
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
fn source_variable_names(runtime: &RuntimeRule) -> impl Iterator<Item = &String> {
    let sources = [&runtime.claim, &runtime.depot, &runtime.bucket, &runtime.image];
    sources.into_iter().flatten().flat_map(|source| source.set.keys())
}

/// What can be added to site.yaml so that a runtime finds its models.
fn describe_site_options(runtime: &RuntimeRule) -> String {
    let mut ways = Vec::new();
    if let Some(claim) = &runtime.claim {
        let layout = layout_name(claim.layout);
        ways.push(format!("models: [{{to: pvc://NAMESPACE/CLAIM, layout: {layout}}}]"));
    }
    if runtime.depot.is_some() {
        ways.push("depot: {url: https://…}".to_owned());
    }
    if let Some(bucket) = &runtime.bucket {
        let layout = layout_name(bucket.layout);
        ways.push(format!("models: [{{to: s3://BUCKET/PATH, layout: {layout}}}]"));
    }
    ways.join(", or ")
}

/// Whether a container's variables, command or arguments name a host. The host may have a port;
/// without one, it does not match the same host with a port.
fn mentions_host(container: &Value, own: &ContainerVariables, host: &str) -> bool {
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
            .flat_map(|key| list_field(container, key))
            .filter_map(Value::as_str)
            .any(named)
}

/// Whether values mention a variable: as a key, as the name of an entry, or as a word in a text.
fn mentions_variable(values: &Value, name: &str) -> bool {
    match values {
        Value::Object(map) => {
            map.iter().any(|(key, value)| key == name || mentions_variable(value, name))
        }
        Value::Array(items) => items.iter().any(|item| mentions_variable(item, name)),
        Value::String(text) => {
            let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            words.any(|word| word == name)
        }
        _ => false,
    }
}
