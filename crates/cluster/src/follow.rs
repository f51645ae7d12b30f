//! The log of a container as it is written, line by line: how an audit hears what its own pods see.

use futures::io::{AsyncBufReadExt as _, AsyncReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};

use crate::{Cluster, Error, Result};

/// The longest line that is handed over; what is longer is cut.
const LONGEST_LINE: u64 = 64 << 10;

impl Cluster {
    /// Reads a container's log from its start, and on while it is written; ends with the container,
    /// or when the connection breaks (then calling it again starts from the first line).
    pub async fn follow(
        &self,
        namespace: &str,
        pod: &str,
        mut visit: impl FnMut(&str),
    ) -> Result<()> {
        let doing = || format!("following the log of Pod {namespace}/{pod}");
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = LogParams { follow: true, ..LogParams::default() };
        let log = api.log_stream(pod, &params).await;
        let mut log = std::pin::pin!(log.map_err(|error| Error::of(doing(), error))?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = log.as_mut().take(LONGEST_LINE).read_until(b'\n', &mut line).await;
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => visit(String::from_utf8_lossy(&line).trim_end()),
                Err(cause) => {
                    return Err(Error::Other { doing: doing(), cause: cause.to_string() });
                }
            }
        }
    }
}
