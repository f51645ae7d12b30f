//! What `gantry deploy` returns, and how a terminal shows it.

use std::fmt::Write as _;

use deploy::release::{
    DeployPlan, DeployedRelease, DriftOutcome, FieldDrift, ReleaseAction, SupportObject,
    SupportObjectStatus,
};
use serde::Serialize;

use crate::ui;

/// The result of a deployment.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeploySummary {
    pub(in crate::commands) context: String,
    pub(in crate::commands) server: String,
    pub(in crate::commands) releases: Vec<DeployedRelease>,
    /// What was done in the namespaces of site.yaml (`namespaces:`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) namespace_objects: Vec<SupportObject>,
}

/// The result of a dry run.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeployPreview {
    pub(in crate::commands) context: String,
    pub(in crate::commands) server: String,
    pub(in crate::commands) releases: Vec<DeployPlan>,
    /// What would be done in the namespaces of site.yaml (`namespaces:`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::commands) namespace_objects: Vec<SupportObject>,
}

/// One line for a release that was deployed.
pub(super) fn describe_deployment(done: &DeployedRelease) -> String {
    let what = match done.action {
        ReleaseAction::None => "no change".to_owned(),
        action => format!("{}, objects changed: {}", label_action(action), done.changed),
    };
    format!("{} is ready in {}: revision {} ({what})", done.release, done.namespace, done.revision)
}

/// What was done to a release, in the table.
fn describe_action(done: &DeployedRelease) -> String {
    let action = label_action(done.action);
    match done.restarted.len() {
        0 => action.to_owned(),
        restarted => format!("{action}, {restarted} restarted"),
    }
}

fn label_action(action: ReleaseAction) -> &'static str {
    match action {
        ReleaseAction::Install => "install",
        ReleaseAction::Upgrade => "upgrade",
        ReleaseAction::Restore => "put back",
        ReleaseAction::None => "no change",
        ReleaseAction::Mend => "repair, then install",
    }
}

pub(in crate::commands) fn format_summary(summary: &DeploySummary) -> String {
    let rows = summary.releases.iter().map(|one| {
        [
            one.release.clone(),
            one.namespace.clone(),
            one.chart.clone(),
            describe_action(one),
            one.revision.to_string(),
        ]
    });
    let mut text =
        ui::format_table(["release", "namespace", "chart", "action", "revision"], rows.collect());
    for one in summary.releases.iter().flat_map(|one| &one.beside) {
        if one.object.starts_with("ServiceAccount") && one.outcome != SupportObjectStatus::Same {
            let _ = writeln!(
                text,
                "{} now has the pull secret, since no chart value sets it",
                one.object
            );
        }
    }
    for one in &summary.namespace_objects {
        let done = match one.outcome {
            SupportObjectStatus::Created => "created",
            SupportObjectStatus::Changed => "changed",
            SupportObjectStatus::Same | SupportObjectStatus::Kept => continue,
        };
        let _ = writeln!(text, "{done}: {}", one.object);
    }
    for one in summary.releases.iter().flat_map(|one| &one.drift) {
        let _ = writeln!(text, "{}", describe_drift(one));
    }
    text
}

/// Says who changed which fields of an object, and what is done about it.
fn describe_drift(drift: &FieldDrift) -> String {
    let FieldDrift { object, manager, fields, outcome } = drift;
    let what = match outcome {
        DriftOutcome::Restored => "put back",
        DriftOutcome::Adopted => "kept (--adopt-drift)",
        DriftOutcome::Left => "left alone, since a controller owns it",
    };
    format!("{object}: {manager} changed {}: {what}", fields.join(", "))
}

pub(in crate::commands) fn format_preview(planning: &DeployPreview) -> String {
    let mut text = String::new();
    if !planning.namespace_objects.is_empty() {
        text.push_str("namespaces of site.yaml:\n");
        push_support_objects(&mut text, &planning.namespace_objects);
    }
    for plan in &planning.releases {
        let DeployPlan { release, namespace, chart, action, beside, changes, drift, notes } = plan;
        let _ = writeln!(text, "{release} in {namespace} ({chart}): {}", label_action(*action));
        push_support_objects(&mut text, beside);
        for one in changes {
            let sign = match one.change {
                deploy::release::ObjectChange::Created => "+",
                deploy::release::ObjectChange::Changed => "~",
                deploy::release::ObjectChange::Removed => "-",
            };
            let _ = writeln!(text, "  {sign} {}", one.object);
            for line in one.diff.lines() {
                let _ = writeln!(text, "      {line}");
            }
        }
        for one in drift {
            let _ = writeln!(text, "  drift: {}", describe_drift(one));
        }
        for note in notes {
            let _ = writeln!(text, "  note: {note}");
        }
    }
    text
}

/// Adds a line for each object that is created, changed, or somebody else's.
fn push_support_objects(text: &mut String, objects: &[SupportObject]) {
    for one in objects.iter().filter(|one| one.outcome != SupportObjectStatus::Same) {
        let word = match one.outcome {
            SupportObjectStatus::Created => "+",
            SupportObjectStatus::Changed => "~",
            SupportObjectStatus::Same | SupportObjectStatus::Kept => "=",
        };
        let _ = writeln!(text, "  {word} {}", one.object);
    }
}
