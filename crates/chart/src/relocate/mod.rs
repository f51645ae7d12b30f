//! Points the images of a chart at a site's registry, by a values file (the overlay) alone, and
//! proves that the chart then renders to the same objects with other image names.
//!
//! The steps, with a file each:
//!
//! 1. `slot`, `scopes`: find the values that may be (a part of) an image.
//! 2. `learn`: put a marker into each of them and render; the markers in the output show which
//!    values make up which image. `refusals` handles charts that do not render with markers.
//! 3. `solve`: choose the fewest values that give every image its name at the site.
//! 4. `attempt`: write the overlay, render with it, and `prove` the result: every image
//!    (`image_move`) has its name at the site, and each `difference` between the renders is one of
//!    the `expected_changes`.
//! 5. `side_effects`: where the chart changes something else as well, restore it or leave the
//!    value.
//! 6. `report`: the overlay with comments, and the reason for each image that could not be moved.
//!
//! An ordinary chart takes four renders, two at a time: plain and marked, then the overlay and,
//! where something differs from render to render, the plain one again.

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

/// The site's registry, and the names that images get in it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The registry and the path in it that all images are below: `registry.internal:5000/ai`.
    pub prefix: Prefix,
    /// How the name of an image at the site is made from its original name.
    pub naming: Naming,
    /// The name of the pull secret that pods need, if the registry asks for credentials.
    pub pull_secret: Option<String>,
}

impl Target {
    /// Whether an image reference points at the site already.
    pub fn is_home(&self, reference: &Reference) -> bool {
        let name = reference.name();
        let prefix = self.prefix.to_string();
        name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// What a relocation takes into account beside the chart and the site.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The rules that know which images operators start without a manifest that names them.
    pub rules: &'a Rules,
    /// The images that the site will have. Without it, images are not checked against the lock.
    pub locked: Option<&'a Locked>,
    /// The pull policy that every image gets. Without it, the chart's own policies stay.
    pub pull_policy: Option<PullPolicy>,
    /// Values that every render already has and that the overlay includes: the switches of
    /// [`crate::offline`] and the offline configuration of [`crate::wiring`].
    pub settings: &'a [Setting],
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { rules: Rules::builtin(), locked: None, pull_policy: None, settings: &[] }
    }
}

/// The result for one chart: its overlay, and what the overlay was proven to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Relocation {
    /// The overlay, a values file with comments. The proof was made with exactly this text.
    pub overlay: String,
    /// The values that the overlay sets, and the images that each of them moves.
    pub lines: Vec<Line>,
    /// What a render with the overlay shows.
    pub proof: Proof,
    /// The reason for each image that was not moved, in the order of `proof.stayed`.
    pub reasons: Vec<String>,
    /// The documents that pull from the site and that get the pull secret by no value of the
    /// chart; their service account needs the secret instead.
    pub without_secret: Vec<Place>,
    /// What was requested beside the images (pull policy, pull secret) and could not be set.
    pub notes: Vec<String>,
    /// How often the chart was rendered.
    pub renders: usize,
    /// What the chart renders to without the overlay.
    #[serde(skip)]
    pub rendered: Manifests,
}

/// One value of the overlay, with the images that it moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The path of the value: `app.image.registry`.
    pub path: Path,
    /// The text that it is set to.
    pub text: String,
    /// The images that it moves, by their original names.
    pub moves: BTreeSet<Reference>,
}

/// Points the images of a chart at a site. `user` are the user's values, merged into one; `render`
/// renders the chart with them and with the overlay that it is given on top.
///
/// # Errors
/// The chart does not render with the user's values, its output is not valid YAML, or two of its
/// images would get the same name at the site.
pub fn relocate(
    chart: &Chart,
    user: &Value,
    target: &Target,
    options: &Options,
    render: &Render,
) -> Result<Relocation> {
    Ok(Mover::new(chart, user, target, options, render)?.run())
}

/// The work on one chart, step by step (see the module's documentation): `new` makes the first two
/// renders and learns from them, `run` searches for the overlay. The fields are of four kinds:
///
/// - known from the start: `chart` to `guards`;
/// - found in the plain and the marked render: `before` to `policies`;
/// - learned from overlays that were tried: `restored` to `losses`;
/// - reported at the end: `notes` and `renders`.
struct Mover<'a> {
    chart: &'a Chart,
    render: &'a Render<'a>,
    target: &'a Target,
    options: &'a Options<'a>,
    /// The values that templates see: the chart's defaults with the user's on top.
    effective: Value,
    /// Where the values of each sub-chart are, and what the schemas say of them.
    scopes: Scopes,
    /// Values such as `allowInsecureImages`, which the overlay has to set to `true`.
    guards: Vec<Path>,
    /// The render without an overlay, which all others are compared with.
    before: Rendered,
    /// The images to move, in the order of the rendered documents.
    sites: Vec<Site>,
    /// The values that may make up an image. Their index is the number in their marker, so slots
    /// are only ever appended.
    slots: Vec<Slot>,
    /// For each of the images, in the same order: how slots make up its name.
    wishes: Vec<Wish>,
    /// The texts to try for a registry value, best first.
    registries: Vec<String>,
    /// The images that operators start without a manifest that names them, and the values that
    /// choose those images.
    compiled: Vec<Compiled>,
    secrets: Secrets,
    policies: Policies,
    /// Lists that bring back lines which the chart omits when an image is not its default.
    restored: BTreeMap<Path, Value>,
    /// What may differ between the renders beside the images.
    allowed: Allowed,
    /// Slots that the overlay must not set, with the reason for the report.
    unusable: BTreeMap<usize, String>,
    /// Whether something changed in the marked render that the markers do not explain; then a
    /// second plain render shows what differs each time.
    is_unsteady: bool,
    /// The texts of the marked render that lost lines.
    losses: Vec<Loss>,
    notes: Vec<String>,
    renders: usize,
}

impl<'a> Mover<'a> {
    /// Renders the chart as it is and, at the same time, with markers in its values; learns from
    /// the second which values make up each image.
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
        // Which images there are is only known when the plain render is there, yet the marked one
        // starts beside it: markers go into everything that looks like a part of an image.
        let first = mover.first_marks();
        let marked = mover.marked(&first, Extras::Mark);
        let mut streams = mover.streams(&[None, Some(marked)]).into_iter();
        let Some(before) = streams.next() else {
            return Err(Error::Render { message: "the renderer returned no output".into() });
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
        // Two images with the same name at the site are an error. An image that a rule only
        // suspects takes no part in that: it may never be pulled, and must not make the chart fail.
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
        // With a marker in an unset global registry, a chart may never read an image's own
        // registry, so the overlay needs a second marked render first. What is only possibly useful
        // is rendered beside the first overlay, where it costs no time.
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
        // The marks taught something that would change the choice: solve once more.
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

    /// Renders with each overlay at the same time, and counts the renders. The output is not
    /// parsed.
    fn streams(&mut self, overlays: &[Option<String>]) -> Vec<Result<String, RenderError>> {
        self.renders += overlays.len();
        render::streams(self.render, overlays)
    }

    /// Parses a render, most of whose documents are the same as in the plain one.
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

/// The texts that a registry value may get, best first: with the part of the path that a name has
/// in front of its repository, and each also with a slash at the end, for charts that write
/// `{{ registry }}{{ repository }}`.
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

/// The switches that a chart needs set before it accepts other images. Bitnami's charts fail with
/// "unrecognized images" unless `global.security.allowInsecureImages` is `true`.
pub(crate) fn guards(scopes: &Scopes, effective: &Value) -> Vec<Path> {
    let mut guards = BTreeSet::new();
    values::leaves(effective, &Path::default(), &mut |path, leaf| {
        if path.last_key() == Some("allowInsecureImages") && leaf == &Value::Bool(false) {
            guards.insert(scopes.own_path(path));
        }
    });
    guards.into_iter().collect()
}
