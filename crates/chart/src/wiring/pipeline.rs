//! Runs the steps in their order: render the chart as it is and with markers, find what containers
//! need, find the values that reach them, render with these and prove it, and make patches for the
//! rest.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::find_needs::NeedsFinder;
use super::issuers::IssuerFindings;
use super::needs::WiringNeeds;
use super::offline_wiring::{OfflineWiring, WiringAction, WiringLeftover};
use super::plan::WiringPlan;
use super::pods::{self, RenderedPod};
use super::probe::ValueProbe;
use super::request::{ManifestWiringRequest, WiringRequest};
use super::{candidates, issuers, prove, settings};
use crate::manifest::Manifests;
use crate::overlay::{OverlaySetting, add_settings, build_overlay};
use crate::proof::differences::find_volatile_leaves;
use crate::render::{self, RenderFunction};
use crate::taint::indexed_render::IndexedRender;
use crate::taint::scopes::ChartScopes;
use crate::{Error, OperatorRules, Result, inspect, values};

/// Renders the chart, and counts how often.
struct CountingRenderer<'a> {
    render: &'a RenderFunction<'a>,
    spent: usize,
}

impl CountingRenderer<'_> {
    /// Renders with several overlays at the same time. An error is helm's message.
    fn render_all(&mut self, overlays: &[Option<String>]) -> Vec<Result<String, String>> {
        self.spent += overlays.len();
        let streams = render::render_streams(self.render, overlays).into_iter();
        streams.map(|stream| stream.map_err(|error| error.message)).collect()
    }

    /// Renders with one overlay, or without any.
    fn render_one(&mut self, overlay: Option<String>) -> Result<String, String> {
        self.render_all(&[overlay])
            .pop()
            .unwrap_or_else(|| Err("the renderer returned no output".into()))
    }
}

/// Finds the offline configuration of a release. `render` renders the chart with the user's values
/// and with the overlay that it is given on top.
///
/// # Errors
/// The chart does not render with the user's values, or its output is not valid YAML.
pub fn wire_release(request: &WiringRequest, render: &RenderFunction) -> Result<OfflineWiring> {
    let WiringRequest { chart, user, own, offline, table, switches } = *request;
    let mut renders = CountingRenderer { render, spent: 0 };
    let effective = chart.effective_values(user);
    let scopes = ChartScopes::new(chart, &effective);
    let found = settings::find_settings(table, offline, chart, own, &effective);
    let mut wiring = OfflineWiring { leftovers: found.leftovers, ..OfflineWiring::default() };
    let below = build_overlay(&found.settings, &effective);
    let seen = effective_with_overlay(request, &below);
    let all = candidates::find_candidates(chart, &seen, &scopes);
    let first = {
        let probe = ValueProbe::new(all.clone(), chart, &scopes, &seen, &below);
        make_first_renders(&probe, found.settings, &mut renders, &mut wiring.leftovers)?
    };
    let FirstRenders { plain, with_settings, mut settings, below, marked } = first;
    // A value of a sub-chart that is switched off changes nothing, and is left out of the overlay.
    let off = inspect::find_silent_subcharts(chart, &plain);
    settings.retain(|own| !off.iter().any(|off| off.is_above(&own.path)));
    wiring.lines = describe_settings(&settings, &plain, with_settings.as_ref());
    // From here on, the chart with the rules' values is what renders are compared with.
    let before = IndexedRender::new(with_settings.unwrap_or(plain));

    let inspection = inspect::inspect_render(chart, user, before.manifests.clone());
    let findings = switches.find_phone_home(&inspection, &|_| true);
    let manifests = &before.manifests;
    let question = NeedsFinder { table, offline, manifests, own, findings: &findings };
    let pods = pods::find_pods(manifests);
    let mut wants = question.find_needs(&pods);
    wiring.leftovers.append(&mut wants.leftovers);

    let seen = effective_with_overlay(request, &below);
    // Most charts have no runtime: then markers need not be read, nor anything rendered again.
    let mut probe = ValueProbe::new(all, chart, &scopes, &seen, &below);
    if !wants.is_empty() {
        probe.learn_until_settled(marked, &before, &mut |overlays| renders.render_all(overlays));
        let plan =
            build_proven_plan(&probe, &wants, &pods, &before, &settings, &mut renders, &mut wiring);
        settings.extend(plan.to_settings(&probe));
        wiring.lines.extend(plan.to_actions(Some(&probe), &wants, &pods));
        wiring.patches = plan.to_patches(&pods);
    }
    add_issuers(issuers::find_foreign_issuers(manifests, offline.issuer.as_deref()), &mut wiring);
    wiring.settings = settings;
    wiring.renders = renders.spent;
    Ok(wiring)
}

/// Finds the offline configuration of plain manifests. They have no values, so all of it is patches.
///
/// # Errors
/// A document that is not valid YAML.
pub fn wire_manifests(request: &ManifestWiringRequest) -> Result<OfflineWiring> {
    let ManifestWiringRequest { stream, offline, table, switches } = *request;
    let inspection = inspect::inspect_stream(stream, &OperatorRules::default());
    let findings = switches.find_phone_home(&inspection, &|_| true);
    let manifests = &inspection.manifests.require_readable()?;
    let pods = pods::find_pods(manifests);
    let question =
        NeedsFinder { table, offline, manifests, own: &Value::Null, findings: &findings };
    let mut wants = question.find_needs(&pods);
    let mut wiring = OfflineWiring {
        leftovers: std::mem::take(&mut wants.leftovers),
        ..OfflineWiring::default()
    };
    let plan = WiringPlan::new(None, &wants, &pods);
    wiring.lines = plan.to_actions(None, &wants, &pods);
    wiring.patches = plan.to_patches(&pods);
    add_issuers(issuers::find_foreign_issuers(manifests, offline.issuer.as_deref()), &mut wiring);
    Ok(wiring)
}

/// What the first renders of a chart show.
struct FirstRenders {
    /// The chart as it is.
    plain: Manifests,
    /// The chart with the values that rules set; `None` if there are none, or helm refused them.
    with_settings: Option<Manifests>,
    /// Those of the values that helm took.
    settings: Vec<OverlaySetting>,
    /// The overlay of these values, which every further render has.
    below: Value,
    /// The stream with these values and markers, or helm's message. It is not read before it is
    /// known that there are needs.
    marked: Result<String, String>,
}

/// Makes three renders at the same time: the chart as it is, with the values that rules set, and
/// with those and markers. The marked one starts before it is known whether helm accepts the rules'
/// values; only if it does not is it made again, and the values become leftovers.
fn make_first_renders(
    probe: &ValueProbe,
    mut settings: Vec<OverlaySetting>,
    renders: &mut CountingRenderer,
    leftovers: &mut Vec<WiringLeftover>,
) -> Result<FirstRenders> {
    let mut below = probe.below().clone();
    let mut overlays = vec![None, Some(probe.write_marked_overlay(&probe.all_candidates()))];
    if !settings.is_empty() {
        overlays.push(Some(below.to_string()));
    }
    let mut streams = renders.render_all(&overlays).into_iter();
    let mut next =
        || streams.next().unwrap_or_else(|| Err("the renderer returned no output".into()));
    let plain = Manifests::read_render(&next().map_err(|message| Error::Render { message })?)
        .require_readable()?;
    let mut marked = next();
    let mut with_settings = None;
    if !settings.is_empty() {
        match next().map(|stream| Manifests::read_reusing(&stream, &plain)) {
            Ok(manifests) if manifests.unread.is_empty() => with_settings = Some(manifests),
            refused => {
                let message =
                    refused.err().unwrap_or_else(|| "the output is not valid YAML".into());
                leftovers
                    .extend(settings.drain(..).map(|own| leftover_for_refusal(&own, &message)));
                // Which of the values helm fails with is not searched for: there are one or two of
                // them, and the user can set each by hand.
                below = Value::Object(Map::new());
                let bare = probe.with_overlay_below(&below);
                marked =
                    renders.render_one(Some(bare.write_marked_overlay(&bare.all_candidates())));
            }
        }
    }
    Ok(FirstRenders { plain, with_settings, settings, below, marked })
}

/// Adds what is done about issuers that are not the site's, and what is left.
fn add_issuers(issuers: IssuerFindings, wiring: &mut OfflineWiring) {
    wiring.lines.extend(issuers.patches.iter().flat_map(|patch| {
        let place = format!("{} {}", patch.kind, patch.name);
        patch.annotations.iter().map(move |(name, value)| WiringAction {
            what: format!("{name}: {value}"),
            place: place.clone(),
            by: None,
            why: "certificates come from the site's own issuer".into(),
        })
    }));
    wiring.patches.extend(issuers.patches);
    wiring.leftovers.extend(issuers.leftovers);
}

/// A plan that is proven: with values if a render with them changes nothing else, and otherwise
/// with patches only, with a note about the reason.
fn build_proven_plan(
    probe: &ValueProbe,
    wants: &WiringNeeds,
    pods: &[RenderedPod],
    before: &IndexedRender,
    settings: &[OverlaySetting],
    renders: &mut CountingRenderer,
    wiring: &mut OfflineWiring,
) -> WiringPlan {
    let plan = WiringPlan::new(Some(probe), wants, pods);
    let own = plan.to_settings(probe);
    if own.is_empty() {
        return plan;
    }
    let base = build_overlay(settings, probe.effective());
    let mut with = base.clone();
    add_settings(&mut with, &own, probe.effective());
    let read = |stream: String| {
        let read = Manifests::read_reusing(&stream, &before.manifests);
        read.unread.is_empty().then(|| IndexedRender::new(read))
    };
    let wrong = match renders.render_one(Some(with.to_string())).map(read) {
        Ok(Some(after)) => {
            let mut wrong = prove::find_refutations(before, &after, &plan.given, &BTreeSet::new());
            if !wrong.is_empty() {
                // Passwords and dates differ with each render: a second one with the same values
                // shows which leaves do. Most charts have none, so this is only done now.
                let again = renders.render_one(Some(base.to_string())).ok().and_then(read);
                let moving =
                    again.map(|again| find_volatile_leaves(before, &again)).unwrap_or_default();
                wrong = prove::find_refutations(before, &after, &plan.given, &moving);
            }
            wrong
        }
        Ok(None) => vec!["the output is not valid YAML".to_owned()],
        Err(message) => vec![message],
    };
    let Some(first) = wrong.first() else { return plan };
    let paths: Vec<String> = own.iter().map(|setting| setting.path.to_string()).collect();
    wiring.notes.push(format!(
        "setting {} would change more than intended ({first}), so patches are used instead",
        paths.join(", ")
    ));
    WiringPlan::new(None, wants, pods)
}

/// The leftover for a rule's value that helm fails with.
fn leftover_for_refusal(setting: &OverlaySetting, message: &str) -> WiringLeftover {
    WiringLeftover {
        place: format!("value {}", setting.path),
        what: format!("helm fails when it is set to {}: {message}", setting.value),
        next: "set it in your values, together with what the chart requires beside it".into(),
    }
}

/// The rows of the report for the values that rules set, with the objects that they change
/// together; which value changes which object would need a render for each.
fn describe_settings(
    settings: &[OverlaySetting],
    plain: &Manifests,
    with: Option<&Manifests>,
) -> Vec<WiringAction> {
    const SHOWN: usize = 4;
    let Some(with) = with else { return vec![] };
    let before: BTreeSet<&str> = plain.documents.iter().map(|d| d.text.as_str()).collect();
    let after: BTreeSet<&str> = with.documents.iter().map(|d| d.text.as_str()).collect();
    let gone = plain.documents.iter().filter(|d| !after.contains(d.text.as_str()));
    let new = with.documents.iter().filter(|d| !before.contains(d.text.as_str()));
    let changed: BTreeSet<String> =
        gone.chain(new).map(|d| format!("{} {}", d.kind(), d.name())).collect();
    let mut place: Vec<String> = changed.iter().take(SHOWN).cloned().collect();
    if changed.len() > SHOWN {
        place.push(format!("{} more", changed.len() - SHOWN));
    }
    let place = if place.is_empty() { "no rendered object".into() } else { place.join(", ") };
    let line = |setting: &OverlaySetting| WiringAction {
        what: format!("{}: {}", setting.path, setting.value),
        place: place.clone(),
        by: Some(setting.path.clone()),
        why: setting.why.clone(),
    };
    settings.iter().map(line).collect()
}

/// The values that templates see with an overlay on top of the user's values.
fn effective_with_overlay(request: &WiringRequest, overlay: &Value) -> Value {
    let mut user = request.user.clone();
    values::merge_values(&mut user, overlay);
    request.chart.effective_values(&user)
}
