//! Generates streams of manifests together with what the post-renderer must make of them. The stream
//! is written piece by piece: a piece is either fixed, or an image in a position of an image. So what
//! must be changed is known without reading any YAML.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use types::naming::NamingRule;

use super::choices::Choices;
use super::references::{ImageReference, ReferenceNeed, pick_other_name, pick_other_text};

/// A stream before the post-renderer, and the one that must come out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExpectedStream {
    pub(crate) before: String,
    pub(crate) after: String,
}

/// How an image is written in YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScalarStyle {
    Plain,
    SingleQuoted,
    DoubleQuoted,
    Commented,
    Folded,
    Escaped,
    Anchored,
}

/// Writes one stream.
struct StreamWriter<'c, 'b> {
    choices: &'c mut Choices<'b>,
    naming: NamingRule,
    stream: ExpectedStream,
    /// How many anchors there are in the document.
    anchors: usize,
}

/// Generates a stream and its result.
pub(crate) fn generate_stream(choices: &mut Choices, naming: NamingRule) -> ExpectedStream {
    let mut writer =
        StreamWriter { choices, naming, stream: ExpectedStream::default(), anchors: 0 };
    let documents = 1 + writer.choices.pick_number(2);
    for number in 0..documents {
        writer.write_document(number);
    }
    let line_end = if writer.choices.is_one_in(8) { "\r\n" } else { "\n" };
    let ExpectedStream { before, after } = writer.stream;
    ExpectedStream { before: before.replace('\n', line_end), after: after.replace('\n', line_end) }
}

impl StreamWriter<'_, '_> {
    fn write_fixed(&mut self, text: &str) {
        self.stream.before.push_str(text);
        self.stream.after.push_str(text);
    }

    fn write_both(&mut self, before: &str, after: &str) {
        self.stream.before.push_str(before);
        self.stream.after.push_str(after);
    }

    fn pick_image(&mut self, need: ReferenceNeed) -> ImageReference {
        ImageReference::pick(self.choices, self.naming, need)
    }

    /// Writes a line in which each `@` is a text that is no image, and each `^` the name of a label or
    /// another key. Some lines are left out.
    fn write_other_line(&mut self, indent: &str, line: &str) {
        if self.choices.is_one_in(3) {
            self.write_line_of_others(indent, line);
        }
    }

    fn write_line_of_others(&mut self, indent: &str, line: &str) {
        self.write_fixed(indent);
        for part in line.split_inclusive(['@', '^']) {
            self.write_fixed(part.trim_end_matches(['@', '^']));
            let other = match part.chars().next_back() {
                Some('@') => pick_other_text(self.choices),
                Some('^') => pick_other_name(self.choices),
                _ => continue,
            };
            self.write_fixed(&serde_json::Value::from(other).to_string());
        }
        self.write_fixed("\n");
    }

    fn write_document(&mut self, number: usize) {
        self.anchors = 0;
        let separator = self.choices.pick_item(&[
            "---\n",
            "---\n# Source: c/templates/a.yaml\n",
            "--- # next\n",
        ]);
        if number > 0 || self.choices.is_one_in(2) {
            self.write_fixed(separator);
        }
        if self.choices.is_one_in(4) {
            // A comment is read by nobody, whatever it says.
            let image = self.pick_image(ReferenceNeed::Name).whole();
            self.write_fixed(&format!("# was: {image}\n\n"));
        }
        match self.choices.pick_number(8) {
            0..=2 => self.write_workload(),
            3 => self.write_config_map(),
            4 => self.write_secret(),
            5 | 6 => self.write_custom_resource(),
            _ => self.write_object_without_images(),
        }
    }

    fn write_head(&mut self, version: &str, kind: &str, indent: &str) {
        self.write_fixed(&format!("{indent}apiVersion: {version}\n{indent}kind: {kind}\n"));
        self.write_metadata(indent);
    }

    fn write_metadata(&mut self, indent: &str) {
        self.write_fixed(&format!("{indent}metadata:\n"));
        let inner = format!("{indent}  ");
        self.write_fixed(&format!("{inner}name: app # by hand\n"));
        for line in [
            "namespace: @",
            "labels: {^: @, \"app\": @}",
            "ownerReferences: [{apiVersion: @, kind: X, name: @, uid: @}]",
            "finalizers: [@]",
        ] {
            self.write_other_line(&inner, line);
        }
        if self.choices.is_one_in(4) {
            self.write_fixed(&format!("{inner}annotations:\n"));
            self.write_line_of_others(&format!("{inner}  "), "^: plain");
            self.write_fixed(&format!("{inner}  checksum/config: {}\n", "0a".repeat(32)));
            let key = format!("{inner}  sidecar.example.org/image: ");
            self.write_image_scalar(&key, &inner, ReferenceNeed::TagOrPath);
        }
    }

    /// Writes a key and an image, however YAML lets one be written. `indent` is that of the key.
    fn write_image_scalar(&mut self, key: &str, indent: &str, need: ReferenceNeed) {
        const STYLES: &[ScalarStyle] = &[
            ScalarStyle::Plain,
            ScalarStyle::Plain,
            ScalarStyle::SingleQuoted,
            ScalarStyle::DoubleQuoted,
            ScalarStyle::Commented,
            ScalarStyle::Folded,
            ScalarStyle::Escaped,
            ScalarStyle::Anchored,
        ];
        let image = self.pick_image(need);
        let (before, after) = (image.whole(), image.whole_at_site());
        let style = self.choices.pick_item(STYLES);
        self.write_fixed(key);
        match style {
            ScalarStyle::Plain => self.write_both(&before, &after),
            ScalarStyle::SingleQuoted => {
                self.write_both(&format!("'{before}'"), &format!("'{after}'"));
            }
            ScalarStyle::DoubleQuoted => {
                self.write_both(&format!("\"{before}\""), &format!("\"{after}\""));
            }
            ScalarStyle::Commented => {
                self.write_both(&before, &after);
                let comment = self.pick_image(ReferenceNeed::Name).whole();
                self.write_fixed(&format!("   # not {comment}"));
            }
            ScalarStyle::Folded => {
                self.write_fixed(&format!(">-\n{indent}      "));
                self.write_both(&before, &after);
            }
            ScalarStyle::Escaped => {
                // A scalar with escapes is written anew as a whole, if its image changes.
                let escaped = format!("\"\\x{:02x}{}\"", before.as_bytes()[0], &before[1..]);
                let after = if before == after { escaped.clone() } else { format!("\"{after}\"") };
                self.write_both(&escaped, &after);
            }
            ScalarStyle::Anchored => {
                self.anchors += 1;
                self.write_fixed(&format!("&i{} ", self.anchors));
                self.write_both(&before, &after);
            }
        }
        self.write_fixed("\n");
    }

    fn write_workload(&mut self) {
        let kinds = [
            ("v1", "Pod", ""),
            ("apps/v1", "Deployment", "  "),
            ("apps/v1", "StatefulSet", "  "),
            ("apps/v1", "DaemonSet", "  "),
            ("batch/v1", "Job", "  "),
            ("batch/v1", "CronJob", "      "),
        ];
        let (version, kind, depth) = self.choices.pick_item(&kinds);
        self.write_head(version, kind, "");
        if kind == "CronJob" {
            self.write_fixed("spec:\n  jobTemplate:\n    spec:\n      template:\n");
            self.write_metadata("        ");
        } else if kind != "Pod" {
            self.write_fixed("spec:\n");
            for line in [
                "selector: {matchLabels: {^: @}, matchExpressions: [{key: ^, operator: In, values: [@]}]}",
                "serviceName: @",
                "strategy: {type: @}",
            ] {
                self.write_other_line("  ", line);
            }
            self.write_fixed("  template:\n");
            self.write_metadata("    ");
        }
        let indent = match kind {
            "Pod" => "",
            "CronJob" => "        ",
            _ => "    ",
        };
        debug_assert!(depth.len() <= 6);
        self.write_fixed(&format!("{indent}spec:\n"));
        self.write_pod_spec(&format!("{indent}  "));
    }

    fn write_pod_spec(&mut self, indent: &str) {
        for line in [
            "nodeSelector: {^: @}",
            "tolerations: [{key: ^, operator: Equal, value: @, effect: NoSchedule}]",
            "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: ^, operator: In, values: [@]}]}]}}}",
            "topologySpreadConstraints: [{topologyKey: ^, maxSkew: 1, labelSelector: {matchLabels: {^: @}}}]",
            "serviceAccountName: @",
            "nodeName: @",
            "hostname: @",
            "schedulerName: @",
            "priorityClassName: @",
            "runtimeClassName: @",
            "imagePullSecrets: [{name: @}]",
            "hostAliases: [{ip: '10.0.0.1', hostnames: [@]}]",
            "dnsConfig: {searches: [@], options: [{name: @, value: @}]}",
            "securityContext: {seLinuxOptions: {type: @}, sysctls: [{name: @, value: @}]}",
            "readinessGates: [{conditionType: @}]",
            "overhead: {^: 1}",
        ] {
            if self.choices.is_one_in(6) {
                self.write_line_of_others(indent, line);
            }
        }
        if self.choices.is_one_in(3) {
            self.write_fixed(&format!("{indent}volumes:\n"));
            self.write_line_of_others(
                indent,
                "- {name: @, configMap: {name: @, items: [{key: ^, path: @}]}}",
            );
            self.write_line_of_others(
                indent,
                "- {name: b, secret: {secretName: @}, hostPath: {path: @}}",
            );
            self.write_line_of_others(
                indent,
                "- {name: c, persistentVolumeClaim: {claimName: @}, nfs: {server: @, path: @}}",
            );
            self.write_fixed(&format!("{indent}- name: d\n{indent}  image:\n"));
            self.write_image_scalar(
                &format!("{indent}    reference: "),
                &format!("{indent}    "),
                ReferenceNeed::Name,
            );
        }
        let lists: &[&str] =
            self.choices.pick_item(&[&["containers"][..], &["initContainers", "containers"]]);
        for list in lists {
            self.write_fixed(&format!("{indent}{list}:\n"));
            for _ in 0..=self.choices.pick_number(2) {
                self.write_container(indent);
            }
        }
    }

    fn write_container(&mut self, indent: &str) {
        let inner = format!("{indent}  ");
        let anchors = self.anchors;
        self.write_line_of_others(indent, "- name: @");
        if anchors > 0 && self.choices.is_one_in(2) {
            self.write_alias(&inner);
        } else {
            self.write_image_scalar(&format!("{inner}image: "), &inner, ReferenceNeed::Name);
        }
        for line in [
            "imagePullPolicy: @",
            "workingDir: @",
            "ports: [{name: @, containerPort: 8080, hostIP: @, protocol: TCP}]",
            "envFrom: [{configMapRef: {name: @}, prefix: @}, {secretRef: {name: @}}]",
            "resources: {limits: {^: 1, cpu: 0.50}, requests: {memory: @}}",
            "volumeMounts: [{name: @, mountPath: @, subPath: @}]",
            "volumeDevices: [{name: @, devicePath: @}]",
            "livenessProbe: {httpGet: {path: @, host: @, port: @, httpHeaders: [{name: @, value: @}]}}",
            "lifecycle: {preStop: {httpGet: {path: @, port: 80}}}",
            "securityContext: {capabilities: {add: [@]}, seccompProfile: {localhostProfile: @}}",
            "terminationMessagePath: @",
        ] {
            if self.choices.is_one_in(5) {
                self.write_line_of_others(&inner, line);
            }
        }
        if self.choices.is_one_in(3) {
            self.write_arguments(&inner);
        }
        if self.choices.is_one_in(3) {
            self.write_environment(&inner);
        }
    }

    /// Writes the image of a container as an alias of an earlier one. Each use of an anchor is
    /// written out for itself.
    fn write_alias(&mut self, indent: &str) {
        let number = 1 + self.choices.pick_number(self.anchors);
        let find = |text: &str| {
            let document = text.rfind("\n---").unwrap_or(0);
            let mark = format!("&i{number} ");
            let start = text[document..].find(&mark).map(|at| document + at + mark.len())?;
            let end = text[start..].find('\n')? + start;
            Some(text[start..end].to_owned())
        };
        let (Some(before), Some(after)) = (find(&self.stream.before), find(&self.stream.after))
        else {
            return self.write_fixed(&format!("{indent}image: redis\n"));
        };
        let alias = format!("*i{number}");
        self.write_fixed(&format!("{indent}image: "));
        let is_moved = before != after;
        self.write_both(&alias, if is_moved { &after } else { &alias });
        self.write_fixed("\n");
    }

    fn write_arguments(&mut self, indent: &str) {
        self.write_fixed(&format!("{indent}args:\n{indent}- --log=info:2\n"));
        match self.choices.pick_number(5) {
            0 => {
                let image = self.pick_image(ReferenceNeed::TagOrPath);
                self.write_fixed(&format!("{indent}- \"--worker-image="));
                self.write_both(&image.whole(), &image.whole_at_site());
                self.write_fixed("\"\n");
            }
            1 => {
                self.write_fixed(&format!("{indent}- --worker-image\n"));
                self.write_image_scalar(&format!("{indent}- "), indent, ReferenceNeed::TagOrPath);
            }
            2 => self.write_image_scalar(
                &format!("{indent}- "),
                indent,
                ReferenceNeed::RegistryAndTag,
            ),
            3 => {
                let image = self.pick_image(ReferenceNeed::RegistryAndTag);
                self.write_fixed(&format!("{indent}- --images=a="));
                self.write_both(&image.whole(), &image.whole_at_site());
                self.write_fixed(",b=none\n");
            }
            _ => {
                let image = self.pick_image(ReferenceNeed::RegistryAndTag);
                self.write_fixed(&format!(
                    "{indent}- |\n{indent}  #!/bin/sh\n{indent}  run --pull \""
                ));
                self.write_both(&image.whole(), &image.whole_at_site());
                self.write_fixed("\" now.\n");
            }
        }
    }

    fn write_environment(&mut self, indent: &str) {
        self.write_fixed(&format!("{indent}env:\n"));
        self.write_line_of_others(
            indent,
            "- {name: A, valueFrom: {configMapKeyRef: {name: @, key: @}}}",
        );
        if self.choices.is_one_in(2) {
            self.write_fixed(&format!("{indent}- name: WORKER_IMAGE\n"));
            self.write_image_scalar(
                &format!("{indent}  value: "),
                &format!("{indent}  "),
                ReferenceNeed::TagOrPath,
            );
        } else {
            let image = self.pick_image(ReferenceNeed::Tag);
            self.write_fixed(&format!("{indent}- {{name: WORKER_IMAGE_REPOSITORY, value: "));
            self.write_both(&image.name, &image.site_name);
            let tag = image.tag;
            self.write_fixed(&format!(
                "}}\n{indent}- {{name: WORKER_IMAGE_TAG, value: \"{tag}\"}}\n"
            ));
        }
    }

    fn write_config_map(&mut self) {
        self.write_head("v1", "ConfigMap", "");
        self.write_fixed("data:\n");
        self.write_line_of_others("  ", "^: word");
        for _ in 0..=self.choices.pick_number(2) {
            self.write_data_entry();
        }
    }

    /// Writes an entry of a ConfigMap: a document in a text.
    fn write_data_entry(&mut self) {
        let number = self.stream.before.len();
        let image = self.pick_image(ReferenceNeed::RegistryAndTag);
        let (before, after) = (image.whole(), image.whole_at_site());
        let (head, tail) = match self.choices.pick_number(7) {
            0 => (
                format!(
                    "  a{number}.yaml: |\n    # note\n    worker:\n      name: w\n      image: "
                ),
                "   # keep\n      mode: 0644\n    labels: {x: y}\n".to_owned(),
            ),
            1 => (
                format!("  a{number}.json: '{{\"n\": 1.50, \"worker\": {{\"image\": \""),
                "\", \"on\": true}}'\n".to_owned(),
            ),
            2 => (
                format!("  a{number}.toml: |\n    title = 'x' # t\n    [worker]\n    image = \""),
                "\"\n    n = 0x1F\n".to_owned(),
            ),
            3 => (
                format!("  a{number}.ini: |\n    [one]\n    name = w\n    ; note\n    image = "),
                "\n    odd line\n".to_owned(),
            ),
            4 => (
                format!("  a{number}.env: |\n    NAME=w\n    WORKER_IMAGE="),
                "\n    # end\n".to_owned(),
            ),
            5 => (
                format!("  a{number}.sh: |\n    #!/bin/sh\n    exec run --image="),
                " \\\n      --now\n".to_owned(),
            ),
            _ => (
                format!(
                    "  a{number}.yaml: |\n    kind: Pod\n    spec:\n      containers:\n      - name: w\n        image: \""
                ),
                "\"\n    ---\n    kind: Service\n    spec: {type: ClusterIP}\n".to_owned(),
            ),
        };
        self.write_fixed(&head);
        self.write_both(&before, &after);
        self.write_fixed(&tail);
    }

    fn write_secret(&mut self) {
        self.write_head("v1", "Secret", "");
        self.write_fixed("data:\n  other: eA==\n");
        let image = self.pick_image(ReferenceNeed::RegistryAndTag);
        let wrap = |image: String| match image.len() % 2 {
            0 => format!("worker:\n  name: w\n  image: {image} # keep\n"),
            _ => format!("{{\"worker\": {{\"image\": \"{image}\", \"n\": 1.0}}}}"),
        };
        // The form depends on the image as it was.
        let before = wrap(image.whole());
        let after = before.replace(&image.whole(), &image.whole_at_site());
        let after = if image.whole() == image.whole_at_site() { before.clone() } else { after };
        let (before, after) = (STANDARD.encode(before), STANDARD.encode(after));
        match self.choices.pick_number(3) {
            0 => {
                self.write_fixed("  a: ");
                self.write_both(&before, &after);
            }
            1 => {
                self.write_fixed("  a: \"");
                self.write_both(&before, &after);
                self.write_fixed("\"");
            }
            _ => {
                // Base64 on several lines comes back on one, if anything in it changes.
                let (first, second) = before.split_at(before.len() / 2);
                let wrapped = format!("{first}\n    {second}");
                self.write_fixed("  a: |\n    ");
                self.write_both(&wrapped, if before == after { &wrapped } else { &after });
            }
        }
        self.write_fixed("\n");
        if self.choices.is_one_in(2) {
            self.write_fixed("stringData:\n");
            self.write_image_scalar("  worker-image: ", "  ", ReferenceNeed::TagOrPath);
        }
    }

    fn write_custom_resource(&mut self) {
        self.write_head("x.example/v1", "App", "");
        self.write_fixed("spec:\n  replicas: 010\n");
        for line in [
            "podLabels: {^: @}",
            "nodeSelector: {^: @}",
            "tolerations: [{key: ^, value: @}]",
            "resources: {limits: {^: 1}}",
            "serviceAccountName: @",
            "storageClassName: @",
        ] {
            self.write_other_line("  ", line);
        }
        match self.choices.pick_number(6) {
            0 => self.write_image_scalar("  image: ", "  ", ReferenceNeed::TagOrPath),
            1 => self.write_image_scalar("  any: ", "  ", ReferenceNeed::RegistryAndTag),
            2 => {
                self.write_fixed("  images:\n");
                self.write_image_scalar("  - ", "  ", ReferenceNeed::TagOrPath);
                self.write_image_scalar("  - ", "  ", ReferenceNeed::TagOrPath);
            }
            3 => {
                let image = self.pick_image(ReferenceNeed::Tag);
                self.write_fixed("  worker:\n    repository: ");
                self.write_both(&image.name, &image.site_name);
                self.write_fixed(&format!("\n    tag: '{}'\n", image.tag));
            }
            4 => {
                let image = self.pick_image(ReferenceNeed::Tag);
                let Some([registry, repository]) = image.registry_and_repository() else {
                    return self.write_fixed("  none: {}\n");
                };
                self.write_fixed("  driver: {registry: '");
                self.write_both(&registry.0, &registry.1);
                self.write_fixed("', repository: ");
                self.write_both(&repository.0, &repository.1);
                self.write_fixed(&format!(", tag: '{}'}}\n", image.tag));
            }
            _ => {
                self.write_fixed("  template:\n    spec:\n      containers:\n      - name: w\n");
                self.write_image_scalar("        image: ", "        ", ReferenceNeed::TagOrPath);
            }
        }
    }

    /// Writes an object of a kind that has no image anywhere.
    fn write_object_without_images(&mut self) {
        const OBJECTS: &[(&str, &str, &[&str])] = &[
            (
                "v1",
                "Service",
                &[
                    "spec: {selector: {^: @}, externalName: @, ports: [{name: @, port: 80, targetPort: @}]}",
                ],
            ),
            (
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                &[
                    "roleRef: {apiGroup: @, kind: Role, name: @}",
                    "subjects: [{kind: ServiceAccount, name: @, namespace: @}]",
                ],
            ),
            (
                "rbac.authorization.k8s.io/v1",
                "Role",
                &["rules: [{apiGroups: [@], resources: [@], resourceNames: [@], verbs: [@]}]"],
            ),
            (
                "networking.k8s.io/v1",
                "Ingress",
                &[
                    "spec: {ingressClassName: @, rules: [{host: @, http: {paths: [{path: @, backend: {service: {name: @}}}]}}]}",
                ],
            ),
            (
                "v1",
                "PersistentVolumeClaim",
                &[
                    "spec: {storageClassName: @, volumeName: @, resources: {requests: {storage: @}}}",
                ],
            ),
            ("v1", "ServiceAccount", &["imagePullSecrets: [{name: @}]", "secrets: [{name: @}]"]),
            (
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                &[
                    "spec: {scaleTargetRef: {apiVersion: @, kind: Deployment, name: @}, metrics: [{pods: {metric: {name: @}}}]}",
                ],
            ),
            ("scheduling.k8s.io/v1", "PriorityClass", &["description: @", "value: 1"]),
            ("storage.k8s.io/v1", "StorageClass", &["provisioner: @", "parameters: {^: x}"]),
        ];
        let (version, kind, lines) = self.choices.pick_item(OBJECTS);
        self.write_head(version, kind, "");
        for line in lines {
            self.write_line_of_others("", line);
        }
    }
}
