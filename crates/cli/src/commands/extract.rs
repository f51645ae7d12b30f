//! `gantry extract`: gives what a bundle or a store has back as ordinary files.

use std::path::{Path, PathBuf};

use land::extract::{
    ExtractPlan, ExtractSelection, ItemState, OverwritePolicy, plan_extract, write_items,
};
use serde::Serialize;
use types::{ByteSize, Platform, Reference, RootKind};

use crate::context::CommandContext;
use crate::error::Result;
use crate::{environment, ui};

/// Give what a bundle or a store has back as ordinary files.
///
/// An image becomes an archive that `docker load`, `podman load`, `skopeo copy` (docker-archive: and
/// oci-archive:) and `ctr image import` read; a chart becomes a .tgz, a model of Hugging Face a folder of
/// its files, a model of Ollama a folder for OLLAMA_MODELS, and everything else the file that it was.
///
/// Every byte is verified while it is written, and each file or folder appears under its name by one
/// rename. Files that are there with the right content are kept, others are an error before anything is
/// written, unless --force is given. After an interruption the same command resumes.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry extract /media/disk -o out                          # everything
  gantry extract /media/disk nginx:1.25 -o out && docker load -i out/nginx-1.25.tar
  gantry extract /media/disk 'ghcr.io/org/*' -o out
  gantry extract /media/disk BAAI/bge-m3 -o /srv/models      # /srv/models/BAAI/bge-m3/config.json …
  gantry extract /media/disk qwen2.5:3b -o out && OLLAMA_MODELS=out/qwen2.5-3b ollama serve
  gantry extract /media/disk app-1.2.3 -o out && helm install app out/app-1.2.3.tgz
  gantry extract ~/.local/share/gantry/store runbook.pdf -o .
  gantry extract /media/disk '*' -o out --dry-run            # signatures and SBOMs as well")]
pub(crate) struct ExtractArgs {
    /// A bundle file, a folder of bundle files, the .gantry.json beside them, or a store folder. Further
    /// *.gantry files that follow it belong to it.
    #[arg(value_name = "BUNDLE")]
    source: PathBuf,
    /// What to extract: the name of an image, chart, model or file as gantry.yaml or the lock has it, or a
    /// pattern with * and ? [default: everything but signatures and SBOMs].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The folder to write to; it is created where it does not exist.
    #[arg(short = 'o', long = "out", value_name = "DIR")]
    out: PathBuf,
    /// The platform of an image that `docker load` gets from its archive, which has all that were carried
    /// [default: this machine's].
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Overwrite files that are there with other content. Other files in a model's folder stay.
    #[arg(long)]
    force: bool,
    /// Print what would be written, without writing it.
    #[arg(long)]
    dry_run: bool,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExtractSummary {
    #[serde(rename = "dryRun")]
    is_dry_run: bool,
    items: Vec<ExtractedItem>,
    /// The length of all items together.
    bytes: u64,
}

/// A file or a folder.
#[derive(Serialize, schemars::JsonSchema)]
struct ExtractedItem {
    name: Reference,
    kind: RootKind,
    /// The file or folder.
    file: String,
    bytes: u64,
    /// Of an image: the platform that `docker load` gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    outcome: ExtractOutcome,
}

/// What was done, or would be.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ExtractOutcome {
    /// It was there, with its content.
    Present,
    /// It was written.
    Written,
    /// It was there with other content, and was overwritten.
    Replaced,
    /// It is not there (in a dry run).
    Absent,
    /// It is there with other content (in a dry run).
    Different,
}

pub(crate) fn run(context: &CommandContext, args: &ExtractArgs) -> Result<()> {
    environment::exit_when_stopped()?;
    let (sources, names) = split_names(args);
    let source = environment::open_source(&sources)?;
    let selection = ExtractSelection::parse(&names)?;
    let plan = plan_extract(&*source, &selection, args.platform.as_ref())?;
    let outcomes = if args.dry_run {
        inspect_items(&plan, &args.out)?
    } else {
        let overwrite = match args.force {
            true => OverwritePolicy::Replace,
            false => OverwritePolicy::Refuse,
        };
        let meter = context.ui.start_progress("extract");
        let states = write_items(&*source, &plan, &args.out, overwrite, &*meter);
        if states.is_ok() {
            meter.finish();
        } else {
            meter.clear();
        }
        let written = |state: ItemState| match state {
            ItemState::Present => ExtractOutcome::Present,
            ItemState::Absent => ExtractOutcome::Written,
            ItemState::Different => ExtractOutcome::Replaced,
        };
        states?.into_iter().map(written).collect()
    };
    let items = plan.items.iter().zip(outcomes).map(|(item, outcome)| ExtractedItem {
        name: item.name.clone(),
        kind: item.kind,
        file: args.out.join(&item.path).display().to_string(),
        bytes: item.size(),
        platform: item.platform.clone(),
        outcome,
    });
    let items: Vec<ExtractedItem> = items.collect();
    let bytes = items.iter().map(|item| item.bytes).sum();
    context
        .ui
        .print_result(&ExtractSummary { is_dry_run: args.dry_run, items, bytes }, format_items)
}

/// What is in the place of each item.
fn inspect_items(plan: &ExtractPlan, folder: &Path) -> Result<Vec<ExtractOutcome>> {
    let outcome = |state: ItemState| match state {
        ItemState::Present => ExtractOutcome::Present,
        ItemState::Absent => ExtractOutcome::Absent,
        ItemState::Different => ExtractOutcome::Different,
    };
    plan.items.iter().map(|item| Ok(outcome(item.inspect(folder)?))).collect()
}

/// The bundle and the names: `*.gantry` of a shell becomes several arguments.
fn split_names(args: &ExtractArgs) -> (Vec<PathBuf>, Vec<String>) {
    let is_bundle_file = |text: &&String| {
        let path = Path::new(text);
        path.extension().is_some_and(|extension| extension == "gantry") && path.is_file()
    };
    let (files, names): (Vec<&String>, Vec<&String>) = args.names.iter().partition(is_bundle_file);
    let sources = std::iter::once(args.source.clone()).chain(files.into_iter().map(PathBuf::from));
    (sources.collect(), names.into_iter().cloned().collect())
}

fn format_items(summary: &ExtractSummary) -> String {
    let rows = summary.items.iter().map(|item| {
        let outcome = match item.outcome {
            ExtractOutcome::Present => "already there",
            ExtractOutcome::Written => "written",
            ExtractOutcome::Replaced => "overwritten",
            ExtractOutcome::Absent => "would be written",
            ExtractOutcome::Different => "is there with other content",
        };
        [
            item.file.clone(),
            item.kind.as_str().to_owned(),
            ByteSize(item.bytes).to_string(),
            outcome.to_owned(),
        ]
    });
    ui::format_table(["file", "kind", "size", ""], rows.collect())
}
