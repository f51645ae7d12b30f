//! The work on one chart: what is known, learnt, tried and reported.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use types::Reference;

use super::lost_lines::LostLines;
use super::options::RelocationOptions;
use super::pull_policies::PullPolicyValues;
use super::pull_secrets::PullSecretValues;
use super::solve::{MoveGoal, OverlayProblem};
use crate::find::FoundImage;
use crate::manifest::Manifests;
use crate::path::DocumentPath;
use crate::proof::expected_changes::ExpectedChanges;
use crate::render::{self, RenderError, RenderFunction};
use crate::taint::image_move::ImageMove;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::scopes::ChartScopes;
use crate::taint::slots::{SlotReason, ValueSlot};
use crate::target::RelocationTarget;
use crate::{HelmChart, Result};

/// The work on one chart; `run` has the order of its steps.
pub(super) struct Relocator<'a> {
    pub(super) known: RelocationSubject<'a>,
    pub(super) learnt: RenderKnowledge,
    pub(super) tried: TriedSettings,
    pub(super) reported: RelocationLog,
}

/// What is known from the start, and never changes.
pub(super) struct RelocationSubject<'a> {
    pub(super) chart: &'a HelmChart,
    pub(super) render: &'a RenderFunction<'a>,
    pub(super) target: &'a RelocationTarget,
    pub(super) options: &'a RelocationOptions<'a>,
    /// The values that templates see: the chart's defaults with the user's on top.
    pub(super) effective: Value,
    /// Where the values of each sub-chart are, and what the schemas say of them.
    pub(super) scopes: ChartScopes,
    /// Values such as `allowInsecureImages`, which the overlay has to set to `true`.
    pub(super) guards: Vec<DocumentPath>,
}

/// What the plain and the marked renders taught.
pub(super) struct RenderKnowledge {
    /// The render without an overlay, which all others are compared with.
    pub(super) before: IndexedRender,
    /// The images to move, in the order of the rendered documents.
    pub(super) moves: Vec<ImageMove>,
    /// The values that may make up an image. Their index is the number in their marker, so slots
    /// are only ever appended.
    pub(super) slots: Vec<ValueSlot>,
    /// For each of the images, in the same order: how slots make up its name.
    pub(super) goals: Vec<MoveGoal>,
    /// The texts to try for a registry value, best first.
    pub(super) registries: Vec<String>,
    /// The images that operators start without a manifest that names them, and the values that
    /// choose those images.
    pub(super) operator_images: Vec<OperatorImage>,
    /// The slots of registries that stand alone in a configuration, with the text for each.
    pub(super) registry_slots: BTreeMap<usize, String>,
    pub(super) secrets: PullSecretValues,
    pub(super) policies: PullPolicyValues,
    /// Whether something changed in the marked render that the markers do not explain; then a
    /// second plain render shows what differs each time.
    pub(super) is_unsteady: bool,
    /// The texts of the marked render that lost lines.
    pub(super) losses: Vec<LostLines>,
}

/// What overlays that were tried led to.
#[derive(Default)]
pub(super) struct TriedSettings {
    /// Lists that bring back lines which the chart omits when an image is not its default.
    pub(super) restored: BTreeMap<DocumentPath, Value>,
    /// What may differ between the renders beside the images.
    pub(super) expected: ExpectedChanges,
    /// Lists of slots that helm refused to render with markers in all of them.
    pub(super) refused_marks: Vec<Vec<usize>>,
    /// The texts (document number and path) to which lists of `restored` bring lines back.
    pub(super) restored_texts: BTreeSet<(usize, DocumentPath)>,
    /// Slots that the overlay must not set, with the reason for the report.
    pub(super) unusable: BTreeMap<usize, String>,
}

/// What is reported beside the best overlay.
#[derive(Default)]
pub(super) struct RelocationLog {
    /// What was requested and could not be set.
    pub(super) notes: Vec<String>,
    /// How often the chart was rendered.
    pub(super) renders: usize,
}

/// An image that a rule found, and the value that the overlay sets for it.
pub(super) struct OperatorImage {
    pub(super) found: FoundImage,
    /// The image's name at the site.
    pub(super) target: Reference,
    /// The value that chooses the image, if there is one to use.
    pub(super) value: Option<DocumentPath>,
}

impl OperatorImage {
    pub(super) fn new(found: &FoundImage, target: Reference) -> Self {
        Self { found: found.clone(), target, value: None }
    }
}

impl RenderKnowledge {
    /// Parses a render, most of whose documents are the same as in the plain one.
    pub(super) fn read_render(&self, stream: &str) -> Result<IndexedRender> {
        Manifests::read_reusing(stream, &self.before.manifests)
            .require_readable()
            .map(IndexedRender::new)
    }

    /// The numbers of the slots that meet a condition.
    pub(super) fn filter_slots(&self, wanted: impl Fn(&ValueSlot) -> bool) -> Vec<usize> {
        (0..self.slots.len()).filter(|slot| wanted(&self.slots[*slot])).collect()
    }
}

impl Relocator<'_> {
    /// Renders with each overlay at the same time, and counts the renders. The output is not
    /// parsed.
    pub(super) fn render_all(
        &mut self,
        overlays: &[Option<String>],
    ) -> Vec<Result<String, RenderError>> {
        self.reported.renders += overlays.len();
        render::render_streams(self.known.render, overlays)
    }

    /// The slots that are set and may be changed.
    pub(super) fn likely_slots(&self) -> Vec<usize> {
        let slots = self.learnt.filter_slots(|slot| slot.reason == SlotReason::Likely);
        self.filter_usable_slots(&slots)
    }

    /// Those of the slots that are not left alone.
    pub(super) fn filter_usable_slots(&self, slots: &[usize]) -> Vec<usize> {
        let is_usable = |slot: &usize| !self.tried.unusable.contains_key(slot);
        slots.iter().copied().filter(is_usable).collect()
    }

    /// What is known so far, as input for the solver.
    pub(super) fn overlay_problem(&self) -> OverlayProblem<'_> {
        OverlayProblem {
            slots: &self.learnt.slots,
            goals: &self.learnt.goals,
            registries: &self.learnt.registries,
            unusable: &self.tried.unusable,
        }
    }

    /// The goals (indexes of images) that the best assignment known so far does not meet.
    pub(super) fn unmoved_goals(&self) -> BTreeSet<usize> {
        let problem = self.overlay_problem();
        let Some((_, best)) = problem.rank_assignments().into_iter().next() else {
            return BTreeSet::new();
        };
        let won = problem.satisfied_goals(&best);
        (0..self.learnt.goals.len()).filter(|goal| !won.contains(goal)).collect()
    }
}
