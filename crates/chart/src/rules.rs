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
        && when.is.iter().all(|(field, wanted)| {
            let value = find_field(&document.value, field).and_then(write_scalar);
            value.is_some() && value == write_scalar(wanted)
        })
        && when.set.iter().all(is_set)
        && !when.unset.iter().any(is_set)
}

/// A text, number or boolean as a text: YAML reads a version such as `18` as a number.
fn write_scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(switch) => Some(switch.to_string()),
        _ => None,
    }
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
                None => find_field(&document.value, name).and_then(write_scalar),
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

    /// Adds an image unless the manifests or a former rule name what the operator uses instead of it.
    fn add_image(
        &self,
        image: &str,
        place: &ManifestLocation,
        findings: &ImageScan,
        added: &mut Vec<FoundImage>,
    ) {
        let Ok(reference) = image.parse::<Reference>() else { return };
        let confidence = match self.rule.sure {
            RuleCertainty::Likely => Confidence::Likely,
            RuleCertainty::Possible => Confidence::Possible,
        };
        // One rule may name several tags of a repository, for one object or for several.
        let is_known = added.iter().any(|other| other.reference == reference)
            || findings.images.iter().any(|found| self.is_replacement(found, &reference, place));
        if !is_known {
            added.push(self.build_image(reference, place, confidence));
        }
    }

    /// Whether the operator uses an image of the manifests, also from another registry, instead of
    /// the one that it has built in for the object or container at `place`.
    fn is_replacement(
        &self,
        found: &FoundImage,
        builtin: &Reference,
        place: &ManifestLocation,
    ) -> bool {
        let last =
            |reference: &Reference| reference.repository().rsplit('/').next().map(str::to_owned);
        // What another object of the same kind names is for that one.
        let is_of_another = self.rule.when.container.is_none()
            && found.place.kind == place.kind
            && found.place.document != place.document;
        // Any chart may run its own `redis` or `busybox`; an operator is told of another in a field,
        // an argument or a variable.
        let is_unrelated = found.pattern == LocationKind::Pod
            && builtin.registry() == "docker.io"
            && builtin.repository().starts_with("library/");
        found.reference == *builtin
            || (!is_of_another && !is_unrelated && last(&found.reference) == last(builtin))
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

    /// A document that meets a rule's condition, with one more field, and the variables that its
    /// images need.
    fn write_document(rule: &OperatorRule, more: Option<&str>) -> String {
        let mut document = serde_json::json!({"metadata": {"name": "x"}});
        if let Some(container) = &rule.when.container {
            let image = format!("registry.example/{container}:v9");
            return serde_json::json!({"kind": "Pod", "spec": {"containers": [{"image": image}]}})
                .to_string();
        }
        document["apiVersion"] = format!("{}/v1", rule.when.group.as_deref().unwrap()).into();
        document["kind"] = rule.when.kind.clone().unwrap().into();
        let set = rule.when.set.iter().map(|field| (field.as_str(), Value::from("v1")));
        let is = rule.when.is.iter().map(|(field, value)| (field.as_str(), value.clone()));
        let mentioned = rule.images.iter().flat_map(|image| image.split('{').skip(1));
        let fields = mentioned.filter_map(|rest| rest.split(['#', '}']).next());
        let (variables, fields): (Vec<&str>, Vec<&str>) =
            fields.partition(|field| field.starts_with("env."));
        let fields = fields.into_iter().map(|field| (field, Value::from("v1")));
        let more = more.map(|field| (field, Value::from("site.example/named:1")));
        for (field, value) in fields.chain(set).chain(is).chain(more) {
            let pointer = format!("/{}", field.replace('.', "/"));
            for (end, _) in pointer.match_indices('/').skip(1) {
                let parent =
                    document.pointer(&pointer[..end]).is_none_or(|parent| !parent.is_object());
                if parent {
                    set_field(&mut document, &pointer[..end], serde_json::json!({}));
                }
            }
            set_field(&mut document, &pointer, value);
        }
        let env: Vec<Value> = variables
            .iter()
            .map(|name| serde_json::json!({"name": &name[4..], "value": "v1"}))
            .collect();
        let pod = serde_json::json!({"kind": "Pod", "spec": {"containers": [{"env": env}]}});
        format!("{document}\n---\n{pod}\n")
    }

    fn set_field(document: &mut Value, pointer: &str, value: Value) {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value;
    }

    #[test]
    fn every_rule_finds_its_images_in_a_minimal_object_and_none_where_the_object_names_one() {
        for rule in &OperatorRules::builtin().0.operators {
            let alone = OperatorRules(rules::OperatorImageRules { operators: vec![rule.clone()] });
            let find = |more: Option<&str>| -> Vec<String> {
                let found = find_images_with_rules(&write_document(rule, more), &alone).images;
                let of_rule = found.into_iter().filter(|found| found.pattern == LocationKind::Rule);
                of_rule.map(|found| found.reference.to_string()).collect()
            };
            let expected: Vec<String> = rule
                .images
                .iter()
                .map(|image| {
                    let value = |name: &str| match name {
                        "tag" => Some("v9".to_owned()),
                        name => Some(
                            rule.when.is.get(name).map_or("v1", |v| v.as_str().unwrap()).to_owned(),
                        ),
                    };
                    let filled = fill_fields(image, value).unwrap();
                    filled.parse::<Reference>().unwrap().to_string()
                })
                .collect();
            assert_eq!(find(None), expected, "{}", rule.name);
            for field in &rule.when.unset {
                assert!(find(Some(field)).is_empty(), "{}: {field}", rule.name);
            }
        }
    }

    #[test]
    fn an_object_that_switches_a_part_off_or_is_of_another_type_needs_no_image_for_it() {
        let tempo = "apiVersion: tempo.grafana.com/v1alpha1\nkind: TempoMonolithic\nspec: {jaegerui: {enabled: SWITCH}}\n";
        let find = |text: &str| find_images(text).images;
        assert_eq!(find(&tempo.replace("SWITCH", "false")).len(), 1);
        assert_eq!(find(&tempo.replace("SWITCH", "true")).len(), 3);
        let server = "apiVersion: cassandra.datastax.com/v1beta1\nkind: CassandraDatacenter\nspec: {serverType: TYPE, serverVersion: 4.1.8}\n";
        let cassandra = find(&server.replace("TYPE", "cassandra"));
        let expected = "docker.io/k8ssandra/cass-management-api:4.1.8-ubi";
        assert!(cassandra.iter().any(|found| found.reference.to_string() == expected));
        let other = find(&server.replace("TYPE", "hcd"));
        assert!(other.iter().all(|found| !found.reference.to_string().contains("management")));
    }

    #[test]
    fn each_object_of_a_kind_needs_its_own_image() {
        let istio = |name: &str, version: &str| {
            format!(
                "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {{name: {name}}}\nspec: {{version: {version}}}\n---\n"
            )
        };
        let found = find_images(&(istio("a", "v1.29.6") + &istio("b", "v1.30.3"))).images;
        let mut images: Vec<String> =
            found.iter().map(|found| found.reference.to_string()).collect();
        images.sort();
        assert_eq!(
            images,
            [
                "registry.istio.io/release/pilot:1.29.6",
                "registry.istio.io/release/pilot:1.30.3",
                "registry.istio.io/release/proxyv2:1.29.6",
                "registry.istio.io/release/proxyv2:1.30.3",
            ]
        );
        // One names its image: the other still runs the operator's own.
        let search = "apiVersion: elasticsearch.k8s.elastic.co/v1\nkind: Elasticsearch\nspec: {version: 9.1.0}\n---\n\
            apiVersion: elasticsearch.k8s.elastic.co/v1\nkind: Elasticsearch\nspec: {version: 9.1.0, image: site.example/elasticsearch:9.0.0}\n";
        assert_eq!(find_images(search).images.len(), 2);
    }

    #[test]
    fn a_model_is_no_image_and_its_server_is_one() {
        let model = "apiVersion: ollama.ayaka.io/v1\nkind: Model\nspec: {image: 'llama3.1:8b'}\n";
        let found = find_images(model).images;
        let images: Vec<String> = found.iter().map(|found| found.reference.to_string()).collect();
        assert_eq!(images, ["docker.io/ollama/ollama:latest", "docker.io/curlimages/curl:latest"]);
    }

    #[test]
    fn a_helper_of_an_operator_is_replaced_by_its_argument_and_not_by_the_pod_of_another() {
        let job = "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nspec: {pytorchReplicaSpecs: {Worker: {replicas: 1}}}\n---\n";
        let pod =
            |rest: &str| format!("{job}kind: Pod\nspec: {{containers: [{{name: a, {rest}}}]}}\n");
        let of_rule = |text: &str| {
            let found = find_images(text).images;
            found.iter().filter(|found| found.pattern == LocationKind::Rule).count()
        };
        assert_eq!(of_rule(&pod("image: 'alpine:3.22'")), 1);
        let argument = "image: 'x.example/op:1', args: ['--pytorch-init-container-image=site.example/library/alpine:3.10']";
        assert_eq!(of_rule(&pod(argument)), 0);
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
