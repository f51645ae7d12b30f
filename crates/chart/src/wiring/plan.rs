//! Decides for each need whether a value of the chart or a patch meets it, and turns the decisions
//! into settings of the overlay, patches, and rows of the report.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::candidates::Holds;
use super::choose::cover;
use super::mounts::{Mount, Volume};
use super::patch::{ContainerPatch, Patch};
use super::pods::{Pod, Spot};
use super::probe::Probe;
use super::prove::Given;
use super::wants::{Env, Wants};
use super::{Line, Setting};
use crate::path::Path;

/// The decisions: which entries each value gets, and which entries patches add.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The entries that each candidate value gets, by the candidate's index.
    values: BTreeMap<usize, Vec<Value>>,
    /// The same by container and pod, as the render with the overlay has to show it.
    pub(super) given: Given,
    /// All variables and mounts, with their container and what adds them.
    env: Vec<(Env, Spot, By)>,
    mounts: Vec<(Mount, Spot, By)>,
    /// The volumes that patches add, with their pods.
    volumes: Vec<(Volume, Spot)>,
}

/// Which values are looked for: of a kind, reaching `wanted`, and at most `harmless` beside them.
struct Ask<'a> {
    holds: Holds,
    wanted: &'a BTreeSet<Spot>,
    harmless: &'a BTreeSet<Spot>,
}

/// What adds an entry: the candidate value with this index, or a patch (`None`).
type By = Option<usize>;

impl Plan {
    /// Uses the fewest values for what is needed, and patches for the rest; without a `probe`, only
    /// patches. Volumes are decided first, then mounts, then variables, as each depends on those
    /// before it.
    pub(super) fn new(probe: Option<&Probe>, wants: &Wants, pods: &[Pod]) -> Self {
        let mut plan = Self::default();
        let none = BTreeSet::new();
        let mut is_by_value: BTreeSet<(&str, Spot)> = BTreeSet::new();
        for (volume, wanted) in &wants.volumes {
            let ask = Ask { holds: Holds::Volumes, wanted, harmless: &none };
            let open = plan.by_values(probe, &ask, &volume.value(), &mut |plan, spot, _| {
                plan.given.volumes.entry(spot.clone()).or_default().push(volume.clone());
            });
            let reached = wanted.difference(&open).cloned();
            is_by_value.extend(reached.map(|spot| (volume.name.as_str(), spot)));
            plan.volumes.extend(open.into_iter().map(|spot| (volume.clone(), spot)));
        }
        for (mount, wanted) in &wants.mounts {
            // The API server rejects a pod with a mount and no volume of that name. If the volume
            // needs a patch, so does the mount: the overlay has to work without patches too.
            let has_volume = |spot: &&Spot| {
                let pod = pods.iter().find(|pod| pod.containers.iter().any(|c| c.spot == **spot));
                !mount.is_own
                    || pod.is_some_and(|pod| {
                        is_by_value.contains(&(mount.volume.as_str(), pod.spot.clone()))
                    })
            };
            let safe: BTreeSet<Spot> = wanted.iter().filter(has_volume).cloned().collect();
            let ask = Ask { holds: Holds::Mounts, wanted: &safe, harmless: &none };
            let open = plan.by_values(probe, &ask, &mount.value(), &mut |plan, spot, index| {
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
            let by_patch: BTreeSet<Spot> = wanted
                .iter()
                .filter(|spot| {
                    plan.mounts.iter().any(|(mount, own, by)| {
                        own == *spot && by.is_none() && is_in(&env.value, &mount.path)
                    })
                })
                .cloned()
                .collect();
            plan.env.extend(by_patch.iter().map(|spot| (env.clone(), spot.clone(), None)));
            let wanted = wanted.difference(&by_patch).cloned().collect();
            let harmless = wants.harmless.get(env).unwrap_or(&none);
            let ask = Ask { holds: Holds::Env, wanted: &wanted, harmless };
            let open = plan.by_values(probe, &ask, &entry, &mut |plan, spot, index| {
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
    fn by_values(
        &mut self,
        probe: Option<&Probe>,
        ask: &Ask,
        entry: &Value,
        note: &mut dyn FnMut(&mut Self, &Spot, usize),
    ) -> BTreeSet<Spot> {
        let Ask { holds, wanted, harmless } = *ask;
        let Some(probe) = probe else { return wanted.clone() };
        let (chosen, open) = cover(&probe.candidates, &probe.reach, holds, wanted, harmless);
        for index in chosen {
            self.values.entry(index).or_default().push(entry.clone());
            let reach = &probe.reach[index];
            let spots = if holds == Holds::Volumes { &reach.pods } else { &reach.containers };
            for spot in spots {
                note(self, spot, index);
            }
        }
        open
    }

    /// The settings of the overlay.
    pub(super) fn settings(&self, probe: &Probe) -> Vec<Setting> {
        self.values
            .iter()
            .filter_map(|(index, entries)| {
                let candidate = &probe.candidates[*index];
                let names: Vec<&str> =
                    entries.iter().filter_map(|entry| entry.get("name")?.as_str()).collect();
                Some(Setting {
                    path: candidate.path.clone(),
                    value: candidate.with(entries)?,
                    why: format!("configures model runtimes for offline use: {}", names.join(", ")),
                })
            })
            .collect()
    }

    /// The rows of the report.
    pub(super) fn lines(&self, probe: &Probe, wants: &Wants, pods: &[Pod]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut add = |spot: &Spot, key: &str, what: String, by: &By| {
            let found = pods.iter().find_map(|pod| {
                let container = pod.containers.iter().find(|c| c.spot == *spot)?;
                Some(pod.place(container))
            });
            let why = wants.why.get(&(spot.clone(), key.to_owned())).cloned().unwrap_or_default();
            let by: Option<Path> = by.map(|index| probe.candidates[index].path.clone());
            lines.push(Line { what, place: found.unwrap_or_default(), by, why });
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
    pub(super) fn patches(&self, pods: &[Pod]) -> Vec<Patch> {
        let mut patches = Vec::new();
        for pod in pods {
            let mut patch = Patch {
                kind: super::pods::text(pod.object, "kind").to_owned(),
                name: pod.name().to_owned(),
                hook: pod.is_hook,
                ..Patch::default()
            };
            for container in &pod.containers {
                let own = |spot: &Spot, by: &By| *spot == container.spot && by.is_none();
                let env = self.env.iter().filter(|(_, spot, by)| own(spot, by));
                let mounts = self.mounts.iter().filter(|(_, spot, by)| own(spot, by));
                let container = ContainerPatch {
                    name: container.name().to_owned(),
                    env: env.map(|(env, _, _)| (env.name.clone(), env.value.clone())).collect(),
                    volume_mounts: mounts.map(|(mount, _, _)| mount.value()).collect(),
                };
                if !container.env.is_empty() || !container.volume_mounts.is_empty() {
                    patch.containers.push(container);
                }
            }
            let volumes = self.volumes.iter().filter(|(_, spot)| *spot == pod.spot);
            patch.volumes = volumes.map(|(volume, _)| volume.value()).collect();
            if !patch.containers.is_empty() || !patch.volumes.is_empty() {
                patches.push(patch);
            }
        }
        patches
    }
}

/// Whether a text is the path, or one below it.
fn is_in(text: &str, path: &str) -> bool {
    text.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
