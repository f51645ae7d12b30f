//! The settings of a client, and how it is made of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use types::ClientCertificate;
use types::config::UserConfig;
use types::site::RegistryTarget;

use crate::client::{Client, ClientInner};
use crate::client_tls::{
    ClientTlsSettings, UncheckedHosts, list_certificate_folders, read_certificates,
};
use crate::mirrors::find_mirror_credential;
use crate::plain_http::PlainHttpServers;
use crate::token_cache::TokenCache;
use crate::transports::Transports;
use crate::{BandwidthLimit, Credential, Credentials, Result, RetryPolicy};

/// A response that has begun and of which no byte arrives in this time is stalled: a firewall that forgot
/// the connection is silent for ever.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time until a response begins. A pull-through cache may first fetch the whole blob, and a
/// registry may hash the whole of an upload of tens of gigabytes. That the machine is still there is
/// known by TCP's keep-alive, so this is not the time after which a dead line is noticed.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(5);

/// Concurrent transfers over all hosts: enough to use a line fully in spite of each host's latency,
/// few enough that their buffers stay small.
const CONCURRENCY: usize = 6;

/// The settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    ca: Vec<PathBuf>,
    credentials: Credentials,
    retry: RetryPolicy,
    idle_timeout: Duration,
    answer_timeout: Duration,
    concurrency: usize,
    unchecked: UncheckedHosts,
    client_certificates: BTreeMap<String, ClientCertificate>,
    certificate_folders: Vec<PathBuf>,
    /// By server: those that addresses of mirrors have.
    mirror_credentials: Vec<(String, Credential)>,
    bandwidth: Option<BandwidthLimit>,
    plain_http: PlainHttpServers,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            ca: Vec::new(),
            credentials: Credentials::from_system(),
            retry: RetryPolicy::default(),
            idle_timeout: IDLE_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
            concurrency: CONCURRENCY,
            unchecked: UncheckedHosts::default(),
            client_certificates: BTreeMap::new(),
            certificate_folders: list_certificate_folders(),
            mirror_credentials: Vec::new(),
            bandwidth: None,
            plain_http: PlainHttpServers::default(),
        }
    }
}

impl ClientBuilder {
    /// PEM files with further certificate authorities. Those of the system (and of `SSL_CERT_FILE`) are
    /// always trusted.
    #[must_use]
    pub fn ca_files(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.ca.extend(files);
        self
    }

    /// The certificates and limits of the user's configuration.
    #[must_use]
    pub fn user_config(mut self, config: &UserConfig) -> Self {
        self = self.ca_files(config.ca.iter().cloned());
        self = self.unchecked_hosts(UncheckedHosts::from_names(&config.insecure_skip_tls_verify));
        for (host, files) in &config.client_certificates {
            self = self.client_certificate(host, files.clone());
        }
        for address in config.mirrors.values() {
            self.mirror_credentials.extend(find_mirror_credential(address));
            self = self.plain_http_address(address);
        }
        for host in &config.plain_http {
            self = self.plain_http_host(host);
        }
        if let Some(attempts) = config.retries {
            self.retry.attempts = attempts;
        }
        if let Some(timeout) = config.timeout {
            self.idle_timeout = timeout.0;
        }
        if let Some(limit) = config.bandwidth {
            self = self.bandwidth(BandwidthLimit::new(limit.0));
        }
        match config.concurrency {
            Some(transfers) => self.concurrency(transfers),
            None => self,
        }
    }

    /// The certificates of a site's registry at `host`. The paths are as the process reads them
    /// ([`RegistryTarget::with_paths_below`]).
    #[must_use]
    pub fn site_registry(mut self, host: &str, registry: &RegistryTarget) -> Self {
        self = self.ca_files(registry.ca.clone());
        if registry.insecure_skip_tls_verify {
            self = self.unchecked_hosts(UncheckedHosts::Some(vec![host.to_owned()]));
        }
        if registry.plain_http {
            self = self.plain_http_host(host);
        }
        match &registry.client_certificate {
            Some(files) => self.client_certificate(host, files.clone()),
            None => self,
        }
    }

    /// Where credentials come from.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Which failures are retried, and when.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// How long a transfer may go without a byte before it counts as stalled.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How long a response may take to begin.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// How many transfers may run concurrently; at least 1.
    #[must_use]
    pub fn concurrency(mut self, transfers: usize) -> Self {
        self.concurrency = transfers.max(1);
        self
    }

    /// The servers of which the certificate is not checked, in addition to those of earlier calls.
    #[must_use]
    pub fn unchecked_hosts(mut self, hosts: UncheckedHosts) -> Self {
        self.unchecked = match (self.unchecked, hosts) {
            (UncheckedHosts::Some(mut all), UncheckedHosts::Some(more)) => {
                all.extend(more);
                UncheckedHosts::Some(all)
            }
            _ => UncheckedHosts::All,
        };
        self
    }

    /// The certificate with which the client shows a server who it is; `host` has its port, where it is
    /// not 443.
    #[must_use]
    pub fn client_certificate(mut self, host: &str, files: ClientCertificate) -> Self {
        self.client_certificates.insert(host.to_owned(), files);
        self
    }

    /// A server that may get credentials without TLS, as `plainHttp` names it: a host, with its port where
    /// it is not 80. Any other server but this machine gets none.
    #[must_use]
    pub fn plain_http_host(mut self, host: &str) -> Self {
        self.plain_http.add_host(host);
        self
    }

    /// As [`Self::plain_http_host`], for the server of an address that the user wrote for what is sent
    /// there. Nothing is added unless it begins with `http://`.
    #[must_use]
    pub fn plain_http_address(mut self, address: &str) -> Self {
        self.plain_http.add_address(address);
        self
    }

    /// The folders with certificates of single servers, in docker's or containerd's form, instead of the
    /// system's and the user's.
    #[must_use]
    pub fn certificate_folders(mut self, folders: Vec<PathBuf>) -> Self {
        self.certificate_folders = folders;
        self
    }

    /// The most bytes per second of all transfers together.
    #[must_use]
    pub fn bandwidth(mut self, limit: BandwidthLimit) -> Self {
        self.bandwidth = Some(limit);
        self
    }

    /// Reads the CA files and makes the client.
    pub fn build(self) -> Result<Client> {
        let mut ca = Vec::new();
        for path in &self.ca {
            ca.extend(read_certificates(path)?);
        }
        let tls = ClientTlsSettings {
            ca,
            unchecked: self.unchecked,
            certificates: self.client_certificates,
            folders: self.certificate_folders,
        };
        Ok(Client {
            inner: Arc::new(ClientInner {
                transports: Arc::new(Transports::new(tls, self.concurrency)),
                retry: self.retry,
                tokens: TokenCache::new(self.credentials.with_more(self.mirror_credentials)),
                transfer_permits: Arc::new(Semaphore::new(self.concurrency)),
                concurrency: self.concurrency,
                idle_timeout: self.idle_timeout,
                answer_timeout: self.answer_timeout,
                secret_urls: Mutex::default(),
                bandwidth: self.bandwidth,
                plain_http: self.plain_http,
            }),
        })
    }
}

impl Client {
    /// The default settings, to be changed before [`ClientBuilder::build`].
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}
