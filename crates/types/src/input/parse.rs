//! Reads the file: strictly into the types of `raw`, then each entry into its valid form, with errors
//! that name line and column.

use std::collections::HashMap;

use serde_saphyr::Spanned;

use super::checks::{DeclaredCheck, RawCheck};
use super::content::{AttachedContent, Input, InputImage};
use super::manifests::RawManifestSet;
use super::needs;
use super::possible::RawPossibleImages;
use super::raw::{ImageEntry, RawChart, RawImage, RawInput, RawModel};
use super::releases::list_releases;
use super::tool::RawTool;
use crate::{Error, Platform, Reference, Result, yaml};

/// The version of the input format.
const VERSION: u32 = 1;

// The schema of the file, which has other types than what is read from it.
impl schemars::JsonSchema for Input {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Input".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        RawInput::json_schema(generator)
    }
}

impl Input {
    /// Reads a `gantry.yaml`. `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let raw: RawInput = yaml::read_document(name, text)?;
        let place = DocumentErrors { document: name };
        if raw.version.value != VERSION {
            let found = raw.version.value;
            return Err(place.error_at(
                &raw.version,
                format!("version {found} is not supported; write `version: {VERSION}`"),
            ));
        }
        check_bundle_name(&raw.name.value).map_err(|reason| place.error_at(&raw.name, reason))?;
        let platforms =
            if raw.platforms.is_empty() { vec![Platform::linux_amd64()] } else { raw.platforms };
        // Tools after images, so that a tool that is listed as an image too is reported at `tools:`.
        let (mut images, mut archives) = (Vec::new(), Vec::new());
        let entries = place.convert_all(raw.images.clone(), RawImage::into_entry)?;
        let mut lines = Vec::new();
        for (entry, raw) in entries.into_iter().zip(&raw.images) {
            match entry {
                ImageEntry::Single(image) => {
                    images.push(image);
                    lines.push(raw);
                }
                ImageEntry::Several(archive) => archives.push(archive),
            }
        }
        place.check_images(&lines, &images)?;
        place.add_tools(raw.tools, &mut images)?;
        let charts = place.convert_all(raw.charts.clone(), RawChart::into_chart)?;
        let manifests =
            place.convert_all(raw.manifests.clone(), RawManifestSet::into_manifest_set)?;
        place.check_manifest_releases(&raw.manifests)?;
        // On converted charts, since a release without a name is called like its chart.
        needs::check_needs(&list_releases(&charts, &manifests)).map_err(|(release, reason)| {
            match release.checked_sub(charts.len()) {
                None => place.error_at(&raw.charts[release], reason),
                Some(set) => place.error_at(&raw.manifests[set], reason),
            }
        })?;
        Ok(Self {
            name: raw.name.value,
            platforms,
            attached: AttachedContent::from_key(raw.attached).unwrap_or_default(),
            include: raw.include.map(RawPossibleImages::into_possible_images).unwrap_or_default(),
            charts,
            manifests,
            images,
            archives,
            models: place.convert_all(raw.models, RawModel::into_model)?,
            files: raw.files,
            rules: raw.rules,
            phone_home: raw.phone_home,
            checks: place.convert_checks(raw.checks)?,
            inference: raw.inference,
            wiring: raw.wiring,
        })
    }
}

/// Checks the bundle's name, which becomes part of file names on any file system.
fn check_bundle_name(name: &str) -> Result<(), String> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if name.is_empty()
        || name.len() > 63
        || !name.bytes().all(valid)
        || name.starts_with(['-', '.'])
    {
        return Err(format!(
            "{name:?} is not a valid name: use up to 63 of a-z, 0-9, - and . (it becomes part of file names)"
        ));
    }
    Ok(())
}

/// Makes errors with the line and column of an entry of the document.
struct DocumentErrors<'a> {
    document: &'a str,
}

impl DocumentErrors<'_> {
    fn error_at<T>(&self, at: &Spanned<T>, message: String) -> Error {
        Error::Document {
            document: self.document.to_owned(),
            line: at.referenced.line(),
            column: at.referenced.column(),
            message: message.into(),
        }
    }

    fn convert_all<R: Clone, T>(
        &self,
        raw: Vec<Spanned<R>>,
        check: impl Fn(R) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        raw.into_iter()
            .map(|entry| {
                check(entry.value.clone()).map_err(|message| self.error_at(&entry, message))
            })
            .collect()
    }

    /// Refuses two sets of manifests with one name: the objects of one would be pruned when the other
    /// is deployed.
    fn check_manifest_releases(&self, raw: &[Spanned<RawManifestSet>]) -> Result<()> {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (at, entry) in raw.iter().enumerate() {
            let name = entry.value.release_name();
            if let Some(other) = first.insert(name, at) {
                let line = raw[other].referenced.line();
                let twice = format!(
                    "the release {name} is listed in line {line} as well; give each its own name, or \
                     list the sources of both under one `from:`"
                );
                return Err(self.error_at(entry, twice));
            }
        }
        Ok(())
    }

    /// Converts the checks. `gantry check --only NAME` chooses by name, so no name may come twice.
    fn convert_checks(&self, raw: Vec<Spanned<RawCheck>>) -> Result<Vec<DeclaredCheck>> {
        let mut checks: Vec<DeclaredCheck> = Vec::new();
        for entry in raw {
            let check = entry
                .value
                .clone()
                .into_check()
                .map_err(|message| self.error_at(&entry, message))?;
            if checks.iter().any(|other| other.name == check.name) {
                let twice =
                    format!("there are two checks {:?}; give each its own name", check.name);
                return Err(self.error_at(&entry, twice));
            }
            checks.push(check);
        }
        Ok(checks)
    }

    /// Refuses an image that is listed twice and not the same way: one of the two would be lost.
    fn check_images(&self, raw: &[&Spanned<RawImage>], images: &[InputImage]) -> Result<()> {
        let mut first: HashMap<&Reference, usize> = HashMap::new();
        for (at, image) in images.iter().enumerate() {
            match first.get(&image.reference) {
                Some(other) if images[*other] != *image => {
                    let line = raw[*other].referenced.line();
                    let twice = format!(
                        "{} is listed in line {line} as well, from another source or with other settings; remove one of the two, or give it another name",
                        image.reference
                    );
                    return Err(self.error_at(raw[at], twice));
                }
                Some(_) => {}
                None => {
                    first.insert(&image.reference, at);
                }
            }
        }
        Ok(())
    }

    /// Adds the images of `tools:`. One that `images:` has already is refused: it would not be clear
    /// which of the two is meant.
    fn add_tools(&self, tools: Vec<Spanned<RawTool>>, images: &mut Vec<InputImage>) -> Result<()> {
        for tool in tools {
            let image =
                tool.value.clone().into_image().map_err(|message| self.error_at(&tool, message))?;
            if images.iter().any(|other| other.reference == image.reference) {
                let twice =
                    format!("{} is listed twice; remove one of the two entries", image.reference);
                return Err(self.error_at(&tool, twice));
            }
            images.push(image);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::super::content::*;

    const WHOLE: &str = r#"
version: 1
name: sie
platforms: [linux/amd64, linux/arm64]
charts:
  - chart: oci://ghcr.io/superlinked/charts/sie-cluster
    version: 0.3.4
    release: sie
    namespace: sie
    kubeVersion: "1.33"
    values: [values-offline.yaml]
    variants: [[values-gpu.yaml]]
  - chart: https://charts.example/stable
    name: postgresql
  - chart: ./umbrella
images:
  - docker.io/library/busybox:1.36
  - image: own:1
    archive: own.tar
  - image: built:1
    docker: unix:///run/podman/podman.sock
models:
  - hf: BAAI/bge-m3
    exclude: ["*.onnx"]
  - ollama: qwen2.5:3b
  - url: https://models.example/llama.gguf
    sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
  - image: ghcr.io/onyx/model:1
    path: /app/.cache/huggingface
files: [./docs/runbook.pdf]
tools: [gantry]
"#;

    #[test]
    fn an_example_with_every_key_is_read_whole() {
        let input = Input::parse("gantry.yaml", WHOLE).unwrap();
        assert_eq!(input.charts.len(), 3);
        assert_eq!(input.images[1].from, ImageSource::Archive("own.tar".into()));
        assert_eq!(input.images[2].from, ImageSource::Docker("/run/podman/podman.sock".into()));
        assert_eq!(input.models.len(), 4);
    }

    #[test]
    fn what_is_only_possible_is_carried_by_one_word_or_by_name() {
        let read = |text: &str| {
            let input = Input::parse("f", &format!("version: 1\nname: a\n{text}")).unwrap();
            (input.include.clone(), input.charts.first().and_then(|chart| chart.include.clone()))
        };
        let named = PossibleImages::Matching(vec!["nvcr.io/*".into()]);
        assert_eq!(read(""), (PossibleImages::LeftOut, None));
        let own = "include: possible\ncharts: [{chart: ./x, include: [nvcr.io/*]}]\n";
        assert_eq!(read(own), (PossibleImages::Carried, Some(named)));
        // A chart takes itself out of what the top level says.
        let none = read("include: possible\ncharts: [{chart: ./x, include: []}]\n").1;
        assert_eq!(none, Some(PossibleImages::LeftOut));
    }

    #[test]
    fn an_archive_or_layout_alone_stands_for_its_images() {
        let text = "version: 1\nname: a\nimages:\n- {archive: a.tar.gz}\n- nginx:1\n\
            - {layout: ./l, images: [\"akko/*\"], platforms: [linux/arm64]}\n";
        let input = Input::parse("f", text).unwrap();
        assert_eq!(input.images.len(), 1);
        assert_eq!(input.archives[0].from, ArchiveSource::Archive("a.tar.gz".into()));
        assert_eq!(input.archives[1].from, ArchiveSource::Layout("./l".into()));
        assert_eq!(input.archives[1].images, ["akko/*"]);
    }

    #[test]
    fn the_tool_is_an_image_made_from_the_running_binary_or_from_those_that_are_named() {
        let read = |tools: &str| {
            Input::parse("f", &format!("version: 1\nname: a\ntools: {tools}\n")).unwrap().images
        };
        let image = |binaries: &[&str]| InputImage {
            reference: crate::own_image::image_reference().unwrap(),
            platforms: vec![],
            attached: None,
            from: ImageSource::Gantry(binaries.iter().map(PathBuf::from).collect()),
        };
        assert_eq!(read("[gantry]"), [image(&[])]);
        assert_eq!(read("[{gantry: [amd64, dist/arm64]}]"), [image(&["amd64", "dist/arm64"])]);
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        let head = "version: 1\nname: a\n";
        for (body, expected) in [
            ("images: [UPPER]\n", "f:3:10: \"UPPER\" is not a valid image reference"),
            ("models:\n- hf: a/b\n  sha256: x\n", "`sha256` cannot be used with `hf`"),
            ("models:\n- revision: main\n", "needs exactly one of hf, ollama, url and image"),
            ("charts:\n- chart: https://x.example\n", "`name:`"),
            ("charts:\n- chart: ./x\n  version: 1\n", "local chart"),
            ("charts:\n- chart: oci://x.example/a:1\n", "`version:`"),
            ("images:\n- imgae: x\n", "f:4:3: unknown key \"imgae\"; did you mean \"image\""),
            ("images: [1]\n", "a map with `image:`"),
            ("images: [{platforms: [all]}]\n", "f:3:10: an image needs `image`"),
            ("images: [{docker: /a.sock}]\n", "an image needs `image`"),
            (
                "images: [{image: \"a:1\", archive: x, images: [b]}]\n",
                "only one of image and images",
            ),
            ("images: [{archive: x, attached: false}]\n", "`attached` cannot be used"),
            (
                "include: possibel\n",
                "f:3:10: \"possibel\" is not known here; write `include: possible`",
            ),
            (
                "charts: [{chart: ./x, include: {a: 1}}]\n",
                "the word `possible`, or a list of images",
            ),
            ("platforms: [amd64]\n", "os/architecture"),
            ("platfroms: []\n", "did you mean \"platforms\""),
            ("tools: [helm]\n", "f:3:9: \"helm\" is not a known tool; the only one is gantry"),
            ("tools:\n- gantri: [x]\n", "f:4:3: unknown key \"gantri\"; did you mean \"gantry\""),
            ("tools: [{gantry: []}]\n", "lists no binary"),
            ("tools: [3]\n", "a map with `gantry:`"),
            (
                "images:\n- {image: \"own:1\", archive: a.tar}\n- {image: \"own:1\", archive: b.tar}\n",
                "f:5:3: docker.io/library/own:1 is listed in line 4 as well",
            ),
            ("tools: [gantry, gantry]\n", "f:3:17: ghcr.io/gantry/gantry:"),
        ] {
            let error = Input::parse("f", &format!("{head}{body}")).unwrap_err().to_string();
            assert!(error.contains(expected), "{body}: {error}");
        }
        let old = Input::parse("f", "version: 2\nname: a\n").unwrap_err().to_string();
        assert!(old.contains("f:1:10: version 2 is not supported"), "{old}");
    }
}
