//! Turns off a chart's connections to the internet: makes an overlay of the safe switches that
//! [`crate::phone_home`] found, leaving out those with which the chart does not render.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::overlay::OverlaySetting;
use crate::path::DocumentPath;
use crate::phone_home::PhoneHomeFinding;
use crate::render::RenderFunction;
use crate::values;

/// The overlay that turns connections off, and the switches that the chart refuses.
#[derive(Debug, Clone, PartialEq)]
pub struct OfflineValues {
    /// The overlay: all values that turn something off.
    pub values: Value,
    /// The switches in the overlay, each with its reason.
    pub off: Vec<OfflineSwitch>,
    /// The switches with which the chart does not render.
    pub refused: Vec<RefusedSwitch>,
}

/// A value that turns something off.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct OfflineSwitch {
    /// The path of the value.
    pub path: DocumentPath,
    /// The setting that turns it off.
    pub off: Value,
    /// What the chart does without it: "sends usage statistics to …".
    pub why: String,
}

/// A switch that cannot be set: helm fails with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct RefusedSwitch {
    /// The path of the value.
    pub path: DocumentPath,
    /// Helm's own message.
    pub message: String,
}

/// Turns off every switch that is known to be safe. `effective` are the values that templates see.
/// Renders once with all switches; only if that fails, once with each of them.
pub fn turn_off_switches(
    findings: &[PhoneHomeFinding],
    effective: &Value,
    render: &RenderFunction,
) -> OfflineValues {
    let safe: Vec<OfflineSwitch> = findings
        .iter()
        .filter_map(|finding| match finding {
            PhoneHomeFinding::Value { path, off: Some(off), safe: true, why } => {
                Some(OfflineSwitch { path: path.clone(), off: off.clone(), why: why.clone() })
            }
            _ => None,
        })
        .collect();
    if safe.is_empty() || render(Some(&merge_switches(&safe, effective).to_string())).is_ok() {
        return OfflineValues {
            values: merge_switches(&safe, effective),
            off: safe,
            refused: vec![],
        };
    }
    // A strict schema may refuse one key; the others are still worth setting. Switches that only
    // fail in combination are not looked for.
    let mut off = Vec::new();
    let mut refused = Vec::new();
    for switch in safe {
        let alone = merge_switches(std::slice::from_ref(&switch), effective).to_string();
        match render(Some(&alone)) {
            Ok(_) => off.push(switch),
            Err(error) => refused.push(RefusedSwitch { path: switch.path, message: error.message }),
        }
    }
    OfflineValues { values: merge_switches(&off, effective), off, refused }
}

impl From<&OfflineSwitch> for OverlaySetting {
    fn from(switch: &OfflineSwitch) -> Self {
        let OfflineSwitch { path, off, why } = switch.clone();
        Self { path, value: off, why }
    }
}

/// The overlay that sets all of these switches.
fn merge_switches(switches: &[OfflineSwitch], effective: &Value) -> Value {
    let mut overlay = Value::Object(Map::new());
    for switch in switches {
        values::set_value(&mut overlay, &switch.path, switch.off.clone(), effective);
    }
    overlay
}

/// The Markdown section on connections to the internet: what was turned off, what the chart
/// refused, and what is left for a person to decide.
pub fn format_markdown(offline: Option<&OfflineValues>, left: &[PhoneHomeFinding]) -> String {
    let mut text = String::new();
    if let Some(offline) = offline.filter(|offline| !offline.off.is_empty()) {
        text.push_str("\n## Turned off\n\n");
        for OfflineSwitch { path, off, why } in &offline.off {
            let _ = writeln!(text, "- `{path}: {off}`: {why}");
        }
    }
    for RefusedSwitch { path, message } in offline.into_iter().flat_map(|offline| &offline.refused)
    {
        let _ = writeln!(text, "- `{path}` cannot be set; helm says: {message}");
    }
    if !left.is_empty() {
        text.push_str("\n## Connects to the internet by itself\n\n");
        for finding in left {
            let _ = writeln!(text, "- {finding}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::render::RenderError;

    fn switch_finding(path: &str) -> PhoneHomeFinding {
        let path = DocumentPath::default().keys(path);
        PhoneHomeFinding::Value {
            path,
            off: Some(Value::Bool(false)),
            safe: true,
            why: "tells".into(),
        }
    }

    #[test]
    fn a_switch_that_the_chart_refuses_does_not_keep_the_others_from_being_turned_off() {
        let render = |overlay: Option<&str>| match overlay {
            Some(text) if text.contains("strict") => {
                Err(RenderError { message: "strict: not allowed".into() })
            }
            _ => Ok(String::new()),
        };
        let findings = [switch_finding("a.telemetry"), switch_finding("strict.telemetry")];
        let effective = json!({"a": {"telemetry": true}, "strict": {"telemetry": true}});

        let offline = turn_off_switches(&findings, &effective, &render);

        assert_eq!(offline.values, json!({"a": {"telemetry": false}}));
        assert_eq!(offline.refused[0].message, "strict: not allowed");
        assert!(format_markdown(Some(&offline), &[]).contains("`a.telemetry: false`: tells"));
    }
}
