//! The recipe of the cluster's images: servers that really answer, small, as a user without rights,
//! with a root file system that nobody writes to. Their programs stand in `workloads/` beside
//! `src/`.

use super::recipes::{
    CompiledProgram, ImageRecipe, ImageSetRecipe, ImageSettings, LayerFile, LayerFileContent,
    LayerRecipe,
};
use crate::workloads::{
    CURIOUS, EMBED_SERVER, LLAMA_SERVER, OLLAMA, POSTGRESQL, QUIET, REDIS, REDIS_CACHE, SIE_SERVER,
};

/// A module of the embedding server, where Debian's Python finds it.
macro_rules! embed_file {
    ($name:literal) => {
        LayerFile {
            path: concat!("usr/local/lib/python3.11/dist-packages/embed_server/", $name),
            content: LayerFileContent::Plain(include_str!(concat!(
                "../../workloads/embed_server/",
                $name
            ))),
        }
    };
}
/// The images under their names in [`crate::workloads`].
pub(crate) fn cluster_recipe() -> ImageSetRecipe {
    let base = LayerRecipe::Packages(BASE);
    let python =
        [LayerRecipe::Packages(BASE), USERS, LayerRecipe::Packages(&["python3", "libstdc++6"])];
    let with = |layers: &[LayerRecipe]| [python.as_slice(), layers].concat();
    let embed = with(&[
        LayerRecipe::Python(ENCODER),
        LayerRecipe::Python(HUB_CLIENT),
        LayerRecipe::Files(EMBED_FILES),
    ]);
    let redis = [
        base.clone(),
        USERS,
        LayerRecipe::Packages(REDIS_PACKAGES),
        LayerRecipe::Files(REDIS_FILES),
    ];
    let busybox = [LayerRecipe::Packages(&["busybox-static", "netbase"]), USERS];
    ImageSetRecipe {
        name: "cluster",
        images: vec![
            ImageRecipe::new(
                LLAMA_SERVER,
                &with(&[
                    LayerRecipe::Python(LLAMA_NEEDS),
                    LayerRecipe::Built(CompiledProgram::LlamaCpp(LLAMA_CPP_VERSION)),
                ]),
                &["--help"],
            )
            .with_settings(python_server(&["python3", "-m", "llama_cpp.server"])),
            ImageRecipe::new(EMBED_SERVER, &embed, &[]).with_settings(python_server(&[
                "python3",
                "-m",
                "embed_server",
            ])),
            ImageRecipe::new(SIE_SERVER, &embed, &["serve"]).with_settings(python_server(&[
                "python3",
                "-m",
                "embed_server",
            ])),
            ImageRecipe::new(
                OLLAMA,
                &[
                    base.clone(),
                    USERS,
                    LayerRecipe::Packages(&["libstdc++6"]),
                    LayerRecipe::Built(CompiledProgram::Ollama(OLLAMA_VERSION)),
                    LayerRecipe::Files(OLLAMA_FILES),
                ],
                &["serve"],
            )
            .with_settings(ImageSettings {
                user: "1000",
                entrypoint: &["/usr/bin/ollama"],
                env: &["HOME=/root", "OLLAMA_HOST=0.0.0.0:11434"],
            }),
            ImageRecipe::new(
                POSTGRESQL,
                &[base, USERS, POSTGRESQL_PACKAGES, LayerRecipe::Files(POSTGRESQL_FILES)],
                &[],
            )
            .with_settings(ImageSettings {
                user: "1001",
                entrypoint: &["/opt/bitnami/scripts/postgresql/entrypoint.sh"],
                env: &[
                    "PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin",
                    "LANG=C.UTF-8",
                    "HOME=/tmp",
                ],
            }),
            ImageRecipe::new(REDIS, &redis, &[]).with_settings(REDIS_SETTINGS),
            ImageRecipe::new(REDIS_CACHE, &redis, &[]).with_settings(REDIS_SETTINGS),
            ImageRecipe::new(CURIOUS, &busybox, &["sh"]).with_settings(BUSYBOX_SETTINGS),
            ImageRecipe::new(QUIET, &busybox, &["sh"]).with_settings(BUSYBOX_SETTINGS),
        ],
    }
}

/// Of August 2025; its GGUF reader knows all of today's keys.
const LLAMA_CPP_VERSION: &str = "0.3.16";
/// The last one with a single engine in it: half of the next ones' work to compile.
const OLLAMA_VERSION: &str = "0.6.8";
/// Its home, where the claim is mounted: as the real image has it, but not for root alone.
const OLLAMA_FILES: &[LayerFile] = &[LayerFile { path: "root", content: LayerFileContent::Shared }];

/// What the start scripts of charts call, and where names and times come from.
const BASE: &[&str] = &[
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "grep",
    "hostname",
    "libc-bin",
    "mawk",
    "netbase",
    "sed",
    "tzdata",
];
/// Without the compiler of queries (the entrypoint switches it off) and Debian's wrappers in Perl:
/// half of the size.
const POSTGRESQL_PACKAGES: LayerRecipe = LayerRecipe::Lean {
    packages: &["postgresql-15", "postgresql-15-pgaudit"],
    without: &[
        "libc-l10n",
        "libllvm14",
        "libperl5.36",
        "libz3-4",
        "locales",
        "openssl",
        "perl",
        "perl-base",
        "perl-modules-5.36",
        "ssl-cert",
    ],
};
const REDIS_PACKAGES: &[&str] = &["redis-server", "redis-tools"];

/// Users by number, as containers run them; a shared folder for what is written at all.
const USERS: LayerRecipe = LayerRecipe::Files(&[
    LayerFile {
        path: "etc/passwd",
        content: LayerFileContent::Plain(
            "root:x:0:0:root:/root:/bin/sh\nserver:x:1000:1000::/tmp:/bin/sh\n\
             bitnami:x:1001:1001::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        ),
    },
    LayerFile {
        path: "etc/group",
        content: LayerFileContent::Plain(
            "root:x:0:\nserver:x:1000:\nbitnami:x:1001:\nnogroup:x:65534:\n",
        ),
    },
    LayerFile {
        path: "etc/nsswitch.conf",
        content: LayerFileContent::Plain("passwd: files\ngroup: files\nhosts: files dns\n"),
    },
    LayerFile { path: "tmp", content: LayerFileContent::Shared },
]);

const POSTGRESQL_FILES: &[LayerFile] = &[
    // Debian's installation script would choose it.
    LayerFile { path: "usr/bin/awk", content: LayerFileContent::Link("mawk") },
    LayerFile {
        path: "opt/bitnami/scripts/postgresql/entrypoint.sh",
        content: LayerFileContent::Script(include_str!(
            "../../workloads/bitnami/postgresql-entrypoint.sh"
        )),
    },
];
const REDIS_FILES: &[LayerFile] = &[
    LayerFile { path: "usr/bin/awk", content: LayerFileContent::Link("mawk") },
    LayerFile { path: "data", content: LayerFileContent::Shared },
    LayerFile {
        path: "opt/bitnami/scripts/redis/entrypoint.sh",
        content: LayerFileContent::Script(include_str!(
            "../../workloads/bitnami/redis-entrypoint.sh"
        )),
    },
];
const REDIS_SETTINGS: ImageSettings = ImageSettings {
    user: "1001",
    entrypoint: &["/opt/bitnami/scripts/redis/entrypoint.sh"],
    env: &["HOME=/tmp", "LANG=C.UTF-8"],
};
const BUSYBOX_SETTINGS: ImageSettings =
    ImageSettings { user: "1000", entrypoint: &["/bin/busybox"], env: &["HOME=/tmp"] };

/// A Python server: nothing is written beside its modules, and one thread computes.
const fn python_server(entrypoint: &'static [&'static str]) -> ImageSettings {
    ImageSettings {
        user: "1000",
        entrypoint,
        env: &[
            "HOME=/tmp",
            "LANG=C.UTF-8",
            "OPENBLAS_NUM_THREADS=1",
            "PYTHONDONTWRITEBYTECODE=1",
            "PYTHONUNBUFFERED=1",
        ],
    }
}

const EMBED_FILES: &[LayerFile] = &[
    embed_file!("__init__.py"),
    embed_file!("__main__.py"),
    embed_file!("cluster_cache.py"),
    embed_file!("encoder.py"),
    embed_file!("server.py"),
];

const ENCODER: &[&str] = &["numpy==2.4.6", "safetensors==0.8.0", "tokenizers==0.23.3"];
/// huggingface_hub and what it needs, less hf-xet, which it imports for downloads alone.
const HUB_CLIENT: &[&str] = &[
    "anyio==4.16.0",
    "click==8.5.1",
    "filelock==4.2.11",
    "fsspec==2026.9.0",
    "h11==0.16.0",
    "httpcore2==2.16.2",
    "httpx2==2.16.2",
    "huggingface_hub==2.4.0",
    "idna==3.20",
    "packaging==26.3",
    "PyYAML==6.0.3",
    "tqdm==4.70.1",
    "truststore==0.10.5",
    "typing_extensions==4.16.0",
];
/// What llama_cpp.server needs.
const LLAMA_NEEDS: &[&str] = &[
    "annotated-doc==0.0.7",
    "annotated-types==0.8.0",
    "anyio==4.16.0",
    "click==8.5.1",
    "diskcache==5.6.3",
    "fastapi==0.165.0",
    "h11==0.16.0",
    "idna==3.20",
    "Jinja2==3.1.6",
    "MarkupSafe==3.0.4",
    "numpy==2.4.6",
    "opentelemetry-api==1.45.2",
    "pydantic==2.14.3",
    "pydantic_core==2.50.4",
    "pydantic-settings==2.16.3",
    "python-dotenv==1.2.4",
    "PyYAML==6.0.3",
    "sse-starlette==3.7.0",
    "starlette==1.10.0",
    // Above 0.3 it is another interface.
    "starlette-context==0.3.6",
    "typing_extensions==4.16.0",
    "typing-inspection==0.4.5",
    "uvicorn==0.54.0",
];
