//! `gantry post-render`: a post-renderer for helm. It reads the rendered manifests from standard input
//! and writes them to standard output, with every image moved to the site and nothing else changed. The
//! result is proven before the first byte is written, so that helm installs all of it or nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use chart::OperatorRules;
use chart::image_pins;
use chart::post_render::{self, PostRenderedStream};
use chart::relocate::{ProofVerdict, RelocationProof, RelocationTarget};
use chart::wiring::PatchFile;
use deploy::prepare::write_plugin_files;
use types::ImagePin;
use types::naming::{NamingRule, RegistryPrefix};
use types::site::RegistryTarget;
use types::site_content::{SiteContent, SiteRoot};

use crate::context::CommandContext;
use crate::environment;
use crate::error::{CommandError, ErrorKind, Result};
use crate::output_files::{OutputKind, OverwriteArgs};
use crate::site_digests::{CONFIRM_HINT, KEEP_HINT, KnownSite, SiteReceiptArgs};

/// Change the images of rendered manifests to those in the site's registry, as a post-renderer of helm
/// or in a pipe.
///
/// Reads manifests from standard input and writes them to standard output. Every image reference that
/// points outside is replaced by its name at the site: in pods, custom resources, arguments,
/// environment variables, and in the text of ConfigMaps and Secrets. Everything else stays the same,
/// byte for byte. Gantry checks the result before writing it: if an image still points outside, nothing
/// is written and the exit code is 3. Images that are at the site's registry already stay as they are.
/// If there is a gantry.lock, every image must be in it. With --patches, patches that configure the
/// objects for offline use are applied first. With --pin, pods name the digests that the site has.
///
/// Helm 3 runs this command directly, but does not pass hooks and the crds/ folder to it. Helm 4 needs
/// a plugin, which --write-plugin writes, and passes hooks too.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  kustomize build . | gantry post-render --site site.yaml | kubectl apply -f -
  helm upgrade --install app ./my-chart -f overlay.yaml \\
    --post-renderer gantry --post-renderer-args post-render --post-renderer-args --site=site.yaml
  gantry post-render --write-plugin \"$(helm env HELM_PLUGINS)/gantry\"       # helm 4, once
  helm upgrade --install app ./my-chart -f overlay.yaml \\
    --post-renderer gantry --post-renderer-args --site=site.yaml              # helm 4")]
pub(crate) struct PostRenderArgs {
    /// The site file (site.yaml): its registry and naming.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["to", "write_plugin"],
        conflicts_with = "to"
    )]
    pub(super) site: Option<PathBuf>,
    /// The site's registry with an optional path (host[:port][/path]), instead of a site file.
    #[arg(long, value_name = "REGISTRY")]
    to: Option<RegistryPrefix>,
    /// How images are named at the registry: path (ghcr.io/a/b:1 becomes SITE/a/b:1), host-path
    /// (SITE/ghcr.io/a/b:1) or name (SITE/b:1).
    #[arg(long, value_name = "NAMING", conflicts_with = "site")]
    naming: Option<NamingRule>,
    /// The lock that must contain every image [default: gantry.lock, if it exists].
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    #[command(flatten)]
    receipts: SiteReceiptArgs,
    /// Apply these patches first, as written by gantry relocate --offline --patches for this chart.
    #[arg(long, value_name = "FILE")]
    patches: Option<PathBuf>,
    /// Make the pods of a tag with new content restart: auto, digest, annotation or none [default: pin: of
    /// site.yaml, else none]. It needs a lock.
    #[arg(long, value_name = "PIN")]
    pin: Option<ImagePin>,
    /// Pin only, and move nothing: for manifests whose images are moved by values already.
    #[arg(long, requires = "pin")]
    pin_only: bool,
    /// Write an error to this file too, since helm 4 does not show what a plugin prints.
    #[arg(long, value_name = "FILE")]
    error_file: Option<PathBuf>,
    /// Write the plugin for helm 4 into this folder, and do nothing else.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["site", "to", "naming", "lock", "receipt", "patches", "pin", "pin_only", "error_file"])]
    write_plugin: Option<PathBuf>,
}

pub(crate) fn run(context: &CommandContext, args: &PostRenderArgs) -> Result<()> {
    if let Some(folder) = &args.write_plugin {
        return run_write_plugin(context, folder);
    }
    if let Some(path) = &args.error_file {
        OverwriteArgs::default().check_file(path, OutputKind::ErrorFile)?;
    }
    // Nothing is printed unless everything is proven: helm installs whatever a post-renderer prints.
    let outcome = move_images(context, args).and_then(|stream| context.ui.print_document(&stream));
    let Some(path) = &args.error_file else { return outcome };
    match &outcome {
        // An error of an earlier run must not look like one of this run.
        Ok(()) if path.exists() => environment::write_file(path, "")?,
        Ok(()) => {}
        Err(error) => environment::write_file(path, &error.to_text())?,
    }
    outcome
}

fn move_images(context: &CommandContext, args: &PostRenderArgs) -> Result<String> {
    let (registry, pin) = read_registry(args)?;
    let target = RelocationTarget::from_registry(&registry)?;
    let lock = match &args.lock {
        Some(path) => Some(environment::read_lock_at(path)?),
        None => environment::read_optional_lock(context)?,
    };
    // With a lock, an image that is not in it is refused even if it could be moved: the site does not
    // have it.
    let mut known = lock
        .map(|lock| KnownSite::new(lock, &registry, args.site.as_deref(), &args.receipts))
        .transpose()?;
    let rules = match environment::read_optional_input(context)? {
        Some(input) => OperatorRules::from_input(&input),
        None => OperatorRules::builtin().clone(),
    };
    let stream = environment::read_manifests_from_stdin(
        "helm template app ./my-chart | gantry post-render --site site.yaml",
    )?;
    let stream = match &args.patches {
        Some(path) => apply_patches(path, &stream)?,
        None => stream,
    };
    if args.pin_only {
        return pin_images(context, args, &stream, known.as_mut(), pin);
    }
    let post_render = |locked: Option<&SiteContent>| {
        post_render::post_render_with_rules(&stream, &target, &rules, locked)
    };
    let mut post = post_render(known.as_ref().map(KnownSite::content))?;
    if let Some(known) = &mut known
        && known.ask_about_unconfirmed(context, &post.proof)?
    {
        post = post_render(Some(known.content()))?;
    }
    if let Some(error) = find_refusal(&post, &target) {
        return Err(error);
    }
    for compiled in &post.proof.compiled_in {
        context.ui.print_warning(&format!(
            "{} will be pulled for {}, but is in no manifest ({}); let the nodes pull it from the site: gantry relocate … --mirrors DIR",
            compiled.image, compiled.place, compiled.why
        ));
    }
    for registry in &post.proof.registries {
        context.ui.print_warning(&format!(
            "the registry {} in {} points outside, and a program puts names of images behind it; set it by a value of the chart: gantry relocate",
            registry.text, registry.place
        ));
    }
    pin_images(context, args, &post.stream, known.as_mut(), pin)
}

/// Pins the images of the pods in a stream. The registry is asked for digests that no receipt tells.
fn pin_images(
    context: &CommandContext,
    args: &PostRenderArgs,
    stream: &str,
    known: Option<&mut KnownSite>,
    pin: ImagePin,
) -> Result<String> {
    if pin == ImagePin::None {
        return Ok(stream.to_owned());
    }
    let Some(known) = known else {
        return Err(CommandError::usage_error("digests are pinned by a lock, and there is none")
            .with_hint("name it: --lock gantry.lock, or write --pin none"));
    };
    let pinned = image_pins::pin_images(stream, known.content(), pin)?;
    let is_listed =
        |root: &SiteRoot| pinned.annotated.iter().any(|image| root.target().name() == image.name());
    let is_asked = pin != ImagePin::Annotation && args.receipts.is_empty();
    if is_asked && !pinned.annotated.is_empty() && known.ask_registry(context, is_listed)? {
        return Ok(image_pins::pin_images(stream, known.content(), pin)?.stream);
    }
    Ok(pinned.stream)
}

/// Applies the patches of a file to the stream. A patch that does not fit is an error, so that helm does
/// not install.
fn apply_patches(path: &Path, stream: &str) -> Result<String> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|cause| {
        CommandError::usage_error(format!("cannot read {shown}: {cause}")).with_hint(
            "write it with: gantry relocate CHART --site site.yaml --offline --patches FILE",
        )
    })?;
    let patches = PatchFile::read(&shown, &text)?;
    patches
        .apply(stream)
        .map_err(|error| CommandError::new(ErrorKind::Integrity, error.to_string()))
}

/// The site's registry and how images are pinned, from the site file or the command line.
fn read_registry(args: &PostRenderArgs) -> Result<(RegistryTarget, ImagePin)> {
    match (&args.site, &args.to) {
        (Some(path), _) => {
            let site = environment::read_site(path)?;
            Ok((site.registry, args.pin.or(site.pin).unwrap_or(ImagePin::None)))
        }
        (None, Some(prefix)) => {
            let registry = RegistryTarget::from_prefix(prefix, args.naming.unwrap_or_default());
            Ok((registry, args.pin.unwrap_or(ImagePin::None)))
        }
        (None, None) => {
            Err(CommandError::usage_error("name the site: --site FILE or --to REGISTRY"))
        }
    }
}

/// The error if the result must not be written: an image is not locked, or the proof failed.
fn find_refusal(post: &PostRenderedStream, target: &RelocationTarget) -> Option<CommandError> {
    let proof = &post.proof;
    if let Some(first) = proof.not_locked.first() {
        let mut message = String::new();
        for missing in &proof.not_locked {
            let _ = writeln!(
                message,
                "{} is not in the lock ({}){}",
                missing.image,
                missing.place,
                missing.remark()
            );
        }
        return Some(CommandError::new(ErrorKind::Integrity, message.trim_end()).with_hint(
            format!(
                "add {} to images: in gantry.yaml, then run gantry lock, fetch, pack and load",
                first.image
            ),
        ));
    }
    if proof.verdict() < ProofVerdict::Leftovers && !proof.unconfirmed.is_empty() {
        let mut message = String::from("the site may not have these digests:\n");
        for one in &proof.unconfirmed {
            let _ = writeln!(message, "{} in {}: {}", one.image, one.place, one.reason());
        }
        return Some(
            CommandError::new(ErrorKind::Integrity, message.trim_end())
                .with_hint(CONFIRM_HINT)
                .with_hint(KEEP_HINT),
        );
    }
    let mut message = String::new();
    for stayed in &proof.stayed {
        let _ = writeln!(message, "{} in {} could not be moved", stayed.from, stayed.place);
    }
    for foreign in &proof.foreign {
        let _ = writeln!(message, "{} in {} points outside", foreign.text, foreign.place);
    }
    for broken in &proof.broken {
        let _ = writeln!(
            message,
            "{} in {} is not an image reference: {}",
            broken.text, broken.place, broken.reason
        );
    }
    for change in &proof.changes {
        let _ = writeln!(message, "{} would change, but is not an image", change.place);
    }
    // Images that operators pull by themselves, or name behind a registry, are in no manifest. They
    // cannot be moved here and are reported as warnings, so they do not count against the proof.
    let in_manifests = RelocationProof { compiled_in: vec![], registries: vec![], ..proof.clone() };
    let is_proven = in_manifests.verdict() == ProofVerdict::Proven;
    (!is_proven).then(|| {
        CommandError::new(
            ErrorKind::Integrity,
            format!("some images could not be moved to {}:\n{}", target.prefix, message.trim_end()),
        )
        .with_hint("set the image's value with gantry relocate, or correct the chart's template")
    })
}

/// Writes the plugin for helm 4 and prints how to use it.
fn run_write_plugin(context: &CommandContext, folder: &Path) -> Result<()> {
    let file = write_plugin_files(folder, &environment::find_own_binary()?)?;
    context.ui.print_status(&format!(
        "{} written; use it in helm 4 with: --post-renderer gantry --post-renderer-args --site=site.yaml",
        file.display()
    ));
    Ok(())
}
