//! `gantry models push | verify | ls`: models in folders and buckets.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use land::models::bucket::{Access, Http};
use land::models::{Checked, Unfit};
use types::ByteSize;
use types::destination::Destination;
use types::site::{ModelFiles, ModelLayout, ModelTarget};

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::place::{self, Mode, Opened};
use crate::{ui, world};

/// Models in folders and buckets: put them where programs read them, and prove them long after.
#[derive(Subcommand)]
pub(crate) enum Command {
    Push(PushArgs),
    Verify(VerifyArgs),
    Ls(LsArgs),
}

/// Put models into a folder (a mounted volume, a node's disk) or a bucket, in the layout that a
/// runtime reads.
///
/// Straight from the media, with no second copy. Each file is shown when its digest was checked; a
/// model when all of its files are there: by one rename in a folder, by completing all uploads at
/// once in a bucket. Run again after a kill it goes on where it was, and what is there with its
/// digest is kept. Another revision of a model comes beside the old one (hf-cache, sie) or takes
/// its place (flat).
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models push /media/disk --to /mnt/models                     # a Hugging Face cache: HF_HUB_CACHE=/mnt/models
  gantry models push /media/disk --to /mnt/models --files plain       # without symbolic links
  gantry models push /media/disk --to /srv/models --layout flat --model BAAI/bge-m3
  gantry models push /media/disk --to ~/.ollama/models --layout ollama --model registry.ollama.ai/library/qwen2.5:3b
  gantry models push /media/disk --to s3://models/sie --layout sie    # SIE: clusterCache.url: s3://models/sie
  gantry models push /media/disk --to s3://models --endpoint https://minio.internal:9000 --ca ca.pem
  gantry models push ~/.local/share/gantry/store --to /mnt/models --dry-run

Buckets take credentials from the environment, as the clouds' own tools name them:
  s3://  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, or a web identity (IRSA)
  gs://  GOOGLE_APPLICATION_CREDENTIALS, or the workload identity
  az://  AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or the workload identity")]
pub(crate) struct PushArgs {
    /// Volume files, folders with volumes, the .gantry.json beside them, or one store folder.
    #[arg(required = true, value_name = "VOLUME")]
    sources: Vec<PathBuf>,
    /// A folder, or a bucket with a prefix: s3://bucket/prefix, gs://…, az://container/prefix.
    #[arg(long, value_name = "PLACE")]
    to: Destination,
    /// How files are laid out there.
    #[arg(long, value_name = "LAYOUT", default_value = "hf-cache")]
    layout: Layout,
    /// How the files of a Hugging Face cache are kept in a folder [default: links].
    #[arg(long, value_name = "FILES")]
    files: Option<Files>,
    /// Only these models (ids or references); all when absent.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    #[command(flatten)]
    server: Server,
    /// Only tell what would be put.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// A bucket's server.
#[derive(clap::Args)]
struct Server {
    /// The bucket's server, https://host[:port] [default: the environment's, else the cloud's].
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// A PEM file with the certificate authority of the bucket's server.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Speak http to the bucket's server. Loopback hosts always may.
    #[arg(long)]
    plain_http: bool,
}

impl Server {
    fn access(&self) -> Access {
        Access {
            endpoint: self.endpoint.clone(),
            ca: self.ca.iter().cloned().collect(),
            http: if self.plain_http { Http::Allowed } else { Http::Refused },
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Layout {
    /// A Hugging Face cache (`HF_HUB_CACHE`).
    HfCache,
    /// The files under `org/name/`.
    Flat,
    /// SIE's cluster cache.
    Sie,
    /// Ollama's models folder (`OLLAMA_MODELS`).
    Ollama,
}

#[derive(Clone, Copy, ValueEnum)]
enum Files {
    /// Content once, symbolic links to it.
    Links,
    /// Plain files.
    Plain,
}

/// Read every file that was put into a folder or a bucket and compare its digest.
///
/// Needs no bundle: `push` left a record of each model in .gantry there. Exit code 3 when something
/// is missing or damaged.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models verify /mnt/models
  gantry models verify s3://models/sie --endpoint https://minio.internal:9000
  gantry models verify /mnt/models --output json | jq .bad")]
pub(crate) struct VerifyArgs {
    /// The folder, or the bucket with its prefix.
    #[arg(value_name = "PLACE")]
    place: Destination,
    #[command(flatten)]
    server: Server,
}

/// List the models that were put into a folder or a bucket.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models ls /mnt/models
  gantry models ls s3://models/sie")]
pub(crate) struct LsArgs {
    /// The folder, or the bucket with its prefix.
    #[arg(value_name = "PLACE")]
    place: Destination,
    #[command(flatten)]
    server: Server,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<()> {
    match command {
        Command::Push(args) => push(context, args),
        Command::Verify(args) => verify(context, args),
        Command::Ls(args) => ls(context, args),
    }
}

fn push(context: &Context, args: &PushArgs) -> Result<()> {
    let target = ModelTarget {
        to: args.to.clone(),
        layout: match args.layout {
            Layout::HfCache => ModelLayout::HfCache,
            Layout::Flat => ModelLayout::Flat,
            Layout::Sie => ModelLayout::Sie,
            Layout::Ollama => ModelLayout::Ollama,
        },
        models: args.models.clone(),
        files: args.files.map(|files| match files {
            Files::Links => ModelFiles::Links,
            Files::Plain => ModelFiles::Plain,
        }),
        endpoint: args.server.endpoint.clone(),
        ca: args.server.ca.clone(),
        plain_http: args.server.plain_http,
    };
    target.check().map_err(|fault| CommandError::usage(format!("--to {}: {fault}", args.to)))?;
    if args.to == Destination::Depot {
        return Err(CommandError::usage("a depot serves models from what it has; nothing is put")
            .hint("gantry serve VOLUME…"));
    }
    let source = world::source(&args.sources)?;
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Put };
    let pushed = place::put(context, &*source, &target, Unfit::Refused, mode)?;
    context.ui.result(&pushed, place::print)
}

fn verify(context: &Context, args: &VerifyArgs) -> Result<()> {
    let opened = Opened::new(context, &args.place, args.server.access())?;
    if opened.records()?.is_empty() {
        return Err(nothing(&args.place));
    }
    let meter = context.ui.progress("verify");
    let checked = opened.verify(&*meter);
    if checked.is_ok() {
        meter.finish();
    } else {
        meter.clear();
    }
    let checked = checked?;
    context.ui.result(&checked, |checked| {
        let is_bad = |name: &str| checked.bad.iter().any(|bad| bad.model == name);
        let rows = checked.models.iter().map(|(name, files)| {
            let state = if is_bad(name) { "damaged" } else { "whole" };
            [name.clone(), files.to_string(), state.to_owned()]
        });
        ui::table(["model", "files", ""], rows.collect())
    })?;
    judged(&args.place, &opened, &checked)
}

fn judged(to: &Destination, opened: &Opened, checked: &Checked) -> Result<()> {
    let Some(first) = checked.bad.first() else { return Ok(()) };
    let all: Vec<String> = checked
        .bad
        .iter()
        .map(|bad| format!("{}: {}", opened.shown(&bad.path).display(), bad.fault))
        .collect();
    Err(CommandError::new(Kind::Integrity, all.join("\n")).hint(format!(
        "put it there again: gantry models push VOLUME… --to {to} --model {}",
        first.model.split('@').next().unwrap_or(&first.model)
    )))
}

fn ls(context: &Context, args: &LsArgs) -> Result<()> {
    let opened = Opened::new(context, &args.place, args.server.access())?;
    let records = opened.records()?;
    context.ui.result(&records, |records| {
        let rows = records.iter().map(|record| {
            let size: u64 = record.files.values().map(|file| file.size).sum();
            [record.name.clone(), record.files.len().to_string(), ByteSize(size).to_string()]
        });
        ui::table(["model", "files", "size"], rows.collect())
    })
}

fn nothing(place: &Destination) -> CommandError {
    CommandError::usage(format!("{place}: Gantry put no models there"))
        .hint("gantry models push VOLUME… --to PLACE puts them and remembers what it put")
}
