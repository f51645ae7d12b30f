//! Reads DNS questions and writes their answers: who asks for which name, and that there is no such
//! name (NXDOMAIN).

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use crate::corefile::CLIENT_OPTION;
use crate::observer::DnsQuery;

/// The UDP payload that passes every network without fragments (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// Bytes of a message's header (RFC 1035); without it there is no id to answer to.
const HEADER: usize = 12;

/// A message that was read, with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedQuestion {
    /// The names that it asks for; empty for what is not a query.
    pub(crate) queries: Vec<DnsQuery>,
    /// The answer's bytes.
    pub(crate) answer: Vec<u8>,
}

/// Reads a message; `None` for one that gets no answer. The address that asked comes from the EDNS0
/// option that the changed Corefile makes CoreDNS add; the sender of the message is CoreDNS itself.
pub(crate) fn read_question(bytes: &[u8]) -> Option<ReceivedQuestion> {
    let Ok(message) = Message::from_vec(bytes) else {
        let id = u16::from_be_bytes(bytes.get(..HEADER)?.first_chunk().copied()?);
        let is_answer = bytes[2] & 0x80 != 0;
        let refusal = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()?;
        return (!is_answer).then_some(ReceivedQuestion { queries: vec![], answer: refusal });
    };
    // Two servers that answer each other's answers would never stop.
    if message.metadata.message_type != MessageType::Query {
        return None;
    }
    let client = message.edns.as_ref().and_then(client_address);
    let queries = message.queries.iter().map(|query| DnsQuery {
        name: normalize_name(&query.name().to_ascii()),
        kind: query.query_type().to_string(),
        client,
    });
    let queries: Vec<DnsQuery> = queries.collect();
    // An answer has EDNS only where the question has it (RFC 6891).
    let has_edns = message.edns.is_some();
    let is_query = message.metadata.op_code == OpCode::Query;
    let mut answer = Message::response(message.metadata.id, message.metadata.op_code);
    answer.metadata.recursion_desired = message.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code =
        if is_query { ResponseCode::NXDomain } else { ResponseCode::NotImp };
    answer.queries.clone_from(&message.queries);
    if has_edns {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        answer.set_edns(edns);
    }
    Some(ReceivedQuestion {
        queries: if is_query { queries } else { vec![] },
        answer: answer.to_vec().ok()?,
    })
}

/// The address in the option that CoreDNS adds: 4 or 16 bytes.
fn client_address(edns: &Edns) -> Option<IpAddr> {
    let EdnsOption::Unknown(_, data) = edns.option(EdnsCode::Unknown(CLIENT_OPTION))? else {
        return None;
    };
    let v4 = <[u8; 4]>::try_from(data.as_slice()).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(data.as_slice()).map(IpAddr::from)).ok()
}

/// A name as reports have it: in lower case, without a dot at the end.
pub(crate) fn normalize_name(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hickory_proto::op::Query as Question;
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    fn make_question(option: Option<&[u8]>) -> Vec<u8> {
        let mut message = Message::query();
        let name = Name::from_ascii("Telemetry.Maker.COM.").unwrap();
        message.add_query(Question::query(name, RecordType::AAAA));
        if let Some(data) = option {
            let mut edns = Edns::new();
            edns.options_mut().insert(EdnsOption::Unknown(CLIENT_OPTION, data.to_vec()));
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn the_pod_that_asked_is_in_the_option_of_the_name_server() {
        let client = |option| read_question(&make_question(option)).unwrap().queries[0].client;
        assert_eq!(client(Some(&[10, 244, 1, 7])), Some("10.244.1.7".parse().unwrap()));
        let v6: [u8; 16] = "fd00::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert_eq!(client(Some(&v6)), Some("fd00::7".parse().unwrap()));
        assert_eq!(client(Some(&[1, 2, 3])), None);
        assert_eq!(client(None), None);
    }

    #[test]
    fn every_question_is_answered_with_no_such_name_and_the_question_itself() {
        let asked = read_question(&make_question(None)).unwrap();
        assert_eq!(asked.queries[0].name, "telemetry.maker.com");
        assert_eq!(asked.queries[0].kind, "AAAA");
        let answer = Message::from_vec(&asked.answer).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(answer.queries.len(), 1);
        assert!(answer.edns.is_none());
    }

    #[test]
    fn what_is_no_question_is_refused_or_left_alone() {
        assert_eq!(read_question(b"short"), None);
        let refused = read_question(&[7, 9, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xff]).unwrap();
        let answer = Message::from_vec(&refused.answer).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        assert_eq!(answer.metadata.id, 0x0709);
        assert_eq!(read_question(&read_question(&make_question(None)).unwrap().answer), None);
    }
}
