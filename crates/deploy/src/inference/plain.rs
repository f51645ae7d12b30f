//! What is asked of anything: a GET, or a connection.

use std::time::Duration;

use tokio::net::TcpStream;

use super::ask::{Conversation, Good, Outcome};
use super::{Failure, Via};

/// A connection that is not made in this time will not be made.
const CONNECT: Duration = Duration::from_secs(10);
/// A port forward whose pod does not listen is closed in this time.
const CLOSED: Duration = Duration::from_secs(3);

pub(super) async fn http(conversation: &mut Conversation<'_>) -> Outcome {
    let path = conversation.probe.path.clone().unwrap_or_else(|| "/".to_owned());
    let expect = &conversation.probe.expect;
    let reply = if let Some(wanted) = expect.status {
        conversation.judge_by(|_| super::ask::Verdict::Final);
        let reply = conversation.get(&path).await?;
        if reply.status.as_u16() != wanted {
            let failure = reply.refusal();
            let why = format!("{}, not {wanted}", failure.why);
            return Err(Failure { why, ..failure });
        }
        reply
    } else {
        conversation.get(&path).await?.success()?
    };
    reply.meets(expect)?;
    let says = format!("{} with {} bytes", reply.status.as_u16(), reply.body.len());
    Ok(Good { model: None, first: conversation.started.elapsed(), says })
}

pub(super) async fn tcp(conversation: &mut Conversation<'_>) -> Outcome {
    let probe = conversation.probe;
    let address = probe.base.split_once("://").map_or(probe.base.as_str(), |(_, rest)| rest);
    let limit = CONNECT.min(probe.timeout);
    let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
    let cause = match connected {
        Ok(Ok(stream)) if probe.via == Via::Forward && is_closed(&stream).await => {
            "the pod closes it at once".to_owned()
        }
        Ok(Ok(_)) => {
            let first = conversation.started.elapsed();
            return Ok(Good { model: None, first, says: format!("{address} takes connections") });
        }
        Ok(Err(cause)) => cause.to_string(),
        Err(_) => format!("no answer within {} s", limit.as_secs()),
    };
    Err(Failure::new(
        format!("{address} takes no connection: {cause}"),
        "is it running, and does a NetworkPolicy or a firewall stand in between?",
    ))
}

/// Whether the other end is gone: it may say something, or wait for us to speak first.
async fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    matches!(tokio::time::timeout(CLOSED, stream.peek(&mut byte)).await, Ok(Ok(0) | Err(_)))
}
