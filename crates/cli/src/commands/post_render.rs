//! `gantry post-render`: helm's post-renderer. What helm rendered comes in by stdin and goes out by
//! stdout with every image moved to the site and nothing else touched; it is proven before the
//! first byte goes out, so that helm installs all of it or nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use chart::Rules;
use chart::post_render::{self, PostRendered};
use chart::relocate::{Locked, Proof, Target, Verdict};
use chart::wiring::Patches;
use types::naming::{Naming, Prefix};

use crate::context::Context;
use crate::error::{CommandError, Kind, Result};
use crate::world;

/// Move the images of rendered manifests to the site, between helm and the cluster.
///
/// Reads manifests from standard input and writes them to standard output with every reference that
/// points outside moved to its name at the site: in pods, custom resources, arguments, environment,
/// and in the texts of ConfigMaps and Secrets. Everything else stays byte for byte. The result is
/// read again before it is written: where anything still points outside, nothing is written and the
/// exit code is 3. Images that are the site's already stay. Where there is a gantry.lock, every
/// image must be in it. With --patches, what keeps runtimes inside and no value reaches is put in
/// first, in place as well.
///
/// Helm 3 runs it as it is; it keeps hooks and the crds/ folder to itself. Helm 4 takes a plugin,
/// which --write-plugin writes, and hands its hooks over too.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  kustomize build . | gantry post-render --site site.yaml | kubectl apply -f -
  helm upgrade --install app ./my-chart -f overlay.yaml \\
    --post-renderer gantry --post-renderer-args post-render --post-renderer-args --site=site.yaml
  gantry post-render --write-plugin \"$(helm env HELM_PLUGINS)/gantry\"       # helm 4, once
  helm upgrade --install app ./my-chart -f overlay.yaml \\
    --post-renderer gantry --post-renderer-args --site=site.yaml              # helm 4")]
pub(crate) struct Args {
    /// The site's description: its registry and naming.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["to", "write_plugin"],
        conflicts_with = "to"
    )]
    site: Option<PathBuf>,
    /// The site's registry with an optional path (host[:port][/path]).
    #[arg(long, value_name = "REGISTRY")]
    to: Option<Prefix>,
    /// How names at the registry are made: path, host-path or name.
    #[arg(long, value_name = "NAMING", conflicts_with = "site")]
    naming: Option<Naming>,
    /// The lock that every image must be in [default: gantry.lock, where there is one].
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Apply these patches too: what `gantry relocate --offline --patches` wrote for this chart.
    #[arg(long, value_name = "FILE")]
    patches: Option<PathBuf>,
    /// Write an error to this file too: helm 4 shows nothing of what a plugin says.
    #[arg(long, value_name = "FILE")]
    error_file: Option<PathBuf>,
    /// Write helm 4's plugin into this folder, and do nothing else.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["site", "to", "naming", "lock", "patches", "error_file"])]
    write_plugin: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<()> {
    if let Some(folder) = &args.write_plugin {
        return write_plugin(context, folder);
    }
    let outcome = moved(context, args).and_then(|stream| context.ui.bytes(stream.as_bytes()));
    let Some(path) = &args.error_file else { return outcome };
    match &outcome {
        // What an earlier run left there is not about this one.
        Ok(()) if path.exists() => world::write(path, "")?,
        Ok(()) => {}
        Err(error) => world::write(path, &error.text())?,
    }
    outcome
}

fn moved(context: &Context, args: &Args) -> Result<String> {
    let target = target(args)?;
    let lock = match &args.lock {
        Some(path) => Some(world::lock_at(path)?),
        None => world::optional_lock(context)?,
    };
    let locked = lock.as_ref().map(Locked::from);
    let rules = match world::optional_input(context)? {
        Some(input) => Rules::of_input(&input),
        None => Rules::builtin().clone(),
    };
    let stream =
        world::manifests("helm template app ./my-chart | gantry post-render --site site.yaml")?;
    let stream = match &args.patches {
        Some(path) => patched(path, &stream)?,
        None => stream,
    };
    let post = post_render::post_render_with(&stream, &target, &rules, locked.as_ref())?;
    if let Some(error) = refusal(&post, &target) {
        return Err(error);
    }
    for compiled in &post.proof.compiled_in {
        context.ui.warn(&format!(
            "{} will be pulled for {}, and stands in no manifest ({}); the files for nodes reach it: gantry relocate … --mirrors DIR",
            compiled.image, compiled.place, compiled.why
        ));
    }
    Ok(post.stream)
}

/// The stream with the patches of a file; a patch that does not fit keeps helm from installing.
fn patched(path: &Path, stream: &str) -> Result<String> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|cause| {
        CommandError::usage(format!("cannot read {shown}: {cause}"))
            .hint("write it with: gantry relocate CHART --site site.yaml --offline --patches FILE")
    })?;
    let patches = Patches::read(&shown, &text)?;
    patches.apply(stream).map_err(|error| CommandError::new(Kind::Integrity, error.to_string()))
}

fn target(args: &Args) -> Result<Target> {
    match (&args.site, &args.to) {
        (Some(path), _) => {
            let registry = world::site(path)?.registry;
            Ok(Target {
                prefix: registry.prefix()?,
                naming: registry.naming,
                pull_secret: registry.pull_secret,
            })
        }
        (None, Some(prefix)) => Ok(Target {
            prefix: prefix.clone(),
            naming: args.naming.unwrap_or_default(),
            pull_secret: None,
        }),
        (None, None) => Err(CommandError::usage("give --site or --to")),
    }
}

/// Why a stream is not handed on, if it is not.
fn refusal(post: &PostRendered, target: &Target) -> Option<CommandError> {
    let proof = &post.proof;
    if let Some(first) = proof.not_locked.first() {
        let mut message = String::new();
        for missing in &proof.not_locked {
            let _ = writeln!(message, "{} is not in the lock ({})", missing.image, missing.place);
        }
        return Some(
            CommandError::new(Kind::Integrity, message.trim_end()).hint(format!(
                "the site has it when it was carried: add {} to gantry.yaml's images, then gantry lock, fetch, pack and load",
                first.image
            )),
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
        let _ =
            writeln!(message, "{} in {} is no image: {}", broken.text, broken.place, broken.reason);
    }
    for change in &proof.changes {
        let _ = writeln!(message, "{} would change, and is no image", change.place);
    }
    // Only what operators pull by themselves is out of this verb's reach.
    let is_proven = Proof { compiled_in: vec![], ..proof.clone() }.verdict() == Verdict::Proven;
    (!is_proven).then(|| {
        CommandError::new(
            Kind::Integrity,
            format!("not all of it could be moved to {}:\n{}", target.prefix, message.trim_end()),
        )
        .hint("set the value behind it with gantry relocate, or mend the template")
    })
}

/// Writes helm 4's plugin and says how it is used.
fn write_plugin(context: &Context, folder: &Path) -> Result<()> {
    let file = plugin(folder)?;
    context.ui.status(&format!(
        "{} written; helm 4 runs it with: --post-renderer gantry --post-renderer-args --site=site.yaml",
        file.display()
    ));
    Ok(())
}

/// Writes what helm 4 needs: a plugin of type postrenderer/v1 that runs this binary. Its file.
pub(crate) fn plugin(folder: &Path) -> Result<PathBuf> {
    let failed = |path: &Path, cause: std::io::Error| {
        CommandError::failed(format!("cannot write {}: {cause}", path.display()))
    };
    let own = world::own_binary()?;
    let text = PLUGIN.replace("VERSION", env!("CARGO_PKG_VERSION"));
    let file = folder.join("plugin.yaml");
    world::write_deep(&file, &text)?;
    // Helm cuts a command at its blanks; a link beside the plugin has a path without any of ours.
    let link = folder.join("gantry");
    if fs::symlink_metadata(&link).is_ok() {
        fs::remove_file(&link).map_err(|cause| failed(&link, cause))?;
    }
    std::os::unix::fs::symlink(own, &link).map_err(|cause| failed(&link, cause))?;
    Ok(file)
}

/// Helm 4's `plugin.yaml` (helm.sh/docs, plugins; `internal/plugin/metadata_v1.go`).
const PLUGIN: &str = "\
# Written by `gantry post-render --write-plugin`. It runs the gantry that wrote it.
# Helm 4 shows nothing of what a plugin says: when it fails, look into error.txt beside this file.
apiVersion: v1
name: gantry
version: VERSION
type: postrenderer/v1
runtime: subprocess
runtimeConfig:
  platformCommand:
    - command: ${HELM_PLUGIN_DIR}/gantry
      args: [post-render, --error-file, \"${HELM_PLUGIN_DIR}/error.txt\"]
";
