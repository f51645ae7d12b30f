//! A program in a running container, with its streams: what `kubectl exec` does, over WebSockets.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::chain;
use crate::{Cluster, Error, Result};

/// Bytes that wait between us and the program, each way.
const BUFFER: usize = 1 << 20;
/// Bytes of a program's words that [`Cluster::run`] keeps.
const WORDS: u64 = 1 << 20;

/// A program that runs in a container. Dropping it breaks the connection; whether the program then
/// ends is its own affair.
pub struct Exec {
    what: String,
    process: AttachedProcess,
    status: Option<BoxFuture<'static, Option<Status>>>,
}

/// How a program ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to stdout, at most 1 MiB.
    pub stdout: String,
    /// What it wrote to stderr, at most 1 MiB.
    pub stderr: String,
}

impl Cluster {
    /// Starts a program in a container, with all of its streams open.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[&str],
    ) -> Result<Exec> {
        let what = format!("{} in Pod {namespace}/{pod}", command.first().unwrap_or(&"a program"));
        let params = AttachParams::default()
            .container(container)
            .stdin(true)
            .max_stdin_buf_size(BUFFER)
            .max_stdout_buf_size(BUFFER)
            .max_stderr_buf_size(BUFFER);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let process = api.exec(pod, command.iter().copied(), &params).await;
        let mut process = process.map_err(|error| Error::of(format!("running {what}"), error))?;
        let status = process.take_status().map(|status| Box::pin(status) as BoxFuture<_>);
        Ok(Exec { what, process, status })
    }

    /// Runs a program in a container to its end, with this on its standard input.
    pub async fn run(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[&str],
        input: &[u8],
    ) -> Result<Outcome> {
        let mut exec = self.exec(namespace, pod, container, command).await?;
        let broken = |what: &str, cause: std::io::Error| Error::Connection {
            what: what.to_owned(),
            cause: cause.to_string(),
        };
        let what = exec.what.clone();
        let (stdin, stdout, stderr) = (exec.stdin(), exec.stdout(), exec.stderr());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that ends before it has read all is no error of the connection.
                if stdin.write_all(input).await.is_ok() {
                    let _ = stdin.shutdown().await;
                }
            }
            Ok::<_, Error>(())
        };
        let read = |stream: Option<_>| {
            let what = what.clone();
            async move { words(stream).await.map_err(|cause| broken(&what, cause)) }
        };
        let read_err = async { words(stderr).await.map_err(|cause| broken(&what, cause)) };
        let ((), stdout, stderr) = tokio::try_join!(write, read(stdout), read_err)?;
        let code = exec.end().await?;
        Ok(Outcome { code, stdout, stderr })
    }
}

impl Exec {
    /// What the program reads. Shutting it down is end-of-file for the program where the API server
    /// speaks v5 of the protocol (Kubernetes 1.30); give it the length first where that matters.
    pub fn stdin(&mut self) -> Option<impl AsyncWrite + Send + Unpin + use<>> {
        self.process.stdin()
    }

    /// What the program writes.
    pub fn stdout(&mut self) -> Option<impl AsyncRead + Send + Unpin + use<>> {
        self.process.stdout()
    }

    /// What the program complains.
    pub fn stderr(&mut self) -> Option<impl AsyncRead + Send + Unpin + use<>> {
        self.process.stderr()
    }

    /// Waits for the program's end and gives its exit code. Its streams must be read meanwhile, or
    /// it never ends.
    pub async fn end(mut self) -> Result<i32> {
        let status = match self.status.take() {
            Some(status) => status.await,
            None => None,
        };
        let Some(status) = status else {
            let cause = match self.process.join().await {
                Err(error) => chain(&error),
                Ok(()) => "it was closed before the program ended".to_owned(),
            };
            return Err(Error::Connection { what: self.what, cause });
        };
        let code = exit_code(&status);
        code.ok_or(Error::Program {
            what: self.what,
            cause: status.message.unwrap_or_else(|| "it ended without a code".to_owned()),
        })
    }
}

/// The exit code in the status that ends an exec: Success, or NonZeroExitCode with the code as a
/// cause (kubernetes: staging/src/k8s.io/client-go/tools/remotecommand/v4.go).
fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    code.message.as_ref()?.parse().ok()
}

async fn words(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    (&mut stream).take(WORDS).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
