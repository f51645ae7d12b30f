//! Decides for each need whether a value of the chart or a patch meets it, and turns the decisions
//! into settings of the overlay, patches, and rows of the report.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::candidates::CandidateKind;
use super::choose::choose_covering_values;
use super::entries::{ContainerMount, EnvironmentVariable, PodVolume};
use super::needs::WiringNeeds;
use super::offline_wiring::WiringAction;
use super::patch::{ContainerPatch, ObjectPatch};
use super::pods::{RenderedPod, SpecLocation, text_field};
use super::probe::ValueProbe;
use super::prove::SuppliedEntries;
use crate::overlay::OverlaySetting;
use crate::path::DocumentPath;

/// The decisions: which entries each value gets, and which entries patches add.
#[derive(Debug, Default)]
pub(super) struct WiringPlan {
    /// The entries that each candidate value gets, by the candidate's index.
    values: BTreeMap<usize, Vec<Value>>,
    /// The same by container and pod, as the render with the overlay has to show it.
    pub(super) given: SuppliedEntries,
    /// All variables and mounts, with their container and what adds them.
    env: Vec<(EnvironmentVariable, SpecLocation, Supplier)>,
    mounts: Vec<(ContainerMount, SpecLocation, Supplier)>,
    /// The volumes that patches add, with their pods.
    volumes: Vec<(PodVolume, SpecLocation)>,
}

/// Which values are looked for: of a kind, reaching `wanted`, and at most `harmless` beside them.
struct ReachQuery<'a> {
    kind: CandidateKind,
    wanted: &'a BTreeSet<SpecLocation>,
    harmless: &'a BTreeSet<SpecLocation>,
}

/// What adds an entry: the candidate value with this index, or a patch (`None`).
type Supplier = Option<usize>;

impl WiringPlan {
    /// Uses the fewest values for what is needed, and patches for the rest; without a `probe`, only
    /// patches. Volumes are decided first, then mounts, then variables, as each depends on those
    /// before it.
    pub(super) fn new(
        probe: Option<&ValueProbe>,
        wants: &WiringNeeds,
        pods: &[RenderedPod],
    ) -> Self {
        let mut plan = Self::default();
        let none = BTreeSet::new();
        let mut is_by_value: BTreeSet<(&str, SpecLocation)> = BTreeSet::new();
        for (volume, wanted) in &wants.volumes {
            let ask = ReachQuery { kind: CandidateKind::Volumes, wanted, harmless: &none };
            let open =
                plan.assign_to_values(probe, &ask, &volume.to_value(), &mut |plan, spot, _| {
                    plan.given.volumes.entry(spot.clone()).or_default().push(volume.clone());
                });
            let reached = wanted.difference(&open).cloned();
            is_by_value.extend(reached.map(|spot| (volume.name.as_str(), spot)));
            plan.volumes.extend(open.into_iter().map(|spot| (volume.clone(), spot)));
        }
        for (mount, wanted) in &wants.mounts {
            // The API server rejects a pod with a mount and no volume of that name. If the volume
            // needs a patch, so does the mount: the overlay has to work without patches too.
            let has_volume = |spot: &&SpecLocation| {
                let pod = pods.iter().find(|pod| pod.containers.iter().any(|c| c.spot == **spot));
                !mount.is_own
                    || pod.is_some_and(|pod| {
                        is_by_value.contains(&(mount.volume.as_str(), pod.spot.clone()))
                    })
            };
            let safe: BTreeSet<SpecLocation> = wanted.iter().filter(has_volume).cloned().collect();
            let ask = ReachQuery { kind: CandidateKind::Mounts, wanted: &safe, harmless: &none };
            let open =
                plan.assign_to_values(probe, &ask, &mount.to_value(), &mut |plan, spot, index| {
                    plan.mounts.push((mount.clone(), spot.clone(), Some(index)));
                    plan.given.mounts.entry(spot.clone()).or_default().push(mount.clone());
                });
            let open = wanted.iter().filter(|spot| !safe.contains(spot) || open.contains(spot));
            plan.mounts.extend(open.map(|spot| (mount.clone(), spot.clone(), None)));
        }
        for (env, wanted) in &wants.env {
            let entry = json!({"name": env.name, "value": env.value});
            // A variable with a path below a mount goes with the mount, for the same reason: a
            // program that is given the path of a missing CA file fails.
            let by_patch: BTreeSet<SpecLocation> = wanted
                .iter()
                .filter(|spot| {
                    plan.mounts.iter().any(|(mount, own, by)| {
                        own == *spot && by.is_none() && is_path_below(&env.value, &mount.path)
                    })
                })
                .cloned()
                .collect();
            plan.env.extend(by_patch.iter().map(|spot| (env.clone(), spot.clone(), None)));
            let wanted = wanted.difference(&by_patch).cloned().collect();
            let harmless = wants.harmless.get(env).unwrap_or(&none);
            let ask = ReachQuery { kind: CandidateKind::Env, wanted: &wanted, harmless };
            let open = plan.assign_to_values(probe, &ask, &entry, &mut |plan, spot, index| {
                plan.env.push((env.clone(), spot.clone(), Some(index)));
                plan.given.env.entry(spot.clone()).or_default().push(env.clone());
                if probe.is_some_and(|probe| probe.reach[index].is_config) {
                    plan.given.config.insert(env.clone());
                }
            });
            plan.env.extend(open.into_iter().map(|spot| (env.clone(), spot, None)));
        }
        // Adding a variable through a value would make a second entry of the same name.
        for (env, spots) in &wants.replaced {
            plan.env.extend(spots.iter().map(|spot| (env.clone(), spot.clone(), None)));
        }
        plan
    }

    /// Adds an entry to the values that reach those who need it, and calls `note` for each
    /// container or pod reached. Returns those that no value reaches.
    fn assign_to_values(
        &mut self,
        probe: Option<&ValueProbe>,
        ask: &ReachQuery,
        entry: &Value,
        note: &mut dyn FnMut(&mut Self, &SpecLocation, usize),
    ) -> BTreeSet<SpecLocation> {
        let ReachQuery { kind: holds, wanted, harmless } = *ask;
        let Some(probe) = probe else { return wanted.clone() };
        let (chosen, open) =
            choose_covering_values(&probe.candidates, &probe.reach, holds, wanted, harmless);
        for index in chosen {
            self.values.entry(index).or_default().push(entry.clone());
            let reach = &probe.reach[index];
            let spots =
                if holds == CandidateKind::Volumes { &reach.pods } else { &reach.containers };
            for spot in spots {
                note(self, spot, index);
            }
        }
        open
    }

    /// The settings of the overlay.
    pub(super) fn to_settings(&self, probe: &ValueProbe) -> Vec<OverlaySetting> {
        self.values
            .iter()
            .filter_map(|(index, entries)| {
                let candidate = &probe.candidates[*index];
                let names: Vec<&str> =
                    entries.iter().filter_map(|entry| entry.get("name")?.as_str()).collect();
                Some(OverlaySetting {
                    path: candidate.path.clone(),
                    value: candidate.with_entries(entries)?,
                    why: format!("configures model runtimes for offline use: {}", names.join(", ")),
                })
            })
            .collect()
    }

    /// The rows of the report; without a `probe`, as for [`Self::new`].
    pub(super) fn to_actions(
        &self,
        probe: Option<&ValueProbe>,
        wants: &WiringNeeds,
        pods: &[RenderedPod],
    ) -> Vec<WiringAction> {
        let mut lines = Vec::new();
        let mut add = |spot: &SpecLocation, key: &str, what: String, by: &Supplier| {
            let found = pods.iter().find_map(|pod| {
                let container = pod.containers.iter().find(|c| c.spot == *spot)?;
                Some(pod.describe_container(container))
            });
            let why = wants.why.get(&(spot.clone(), key.to_owned())).cloned().unwrap_or_default();
            let by: Option<DocumentPath> =
                by.zip(probe).map(|(index, probe)| probe.candidates[index].path.clone());
            lines.push(WiringAction { what, place: found.unwrap_or_default(), by, why });
        };
        for (env, spot, by) in &self.env {
            add(spot, &env.name, format!("{}={}", env.name, env.value), by);
        }
        for (mount, spot, by) in &self.mounts {
            let what = format!("{} mounted at {}, read-only", mount.volume, mount.path);
            add(spot, &mount.volume, what, by);
        }
        lines
    }

    /// The patches, for what no value reaches.
    pub(super) fn to_patches(&self, pods: &[RenderedPod]) -> Vec<ObjectPatch> {
        let mut patches = Vec::new();
        for pod in pods {
            let mut patch = ObjectPatch {
                kind: text_field(pod.object, "kind").to_owned(),
                name: pod.name().to_owned(),
                namespace: pod.namespace().map(str::to_owned),
                hook: pod.is_hook,
                ..ObjectPatch::default()
            };
            for container in &pod.containers {
                let own =
                    |spot: &SpecLocation, by: &Supplier| *spot == container.spot && by.is_none();
                let env = self.env.iter().filter(|(_, spot, by)| own(spot, by));
                let mounts = self.mounts.iter().filter(|(_, spot, by)| own(spot, by));
                let container = ContainerPatch {
                    name: container.name().to_owned(),
                    env: env.map(|(env, _, _)| (env.name.clone(), env.value.clone())).collect(),
                    volume_mounts: mounts.map(|(mount, _, _)| mount.to_value()).collect(),
                };
                if !container.env.is_empty() || !container.volume_mounts.is_empty() {
                    patch.containers.push(container);
                }
            }
            let volumes = self.volumes.iter().filter(|(_, spot)| *spot == pod.spot);
            patch.volumes = volumes.map(|(volume, _)| volume.to_value()).collect();
            if !patch.containers.is_empty() || !patch.volumes.is_empty() {
                patches.push(patch);
            }
        }
        patches
    }
}

/// Whether a text is the path, or one below it.
fn is_path_below(text: &str, path: &str) -> bool {
    text.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
