//! Moves a chart to a site: marks values, renders, learns which values make up which image, writes
//! the smallest overlay, renders again and proves it (design section 8).

mod difference;
pub(crate) mod prove;
mod pull_secrets;
pub(crate) mod site;
pub(crate) mod slot;
mod solve;

pub use prove::{Change, Foreign, Moved, Proof, Stayed, Verdict};

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};
use types::Reference;
use types::naming::{Naming, Prefix};

use crate::find::{self, Place};
use crate::manifest::Manifests;
use crate::overlay::{self, Comments};
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
        let parts = self.chosen(|reason| reason == Reason::Part);
        if best.as_ref().is_none_or(|best| !best.proof.stayed.is_empty()) && !parts.is_empty() {
            match self.rendered(&[Some(self.tainted(&parts))]).pop() {
                Some(Ok(manifests)) => self.learn_set(manifests),
                _ => self.learn_by_halves(&parts),
            }
            let more = self.solved();
            best = better(best, more);
        }
        if let Some(attempt) = best.take() {
            let attempt = self.without_side_effects(attempt);
            best = Some(self.with_pull_secrets(attempt));
        }
        self.finished(best)
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

    fn tainted(&self, slots: &[usize]) -> String {
        let mut values = slot::tainted(&self.slots, slots, &self.effective);
        self.set_guards(&mut values);
        values.to_string()
    }

    fn set_guards(&self, overlay: &mut Value) {
        for guard in &self.guards {
            values::set(overlay, guard, Value::Bool(true), &self.effective);
        }
    }

    /// Helm refused some of the marked values: looks for which, half by half.
    fn learn_by_halves(&mut self, slots: &[usize]) {
        // Some renders per refused value; a chart that refuses more of them is not worth them all.
        const MOST: usize = 40;
        let mut open = vec![slots.to_vec()];
        let mut tried = 0;
        while !open.is_empty() && tried < MOST {
            let parts: Vec<Vec<usize>> = std::mem::take(&mut open)
                .into_iter()
                .flat_map(|slots| {
                    let (one, other) = slots.split_at(slots.len() / 2);
                    [one.to_vec(), other.to_vec()]
                })
                .filter(|part| !part.is_empty())
                .collect();
            let overlays: Vec<Option<String>> =
                parts.iter().map(|part| Some(self.tainted(part))).collect();
            tried += overlays.len();
            for (part, result) in parts.into_iter().zip(self.rendered(&overlays)) {
                match result {
                    Ok(manifests) => self.learn_set(manifests),
                    Err(_) if part.len() > 1 => open.push(part),
                    Err(_) => self.unusable.extend(part),
                }
            }
        }
        self.unusable.extend(open.into_iter().flatten());
    }

    fn learn_given_one_by_one(&mut self, likely: &[usize], given: &[usize]) {
        // The globals come first: they move most.
        const MOST: usize = 8;
        let mut unset: Vec<usize> =
            given.iter().copied().filter(|s| self.slots[*s].reason == Reason::Unset).collect();
        unset.sort_by_key(|slot| self.slots[*slot].path.steps().len());
        let usable: Vec<usize> =
            likely.iter().copied().filter(|s| !self.unusable.contains(s)).collect();
        self.unusable.extend(unset.iter().skip(MOST));
        unset.truncate(MOST);
        let with = |slot: usize| {
            let mut slots = usable.clone();
            slots.push(slot);
            slots
        };
        let overlays: Vec<Option<String>> =
            unset.iter().map(|s| Some(self.tainted(&with(*s)))).collect();
        for (slot, result) in unset.into_iter().zip(self.rendered(&overlays)) {
            match result {
                Ok(manifests) => self.learn_given(manifests),
                Err(_) => {
                    self.unusable.insert(slot);
                }
            }
        }
    }

    /// Learns from a render in which only values that are set were marked: without the markers each
    /// place reads as before.
    fn learn_set(&mut self, manifests: Manifests) {
        let marked = Rendered::new(manifests);
        for (site, wish) in self.sites.iter().zip(&mut self.wishes) {
            let Some(text) = site.text_in(&self.before, &marked) else { continue };
            let (clean, found) = slot::cleaned(&text);
            if clean == site.text {
                wish.set.slots.extend(found);
                wish.set.slots.sort_by_key(|(slot, start)| (*start, *slot));
                wish.set.slots.dedup();
            }
        }
    }

    /// Learns from a render in which registries that are not set were given too.
    fn learn_given(&mut self, manifests: Manifests) {
        let marked = Rendered::new(manifests);
        for (site, wish) in self.sites.iter().zip(&mut self.wishes) {
            let Some(text) = site.text_in(&self.before, &marked) else { continue };
            let (clean, slots) = slot::cleaned(&text);
            let is_given = slots.iter().any(|(slot, _)| self.slots[*slot].reason == Reason::Unset);
            if is_given && wish.given.is_none() {
                wish.given = Some(Form { text: clean, slots });
            }
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

    fn finished(&self, best: Option<Attempt>) -> Relocation {
        let best = best.unwrap_or_else(|| Attempt {
            assignment: Assignment::new(),
            values: Value::Object(Map::new()),
            proof: self.nothing_moved(),
        });
        let lines = self.lines(&best);
        let mut comments = Comments::new();
        for line in &lines {
            comments.entry(line.path.clone()).or_default().push(comment(&line.moves));
        }
        for guard in &self.guards {
            comments.insert(guard.clone(), vec!["the chart's guard lets other images in".into()]);
        }
        for path in &self.secrets {
            comments.insert(path.clone(), vec!["what pods need to pull from there".into()]);
        }
        let head = [format!("Moves the chart's images to {}.", self.target.prefix)];
        let overlay = overlay::write(&head, &best.values, &comments);
        let reasons = best.proof.stayed.iter().map(|stayed| self.reason(stayed)).collect();
        let places = self.sites.iter().map(|site| &site.found.place);
        let without_secret: BTreeMap<usize, &Place> =
            places.map(|place| (place.document, place)).collect();
        let without_secret = self
            .without_secret
            .iter()
            .filter_map(|document| without_secret.get(document))
            .map(|place| Place { path: Path::default(), ..(*place).clone() })
            .collect();
        let proof = best.proof;
        Relocation { overlay, lines, proof, reasons, without_secret, renders: self.renders }
    }

    /// Why no value moves a place.
    fn reason(&self, stayed: &Stayed) -> String {
        let at = self.sites.iter().position(|site| site.found.place == stayed.place);
        let forms = at.map(|at| [Some(&self.wishes[at].set), self.wishes[at].given.as_ref()]);
        let slots: Vec<usize> = forms
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|form| form.slots.iter().map(|(slot, _)| *slot))
            .collect();
        if let Some(reason) = slots.iter().find_map(|slot| self.side_effects.get(slot)) {
            return reason.clone();
        }
        match slots.first() {
            None => "the template has it written out: no value reaches it".into(),
            Some(slot) => format!(
                "the value {} gives a part of it, but not its registry",
                self.slots[*slot].path
            ),
        }
    }

    fn nothing_moved(&self) -> Proof {
        let stayed = self.sites.iter().map(|site| Stayed {
            from: site.found.reference.clone(),
            to: site.target.clone(),
            place: site.found.place.clone(),
        });
        Proof { stayed: stayed.collect(), ..Proof::default() }
    }

    fn lines(&self, best: &Attempt) -> Vec<Line> {
        let mut lines: BTreeMap<&Path, Line> = BTreeMap::new();
        for (slot, text) in &best.assignment {
            let path = &self.slots[*slot].path;
            let line = lines.entry(path).or_insert_with(|| Line {
                path: path.clone(),
                text: text.clone(),
                moves: BTreeSet::new(),
            });
            for (site, wish) in self.sites.iter().zip(&self.wishes) {
                let forms = [Some(&wish.set), wish.given.as_ref()];
                let is_part = |form: &Form| form.slots.iter().any(|(own, _)| own == slot);
                if forms.into_iter().flatten().any(is_part) {
                    line.moves.insert(site.found.reference.clone());
                }
            }
        }
        lines.into_values().collect()
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

fn comment(moves: &BTreeSet<Reference>) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = moves.iter().take(SHOWN).map(ToString::to_string).collect();
    match moves.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
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
