//! Rules that configure the runtimes of a release for offline use: which containers load models,
//! which variables each needs for each kind of model target, which containers get the site's CA, and
//! which chart values set this (`wiring:` of `gantry.yaml`, and Gantry's own `rules/wiring.yaml` in
//! the same format, see `docs/formats/rules.md`). `chart::wiring` applies them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::rules::RuleCertainty;
use crate::site::ModelLayout;

/// `wiring:` of `gantry.yaml`, and the format of `rules/wiring.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WiringRules {
    /// Programs that load models. The first rule that matches a container applies.
    #[serde(default)]
    pub runtimes: Vec<RuntimeRule>,
    /// Which containers get the site's CA, and by which variables.
    #[serde(default)]
    pub trust: Vec<TrustRule>,
    /// Chart values that configure a runtime.
    #[serde(default)]
    pub values: Vec<ValueRule>,
    /// Claims that are mounted into some containers only.
    #[serde(default)]
    pub claims: Vec<ClaimRule>,
}

/// A claim that is mounted into some containers only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRule {
    /// The claim's name; a model target of site.yaml.
    pub claim: String,
    /// The names of the containers.
    pub containers: Vec<String>,
}

/// How a container is recognised. One match in any list is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq, schemars::JsonSchema)]
pub struct ContainerCriteria {
    /// Parts of `name:tag` of its image.
    pub images: Vec<String>,
    /// Parts of `name:tag` of images that do not match, although `images` does.
    pub except: Vec<String>,
    /// Words that its command and arguments begin with or contain, in this order.
    pub commands: Vec<String>,
    /// Flags that are followed by the id of a model, `org/name`: `--model-id`, `-hf`.
    pub arguments: Vec<String>,
    /// Names of environment variables that it has; a `*` at the end matches any ending.
    pub environment: Vec<String>,
    /// Names of containers, for charts of your own.
    pub containers: Vec<String>,
}

impl ContainerCriteria {
    /// Whether there are no criteria, so that no container matches.
    pub fn is_empty(&self) -> bool {
        [&self.images, &self.commands, &self.arguments, &self.environment, &self.containers]
            .iter()
            .all(|list| list.is_empty())
    }
}

/// A program that loads models.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "RawRuntime")]
pub struct RuntimeRule {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// Which containers run it.
    pub known: ContainerCriteria,
    /// How certain that is. Where it is only possible nothing is set; it is reported.
    pub sure: RuleCertainty,
    /// Variables to set wherever its models are.
    pub set: BTreeMap<String, String>,
    /// What to set where its models are on a claim. `{mount}` is the claim's mount path.
    pub claim: Option<RuntimeModelSource>,
    /// What to set where its models are at a depot. `{depot}` is its URL.
    pub depot: Option<RuntimeModelSource>,
    /// What to set where its models are in a bucket. `{bucket}` is the bucket's URL, `{endpoint}` that
    /// of its server.
    pub bucket: Option<RuntimeModelSource>,
    /// What to set where the site has none of these; its models may be in its image.
    pub image: Option<RuntimeModelSource>,
    /// Why it connects to the internet, with the source of the fact.
    pub why: String,
}

/// How a runtime is configured for one kind of model target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeModelSource {
    /// The layout that the models must have there; ignored for a depot.
    #[serde(default)]
    pub layout: ModelLayout,
    /// The variables and their values.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// Which containers get the site's CA.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "RawTrust")]
pub struct TrustRule {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// Which containers; when empty, the runtimes and all that use services of the site.
    pub known: ContainerCriteria,
    /// The variables; `{ca}` is the path of the CA file.
    pub set: BTreeMap<String, String>,
    /// Which programs read them.
    pub why: String,
}

/// A chart value that configures a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "RawSetting")]
pub struct ValueRule {
    /// The rule's name; a rule of the same name replaces it.
    pub name: String,
    /// The last keys of the value's path.
    pub keys: Vec<String>,
    /// Keys that must exist next to it, where the path alone is ambiguous.
    pub beside: Vec<String>,
    /// A word in a key above it, or in the chart's name.
    pub below: Option<String>,
    /// The value to set; strings may contain `{bucket}`, `{claim}`, `{depot}` and `{issuer}`.
    pub set: Value,
    /// The layout that models must have in the bucket or the claim.
    pub layout: ModelLayout,
    /// What it does.
    pub why: String,
}

/// What a string of a [`ValueRule`] may contain in braces.
const IN_VALUES: &[&str] = &["bucket", "claim", "depot", "issuer"];

/// A program that loads models: how its containers are recognised, and what to set.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRuntime {
    /// The rule's name; a rule of the same name replaces it.
    name: String,
    /// Parts of `name:tag` of its image.
    #[serde(default)]
    images: Vec<String>,
    /// Parts of `name:tag` of images that do not match, although `images` does.
    #[serde(default)]
    except: Vec<String>,
    /// Words that its command and arguments begin with or contain, in this order.
    #[serde(default)]
    commands: Vec<String>,
    /// Flags that are followed by the id of a model: `--model-id`, `-hf`.
    #[serde(default)]
    arguments: Vec<String>,
    /// Names of environment variables that it has; a `*` at the end matches any ending.
    #[serde(default)]
    environment: Vec<String>,
    /// Names of containers.
    #[serde(default)]
    containers: Vec<String>,
    /// How certain that is. Where it is only possible nothing is set; it is reported.
    #[serde(default)]
    sure: RuleCertainty,
    /// Variables to set wherever its models are.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// What to set where its models are on a claim. `{mount}` is the claim's mount path.
    claim: Option<RuntimeModelSource>,
    /// What to set where its models are at a depot. `{depot}` is its URL.
    depot: Option<RuntimeModelSource>,
    /// What to set where its models are in a bucket. `{bucket}` is the bucket's URL, `{endpoint}` that of its server.
    bucket: Option<RuntimeModelSource>,
    /// What to set where the site has none of these; its models may be in its image.
    image: Option<RuntimeModelSource>,
    /// Why it connects to the internet, with the source of the fact.
    why: String,
}

/// Which containers get the site's CA, and by which variables.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawTrust {
    /// The rule's name; a rule of the same name replaces it.
    name: String,
    /// Parts of `name:tag` of the image.
    #[serde(default)]
    images: Vec<String>,
    /// Parts of `name:tag` of images that do not match, although `images` does.
    #[serde(default)]
    except: Vec<String>,
    /// Words that the command and arguments begin with or contain, in this order.
    #[serde(default)]
    commands: Vec<String>,
    /// Flags that are followed by the id of a model.
    #[serde(default)]
    arguments: Vec<String>,
    /// Names of environment variables that the container has.
    #[serde(default)]
    environment: Vec<String>,
    /// Names of containers.
    #[serde(default)]
    containers: Vec<String>,
    /// The variables; `{ca}` is the path of the CA file.
    set: BTreeMap<String, String>,
    /// Which programs read them.
    why: String,
}

/// A chart value that configures a runtime.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawSetting {
    /// The rule's name; a rule of the same name replaces it.
    name: String,
    /// The last keys of the value's path, with dots between.
    path: Option<String>,
    /// The same as a list, for keys that contain dots.
    #[serde(default)]
    keys: Vec<String>,
    /// Keys that must exist next to it, where the path alone is ambiguous.
    #[serde(default)]
    beside: Vec<String>,
    /// A word in a key above it, or in the chart's name.
    below: Option<String>,
    /// The value to set; strings may contain `{bucket}`, `{claim}`, `{depot}` and `{issuer}`.
    set: Value,
    /// The layout that models must have in the bucket or the claim.
    #[serde(default)]
    layout: ModelLayout,
    /// What it does.
    why: String,
}

impl TryFrom<RawRuntime> for RuntimeRule {
    type Error = String;

    fn try_from(raw: RawRuntime) -> Result<Self, String> {
        let RawRuntime { name, images, except, commands, arguments, environment, .. } = raw;
        let containers = raw.containers;
        let known =
            ContainerCriteria { images, except, commands, arguments, environment, containers };
        let what = format!("the runtime {name:?}");
        // `except` alone would match every other container of every chart.
        if known.is_empty() {
            return Err(format!(
                "{what} needs at least one of images, commands, arguments, environment and containers"
            ));
        }
        check_variables(&what, &raw.set, &[])?;
        // Each kind of model target has its own placeholders; `{mount}` means nothing for a bucket.
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

impl TryFrom<RawTrust> for TrustRule {
    type Error = String;

    fn try_from(raw: RawTrust) -> Result<Self, String> {
        let RawTrust { name, images, except, commands, arguments, environment, .. } = raw;
        let containers = raw.containers;
        let known =
            ContainerCriteria { images, except, commands, arguments, environment, containers };
        let what = format!("the trust rule {name:?}");
        if raw.set.is_empty() {
            return Err(format!("{what} sets nothing; list variables in `set`"));
        }
        check_variables(&what, &raw.set, &["ca"])?;
        Ok(Self { name, known, set: raw.set, why: raw.why })
    }
}

impl TryFrom<RawSetting> for ValueRule {
    type Error = String;

    fn try_from(raw: RawSetting) -> Result<Self, String> {
        let RawSetting { name, path, keys, beside, below, set, layout, why } = raw;
        // `path: a.b` is short for `keys: [a, b]`, which is needed for keys that contain dots.
        let keys = match (&path, keys.is_empty()) {
            (Some(path), true) => path.split('.').map(str::to_owned).collect(),
            (None, false) => keys,
            _ => return Err(format!("the value {name:?} needs either path or keys")),
        };
        if keys.iter().any(String::is_empty) {
            let path = keys.join(".");
            return Err(format!("the value {name:?}: {path:?} is not a path of keys; write a.b.c"));
        }
        if let Value::String(text) = &set {
            check_placeholders(&format!("the value {name:?}"), text, IN_VALUES)?;
        }
        Ok(Self { name, keys, beside, below, set, layout, why })
    }
}

/// Checks that names are valid for environment variables of a container, and that values contain only
/// the given placeholders.
fn check_variables(
    what: &str,
    set: &BTreeMap<String, String>,
    places: &[&str],
) -> Result<(), String> {
    for (name, value) in set {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("{what}: {name:?} is not a valid variable name"));
        }
        check_placeholders(&format!("{what}: {name}"), value, places)?;
    }
    Ok(())
}

fn check_placeholders(what: &str, text: &str, known: &[&str]) -> Result<(), String> {
    let unknown = |name: &str| {
        let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
        let known = if known.is_empty() { "plain text".to_owned() } else { known.join(", ") };
        format!("{what}: {text:?} uses {{{name}}}, but only {known} can be used here")
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
            (
                "wiring:\n  runtimes:\n  - {name: r, why: w}\n",
                "needs at least one of images, commands",
            ),
            (
                "wiring:\n  runtimes:\n  - {name: r, images: [a], depot: {set: {X: '{mount}'}}, why: w}\n",
                "uses {mount}, but only {depot} can be used here",
            ),
            (
                "wiring:\n  runtimes:\n  - {name: r, images: [a], set: {'A B': x}, why: w}\n",
                "\"A B\" is not a valid variable name",
            ),
            ("wiring: {trust: [{name: t, set: {}, why: w}]}\n", "sets nothing"),
            ("wiring: {values: [{name: v, path: a..b, set: 1, why: w}]}\n", "is not a path"),
            ("wiring: {values: [{name: v, path: a, set: '{bukket}', why: w}]}\n", "uses {bukket}"),
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
