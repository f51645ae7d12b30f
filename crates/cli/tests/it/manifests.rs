//! Plain manifests and kustomizations as releases: locked, carried, moved and wired, with the manifests of
//! a guide to air-gapped model servers as it has them (image names aside).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use crate::story::{self, alone, text};
use testkit::{Gantry, TestEnvironment};

/// The image in place of `onyxdotapp/onyx-model-server:nightly-20241004`.
const IMAGE: &str = "ghcr.io/gantry-examples/tools:1.0";

const CLAIMS: &str = r#"---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: huggingface-models-pvc
  labels:
    app: onyx-model-servers
spec:
  accessModes:
    - ReadWriteMany  # IMPORTANT: Allow multiple pods to read
  storageClassName: "nfs-example"  # Your colleague's storage class
  volumeMode: "Filesystem"
  resources:
    requests:
      storage: 10Gi  # Need ~5-6GB, request 10Gi for safety

---
# Optional: Separate PVCs for inference and indexing (if ReadWriteMany not supported)
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: inference-model-cache-pvc
  labels:
    app: inference-model-server
spec:
  accessModes:
    - ReadWriteOnce  # If ReadWriteMany not available
  storageClassName: "nfs-example"
  volumeMode: "Filesystem"
  resources:
    requests:
      storage: 5Gi

---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: indexing-model-cache-pvc
  labels:
    app: indexing-model-server
spec:
  accessModes:
    - ReadWriteOnce  # If ReadWriteMany not available
  storageClassName: "nfs-example"
  volumeMode: "Filesystem"
  resources:
    requests:
      storage: 5Gi
"#;

const INFERENCE: &str = r#"# ============================================================================
# Inference Model Server for Onyx (Air-Gapped Version)
# ============================================================================
# Uses pre-loaded PersistentVolume for offline model access
# ============================================================================

---
apiVersion: v1
kind: Service
metadata:
  name: inference-model-server
  labels:
    app: inference-model-server
spec:
  type: ClusterIP
  ports:
    - name: http
      port: 9000
      targetPort: 9000
      protocol: TCP
  selector:
    app: inference-model-server

---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: inference-model-server
  labels:
    app: inference-model-server
spec:
  replicas: 1
  selector:
    matchLabels:
      app: inference-model-server
  template:
    metadata:
      labels:
        app: inference-model-server
    spec:
      containers:
        - name: inference-model-server
          image: ghcr.io/gantry-examples/tools:1.0
          imagePullPolicy: IfNotPresent
          ports:
            - name: http
              containerPort: 9000
              protocol: TCP
          env:
            - name: MODEL_SERVER_PORT
              value: "9000"
            - name: HF_HOME
              value: "/app/.cache/huggingface"
            - name: HF_HUB_OFFLINE
              value: "1"  # IMPORTANT: Force offline mode
            - name: TRANSFORMERS_OFFLINE
              value: "1"  # IMPORTANT: Force offline mode
          resources:
            requests:
              cpu: 1000m
              memory: 2Gi
            limits:
              cpu: 4000m
              memory: 8Gi
          livenessProbe:
            httpGet:
              path: /health
              port: 9000
            initialDelaySeconds: 120
            periodSeconds: 30
            timeoutSeconds: 10
            failureThreshold: 5
          readinessProbe:
            httpGet:
              path: /health
              port: 9000
            initialDelaySeconds: 60
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 10
          volumeMounts:
            - name: model-cache
              mountPath: /app/.cache/huggingface
              readOnly: true  # Read-only since models are pre-loaded
      volumes:
        - name: model-cache
          persistentVolumeClaim:
            claimName: huggingface-models-pvc  # Shared PVC
            # OR if using separate PVCs:
            # claimName: inference-model-cache-pvc
      restartPolicy: Always
"#;

const INDEXING: &str = r#"# ============================================================================
# Indexing Model Server for Onyx (Air-Gapped Version)
# ============================================================================
# Uses pre-loaded PersistentVolume for offline model access
# ============================================================================

---
apiVersion: v1
kind: Service
metadata:
  name: indexing-model-server
  labels:
    app: indexing-model-server
spec:
  type: ClusterIP
  ports:
    - name: http
      port: 9000
      targetPort: 9000
      protocol: TCP
  selector:
    app: indexing-model-server

---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: indexing-model-server
  labels:
    app: indexing-model-server
spec:
  replicas: 1
  selector:
    matchLabels:
      app: indexing-model-server
  template:
    metadata:
      labels:
        app: indexing-model-server
    spec:
      containers:
        - name: indexing-model-server
          image: ghcr.io/gantry-examples/tools:1.0
          imagePullPolicy: IfNotPresent
          ports:
            - name: http
              containerPort: 9000
              protocol: TCP
          env:
            - name: INDEXING_ONLY
              value: "True"  # Key difference from inference server
            - name: MODEL_SERVER_PORT
              value: "9000"
            - name: HF_HOME
              value: "/app/.cache/huggingface"
            - name: HF_HUB_OFFLINE
              value: "1"  # IMPORTANT: Force offline mode
            - name: TRANSFORMERS_OFFLINE
              value: "1"  # IMPORTANT: Force offline mode
          resources:
            requests:
              cpu: 1000m
              memory: 2Gi
            limits:
              cpu: 4000m
              memory: 8Gi
          livenessProbe:
            httpGet:
              path: /health
              port: 9000
            initialDelaySeconds: 120
            periodSeconds: 30
            timeoutSeconds: 10
            failureThreshold: 5
          readinessProbe:
            httpGet:
              path: /health
              port: 9000
            initialDelaySeconds: 60
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 10
          volumeMounts:
            - name: model-cache
              mountPath: /app/.cache/huggingface
              readOnly: true  # Read-only since models are pre-loaded
      volumes:
        - name: model-cache
          persistentVolumeClaim:
            claimName: huggingface-models-pvc  # Shared PVC
            # OR if using separate PVCs:
            # claimName: indexing-model-cache-pvc
      restartPolicy: Always
"#;

const INPUT: &str = "\
version: 1
name: onyx
manifests:
  - release: model-servers
    namespace: onyx
    from: [./model-cache-pvc.yaml, ./06-*.yaml]
";

const FILES: [&str; 3] =
    ["model-cache-pvc.yaml", "06-inference-model-server.yaml", "06-indexing-model-server.yaml"];

/// The site of the guide: its claim holds the models as a Hugging Face cache.
fn site_with(claims: &[&str]) -> String {
    let models: Vec<String> =
        claims.iter().map(|claim| format!("{{to: 'pvc://onyx/{claim}'}}")).collect();
    format!(
        "version: 1\nregistry: {{url: 'registry.internal:5000/ai'}}\nmodels: [{}]\n",
        models.join(", ")
    )
}

fn write_guide(gantry: &Gantry) {
    gantry.write_file("gantry.yaml", INPUT);
    for (name, text) in FILES.iter().zip([CLAIMS, INFERENCE, INDEXING]) {
        gantry.write_file(name, text);
    }
    gantry.write_file("site.yaml", &site_with(&["huggingface-models-pvc"]));
}

#[test]
fn the_manifests_of_the_guide_are_locked_and_travel_in_the_bundle() {
    let world = TestEnvironment::fast();
    let gantry = world.gantry(story::BINARY);
    write_guide(&gantry);

    let listed = gantry.run(["images", "--list"]).assert_success();
    gantry.run(["lock"]).assert_success();
    let first = gantry.read_file("gantry.lock");
    gantry.run(["lock", "--check"]).assert_success();

    assert_eq!(listed.stdout.trim(), IMAGE);
    assert!(first.contains("manifests.gantry/model-servers:"), "{first}");
    assert!(first.contains("template: 06-inference-model-server.yaml"), "{first}");
    gantry.run(["fetch"]).assert_success();
    let media = gantry.folder().join("media");
    gantry.run(["pack", "-o", &text(&media)]).assert_success();
    let out = gantry.folder().join("out");
    gantry.run(["extract", &text(&media), "-o", &text(&out), "model-servers"]).assert_success();
    let stream = fs::read_to_string(out.join("model-servers.yaml")).unwrap();
    let kinds: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    let [service, claim, deployment] = ["Service", "PersistentVolumeClaim", "Deployment"];
    assert_eq!(kinds, [service, service, claim, claim, claim, deployment, deployment]);
    assert!(stream.contains("# IMPORTANT: Force offline mode"), "the text stays as it was written");

    // Another text is another lock, also where gantry.yaml is the same.
    gantry.write_file(FILES[2], &INDEXING.replace("replicas: 1", "replicas: 2"));
    let stale = gantry.run(["plan"]).assert_exit_code(2);
    assert!(stale.stderr.contains("changed files of release model-servers"), "{}", stale.stderr);
}

#[test]
fn the_library_is_told_that_the_claim_stands_at_hf_home() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    write_guide(&gantry);
    let relocate = |arguments: &[&str]| {
        let own = [
            "relocate",
            "--site",
            "site.yaml",
            "--offline",
            "-n",
            "onyx",
            "--force",
            "-o",
            "moved.yaml",
        ];
        gantry.run(own.iter().chain(arguments)).assert_success();
        gantry.read_file("moved.yaml")
    };

    let moved = relocate(&FILES);

    // The guide mounts the claim at HF_HOME, and the library looks in HF_HOME/hub, which is not there.
    let cache = r#""name":"HF_HUB_CACHE","value":"/app/.cache/huggingface""#;
    let squeezed = moved.replace(": ", ":").replace(", ", ",");
    assert_eq!(squeezed.matches(cache).count(), 2, "{moved}");
    assert_eq!(moved.matches("registry.internal:5000/ai/gantry-examples/tools:1.0").count(), 2);
    assert!(!moved.contains("ghcr.io") && !moved.contains("gantry-models"), "{moved}");
    assert_eq!(moved.matches("claimName: huggingface-models-pvc  # Shared PVC").count(), 2);

    // Where a claim cannot be mounted twice, each server has its own, and both are the site's.
    let (one, other) = ("inference-model-cache-pvc", "indexing-model-cache-pvc");
    gantry.write_file("site.yaml", &site_with(&[one, other]));
    for (file, text, claim) in [(FILES[1], INFERENCE, one), (FILES[2], INDEXING, other)] {
        gantry.write_file(file, &text.replace("huggingface-models-pvc", claim));
    }
    let moved = relocate(&FILES);
    let squeezed = moved.replace(": ", ":").replace(", ", ",");
    assert_eq!(squeezed.matches(cache).count(), 2, "{moved}");
    assert!(!moved.contains("gantry-models"), "each uses the claim that it mounts: {moved}");
}

#[test]
fn a_kustomization_is_read_wherever_charts_are() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    write_guide(&gantry);
    let outside = "- name: HF_ENDPOINT\n              value: https://huggingface.co\n            - name: MODEL_SERVER_PORT";
    gantry
        .write_file("base/web.yaml", &INFERENCE.replacen("- name: MODEL_SERVER_PORT", outside, 1));
    gantry.write_file("base/kustomization.yaml", "resources: [web.yaml]\n");
    let prod =
        "resources: [../base]\nimages: [{name: ghcr.io/gantry-examples/tools, newTag: '2.0'}]\n";
    gantry.write_file("prod/kustomization.yaml", prod);

    let listed = gantry.run(["images", "prod", "--list"]).assert_success();
    let moved = gantry.run(["relocate", "prod", "--site", "site.yaml", "-o", "-"]).assert_success();
    let egress = ["policy", "egress", "--site", "site.yaml", "-n", "onyx", "prod"];
    let policy = gantry.run(egress).assert_success();
    let audit = [
        "audit",
        "--no-live",
        "--site",
        "site.yaml",
        "-n",
        "onyx",
        "--manifests",
        "prod",
        "--output",
        "json",
    ];
    let audited = gantry.run(audit);

    assert_eq!(listed.stdout.trim(), "ghcr.io/gantry-examples/tools:2.0");
    assert!(
        moved.stdout.contains("image: registry.internal:5000/ai/gantry-examples/tools:2.0"),
        "{}",
        moved.stdout
    );
    assert!(policy.stdout.contains("kind: NetworkPolicy"), "{}", policy.stdout);
    assert!(
        audited.stdout.contains("inference-model-server"),
        "{}{}",
        audited.stdout,
        audited.stderr
    );
}

#[test]
fn bad_manifests_are_refused_with_their_place_and_the_next_step() {
    let home = tempfile::tempdir().unwrap();
    let gantry = alone(home.path());
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    gantry.write_file("web.yaml", service);
    gantry
        .write_file("list.yaml", "apiVersion: v1\nkind: List\nitems: [{kind: List, items: []}]\n");
    gantry.write_file(
        "template.yaml",
        &format!("{service}---\n{}", service.replace("web", "{{ .Values.name }}")),
    );
    gantry.write_file("values.yaml", "replicas: 2\n");
    gantry.write_file(
        "remote/kustomization.yaml",
        "resources: ['github.com/org/repo//base?ref=v1']\n",
    );
    gantry.write_file("plugin/kustomization.yaml", "generators: [own.yaml]\n");
    gantry.write_file("plugin/own.yaml", "apiVersion: x.example/v1\nkind: Own\n");
    for (from, expected) in [
        ("gone.yaml", "there is no such file or folder"),
        ("[web.yaml, web.yaml]", "Service web is in two documents"),
        ("list.yaml", "list.yaml, document 1 (line 1) has a List inside a List"),
        ("template.yaml", "template.yaml, document 2 (line 5) has a template in it"),
        ("values.yaml", "values.yaml, document 1 (line 1) is not a Kubernetes object"),
        ("{kustomize: ./remote}", "is not on this machine"),
        ("{kustomize: ./plugin}", "own.yaml is a plugin"),
        ("./plugin/kustomization.yaml", "name its folder instead"),
    ] {
        let input = format!("version: 1\nname: a\nmanifests: [{{release: web, from: {from}}}]\n");
        gantry.write_file("gantry.yaml", &input);
        let refused = gantry.run(["lock"]).assert_exit_code(2);
        assert!(refused.stderr.contains(expected), "{from}: {}", refused.stderr);
    }
    let twice = "version: 1\nname: a\nmanifests: [{release: a, namespace: x, from: web.yaml}, {release: b, namespace: x, from: web.yaml}]\n";
    gantry.write_file("gantry.yaml", twice);
    let refused = gantry.run(["lock"]).assert_exit_code(2);
    assert!(
        refused.stderr.contains("Service x/web would be two things")
            && refused.stderr.contains("release b in web.yaml"),
        "{}",
        refused.stderr
    );
    // Of other namespaces they are two objects.
    gantry.write_file(
        "gantry.yaml",
        &twice.replace("{release: b, namespace: x", "{release: b, namespace: y"),
    );
    gantry.run(["lock"]).assert_success();
}
