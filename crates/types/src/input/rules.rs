//! Facts that no manifest contains, as data: the images that an operator pulls without naming them
//! (`rules:` of `gantry.yaml`), and telemetry, update checks and the like (`phoneHome:`). Gantry's own
//! tables (`rules/*.yaml`) have the same format, which `docs/formats/rules.md` describes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Reference;

/// `rules:` of `gantry.yaml`, and the format of `rules/operators.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorImageRules {
    /// Images whose names are compiled into operators.
    #[serde(default)]
    pub operators: Vec<OperatorRule>,
}

/// Images that an operator pulls although no manifest names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "RawOperator")]
pub struct OperatorRule {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// What the chart must render for the rule to apply.
    pub when: OperatorCondition,
    /// The images. `{spec.version}` is replaced by that field of the object, `{spec.version#v}` by it
    /// without the `v` at its start, `{tag}` by the tag of the container.
    pub images: Vec<String>,
    /// Or the suffixes that the operator appends to tags of other images.
    pub suffixes: Option<TagSuffixes>,
    /// How certain it is that the images are pulled.
    pub sure: RuleCertainty,
    /// The chart's values that choose another image, as dotted paths.
    pub values: Vec<String>,
    /// One sentence for people, with the source of the fact.
    pub why: String,
}

/// What the chart must render for a rule to apply: an object, or a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorCondition {
    /// An object of this API group.
    pub group: Option<String>,
    /// An object of this kind.
    pub kind: Option<String>,
    /// Or a container whose image repository ends with this.
    pub container: Option<String>,
    /// Fields of the object that must all have these values: texts, numbers, true or false.
    #[serde(default)]
    pub is: BTreeMap<String, Value>,
    /// Fields of the object that must all be set.
    #[serde(default)]
    pub set: Vec<String>,
    /// Fields of the object that must all be absent.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// The suffixes that an operator appends to the tags of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TagSuffixes {
    /// The end of the images' repositories.
    pub of: String,
    /// The suffixes.
    pub append: Vec<String>,
}

/// How certain a rule is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum RuleCertainty {
    /// The operator will pull them.
    #[default]
    Likely,
    /// The version, or whether it is pulled at all, is a guess.
    Possible,
}

/// Images that an operator pulls although no manifest names them.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawOperator {
    /// The rule's name; a rule of the same name replaces it.
    name: String,
    /// What the chart must render for the rule to apply.
    when: OperatorCondition,
    /// The images. `{spec.version}` is replaced by that field of the object, `{spec.version#v}` by it without the `v` at its start, `{tag}` by the tag of the container.
    #[serde(default)]
    images: Vec<String>,
    /// Or the suffixes that the operator appends to tags of other images.
    suffixes: Option<TagSuffixes>,
    /// How certain it is that the images are pulled.
    #[serde(default)]
    sure: RuleCertainty,
    /// The chart's values that choose another image, as dotted paths.
    #[serde(default)]
    values: Vec<String>,
    /// One sentence for people, with the source of the fact.
    why: String,
}

impl TryFrom<RawOperator> for OperatorRule {
    type Error = String;

    fn try_from(raw: RawOperator) -> Result<Self, String> {
        let RawOperator { name, when, images, suffixes, sure, values, why } = raw;
        let of_document = when.group.is_some() || when.kind.is_some();
        // Equal means both or neither; exactly one of the two is right.
        if of_document == when.container.is_some() {
            return Err(format!("the rule {name:?} needs either when.kind or when.container"));
        }
        let has_fields = !(when.is.is_empty() && when.set.is_empty() && when.unset.is_empty());
        if when.container.is_some() && has_fields {
            return Err(format!(
                "the rule {name:?}: when.is, when.set and when.unset can only be used with when.kind"
            ));
        }
        if let Some((field, _)) = when.is.iter().find(|(_, value)| !is_scalar(value)) {
            return Err(format!(
                "the rule {name:?}: when.is: {field:?} must be a text, a number, true or false"
            ));
        }
        if images.is_empty() && suffixes.is_none() {
            return Err(format!("the rule {name:?} needs images or suffixes"));
        }
        // What the fields hold is known only when a chart is rendered; a typo around them shows now.
        for image in &images {
            let sample = fill_fields(image, |_| Some("1".to_owned()));
            if sample.is_none_or(|sample| sample.parse::<Reference>().is_err()) {
                return Err(format!(
                    "the rule {name:?}: {image:?} is not a valid image reference, even with 1 in place of each {{field}}"
                ));
            }
        }
        Ok(Self { name, when, images, suffixes, sure, values, why })
    }
}

/// Whether a value is a text, a number or a boolean. Maps and lists have no single form: a chart may
/// render `{}` and an absent key alike.
fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array() && !value.is_null()
}

/// Replaces each `{name}` in a template by `field(name)`, and each `{name#start}` by it without that
/// start, as in a shell; `None` where a field is missing or a brace is not closed. With `v1.2` for
/// `spec.version`, `app:{spec.version}` is `app:v1.2` and `app:{spec.version#v}` is `app:1.2`.
pub fn fill_fields(template: &str, field: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}')?;
        text.push_str(before);
        let (name, start) = name.split_once('#').unwrap_or((name, ""));
        let value = field(name)?;
        text.push_str(value.strip_prefix(start).unwrap_or(&value));
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

/// `phoneHome:` of `gantry.yaml`, and the format of `rules/phone-home.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhoneHome {
    /// Chart values that switch a connection to the internet off.
    #[serde(default)]
    pub values: Vec<PhoneHomeSwitch>,
    /// Environment variables that switch a program's connections to the internet off.
    #[serde(default)]
    pub environment: Vec<PhoneHomeVariable>,
    /// What known addresses are used for.
    #[serde(default)]
    pub hosts: Vec<KnownHost>,
    /// Hosts of the site, subdomains included; they are never reported.
    #[serde(default)]
    pub inside: Vec<String>,
}

/// A chart value that switches a connection to the internet off.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "RawSwitch")]
pub struct PhoneHomeSwitch {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// The last keys of the value's path, with dots between.
    pub path: String,
    /// The values that connect to the internet; when empty, every value but `off`.
    pub is: Vec<Value>,
    /// Keys that must exist next to it, where the path alone is ambiguous.
    pub beside: Vec<String>,
    /// The value that switches it off: a string, a number or a boolean. Absent where a person has to
    /// choose.
    pub off: Option<Value>,
    /// The value that the chart uses where none is set. Without it, values that are not set are not
    /// reported.
    pub default: Option<Value>,
    /// Whether `relocate --offline` sets it.
    pub safe: bool,
    /// What it does.
    pub why: String,
}

/// A chart value that switches a connection to the internet off.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawSwitch {
    /// The rule's name; a rule of the same name replaces it.
    name: String,
    /// The last keys of the value's path, with dots between.
    path: String,
    /// The values that connect to the internet [default: every value but `off`].
    #[serde(default)]
    is: Vec<Value>,
    /// Keys that must exist next to it, where the path alone is ambiguous.
    #[serde(default)]
    beside: Vec<String>,
    /// The value that switches it off. Absent where a person has to choose.
    off: Option<Value>,
    /// The value that the chart uses where none is set. Without it, values that are not set are not reported.
    default: Option<Value>,
    /// Whether `relocate --offline` sets it.
    #[serde(default)]
    safe: bool,
    /// What it does.
    why: String,
}

impl TryFrom<RawSwitch> for PhoneHomeSwitch {
    type Error = String;

    fn try_from(raw: RawSwitch) -> Result<Self, String> {
        let RawSwitch { name, path, is, beside, off, default, safe, why } = raw;
        // Without `off` and `is` nothing says which value connects to the internet.
        if off.is_none() && is.is_empty() {
            return Err(format!("the switch {name:?} needs off or is"));
        }
        if off.is_none() && safe {
            return Err(format!("the switch {name:?} has safe: true, but no value to set in off"));
        }
        if !is.iter().chain(&off).chain(&default).all(is_scalar) {
            return Err(format!(
                "the switch {name:?}: a value must be a string, a number or a boolean"
            ));
        }
        if path.split('.').any(str::is_empty) {
            return Err(format!(
                "the switch {name:?}: {path:?} is not a path of keys; write a.b.c"
            ));
        }
        Ok(Self { name, path, is, beside, off, default, safe, why })
    }
}

/// An environment variable that switches a program's connections to the internet off.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhoneHomeVariable {
    /// The variable; one of the same name replaces it.
    pub name: String,
    /// The value that switches them off.
    pub off: String,
    /// Other variables that serve as well, such as an address at the site.
    #[serde(default)]
    pub instead: Vec<String>,
    /// Parts of the names and tags of the images that read it.
    pub images: Vec<String>,
    /// Parts of the names of images that do not, although they match `images`.
    #[serde(default)]
    pub except: Vec<String>,
    /// What the program connects to, or loses when it is off.
    pub why: String,
}

/// What an address is used for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownHost {
    /// The host; its subdomains count too.
    pub host: String,
    /// What programs use it for.
    pub why: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::input::Input;

    const HEAD: &str = "version: 1\nname: a\n";

    #[test]
    fn rules_and_switches_of_one_s_own_are_read() {
        let body = "rules:\n  operators:\n  - name: mine\n    when: {group: x.example, kind: App}\n    \
            images: ['ghcr.io/x/app:{spec.version}']\n    why: because\nphoneHome:\n  values:\n  - {name: v, \
            path: a.b, off: 'false', default: true, safe: true, why: w}\n  hosts: [{host: x.example, why: w}]\n";
        let input = Input::parse("gantry.yaml", &format!("{HEAD}{body}")).unwrap();
        assert_eq!(input.rules.operators[0].when.kind.as_deref(), Some("App"));
        assert_eq!(input.phone_home.values[0].off, Some("false".into()));
    }

    #[test]
    fn a_mistake_in_a_rule_names_the_file_and_the_place() {
        let rule = |rest: &str| format!("rules:\n  operators:\n  - {{name: r, why: w, {rest}}}\n");
        for (body, expected) in [
            ("rules: {operator: []}\n".to_owned(), "gantry.yaml:3:9: unknown key \"operator\""),
            (
                rule("when: {kind: A}, imagse: []"),
                "unknown key \"imagse\"; did you mean \"images\"",
            ),
            (rule("when: {knd: A}"), "did you mean \"kind\""),
            (rule("when: {}, images: [a]"), "gantry.yaml:5:"),
            (rule("when: {}, images: [a]"), "needs either when.kind or when.container"),
            (rule("when: {kind: A, container: b}, images: [a]"), "needs either"),
            (rule("when: {kind: A}"), "needs images or suffixes"),
            (rule("when: {kind: A}, images: ['{x']"), "is not a valid image reference"),
            (rule("when: {kind: A}, images: [UPPER]"), "is not a valid image reference"),
            (rule("when: {kind: A, is: {spec.a: []}}, images: [a]"), "when.is: \"spec.a\" must be"),
            (rule("when: {container: a, is: {b: 1}}, images: [a]"), "only be used with when.kind"),
            (rule("when: {kind: A}, images: [a], sure: maybe"), "unknown value \"maybe\""),
            ("phoneHome: {values: [{name: v, path: a, why: w}]}\n".to_owned(), "needs off or is"),
            ("phoneHome: {hosts: [{host: x}]}\n".to_owned(), "the key \"why\" is missing"),
        ] {
            let error =
                Input::parse("gantry.yaml", &format!("{HEAD}{body}")).unwrap_err().to_string();
            assert!(
                error.starts_with("gantry.yaml:") && error.contains(expected),
                "{body}: {error}"
            );
        }
    }
}
