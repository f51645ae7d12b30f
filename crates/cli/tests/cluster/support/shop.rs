//! Shared by the tests of deployments: a cluster, a registry with a password that the nodes reach by HTTP,
//! and a chart of one server that has no value for the pull secret.

use cluster::objects::api::core::v1::{Namespace, Secret};
use cluster::{Cluster, ObjectScope, TypedObject};
use serde_json::Value;
use testkit::gantry::CommandOutput;
use testkit::{Gantry, TestEnvironment, TestHub, TestImages, TestLogin, TestRegistry};

use crate::story::{BINARY, text};

/// The name of the pull secret.
pub(crate) const SECRET: &str = "site-pull";

/// The cluster, the registry and the users of a test.
pub(crate) struct Shop {
    pub(crate) here: testkit::TestCluster,
    pub(crate) world: TestEnvironment,
    /// The user with internet access, who has the charts.
    pub(crate) outside: Gantry,
    /// The user inside the air gap: with gantry.yaml, gantry.lock, values and site.yaml, without charts.
    pub(crate) inside: Gantry,
    _trust: testkit::RegistryTrust,
}

impl Shop {
    /// A shop whose images and charts were locked, fetched and loaded, with this `charts:`.
    pub(crate) fn new(charts: &str, values: &[(&str, &str)]) -> Self {
        let here = testkit::TestCluster::from_environment();
        let site =
            TestRegistry::builder().address(here.host()).login(TestLogin::new("e2e", "e2epass"));
        let world = TestEnvironment::from_parts(
            TestImages::fast(),
            TestRegistry::builder(),
            TestHub::builder(),
        )
        .with_site(site);
        let trust = here.trust_registry(world.site());
        let outside = world.gantry(BINARY);
        let inside = outside.clone().in_folder(&world.home().join("inside")).in_cluster(&here);
        // Every test can run with another helm.
        let inside = match std::env::var_os("GANTRY_HELM") {
            Some(helm) => inside.env("GANTRY_HELM", helm),
            None => inside,
        };
        let shop = Self { here, world, outside, inside, _trust: trust };
        for file in CHART {
            shop.outside.write_file(&format!("shop/{}", file.0), file.1);
        }
        shop.inside.write_file(
            "site.yaml",
            &format!(
                "version: 1\nregistry: {{url: '{}/ai', plainHttp: true, pullSecret: {SECRET}}}\n\
                 context: gantry\n",
                shop.world.site().host()
            ),
        );
        shop.carry(charts, values);
        let store = text(shop.outside.store());
        let site = text(&shop.inside.folder().join("site.yaml"));
        shop.outside.run(["fetch"]).assert_success();
        shop.outside.run(["load", &store, "--site", &site]).assert_success();
        shop
    }

    /// Locks this input and copies it inside the air gap; nothing is loaded.
    pub(crate) fn carry(&self, charts: &str, values: &[(&str, &str)]) {
        let input = format!("version: 1\nname: shop\nplatforms: [linux/amd64]\ncharts:\n{charts}");
        self.outside.write_file("gantry.yaml", &input);
        for (name, text) in values {
            self.outside.write_file(name, text);
            self.inside.write_file(name, text);
        }
        self.outside.run(["lock"]).assert_success();
        self.inside.write_file("gantry.yaml", &input);
        self.inside.write_file("gantry.lock", &self.outside.read_file("gantry.lock"));
    }

    /// Deploys with these further arguments.
    pub(crate) fn deploy(&self, more: &[&str]) -> CommandOutput {
        let first = ["deploy", "--site", "site.yaml", "--output", "json"];
        self.inside.run(first.iter().chain(more))
    }

    /// Undeploys with these further arguments.
    pub(crate) fn undeploy(&self, more: &[&str]) -> CommandOutput {
        let first = ["undeploy", "--site", "site.yaml", "--output", "json"];
        self.inside.run(first.iter().chain(more))
    }

    /// A client of the cluster.
    pub(crate) async fn connect(&self) -> Cluster {
        self.here.connect().await
    }
}

/// The releases of a result.
pub(crate) fn releases(result: &Value) -> Vec<(String, String, u64)> {
    let all = result["releases"].as_array().unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    all.iter()
        .map(|one| {
            (text(one, "release"), text(one, "action"), one["revision"].as_u64().unwrap_or(0))
        })
        .collect()
}

/// An object of a namespace.
pub(crate) async fn get<K: TypedObject>(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Option<K> {
    cluster.get_object(ObjectScope::Namespace(namespace), name).await.unwrap()
}

/// helm's records of a release: their states, by revision.
pub(crate) async fn records(cluster: &Cluster, namespace: &str, release: &str) -> Vec<String> {
    let selector = format!("owner=helm,name={release}");
    let mut all: Vec<Secret> =
        cluster.list_objects(ObjectScope::Namespace(namespace), &selector).await.unwrap();
    all.sort_by_key(|secret| {
        secret.metadata.labels.as_ref().unwrap()["version"].parse::<u32>().unwrap()
    });
    all.iter().map(|secret| secret.metadata.labels.as_ref().unwrap()["status"].clone()).collect()
}

/// Whether a namespace exists and is not being deleted.
pub(crate) async fn is_there(cluster: &Cluster, namespace: &str) -> bool {
    let found = cluster.get_object::<Namespace>(ObjectScope::Cluster, namespace).await.unwrap();
    found.is_some_and(|found| found.metadata.deletion_timestamp.is_none())
}

/// The chart: a server with its own service account, a claim, a password that is random in each render,
/// and a job before it. It has no value for pull secrets.
const CHART: &[(&str, &str)] = &[
    ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.2.3\n"),
    (
        "values.yaml",
        "image: {registry: docker.io, repository: library/busybox, tag: \"1.35\"}\n\
         greeting: hello\nstorageClass: \"\"\nreplicas: 1\nprobe: /index.html\nliteral: false\n",
    ),
    (
        "templates/shop.yaml",
        r#"{{- define "container" -}}
image: "{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag }}"
securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
{{- end }}
{{- define "pod" -}}
terminationGracePeriodSeconds: 0
securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ .Release.Name }}}
---
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-password}
stringData: {password: {{ randAlphaNum 16 | quote }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data: {index.html: {{ .Values.greeting | quote }}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: {{ .Release.Name }}-data}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .Values.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: 1Mi}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  strategy: {type: Recreate}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations: {greeting: {{ .Values.greeting | quote }}}
    spec:
      serviceAccountName: {{ .Release.Name }}
      {{- include "pod" . | nindent 6 }}
      {{- if .Values.literal }}
      initContainers:
      - name: literal
        image: quay.io/gantry-examples/dns:2.90
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        command: [/bin/busybox, "true"]
      {{- end }}
      containers:
      - name: server
        {{- include "container" . | nindent 8 }}
        command: [/bin/busybox, httpd, -f, -p, "8080", -h, /www]
        readinessProbe: {httpGet: {path: {{ .Values.probe }}, port: 8080}, periodSeconds: 1}
        volumeMounts: [{name: www, mountPath: /www}, {name: data, mountPath: /data}]
      volumes:
      - {name: www, configMap: {name: {{ .Release.Name }}}}
      - {name: data, persistentVolumeClaim: {claimName: {{ .Release.Name }}-data}}
"#,
    ),
    (
        "templates/hook.yaml",
        r#"apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-prepare
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: "before-hook-creation,hook-succeeded"}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      {{- include "pod" . | nindent 6 }}
      containers:
      - name: prepare
        {{- include "container" . | nindent 8 }}
        command: [/bin/busybox, "true"]
"#,
    ),
];
