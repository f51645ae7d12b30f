//! `gantry doctor`: examines this machine before the work: helm, store, proxies, credentials, clocks, and
//! the registries that gantry.yaml or a site needs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use net::Credentials;
use remote::doctor::{self, DoctorFinding, DoctorStatus};
use serde::Serialize;
use types::input::{ChartSource, Input, InputModel};
use types::site::site_folder;

use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::{environment, ui};

/// The Hub's address unless the configuration or HF_ENDPOINT names another.
const HUB: &str = "https://huggingface.co";
/// The address of the Ollama registry.
const OLLAMA: &str = "https://registry.ollama.ai";

/// Examine this machine: helm, the store and its disk, proxies, credentials, clocks, and whether the
/// registries are reached.
///
/// With internet access, it asks the servers that gantry.yaml names: registries, chart repositories, the
/// Hugging Face Hub, Ollama. With --site it asks the site's registry instead. Nothing is changed, and no
/// password is printed. Exit code 1 if something will not do.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry doctor                                   # in the folder of gantry.yaml
  gantry doctor --site site.yaml                  # inside the air gap
  gantry doctor --host registry.corp:5000         # and one more registry
  gantry doctor --output json | jq '.findings[] | select(.status != \"ok\")'")]
pub(crate) struct DoctorArgs {
    /// The site file (site.yaml): ask its registry, and not the servers of gantry.yaml.
    #[arg(long, value_name = "FILE")]
    pub(super) site: Option<PathBuf>,
    /// A registry to ask besides; may be given several times.
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Vec<String>,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct DoctorReport {
    findings: Vec<DoctorFinding>,
}

/// The servers to ask.
#[derive(Default)]
struct DoctorServers {
    registries: BTreeSet<String>,
    /// Names and addresses.
    others: BTreeSet<(String, String)>,
}

pub(crate) fn run(context: &CommandContext, args: &DoctorArgs) -> Result<()> {
    let mut findings = vec![doctor::examine_helm(), doctor::examine_store(&context.store_path()?)];
    findings.extend(doctor::examine_proxies(|name| std::env::var(name).ok()));
    let mirrors = context.mirrors()?;
    let client = context.build_client(None, &[])?;
    let servers = list_servers(context, args)?;
    let site = match &args.site {
        Some(path) => {
            let registry = environment::read_site(path)?.registry;
            let host = registry.parse_prefix()?.registry().to_owned();
            let folder = site_folder(path);
            let credentials = Credentials::from_system();
            Some((host, context.build_site_registry_client(&registry, folder, credentials)?))
        }
        None => None,
    };
    let credentials = Credentials::from_system();
    let asked = environment::block_on(async {
        let mut asked = Vec::new();
        if let Some((host, (client, mirrors))) = &site {
            asked.extend(doctor::examine_registry(client, mirrors, &credentials, host).await);
        }
        for host in &servers.registries {
            asked.extend(doctor::examine_registry(&client, &mirrors, &credentials, host).await);
        }
        for (name, url) in &servers.others {
            asked.extend(doctor::examine_server(&client, name, url).await);
        }
        Ok(asked)
    })?;
    findings.extend(asked);
    let report = DoctorReport { findings };
    context.ui.print_result(&report, format_report)?;
    let failed: Vec<&str> = report
        .findings
        .iter()
        .filter(|finding| finding.status == DoctorStatus::Failed)
        .map(|finding| finding.subject.as_str())
        .collect();
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(CommandError::failure(format!("not ready: {}", failed.join(", ")))
            .with_hint("what to do about each is listed above")),
    }
}

fn list_servers(context: &CommandContext, args: &DoctorArgs) -> Result<DoctorServers> {
    let mut servers = DoctorServers::default();
    servers.registries.extend(args.host.iter().cloned());
    let input = match args.site {
        Some(_) => None,
        None => environment::read_optional_input(context)?,
    };
    if let Some(input) = &input {
        add_servers_of_input(context, input, &mut servers)?;
    }
    Ok(servers)
}

/// Adds the servers that an input names.
fn add_servers_of_input(
    context: &CommandContext,
    input: &Input,
    servers: &mut DoctorServers,
) -> Result<()> {
    let mirrors = context.mirrors()?;
    servers
        .registries
        .extend(input.images.iter().map(|image| image.reference.registry().to_owned()));
    for chart in &input.charts {
        match &chart.source {
            ChartSource::Oci { repository } => {
                let host = repository.split('/').next().unwrap_or(repository);
                servers.registries.insert(host.to_owned());
            }
            ChartSource::Repository { url, .. } => {
                servers.others.extend(split_server(&url.to_string()));
            }
            ChartSource::Local(_) => {}
        }
    }
    for model in &input.models {
        let (name, default) = match model {
            InputModel::Hub { .. } => {
                ("hf", std::env::var("HF_ENDPOINT").unwrap_or_else(|_| HUB.to_owned()))
            }
            InputModel::Ollama { .. } => ("ollama", OLLAMA.to_owned()),
            InputModel::Url { url, .. } => {
                servers.others.extend(split_server(&url.to_string()));
                continue;
            }
            InputModel::ImagePath { image, .. } => {
                servers.registries.insert(image.registry().to_owned());
                continue;
            }
        };
        let base = mirrors.service_endpoint(name, &default)?.base;
        servers.others.insert((name.to_owned(), base));
    }
    Ok(())
}

/// The host of an address, and the address of its server alone: the rest may have secrets in it.
fn split_server(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    Some((host.to_owned(), format!("{scheme}://{host}/")))
}

fn format_report(report: &DoctorReport) -> String {
    let rows = report.findings.iter().map(|finding| {
        let detail = match finding.next.is_empty() {
            true => finding.detail.clone(),
            false => format!("{}; next: {}", finding.detail, finding.next),
        };
        [finding.status.as_str().to_owned(), finding.subject.clone(), detail]
    });
    ui::format_table(["", "subject", "found"], rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_the_server_is_asked_and_told() {
        let split =
            |url: &str| split_server(url).map(|(host, address)| format!("{host} {address}"));
        assert_eq!(
            split("https://user:pw@charts.example:8443/stable?token=x").as_deref(),
            Some("charts.example:8443 https://charts.example:8443/")
        );
        assert_eq!(split("no address"), None);
    }
}
