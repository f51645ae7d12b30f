//! What keeps the runtimes of a release inside, as data: which containers are runtimes, what each
//! is told for each place that models may be at, who gets the site's CA, and which values of charts
//! say so (`wiring:` of `gantry.yaml`, and Gantry's own `rules/wiring.yaml` in the same form). The
//! format is `docs/formats/rules.md`; `chart::wiring` does the work.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::rules::Sure;
use crate::site::ModelLayout;

/// `wiring:`, and the form of `rules/wiring.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wiring {
    /// Programs that load models. The first that a container is counts.
    #[serde(default)]
    pub runtimes: Vec<Runtime>,
    /// Who gets the site's CA, and by which variables.
    #[serde(default)]
    pub trust: Vec<Trust>,
    /// Values of charts that do it themselves.
    #[serde(default)]
    pub values: Vec<Setting>,
    /// Claims that only some containers get, where each has one of its own.
    #[serde(default)]
    pub claims: Vec<Claim>,
}

/// A claim that only some containers get.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The claim's name, one of the site's.
    pub claim: String,
    /// The names of the containers.
    pub containers: Vec<String>,
}

/// What a container has that makes it known. One match of any list is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Parts of `name:tag` of its image.
    pub images: Vec<String>,
    /// Parts of those that it is not.
    pub except: Vec<String>,
    /// Words that its command and arguments begin with or have in them, one after the other.
    pub commands: Vec<String>,
    /// Flags that are followed by the id of a model, `org/name`: `--model-id`, `-hf`.
    pub arguments: Vec<String>,
    /// Names of variables that it has; a `*` at the end stands for any ending.
    pub environment: Vec<String>,
    /// Names of containers, for one's own.
    pub containers: Vec<String>,
}

impl Known {
    /// Whether it says nothing, so that it is met by none.
    pub fn is_empty(&self) -> bool {
        [&self.images, &self.commands, &self.arguments, &self.environment, &self.containers]
            .iter()
            .all(|list| list.is_empty())
    }
}

/// A program that loads models.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawRuntime")]
pub struct Runtime {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// What makes a container one.
    pub known: Known,
    /// How sure that is; of what is only possible nothing is set, it is told.
    pub sure: Sure,
    /// What it is told wherever its models are.
    pub set: BTreeMap<String, String>,
    /// What it is told where its models are on a claim. `{mount}` is where that is mounted.
    pub claim: Option<Source>,
    /// What it is told where its models are at a depot. `{depot}` is its address.
    pub depot: Option<Source>,
    /// What it is told where its models are in a bucket. `{bucket}` is its address, `{endpoint}`
    /// that of its server.
    pub bucket: Option<Source>,
    /// What it is told where the site has none of these: its models may be in its image.
    pub image: Option<Source>,
    /// What it reaches outside for, with the source of the fact.
    pub why: String,
}

/// One place that a runtime can read its models from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The layout that the models have to have there; a depot has none.
    #[serde(default)]
    pub layout: ModelLayout,
    /// The variables, and what they are set to.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// Who gets the site's CA.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawTrust")]
pub struct Trust {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// Who; where nothing is said: the runtimes, and what talks to the site's services.
    pub known: Known,
    /// The variables; `{ca}` is the file.
    pub set: BTreeMap<String, String>,
    /// Who reads them.
    pub why: String,
}

/// A value of a chart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSetting")]
pub struct Setting {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// The last keys of the value's path.
    pub keys: Vec<String>,
    /// Keys that stand beside it, where the path alone says too little.
    pub beside: Vec<String>,
    /// A word of a key above it, or of the chart's name.
    pub below: Option<String>,
    /// What it is set to; texts may have `{bucket}`, `{claim}`, `{depot}` and `{issuer}` in them.
    pub set: Value,
    /// The layout that models have to have at the bucket or the claim.
    pub layout: ModelLayout,
    /// What it does.
    pub why: String,
}

/// What may stand in braces in a text of a [`Setting`].
const IN_VALUES: &[&str] = &["bucket", "claim", "depot", "issuer"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRuntime {
    name: String,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: Vec<String>,
    #[serde(default)]
    containers: Vec<String>,
    #[serde(default)]
    sure: Sure,
    #[serde(default)]
    set: BTreeMap<String, String>,
    claim: Option<Source>,
    depot: Option<Source>,
    bucket: Option<Source>,
    image: Option<Source>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrust {
    name: String,
    #[serde(default)]
    images: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: Vec<String>,
    #[serde(default)]
    containers: Vec<String>,
    set: BTreeMap<String, String>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSetting {
    name: String,
    path: Option<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    beside: Vec<String>,
    below: Option<String>,
    set: Value,
    #[serde(default)]
    layout: ModelLayout,
    why: String,
}

impl TryFrom<RawRuntime> for Runtime {
    type Error = String;

    fn try_from(raw: RawRuntime) -> Result<Self, String> {
        let RawRuntime { name, images, except, commands, arguments, environment, .. } = raw;
        let containers = raw.containers;
        let known = Known { images, except, commands, arguments, environment, containers };
        let what = format!("the runtime {name:?}");
        if known.is_empty() {
            return Err(format!(
                "{what} needs images, commands, arguments, environment or containers"
            ));
        }
        check_variables(&what, &raw.set, &[])?;
        let sources = [
            (&raw.claim, &["mount"][..]),
            (&raw.depot, &["depot"]),
            (&raw.bucket, &["bucket", "endpoint"]),
            (&raw.image, &[]),
        ];
        for (source, places) in sources {
            if let Some(source) = source {
                check_variables(&what, &source.set, places)?;
            }
        }
        let RawRuntime { sure, set, claim, depot, bucket, image, why, .. } = raw;
        Ok(Self { name, known, sure, set, claim, depot, bucket, image, why })
    }
}

impl TryFrom<RawTrust> for Trust {
    type Error = String;

    fn try_from(raw: RawTrust) -> Result<Self, String> {
        let RawTrust { name, images, except, commands, arguments, environment, .. } = raw;
        let containers = raw.containers;
        let known = Known { images, except, commands, arguments, environment, containers };
        let what = format!("the trust rule {name:?}");
        if raw.set.is_empty() {
            return Err(format!("{what} sets nothing"));
        }
        check_variables(&what, &raw.set, &["ca"])?;
        Ok(Self { name, known, set: raw.set, why: raw.why })
    }
}

impl TryFrom<RawSetting> for Setting {
    type Error = String;

    fn try_from(raw: RawSetting) -> Result<Self, String> {
        let RawSetting { name, path, keys, beside, below, set, layout, why } = raw;
        let keys = match (&path, keys.is_empty()) {
            (Some(path), true) => path.split('.').map(str::to_owned).collect(),
            (None, false) => keys,
            _ => return Err(format!("the value {name:?} needs either path or keys")),
        };
        if keys.iter().any(String::is_empty) {
            let path = keys.join(".");
            return Err(format!("the value {name:?}: {path:?} is no path of keys"));
        }
        if let Value::String(text) = &set {
            check_places(&format!("the value {name:?}"), text, IN_VALUES)?;
        }
        Ok(Self { name, keys, beside, below, set, layout, why })
    }
}

/// Names are ones that a container can have, and braces hold what is known there.
fn check_variables(
    what: &str,
    set: &BTreeMap<String, String>,
    places: &[&str],
) -> Result<(), String> {
    for (name, value) in set {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("{what}: {name:?} is no name of a variable"));
        }
        check_places(&format!("{what}: {name}"), value, places)?;
    }
    Ok(())
}

fn check_places(what: &str, text: &str, known: &[&str]) -> Result<(), String> {
    let unknown = |name: &str| {
        let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        format!("{what}: {text:?} has {{{name}}}; known here: {known}")
    };
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}').ok_or_else(|| unknown(behind))?;
        if !known.contains(&name) {
            return Err(unknown(name));
        }
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::input::Input;

    const HEAD: &str = "version: 1\nname: a\n";

    #[test]
    fn wiring_of_one_s_own_is_read() {
        let body = "wiring:\n  runtimes:\n  - {name: mine, containers: [x], claim: {layout: flat, \
            set: {MODELS: '{mount}'}}, why: w}\n  trust: [{name: t, set: {X: '{ca}'}, why: w}]\n  \
            values: [{name: v, path: a.b, set: [], why: w}]\n";
        let input = Input::parse("gantry.yaml", &format!("{HEAD}{body}")).unwrap();
        assert_eq!(input.wiring.runtimes[0].known.containers, ["x"]);
    }

    #[test]
    fn a_mistake_in_the_wiring_names_the_file_and_the_place() {
        for (body, expected) in [
            ("wiring: {runtime: []}\n", "gantry.yaml:3:10: unknown key \"runtime\"; did you mean"),
            (
                "wiring:\n  runtimes:\n  - {name: r, imges: [a], why: w}\n",
                "gantry.yaml:5:15: unknown key \"imges\"; did you mean \"images\"",
            ),
            ("wiring:\n  runtimes:\n  - {name: r, why: w}\n", "needs images, commands"),
            (
                "wiring:\n  runtimes:\n  - {name: r, images: [a], depot: {set: {X: '{mount}'}}, why: w}\n",
                "has {mount}; known here: {depot}",
            ),
            (
                "wiring:\n  runtimes:\n  - {name: r, images: [a], set: {'A B': x}, why: w}\n",
                "\"A B\" is no name of a variable",
            ),
            ("wiring: {trust: [{name: t, set: {}, why: w}]}\n", "sets nothing"),
            ("wiring: {values: [{name: v, path: a..b, set: 1, why: w}]}\n", "is no path"),
            ("wiring: {values: [{name: v, path: a, set: '{bukket}', why: w}]}\n", "has {bukket}"),
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
