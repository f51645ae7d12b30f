//! What every verb gets: where things are, the user's configuration, the terminal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use etcetera::BaseStrategy;
use net::Credentials;
use types::config::Config;
use types::site::Registry;

use crate::error::{CommandError, Result};
use crate::ui::Ui;

/// Options that every verb takes.
#[derive(Args, Clone)]
pub(crate) struct GlobalArgs {
    /// The folder with gantry.yaml and gantry.lock.
    #[arg(
        short = 'C',
        long = "directory",
        global = true,
        help_heading = "Global options",
        value_name = "DIR",
        default_value = "."
    )]
    pub(crate) directory: PathBuf,
    /// The store's folder [default: gantry/store in the user's data folder].
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
    /// How results are printed.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Output,
    /// Errors and results only.
    #[arg(short, long, global = true, help_heading = "Global options", conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say what is done and asked for (twice: every request).
    #[arg(short, long, global = true, help_heading = "Global options", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs; the schema is stable.
    Json,
}

/// What every verb gets.
pub(crate) struct Context {
    /// The folder with gantry.yaml.
    pub(crate) directory: PathBuf,
    /// The user's configuration.
    pub(crate) config: Config,
    /// The terminal.
    pub(crate) ui: Arc<Ui>,
    store: Option<PathBuf>,
}

impl Context {
    /// Reads the configuration and looks at the terminal.
    pub(crate) fn new(args: GlobalArgs) -> Result<Self> {
        let ui = Arc::new(Ui::new(args.output, args.quiet, args.verbose));
        let config = read_config(args.config.as_deref())?;
        if !args.directory.is_dir() {
            let shown = args.directory.display();
            return Err(CommandError::usage(format!("-C {shown}: there is no such folder")));
        }
        Ok(Self { directory: args.directory, config, ui, store: args.store })
    }

    /// The store's folder.
    pub(crate) fn store_path(&self) -> Result<PathBuf> {
        if let Some(path) = &self.store {
            return Ok(path.clone());
        }
        Ok(base_folders()?.data_dir().join("gantry").join("store"))
    }

    /// The store, made if it is not there yet.
    pub(crate) fn store(&self) -> Result<store::Store> {
        Ok(store::Store::open(&self.store_path()?)?)
    }

    /// The store, or `None` when there is none yet.
    pub(crate) fn existing_store(&self) -> Result<Option<store::Store>> {
        let path = self.store_path()?;
        if path.exists() { Ok(Some(store::Store::existing(&path)?)) } else { Ok(None) }
    }

    /// The HTTP client of the configuration, with further certificate authorities.
    pub(crate) fn client(&self, concurrency: Option<usize>, ca: &[PathBuf]) -> Result<net::Client> {
        let builder = net::Client::builder().ca(self.config.ca.iter().chain(ca).cloned());
        let builder = match concurrency.or(self.config.concurrency) {
            Some(transfers) => builder.concurrency(transfers),
            None => builder,
        };
        Ok(builder.build()?)
    }

    /// How a site's registry is spoken to: a client that trusts its authority, with credentials of
    /// their own where given, and the mirrors that know of plain http. `folder` is that of `site.yaml`.
    pub(crate) fn site_registry(
        &self,
        registry: &Registry,
        folder: &Path,
        credentials: Credentials,
    ) -> Result<(net::Client, net::Mirrors)> {
        let ca: Vec<PathBuf> = registry.ca.iter().map(|path| folder.join(path)).collect();
        let builder = net::Client::builder().ca(self.config.ca.iter().chain(&ca).cloned());
        let mut config = self.config.clone();
        let host = registry.prefix()?.registry().to_owned();
        if registry.plain_http {
            config.plain_http.push(host);
        } else if !ca.is_empty() {
            // A loopback registry with a CA speaks TLS all the same.
            config.mirrors.entry(host.clone()).or_insert_with(|| format!("https://{host}"));
        }
        let mirrors = net::Mirrors::new(&config.mirrors, &config.plain_http)?;
        Ok((builder.credentials(credentials).build()?, mirrors))
    }

    /// The mirrors of the configuration.
    pub(crate) fn mirrors(&self) -> Result<net::Mirrors> {
        Ok(net::Mirrors::new(&self.config.mirrors, &self.config.plain_http)?)
    }

    /// The path of a file in the folder of gantry.yaml.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        if self.directory == Path::new(".") {
            return PathBuf::from(name);
        }
        self.directory.join(name)
    }
}

fn base_folders() -> Result<impl BaseStrategy> {
    etcetera::choose_base_strategy().map_err(|cause| {
        CommandError::usage(format!("the home folder is not known: {cause}"))
            .hint("give --store and --config, or set HOME")
    })
}

fn read_config(given: Option<&Path>) -> Result<Config> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => match etcetera::choose_base_strategy() {
            Ok(folders) => folders.config_dir().join("gantry").join("config.yaml"),
            Err(_) => return Ok(Config::default()),
        },
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Config::parse(&path.display().to_string(), &text)?),
        Err(error) if given.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Config::default())
        }
        Err(error) => Err(CommandError::usage(format!("cannot read {}: {error}", path.display()))
            .hint("give the path of the configuration with --config or GANTRY_CONFIG")),
    }
}
