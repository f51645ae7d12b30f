//! Applies operator rules: images that no manifest names because they are built into an operator.
//! The rules are data: `rules/operators.yaml`, which is compiled in, and `rules:` of gantry.yaml.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;
use types::Reference;
use types::input::Input;
use types::input::rules::{self, OperatorCondition, OperatorRule, RuleCertainty, fill_fields};

use crate::find::pods;
use crate::find::{
    Confidence, FoundImage, ImageScan, LocationKind, ManifestLocation, PartRole, ReferencePart,
};
use crate::manifest::{ManifestDocument, Manifests};
use crate::path::DocumentPath;
use crate::{Error, Result};

/// A table of operator rules.
#[derive(Debug, Clone, Default)]
pub struct OperatorRules(rules::OperatorImageRules);

impl OperatorRules {
    /// The rules that come with Gantry.
    pub fn builtin() -> &'static Self {
        static RULES: OnceLock<OperatorRules> = OnceLock::new();
        RULES.get_or_init(|| {
            let text = include_str!("../../../rules/operators.yaml");
            // A test reads the table; a broken one cannot be built.
            Self::read("rules/operators.yaml", text).unwrap_or_default()
        })
    }

    /// Parses a table in the format of `rules/operators.yaml`; `name` is its name in errors.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        Ok(Self(types::yaml::read_document(name, text).map_err(Error::Document)?))
    }

    /// The built-in rules, extended by those of a `gantry.yaml`.
    pub fn from_input(input: &Input) -> Self {
        Self::builtin().extended_with(&input.rules)
    }

    /// These rules, extended by `own`; a rule of the same name is replaced.
    #[must_use]
    pub fn extended_with(&self, own: &rules::OperatorImageRules) -> Self {
        let mut all = self.0.operators.clone();
        all.retain(|rule| own.operators.iter().all(|other| other.name != rule.name));
        all.extend(own.operators.iter().cloned());
        Self(rules::OperatorImageRules { operators: all })
    }

    /// Adds the images that operators will pull for these manifests.
    pub(crate) fn apply(&self, manifests: &Manifests, findings: &mut ImageScan) {
        let variables = collect_variables(manifests);
        for rule in self.0.operators.iter().map(|rule| AppliedRule { rule, variables: &variables })
        {
            let mut added = Vec::new();
            match &rule.rule.when.container {
                Some(container) => rule.apply_to_container(container, findings, &mut added),
                None => {
                    for (index, document) in manifests.documents.iter().enumerate() {
                        if is_condition_met(&rule.rule.when, document) {
                            rule.apply_to_document(index, document, findings, &mut added);
                        }
                    }
                }
            }
            findings.images.extend(added);
        }
    }
}

/// Whether a document has the kind, group and fields that a rule asks for.
fn is_condition_met(when: &OperatorCondition, document: &ManifestDocument) -> bool {
    let is_set = |field: &String| {
        find_field(&document.value, field)
            .is_some_and(|value| !value.is_null() && value.as_str() != Some(""))
    };
    when.kind.as_deref().is_none_or(|kind| kind == document.kind())
        && when.group.as_deref().is_none_or(|group| group == document.group())
        && when.set.iter().all(is_set)
        && !when.unset.iter().any(is_set)
}

/// The variables of all containers, of which an operator has its defaults. The first of two with the
/// same name counts.
fn collect_variables(manifests: &Manifests) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for document in &manifests.documents {
        pods::visit_all_containers(&document.value, &mut |container, _| {
            for item in container.get("env").and_then(Value::as_array).into_iter().flatten() {
                let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
                if let (Some(name), Some(value)) = (text("name"), text("value")) {
                    variables.entry(name).or_insert(value);
                }
            }
        });
    }
    variables
}

/// One rule, being applied.
struct AppliedRule<'a> {
    rule: &'a OperatorRule,
    variables: &'a BTreeMap<String, String>,
}

impl AppliedRule<'_> {
    /// Applies the rule to a document that meets its condition.
    fn apply_to_document(
        &self,
        index: usize,
        document: &ManifestDocument,
        findings: &mut ImageScan,
        added: &mut Vec<FoundImage>,
    ) {
        let place = ManifestLocation::new(index, document, DocumentPath::default());
        for image in &self.rule.images {
            let field = |name: &str| match name.strip_prefix("env.") {
                Some(name) => self.variables.get(name).cloned(),
                // YAML reads a version such as `18` as a number.
                None => match find_field(&document.value, name)? {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                },
            };
            if let Some(image) = fill_fields(image, field) {
                self.add_image(&image, &place, findings, added);
            }
        }
        let Some(suffixes) = &self.rule.suffixes else { return };
        for found in findings.images.iter_mut().filter(|found| found.place.document == index) {
            let is_meant = found.reference.repository().ends_with(&suffixes.of);
            let Some(tag) = found.reference.tag().filter(|_| is_meant) else { continue };
            // A digest pins one image, and a tag with one of the suffixes was already chosen for an
            // operating system: the operator appends nothing.
            if found.reference.digest().is_some()
                || suffixes.append.iter().any(|s| tag.ends_with(s))
            {
                continue;
            }
            for suffix in &suffixes.append {
                if let Ok(reference) = found.reference.with_tag(&format!("{tag}{suffix}")) {
                    added.push(self.build_image(reference, &found.place, Confidence::Possible));
                }
            }
            // The operator appends a suffix at run time, so nobody pulls the tag as it is written.
            found.confidence = Confidence::Possible;
            found.note = Some(self.rule.why.trim().to_owned());
        }
    }

    /// Applies the rule if a pod runs the operator's own image; `{tag}` is the tag of that.
    fn apply_to_container(
        &self,
        container: &str,
        findings: &ImageScan,
        added: &mut Vec<FoundImage>,
    ) {
        let operator = findings.images.iter().find(|found| {
            found.pattern == LocationKind::Pod && found.reference.repository().ends_with(container)
        });
        let Some(operator) = operator else { return };
        // Operators start their helpers in their own version.
        for image in &self.rule.images {
            let image = image.replace("{tag}", operator.reference.tag().unwrap_or_default());
            self.add_image(&image, &operator.place, findings, added);
        }
    }

    /// Adds an image unless the manifests or a former rule name one of the same repository.
    fn add_image(
        &self,
        image: &str,
        place: &ManifestLocation,
        findings: &ImageScan,
        added: &mut Vec<FoundImage>,
    ) {
        let Ok(reference) = image.parse::<Reference>() else { return };
        // If the manifests name an image of this repository, also from another registry, the
        // operator uses that instead of its built-in one.
        let all = findings.images.iter().chain(&*added);
        let mut known = all.map(|found| found.reference.repository());
        let last = |repository: &str| repository.rsplit('/').next().map(str::to_owned);
        let confidence = match self.rule.sure {
            RuleCertainty::Likely => Confidence::Likely,
            RuleCertainty::Possible => Confidence::Possible,
        };
        if !known.any(|known| last(known) == last(reference.repository())) {
            added.push(self.build_image(reference, place, confidence));
        }
    }

    /// The image of this rule at a location.
    fn build_image(
        &self,
        reference: Reference,
        place: &ManifestLocation,
        confidence: Confidence,
    ) -> FoundImage {
        let text = reference.to_string();
        let part = ReferencePart { path: place.path.clone(), text, role: PartRole::Whole };
        FoundImage {
            reference,
            parts: vec![part],
            place: place.clone(),
            pattern: LocationKind::Rule,
            confidence,
            values: self
                .rule
                .values
                .iter()
                .map(|value| DocumentPath::default().keys(value))
                .collect(),
            note: Some(self.rule.why.trim().to_owned()),
        }
    }
}

/// The field of a document at a dotted path.
fn find_field<'a>(document: &'a Value, field: &str) -> Option<&'a Value> {
    DocumentPath::default().keys(field).find_value(document)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::find::{find_images, find_images_with_rules};

    #[test]
    fn the_built_in_table_is_read_whole() {
        let text = include_str!("../../../rules/operators.yaml");
        let rules = OperatorRules::read("rules/operators.yaml", text).unwrap().0.operators;
        let names: std::collections::BTreeSet<&str> =
            rules.iter().map(|rule| rule.name.as_str()).collect();
        assert_eq!(names.len(), rules.len());
        for rule in &rules {
            // A file of the operator's source and its release or commit.
            let has_source = rule.why.contains('/') && rule.why.contains(" of ");
            assert!(has_source, "{} names no source: {}", rule.name, rule.why);
        }
    }

    #[test]
    fn a_version_that_is_a_number_is_one() {
        let scylla =
            "apiVersion: scylla.scylladb.com/v1\nkind: ScyllaCluster\nspec: {version: 2026.2}\n";
        let found = find_images(scylla).images;
        assert_eq!(found[0].reference.to_string(), "docker.io/scylladb/scylla:2026.2");
    }

    #[test]
    fn a_cluster_without_an_image_name_runs_the_operator_s_own() {
        let cluster = "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {name: pg}\n";
        let found = find_images(cluster).images;
        assert!(found[0].reference.to_string().starts_with("ghcr.io/cloudnative-pg/postgresql:"));
        assert_eq!(
            (found[0].pattern, found[0].confidence),
            (LocationKind::Rule, Confidence::Likely)
        );
        let named = format!("{cluster}spec: {{imageName: 'site/cnpg/postgresql:17'}}\n");
        assert!(find_images(&named).images.iter().all(|found| found.pattern != LocationKind::Rule));
    }

    #[test]
    fn a_driver_is_pulled_with_the_node_s_system_behind_its_tag() {
        let policy = "apiVersion: nvidia.com/v1\nkind: ClusterPolicy\nspec: {driver: {repository: \
                      nvcr.io/nvidia, image: driver, version: '580.1'}}\n";
        let found = find_images(policy).images;
        assert_eq!(found[0].confidence, Confidence::Possible);
        assert!(found.iter().any(|f| f.reference.tag() == Some("580.1-ubuntu22.04")));
    }

    #[test]
    fn a_user_s_rule_adds_and_replaces() {
        let own = "operators:\n- name: mine\n  when: {group: x.example, kind: App}\n  images: \
                   ['ghcr.io/x/app:{spec.version}']\n  why: because\n";
        let rules = OperatorRules::builtin()
            .extended_with(&OperatorRules::read("gantry.yaml", own).unwrap().0);
        let app = "apiVersion: x.example/v1\nkind: App\nspec: {version: '3'}\n";
        let found = find_images_with_rules(app, &rules).images;
        assert_eq!(found[0].reference.to_string(), "ghcr.io/x/app:3");
        let wrong =
            OperatorRules::read("f", "operators:\n- {name: a, when: {}, images: [], why: x}\n");
        assert!(wrong.unwrap_err().to_string().starts_with("f:2:"));
    }
}
