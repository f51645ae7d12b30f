//! Where the manifests of policies and of the webhook are written, and what is said about them.

use std::path::{Path, PathBuf};

use policy::Namespace;
use serde::Serialize;
use serde_json::Value;

use crate::context::CommandContext;
use crate::environment;
use crate::error::Result;
use crate::output_files::{OutputKind, OverwriteArgs};

/// The option for where manifests are written.
#[derive(clap::Args)]
pub(super) struct ManifestOutputArgs {
    /// The file to write the manifests to [default: standard output].
    #[arg(
        short = 'o',
        long = "out",
        value_name = "FILE",
        default_value = "-",
        hide_default_value = true
    )]
    out: PathBuf,
    #[command(flatten)]
    overwrite: OverwriteArgs,
}

/// An object in the written manifests, by kind and name.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenObject {
    pub(super) kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl ManifestOutputArgs {
    /// The file, or `None` for standard output.
    pub(super) fn file(&self) -> Option<&Path> {
        (self.out != Path::new("-")).then_some(&*self.out)
    }

    /// Checks the path before any work is done.
    pub(super) fn check_path(&self) -> Result<()> {
        self.overwrite.check_file(&self.out, OutputKind::Manifests)
    }

    /// Writes the manifests to the file or to standard output, with `about` as a comment in front. With
    /// `--output json` standard output carries the JSON result instead, which contains them.
    pub(super) fn write_manifests(
        &self,
        context: &CommandContext,
        about: &[String],
        manifests: &[Value],
    ) -> Result<()> {
        let text = policy::format_manifests(about, manifests)?;
        match self.file() {
            Some(path) => environment::write_file(path, &text),
            None if context.ui.is_json() => Ok(()),
            None => context.ui.print_document(&text),
        }
    }
}

/// The objects in manifests.
pub(super) fn describe_objects(manifests: &[Value]) -> Vec<WrittenObject> {
    let text = |manifest: &Value, pointer: &str| {
        manifest.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
    };
    let objects = manifests.iter().map(|manifest| WrittenObject {
        kind: text(manifest, "/kind").unwrap_or_default(),
        namespace: text(manifest, "/metadata/namespace"),
        name: text(manifest, "/metadata/name").unwrap_or_default(),
    });
    objects.collect()
}

/// The objects as lines of `KIND NAMESPACE/NAME`.
pub(super) fn format_objects(objects: &[WrittenObject]) -> String {
    let line = |object: &WrittenObject| {
        let namespace = object.namespace.as_deref().map(|n| format!("{n}/")).unwrap_or_default();
        format!("{} {namespace}{}\n", object.kind, object.name)
    };
    objects.iter().map(line).collect()
}

/// Warns about a policy for the namespaces of Kubernetes itself: a cluster whose own pods are refused or
/// cut off does not recover by itself.
pub(super) fn warn_about_system_namespaces(context: &CommandContext, namespaces: &[Namespace]) {
    let system: Vec<String> = namespaces
        .iter()
        .filter(|namespace| namespace.is_system())
        .map(Namespace::to_string)
        .collect();
    context.ui.print_grouped_warning(
        "this namespace is the cluster's own: its DNS, its network and its controllers run there, and a \
         policy that refuses or cuts off one of them breaks every namespace; try it with --dry-run=server \
         of kubectl and in a test cluster first",
        &system,
    );
}
