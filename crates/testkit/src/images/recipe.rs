//! What the images are made of: names, layers, platforms. Data only; the modules next to this one
//! build the images.

use super::blobs::sha256;

/// A set of images.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// The set's name: a folder's name.
    pub(crate) name: &'static str,
    /// Its images.
    pub(crate) images: Vec<Image>,
}

/// An image: where it is found, and its layers from the base up.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Its full reference, as users write it.
    pub(crate) reference: String,
    /// With more than one, the image is an index.
    pub(crate) architectures: &'static [&'static str],
    /// The layers. Two images with the same first layers share them.
    pub(crate) layers: Vec<Layer>,
    /// What its config runs.
    pub(crate) command: &'static [&'static str],
    /// What else its config says.
    pub(crate) settings: Settings,
    /// Whose media types its documents have.
    pub(crate) format: Format,
    /// Whether a signature and an SBOM speak of it.
    pub(crate) companions: Companions,
}

/// How an image's program runs, where it is not as root without further ado.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// The number of the user, empty for root.
    pub(crate) user: &'static str,
    /// What the command is given to.
    pub(crate) entrypoint: &'static [&'static str],
    /// `NAME=value`, beside the `PATH`; another `PATH` takes its place.
    pub(crate) env: &'static [&'static str],
}

/// The content of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Layer {
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
    HubCache(Weights),
    /// One small file with this text, so that the layer is like no other.
    Text(String),
    /// These PyPI packages (`name==version`) and nothing that they need, where Debian's Python
    /// looks.
    Python(&'static [&'static str]),
    /// A program that is compiled here.
    Built(Program),
    /// Files whose text stands in this repository.
    Files(&'static [File]),
}

/// What is compiled here, because its registry has sources only; with the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Program {
    /// llama-cpp-python, where Debian's Python looks.
    LlamaCpp(&'static str),
    /// `/usr/bin/ollama`.
    Ollama(&'static str),
}

/// One file of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct File {
    /// Its path without a leading slash.
    pub(crate) path: &'static str,
    /// What is there.
    pub(crate) content: Text,
}

/// What a [`File`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// A text to read, mode 644.
    Plain(&'static str),
    /// A text to run, mode 755.
    Script(&'static str),
    /// A symbolic link to this target.
    Link(&'static str),
    /// A folder in which everybody may write, as `/tmp`.
    Shared,
}

/// How much of the MiniLM model a [`Layer::HubCache`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Weights {
    /// All of it, 91 MB.
    With,
    /// Tokenizer and configs, under 1 MB.
    Without,
}

/// Whose media types an image's documents have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OCI image-spec 1.1.
    Oci,
    /// Docker's image manifest version 2, schema 2, as much of docker.io still has.
    Docker,
}

/// What speaks of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Companions {
    /// Nothing.
    None,
    /// A cosign signature (by tag and as referrer) and an SPDX SBOM (as referrer).
    SignatureAndSbom,
}

const AMD64: &[&str] = &["amd64"];
const BOTH: &[&str] = &["amd64", "arm64"];

impl Image {
    pub(crate) fn new(reference: &str, layers: &[Layer], command: &'static [&'static str]) -> Self {
        Self {
            reference: reference.to_owned(),
            architectures: AMD64,
            layers: layers.to_vec(),
            command,
            settings: Settings::default(),
            format: Format::Oci,
            companions: Companions::None,
        }
    }

    fn for_both(mut self) -> Self {
        self.architectures = BOTH;
        self
    }

    fn in_docker_format(mut self) -> Self {
        self.format = Format::Docker;
        self
    }

    pub(crate) fn running(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    fn signed(mut self) -> Self {
        self.companions = Companions::SignatureAndSbom;
        self
    }
}

/// Under 40 MB, built in seconds: for tests that run often, and for the demo.
pub(crate) fn fast() -> Recipe {
    let base = Layer::Packages(&["busybox-static", "libc6", "netbase", "tini"]);
    let with = |packages| [base.clone(), Layer::Packages(packages)];
    Recipe {
        name: "fast",
        images: vec![
            Image::new("docker.io/library/busybox:1.35", std::slice::from_ref(&base), &["sh"])
                .for_both(),
            Image::new(
                "docker.io/library/nginx:1.22",
                &with(&["nginx"]),
                &["nginx", "-g", "daemon off;"],
            )
            .for_both()
            .signed(),
            // Two images share more than the base.
            Image::new("quay.io/opstree/redis:v7.0.15", &with(&["redis-tools"]), &["redis-cli"]),
            Image::new(
                "docker.io/library/redis:7.0",
                &[
                    base.clone(),
                    Layer::Packages(&["redis-tools"]),
                    Layer::Packages(&["redis-server"]),
                ],
                &["redis-server"],
            )
            .in_docker_format(),
            Image::new(
                "quay.io/gantry-examples/dns:2.90",
                &with(&["dnsmasq-base"]),
                &["dnsmasq-base"],
            ),
            Image::new(
                "ghcr.io/gantry-examples/embedder:1.0",
                &with(&["python3-minimal"]),
                &["python3"],
            )
            .signed(),
            Image::new(
                "ghcr.io/gantry-examples/embedder-baked:1.0",
                &[base.clone(), Layer::HubCache(Weights::Without)],
                &["sh"],
            ),
            Image::new("ghcr.io/gantry-examples/tools:1.0", &with(&["jq"]), &["jq"]),
        ],
    }
}

/// About 1 GB: what an AI platform's images are like, for the slow suite and the benchmark.
pub(crate) fn slow() -> Recipe {
    let base = Layer::Packages(&[
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
    let python = Layer::Packages(&["python3", "python3-pip", "python3-venv"]);
    let science = Layer::Packages(&["python3-sklearn", "python3-pandas", "python3-matplotlib"]);
    let on = |layers: &[&Layer], packages| {
        let mut all: Vec<Layer> = layers.iter().map(|layer| (*layer).clone()).collect();
        all.push(Layer::Packages(packages));
        all
    };
    Recipe {
        name: "slow",
        images: vec![
            Image::new(
                "docker.io/library/nginx:1.22",
                &on(&[&base], &["nginx"]),
                &["nginx", "-g", "daemon off;"],
            )
            .for_both()
            .signed(),
            Image::new(
                "docker.io/library/redis:7.0",
                &on(&[&base], &["redis-server"]),
                &["redis-server"],
            )
            .in_docker_format(),
            Image::new(
                "docker.io/library/postgres:15",
                &on(&[&base], &["postgresql-15"]),
                &["postgres"],
            ),
            Image::new(
                "docker.io/library/tomcat:10",
                &on(&[&base], &["tomcat10"]),
                &["catalina.sh", "run"],
            ),
            Image::new("docker.io/library/node:18", &on(&[&base], &["nodejs", "npm"]), &["node"]),
            Image::new(
                "docker.io/library/golang:1.19",
                &on(&[&base], &["golang-1.19", "gcc"]),
                &["bash"],
            ),
            Image::new(
                "quay.io/jupyter/scipy-notebook:2024.1",
                &on(&[&base, &python, &science], &["jupyter-notebook"]),
                &["jupyter", "notebook"],
            ),
            Image::new(
                "ghcr.io/gantry-examples/trainer:1.0",
                &on(&[&base, &python, &science], &["python3-torch"]),
                &["python3"],
            )
            .signed(),
            Image::new(
                "ghcr.io/gantry-examples/api:1.0",
                &on(&[&base, &python], &["python3-fastapi", "uvicorn", "python3-sqlalchemy"]),
                &["uvicorn"],
            ),
            Image::new(
                "ghcr.io/gantry-examples/embedder:1.0",
                &[base.clone(), python.clone(), Layer::HubCache(Weights::With)],
                &["python3"],
            ),
        ],
    }
}

/// Tiny images under the names given: a layer that all share and one of each image's own. About
/// every third is for two platforms; which, is in the name, so that a name is always one image.
pub(crate) fn stand_ins(references: Vec<String>) -> Recipe {
    let base = Layer::Text("what all stand-ins share\n".to_owned());
    let image = |reference: String| {
        let own = Layer::Text(format!("a stand-in for {reference}\n"));
        let image = Image::new(&reference, &[base.clone(), own], &["sh"]);
        let is_for_both = sha256(reference.as_bytes()).as_bytes()[0].is_multiple_of(3);
        if is_for_both { image.for_both() } else { image }
    };
    Recipe { name: "stand-ins", images: references.into_iter().map(image).collect() }
}
