//! `gantry models push | verify | ls`.

mod claim;
mod from;
mod image;
mod node;
mod pod;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use land::models::{self, Checked, Choice, Put, Record};
use serde::Serialize;
use types::ByteSize;
use types::site::ModelLayout;

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::{ui, world};

/// Models in folders: put them where programs read them, and prove them long after.
#[derive(Subcommand)]
pub(crate) enum Command {
    Push(PushArgs),
    Verify(VerifyArgs),
    Ls(LsArgs),
    #[command(hide = true)]
    Hold(pod::HoldArgs),
    #[command(hide = true)]
    Receive(pod::ReceiveArgs),
}

/// Put models into a folder (a mounted volume, a node's disk) in the layout that a runtime reads.
///
/// Straight from the media, with no second copy. Each file gets its name when its digest was
/// checked; a model is shown when all of its files are there, by one rename. Run again after a kill
/// it goes on where it was, and what is there with its digest is kept. Another revision of a model
/// comes beside the old one (hf-cache) or takes its place in one rename (flat).
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models push /media/disk --to /mnt/models                     # a Hugging Face cache: HF_HUB_CACHE=/mnt/models
  gantry models push /media/disk --to /mnt/models --files plain       # without symbolic links
  gantry models push /media/disk --to /srv/models --layout flat --model BAAI/bge-m3
  gantry models push /media/disk --to ~/.ollama/models --layout ollama --model registry.ollama.ai/library/qwen2.5:3b
  gantry models push ~/.local/share/gantry/store --to /mnt/models --dry-run
  gantry models push /media/disk --to pvc://onyx/model-cache --site site.yaml --create --access-mode RWX
  gantry models push /media/disk --to pvc://onyx/index --to pvc://onyx/inference --site site.yaml
  gantry models push /media/disk --to 'node:///var/lib/models?selector=gpu=yes&namespace=seed' --site site.yaml
  gantry models push /media/disk --to image://registry.internal:5000/models/minilm:1 --layout flat
  gantry models push /media/disk --to pvc://akko/ollama/models --layout ollama --site site.yaml --via api")]
pub(crate) struct PushArgs {
    /// Volume files, folders with volumes, the .gantry.json beside them, or one store folder.
    #[arg(required = true, value_name = "VOLUME")]
    sources: Vec<PathBuf>,
    /// The folder that they are put into, or pvc://NAMESPACE/CLAIM[/FOLDER] of a cluster.
    #[arg(long, value_name = "TARGET", required = true)]
    to: Vec<PathBuf>,
    /// How files are laid out there.
    #[arg(long, value_name = "LAYOUT", default_value = "hf-cache")]
    layout: Layout,
    /// How the files of a Hugging Face cache are kept.
    #[arg(long, value_name = "FILES", default_value = "links")]
    files: Files,
    /// Only these models (ids or references); all when absent.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Keep only so many revisions of each model that is put, the new one among them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    keep: Option<u16>,
    /// Only tell what would be put.
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    claim: claim::ClaimArgs,
    #[command(flatten)]
    seeder: claim::SeederArgs,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pushed {
    folder: String,
    is_dry_run: bool,
    models: Vec<PushedModel>,
    /// Older revisions that were taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    collected: Vec<String>,
}

#[derive(Serialize)]
struct PushedModel {
    name: String,
    files: usize,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    put: Option<Put>,
}

/// Read every file that was put into a folder and compare its digest.
///
/// Needs no bundle: `push` left a record of each model in the folder's .gantry. Exit code 3 when
/// something is missing or damaged.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models verify /mnt/models
  gantry models verify /mnt/models --output json | jq .bad
  gantry models verify pvc://onyx/model-cache --site site.yaml")]
pub(crate) struct VerifyArgs {
    /// The folder, or pvc://NAMESPACE/CLAIM[/FOLDER] of a cluster.
    #[arg(value_name = "TARGET")]
    folder: PathBuf,
    #[command(flatten)]
    seeder: claim::SeederArgs,
}

/// List the models that were put into a folder.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry models ls /mnt/models
  gantry models ls pvc://onyx/model-cache --site site.yaml")]
pub(crate) struct LsArgs {
    /// The folder, or pvc://NAMESPACE/CLAIM[/FOLDER] of a cluster.
    #[arg(value_name = "TARGET")]
    folder: PathBuf,
    #[command(flatten)]
    seeder: claim::SeederArgs,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<()> {
    match command {
        Command::Push(args) if args.to.iter().all(|to| claim::is_claim(to)) => claim::push(context, args),
        Command::Push(args) if args.to.iter().any(|to| node::is_node(to)) => {
            node::push(context, args)
        }
        Command::Push(args) if args.to.iter().any(|to| image::is_image(to)) => {
            image::push(context, args)
        }
        Command::Push(args) => push(context, args),
        Command::Verify(args) if claim::is_claim(&args.folder) => claim::verify(context, args),
        Command::Verify(args) if node::is_node(&args.folder) => node::verify(context, args),
        Command::Verify(args) => verify(context, args),
        Command::Ls(args) if claim::is_claim(&args.folder) => claim::ls(context, args),
        Command::Ls(args) => ls(context, args),
        Command::Hold(args) => pod::hold(args),
        Command::Receive(args) => pod::receive(args),
    }
}

fn choice(args: &PushArgs) -> Choice {
    Choice {
        names: args.models.clone(),
        layout: match args.layout {
            Layout::HfCache => ModelLayout::HfCache,
            Layout::Flat => ModelLayout::Flat,
            Layout::Sie => ModelLayout::Sie,
            Layout::Ollama => ModelLayout::Ollama,
        },
        files: match args.files {
            Files::Links => models::Files::Links,
            Files::Plain => models::Files::Plain,
        },
    }
}

fn push(context: &Context, args: &PushArgs) -> Result<()> {
    let [to] = args.to.as_slice() else {
        return Err(CommandError::usage("several targets at once are volumes of a cluster")
            .hint("push into one folder after the other"));
    };
    if to.exists() && !to.is_dir() {
        return Err(CommandError::usage(format!("{} is no folder", to.display())));
    }
    let choice = choice(args);
    let source = world::source(&args.sources)?;
    let plans = models::plan(&*source, &choice)?;
    let puts = if args.dry_run {
        None
    } else {
        let meter = context.ui.progress("push");
        let puts = models::write(&*source, to, &plans, choice.layout, &*meter);
        if puts.is_ok() {
            meter.finish();
        } else {
            meter.clear();
        }
        Some(puts?)
    };
    let collected = match args.keep {
        Some(keep) if !args.dry_run => models::collect(to, &plans, usize::from(keep))?,
        _ => Vec::new(),
    };
    let models = plans.iter().enumerate().map(|(index, plan)| PushedModel {
        name: plan.name.clone(),
        files: plan.files().count(),
        bytes: plan.size(),
        put: puts.as_ref().and_then(|puts| puts.get(index).copied()),
    });
    let pushed = Pushed {
        folder: to.display().to_string(),
        is_dry_run: args.dry_run,
        models: models.collect(),
        collected,
    };
    context.ui.result(&pushed, |pushed| {
        let rows = pushed.models.iter().map(|model| {
            let put = match model.put {
                Some(Put::Present) => "there already",
                Some(Put::Written) => "put",
                None => "would be put",
            };
            let size = ByteSize(model.bytes).to_string();
            [model.name.clone(), model.files.to_string(), size, put.to_owned()]
        });
        let gone = pushed.collected.iter().map(|name| {
            [name.clone(), String::new(), String::new(), "taken away".to_owned()]
        });
        ui::table(["model", "files", "size", ""], rows.chain(gone).collect())
    })
}

fn verify(context: &Context, args: &VerifyArgs) -> Result<()> {
    if records(&args.folder)?.is_empty() {
        return Err(nothing(&args.folder));
    }
    let meter = context.ui.progress("verify");
    let checked = models::verify(&args.folder, &*meter);
    if checked.is_ok() {
        meter.finish();
    } else {
        meter.clear();
    }
    let checked = checked?;
    context.ui.result(&checked, print_checked)?;
    judged(&args.folder.display().to_string(), &checked)
}

fn print_checked(checked: &Checked) -> String {
    let is_bad = |name: &str| checked.bad.iter().any(|bad| bad.model == name);
    let rows = checked.models.iter().map(|(name, files)| {
        let state = if is_bad(name) { "damaged" } else { "whole" };
        [name.clone(), files.to_string(), state.to_owned()]
    });
    ui::table(["model", "files", ""], rows.collect())
}

fn judged(folder: &str, checked: &Checked) -> Result<()> {
    let Some(first) = checked.bad.first() else { return Ok(()) };
    let all: Vec<String> = checked
        .bad
        .iter()
        .map(|bad| format!("{folder}/{}: {}", bad.path.display(), bad.fault))
        .collect();
    Err(CommandError::new(Kind::Integrity, all.join("\n")).hint(format!(
        "put it there again: gantry models push VOLUME… --to {folder} --model {}",
        first.model.split('@').next().unwrap_or(&first.model)
    )))
}

fn ls(context: &Context, args: &LsArgs) -> Result<()> {
    let records = records(&args.folder)?;
    context.ui.result(&records, print_records)
}

fn print_records(records: &Vec<Record>) -> String {
    let rows = records.iter().map(|record| {
        let size: u64 = record.files.values().map(|file| file.size).sum();
        [record.name.clone(), record.files.len().to_string(), ByteSize(size).to_string()]
    });
    ui::table(["model", "files", "size"], rows.collect())
}

fn records(folder: &std::path::Path) -> Result<Vec<Record>> {
    if !folder.is_dir() {
        return Err(CommandError::usage(format!("{}: there is no such folder", folder.display())));
    }
    Ok(Record::read_all(folder)?)
}

fn nothing(folder: &std::path::Path) -> CommandError {
    CommandError::usage(format!("{}: Gantry put no models there", folder.display()))
        .hint("gantry models push VOLUME… --to DIR puts them and remembers what it put")
}
