//! Checks for servers without a known protocol: an HTTP GET, or a TCP connection.

use std::time::Duration;

use tokio::net::TcpStream;

use super::ask::{Conversation, InferenceResult, ProtocolAnswer};
use super::{InferenceFailure, ServerConnection};

/// The longest wait for a connection: a firewall that drops packets would otherwise use up the
/// deadline.
const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait for a port forward to close the connection, which it does if the pod does not
/// listen.
const CLOSED: Duration = Duration::from_secs(3);

/// Sends a GET and checks the status and the body.
pub(super) async fn ask_http(conversation: &mut Conversation<'_>) -> InferenceResult {
    let path = conversation.probe.path.clone().unwrap_or_else(|| "/".to_owned());
    let expect = &conversation.probe.expect;
    let reply = if let Some(wanted) = expect.status {
        // Somebody may expect a 503: then it must not be retried.
        conversation.set_retry_rule(|_| super::ask::RetryDecision::Final);
        let reply = conversation.get(&path).await?;
        if reply.status.as_u16() != wanted {
            let failure = reply.to_failure();
            let why = format!("{}, not {wanted}", failure.why);
            return Err(InferenceFailure { why, ..failure });
        }
        reply
    } else {
        conversation.get(&path).await?.into_success()?
    };
    reply.check_expectations(expect)?;
    let says = format!("{} with {} bytes", reply.status.as_u16(), reply.body.len());
    Ok(ProtocolAnswer { model: None, first: conversation.started.elapsed(), says })
}

/// Opens a TCP connection.
pub(super) async fn ask_tcp(conversation: &mut Conversation<'_>) -> InferenceResult {
    let probe = conversation.probe;
    let address = probe.base.split_once("://").map_or(probe.base.as_str(), |(_, rest)| rest);
    let limit = CONNECT.min(probe.timeout);
    let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
    let cause = match connected {
        Ok(Ok(stream)) if probe.via == ServerConnection::Forward && is_closed(&stream).await => {
            "the pod closes the connection at once".to_owned()
        }
        Ok(Ok(_)) => {
            let first = conversation.started.elapsed();
            return Ok(ProtocolAnswer {
                model: None,
                first,
                says: format!("{address} accepts connections"),
            });
        }
        Ok(Err(cause)) => cause.to_string(),
        Err(_) => format!("no answer within {} s", limit.as_secs()),
    };
    Err(InferenceFailure::new(
        format!("{address} does not accept connections: {cause}"),
        "check that the server is running, and that no NetworkPolicy or firewall blocks it",
    ))
}

/// Whether the other end has closed the connection. Data, or silence until the timeout, means that
/// it is open: many protocols let the client speak first.
async fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    matches!(tokio::time::timeout(CLOSED, stream.peek(&mut byte)).await, Ok(Ok(0) | Err(_)))
}
