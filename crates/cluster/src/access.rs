//! Connecting to a cluster: by a kubeconfig and a context, or by the service account of the pod
//! that Gantry runs in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::version::Info;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::error::BoxError;
use crate::resolved_kind::ResolvedKind;
use crate::{Error, Result};

/// How long the API server may take to accept a connection: a wrong context should fail soon, not
/// after kube's 30 s.
const CONNECT: Duration = Duration::from_secs(10);

/// Which cluster to connect to.
#[derive(Debug, Clone, Default)]
pub struct ClusterAccess {
    /// The kubeconfig file. When absent: the files in `KUBECONFIG`, merged like kubectl does, or
    /// `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it. When absent: the current one.
    pub context: Option<String>,
}

/// A client of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Client,
    context: String,
    server: String,
    namespace: String,
    /// The kinds that were looked up, by API version and kind.
    pub(crate) resolved: Arc<Mutex<BTreeMap<(String, String), ResolvedKind>>>,
}

impl Cluster {
    /// Reads the kubeconfig and makes a client. Sends nothing yet: call [`Cluster::fetch_version`] to
    /// find out whether the API server answers.
    pub async fn connect(access: &ClusterAccess) -> Result<Self> {
        let Some(kubeconfig) = read_kubeconfig(access)? else {
            return Self::connect_in_cluster(access);
        };
        let context = access.context.clone().or_else(|| kubeconfig.current_context.clone());
        let Some(context) = context.filter(|name| !name.is_empty()) else {
            let cause = format!(
                "the kubeconfig has no current context, and none was given with --context (it has: {})",
                format_contexts(&kubeconfig)
            );
            return Err(Error::NoAccess { what: None, source: cause.into() });
        };
        if !kubeconfig.contexts.iter().any(|known| known.name == context) {
            return Err(Error::NoContext { name: context, known: format_contexts(&kubeconfig) });
        }
        let options =
            KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let config = config.map_err(|error| Error::NoAccess {
            what: Some(format!("context {context}")),
            source: error.into(),
        })?;
        Self::from_config(context, config)
    }

    fn connect_in_cluster(access: &ClusterAccess) -> Result<Self> {
        if let Some(name) = &access.context {
            return Err(Error::NoContext { name: name.clone(), known: "none".to_owned() });
        }
        let config = Config::incluster().map_err(|_| Error::NoAccess {
            what: None,
            source: "KUBECONFIG is not set, there is no ~/.kube/config, and this is not a pod"
                .into(),
        })?;
        Self::from_config("in-cluster".to_owned(), config)
    }

    fn from_config(context: String, mut config: Config) -> Result<Self> {
        config.connect_timeout = Some(CONNECT);
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| Error::NoAccess {
            what: Some(context.clone()),
            source: error.into(),
        })?;
        Ok(Self { client, context, server, namespace, resolved: Arc::default() })
    }

    /// The name of the context; `in-cluster` inside a pod.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The URL of the API server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The namespace of the context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The version of the API server. Call it before anything else: its error says that the server
    /// does not answer, and why.
    pub async fn fetch_version(&self) -> Result<Info> {
        self.client.apiserver_version().await.map_err(|error| match error {
            error @ kube::Error::Api(_) => {
                Error::from_kube("reading the API server's version", error)
            }
            source => Error::Unreachable {
                context: self.context.clone(),
                server: self.server.clone(),
                source,
            },
        })
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("context", &self.context)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// The kubeconfig; `None` when none is named and there is none at the default path.
fn read_kubeconfig(access: &ClusterAccess) -> Result<Option<Kubeconfig>> {
    if let Some(path) = &access.kubeconfig {
        return Kubeconfig::read_from(path).map(Some).map_err(|error| Error::NoAccess {
            what: Some(path.display().to_string()),
            source: describe_config_error(error),
        });
    }
    let named = Kubeconfig::from_env().map_err(|error| Error::NoAccess {
        what: Some("KUBECONFIG".to_owned()),
        source: describe_config_error(error),
    })?;
    if named.is_some() {
        return Ok(named);
    }
    match Kubeconfig::read() {
        Ok(kubeconfig) => Ok(Some(kubeconfig)),
        // No home folder, or no file in it.
        Err(
            kube::config::KubeconfigError::FindPath | kube::config::KubeconfigError::ReadConfig(..),
        ) => Ok(None),
        Err(error) => Err(Error::NoAccess { what: None, source: describe_config_error(error) }),
    }
}

/// An error of the parser, without the lines of the file that it quotes: a kubeconfig has keys and tokens
/// in it, and a file of another kind is nobody's business.
fn describe_config_error(error: kube::config::KubeconfigError) -> BoxError {
    let text = types::error_chain(&error);
    match text.split_once('\n') {
        Some((first, _)) => first.into(),
        None => error.into(),
    }
}

/// The names of all contexts, for messages.
fn format_contexts(kubeconfig: &Kubeconfig) -> String {
    let names: Vec<&str> =
        kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
