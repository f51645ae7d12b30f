//! The order of the steps of a relocation: the first renders, then the search for the overlay.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use types::naming::NamingRule;

use super::learn::ExtraMarkers;
use super::options::RelocationOptions;
use super::pull_policies::PullPolicyValues;
use super::pull_secrets::PullSecretValues;
use super::relocation::Relocation;
use super::relocator::{
    OperatorImage, RelocationLog, RelocationSubject, Relocator, RenderKnowledge, TriedSettings,
};
use super::solve::MoveGoal;
use crate::find::{Confidence, FoundImage, LocationKind};
use crate::manifest::Manifests;
use crate::render::RenderFunction;
use crate::site_digests::with_site_digest;
use crate::taint::guards::find_guards;
use crate::taint::image_move::ImageMove;
use crate::taint::indexed_render::IndexedRender;
use crate::taint::scopes::ChartScopes;
use crate::taint::slots;
use crate::target::RelocationTarget;
use crate::{Error, HelmChart, Result};

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
        let learnt = RenderKnowledge {
            before: IndexedRender::new(Manifests::default()),
            moves: vec![],
            slots: slots::find_slots(chart, &effective, &[]),
            goals: vec![],
            registries: vec![],
            operator_images: vec![],
            registry_slots: BTreeMap::new(),
            secrets: PullSecretValues::new(
                chart,
                &scopes,
                &effective,
                target.pull_secret.as_deref(),
            ),
            policies: PullPolicyValues::new(&scopes, &effective, options.pull_policy),
            is_unsteady: false,
            losses: vec![],
        };
        let guards = find_guards(chart, &scopes, &effective);
        let known = RelocationSubject { chart, render, target, options, effective, scopes, guards };
        let (tried, reported) = (TriedSettings::default(), RelocationLog::default());
        let mut relocator = Self { known, learnt, tried, reported };
        relocator.learn_from_first_renders()?;
        Ok(relocator)
    }

    /// Makes the plain and the first marked render, and learns from both.
    fn learn_from_first_renders(&mut self) -> Result<()> {
        // Which images there are is only known when the plain render is there, yet the marked one
        // starts beside it: markers go into everything that looks like a part of an image.
        let first = self.learnt.first_slots_to_mark();
        let marked = self.write_marked_overlay(&first, ExtraMarkers::Include);
        let mut streams = self.render_all(&[None, Some(marked)]).into_iter();
        let Some(before) = streams.next() else {
            return Err(Error::Render { message: "the renderer returned no output".into() });
        };
        self.learnt.before =
            IndexedRender::new(Manifests::read_render(&before?).require_readable()?);
        self.find_image_moves()?;
        match streams.next() {
            Some(Ok(stream)) => self.learn_from_first_marked_render(&stream),
            Some(Err(error)) => self.learn_despite_refusal(&first, &error.message),
            None => {}
        }
        Ok(())
    }

    /// Finds the images of the plain render that have to move, and their names at the site.
    fn find_image_moves(&mut self) -> Result<()> {
        let mut findings = self.learnt.before.findings().clone();
        self.known.options.rules.apply(&self.learnt.before.manifests, &mut findings);
        let outside: Vec<_> = findings
            .images
            .iter()
            .filter(|found| !self.known.target.is_site_image(&found.reference))
            .collect();
        // Two images with the same name at the site are an error. An image that is only possible takes
        // no part in that: it may never be pulled, and must not make the chart fail.
        let is_sure = |found: &&&FoundImage| found.confidence > Confidence::Possible;
        let names = outside.iter().filter(is_sure).map(|found| &found.reference);
        let names = self.known.target.prefix.site_references(self.known.target.naming, names)?;
        for found in outside {
            let image = &found.reference;
            let name = match names.get(image) {
                Some(name) => Ok(name.clone()),
                None => self.known.target.prefix.site_reference(self.known.target.naming, image),
            };
            let Ok(name) = name else { continue };
            let name = with_site_digest(name, image, self.known.options.locked);
            if found.pattern == LocationKind::Rule {
                self.learnt.operator_images.push(OperatorImage::new(found, name));
            } else {
                self.learnt.moves.push(ImageMove::new(found, name));
            }
        }
        self.choose_operator_values();
        self.learnt.registries = list_registry_texts(self.known.target, &self.learnt.moves);
        let to_goal = |site: &ImageMove| MoveGoal {
            was: site.text.clone(),
            wanted: site.wanted.clone(),
            digest: site.digest.clone(),
            compositions: vec![],
        };
        self.learnt.goals = self.learnt.moves.iter().map(to_goal).collect();
        Ok(())
    }

    /// Searches for the overlay.
    fn run(mut self) -> Relocation {
        // With a marker in an unset global registry, a chart may never read an image's own
        // registry, so the overlay needs a second marked render first. What is only possibly useful
        // is rendered beside the first overlay, where it costs no time.
        let is_hidden = self.has_hidden_way();
        if is_hidden {
            let slots = self.alternative_slots();
            self.try_overlays(&[], &[slots]);
        }
        self.restore_lost_lines();
        let marks = self.further_slots_to_mark(is_hidden);
        let is_more = !marks.is_empty();
        let known = self.learnt.count_known_compositions();
        let mut best = self.solve_overlay(marks);
        self.learn_refused_marks();
        // The marks taught something that would change the choice: solve once more.
        if is_more
            && self.learnt.count_known_compositions() > known
            && !best.iter().any(|best| self.is_best_assignment(best))
        {
            let more = self.solve_overlay(vec![]);
            best.add_all(more);
        }
        let best = self.remove_side_effects(best);
        let finished = self.build_relocation(best);
        Relocation { rendered: self.learnt.before.manifests, ..finished }
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
