//! Programs in running containers, with their streams: what `kubectl exec` does, over WebSockets.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{Cluster, Error, Result};

/// The buffer between Gantry and the program, in each direction: large enough to keep a fast link
/// busy.
const BUFFER: usize = 1 << 20;
/// How much of a program's output [`Cluster::run_program`] keeps.
const WORDS: u64 = 1 << 20;

/// A running program in a container. Dropping this closes the connection; the program may go on
/// running.
pub struct ExecSession {
    what: String,
    process: AttachedProcess,
    status: Option<BoxFuture<'static, Option<Status>>>,
}

/// How a program ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to stdout, at most 1 MiB.
    pub stdout: String,
    /// What it wrote to stderr, at most 1 MiB.
    pub stderr: String,
}

impl Cluster {
    /// Starts a program in a container, with all its streams open.
    pub async fn start_program(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[&str],
    ) -> Result<ExecSession> {
        let what = format!("{} in Pod {namespace}/{pod}", command.first().unwrap_or(&"a program"));
        let params = AttachParams::default()
            .container(container)
            .stdin(true)
            .max_stdin_buf_size(BUFFER)
            .max_stdout_buf_size(BUFFER)
            .max_stderr_buf_size(BUFFER);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let process = api.exec(pod, command.iter().copied(), &params).await;
        let mut process =
            process.map_err(|error| Error::from_kube(format!("running {what}"), error))?;
        let status = process.take_status().map(|status| Box::pin(status) as BoxFuture<_>);
        Ok(ExecSession { what, process, status })
    }

    /// Runs a program in a container to its end, with `input` as its standard input.
    pub async fn run_program(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[&str],
        input: &[u8],
    ) -> Result<ExecOutput> {
        let mut exec = self.start_program(namespace, pod, container, command).await?;
        let broken = |what: &str, error: std::io::Error| Error::Connection {
            what: what.to_owned(),
            source: error.into(),
        };
        let what = exec.what.clone();
        let (stdin, stdout, stderr) = (exec.stdin(), exec.stdout(), exec.stderr());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program may end before it has read all its input; that is not a broken
                // connection.
                if stdin.write_all(input).await.is_ok() {
                    let _ = stdin.shutdown().await;
                }
            }
            Ok::<_, Error>(())
        };
        // All three at once: a program that waits until its output is read would never read its
        // input.
        let read = |stream: Option<_>| {
            let what = what.clone();
            async move { read_text(stream).await.map_err(|error| broken(&what, error)) }
        };
        let read_err = async { read_text(stderr).await.map_err(|error| broken(&what, error)) };
        let ((), stdout, stderr) = tokio::try_join!(write, read(stdout), read_err)?;
        let code = exec.wait_for_exit().await?;
        Ok(ExecOutput { code, stdout, stderr })
    }
}

impl ExecSession {
    /// The program's standard input. Shutting it down is an end of file for the program only if the
    /// API server speaks version 5 of the protocol (from Kubernetes 1.30 on); where the end
    /// matters, send the length first.
    pub fn stdin(&mut self) -> Option<impl AsyncWrite + Send + Unpin + use<>> {
        self.process.stdin()
    }

    /// The program's standard output.
    pub fn stdout(&mut self) -> Option<impl AsyncRead + Send + Unpin + use<>> {
        self.process.stdout()
    }

    /// The program's standard error.
    pub fn stderr(&mut self) -> Option<impl AsyncRead + Send + Unpin + use<>> {
        self.process.stderr()
    }

    /// Waits until the program has ended and returns its exit code. Its streams must be read
    /// meanwhile, or it may never end.
    pub async fn wait_for_exit(mut self) -> Result<i32> {
        let status = match self.status.take() {
            Some(status) => status.await,
            None => None,
        };
        // The status comes as the last message of the connection; without one, it was cut off.
        let Some(status) = status else {
            let source = match self.process.join().await {
                Err(error) => error.into(),
                Ok(()) => "it was closed before the program ended".into(),
            };
            return Err(Error::Connection { what: self.what, source });
        };
        let code = exit_code(&status);
        code.ok_or(Error::Program {
            what: self.what,
            cause: status.message.unwrap_or_else(|| "it ended without an exit code".to_owned()),
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

/// Reads a stream to its end and keeps the first [`WORDS`] bytes as text.
async fn read_text(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    (&mut stream).take(WORDS).read_to_end(&mut bytes).await?;
    // Read the rest as well: the program would block on a full stream.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
