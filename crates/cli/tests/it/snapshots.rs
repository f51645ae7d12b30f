//! What users and programs see, pinned: the table and the JSON of each result that needs no cluster.
//! Digests, sizes, paths and addresses are replaced. A change is written with `INSTA_UPDATE=always`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use testkit::json_schema::find_schema_errors;
use testkit::{Gantry, TestEnvironment};

use crate::possible;
use crate::story::{self, SMALL, alone, chart, text, user};

/// Replaces what differs between machines and builds.
const FILTERS: &[(&str, &str)] = &[
    (r"[0-9a-f]{64}", "[sha256]"),
    (r"\bsha256-[0-9a-f]+…", "[short tag]"),
    (r"\b[0-9a-f]{40}\b", "[commit]"),
    (r"\b[0-9a-f]{12}\b", "[short]"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[time]"),
    (r"(127\.0\.0\.1|localhost):\d+", "[host]"),
    (r#"("\w*[bB]ytes"): [1-9]\d*"#, "$1: [bytes]"),
    (r"\b\d+(\.\d+)? ([KMGT]i)?B\b", "[size]"),
    (r#"/tmp/[^\s"]*?\.tmp\w+"#, "[folder]"),
];

/// The width of a column follows what was replaced.
const COLUMNS: (&str, &str) = (r" {2,}", "  ");

struct Reviewer<'a> {
    gantry: &'a Gantry,
}

impl Reviewer<'_> {
    /// Compares both forms of a result with what was reviewed, and the JSON with its schema.
    fn check(&self, name: &str, arguments: &[&str], code: i32) {
        self.check_table(name, arguments, code);
        self.check_json(name, arguments, code);
    }

    fn check_table(&self, name: &str, arguments: &[&str], code: i32) {
        let table = self.gantry.run(arguments).assert_exit_code(code);
        insta::with_settings!({ filters => [FILTERS, &[COLUMNS]].concat(), omit_expression => true }, {
            insta::assert_snapshot!(format!("table-{name}"), table.stdout);
        });
    }

    fn check_json(&self, name: &str, arguments: &[&str], code: i32) {
        self.check_json_of(name, name, arguments, code);
    }

    /// As `check`, for another result of a command whose schema is `schema`.
    fn check_variant(&self, name: &str, schema: &str, arguments: &[&str]) {
        self.check_table(name, arguments, 0);
        self.check_json_of(name, schema, arguments, 0);
    }

    fn check_json_of(&self, name: &str, schema: &str, arguments: &[&str], code: i32) {
        let json = [arguments, &["--output", "json"]].concat();
        let printed = self.gantry.run(json).assert_exit_code(code);
        self.check_schema(schema, &printed.parse_json());
        insta::with_settings!({ filters => FILTERS.to_vec(), omit_expression => true }, {
            insta::assert_snapshot!(format!("json-{name}"), printed.stdout);
        });
    }

    fn check_document(&self, name: &str, text: &str) {
        let value: serde_json::Value = types::yaml::read_document(name, text).unwrap();
        self.check_named_schema(name, &value);
    }

    fn check_schema(&self, name: &str, value: &serde_json::Value) {
        self.check_named_schema(&format!("output-{name}"), value);
    }

    fn check_named_schema(&self, name: &str, value: &serde_json::Value) {
        let schema = self.gantry.run(["schema", name]).assert_success().parse_json();
        assert_eq!(find_schema_errors(&schema, value), [""; 0], "{name}: {value:#}");
    }
}

#[test]
fn results_on_the_way_from_the_input_to_the_site_are_as_reviewed() {
    let world = TestEnvironment::fast();
    let gantry = user(&world, SMALL);
    let media = tempfile::tempdir().unwrap();
    let folder = text(media.path());
    let site = world.site().host().to_owned();
    let reviewer = Reviewer { gantry: &gantry };

    reviewer.check("lock", &["lock"], 0);
    reviewer.check("plan", &["plan"], 0);
    reviewer.check("fetch", &["fetch"], 0);
    reviewer.check("pack", &["pack", "-o", &folder], 0);
    reviewer.check("verify", &["verify", &folder], 0);
    reviewer.check("inspect", &["inspect", &folder], 0);
    reviewer.check("load", &["load", &folder, "--to", &site], 0);
    let receipt = text(&media.path().join("receipt.json"));
    gantry.run(["load", &folder, "--to", &site, "--receipt", &receipt]).assert_success();
    reviewer.check_document("lock", &gantry.read_file("gantry.lock"));
    reviewer.check_document("receipt", &std::fs::read_to_string(&receipt).unwrap());
    gantry.write_file("site.yaml", &format!("version: 1\nregistry: {{url: '{site}'}}\n"));
    let about = ["--site", "site.yaml", "--receipt", &receipt];
    let file = |name: &str| text(&media.path().join(name));
    let (policy, webhook, evidence) =
        (file("policy.yaml"), file("webhook.yaml"), file("evidence.tar.zst"));
    let images = ["policy", "images", "-n", "shop", "-o", &policy];
    reviewer.check("policy-images", &[&images[..], &about].concat(), 0);
    let image = format!("{site}/gantry/gantry:0.1.0");
    let manifests = ["webhook", "manifests", "--image", &image, "-o", &webhook];
    reviewer.check("webhook-manifests", &[&manifests[..], &about].concat(), 0);
    reviewer.check("evidence", &[&["evidence", "-o", &evidence][..], &about].concat(), 0);
    reviewer.check("evidence-verify", &["evidence", "verify", &evidence], 0);
    reviewer.check("store-ls", &["store", "ls"], 0);
    reviewer.check("store-verify", &["store", "verify"], 0);
    reviewer.check("store-gc", &["store", "gc"], 0);
    reviewer.check("version", &["version"], 0);
    reviewer.check("schema", &["schema"], 0);
}

#[test]
fn results_on_images_that_are_only_possible_are_as_reviewed() {
    let world = TestEnvironment::fast();
    let gantry = possible::user(&world);
    let media = tempfile::tempdir().unwrap();
    let folder = text(media.path());
    let reviewer = Reviewer { gantry: &gantry };
    let (old, new) = (text(&media.path().join("old")), text(&gantry.folder().join("gantry.lock")));

    possible::write_input(&gantry, "", "");
    reviewer.check_variant("lock-left-out", "lock", &["lock"]);
    std::fs::copy(&new, &old).unwrap();
    possible::write_input(&gantry, "include: possible\n", "");
    reviewer.check_variant("lock-included", "lock", &["lock"]);
    reviewer.check_variant("plan-included", "plan", &["plan"]);
    reviewer.check_document("lock", &gantry.read_file("gantry.lock"));
    gantry.run(["fetch"]).assert_success();
    gantry.run(["pack", "-o", &folder]).assert_success();
    reviewer.check_variant("inspect-included", "inspect", &["inspect", &folder]);
    reviewer.check_variant("diff-included", "diff", &["diff", &old, &new]);
    let relocate = ["relocate", "shop", "--to", "registry.internal:5000/ai", "--dry-run"];
    reviewer.check_variant("relocate-included", "relocate", &relocate);
}

#[test]
fn results_for_models_are_as_reviewed() {
    let world = TestEnvironment::fast();
    let gantry = story::fetched(&world, story::INPUT);
    let media = tempfile::tempdir().unwrap();
    let target = text(&media.path().join("models"));
    let store = text(gantry.store());
    let reviewer = Reviewer { gantry: &gantry };

    let push = ["models", "push", &store, "--to", &target];
    let dry_run = [&push[..], &["--dry-run"]].concat();
    reviewer.check_table("models-push-dry-run", &dry_run, 0);
    gantry.run(push).assert_success();
    reviewer.check("models-push", &push, 0);
    reviewer.check("models-verify", &["models", "verify", &target], 0);
    reviewer.check("models-ls", &["models", "ls", &target], 0);
}

#[test]
fn results_for_charts_are_as_reviewed() {
    const SITE: &str = "version: 1\nregistry: {url: registry.internal:5000/ai, pullSecret: site}\n";
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    chart(gantry.folder());
    gantry.write_file("site.yaml", SITE);
    let reviewer = Reviewer { gantry: &gantry };

    reviewer.check("images", &["images", "shop"], 0);
    reviewer.check("relocate", &["relocate", "shop", "--site", "site.yaml", "--offline"], 0);
    let egress = ["policy", "egress", "--site", "site.yaml", "-n", "shop", "shop", "-o", "e.yaml"];
    reviewer.check("policy-egress", &egress, 0);
    let audit = ["audit", "--site", "site.yaml", "--chart", "shop", "--no-live"];
    reviewer.check("audit", &audit, 0);
}
