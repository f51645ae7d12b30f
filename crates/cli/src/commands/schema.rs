//! `gantry schema`: the JSON schemas of the documents that Gantry reads and writes, and of the results
//! of `--output json`. They are generated from the types that read and write them, and published in
//! `docs/formats/schema/`, which a test compares.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use super::{
    audit, config, deploy, diff, doctor, evidence, extract, fetch, image, images, inspect, load,
    lock, models, pack, plan, policy, relocate, render, render_namespace, resolve, serve, store,
    undeploy, verify, version, webhook,
};
use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::ui;

/// Print the JSON schema of a document or of a result, or list the schemas.
///
/// There is one for each document that Gantry reads or writes (input is gantry.yaml), and one for the
/// result of each command with --output json (output-lock, output-plan, …). `gantry init` writes that
/// of gantry.yaml beside it for editors.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry schema                               # what there is
  gantry schema input > gantry.schema.json
  gantry schema site > site.schema.json       # then, as the first line of site.yaml:
                                              # yaml-language-server: $schema=./site.schema.json
  gantry schema output-check")]
pub(crate) struct SchemaArgs {
    /// The schema to print [default: list them].
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Whether a schema is for something that Gantry reads or for something that it writes. A key that is
/// optional to read may always be there in what is written.
#[derive(Clone, Copy)]
enum SchemaDirection {
    Read,
    Written,
}

/// A published schema.
pub(crate) struct PublishedSchema {
    /// The name that `gantry schema` takes; the name of its file without the ending.
    pub(crate) name: &'static str,
    /// What it describes.
    pub(crate) subject: &'static str,
    direction: SchemaDirection,
    generate: fn(SchemaGenerator) -> Schema,
}

/// The result of `gantry schema` without a name.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SchemaListing {
    schemas: Vec<ListedSchema>,
}

#[derive(Serialize, JsonSchema)]
struct ListedSchema {
    name: String,
    subject: String,
}

const fn read<T: JsonSchema>(name: &'static str, subject: &'static str) -> PublishedSchema {
    PublishedSchema {
        name,
        subject,
        direction: SchemaDirection::Read,
        generate: SchemaGenerator::into_root_schema_for::<T>,
    }
}

const fn written<T: JsonSchema>(name: &'static str, subject: &'static str) -> PublishedSchema {
    PublishedSchema { direction: SchemaDirection::Written, ..read::<T>(name, subject) }
}

/// All schemas, documents first.
pub(crate) const ALL: &[PublishedSchema] = &[
    read::<types::input::Input>("input", "gantry.yaml"),
    read::<types::lock::Lock>("lock", "gantry.lock"),
    read::<types::site::Site>("site", "site.yaml"),
    read::<types::config::UserConfig>("config", "the configuration file, config.yaml"),
    read::<types::receipt::Receipt>("receipt", "the receipt of load --receipt"),
    read::<chart::wiring::patch::PatchFile>("patches", "the patches of relocate --patches"),
    read::<types::input::rules::OperatorImageRules>(
        "rules-operators",
        "rules for images that operators pull (rules: of gantry.yaml)",
    ),
    read::<types::input::rules::PhoneHome>(
        "rules-phone-home",
        "rules for telemetry and updates (phoneHome: of gantry.yaml)",
    ),
    read::<::deploy::inference::recognise::InferenceRules>(
        "rules-inference",
        "rules that recognise model servers",
    ),
    read::<types::input::wiring::WiringRules>(
        "rules-wiring",
        "rules for offline configuration (wiring: of gantry.yaml)",
    ),
    written::<ui::ErrorDocument>("error", "an error, on standard error with --output json"),
    written::<egress::report::AuditReport>("output-audit", "audit, and its audit.json"),
    written::<audit::AuditRestoration>("output-audit-restore", "audit restore"),
    written::<::deploy::check::CheckReport>("output-check", "check, and its JSON report"),
    written::<config::ConfigListing>("output-config-show", "config show"),
    written::<deploy::DeploySummary>("output-deploy", "deploy"),
    written::<deploy::DeployPreview>("output-deploy-dry-run", "deploy --dry-run"),
    written::<diff::DiffSummary>("output-diff", "diff"),
    written::<doctor::DoctorReport>("output-doctor", "doctor"),
    written::<evidence::EvidenceSummary>("output-evidence", "evidence"),
    written::<evidence::EvidenceVerification>("output-evidence-verify", "evidence verify"),
    written::<extract::ExtractSummary>("output-extract", "extract"),
    written::<fetch::FetchSummary>("output-fetch", "fetch"),
    written::<image::OwnImageSummary>("output-image", "image"),
    written::<images::ImageList>("output-images", "images"),
    written::<inspect::BundleListing>("output-inspect", "inspect"),
    written::<load::LoadSummary>("output-load", "load"),
    written::<lock::LockSummary>("output-lock", "lock"),
    written::<models::ModelsListing>("output-models-ls", "models ls"),
    written::<models::ModelsPushSummary>("output-models-push", "models push"),
    written::<models::ModelsVerifySummary>("output-models-verify", "models verify"),
    written::<pack::PackSummary>("output-pack", "pack"),
    written::<plan::FetchPreview>("output-plan", "plan"),
    written::<policy::EgressPolicySummary>("output-policy-egress", "policy egress"),
    written::<policy::ImagePolicySummary>("output-policy-images", "policy images"),
    written::<relocate::RelocateSummary>("output-relocate", "relocate, and its JSON report"),
    written::<render::RenderSummary>("output-render", "render"),
    written::<render_namespace::RenderNamespaceSummary>(
        "output-render-namespace",
        "render namespace",
    ),
    written::<resolve::NameLookups>("output-resolve", "resolve"),
    written::<SchemaListing>("output-schema", "schema"),
    written::<serve::DepotReady>("output-serve", "serve"),
    written::<store::GarbageSummary>("output-store-gc", "store gc"),
    written::<store::StoreListing>("output-store-ls", "store ls"),
    written::<store::StoreCheckSummary>("output-store-verify", "store verify"),
    written::<undeploy::UndeploySummary>("output-undeploy", "undeploy"),
    written::<verify::VerifySummary>("output-verify", "verify"),
    written::<version::FormatVersions>("output-version", "version"),
    written::<webhook::WebhookReady>("output-webhook", "webhook"),
    written::<webhook::WebhookManifestsSummary>("output-webhook-manifests", "webhook manifests"),
];

impl PublishedSchema {
    /// The schema named `name`.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|schema| schema.name == name)
    }

    /// The schema as JSON. Draft 7, the newest that the YAML language server knows.
    pub(crate) fn to_json(&self) -> String {
        let settings = SchemaSettings::draft07();
        let settings = match self.direction {
            SchemaDirection::Read => settings,
            SchemaDirection::Written => settings.for_serialize(),
        };
        let mut schema = (self.generate)(settings.into_generator());
        schema.insert("title".to_owned(), self.title().into());
        // A schema is a JSON value already, so printing it cannot fail.
        format!("{:#}\n", schema.to_value())
    }

    fn title(&self) -> String {
        match self.name.starts_with("output-") {
            true => format!("gantry {} --output json", self.subject),
            false => format!("Gantry: {}", self.subject),
        }
    }
}

pub(crate) fn run(context: &CommandContext, args: &SchemaArgs) -> Result<()> {
    let Some(name) = &args.name else {
        let schemas = ALL.iter().map(|schema| ListedSchema {
            name: schema.name.to_owned(),
            subject: schema.subject.to_owned(),
        });
        return context.ui.print_result(&SchemaListing { schemas: schemas.collect() }, |listing| {
            let rows = listing.schemas.iter();
            let rows = rows.map(|schema| [schema.name.clone(), schema.subject.clone()]);
            ui::format_table(["name", "describes"], rows.collect())
        });
    };
    match PublishedSchema::find(name) {
        Some(schema) => context.ui.print_document(&schema.to_json()),
        None => Err(CommandError::usage_error(format!("there is no schema {name:?}"))
            .with_hint("list them with: gantry schema")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// Set to `write`, the published schemas are written instead of compared.
    const REWRITE: &str = "GANTRY_SCHEMAS";

    #[test]
    fn the_published_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/schema");
        let rewrite = std::env::var_os(REWRITE).is_some_and(|value| value == "write");
        let mut expected: Vec<String> = Vec::new();
        for schema in ALL {
            let file = format!("{}.json", schema.name);
            let text = schema.to_json();
            if rewrite {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(&file), &text).unwrap();
            }
            let published = std::fs::read_to_string(folder.join(&file)).unwrap_or_default();
            assert!(published == text, "{file} is out of date; run with {REWRITE}=write");
            expected.push(file);
        }
        let mut found: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    fn read_file(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        std::fs::read_to_string(root.join(path)).unwrap()
    }

    #[track_caller]
    fn assert_fits(name: &str, document: &str, text: &str) {
        let schema = PublishedSchema::find(name).unwrap().to_json();
        let schema: Value = serde_json::from_str(&schema).unwrap();
        let value: Value = types::yaml::read_document(document, text).unwrap();
        let errors = testkit::json_schema::find_schema_errors(&schema, &value);
        assert_eq!(errors, [""; 0], "{document}");
    }

    #[test]
    fn the_repository_s_documents_fit_their_schemas() {
        for (name, path) in [
            ("input", "examples/umbrella/gantry.yaml"),
            ("rules-operators", "rules/operators.yaml"),
            ("rules-phone-home", "rules/phone-home.yaml"),
            ("rules-inference", "rules/inference.yaml"),
            ("rules-wiring", "rules/wiring.yaml"),
        ] {
            assert_fits(name, path, &read_file(path));
        }
        let first_block = |path: &str, language: &str| {
            let text = read_file(path);
            let (_, block) = text.split_once(&format!("```{language}\n")).unwrap();
            block.split_once("```").unwrap().0.to_owned()
        };
        assert_fits("site", "site.md", &first_block("docs/formats/site.md", "yaml"));
        assert_fits("input", "init", &resolve_sample());
    }

    fn resolve_sample() -> String {
        ::resolve::init::render_input("site", &[]).unwrap()
    }

    #[test]
    fn a_wrong_key_or_value_does_not_fit() {
        for (name, text) in [
            ("input", "version: 1\nname: a\nimgaes: []\n"),
            ("input", "version: 1\nname: a\ntools: [helm]\n"),
            ("input", "version: 1\nname: a\ncharts: [{version: 1.2.3}]\n"),
            ("site", "version: 1\n"),
            ("site", "version: 1\nregistry: {url: r, naming: other}\n"),
            ("config", "concurrency: many\n"),
        ] {
            let schema: Value =
                serde_json::from_str(&PublishedSchema::find(name).unwrap().to_json()).unwrap();
            let value: Value = types::yaml::read_document("f", text).unwrap();
            let errors = testkit::json_schema::find_schema_errors(&schema, &value);
            assert!(!errors.is_empty(), "{text}");
        }
    }

    /// Results with keys of their own: documents that other programs read, with a version.
    const DOCUMENTS: &[&str] = &["output-audit"];

    #[test]
    fn a_key_has_one_form_in_all_results() {
        let mut forms: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let results = ALL.iter().filter(|schema| schema.name.starts_with("output-"));
        for schema in results.filter(|schema| !DOCUMENTS.contains(&schema.name)) {
            let root: Value = serde_json::from_str(&schema.to_json()).unwrap();
            assert_eq!(root["type"], "object", "{}: lists are never bare", schema.name);
            collect_forms(&root, &root, schema.name, &mut forms);
        }
        for (key, forms) in forms {
            assert!(!key.contains(['_', '-']), "{key} is not in camelCase");
            let is_question = key.strip_prefix("is").and_then(|rest| rest.chars().next());
            assert!(!is_question.is_some_and(char::is_uppercase), "{key}: leave out `is`");
            assert!(forms.len() == 1, "{key} has several forms: {forms:?}");
        }
    }

    /// Collects the form of each key in a schema: `list of object`, `string`, …
    fn collect_forms(
        root: &Value,
        schema: &Value,
        name: &str,
        forms: &mut BTreeMap<String, BTreeMap<String, String>>,
    ) {
        match schema {
            Value::Object(keys) => {
                if let Some(Value::Object(properties)) = keys.get("properties") {
                    for (key, value) in properties {
                        let form = describe_form(root, value);
                        // `null` and `true` (any value) say nothing.
                        if !form.is_empty() {
                            forms
                                .entry(key.clone())
                                .or_default()
                                .entry(form)
                                .or_insert_with(|| name.to_owned());
                        }
                    }
                }
                keys.values().for_each(|value| collect_forms(root, value, name, forms));
            }
            Value::Array(items) => {
                for item in items {
                    collect_forms(root, item, name, forms);
                }
            }
            _ => {}
        }
    }

    fn describe_form(root: &Value, schema: &Value) -> String {
        if let Some(target) = schema["$ref"].as_str() {
            return describe_form(root, root.pointer(target.trim_start_matches('#')).unwrap());
        }
        for key in ["anyOf", "oneOf", "allOf"] {
            if let Some(options) = schema[key].as_array() {
                let mut forms = options.iter().map(|option| describe_form(root, option));
                return forms.rfind(|form| !form.is_empty()).unwrap_or_default();
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or_default(),
            kind => kind.as_str().unwrap_or_default(),
        };
        match kind {
            "null" => String::new(),
            "array" => format!("list of {}", describe_form(root, &schema["items"])),
            "" if schema.get("enum").is_some() || schema.get("const").is_some() => "string".into(),
            kind => kind.to_owned(),
        }
    }
}
