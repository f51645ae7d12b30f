//! What people know and no manifest says, as data: which images an operator has compiled in
//! (`rules:` of `gantry.yaml`) and what reaches outside by itself (`phoneHome:`). Gantry's own
//! tables (`rules/*.yaml`) have the same forms; the format is `docs/formats/rules.md`.

use serde::Deserialize;
use serde_json::Value;

use crate::Reference;

/// `rules:`, and the form of `rules/operators.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Images that operators have compiled in.
    #[serde(default)]
    pub operators: Vec<Operator>,
}

/// Images that an operator pulls and that nothing names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawOperator")]
pub struct Operator {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// What has to be rendered.
    pub when: When,
    /// The images. `{spec.version}` is a field of the document, `{tag}` the tag of the container.
    pub images: Vec<String>,
    /// Or what the operator appends to tags that are rendered.
    pub suffixes: Option<Suffixes>,
    /// How sure it is of its images.
    pub sure: Sure,
    /// The chart's values that choose another image, as dotted paths.
    pub values: Vec<String>,
    /// One sentence for people, with the source of the fact.
    pub why: String,
}

/// What has to be rendered for a rule to count: a document, or a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// A document of this API group.
    pub group: Option<String>,
    /// A document of this kind.
    pub kind: Option<String>,
    /// Or a container whose repository ends so.
    pub container: Option<String>,
    /// Fields of the document that are all set.
    #[serde(default)]
    pub set: Vec<String>,
    /// Fields of the document of which none is set.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// What an operator appends to the tags of images.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suffixes {
    /// The end of their repositories.
    pub of: String,
    /// What is appended.
    pub append: Vec<String>,
}

/// How sure a rule is of its images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sure {
    /// The operator will pull them.
    #[default]
    Likely,
    /// The version, or whether it is pulled at all, is a guess.
    Possible,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperator {
    name: String,
    when: When,
    #[serde(default)]
    images: Vec<String>,
    suffixes: Option<Suffixes>,
    #[serde(default)]
    sure: Sure,
    #[serde(default)]
    values: Vec<String>,
    why: String,
}

impl TryFrom<RawOperator> for Operator {
    type Error = String;

    fn try_from(raw: RawOperator) -> Result<Self, String> {
        let RawOperator { name, when, images, suffixes, sure, values, why } = raw;
        let of_document = when.group.is_some() || when.kind.is_some();
        if of_document == when.container.is_some() {
            return Err(format!("the rule {name:?} needs either when.kind or when.container"));
        }
        if when.container.is_some() && !(when.set.is_empty() && when.unset.is_empty()) {
            return Err(format!("the rule {name:?}: when.set and when.unset go with when.kind"));
        }
        if images.is_empty() && suffixes.is_none() {
            return Err(format!("the rule {name:?} needs images or suffixes"));
        }
        for image in &images {
            let sample = with_fields(image, |_| Some("1".to_owned()));
            if sample.is_none_or(|sample| sample.parse::<Reference>().is_err()) {
                return Err(format!(
                    "the rule {name:?}: {image:?} is no image reference, also with 1 for its {{fields}}"
                ));
            }
        }
        Ok(Self { name, when, images, suffixes, sure, values, why })
    }
}

/// A text with what `field` gives for each `{field}`; `None` where one is missing or a brace is
/// left open.
pub fn with_fields(template: &str, field: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}')?;
        text.push_str(before);
        text.push_str(&field(name)?);
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

/// `phoneHome:`, and the form of `rules/phone-home.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhoneHome {
    /// Values of charts that turn something off.
    #[serde(default)]
    pub values: Vec<Switch>,
    /// Variables that keep programs inside.
    #[serde(default)]
    pub environment: Vec<Variable>,
    /// What addresses are for.
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// Hosts of one's own; those below them count too.
    #[serde(default)]
    pub inside: Vec<String>,
}

/// A value of a chart that turns something off.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSwitch")]
pub struct Switch {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// The last keys of the value's path, with dots between.
    pub path: String,
    /// Only a value that is one of these reaches outside; every value but `off` when empty.
    pub is: Vec<Value>,
    /// Keys that stand beside it, where the path alone says too little.
    pub beside: Vec<String>,
    /// What turns it off: a text, a number or a boolean. Absent where a person has to choose.
    pub off: Option<Value>,
    /// What counts where the value is not set; nothing is said of such values without it.
    pub default: Option<Value>,
    /// Whether `relocate --offline` sets it.
    pub safe: bool,
    /// What it does.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSwitch {
    name: String,
    path: String,
    #[serde(default)]
    is: Vec<Value>,
    #[serde(default)]
    beside: Vec<String>,
    off: Option<Value>,
    default: Option<Value>,
    #[serde(default)]
    safe: bool,
    why: String,
}

impl TryFrom<RawSwitch> for Switch {
    type Error = String;

    fn try_from(raw: RawSwitch) -> Result<Self, String> {
        let RawSwitch { name, path, is, beside, off, default, safe, why } = raw;
        if off.is_none() && is.is_empty() {
            return Err(format!("the switch {name:?} needs off, or is"));
        }
        if off.is_none() && safe {
            return Err(format!("the switch {name:?} is safe, but has no off that could be set"));
        }
        let is_scalar = |value: &Value| !value.is_object() && !value.is_array() && !value.is_null();
        if !is.iter().chain(&off).chain(&default).all(is_scalar) {
            return Err(format!("the switch {name:?}: a value is a text, a number or a boolean"));
        }
        if path.split('.').any(str::is_empty) {
            return Err(format!("the switch {name:?}: {path:?} is no path of keys"));
        }
        Ok(Self { name, path, is, beside, off, default, safe, why })
    }
}

/// A variable that keeps a program inside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// The variable; one of the same name replaces it.
    pub name: String,
    /// The value that keeps it inside.
    pub off: String,
    /// Other variables that do as well: an address of the site's own.
    #[serde(default)]
    pub instead: Vec<String>,
    /// Parts of the names and tags of the images that read it.
    pub images: Vec<String>,
    /// Parts of those that do not.
    #[serde(default)]
    pub except: Vec<String>,
    /// What the program does without.
    pub why: String,
}

/// What an address is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The host; those below it count too.
    pub host: String,
    /// What it is for.
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
            (rule("when: {kind: A}, images: ['{x']"), "is no image reference"),
            (rule("when: {kind: A}, images: [UPPER]"), "is no image reference"),
            (rule("when: {kind: A}, images: [a], sure: maybe"), "unknown value \"maybe\""),
            ("phoneHome: {values: [{name: v, path: a, why: w}]}\n".to_owned(), "needs off, or is"),
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
