//! Runs the steps in their order: render the chart as it is and with markers, find what containers
//! need, find the values that reach them, render with these and prove it, and make patches for the
//! rest.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::candidates;
use super::plan::Plan;
use super::pods::{self, Pod};
use super::probe::Probe;
use super::prove;
use super::wants::{Question, Wants};
use super::{Leftover, Line, Request, Setting, Wiring, issuers, settings};
use crate::manifest::Manifests;
use crate::relocate::prove::volatile;
use crate::relocate::rendered::Rendered;
use crate::relocate::scopes::Scopes;
use crate::render::{self, Render};
use crate::{Error, Result, inspect, values};

/// Renders the chart, and counts how often.
struct Renders<'a> {
    render: &'a Render<'a>,
    spent: usize,
}

impl Renders<'_> {
    /// Renders with several overlays at the same time. An error is helm's message.
    fn all(&mut self, overlays: &[Option<String>]) -> Vec<Result<String, String>> {
        self.spent += overlays.len();
        let streams = render::streams(self.render, overlays).into_iter();
        streams.map(|stream| stream.map_err(|error| error.message)).collect()
    }

    /// Renders with one overlay, or without any.
    fn one(&mut self, overlay: Option<String>) -> Result<String, String> {
        self.all(&[overlay]).pop().unwrap_or_else(|| Err("the renderer returned no output".into()))
    }
}

/// The implementation of [`super::wire_release`].
pub(super) fn wire(request: &Request, render: &Render) -> Result<Wiring> {
    let Request { chart, user, own, offline, table, switches } = *request;
    let mut renders = Renders { render, spent: 0 };
    let effective = chart.effective(user);
    let found = settings::find(table, offline, chart, own, &effective);
    let mut wiring = Wiring { leftovers: found.leftovers, ..Wiring::default() };
    let mut below = overlay(&found.settings, &effective);

    // Three renders at the same time: the chart as it is, with the values that rules set, and with
    // those and markers. The marked one starts before it is known whether helm accepts the rules'
    // values; only if it does not is it made again.
    let scopes = Scopes::new(chart, &effective);
    let seen = effective_with(request, &below);
    let all = candidates::find(chart, &seen, &scopes);
    let marked = {
        let probe = Probe::new(all.clone(), chart, &scopes, &seen, &below);
        probe.overlay(&probe.all())
    };
    let mut overlays = vec![None, Some(marked)];
    if !found.settings.is_empty() {
        overlays.push(Some(below.to_string()));
    }
    let mut streams = renders.all(&overlays).into_iter();
    let mut next =
        || streams.next().unwrap_or_else(|| Err("the renderer returned no output".into()));
    let plain = Manifests::read(&next().map_err(|message| Error::Render { message })?).whole()?;
    // Not read before it is known that there are needs; an error of helm's is a result like others.
    let mut marked = next();
    let mut settings = found.settings;
    let mut with_settings = None;
    if !settings.is_empty() {
        match next().map(|stream| Manifests::read_like(&stream, &plain)) {
            Ok(manifests) if manifests.unread.is_empty() => with_settings = Some(manifests),
            refused => {
                let message =
                    refused.err().unwrap_or_else(|| "the output is not valid YAML".into());
                wiring.leftovers.extend(settings.drain(..).map(|own| refusal(&own, &message)));
                below = Value::Object(Map::new());
                // Which of the values helm fails with is not searched for: there are one or two of
                // them, and the user can set each by hand.
                let probe = Probe::new(all.clone(), chart, &scopes, &seen, &below);
                marked = renders.one(Some(probe.overlay(&probe.all())));
            }
        }
    }
    // A value of a sub-chart that is switched off changes nothing, and is left out of the overlay.
    let off = inspect::silent(chart, &plain);
    settings.retain(|own| !off.iter().any(|off| off.is_above(&own.path)));
    wiring.lines = setting_lines(&settings, &plain, with_settings.as_ref());
    // From here on, the chart with the rules' values is what renders are compared with.
    let before = Rendered::new(with_settings.unwrap_or_else(|| plain.clone()));

    let inspection = inspect::rendered(chart, user, before.manifests.clone());
    let findings = switches.find(&inspection, &|_| true);
    let manifests = &before.manifests;
    let question = Question { table, offline, manifests, own, findings: &findings };
    let pods = pods::all(manifests);
    let mut wants = question.wants(&pods);
    wiring.leftovers.append(&mut wants.leftovers);

    let seen = effective_with(request, &below);
    // Most charts have no runtime: then markers need not be read, nor anything rendered again.
    let mut probe = Probe::new(all, chart, &scopes, &seen, &below);
    if !wants.is_empty() {
        probe.learn_all(marked, &before, &mut |overlays| renders.all(overlays));
        let plan = proven(&probe, &wants, &pods, &before, &settings, &mut renders, &mut wiring);
        settings.extend(plan.settings(&probe));
        wiring.lines.extend(plan.lines(&probe, &wants, &pods));
        wiring.patches = plan.patches(&pods);
    }
    let issuers = issuers::find(manifests, offline.issuer.as_deref());
    wiring.lines.extend(issuers.patches.iter().flat_map(|patch| {
        let place = format!("{} {}", patch.kind, patch.name);
        patch.annotations.iter().map(move |(name, value)| Line {
            what: format!("{name}: {value}"),
            place: place.clone(),
            by: None,
            why: "certificates come from the site's own issuer".into(),
        })
    }));
    wiring.patches.extend(issuers.patches);
    wiring.leftovers.extend(issuers.leftovers);
    wiring.settings = settings;
    wiring.renders = renders.spent;
    Ok(wiring)
}

/// A plan that is proven: with values if a render with them changes nothing else, and otherwise
/// with patches only, with a note about the reason.
fn proven(
    probe: &Probe,
    wants: &Wants,
    pods: &[Pod],
    before: &Rendered,
    settings: &[Setting],
    renders: &mut Renders,
    wiring: &mut Wiring,
) -> Plan {
    let plan = Plan::new(Some(probe), wants, pods);
    let own = plan.settings(probe);
    if own.is_empty() {
        return plan;
    }
    let base = overlay(settings, probe.effective());
    let mut with = base.clone();
    for Setting { path, value, .. } in &own {
        values::set(&mut with, path, value.clone(), probe.effective());
    }
    let read = |stream: String| {
        let read = Manifests::read_like(&stream, &before.manifests);
        read.unread.is_empty().then(|| Rendered::new(read))
    };
    let wrong = match renders.one(Some(with.to_string())).map(read) {
        Ok(Some(after)) => {
            let mut wrong = prove::refute(before, &after, &plan.given, &BTreeSet::new());
            if !wrong.is_empty() {
                // Passwords and dates differ with each render: a second one with the same values
                // shows which leaves do. Most charts have none, so this is only done now.
                let again = renders.one(Some(base.to_string())).ok().and_then(read);
                let moving = again.map(|again| volatile(before, &again)).unwrap_or_default();
                wrong = prove::refute(before, &after, &plan.given, &moving);
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
    Plan::new(None, wants, pods)
}

/// The leftover for a rule's value that helm fails with.
fn refusal(setting: &Setting, message: &str) -> Leftover {
    Leftover {
        place: format!("value {}", setting.path),
        what: format!("helm fails when it is set to {}: {message}", setting.value),
        next: "set it in your values, together with what the chart requires beside it".into(),
    }
}

/// The rows of the report for the values that rules set, with the objects that they change
/// together; which value changes which object would need a render for each.
fn setting_lines(settings: &[Setting], plain: &Manifests, with: Option<&Manifests>) -> Vec<Line> {
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
    let line = |setting: &Setting| Line {
        what: format!("{}: {}", setting.path, setting.value),
        place: place.clone(),
        by: Some(setting.path.clone()),
        why: setting.why.clone(),
    };
    settings.iter().map(line).collect()
}

/// The overlay that sets these values.
fn overlay(settings: &[Setting], effective: &Value) -> Value {
    let mut overlay = Value::Object(Map::new());
    for Setting { path, value, .. } in settings {
        values::set(&mut overlay, path, value.clone(), effective);
    }
    overlay
}

/// The values that templates see with an overlay on top of the user's values.
fn effective_with(request: &Request, overlay: &Value) -> Value {
    let mut user = request.user.clone();
    values::merge(&mut user, overlay);
    request.chart.effective(&user)
}
