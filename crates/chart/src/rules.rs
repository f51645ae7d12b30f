//! Applies operator rules: images that no manifest names because they are built into an operator.
//! The rules are data: `rules/operators.yaml`, which is compiled in, and `rules:` of gantry.yaml.

use std::sync::OnceLock;

use serde_json::Value;
use types::Reference;
use types::input::Input;
use types::input::rules::{self, Operator, Sure, When, with_fields};

use crate::find::{Confidence, Findings, Found, Part, Pattern, Place, Role};
use crate::manifest::{Document, Manifests};
use crate::path::Path;
use crate::{Error, Result};

/// A table of operator rules.
#[derive(Debug, Clone, Default)]
pub struct Rules(rules::Rules);

impl Rules {
    /// The rules that come with Gantry.
    pub fn builtin() -> &'static Self {
        static RULES: OnceLock<Rules> = OnceLock::new();
        RULES.get_or_init(|| {
            let text = include_str!("../../../rules/operators.yaml");
            // A test reads the table; a broken one cannot be built.
            Self::read("rules/operators.yaml", text).unwrap_or_default()
        })
    }

    /// Parses a table in the format of `rules/operators.yaml`; `name` is its name in errors.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        Ok(Self(types::yaml::read(name, text).map_err(Error::Document)?))
    }

    /// The built-in rules, extended by those of a `gantry.yaml`.
    pub fn of_input(input: &Input) -> Self {
        Self::builtin().with(&input.rules)
    }

    /// These rules, extended by `own`; a rule of the same name is replaced.
    #[must_use]
    pub fn with(&self, own: &rules::Rules) -> Self {
        let mut all = self.0.operators.clone();
        all.retain(|rule| own.operators.iter().all(|other| other.name != rule.name));
        all.extend(own.operators.iter().cloned());
        Self(rules::Rules { operators: all })
    }

    /// Adds the images that operators will pull for these manifests.
    pub(crate) fn apply(&self, manifests: &Manifests, findings: &mut Findings) {
        for rule in self.0.operators.iter().map(Rule) {
            let mut added = Vec::new();
            match &rule.0.when.container {
                Some(container) => rule.by_container(container, findings, &mut added),
                None => {
                    for (index, document) in manifests.documents.iter().enumerate() {
                        if is_met(&rule.0.when, document) {
                            rule.by_document(index, document, findings, &mut added);
                        }
                    }
                }
            }
            findings.images.extend(added);
        }
    }
}

/// Whether a document has the kind, group and fields that a rule asks for.
fn is_met(when: &When, document: &Document) -> bool {
    let is_set = |field: &String| {
        field_of(&document.value, field)
            .is_some_and(|value| !value.is_null() && value.as_str() != Some(""))
    };
    when.kind.as_deref().is_none_or(|kind| kind == document.kind())
        && when.group.as_deref().is_none_or(|group| group == document.group())
        && when.set.iter().all(is_set)
        && !when.unset.iter().any(is_set)
}

/// One rule, being applied.
struct Rule<'a>(&'a Operator);

impl Rule<'_> {
    /// Applies the rule to a document that meets its condition.
    fn by_document(
        &self,
        index: usize,
        document: &Document,
        findings: &mut Findings,
        added: &mut Vec<Found>,
    ) {
        let place = Place {
            template: document.template.clone(),
            document: index,
            kind: document.kind().to_owned(),
            name: document.name().to_owned(),
            path: Path::default(),
        };
        for image in &self.0.images {
            let field = |name: &str| field_of(&document.value, name)?.as_str().map(str::to_owned);
            if let Some(image) = with_fields(image, field) {
                self.add(&image, &place, findings, added);
            }
        }
        let Some(suffixes) = &self.0.suffixes else { return };
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
                    added.push(self.found(reference, &found.place, Confidence::Possible));
                }
            }
            // The operator appends a suffix at run time, so nobody pulls the tag as it is written.
            found.confidence = Confidence::Possible;
            found.note = Some(self.0.why.trim().to_owned());
        }
    }

    /// Applies the rule if a pod runs the operator's own image; `{tag}` is the tag of that.
    fn by_container(&self, container: &str, findings: &Findings, added: &mut Vec<Found>) {
        let operator = findings.images.iter().find(|found| {
            found.pattern == Pattern::Pod && found.reference.repository().ends_with(container)
        });
        let Some(operator) = operator else { return };
        // Operators start their helpers in their own version.
        for image in &self.0.images {
            let image = image.replace("{tag}", operator.reference.tag().unwrap_or_default());
            self.add(&image, &operator.place, findings, added);
        }
    }

    /// Adds an image unless the manifests or a former rule name one of the same repository.
    fn add(&self, image: &str, place: &Place, findings: &Findings, added: &mut Vec<Found>) {
        let Ok(reference) = image.parse::<Reference>() else { return };
        // If the manifests name an image of this repository, also from another registry, the
        // operator uses that instead of its built-in one.
        let all = findings.images.iter().chain(&*added);
        let mut known = all.map(|found| found.reference.repository());
        let last = |repository: &str| repository.rsplit('/').next().map(str::to_owned);
        let confidence = match self.0.sure {
            Sure::Likely => Confidence::Likely,
            Sure::Possible => Confidence::Possible,
        };
        if !known.any(|known| last(known) == last(reference.repository())) {
            added.push(self.found(reference, place, confidence));
        }
    }

    /// The image of this rule at a location.
    fn found(&self, reference: Reference, place: &Place, confidence: Confidence) -> Found {
        let text = reference.to_string();
        let part = Part { path: place.path.clone(), text, role: Role::Whole };
        Found {
            reference,
            parts: vec![part],
            place: place.clone(),
            pattern: Pattern::Rule,
            confidence,
            values: self.0.values.iter().map(|value| dotted(value)).collect(),
            note: Some(self.0.why.trim().to_owned()),
        }
    }
}

/// The path of `spec.image.tag`.
fn dotted(path: &str) -> Path {
    path.split('.').fold(Path::default(), |path, key| path.key(key))
}

/// The field of a document at a dotted path.
fn field_of<'a>(document: &'a Value, field: &str) -> Option<&'a Value> {
    dotted(field).find(document)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::find::{images, images_with};

    #[test]
    fn the_built_in_table_is_read_whole() {
        let text = include_str!("../../../rules/operators.yaml");
        assert!(Rules::read("rules/operators.yaml", text).unwrap().0.operators.len() > 8);
    }

    #[test]
    fn a_cluster_without_an_image_name_runs_the_operator_s_own() {
        let cluster = "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {name: pg}\n";
        let found = images(cluster).images;
        assert!(found[0].reference.to_string().starts_with("ghcr.io/cloudnative-pg/postgresql:"));
        assert_eq!((found[0].pattern, found[0].confidence), (Pattern::Rule, Confidence::Likely));
        let named = format!("{cluster}spec: {{imageName: 'site/cnpg/postgresql:17'}}\n");
        assert!(images(&named).images.iter().all(|found| found.pattern != Pattern::Rule));
    }

    #[test]
    fn a_driver_is_pulled_with_the_node_s_system_behind_its_tag() {
        let policy = "apiVersion: nvidia.com/v1\nkind: ClusterPolicy\nspec: {driver: {repository: \
                      nvcr.io/nvidia, image: driver, version: '580.1'}}\n";
        let found = images(policy).images;
        assert_eq!(found[0].confidence, Confidence::Possible);
        assert!(found.iter().any(|f| f.reference.tag() == Some("580.1-ubuntu22.04")));
    }

    #[test]
    fn a_user_s_rule_adds_and_replaces() {
        let own = "operators:\n- name: mine\n  when: {group: x.example, kind: App}\n  images: \
                   ['ghcr.io/x/app:{spec.version}']\n  why: because\n";
        let rules = Rules::builtin().with(&Rules::read("gantry.yaml", own).unwrap().0);
        let app = "apiVersion: x.example/v1\nkind: App\nspec: {version: '3'}\n";
        let found = images_with(app, &rules).images;
        assert_eq!(found[0].reference.to_string(), "ghcr.io/x/app:3");
        let wrong = Rules::read("f", "operators:\n- {name: a, when: {}, images: [], why: x}\n");
        assert!(wrong.unwrap_err().to_string().starts_with("f:2:"));
    }
}
