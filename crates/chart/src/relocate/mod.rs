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
mod compiled_in;
pub(crate) mod difference;
pub(crate) mod expected_changes;
pub(crate) mod image_move;
pub(crate) mod indexed_render;
mod learn;
mod locked_images;
pub(crate) mod prove;
mod pull_policies;
mod pull_secrets;
mod refusals;
mod report;
pub(crate) mod scopes;
mod side_effects;
pub(crate) mod slot;
mod solve;

pub use compiled_in::CompiledInImage;
pub use locked_images::{LockedImages, UnlockedImage};
pub use prove::{
    ForeignReference, MovedImage, ProofVerdict, RelocationProof, UnexpectedChange, UnmovedImage,
};
pub use pull_policies::PullPolicy;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use types::Reference;
use types::naming::{NamingRule, RegistryPrefix};

use crate::find::{Confidence, FoundImage, LocationKind, ManifestLocation};
use crate::manifest::Manifests;
use crate::path::DocumentPath;
use crate::render::{self, RenderError, RenderFunction};
use crate::wiring::OverlaySetting;
use crate::{Error, HelmChart, OperatorRules, Result, values};
use compiled_in::OperatorImage;
pub(crate) use expected_changes::ExpectedChanges;
use image_move::{ImageMove, IndexedRender};
use learn::ExtraMarkers;
use pull_policies::PullPolicyValues;
use pull_secrets::PullSecretValues;
use scopes::ChartScopes;
use side_effects::LostLines;
use slot::{SlotReason, ValueSlot};
use solve::MoveGoal;

/// The site's registry, and the names that images get in it.
#[derive(Debug, Clone)]
pub struct RelocationTarget {
    /// The registry and the path in it that all images are below: `registry.internal:5000/ai`.
    pub prefix: RegistryPrefix,
    /// How the name of an image at the site is made from its original name.
    pub naming: NamingRule,
    /// The name of the pull secret that pods need, if the registry asks for credentials.
    pub pull_secret: Option<String>,
}

impl RelocationTarget {
    /// Whether an image reference points at the site already.
    pub fn is_site_image(&self, reference: &Reference) -> bool {
        let name = reference.name();
        let prefix = self.prefix.to_string();
        name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// What a relocation takes into account beside the chart and the site.
#[derive(Debug, Clone, Copy)]
pub struct RelocationOptions<'a> {
    /// The rules that know which images operators start without a manifest that names them.
    pub rules: &'a OperatorRules,
    /// The images that the site will have. Without it, images are not checked against the lock.
    pub locked: Option<&'a LockedImages>,
    /// The pull policy that every image gets. Without it, the chart's own policies stay.
    pub pull_policy: Option<PullPolicy>,
    /// Values that every render already has and that the overlay includes: the switches of
    /// [`crate::offline`] and the offline configuration of [`crate::wiring`].
    pub settings: &'a [OverlaySetting],
}

impl Default for RelocationOptions<'_> {
    fn default() -> Self {
        Self { rules: OperatorRules::builtin(), locked: None, pull_policy: None, settings: &[] }
    }
}

/// The result for one chart: its overlay, and what the overlay was proven to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Relocation {
    /// The overlay, a values file with comments. The proof was made with exactly this text.
    pub overlay: String,
    /// The values that the overlay sets, and the images that each of them moves.
    pub lines: Vec<RelocatedValue>,
    /// What a render with the overlay shows.
    pub proof: RelocationProof,
    /// The reason for each image that was not moved, in the order of `proof.stayed`.
    pub reasons: Vec<String>,
    /// The documents that pull from the site and that get the pull secret by no value of the
    /// chart; their service account needs the secret instead.
    pub without_secret: Vec<ManifestLocation>,
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
pub struct RelocatedValue {
    /// The path of the value: `app.image.registry`.
    pub path: DocumentPath,
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
    chart: &HelmChart,
    user: &Value,
    target: &RelocationTarget,
    options: &RelocationOptions,
    render: &RenderFunction,
) -> Result<Relocation> {
    Ok(Relocator::new(chart, user, target, options, render)?.run())
}

/// The work on one chart, step by step (see the module's documentation): `new` makes the first two
/// renders and learns from them, `run` searches for the overlay. The fields are of four kinds:
///
/// - known from the start: `chart` to `guards`;
/// - found in the plain and the marked render: `before` to `policies`;
/// - learned from overlays that were tried: `restored` to `losses`;
/// - reported at the end: `notes` and `renders`.
struct Relocator<'a> {
    chart: &'a HelmChart,
    render: &'a RenderFunction<'a>,
    target: &'a RelocationTarget,
    options: &'a RelocationOptions<'a>,
    /// The values that templates see: the chart's defaults with the user's on top.
    effective: Value,
    /// Where the values of each sub-chart are, and what the schemas say of them.
    scopes: ChartScopes,
    /// Values such as `allowInsecureImages`, which the overlay has to set to `true`.
    guards: Vec<DocumentPath>,
    /// The render without an overlay, which all others are compared with.
    before: IndexedRender,
    /// The images to move, in the order of the rendered documents.
    moves: Vec<ImageMove>,
    /// The values that may make up an image. Their index is the number in their marker, so slots
    /// are only ever appended.
    slots: Vec<ValueSlot>,
    /// For each of the images, in the same order: how slots make up its name.
    goals: Vec<MoveGoal>,
    /// The texts to try for a registry value, best first.
    registries: Vec<String>,
    /// The images that operators start without a manifest that names them, and the values that
    /// choose those images.
    operator_images: Vec<OperatorImage>,
    secrets: PullSecretValues,
    policies: PullPolicyValues,
    /// Lists that bring back lines which the chart omits when an image is not its default.
    restored: BTreeMap<DocumentPath, Value>,
    /// What may differ between the renders beside the images.
    expected: ExpectedChanges,
    /// Slots that the overlay must not set, with the reason for the report.
    unusable: BTreeMap<usize, String>,
    /// Whether something changed in the marked render that the markers do not explain; then a
    /// second plain render shows what differs each time.
    is_unsteady: bool,
    /// The texts of the marked render that lost lines.
    losses: Vec<LostLines>,
    notes: Vec<String>,
    renders: usize,
}

impl<'a> Relocator<'a> {
    /// Renders the chart as it is and, at the same time, with markers in its values; learns from
    /// the second which values make up each image.
    fn new(
        chart: &'a HelmChart,
        user: &Value,
        target: &'a RelocationTarget,
        options: &'a RelocationOptions<'a>,
        render: &'a RenderFunction<'a>,
    ) -> Result<Self> {
        let effective = chart.effective_values(user);
        let scopes = ChartScopes::new(chart, &effective);
        let mut mover = Self {
            chart,
            render,
            target,
            options,
            guards: find_guards(&scopes, &effective),
            secrets: PullSecretValues::new(&scopes, &effective, target.pull_secret.as_deref()),
            policies: PullPolicyValues::new(&scopes, &effective, options.pull_policy),
            slots: slot::find_slots(chart, &effective, &[]),
            scopes,
            effective,
            before: IndexedRender::new(Manifests::default()),
            moves: vec![],
            goals: vec![],
            registries: vec![],
            operator_images: vec![],
            restored: BTreeMap::new(),
            expected: ExpectedChanges::default(),
            unusable: BTreeMap::new(),
            is_unsteady: false,
            losses: vec![],
            notes: vec![],
            renders: 0,
        };
        // Which images there are is only known when the plain render is there, yet the marked one
        // starts beside it: markers go into everything that looks like a part of an image.
        let first = mover.first_slots_to_mark();
        let marked = mover.write_marked_overlay(&first, ExtraMarkers::Include);
        let mut streams = mover.render_all(&[None, Some(marked)]).into_iter();
        let Some(before) = streams.next() else {
            return Err(Error::Render { message: "the renderer returned no output".into() });
        };
        mover.before = IndexedRender::new(Manifests::read(&before?).require_readable()?);
        mover.find_image_moves()?;
        match streams.next() {
            Some(Ok(stream)) => mover.learn_from_first_marked_render(&stream),
            Some(Err(error)) => mover.learn_despite_refusal(&first, &error.message),
            None => {}
        }
        Ok(mover)
    }

    fn find_image_moves(&mut self) -> Result<()> {
        let mut findings = self.before.findings().clone();
        self.options.rules.apply(&self.before.manifests, &mut findings);
        let outside: Vec<_> = findings
            .images
            .iter()
            .filter(|found| !self.target.is_site_image(&found.reference))
            .collect();
        // Two images with the same name at the site are an error. An image that a rule only
        // suspects takes no part in that: it may never be pulled, and must not make the chart fail.
        let is_sure = |found: &&&FoundImage| {
            found.pattern != LocationKind::Rule || found.confidence > Confidence::Possible
        };
        let names = outside.iter().filter(is_sure).map(|found| &found.reference);
        let names = self.target.prefix.site_references(self.target.naming, names)?;
        for found in outside {
            let image = &found.reference;
            let name = match names.get(image) {
                Some(name) => Ok(name.clone()),
                None => self.target.prefix.site_reference(self.target.naming, image),
            };
            let Ok(name) = name else { continue };
            if found.pattern == LocationKind::Rule {
                self.operator_images.push(OperatorImage::new(found, name));
            } else {
                self.moves.push(ImageMove::new(found, name));
            }
        }
        self.choose_operator_values();
        self.registries = list_registry_texts(self.target, &self.moves);
        let wish = |site: &ImageMove| MoveGoal {
            was: site.text.clone(),
            wanted: site.wanted.clone(),
            compositions: vec![],
        };
        self.goals = self.moves.iter().map(wish).collect();
        Ok(())
    }

    fn run(mut self) -> Relocation {
        // With a marker in an unset global registry, a chart may never read an image's own
        // registry, so the overlay needs a second marked render first. What is only possibly useful
        // is rendered beside the first overlay, where it costs no time.
        let is_hidden = self.unmoved_goals().iter().any(|wish| self.is_hidden_by_registry(*wish));
        if is_hidden {
            let slots = self.alternative_slots();
            self.try_overlays(&[], &[slots]);
        }
        self.restore_lost_lines();
        let marks = self.further_slots_to_mark(is_hidden);
        let is_more = !marks.is_empty();
        let known = self.count_known_compositions();
        let mut best = self.solve_overlay(marks);
        // The marks taught something that would change the choice: solve once more.
        if is_more
            && self.count_known_compositions() > known
            && !best.as_ref().is_some_and(|best| self.is_best_assignment(best))
        {
            let more = self.solve_overlay(vec![]);
            best = attempt::better_attempt(best, more);
        }
        if let Some(attempt) = best.take() {
            best = Some(self.remove_side_effects(attempt));
        }
        let finished = self.build_relocation(best);
        Relocation { rendered: self.before.manifests, ..finished }
    }

    /// Renders with each overlay at the same time, and counts the renders. The output is not
    /// parsed.
    fn render_all(&mut self, overlays: &[Option<String>]) -> Vec<Result<String, RenderError>> {
        self.renders += overlays.len();
        render::render_streams(self.render, overlays)
    }

    /// Parses a render, most of whose documents are the same as in the plain one.
    fn read_render(&self, stream: &str) -> Result<IndexedRender> {
        Manifests::read_reusing(stream, &self.before.manifests)
            .require_readable()
            .map(IndexedRender::new)
    }

    fn set_guard_values(&self, overlay: &mut Value) {
        for guard in &self.guards {
            values::set_value(overlay, guard, Value::Bool(true), &self.effective);
        }
    }

    fn filter_slots(&self, wanted: impl Fn(&ValueSlot) -> bool) -> Vec<usize> {
        (0..self.slots.len()).filter(|slot| wanted(&self.slots[*slot])).collect()
    }

    fn likely_slots(&self) -> Vec<usize> {
        let mut slots = self.filter_slots(|slot| slot.reason == SlotReason::Likely);
        slots.retain(|slot| !self.unusable.contains_key(slot));
        slots
    }
}

/// The texts that a registry value may get, best first: with the part of the path that a name has
/// in front of its repository, and each also with a slash at the end, for charts that write
/// `{{ registry }}{{ repository }}`.
fn list_registry_texts(target: &RelocationTarget, sites: &[ImageMove]) -> Vec<String> {
    let prefix = target.prefix.to_string();
    let hosts: BTreeSet<&str> = sites.iter().map(|site| site.found.reference.registry()).collect();
    let mut plain = match target.naming {
        NamingRule::HostPath => {
            hosts.iter().map(|host| format!("{prefix}/{}", host.replace(':', "-"))).collect()
        }
        NamingRule::Path | NamingRule::Name => vec![],
    };
    plain.push(prefix);
    plain.push(target.prefix.registry().to_owned());
    plain.iter().map(|text| format!("{text}/")).chain(plain.iter().cloned()).collect()
}

/// The switches that a chart needs set before it accepts other images. Bitnami's charts fail with
/// "unrecognized images" unless `global.security.allowInsecureImages` is `true`.
pub(crate) fn find_guards(scopes: &ChartScopes, effective: &Value) -> Vec<DocumentPath> {
    let mut guards = BTreeSet::new();
    values::visit_leaves(effective, &DocumentPath::default(), &mut |path, leaf| {
        if path.last_key() == Some("allowInsecureImages") && leaf == &Value::Bool(false) {
            guards.insert(scopes.path_to_set(path));
        }
    });
    guards.into_iter().collect()
}
