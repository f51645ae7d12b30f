//! What the images are made of: names, layers, platforms. Data only; the modules next to this one
//! build the images.

use super::blobs::sha256_digest;

/// A set of images.
#[derive(Debug, Clone)]
pub(crate) struct ImageSetRecipe {
    /// The set's name: a folder's name.
    pub(crate) name: &'static str,
    /// Its images.
    pub(crate) images: Vec<ImageRecipe>,
}

/// An image: where it is found, and its layers from the base up.
#[derive(Debug, Clone)]
pub(crate) struct ImageRecipe {
    /// Its full reference, as users write it.
    pub(crate) reference: String,
    /// With more than one, the image is an index.
    pub(crate) architectures: &'static [&'static str],
    /// The layers. Two images with the same first layers share them.
    pub(crate) layers: Vec<LayerRecipe>,
    /// What its config runs.
    pub(crate) command: &'static [&'static str],
    /// What else its config says.
    pub(crate) settings: ImageSettings,
    /// Whose media types its documents have.
    pub(crate) format: ManifestFormat,
    /// Whether a signature and an SBOM speak of it.
    pub(crate) companions: ImageCompanions,
}

/// How an image's program runs, where it is not as root without further ado.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageSettings {
    /// The number of the user, empty for root.
    pub(crate) user: &'static str,
    /// What the command is given to.
    pub(crate) entrypoint: &'static [&'static str],
    /// `NAME=value`, beside the `PATH`; another `PATH` takes its place.
    pub(crate) env: &'static [&'static str],
}

/// The content of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum LayerRecipe {
    /// These Debian packages and what they need, less what the layers below have.
    Packages(&'static [&'static str]),
    /// The same, but these of what they need stay out: what they are for is not done in the image.
    Lean {
        /// The packages that are wanted.
        packages: &'static [&'static str],
        /// Those that they would bring.
        without: &'static [&'static str],
    },
    /// A Hugging Face cache below `/app/.cache/huggingface`, as `hf download` leaves it.
    HubCache(ModelWeights),
    /// One small file with this text, so that the layer is like no other.
    Text(String),
    /// These PyPI packages (`name==version`) and nothing that they need, where Debian's Python
    /// looks.
    Python(&'static [&'static str]),
    /// A program that is compiled here.
    Built(CompiledProgram),
    /// Files whose text stands in this repository.
    Files(&'static [LayerFile]),
}

/// What is compiled here, because its registry has sources only; with the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CompiledProgram {
    /// llama-cpp-python, where Debian's Python looks.
    LlamaCpp(&'static str),
    /// `/usr/bin/ollama`.
    Ollama(&'static str),
}

/// One file of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LayerFile {
    /// Its path without a leading slash.
    pub(crate) path: &'static str,
    /// What is there.
    pub(crate) content: LayerFileContent,
}

/// What a [`LayerFile`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LayerFileContent {
    /// A text to read, mode 644.
    Plain(&'static str),
    /// A text to run, mode 755.
    Script(&'static str),
    /// A symbolic link to this target.
    Link(&'static str),
    /// A folder in which everybody may write, as `/tmp`.
    Shared,
}

/// How much of the MiniLM model a [`LayerRecipe::HubCache`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ModelWeights {
    /// All of it, 91 MB.
    With,
    /// Tokenizer and configs, under 1 MB.
    Without,
}

/// Whose media types an image's documents have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ManifestFormat {
    /// OCI image-spec 1.1.
    Oci,
    /// Docker's image manifest version 2, schema 2, as much of docker.io still has.
    Docker,
}

/// What speaks of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageCompanions {
    /// Nothing.
    None,
    /// A cosign signature (by tag and as referrer) and an SPDX SBOM (as referrer).
    SignatureAndSbom,
}

const AMD64: &[&str] = &["amd64"];
const BOTH: &[&str] = &["amd64", "arm64"];

impl ImageRecipe {
    pub(crate) fn new(
        reference: &str,
        layers: &[LayerRecipe],
        command: &'static [&'static str],
    ) -> Self {
        Self {
            reference: reference.to_owned(),
            architectures: AMD64,
            layers: layers.to_vec(),
            command,
            settings: ImageSettings::default(),
            format: ManifestFormat::Oci,
            companions: ImageCompanions::None,
        }
    }

    fn for_both(mut self) -> Self {
        self.architectures = BOTH;
        self
    }

    fn in_docker_format(mut self) -> Self {
        self.format = ManifestFormat::Docker;
        self
    }

    pub(crate) fn with_settings(mut self, settings: ImageSettings) -> Self {
        self.settings = settings;
        self
    }

    fn with_signature(mut self) -> Self {
        self.companions = ImageCompanions::SignatureAndSbom;
        self
    }
}

/// Under 40 MB, built in seconds: for tests that run often, and for the demo.
pub(crate) fn fast_recipe() -> ImageSetRecipe {
    let base = LayerRecipe::Packages(&["busybox-static", "libc6", "netbase", "tini"]);
    let with = |packages| [base.clone(), LayerRecipe::Packages(packages)];
    ImageSetRecipe {
        name: "fast",
        images: vec![
            ImageRecipe::new(
                "docker.io/library/busybox:1.35",
                std::slice::from_ref(&base),
                &["sh"],
            )
            .for_both(),
            ImageRecipe::new(
                "docker.io/library/nginx:1.22",
                &with(&["nginx"]),
                &["nginx", "-g", "daemon off;"],
            )
            .for_both()
            .with_signature(),
            // Two images share more than the base.
            ImageRecipe::new(
                "quay.io/opstree/redis:v7.0.15",
                &with(&["redis-tools"]),
                &["redis-cli"],
            ),
            ImageRecipe::new(
                "docker.io/library/redis:7.0",
                &[
                    base.clone(),
                    LayerRecipe::Packages(&["redis-tools"]),
                    LayerRecipe::Packages(&["redis-server"]),
                ],
                &["redis-server"],
            )
            .in_docker_format(),
            ImageRecipe::new(
                "quay.io/gantry-examples/dns:2.90",
                &with(&["dnsmasq-base"]),
                &["dnsmasq-base"],
            ),
            ImageRecipe::new(
                "ghcr.io/gantry-examples/embedder:1.0",
                &with(&["python3-minimal"]),
                &["python3"],
            )
            .with_signature(),
            ImageRecipe::new(
                "ghcr.io/gantry-examples/embedder-baked:1.0",
                &[base.clone(), LayerRecipe::HubCache(ModelWeights::Without)],
                &["sh"],
            ),
            ImageRecipe::new("ghcr.io/gantry-examples/tools:1.0", &with(&["jq"]), &["jq"]),
        ],
    }
}

/// About 1 GB: what an AI platform's images are like, for the slow suite and the benchmark.
pub(crate) fn slow_recipe() -> ImageSetRecipe {
    let base = LayerRecipe::Packages(&[
        "base-files",
        "base-passwd",
        "bash",
        "ca-certificates",
        "coreutils",
        "dash",
        "debianutils",
        "diffutils",
        "findutils",
        "grep",
        "gzip",
        "hostname",
        "libc-bin",
        "mount",
        "netbase",
        "sed",
        "tini",
        "tzdata",
        "util-linux",
    ]);
    let python = LayerRecipe::Packages(&["python3", "python3-pip", "python3-venv"]);
    let science =
        LayerRecipe::Packages(&["python3-sklearn", "python3-pandas", "python3-matplotlib"]);
    let on = |layers: &[&LayerRecipe], packages| {
        let mut all: Vec<LayerRecipe> = layers.iter().map(|layer| (*layer).clone()).collect();
        all.push(LayerRecipe::Packages(packages));
        all
    };
    ImageSetRecipe {
        name: "slow",
        images: vec![
            ImageRecipe::new(
                "docker.io/library/nginx:1.22",
                &on(&[&base], &["nginx"]),
                &["nginx", "-g", "daemon off;"],
            )
            .for_both()
            .with_signature(),
            ImageRecipe::new(
                "docker.io/library/redis:7.0",
                &on(&[&base], &["redis-server"]),
                &["redis-server"],
            )
            .in_docker_format(),
            ImageRecipe::new(
                "docker.io/library/postgres:15",
                &on(&[&base], &["postgresql-15"]),
                &["postgres"],
            ),
            ImageRecipe::new(
                "docker.io/library/tomcat:10",
                &on(&[&base], &["tomcat10"]),
                &["catalina.sh", "run"],
            ),
            ImageRecipe::new(
                "docker.io/library/node:18",
                &on(&[&base], &["nodejs", "npm"]),
                &["node"],
            ),
            ImageRecipe::new(
                "docker.io/library/golang:1.19",
                &on(&[&base], &["golang-1.19", "gcc"]),
                &["bash"],
            ),
            ImageRecipe::new(
                "quay.io/jupyter/scipy-notebook:2024.1",
                &on(&[&base, &python, &science], &["jupyter-notebook"]),
                &["jupyter", "notebook"],
            ),
            ImageRecipe::new(
                "ghcr.io/gantry-examples/trainer:1.0",
                &on(&[&base, &python, &science], &["python3-torch"]),
                &["python3"],
            )
            .with_signature(),
            ImageRecipe::new(
                "ghcr.io/gantry-examples/api:1.0",
                &on(&[&base, &python], &["python3-fastapi", "uvicorn", "python3-sqlalchemy"]),
                &["uvicorn"],
            ),
            ImageRecipe::new(
                "ghcr.io/gantry-examples/embedder:1.0",
                &[base.clone(), python.clone(), LayerRecipe::HubCache(ModelWeights::With)],
                &["python3"],
            ),
        ],
    }
}

/// Tiny images under the names given: a layer that all share and one of each image's own. About
/// every third is for two platforms; which, is in the name, so that a name is always one image.
pub(crate) fn stand_in_recipe(references: Vec<String>) -> ImageSetRecipe {
    let base = LayerRecipe::Text("what all stand-ins share\n".to_owned());
    let image = |reference: String| {
        let own = LayerRecipe::Text(format!("a stand-in for {reference}\n"));
        let image = ImageRecipe::new(&reference, &[base.clone(), own], &["sh"]);
        let is_for_both = sha256_digest(reference.as_bytes()).as_bytes()[0].is_multiple_of(3);
        if is_for_both { image.for_both() } else { image }
    };
    ImageSetRecipe { name: "stand-ins", images: references.into_iter().map(image).collect() }
}
