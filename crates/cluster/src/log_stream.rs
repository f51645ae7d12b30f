//! Following a container's log line by line while it is written. An audit receives what its own
//! pods see this way.

use futures::io::{AsyncBufReadExt as _, AsyncReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};

use crate::{Cluster, Error, Result};

/// Lines are handed over in parts of at most this length, so that a pod cannot claim memory.
const LONGEST_LINE: u64 = 64 << 10;

impl Cluster {
    /// Reads a container's log from its start and follows it while it is written. Returns when the
    /// container ends or the connection is closed; another call starts at the first line again.
    pub async fn follow_log(
        &self,
        namespace: &str,
        pod: &str,
        mut visit: impl FnMut(&str),
    ) -> Result<()> {
        let doing = || format!("following the log of Pod {namespace}/{pod}");
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = LogParams { follow: true, ..LogParams::default() };
        let log = api.log_stream(pod, &params).await;
        let mut log = std::pin::pin!(log.map_err(|error| Error::from_kube(doing(), error))?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = log.as_mut().take(LONGEST_LINE).read_until(b'\n', &mut line).await;
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => visit(String::from_utf8_lossy(&line).trim_end()),
                Err(source) => return Err(Error::Stream { doing: doing(), source }),
            }
        }
    }
}
