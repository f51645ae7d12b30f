//! The work itself, in its order: render as it is and with markers, find what containers want, find
//! the values that reach them, render that, prove it, and make patches of the rest.

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

/// Renders, and counts.
struct Renders<'a> {
    render: &'a Render<'a>,
    spent: usize,
}

impl Renders<'_> {
    fn all(&mut self, overlays: &[Option<String>]) -> Vec<Result<String, String>> {
        self.spent += overlays.len();
        let streams = render::streams(self.render, overlays).into_iter();
        streams.map(|stream| stream.map_err(|error| error.message)).collect()
    }

    fn one(&mut self, overlay: Option<String>) -> Result<String, String> {
        self.all(&[overlay]).pop().unwrap_or_else(|| Err("nothing was rendered".into()))
    }
}

pub(super) fn wire(request: &Request, render: &Render) -> Result<Wiring> {
    let Request { chart, user, own, offline, table, switches } = *request;
    let mut renders = Renders { render, spent: 0 };
    let effective = chart.effective(user);
    let found = settings::find(table, offline, chart, own, &effective);
    let mut wiring = Wiring { leftovers: found.leftovers, ..Wiring::default() };
    let mut below = overlay(&found.settings, &effective);

    // The chart as it is, with what rules set, and with that and markers, side by side.
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
    let mut next = || streams.next().unwrap_or_else(|| Err("nothing was rendered".into()));
    let plain = Manifests::read(&next().map_err(|message| Error::Render { message })?).whole()?;
    let mut marked = next();
    let mut settings = found.settings;
    let mut with_settings = None;
    if !settings.is_empty() {
        match next().map(|stream| Manifests::read_like(&stream, &plain)) {
            Ok(manifests) if manifests.unread.is_empty() => with_settings = Some(manifests),
            refused => {
                let message = refused.err().unwrap_or_else(|| "it renders to no YAML".into());
                wiring.leftovers.extend(settings.drain(..).map(|own| refusal(&own, &message)));
                below = Value::Object(Map::new());
                let probe = Probe::new(all.clone(), chart, &scopes, &seen, &below);
                marked = renders.one(Some(probe.overlay(&probe.all())));
            }
        }
    }
    let off = inspect::silent(chart, &plain);
    settings.retain(|own| !off.iter().any(|off| off.is_above(&own.path)));
    wiring.lines = setting_lines(&settings, &plain, with_settings.as_ref());
    let before = Rendered::new(with_settings.unwrap_or_else(|| plain.clone()));

    let inspection = inspect::rendered(chart, user, before.manifests.clone());
    let findings = switches.find(&inspection, &|_| true);
    let manifests = &before.manifests;
    let question = Question { table, offline, manifests, own, findings: &findings };
    let pods = pods::all(manifests);
    let mut wants = question.wants(&pods);
    wiring.leftovers.append(&mut wants.leftovers);

    let seen = effective_with(request, &below);
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

/// The plan that holds: by values where the proof stands, else by patches alone.
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
                // What is made up anew with each render shows in a second one of the same values.
                let again = renders.one(Some(base.to_string())).ok().and_then(read);
                let moving = again.map(|again| volatile(before, &again)).unwrap_or_default();
                wrong = prove::refute(before, &after, &plan.given, &moving);
            }
            wrong
        }
        Ok(None) => vec!["the chart renders to no YAML".to_owned()],
        Err(message) => vec![message],
    };
    let Some(first) = wrong.first() else { return plan };
    let paths: Vec<String> = own.iter().map(|setting| setting.path.to_string()).collect();
    wiring.notes.push(format!(
        "{} would do more than the wiring ({first}), so that patches do it",
        paths.join(", ")
    ));
    Plan::new(None, wants, pods)
}

fn refusal(setting: &Setting, message: &str) -> Leftover {
    Leftover {
        place: format!("value {}", setting.path),
        what: format!("the chart does not render with {}: {message}", setting.value),
        next: "set it by hand, with what the chart asks for beside it".into(),
    }
}

/// What the settings of rules do, in words: the objects that they change.
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
    let place = if place.is_empty() { "nothing that is rendered".into() } else { place.join(", ") };
    let line = |setting: &Setting| Line {
        what: format!("{}: {}", setting.path, setting.value),
        place: place.clone(),
        by: Some(setting.path.clone()),
        why: setting.why.clone(),
    };
    settings.iter().map(line).collect()
}

fn overlay(settings: &[Setting], effective: &Value) -> Value {
    let mut overlay = Value::Object(Map::new());
    for Setting { path, value, .. } in settings {
        values::set(&mut overlay, path, value.clone(), effective);
    }
    overlay
}

/// What templates see with an overlay.
fn effective_with(request: &Request, overlay: &Value) -> Value {
    let mut user = request.user.clone();
    values::merge(&mut user, overlay);
    request.chart.effective(&user)
}
