//! The ways in which charts name images, each as a piece of a chart: its values, its template, and
//! what must become of its image. All pieces share the global values, so they work on each other.

use serde_json::{Value, json};

use crate::post_render_law::choices::Choices;

/// What must become of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageFate {
    /// A value reaches it: it is moved everywhere.
    Moved,
    /// It is moved where a value reaches it, and one text that mentions it is left over.
    MovedButMentioned,
    /// No value can move it: it is left over, for a reason that has these words.
    LeftOver(&'static str),
    /// An operator completes it: it is reported as one that no manifest names.
    CompiledIn,
    /// No value reaches a registry that stands alone: it is reported as one.
    LoneRegistry,
}

/// A way to name an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    OneText,
    RegistryRepositoryTag,
    RepositoryAndDigest,
    GlobalOverOwn,
    OwnOverGlobal,
    GlobalWithDefault,
    RegistryWithSlash,
    GlobalWithSideEffect,
    AbsentKey,
    AbsentMap,
    EmptyName,
    ValueWithTemplate,
    RepositoryInEnvironment,
    OperandRepository,
    Argument,
    ImagesInText,
    JsonText,
    TextInSecret,
    CustomResource,
    OperandTagOnly,
    Subchart,
    DisabledSubchart,
    HashOfValues,
    DumpOfValues,
    PullSecretInText,
    LoneRegistryValue,
    LoneRegistryLiteral,
    MentionInEnvironment,
    LiteralImage,
    LiteralHost,
    ConditionOnImage,
}

use Mechanism::{
    AbsentKey, AbsentMap, Argument, ConditionOnImage, CustomResource, DisabledSubchart,
    DumpOfValues, EmptyName, GlobalOverOwn, GlobalWithDefault, GlobalWithSideEffect, HashOfValues,
    ImagesInText, JsonText, LiteralHost, LiteralImage, LoneRegistryLiteral, LoneRegistryValue,
    MentionInEnvironment, OneText, OperandRepository, OperandTagOnly, OwnOverGlobal,
    PullSecretInText, RegistryRepositoryTag, RegistryWithSlash, RepositoryAndDigest,
    RepositoryInEnvironment, Subchart, TextInSecret, ValueWithTemplate,
};

const ALL: &[Mechanism] = &[
    OneText,
    RegistryRepositoryTag,
    RepositoryAndDigest,
    GlobalOverOwn,
    OwnOverGlobal,
    GlobalWithDefault,
    RegistryWithSlash,
    GlobalWithSideEffect,
    AbsentKey,
    AbsentMap,
    EmptyName,
    ValueWithTemplate,
    RepositoryInEnvironment,
    OperandRepository,
    Argument,
    ImagesInText,
    JsonText,
    TextInSecret,
    CustomResource,
    OperandTagOnly,
    Subchart,
    DisabledSubchart,
    HashOfValues,
    DumpOfValues,
    PullSecretInText,
    LoneRegistryValue,
    LoneRegistryLiteral,
    MentionInEnvironment,
    LiteralImage,
    LiteralHost,
    ConditionOnImage,
];

/// One piece of a chart.
#[derive(Debug, Clone)]
pub(crate) struct ChartPiece {
    pub(crate) mechanism: Mechanism,
    /// The key of its values, and the name of its objects.
    pub(crate) key: String,
    host: &'static str,
    /// A path that no other piece has.
    pub(crate) path: String,
    tag: &'static str,
    /// How its pod gets a pull secret.
    secrets: &'static str,
}

impl ChartPiece {
    /// Picks a piece; `number` is that of the piece in its chart.
    pub(crate) fn pick(choices: &mut Choices, number: usize) -> Self {
        const SECRETS: &[&str] = &[
            "",
            "",
            "  {{- with .Values.global.imagePullSecrets }}\n  imagePullSecrets: {{ toJson . }}\n  {{- end }}\n",
            "  {{- with KEY.pullSecrets }}\n  imagePullSecrets:\n  {{- range . }}\n  - name: {{ . }}\n  {{- end }}\n  {{- end }}\n",
        ];
        Self {
            mechanism: choices.pick_item(ALL),
            key: format!("m{number}"),
            host: choices.pick_item(&["quay.io", "ghcr.io", "docker.io"]),
            path: format!("org/zq{}z", char::from(b'a' + u8::try_from(number % 26).unwrap_or(0))),
            tag: choices.pick_item(&["1.2", "v3", "7-alpine"]),
            secrets: choices.pick_item(SECRETS),
        }
    }

    /// The name of its image, without the tag.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    fn whole(&self) -> String {
        format!("{}:{}", self.name(), self.tag)
    }

    /// What must become of its image.
    pub(crate) fn fate(&self) -> ImageFate {
        match self.mechanism {
            LiteralImage => ImageFate::LeftOver("fixed in the template"),
            LiteralHost => ImageFate::LeftOver("in front of what"),
            ConditionOnImage => ImageFate::LeftOver("also changes"),
            MentionInEnvironment => ImageFate::MovedButMentioned,
            OperandTagOnly => ImageFate::CompiledIn,
            LoneRegistryLiteral => ImageFate::LoneRegistry,
            _ => ImageFate::Moved,
        }
    }

    /// Its values below its key.
    pub(crate) fn values(&self) -> Value {
        let Self { host, path, tag, .. } = self;
        let digest = format!("sha256:{}", "b7".repeat(32));
        let mut values = match self.mechanism {
            OneText | Argument | TextInSecret | MentionInEnvironment | ConditionOnImage
            | HashOfValues | CustomResource => json!({"image": self.whole()}),
            RegistryRepositoryTag | GlobalOverOwn | GlobalWithSideEffect | DumpOfValues => {
                json!({"image": {"registry": host, "repository": path, "tag": tag}})
            }
            RepositoryAndDigest => {
                json!({"image": {"repository": self.name(), "tag": tag, "digest": digest}})
            }
            OwnOverGlobal => {
                json!({"image": {"registry": "", "repository": path, "tag": tag}})
            }
            GlobalWithDefault | LiteralHost => json!({"repository": path, "tag": tag}),
            RegistryWithSlash => {
                json!({"registry": format!("{host}/"), "repository": path, "tag": tag})
            }
            AbsentKey | LiteralImage | LoneRegistryLiteral => json!({"enabled": true}),
            AbsentMap => json!({"persistence": null}),
            EmptyName => json!({"imageName": "", "version": tag}),
            ValueWithTemplate => {
                json!({"image": format!("{}:{{{{ .Chart.AppVersion }}}}", self.name())})
            }
            RepositoryInEnvironment => json!({"repository": self.name(), "tag": tag}),
            OperandRepository => json!({"operand": self.name()}),
            ImagesInText => {
                json!({"images": {"default": self.whole(), "gpu": format!("{}-gpu", self.whole())}})
            }
            JsonText | PullSecretInText => {
                json!({"image": {"name": self.name(), "tag": tag}, "imagePullSecrets": []})
            }
            OperandTagOnly => json!({"tag": tag}),
            Subchart | DisabledSubchart => json!({"enabled": self.mechanism == Subchart}),
            LoneRegistryValue => json!({"registry": host}),
        };
        if self.secrets.contains("pullSecrets")
            && self.tag == "v3"
            && let Some(map) = values.as_object_mut()
        {
            // In the other charts the key is absent.
            map.insert("pullSecrets".to_owned(), json!([]));
        }
        values
    }

    /// Its files: templates, and of a dependency the whole chart.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let own = format!(".Values.{}", self.key);
        let template = |path: &str, text: String| (path.to_owned(), text.replace("KEY", &own));
        let path = format!("templates/{}.yaml", self.key);
        if matches!(self.mechanism, Subchart | DisabledSubchart) {
            let folder = format!("charts/{}", self.key);
            let image = "{{ .Values.global.imageRegistry | default .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag }}";
            let values =
                json!({"image": {"registry": self.host, "repository": self.path, "tag": self.tag}});
            return vec![
                (
                    format!("{folder}/Chart.yaml"),
                    format!("apiVersion: v2\nname: {}\nversion: 1.0.0\n", self.key),
                ),
                (format!("{folder}/values.yaml"), values.to_string()),
                (
                    format!("{folder}/templates/a.yaml"),
                    self.pod(image, "").replace("KEY", ".Values"),
                ),
            ];
        }
        vec![template(&path, self.template())]
    }

    /// Its template, in which `KEY` stands for its values.
    #[expect(clippy::too_many_lines, reason = "a table: a template for each mechanism")]
    fn template(&self) -> String {
        let name = self.name();
        let tag = self.tag;
        let path = &self.path;
        let env = |entries: &str| format!("    env:\n{entries}");
        match self.mechanism {
            OneText => self.pod("{{ KEY.image }}", ""),
            RegistryRepositoryTag => {
                self.pod("{{ KEY.image.registry }}/{{ KEY.image.repository }}:{{ KEY.image.tag }}", "")
            }
            RepositoryAndDigest => self.pod("{{ KEY.image.repository }}@{{ KEY.image.digest }}", ""),
            GlobalOverOwn => self.pod(GLOBAL_OVER_OWN, ""),
            GlobalWithSideEffect => self.pod(
                GLOBAL_OVER_OWN,
                &env("    - {name: A, value: '1'}\n    {{- with .Values.global.imageRegistry }}\n    - {name: MIRROR_SET, value: 'yes'}\n    {{- end }}\n"),
            ),
            OwnOverGlobal => self.pod(
                &format!(
                    "{{{{ KEY.image.registry | default .Values.global.imageRegistry | default {:?} }}}}/{{{{ KEY.image.repository }}}}:{{{{ KEY.image.tag }}}}",
                    self.host
                ),
                "",
            ),
            GlobalWithDefault => self.pod(
                &format!(
                    "{{{{ .Values.global.imageRegistry | default {:?} }}}}/{{{{ KEY.repository }}}}:{{{{ KEY.tag }}}}",
                    self.host
                ),
                "",
            ),
            RegistryWithSlash => {
                self.pod("{{ KEY.registry }}{{ KEY.repository }}:{{ KEY.tag }}", "")
            }
            AbsentKey => self.pod(&format!("{{{{ KEY.image | default {:?} }}}}", self.whole()), ""),
            AbsentMap => self.pod(
                &format!("{{{{ ((KEY.persistence).init).image | default {name:?} }}}}:{tag}"),
                "",
            ),
            EmptyName => self.pod(
                &format!("{{{{ KEY.imageName | default (printf \"{name}:%s\" KEY.version) }}}}"),
                "",
            ),
            ValueWithTemplate => self.pod("{{ tpl KEY.image . }}", ""),
            RepositoryInEnvironment => self.pod(
                "{{ KEY.repository }}:{{ KEY.tag }}",
                &env("    - {name: WORKER_IMAGE_REPOSITORY, value: '{{ KEY.repository }}'}\n"),
            ),
            OperandRepository => self.pod(
                "{{ .Values.base }}",
                &env("    - {name: OPERAND_IMAGE_REPOSITORY, value: '{{ KEY.operand }}'}\n"),
            ),
            Argument => self.pod("{{ .Values.base }}", "    args: ['--worker-image={{ KEY.image }}']\n"),
            MentionInEnvironment => self.pod(
                "{{ KEY.image }}",
                &env(&format!("    - {{name: SEE, value: 'docs of {name}'}}\n")),
            ),
            LiteralImage => self.pod(&self.whole(), ""),
            LiteralHost => {
                self.pod(&format!("{}/{{{{ KEY.repository }}}}:{{{{ KEY.tag }}}}", self.host), "")
            }
            ConditionOnImage => self.pod(
                "{{ KEY.image }}",
                &format!(
                    "    {{{{- if ne KEY.image {:?} }}}}\n    workingDir: /other\n    {{{{- end }}}}\n",
                    self.whole()
                ),
            ),
            HashOfValues => self.pod("{{ KEY.image }}", "").replace(
                "metadata: {",
                "metadata: {annotations: {checksum/values: '{{ toJson .Values | sha256sum }}'}, ",
            ),
            ImagesInText => self.config_map(
                "servers:\n  images:\n    default: {{ KEY.images.default }}\n    gpu: '{{ KEY.images.gpu }}'\n  pullPolicy: Always",
            ),
            JsonText => self.config_map(
                "{\"worker\": {\"image\": \"{{ KEY.image.name }}:{{ KEY.image.tag }}\", \"n\": 1}}",
            ),
            PullSecretInText => self.config_map(
                "{\"image\": \"{{ KEY.image.name }}:{{ KEY.image.tag }}\", \"imagePullSecrets\": {{ toJson KEY.imagePullSecrets }}}",
            ),
            LoneRegistryValue => self.config_map("a: 1\ncontainer-registry: {{ KEY.registry }}"),
            LoneRegistryLiteral => {
                self.config_map(&format!("a: 1\ncontainer-registry: {name}"))
            }
            DumpOfValues => {
                self.pod(GLOBAL_OVER_OWN, "")
                    + &self.config_map("{{ toJson KEY }}").replace("  name: ", "  name: dump-")
            }
            TextInSecret => format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {}}}\ndata:\n  values: {{{{ printf \"worker:\\n  image: %s\\n\" KEY.image | b64enc }}}}\n",
                self.key
            ),
            CustomResource => format!(
                "---\napiVersion: x.example/v1\nkind: App\nmetadata: {{name: {}}}\nspec:\n  workerImage: '{{{{ KEY.image }}}}'\n  nodeSelector: {{{path}: x}}\n",
                self.key
            ),
            OperandTagOnly => format!(
                "---\napiVersion: operator.victoriametrics.com/v1beta1\nkind: VMAgent\nmetadata: {{name: {}}}\nspec: {{image: {{tag: '{{{{ KEY.tag }}}}'}}}}\n",
                self.key
            ),
            Subchart | DisabledSubchart => String::new(),
        }
    }

    /// A pod with an image, and more lines for its container.
    fn pod(&self, image: &str, more: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {}}}\nspec:\n{}  containers:\n  - name: c\n    image: \"{image}\"\n{more}",
            self.key, self.secrets
        )
    }

    /// A ConfigMap with one text.
    fn config_map(&self, text: &str) -> String {
        let indented = text.replace('\n', "\n    ");
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\ndata:\n  config: |\n    {indented}\n",
            self.key
        )
    }
}

const GLOBAL_OVER_OWN: &str = "{{ .Values.global.imageRegistry | default KEY.image.registry }}/{{ KEY.image.repository }}:{{ KEY.image.tag }}";
