//! `gantry render namespace`: what the site gives to a namespace, as plain manifests.

use std::path::PathBuf;

use deploy::release::{SecretManifests, SiteNamespaceObjects, SiteObjects};
use net::Credentials;
use policy::Namespace;
use serde::Serialize;
use serde_json::Value;
use types::site::site_folder;

use crate::commands::manifest_output::{
    self, ManifestOutputArgs, WrittenObject, describe_objects, format_objects,
};
use crate::context::CommandContext;
use crate::environment;
use crate::error::Result;

/// Write manifests without a cluster.
#[derive(clap::Subcommand)]
pub(crate) enum RenderCommand {
    Namespace(RenderNamespaceArgs),
}

impl RenderCommand {
    /// The path of `--site`.
    pub(super) fn site_mut(&mut self) -> &mut PathBuf {
        match self {
            Self::Namespace(args) => &mut args.site,
        }
    }
}

/// Runs `gantry render`.
pub(crate) fn run_command(context: &CommandContext, command: &RenderCommand) -> Result<()> {
    match command {
        RenderCommand::Namespace(args) => run(context, args),
    }
}

/// Write what the site gives to a namespace as manifests: pull secret, CA, service accounts, policies.
///
/// The same as `gantry deploy` writes to the namespaces of site.yaml (`namespaces:`), for kubectl or a Git
/// repository. The namespace does not need to be listed there. Service accounts are written with the pull
/// secret alone: with server-side apply their other fields stay.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry render namespace ml-jobs --site site.yaml | kubectl apply --server-side -f -
  gantry render namespace ml-jobs notebooks --site site.yaml --registry-auth pull.json -o namespaces.yaml
  gantry render namespace ml-jobs --site site.yaml --without-secrets -o namespace.yaml   # for Git")]
pub(crate) struct RenderNamespaceArgs {
    /// The namespaces.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Namespace>,
    /// The site file (site.yaml): its pull secret, CA, caObjects and namespaces.
    #[arg(long, value_name = "FILE")]
    pub(super) site: PathBuf,
    /// A docker config.json with the credential for the pull secret [default: those of docker and
    /// podman].
    #[arg(long, value_name = "FILE")]
    registry_auth: Option<PathBuf>,
    /// Leave out Secrets, which a repository must not have in plain text.
    #[arg(long)]
    without_secrets: bool,
    /// Label the namespaces to enforce this Pod Security level: privileged, baseline or restricted.
    #[arg(long, value_name = "LEVEL", value_parser = ["privileged", "baseline", "restricted"])]
    pod_security: Option<String>,
    #[command(flatten)]
    target: ManifestOutputArgs,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenderNamespaceSummary {
    objects: Vec<WrittenObject>,
    /// The file; absent if the manifests are printed.
    #[serde(rename = "file", skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    /// The manifests, if they are not written to a file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

fn run(context: &CommandContext, args: &RenderNamespaceArgs) -> Result<()> {
    args.target.check_path()?;
    let site = environment::read_site(&args.site)?;
    let credentials =
        args.registry_auth.as_deref().map_or_else(Credentials::from_system, Credentials::from_file);
    let objects = SiteObjects {
        pod_security: args.pod_security.clone(),
        ..SiteObjects::of_site(&site, site_folder(&args.site), &credentials)?
    };
    let objects = SiteNamespaceObjects::of_site(&site, objects)?;
    let secrets = match args.without_secrets {
        true => SecretManifests::LeftOut,
        false => SecretManifests::Included,
    };
    let mut manifests = Vec::new();
    for name in &args.names {
        manifests.extend(objects.build_manifests(name.as_str(), secrets)?);
    }
    args.target.write_manifests(context, &build_header(secrets), &manifests)?;
    manifest_output::warn_about_system_namespaces(context, &args.names);
    let file = args.target.file().map(|path| path.display().to_string());
    let summary = RenderNamespaceSummary {
        objects: describe_objects(&manifests),
        manifests: if file.is_none() { manifests } else { vec![] },
        written: file,
    };
    match summary.written.is_some() || context.ui.is_json() {
        true => context.ui.print_result(&summary, format_summary),
        false => Ok(()),
    }
}

/// The lines of the comment in front of the manifests.
fn build_header(secrets: SecretManifests) -> Vec<String> {
    let mut lines = vec![
        "Written by `gantry render namespace`; apply it with: kubectl apply --server-side -f FILE"
            .to_owned(),
    ];
    if secrets == SecretManifests::Included {
        lines.push("The pull secret in it has the registry's password.".to_owned());
    }
    lines
}

fn format_summary(summary: &RenderNamespaceSummary) -> String {
    let mut text = format_objects(&summary.objects);
    if let Some(file) = &summary.written {
        text.push_str(&format!(
            "{file} written; apply it with: kubectl apply --server-side -f {file}\n"
        ));
    }
    text
}
