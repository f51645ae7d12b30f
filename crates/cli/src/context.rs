//! The global options, and the [`CommandContext`] that every subcommand receives: its folders, the user's
//! configuration, and the terminal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use etcetera::BaseStrategy;
use net::Credentials;
use remote::site_registry::RegistryConnection;
use types::config::{LEAST_BANDWIDTH, MAX_ATTEMPTS, UserConfig};
use types::site::RegistryTarget;
use types::{ByteSize, GoDuration};

use crate::error::{CommandError, Result};
use crate::ui::{LogFormat, LogSettings, OutputFormat, Ui};
use crate::value_parsers::{HOUR, SECOND, duration_within};

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
    /// Append log messages to this file instead of standard error, also with --quiet.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "FILE",
        env = "GANTRY_LOG_FILE"
    )]
    pub(crate) log_file: Option<PathBuf>,
    /// The format of log messages.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
}

/// Limits of transfers, for commands that move much. The configuration file has the same.
#[derive(Args, Clone, Default)]
pub(crate) struct LimitArgs {
    /// Attempts of a request in all, 1 to 100 [default: `retries` of the configuration, else 6].
    #[arg(long, value_name = "N", help_heading = "Network options", value_parser = parse_attempts)]
    retries: Option<u16>,
    /// How long a transfer may go without a byte before it counts as failed (30s, 2m) [default: `timeout`
    /// of the configuration, else 30s].
    #[arg(long, value_name = "TIME", help_heading = "Network options", value_parser = duration_within(SECOND..=HOUR))]
    timeout: Option<Duration>,
    #[command(flatten)]
    bandwidth: BandwidthArgs,
}

/// The limit of bandwidth, for every command that moves much.
#[derive(Args, Clone, Default)]
pub(crate) struct BandwidthArgs {
    /// The most bytes per second, all transfers together (10MiB) [default: `bandwidth` of the
    /// configuration, else no limit].
    #[arg(long, value_name = "SIZE", help_heading = "Network options", value_parser = parse_bandwidth)]
    bandwidth: Option<ByteSize>,
}

fn parse_attempts(text: &str) -> Result<u16, String> {
    let attempts = text.parse::<u16>().ok().filter(|count| *count >= 1);
    let attempts = attempts.filter(|count| u32::from(*count) <= MAX_ATTEMPTS);
    attempts.ok_or_else(|| format!("write a whole number from 1 to {MAX_ATTEMPTS}"))
}

fn parse_bandwidth(text: &str) -> Result<ByteSize, String> {
    let limit: ByteSize = text.parse().map_err(|error: types::Error| error.to_string())?;
    match limit < LEAST_BANDWIDTH {
        true => {
            Err(format!("write a size per second of at least {LEAST_BANDWIDTH}, such as 10MiB"))
        }
        false => Ok(limit),
    }
}

/// What every subcommand receives.
#[derive(Clone)]
pub(crate) struct CommandContext {
    /// The folder of gantry.yaml, gantry.lock and site.yaml (`-C`).
    pub(crate) directory: PathBuf,
    /// The user's configuration (config.yaml), defaults where there is none.
    pub(crate) config: UserConfig,
    /// The file that the configuration was read from; `None` if there is none.
    pub(crate) config_file: Option<PathBuf>,
    /// The file that `--config` or GANTRY_CONFIG names.
    pub(crate) given_config: Option<PathBuf>,
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
        let log = LogSettings { file: args.log_file.as_deref(), format: args.log_format };
        let ui = Arc::new(Ui::new(args.output, args.quiet, args.verbose, &log)?);
        let (mut config, config_file) = read_config(args.config.as_deref())?;
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
        let (directory, store) = (args.directory, args.store);
        Ok(Self { directory, config, config_file, given_config: args.config, ui, store })
    }

    /// The store's folder, if `--store` or GANTRY_STORE names one.
    pub(crate) fn given_store(&self) -> Option<&Path> {
        self.store.as_deref()
    }

    /// The same, with the limits of transfers that the command line gives instead of the configured ones.
    pub(crate) fn with_limits(&self, limits: &LimitArgs) -> Self {
        let mut context = self.with_bandwidth(&limits.bandwidth);
        context.config.retries = limits.retries.map(u32::from).or(context.config.retries);
        context.config.timeout = limits.timeout.map(GoDuration).or(context.config.timeout);
        context
    }

    /// The same, with the bandwidth that the command line gives instead of the configured one.
    pub(crate) fn with_bandwidth(&self, limit: &BandwidthArgs) -> Self {
        let mut context = self.clone();
        context.config.bandwidth = limit.bandwidth.or(context.config.bandwidth);
        context
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
    pub(crate) fn uploads_path() -> Option<PathBuf> {
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

    /// The path of a file of the project that an argument names. It is relative to the `-C` folder, or
    /// to the working folder where it exists only there.
    pub(crate) fn resolve_project_file(&self, file: &Path) -> PathBuf {
        if self.directory == Path::new(".") {
            return file.to_owned();
        }
        let own = self.directory.join(file);
        if !own.exists() && file.exists() { file.to_owned() } else { own }
    }
}

fn find_base_folders() -> Result<impl BaseStrategy> {
    etcetera::choose_base_strategy().map_err(|cause| {
        CommandError::usage_error(format!("cannot find the home folder: {cause}"))
            .with_hint("set HOME, or give --store DIR and --config FILE")
    })
}

/// The configuration, and the file that it is from.
fn read_config(given: Option<&Path>) -> Result<(UserConfig, Option<PathBuf>)> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => match etcetera::choose_base_strategy() {
            Ok(folders) => folders.config_dir().join("gantry").join("config.yaml"),
            // Without a home folder (in a container, say) there is no configuration to read.
            Err(_) => return Ok((UserConfig::default(), None)),
        },
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok((UserConfig::parse(&path.display().to_string(), &text)?, Some(path))),
        Err(error) if given.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            Ok((UserConfig::default(), None))
        }
        Err(error) => {
            Err(CommandError::usage_error(format!("cannot read {}: {error}", path.display()))
                .with_hint("check the path given with --config or GANTRY_CONFIG"))
        }
    }
}
