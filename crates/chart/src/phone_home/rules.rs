//! The table of what is known to connect to the internet, and the search by it.

use std::sync::OnceLock;

use types::input::Input;
use types::input::rules::PhoneHome;

use super::finding::PhoneHomeFinding;
use super::{addresses, environment, switches};
use crate::inspect::Inspection;
use crate::{Error, Result};

/// A table of known switches, variables and hosts.
#[derive(Debug, Clone, Default)]
pub struct PhoneHomeRules(PhoneHome);

impl PhoneHomeRules {
    /// The table that comes with Gantry.
    pub fn builtin() -> &'static Self {
        static TABLE: OnceLock<PhoneHomeRules> = OnceLock::new();
        TABLE.get_or_init(|| {
            let text = include_str!("../../../../rules/phone-home.yaml");
            // A test reads the table; a broken one cannot be built.
            Self::read("rules/phone-home.yaml", text).unwrap_or_default()
        })
    }

    /// Parses a table in the format of `rules/phone-home.yaml`; `name` is its name in errors.
    pub fn read(name: &str, text: &str) -> Result<Self> {
        Ok(Self(types::yaml::read_document(name, text).map_err(Error::Document)?))
    }

    /// The built-in table, extended by that of a `gantry.yaml`.
    pub fn from_input(input: &Input) -> Self {
        Self::builtin().extended_with(&input.phone_home)
    }

    /// This table, extended by `own`; an entry of the same name is replaced.
    #[must_use]
    pub fn extended_with(&self, own: &PhoneHome) -> Self {
        let mut all = self.0.clone();
        all.values.retain(|switch| own.values.iter().all(|other| other.name != switch.name));
        all.values.extend(own.values.iter().cloned());
        all.environment.retain(|known| own.environment.iter().all(|o| o.name != known.name));
        all.environment.extend(own.environment.iter().cloned());
        all.hosts.retain(|known| own.hosts.iter().all(|other| other.host != known.host));
        all.hosts.extend(own.hosts.iter().cloned());
        all.inside.extend(own.inside.iter().cloned());
        Self(all)
    }

    /// The domains that the user has declared to be inside the site.
    pub fn inside_domains(&self) -> &[String] {
        &self.0.inside
    }

    /// What a host is for, if a rule knows the host or a domain above it.
    pub fn host_purpose(&self, host: &str) -> Option<&str> {
        let known = self.0.hosts.iter().find(|known| addresses::is_in_domain(host, &known.host));
        known.map(|known| known.why.as_str())
    }

    /// Finds what a chart or a stream connects to. `is_inside` tells whether a host belongs to the
    /// site.
    pub fn find_phone_home(
        &self,
        inspection: &Inspection,
        is_inside: &dyn Fn(&str) -> bool,
    ) -> Vec<PhoneHomeFinding> {
        // In this order: a value that sets a variable is reported instead of the variable.
        let mut findings = switches::find_active_switches(&self.0, inspection);
        environment::find_missing_variables(&self.0.environment, inspection, &mut findings);
        addresses::find_outside_addresses(&self.0, inspection, is_inside, &mut findings);
        findings
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use serde_json::{Value, json};

    use super::*;
    use crate::{OperatorRules, inspect, offline};

    /// What is found, by its name alone.
    fn find_names(values: &Value, rendered: &str) -> Vec<String> {
        list_names(&find_in_render(values, rendered))
    }

    fn find_in_render(values: &Value, rendered: &str) -> Vec<PhoneHomeFinding> {
        let mut inspection = inspect::inspect_stream(rendered, OperatorRules::builtin());
        inspection.effective = values.clone();
        PhoneHomeRules::builtin().find_phone_home(&inspection, &|host| host.ends_with("site.net"))
    }

    fn list_names(findings: &[PhoneHomeFinding]) -> Vec<String> {
        let name = |finding: &PhoneHomeFinding| match finding {
            PhoneHomeFinding::Value { path, .. } => path.to_string(),
            PhoneHomeFinding::Environment { name, .. } => name.clone(),
            PhoneHomeFinding::Address { urls, .. } => urls.join(" "),
        };
        findings.iter().map(name).collect()
    }

    #[test]
    fn switches_that_are_not_off_are_found_and_the_safe_ones_are_turned_off() {
        let values = json!({
            "loki": {"analytics": {}},
            "grafana": {"grafana.ini": {"analytics": {"check_for_updates": true, "reporting_enabled": false}}},
            "other": {"telemetry": {"enabled": true}},
            "sie": {"telemetry": {"enabled": true, "deploymentEnv": "ci"}},
            "airflow": {"usage_data_collection": {"enabled": "True"}},
            "configMap": {"DISABLE_TELEMETRY": "", "AUTH_TYPE": "google_oauth"},
        });
        let found = find_in_render(&values, "");
        assert_eq!(
            list_names(&found),
            [
                "loki.analytics.reporting_enabled",
                "grafana[\"grafana.ini\"].analytics.check_for_updates",
                "other.telemetry.enabled",
                "sie.telemetry.enabled",
                "airflow.usage_data_collection.enabled",
                "configMap.DISABLE_TELEMETRY",
                "configMap.AUTH_TYPE",
            ]
        );
        let offline = json!({
            "loki": {"analytics": {"reporting_enabled": false}},
            "grafana": {"grafana.ini": {"analytics": {"check_for_updates": false}}},
            "sie": {"telemetry": {"enabled": false}},
            "airflow": {"usage_data_collection": {"enabled": "false"}},
            "configMap": {"DISABLE_TELEMETRY": "true"},
        });
        assert_eq!(
            offline::turn_off_switches(&found, &values, &|_| Ok(String::new())).values,
            offline
        );
    }

    #[test]
    fn a_container_lacks_a_variable_unless_it_or_what_does_as_well_is_set() {
        let pod = |rest: &str| {
            format!(
                "kind: Pod\nspec:\n  containers:\n  - image: org/mlflow:1\n{rest}---\nkind: ConfigMap\n\
                     metadata: {{name: c}}\ndata: {{MLFLOW_DISABLE_TELEMETRY: 'True'}}\n"
            )
        };
        let variable = ["MLFLOW_DISABLE_TELEMETRY"];
        assert_eq!(find_names(&Value::Null, &pod("")), variable);
        let env = |name: &str, value: &str| {
            pod(&format!("    env: [{{name: {name}, value: '{value}'}}]\n"))
        };
        assert_eq!(find_names(&Value::Null, &env("MLFLOW_DISABLE_TELEMETRY", "false")), variable);
        assert!(find_names(&Value::Null, &env("MLFLOW_DISABLE_TELEMETRY", "1")).is_empty());
        assert!(find_names(&Value::Null, &env("DO_NOT_TRACK", "1")).is_empty());
        let from = "    envFrom: [{configMapRef: {name: c}}]\n";
        assert!(find_names(&Value::Null, &pod(from)).is_empty());
    }

    #[test]
    fn addresses_outside_are_found_in_every_place_that_a_program_reads() {
        let rendered = "kind: ConfigMap\nmetadata: {name: c, annotations: {docs: 'https://docs.maker.com'}}\n\
            data:\n  app.json: '{\"hub\": \"https://hub.maker.com/v1\", \"description\": \"see https://read.maker.com\"}'\n  \
            run.sh: |\n    #!/bin/sh\n    # https://comment.maker.com\n    curl -s https://files.maker.com/x.tgz\n\
            ---\nkind: Secret\ndata: {url: aHR0cHM6Ly9zZWNyZXQubWFrZXIuY29t}\n\
            ---\napiVersion: cert-manager.io/v1\nkind: ClusterIssuer\nspec: {acme: {server: \
            'https://acme-v02.api.letsencrypt.org/directory'}}\n";
        let found = find_in_render(&json!({"hubUrl": "https://hub.maker.com/v1"}), rendered);
        assert_eq!(
            list_names(&found),
            [
                "https://files.maker.com/x.tgz",
                "https://hub.maker.com/v1",
                "https://secret.maker.com",
                "https://acme-v02.api.letsencrypt.org/directory",
            ]
        );
        let PhoneHomeFinding::Address { values, .. } = &found[1] else { panic!("{found:?}") };
        assert_eq!(values[0].to_string(), "hubUrl");
        let PhoneHomeFinding::Address { why, .. } = &found[3] else { panic!("{found:?}") };
        assert!(why.as_ref().unwrap().contains("ACME"));
    }

    #[test]
    fn hosts_of_the_cluster_and_the_site_are_none() {
        let env = |hosts: &[&str]| {
            let mut stream =
                "kind: Service\nmetadata: {name: grafana, namespace: watch}\n---\nkind: Pod\n\
                              spec:\n  containers:\n  - image: a:1\n    env:\n"
                    .to_owned();
            for host in hosts {
                stream.push_str(&format!("    - {{name: X, value: 'http://{host}/v1'}}\n"));
            }
            find_names(&Value::Null, &stream)
        };
        let inside = [
            "db",
            "db.ns.svc:80",
            "db.ns.svc.cluster.local",
            "x.internal",
            "grafana.watch",
            "other.watch",
            "grafana.elsewhere",
            "db.default",
            "127.0.0.1:80",
            "10.1.2.3",
            "login.site.net",
            "$(HOST)",
            "my.example.com",
            "user:pass@db.internal:5432",
        ];
        assert_eq!(env(&inside), [""; 0]);
        assert_eq!(
            env(&["grafana.com", "8.8.8.8"]),
            ["http://8.8.8.8/v1", "http://grafana.com/v1"]
        );
        let own = PhoneHome { inside: vec!["corp.net".into()], ..PhoneHome::default() };
        let stream = "kind: ConfigMap\ndata: {a: 'https://git.corp.net', b: 'https://xcorp.net'}\n";
        let inspection = inspect::inspect_stream(stream, OperatorRules::builtin());
        let found =
            PhoneHomeRules::builtin().extended_with(&own).find_phone_home(&inspection, &|_| false);
        assert_eq!(list_names(&found), ["https://xcorp.net"]);
    }

    #[test]
    fn the_built_in_table_is_read_whole() {
        let text = include_str!("../../../../rules/phone-home.yaml");
        assert!(!PhoneHomeRules::read("rules/phone-home.yaml", text).unwrap().0.values.is_empty());
    }
}
