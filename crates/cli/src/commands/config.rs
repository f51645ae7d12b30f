//! `gantry config show`: the settings that are in effect on this machine, and where each is from.

use std::path::{Path, PathBuf};

use net::HttpRequest;
use serde::Serialize;

use crate::context::CommandContext;
use crate::error::Result;
use crate::ui;

/// Show the configuration of this machine.
#[derive(clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// List the settings that are in effect, and where each is from: an option, a variable of the
    /// environment, config.yaml, or the default.
    ///
    /// Passwords and tokens are not printed.
    #[command(after_long_help = "\
Examples:
  gantry config show
  gantry config show --config ./config.yaml
  gantry config show --output json | jq -r '.settings[] | select(.origin != \"default\") | .name'")]
    Show,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct ConfigListing {
    settings: Vec<ConfigSetting>,
}

#[derive(Serialize, schemars::JsonSchema)]
struct ConfigSetting {
    name: String,
    value: String,
    /// An option (`--store`), a variable (`GANTRY_STORE`), the path of config.yaml, or `default`.
    origin: String,
}

/// Variables of the environment that Gantry reads, beside those of its own options.
const VARIABLES: [&str; 13] = [
    "GANTRY_HELM",
    "GANTRY_LOG",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "DOCKER_CONFIG",
    "REGISTRY_AUTH_FILE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "KUBECONFIG",
    "TMPDIR",
];
/// Of these it is only told that they are set.
const SECRETS: [&str; 1] = ["HF_TOKEN"];

const DEFAULT: &str = "default";

pub(crate) fn run(context: &CommandContext, command: &ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Show => show_settings(context),
    }
}

fn show_settings(context: &CommandContext) -> Result<()> {
    let listing = ConfigListing { settings: list_settings(context)? };
    context.ui.print_result(&listing, |listing| {
        let rows = listing.settings.iter();
        let rows =
            rows.map(|found| [found.name.clone(), found.value.clone(), found.origin.clone()]);
        ui::format_table(["setting", "value", "from"], rows.collect())
    })
}

fn list_settings(context: &CommandContext) -> Result<Vec<ConfigSetting>> {
    let config = &context.config;
    let file = context.config_file.as_deref();
    let from_file = file.map_or(DEFAULT.to_owned(), |path| path.display().to_string());
    let origin = |is_set: bool| if is_set { from_file.clone() } else { DEFAULT.to_owned() };
    let setting = |name: &str, value: String, origin: String| ConfigSetting {
        name: name.to_owned(),
        value,
        origin,
    };
    let none = || "none".to_owned();
    let given = |variable: &str, option: &str, path: Option<&Path>| match path {
        Some(path) if std::env::var_os(variable).is_some_and(|value| value == path.as_os_str()) => {
            variable.to_owned()
        }
        Some(_) => option.to_owned(),
        None => DEFAULT.to_owned(),
    };
    let store = context.store_path()?.display().to_string();
    let mut settings = vec![
        setting(
            "config file",
            file.map_or_else(none, |path| path.display().to_string()),
            given("GANTRY_CONFIG", "--config", context.given_config.as_deref()),
        ),
        setting("store", store, given("GANTRY_STORE", "--store", context.given_store())),
        setting(
            "concurrency",
            config.concurrency.map_or_else(|| "6, load: 4".to_owned(), |count| count.to_string()),
            origin(config.concurrency.is_some()),
        ),
        setting("ca", join_paths(&config.ca), origin(!config.ca.is_empty())),
        setting(
            "plainHttp",
            if config.plain_http.is_empty() { none() } else { config.plain_http.join(", ") },
            origin(!config.plain_http.is_empty()),
        ),
    ];
    for (host, address) in &config.mirrors {
        settings.push(setting(
            &format!("mirrors.{host}"),
            hide_secrets(address),
            from_file.clone(),
        ));
    }
    for name in VARIABLES {
        let Ok(value) = std::env::var(name) else { continue };
        if value.is_empty() {
            continue;
        }
        let shown = match SECRETS.contains(&name) {
            true => "set, not shown".to_owned(),
            false => hide_secrets(&value),
        };
        settings.push(setting(name, shown, "environment".to_owned()));
    }
    Ok(settings)
}

fn join_paths(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// An address without the name and password and without the query in it; other text as it is.
fn hide_secrets(text: &str) -> String {
    match text.contains("://").then(|| HttpRequest::get(text)) {
        Some(Ok(request)) => request.redacted_url(),
        _ => text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_not_shown() {
        assert_eq!(hide_secrets("https://a:hunter2@proxy.corp/x?token=y"), "https://proxy.corp/x");
        assert_eq!(hide_secrets("a:hunter2@proxy.corp:3128"), "proxy.corp:3128");
        assert_eq!(hide_secrets("/etc/ssl/ca.pem"), "/etc/ssl/ca.pem");
        assert_eq!(hide_secrets("localhost,.internal"), "localhost,.internal");
    }
}
