//! Moves a chart to a site: marks values, renders, learns which values make up which image, writes
//! the smallest overlay, renders again and proves it (design section 8).

mod difference;
mod finish;
mod learn;
pub(crate) mod prove;
mod pull_secrets;
pub(crate) mod site;
pub(crate) mod slot;
mod solve;

pub use prove::{Change, Foreign, Moved, Proof, Stayed, Verdict};

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use types::Reference;
use types::naming::{Naming, Prefix};

use crate::find::{self, Place};
use crate::manifest::Manifests;
use crate::overlay::Comments;
use crate::path::Path;
use crate::render::{self, Render, RenderError};
use crate::{Chart, Error, Result, values};
pub(crate) use prove::Allowed;
use pull_secrets::Form::{Names, Objects};
use pull_secrets::Holder;
use site::{Rendered, Site};
use slot::{Reason, Scopes, Slot};
use solve::{Assignment, Form, Problem, Unset, Wish};

/// Where images are at the site.
#[derive(Debug, Clone)]
pub struct Target {
    /// The registry and the path in it.
    pub prefix: Prefix,
    /// How names are made.
    pub naming: Naming,
    /// The name of the secret that pods need to pull from it, if it asks for credentials.
    pub pull_secret: Option<String>,
}

impl Target {
    /// Whether a reference is one of the site already.
    pub fn is_home(&self, reference: &Reference) -> bool {
        let name = reference.name();
        let prefix = self.prefix.to_string();
        name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// A chart that was moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Relocation {
    /// The overlay, a values file with comments.
    pub overlay: String,
    /// The same as values.
    #[serde(skip)]
    pub values: Value,
    #[serde(skip)]
    head: Vec<String>,
    #[serde(skip)]
    comments: Comments,
    /// The values that it sets, with what each moves.
    pub lines: Vec<Line>,
    /// What the render with the overlay shows.
    pub proof: Proof,
    /// Why each place that stayed did so, in the order of `proof.stayed`.
    pub reasons: Vec<String>,
    /// The documents that pull from the site and that no value gives the pull secret; a service
    /// account has to give it to them.
    pub without_secret: Vec<Place>,
    /// How often the chart was rendered.
    pub renders: usize,
}

/// One value of the overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The value.
    pub path: Path,
    /// What it is set to.
    pub text: String,
    /// The images that it moves.
    pub moves: BTreeSet<Reference>,
}

/// Moves a chart to a site. `user` are the user's values, merged; `render` renders the chart with
/// them and with what it is given on top.
pub fn relocate(
    chart: &Chart,
    user: &Value,
    target: &Target,
    render: &Render,
) -> Result<Relocation> {
    Ok(Mover::new(chart, user, target, render)?.run())
}

struct Mover<'a> {
    render: &'a Render<'a>,
    target: &'a Target,
    effective: Value,
    guards: Vec<Path>,
    before: Rendered,
    sites: Vec<Site>,
    slots: Vec<Slot>,
    allowed: Allowed,
    registries: Vec<String>,
    wishes: Vec<Wish>,
    unusable: BTreeSet<usize>,
    /// Why slots that would move something are left alone.
    side_effects: BTreeMap<usize, String>,
    scopes: Scopes,
    /// The values that were given the pull secret.
    secrets: Vec<Path>,
    /// The documents that no value gives a pull secret.
    without_secret: Vec<usize>,
    renders: usize,
}

/// What was tried: an overlay and its proof.
struct Attempt {
    assignment: Assignment,
    values: Value,
    proof: Proof,
}

impl<'a> Mover<'a> {
    /// Renders as it is and, side by side, with the marked values; learns how each place is made up.
    fn new(
        chart: &Chart,
        user: &Value,
        target: &'a Target,
        render: &'a Render<'a>,
    ) -> Result<Self> {
        let effective = chart.effective(user);
        let scopes = Scopes::new(chart, &effective);
        let mut mover = Self {
            render,
            target,
            guards: guards(&scopes, &effective),
            scopes,
            slots: slot::slots(chart, &effective, &[]),
            effective,
            before: Rendered::new(Manifests::default()),
            registries: vec![],
            sites: vec![],
            allowed: Allowed::default(),
            wishes: vec![],
            unusable: BTreeSet::new(),
            side_effects: BTreeMap::new(),
            secrets: vec![],
            without_secret: vec![],
            renders: 0,
        };
        let likely = mover.chosen(|reason| reason == Reason::Likely);
        let given = mover.chosen(|reason| matches!(reason, Reason::Likely | Reason::Unset));
        let mut overlays = vec![None, Some(mover.tainted(&likely))];
        if given.len() > likely.len() {
            overlays.push(Some(mover.tainted(&given)));
        }
        let mut rendered = mover.rendered(&overlays).into_iter();
        let Some(before) = rendered.next() else {
            return Err(Error::Render { message: "nothing was rendered".into() });
        };
        mover.before = readable(before?)?;
        mover.find_sites()?;
        match rendered.next() {
            Some(Ok(manifests)) => mover.learn_set(manifests),
            _ => mover.learn_by_halves(&likely),
        }
        match rendered.next() {
            Some(Ok(manifests)) => mover.learn_given(manifests),
            Some(Err(_)) => mover.learn_given_one_by_one(&likely, &given),
            None => {}
        }
        let texts: Vec<&str> = mover.sites.iter().map(|site| site.text.as_str()).collect();
        let known: BTreeSet<(Path, usize)> =
            mover.slots.iter().map(|slot| (slot.path.clone(), slot.start)).collect();
        let more = slot::slots(chart, &mover.effective, &texts).into_iter();
        // What only the rendered references gave away comes last, so that numbers stay.
        let more = more.filter(|slot| !known.contains(&(slot.path.clone(), slot.start)));
        let more: Vec<Slot> = more.map(|slot| Slot { reason: Reason::Part, ..slot }).collect();
        mover.slots.extend(more);
        Ok(mover)
    }

    fn find_sites(&mut self) -> Result<()> {
        let findings = find::in_manifests(&self.before.manifests);
        let outside: Vec<_> =
            findings.images.iter().filter(|found| !self.target.is_home(&found.reference)).collect();
        let names = outside.iter().map(|found| &found.reference);
        let names = self.target.prefix.targets(self.target.naming, names)?;
        for found in outside {
            if let Some(name) = names.get(&found.reference) {
                self.sites.push(Site::new(found, name.clone()));
            }
        }
        self.registries = registries(self.target, &self.sites);
        self.wishes = self
            .sites
            .iter()
            .map(|site| Wish {
                wanted: site.wanted.clone(),
                set: Form { text: site.text.clone(), slots: vec![] },
                given: None,
            })
            .collect();
        Ok(())
    }

    fn run(mut self) -> Relocation {
        let mut best = self.solved();
        // Values whose names say nothing are marked only for what the others do not reach:
        // a marker in any of them may change more than an image.
        let parts = self.parts_of_what_stayed(best.as_ref());
        if !parts.is_empty() {
            let known: usize = self.wishes.iter().map(|wish| wish.set.slots.len()).sum();
            match self.rendered(&[Some(self.tainted(&parts))]).pop() {
                Some(Ok(manifests)) => self.learn_set(manifests),
                _ => self.learn_by_halves(&parts),
            }
            if self.wishes.iter().map(|wish| wish.set.slots.len()).sum::<usize>() > known {
                let more = self.solved();
                best = better(best, more);
            }
        }
        if let Some(attempt) = best.take() {
            let attempt = self.without_side_effects(attempt);
            best = Some(self.with_pull_secrets(attempt));
        }
        self.finished(best)
    }

    /// The slots that only a rendered reference gave away and that may be part of what stayed.
    fn parts_of_what_stayed(&self, best: Option<&Attempt>) -> Vec<usize> {
        let is_stayed = |site: &&Site| {
            best.is_none_or(|best| {
                best.proof.stayed.iter().any(|stayed| stayed.place == site.found.place)
            })
        };
        let texts: Vec<&str> =
            self.sites.iter().filter(is_stayed).map(|site| site.text.as_str()).collect();
        let is_wanted = |slot: &Slot| {
            slot.reason == Reason::Part && texts.iter().any(|text| slot::is_part(&slot.text, text))
        };
        (0..self.slots.len()).filter(|slot| is_wanted(&self.slots[*slot])).collect()
    }

    /// Some charts do something else as soon as an image is not their own. Such values are left
    /// alone, and what they would have moved is a leftover with that reason.
    fn without_side_effects(&mut self, attempt: Attempt) -> Attempt {
        // One value after another may turn out so; a chart has few of them.
        const ROUNDS: usize = 3;
        let mut best = attempt;
        for _ in 0..ROUNDS {
            if best.proof.changes.is_empty() {
                break;
            }
            let alone: Vec<Assignment> =
                best.assignment.iter().map(|(slot, text)| [(*slot, text.clone())].into()).collect();
            let mut found = false;
            for tried in self.attempts(&alone) {
                if let Some(change) = tried.proof.changes.first() {
                    let slots: Vec<usize> = tried.assignment.keys().copied().collect();
                    for slot in slots {
                        found |= self.unusable.insert(slot);
                        let path = &self.slots[slot].path;
                        self.side_effects
                            .insert(slot, format!("setting {path} also changes {}", change.place));
                    }
                }
            }
            match self.solved() {
                Some(attempt) if found => best = attempt,
                _ => break,
            }
        }
        best
    }

    fn chosen(&self, wanted: impl Fn(Reason) -> bool) -> Vec<usize> {
        (0..self.slots.len()).filter(|slot| wanted(self.slots[*slot].reason)).collect()
    }

    /// Gives the site's pull secret to every pod that a value reaches.
    fn with_pull_secrets(&mut self, attempt: Attempt) -> Attempt {
        let Some(secret) = self.target.pull_secret.clone() else { return attempt };
        let paths = pull_secrets::holders(&self.scopes, &self.effective);
        let tries: Vec<(Vec<Holder>, Value)> = [Objects, Names]
            .into_iter()
            .map(|form| pull_secrets::marked(&paths, form, &self.effective))
            .collect();
        let mut overlays = Vec::new();
        for (_, marks) in &tries {
            let mut values = attempt.values.clone();
            values::merge(&mut values, marks);
            overlays.push(Some(values.to_string()));
        }
        let rendered = self.rendered(&overlays);
        let mut holders = Vec::new();
        let mut reached: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for ((own, _), result) in tries.into_iter().zip(rendered) {
            let Ok(Ok(after)) = result.map(readable) else { continue };
            let offset = holders.len();
            for (document, by) in pull_secrets::reached(&self.sites, &self.before, &after, &own) {
                reached.entry(document).or_default().extend(by.iter().map(|by| by + offset));
            }
            holders.extend(own);
        }
        self.without_secret =
            reached.iter().filter(|(_, by)| by.is_empty()).map(|(d, _)| *d).collect();
        let chosen = pull_secrets::cover(&holders, &reached);
        if chosen.is_empty() {
            return attempt;
        }
        let mut values = attempt.values.clone();
        for holder in &chosen {
            values::set(&mut values, &holder.path, holder.form.value(&secret), &self.effective);
        }
        self.allowed.pull_secret = Some(secret);
        let result = self.rendered(&[Some(values.to_string())]).pop();
        let Some(Ok(Ok(after))) = result.map(|result| result.map(readable)) else { return attempt };
        let proof = self.proof(&attempt.assignment, &after);
        self.secrets = chosen.into_iter().map(|holder| holder.path).collect();
        Attempt { values, proof, ..attempt }
    }

    fn rendered(&mut self, overlays: &[Option<String>]) -> Vec<Result<Manifests, RenderError>> {
        self.renders += overlays.len();
        render::all(self.render, overlays)
    }

    fn set_guards(&self, overlay: &mut Value) {
        for guard in &self.guards {
            values::set(overlay, guard, Value::Bool(true), &self.effective);
        }
    }

    /// The better of two overlays, with and without giving what is not set. The one that promises
    /// more is rendered first; the other only if the first does not hold what it promised.
    fn solved(&mut self) -> Option<Attempt> {
        let problem = Problem {
            slots: &self.slots,
            wishes: &self.wishes,
            registries: &self.registries,
            unusable: &self.unusable,
        };
        let mut assignments = vec![problem.solve(Unset::Use), problem.solve(Unset::Leave)];
        assignments.dedup();
        assignments.sort_by_key(|assignment| {
            (std::cmp::Reverse(problem.satisfied(assignment).len()), assignment.len())
        });
        let mut promised =
            assignments.iter().map(|a| problem.satisfied(a).len()).collect::<Vec<_>>();
        let mut best = None;
        for assignment in assignments {
            let promise = promised.remove(0);
            let attempt = self.attempts(&[assignment]).pop();
            let is_kept = attempt.as_ref().is_some_and(|attempt| {
                attempt.proof.moved.len() >= promise && attempt.proof.verdict() < Verdict::Refuted
            });
            best = better(best, attempt);
            if is_kept {
                break;
            }
        }
        best
    }

    fn attempts(&mut self, assignments: &[Assignment]) -> Vec<Attempt> {
        let values: Vec<Value> = assignments.iter().map(|a| self.overlay(a)).collect();
        let overlays: Vec<Option<String>> = values.iter().map(|v| Some(v.to_string())).collect();
        // Beside the first overlay there is room for the render that shows what is made up anew.
        let mut overlays = overlays;
        let is_first = self.allowed.volatile.is_none();
        if is_first {
            overlays.push(None);
        }
        let mut rendered = self.rendered(&overlays);
        if is_first {
            let again = rendered.pop().map(|again| again.map(readable));
            self.allowed.volatile = Some(match again {
                Some(Ok(Ok(again))) => prove::volatile(&self.before, &again),
                _ => BTreeSet::new(),
            });
        }
        let mut attempts = Vec::new();
        for ((assignment, values), result) in assignments.iter().zip(values).zip(rendered) {
            let Ok(Ok(after)) = result.map(readable) else { continue };
            let proof = self.proof(assignment, &after);
            attempts.push(Attempt { assignment: assignment.clone(), values, proof });
        }
        attempts
    }

    fn overlay(&self, assignment: &Assignment) -> Value {
        let texts = assignment.iter().map(|(slot, text)| (*slot, text.clone()));
        let mut values = slot::filled(&self.slots, texts, &self.effective);
        if !assignment.is_empty() {
            self.set_guards(&mut values);
        }
        values
    }

    fn proof(&mut self, assignment: &Assignment, after: &Rendered) -> Proof {
        self.allowed.echoes = assignment
            .iter()
            .map(|(slot, text)| (self.slots[*slot].text.clone(), text.clone()))
            .collect();
        self.allowed.guards =
            self.guards.iter().filter_map(|path| path.last_key().map(str::to_owned)).collect();
        let is_home = |reference: &Reference| self.target.is_home(reference);
        prove::prove(&self.before, after, &self.sites, &self.allowed, &is_home)
    }
}

/// Most moved, least else changed, shortest.
fn better(one: Option<Attempt>, other: Option<Attempt>) -> Option<Attempt> {
    let rank = |attempt: &Attempt| {
        let proof = &attempt.proof;
        (proof.changes.len() + proof.foreign.len(), proof.stayed.len(), attempt.assignment.len())
    };
    match (one, other) {
        (Some(one), Some(other)) if rank(&other) < rank(&one) => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}

fn readable(manifests: Manifests) -> Result<Rendered> {
    match manifests.unread.first() {
        Some(unread) => Err(Error::Unread {
            template: unread.template.clone().unwrap_or_else(|| "a document".into()),
            line: unread.line,
            reason: unread.reason.clone(),
        }),
        None => Ok(Rendered::new(manifests)),
    }
}

/// The texts that a registry value may get, best first: with what a name needs in front of its
/// repository, and with a slash for charts that put none behind.
fn registries(target: &Target, sites: &[Site]) -> Vec<String> {
    let prefix = target.prefix.to_string();
    let hosts: BTreeSet<&str> = sites.iter().map(|site| site.found.reference.registry()).collect();
    let mut plain = match target.naming {
        Naming::HostPath => {
            hosts.iter().map(|host| format!("{prefix}/{}", host.replace(':', "-"))).collect()
        }
        Naming::Path | Naming::Name => vec![],
    };
    plain.push(prefix);
    plain.push(target.prefix.registry().to_owned());
    plain.iter().map(|text| format!("{text}/")).chain(plain.iter().cloned()).collect()
}

/// Switches of a chart that lets no other images in unless they are set.
fn guards(scopes: &Scopes, effective: &Value) -> Vec<Path> {
    let mut guards = BTreeSet::new();
    values::leaves(effective, &Path::default(), &mut |path, leaf| {
        if path.last_key() == Some("allowInsecureImages") && leaf == &Value::Bool(false) {
            guards.insert(scopes.own_path(path));
        }
    });
    guards.into_iter().collect()
}
