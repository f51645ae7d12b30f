//! `gantry resolve`: looks up DNS names. Hidden; `gantry check` runs it in a pod, to find out whether names
//! resolve there.

use serde::Serialize;

use crate::context::CommandContext;
use crate::error::{CommandError, Result};
use crate::{environment, ui};

/// Look up the addresses of DNS names, as this machine resolves them.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  gantry resolve kubernetes.default registry.internal --output json")]
pub(crate) struct ResolveArgs {
    /// A DNS name.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// The result.
#[derive(Serialize, schemars::JsonSchema)]
pub(crate) struct NameLookups {
    names: Vec<NameLookup>,
}

#[derive(Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NameLookup {
    name: String,
    addresses: Vec<String>,
    #[serde(rename = "failure", skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(context: &CommandContext, args: &ResolveArgs) -> Result<()> {
    let names = environment::block_on(async {
        let mut all = Vec::new();
        for name in &args.names {
            all.push(look_up_name(name).await);
        }
        Ok(all)
    })?;
    let all = NameLookups { names };
    context.ui.print_result(&all, |all| {
        let row = |one: &NameLookup| {
            let answer = one.error.clone().unwrap_or_else(|| one.addresses.join(", "));
            [one.name.clone(), answer]
        };
        ui::format_rows(all.names.iter().map(row).collect())
    })?;
    let unknown: Vec<&str> =
        all.names.iter().filter(|one| one.error.is_some()).map(|one| one.name.as_str()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(CommandError::failure(format!("{} could not be resolved", unknown.join(", ")))
        .with_hint("check /etc/resolv.conf and the name servers in it"))
}

async fn look_up_name(name: &str) -> NameLookup {
    // The system's resolver (getaddrinfo) with its search domains, as programs in the pod use it.
    // Port 0 is a placeholder that the call requires.
    let found = tokio::net::lookup_host((name, 0)).await;
    let (mut addresses, error) = match found {
        Ok(found) => (found.map(|address| address.ip().to_string()).collect(), None),
        Err(cause) => (Vec::new(), Some(cause.to_string())),
    };
    addresses.sort();
    addresses.dedup();
    NameLookup { name: name.to_owned(), addresses, error }
}
