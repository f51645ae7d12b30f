//! Moves a chart to a site: marks values, renders, learns which values make up which image, writes
//! the smallest overlay, renders again and proves it (design section 8). As a rule these are two
//! rounds of two renders side by side; what a chart makes difficult costs more.

mod attempt;
mod compiled;
pub(crate) mod difference;
pub(crate) mod explained;
mod finish;
mod learn;
mod locked;
pub(crate) mod prove;
mod pull_policies;
mod pull_secrets;
mod refused;
pub(crate) mod rendered;
pub(crate) mod scopes;
mod side_effects;
pub(crate) mod site;
pub(crate) mod slot;
mod solve;

pub use compiled::CompiledIn;
pub use locked::{Locked, NotLocked};
pub use prove::{Change, Foreign, Moved, Proof, Stayed, Verdict};
pub use pull_policies::PullPolicy;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use types::Reference;
use types::naming::{Naming, Prefix};

use crate::find::{Confidence, Found, Pattern, Place};
use crate::manifest::Manifests;
use crate::path::Path;
use crate::render::{self, Render, RenderError};
use crate::wiring::Setting;
use crate::{Chart, Error, Result, Rules, values};
use compiled::Compiled;
pub(crate) use explained::Allowed;
use learn::Extras;
use pull_policies::Policies;
use pull_secrets::Secrets;
use scopes::Scopes;
use side_effects::Loss;
use site::{Rendered, Site};
use slot::{Reason, Slot};
use solve::Wish;

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

/// What a move looks at beside the chart and the site.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The rules that tell what operators have compiled in.
    pub rules: &'a Rules,
    /// The images that the site will have. Without it nothing is said about that.
    pub locked: Option<&'a Locked>,
    /// The pull policy that every image is to get; without it the chart's own stay.
    pub pull_policy: Option<PullPolicy>,
    /// What is set in every render already, and what the overlay has to bring along: what
    /// [`crate::offline`] turns off, and the [`crate::wiring`].
    pub settings: &'a [Setting],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { rules: Rules::builtin(), locked: None, pull_policy: None, settings: &[] }
    }
}

/// A chart that was moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Relocation {
    /// The overlay, a values file with comments: the very text that was proven.
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
    /// What was asked for beside the move and could not be set, and why.
    pub notes: Vec<String>,
    /// How often the chart was rendered.
    pub renders: usize,
    /// What the chart renders without the overlay.
    #[serde(skip)]
    pub rendered: Manifests,
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
///
/// # Errors
/// The chart does not render with the user's values, it renders what is no YAML, or two of its
/// images would have one name at the site.
pub fn relocate(
    chart: &Chart,
    user: &Value,
    target: &Target,
    options: &Options,
    render: &Render,
) -> Result<Relocation> {
    Ok(Mover::new(chart, user, target, options, render)?.run())
}

struct Mover<'a> {
    chart: &'a Chart,
    render: &'a Render<'a>,
    target: &'a Target,
    options: &'a Options<'a>,
    effective: Value,
    scopes: Scopes,
    guards: Vec<Path>,
    before: Rendered,
    sites: Vec<Site>,
    slots: Vec<Slot>,
    wishes: Vec<Wish>,
    registries: Vec<String>,
    /// What operators pull without any manifest's naming it, and the values that choose it.
    compiled: Vec<Compiled>,
    secrets: Secrets,
    policies: Policies,
    /// What a chart drops as soon as an image is not its own, and the values that bring it back.
    restored: BTreeMap<Path, Value>,
    allowed: Allowed,
    /// Slots that are left alone, and why.
    unusable: BTreeMap<usize, String>,
    /// Whether something changed in the marked render that the markers do not explain.
    is_unsteady: bool,
    /// The texts that lost lines in it.
    losses: Vec<Loss>,
    notes: Vec<String>,
    renders: usize,
}

impl<'a> Mover<'a> {
    /// Renders as it is and, side by side, with the marked values; learns how each place is made up.
    fn new(
        chart: &'a Chart,
        user: &Value,
        target: &'a Target,
        options: &'a Options<'a>,
        render: &'a Render<'a>,
    ) -> Result<Self> {
        let effective = chart.effective(user);
        let scopes = Scopes::new(chart, &effective);
        let mut mover = Self {
            chart,
            render,
            target,
            options,
            guards: guards(&scopes, &effective),
            secrets: Secrets::new(&scopes, &effective, target.pull_secret.as_deref()),
            policies: Policies::new(&scopes, &effective, options.pull_policy),
            slots: slot::slots(chart, &effective, &[]),
            scopes,
            effective,
            before: Rendered::new(Manifests::default()),
            sites: vec![],
            wishes: vec![],
            registries: vec![],
            compiled: vec![],
            restored: BTreeMap::new(),
            allowed: Allowed::default(),
            unusable: BTreeMap::new(),
            is_unsteady: false,
            losses: vec![],
            notes: vec![],
            renders: 0,
        };
        let first = mover.first_marks();
        let marked = mover.marked(&first, Extras::Mark);
        let mut streams = mover.streams(&[None, Some(marked)]).into_iter();
        let Some(before) = streams.next() else {
            return Err(Error::Render { message: "nothing was rendered".into() });
        };
        mover.before = Rendered::new(Manifests::read(&before?).whole()?);
        mover.find_sites()?;
        match streams.next() {
            Some(Ok(stream)) => mover.learn_all(&stream),
            Some(Err(error)) => mover.learn_refused(&first, &error.message),
            None => {}
        }
        Ok(mover)
    }

    fn find_sites(&mut self) -> Result<()> {
        let mut findings = self.before.findings().clone();
        self.options.rules.apply(&self.before.manifests, &mut findings);
        let outside: Vec<_> =
            findings.images.iter().filter(|found| !self.target.is_home(&found.reference)).collect();
        // What a rule only takes for possible has no right to a name that another has.
        let is_sure = |found: &&&Found| {
            found.pattern != Pattern::Rule || found.confidence > Confidence::Possible
        };
        let names = outside.iter().filter(is_sure).map(|found| &found.reference);
        let names = self.target.prefix.targets(self.target.naming, names)?;
        for found in outside {
            let image = &found.reference;
            let name = match names.get(image) {
                Some(name) => Ok(name.clone()),
                None => self.target.prefix.target(self.target.naming, image),
            };
            let Ok(name) = name else { continue };
            if found.pattern == Pattern::Rule {
                self.compiled.push(Compiled::new(found, name));
            } else {
                self.sites.push(Site::new(found, name));
            }
        }
        self.choose_compiled();
        self.registries = registries(self.target, &self.sites);
        let wish = |site: &Site| Wish {
            was: site.text.clone(),
            wanted: site.wanted.clone(),
            forms: vec![],
        };
        self.wishes = self.sites.iter().map(wish).collect();
        Ok(())
    }

    fn run(mut self) -> Relocation {
        // What is hidden behind a global registry is needed for the first overlay; what only might
        // be found is looked for beside it.
        let is_hidden = self.open().iter().any(|wish| self.is_hidden(*wish));
        if is_hidden {
            let slots = self.other_ways();
            self.attempts(&[], &[slots]);
        }
        self.restore_losses();
        let marks = self.more_marks(is_hidden);
        let is_more = !marks.is_empty();
        let known = self.known();
        let mut best = self.solved(marks);
        if is_more && self.known() > known && !best.as_ref().is_some_and(|best| self.is_best(best))
        {
            let more = self.solved(vec![]);
            best = attempt::better(best, more);
        }
        if let Some(attempt) = best.take() {
            best = Some(self.without_side_effects(attempt));
        }
        let finished = self.finished(best);
        Relocation { rendered: self.before.manifests, ..finished }
    }

    /// Renders side by side, without reading what comes out.
    fn streams(&mut self, overlays: &[Option<String>]) -> Vec<Result<String, RenderError>> {
        self.renders += overlays.len();
        render::streams(self.render, overlays)
    }

    /// A render, of which most is as before.
    fn read(&self, stream: &str) -> Result<Rendered> {
        Manifests::read_like(stream, &self.before.manifests).whole().map(Rendered::new)
    }

    fn set_guards(&self, overlay: &mut Value) {
        for guard in &self.guards {
            values::set(overlay, guard, Value::Bool(true), &self.effective);
        }
    }

    fn chosen(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<usize> {
        (0..self.slots.len()).filter(|slot| wanted(&self.slots[*slot])).collect()
    }

    fn likely(&self) -> Vec<usize> {
        let mut slots = self.chosen(|slot| slot.reason == Reason::Likely);
        slots.retain(|slot| !self.unusable.contains_key(slot));
        slots
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
pub(crate) fn guards(scopes: &Scopes, effective: &Value) -> Vec<Path> {
    let mut guards = BTreeSet::new();
    values::leaves(effective, &Path::default(), &mut |path, leaf| {
        if path.last_key() == Some("allowInsecureImages") && leaf == &Value::Bool(false) {
            guards.insert(scopes.own_path(path));
        }
    });
    guards.into_iter().collect()
}
