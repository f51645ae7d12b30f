//! `gantry load`: copies the content of bundle files or a store into the site's registry and model
//! targets, or into another store.

mod summary;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use land::models::PushMode;
use land::selection::SelectedSource;
use land::{LoadOptions, LoadTarget};
use net::Credentials;
use remote::name_pattern::NamePattern;
use remote::oci::{RegistrySink, SparsePolicy};
use remote::site_registry::RegistryConnection;
use store::progress::Progress as _;
use store::{Source, Store};
use types::naming::{NamingRule, RegistryPrefix};
use types::receipt::{Receipt, ReceiptOmission, ReceiptRoot};
use types::site::{RegistryTarget, Site, site_folder};
use types::{ByteSize, Digest, Reference, Root, lock};

use crate::context::{CommandContext, LimitArgs};
use crate::environment;
use crate::error::{CommandError, Result};
use crate::model_targets;
use crate::output_files::{OutputKind, OverwriteArgs};
use crate::ui;
use crate::value_parsers::number_within;
use summary::{find_load_failure, format_summary, summarize_load, summarize_preview};

pub(crate) use summary::LoadSummary;

/// Copy the content of bundle files or a store into the site's registry, or into a store folder; with
/// --site also the models into the site's model targets (folders, buckets, claims).
///
/// Content is streamed from the bundle files to the target, without a second copy on the disk. What the
/// target has already is skipped, so the same command can be run again after a failure. --naming decides
/// the names at the registry; if two images would get the same name, nothing is pushed.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry load /media/disk/*.gantry --to registry.internal:5000/ai
  gantry load /media/disk --site site.yaml
  gantry load /media/disk --to registry.internal:5000 --naming host-path --dry-run
  gantry load /media/disk --to registry.internal:5000/ai --only nginx --only 'baai/*'
  gantry load /media/disk --to ./store           # an OCI image layout, which skopeo can read
  gantry load ~/.local/share/gantry/store --to registry.internal:5000   # straight from a store

Credentials for the registry are those of docker: docker login registry.internal:5000
Credentials for buckets are taken from the environment: see gantry models push --help")]
pub(crate) struct LoadArgs {
    /// Bundle files, folders of bundle files, the .gantry.json beside them, or one store folder.
    #[arg(required = true, value_name = "BUNDLE")]
    sources: Vec<PathBuf>,
    /// The registry with an optional path (host[:port][/path]), or a store folder (./path).
    #[arg(long, value_name = "TARGET", required_unless_present = "site", conflicts_with = "site")]
    to: Option<LoadTarget>,
    /// The site file (site.yaml): its registry with naming and CA, and its model targets.
    #[arg(long, value_name = "FILE")]
    pub(super) site: Option<PathBuf>,
    /// How images are named at the registry: path (ghcr.io/a/b:1 becomes SITE/a/b:1), host-path
    /// (SITE/ghcr.io/a/b:1) or name (SITE/b:1).
    #[arg(long, value_name = "NAMING", conflicts_with = "site")]
    naming: Option<NamingRule>,
    /// A PEM file with the CA certificate of the registry.
    #[arg(long, value_name = "FILE", conflicts_with = "site")]
    ca: Option<PathBuf>,
    /// Connect to the registry by plain HTTP. Loopback addresses need no option for that.
    #[arg(long, conflicts_with = "site")]
    plain_http: bool,
    /// What to do if the registry refuses an image index because some of its platforms were left out.
    #[arg(long, value_name = "POLICY", default_value = "auto")]
    sparse: SparseHandling,
    /// The number of blobs to transfer in parallel, 1 to 64.
    #[arg(long, value_name = "N", default_value = "4", value_parser = number_within(1..=64))]
    concurrency: u16,
    /// Write a receipt to this file: the list of what the target now holds.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Print what would be copied where, without copying it.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    overwrite: OverwriteArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Load only what has this name: an image, a chart, a model or a file, with or without its registry and
    /// tag; * stands for any text. May be given several times.
    #[arg(long, value_name = "NAME", value_parser = NamePattern::parse)]
    only: Vec<NamePattern>,
}

#[derive(Clone, Copy, ValueEnum)]
enum SparseHandling {
    /// Keep the index if the registry accepts it, else rewrite it without the missing platforms.
    Auto,
    /// Keep the index, and fail if the registry refuses it.
    Keep,
    /// Always rewrite the index.
    Rewrite,
}

/// How long a load that is asked to stop may take to finish the pieces of blobs that it is sending.
const STOP_GRACE: Duration = Duration::from_secs(10);

pub(crate) fn run(context: &CommandContext, args: &LoadArgs) -> Result<()> {
    let site = args.site.as_deref().map(environment::read_site).transpose()?;
    let target = match (&args.to, &site) {
        (Some(target), _) => target.clone(),
        (None, Some(site)) => LoadTarget::Registry(site.registry.parse_prefix()?),
        (None, None) => {
            return Err(CommandError::usage_error("name the target: --to REGISTRY or --site FILE"));
        }
    };
    // All that is written is checked before the first byte is moved: an hour later is too late.
    if let Some(path) = &args.receipt {
        args.overwrite.check_file(path, OutputKind::Receipt)?;
    }
    if let (Some(site), Some(file)) = (&site, &args.site) {
        model_targets::check_site_targets(context, site, file)?;
    }
    let context = &context.with_limits(&args.limits);
    let source = select_content(environment::open_source(&args.sources)?, &args.only)?;
    let roots = source.roots()?;
    if roots.is_empty() {
        return Err(CommandError::usage_error("nothing to load: the bundle or store is empty"));
    }
    let progress = context.ui.start_progress("load");
    let outcome = match &target {
        LoadTarget::Registry(prefix) => {
            let registry = choose_registry(args, site.as_ref(), prefix);
            load_into_registry(
                context,
                args,
                (&registry, prefix),
                Arc::clone(&source),
                roots,
                progress.clone(),
            )
        }
        LoadTarget::Store(path) => {
            load_into_store(context, args, path, Arc::clone(&source), roots, progress.clone())
        }
    };
    match &outcome {
        Ok(_) if !args.dry_run => progress.finish(),
        _ => progress.clear(),
    }
    // The receipt is written even if some content failed: it lists what the target holds by now.
    let (mut summary, receipt) = outcome?;
    if let (Some(path), Some(receipt)) = (&args.receipt, receipt) {
        environment::write_file(path, &receipt.to_json()?)?;
    }
    // Registry and model targets are independent: an error of one does not stop the other.
    let failed = match (&site, &args.site) {
        (Some(site), Some(file)) => {
            let mode = if args.dry_run { PushMode::DryRun } else { PushMode::Put };
            let (pushed, failed) =
                model_targets::push_to_site_targets(context, &source, site, file, mode);
            summary.models = pushed;
            failed
        }
        _ => None,
    };
    context.ui.print_result(&summary, format_summary)?;
    match (find_load_failure(&summary), failed) {
        (None, None) => Ok(()),
        (Some(error), None) | (None, Some(error)) => Err(error),
        (Some(error), Some(other)) => {
            context.ui.print_warning(&other.message_with_causes());
            Err(error)
        }
    }
}

/// The part of a source that `--only` names.
fn select_content(source: Arc<dyn Source>, only: &[NamePattern]) -> Result<Arc<dyn Source>> {
    if only.is_empty() {
        return Ok(source);
    }
    match SelectedSource::new(source, only)? {
        Ok(selected) => Ok(Arc::new(selected)),
        Err(unmatched) => {
            let names: Vec<String> =
                unmatched.iter().map(|name| name.as_str().to_owned()).collect();
            Err(CommandError::usage_error(format!(
                "--only: the bundle or store has nothing named {}",
                names.join(", ")
            ))
            .with_hint("list what it has with: gantry inspect BUNDLE, or gantry store ls"))
        }
    }
}

/// The registry to load into: the site's, or the one of the command line.
fn choose_registry(
    args: &LoadArgs,
    site: Option<&Site>,
    prefix: &RegistryPrefix,
) -> RegistryTarget {
    match (site, &args.site) {
        (Some(site), Some(file)) => site.registry.with_paths_below(site_folder(file)),
        _ => RegistryTarget {
            ca: args.ca.clone(),
            plain_http: args.plain_http,
            ..RegistryTarget::from_prefix(prefix, args.naming.unwrap_or_default())
        },
    }
}

fn load_into_registry(
    context: &CommandContext,
    args: &LoadArgs,
    (registry, prefix): (&RegistryTarget, &RegistryPrefix),
    source: Arc<dyn Source>,
    roots: Vec<Root>,
    progress: Arc<ui::ProgressMeter>,
) -> Result<(LoadSummary, Option<Receipt>)> {
    let targets = prefix.site_references(registry.naming, roots.iter().map(|root| &root.name))?;
    let name_of =
        |root: &Root| targets.get(&root.name).map(ToString::to_string).unwrap_or_default();
    let concurrency = Some(usize::from(args.concurrency));
    let credentials = Credentials::from_system();
    let opened = RegistryConnection::new(&context.config, registry, credentials, concurrency)?;
    let policy = match args.sparse {
        SparseHandling::Auto => SparsePolicy::Auto,
        SparseHandling::Keep => SparsePolicy::Keep,
        SparseHandling::Rewrite => SparsePolicy::Rewrite,
    };
    let mut push =
        RegistrySink::new(&opened.client, &opened.mirrors, prefix, targets.clone(), policy);
    if let Some(folder) = CommandContext::uploads_path() {
        push = push.keep_uploads_in(folder);
    }
    if args.dry_run {
        let preview = environment::block_on(async {
            Ok(land::preview_load(source, roots, Some(Arc::new(push))).await)
        })?;
        let target = prefix.to_string();
        return Ok((summarize_preview(context, target, &preview, name_of), None));
    }
    let push = Arc::new(push);
    let options = LoadOptions { concurrency: usize::from(args.concurrency) };
    let ended = Arc::clone(&progress);
    let work = async {
        // Before any work: a wrong credential or address is one error then, not one for each image.
        push.check_access().await?;
        Ok(land::load_roots(source, roots, Arc::clone(&push), options, progress).await?)
    };
    let stop = || {
        ended.add_note("stopping after the pieces that are being sent; once more to stop at once");
        push.stop_uploads();
    };
    let report = environment::block_on_with_grace(work, stop, STOP_GRACE)?;
    let rewritten = push.rewritten_indexes();
    let left_out = push.left_out_manifests();
    print_push_warnings(context, prefix, &push);
    // By name: a registry may rewrite, or refuse, each of ten thousand.
    let new_digests: HashMap<String, Digest> =
        rewritten.iter().map(|rewritten| (rewritten.name.to_string(), rewritten.to)).collect();
    let left_digests: HashSet<Digest> = left_out.iter().map(|left| left.digest).collect();
    let mut summary = summarize_load(&prefix.to_string(), &report, name_of);
    for row in &mut summary.roots {
        row.rewritten = new_digests.get(&row.name).copied();
        if left_digests.contains(&row.digest) {
            row.outcome = "left out";
        }
    }
    let held = report
        .landed
        .iter()
        .map(|landed| ReceiptRoot {
            name: landed.root.name.clone(),
            kind: landed.root.kind,
            digest: landed.root.descriptor.digest,
            target: name_of(&landed.root),
            rewritten: new_digests.get(&landed.root.name.to_string()).copied(),
        })
        .collect();
    let blobs = report.blobs.iter().map(lock::Blob::from).collect();
    let left_out =
        left_out.into_iter().map(|left| ReceiptOmission { name: left.name, digest: left.digest });
    let receipt = Receipt::new(prefix.to_string(), held, blobs).without(left_out.collect());
    Ok((summary, Some(receipt)))
}

/// Says what the registry holds otherwise than the bundle, and what it could not resume.
fn print_push_warnings(context: &CommandContext, prefix: &RegistryPrefix, push: &RegistrySink) {
    let left_out = push.left_out_manifests();
    let left_names: HashSet<&Reference> = left_out.iter().map(|left| &left.name).collect();
    let (mut without_attestations, mut sparse, mut renamed) = (Vec::new(), Vec::new(), Vec::new());
    for one in push.rewritten_indexes() {
        let mut item = format!("{}: its digest is now {} (was {})", one.name, one.to, one.from);
        if one.flattened {
            item.push_str("; it lists the manifests of its nested indexes itself");
        }
        match one {
            one if left_names.contains(&one.name) => without_attestations.push(item),
            one if one.renamed => renamed.push(item),
            _ => sparse.push(item),
        }
    }
    for (items, cause) in [
        (without_attestations, "takes no attestations"),
        (sparse, "refuses an index with missing platforms"),
    ] {
        let about = format!(
            "the registry {cause}, so it was rewritten without them: pins and signatures of the original \
             do not match"
        );
        context.ui.print_grouped_warning(&about, &items);
    }
    let about = "the registry keeps manifests under their sha256 alone, so these have another digest there: \
                 pins of the original do not resolve";
    context.ui.print_grouped_warning(about, &renamed);
    if let Some(first) = left_out.first() {
        let names: BTreeSet<String> = left_out.iter().map(|left| left.name.to_string()).collect();
        let names: Vec<String> = names.into_iter().collect();
        context.ui.print_warning(&format!(
            "the registry takes no attestations, signatures or SBOMs of this kind, so {} of them were left \
             out ({}): {}",
            left_out.len(),
            first.reason,
            names.join(", ")
        ));
    }
    let restarted = push.restarted_uploads();
    if !restarted.is_empty() {
        let bytes: u64 = restarted.iter().map(|upload| upload.bytes).sum();
        context.ui.print_warning(&format!(
            "{} could not resume {} interrupted uploads, of which it had {}: they were sent again from the \
             start. docker-registry and what is built on it can only resume between two pieces (Ctrl-C \
             waits for that; a proxy before it that passes on whole requests helps)",
            prefix.registry(),
            restarted.len(),
            ByteSize(bytes)
        ));
    }
}

fn load_into_store(
    context: &CommandContext,
    args: &LoadArgs,
    path: &Path,
    source: Arc<dyn Source>,
    roots: Vec<Root>,
    progress: Arc<ui::ProgressMeter>,
) -> Result<(LoadSummary, Option<Receipt>)> {
    let target = path.display().to_string();
    if args.dry_run {
        let existing =
            path.is_dir().then(|| Store::open_existing(path).map(Arc::new)).transpose()?;
        let preview =
            environment::block_on(async { Ok(land::preview_load(source, roots, existing).await) })?;
        return Ok((
            summarize_preview(context, target, &preview, |root| root.name.to_string()),
            None,
        ));
    }
    let store = Store::open(path)?;
    let options = LoadOptions { concurrency: usize::from(args.concurrency) };
    let report = environment::block_on(async {
        Ok(land::load_roots(source, roots, Arc::new(store), options, progress).await?)
    })?;
    let summary = summarize_load(&target, &report, |root| root.name.to_string());
    let held = report.landed.iter().map(|landed| ReceiptRoot {
        name: landed.root.name.clone(),
        kind: landed.root.kind,
        digest: landed.root.descriptor.digest,
        target: landed.root.name.to_string(),
        rewritten: None,
    });
    let blobs = report.blobs.iter().map(lock::Blob::from).collect();
    let receipt = Receipt::new(target, held.collect(), blobs);
    Ok((summary, Some(receipt)))
}
