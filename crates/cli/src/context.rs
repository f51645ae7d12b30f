//! The global options, and the [`CommandContext`] that every subcommand receives: its folders, the user's
//! configuration, and the terminal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use etcetera::BaseStrategy;
use net::Credentials;
use remote::site_registry::RegistryConnection;
use types::config::UserConfig;
use types::site::RegistryTarget;

use crate::error::{CommandError, Result};
use crate::ui::{OutputFormat, Ui};

/// Options of every subcommand.
#[derive(Args, Clone)]
pub(crate) struct GlobalArgs {
    /// The folder that contains gantry.yaml and gantry.lock.
    #[arg(
        short = 'C',
        long = "directory",
        global = true,
        help_heading = "Global options",
        value_name = "DIR",
        default_value = "."
    )]
    pub(crate) directory: PathBuf,
    /// The folder of the local store [default: gantry/store in the user's data folder].
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "DIR",
        env = "GANTRY_STORE"
    )]
    pub(crate) store: Option<PathBuf>,
    /// The configuration file [default: gantry/config.yaml in the user's configuration folder].
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "FILE",
        env = "GANTRY_CONFIG"
    )]
    pub(crate) config: Option<PathBuf>,
    /// Do not verify the TLS certificates of servers. Whoever is in between can read and change
    /// everything; name single hosts in config.yaml instead (insecureSkipTlsVerify).
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) insecure_skip_tls_verify: bool,
    /// The format of results on standard output.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: OutputFormat,
    /// Print only results and errors.
    #[arg(short, long, global = true, help_heading = "Global options", conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print log messages about the work (given twice: about every request).
    #[arg(short, long, global = true, help_heading = "Global options", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What every subcommand receives.
pub(crate) struct CommandContext {
    /// The folder of gantry.yaml and gantry.lock (`-C`).
    pub(crate) directory: PathBuf,
    /// The user's configuration (config.yaml), defaults where there is none.
    pub(crate) config: UserConfig,
    /// The terminal.
    pub(crate) ui: Arc<Ui>,
    store: Option<PathBuf>,
}

impl CommandContext {
    /// Reads the configuration and sets up the terminal.
    ///
    /// # Errors
    ///
    /// The configuration cannot be read or is invalid, or the `-C` folder does not exist.
    pub(crate) fn new(args: GlobalArgs) -> Result<Self> {
        let ui = Arc::new(Ui::new(args.output, args.quiet, args.verbose));
        let mut config = read_config(args.config.as_deref())?;
        if args.insecure_skip_tls_verify {
            config.insecure_skip_tls_verify.push("*".to_owned());
        }
        // Without this check a mistyped folder would be reported as a missing gantry.yaml.
        if !args.directory.is_dir() {
            let shown = args.directory.display();
            return Err(CommandError::usage_error(format!(
                "-C {shown}: the folder does not exist"
            )));
        }
        Ok(Self { directory: args.directory, config, ui, store: args.store })
    }

    /// The path of the store's folder, whether it exists or not.
    pub(crate) fn store_path(&self) -> Result<PathBuf> {
        if let Some(path) = &self.store {
            return Ok(path.clone());
        }
        Ok(find_base_folders()?.data_dir().join("gantry").join("store"))
    }

    /// The folder in which unfinished uploads are noted. `None` without a home folder: then an upload
    /// that is interrupted starts again.
    pub(crate) fn uploads_path(&self) -> Option<PathBuf> {
        let folders = etcetera::choose_base_strategy().ok()?;
        let state = folders.state_dir().unwrap_or_else(|| folders.data_dir());
        Some(state.join("gantry").join("uploads"))
    }

    /// Opens the store; creates it if it does not exist.
    pub(crate) fn open_store(&self) -> Result<store::Store> {
        Ok(store::Store::open(&self.store_path()?)?)
    }

    /// Opens the store, or returns `None` if there is none yet. Never creates one.
    pub(crate) fn open_existing_store(&self) -> Result<Option<store::Store>> {
        let path = self.store_path()?;
        // Reading a store must not create an empty one: a mistyped `--store` would then look like a store
        // in which everything is missing.
        if path.exists() { Ok(Some(store::Store::open_existing(&path)?)) } else { Ok(None) }
    }

    /// An HTTP client as configured, which also trusts the certificate authorities in `ca`.
    /// `concurrency` overrides the configured number of parallel transfers.
    pub(crate) fn build_client(
        &self,
        concurrency: Option<usize>,
        ca: &[PathBuf],
    ) -> Result<net::Client> {
        let builder = net::Client::builder().user_config(&self.config).ca_files(ca.iter().cloned());
        let builder = match concurrency {
            Some(transfers) => builder.concurrency(transfers),
            None => builder,
        };
        Ok(builder.build()?)
    }

    /// A client and mirrors for a site's registry: the client trusts its certificate authority and
    /// uses the given credentials, the mirrors know whether it uses plain HTTP. `folder` is that of
    /// site.yaml, to which its paths are relative.
    pub(crate) fn build_site_registry_client(
        &self,
        registry: &RegistryTarget,
        folder: &Path,
        credentials: Credentials,
    ) -> Result<(net::Client, net::Mirrors)> {
        let registry = registry.with_paths_below(folder);
        let opened = RegistryConnection::new(&self.config, &registry, credentials, None)?;
        Ok((opened.client, opened.mirrors))
    }

    /// The configured mirrors.
    pub(crate) fn mirrors(&self) -> Result<net::Mirrors> {
        Ok(net::Mirrors::new(&self.config.mirrors, &self.config.plain_http)?)
    }

    /// The path of a file in the folder of gantry.yaml, without a `./` in front of it.
    pub(crate) fn resolve_file(&self, name: &str) -> PathBuf {
        if self.directory == Path::new(".") {
            return PathBuf::from(name);
        }
        self.directory.join(name)
    }
}

fn find_base_folders() -> Result<impl BaseStrategy> {
    etcetera::choose_base_strategy().map_err(|cause| {
        CommandError::usage_error(format!("cannot find the home folder: {cause}"))
            .with_hint("set HOME, or give --store DIR and --config FILE")
    })
}

fn read_config(given: Option<&Path>) -> Result<UserConfig> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => match etcetera::choose_base_strategy() {
            Ok(folders) => folders.config_dir().join("gantry").join("config.yaml"),
            // Without a home folder (in a container, say) there is no configuration to read.
            Err(_) => return Ok(UserConfig::default()),
        },
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(UserConfig::parse(&path.display().to_string(), &text)?),
        Err(error) if given.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            Ok(UserConfig::default())
        }
        Err(error) => {
            Err(CommandError::usage_error(format!("cannot read {}: {error}", path.display()))
                .with_hint("check the path given with --config or GANTRY_CONFIG"))
        }
    }
}
