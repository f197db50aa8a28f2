//! What a query gets: an answer of our own, or the word to forward it. Pure; never panics, whatever the bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::net::dns::names::{Networks, resolve, resolve_back};

/// Seconds that an answer may be kept: containers come and go.
const TTL_S: u32 = 5;
/// Largest answer over UDP without EDNS (RFC 1035 section 4.2.1), and with it (the size agreed on for DNS flag day 2020).
const UDP_BYTES: (u16, u16) = (512, 1232);

/// What to do with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Send this.
    Answer(Vec<u8>),
    /// Ask somebody else.
    Forward,
    /// Not a query.
    Nothing,
}

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// One datagram.
    Udp,
    /// A stream, where answers have any size.
    Tcp,
}

/// Decides about one query; `turn` rotates the addresses of a name.
pub(crate) fn reply(query: &[u8], networks: &Networks<'_>, transport: Transport, turn: usize) -> Reply {
    let Ok(message) = Message::from_vec(query) else {
        return malformed(query);
    };
    if message.metadata.message_type != MessageType::Query {
        return Reply::Nothing;
    }
    let [question] = message.queries.as_slice() else {
        return encode(&message, ResponseCode::FormErr, Vec::new(), transport);
    };
    if message.metadata.op_code != OpCode::Query {
        return encode(&message, ResponseCode::NotImp, Vec::new(), transport);
    }
    if question.query_class() != DNSClass::IN {
        return Reply::Forward;
    }
    let Some(name) = text_of(question.name()) else {
        return Reply::Forward;
    };
    let records = if question.query_type() == RecordType::PTR {
        address_of(&name).and_then(|address| resolve_back(networks, address)).map(|name| {
            let target = Name::from_labels(name.split('.').map(str::as_bytes));
            target.into_iter().map(|target| RData::PTR(PTR(target))).collect()
        })
    } else {
        resolve(networks, &name).map(|addresses| of_type(addresses, question.query_type(), turn))
    };
    let Some(records) = records else {
        return Reply::Forward;
    };
    let answers = records.into_iter().map(|data| Record::from_rdata(question.name().clone(), TTL_S, data));
    encode(&message, ResponseCode::NoError, answers.collect(), transport)
}

/// Encodes an answer without records, for a query that could not be forwarded.
pub(crate) fn failure(query: &[u8], code: ResponseCode, transport: Transport) -> Option<Vec<u8>> {
    let message = Message::from_vec(query).ok()?;
    match encode(&message, code, Vec::new(), transport) {
        Reply::Answer(bytes) => Some(bytes),
        Reply::Forward | Reply::Nothing => None,
    }
}

/// Returns the question section as it must come back in an answer: name in lower case, type, class.
pub(crate) fn question(message: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let mut end = HEADER;
    loop {
        let length = usize::from(*message.get(end)?);
        // A pointer, or a reserved form: no question that we would have sent.
        if length > 63 {
            return None;
        }
        end += 1 + length;
        if length == 0 {
            break;
        }
    }
    Some(message.get(HEADER..end + 4)?.to_ascii_lowercase())
}

/// Returns the records of one type among addresses, beginning with another one each turn.
fn of_type(addresses: &[IpAddr], kind: RecordType, turn: usize) -> Vec<RData> {
    let mut records: Vec<RData> = addresses
        .iter()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(a), RecordType::A) => Some(RData::A(A(*a))),
            (IpAddr::V6(a), RecordType::AAAA) => Some(RData::AAAA(AAAA(*a))),
            _ => None,
        })
        .collect();
    let count = records.len().max(1);
    records.rotate_left(turn % count);
    records
}

/// Returns a name in lower case without its final dot; `None` where it is not ASCII, or has a dot within a label.
fn text_of(name: &Name) -> Option<String> {
    let mut labels = Vec::new();
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok().filter(|l| l.is_ascii() && !l.contains('.'))?;
        labels.push(label.to_ascii_lowercase());
    }
    Some(labels.join("."))
}

/// Returns the address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn address_of(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let octets: Result<Vec<u8>, _> = octets.split('.').rev().map(str::parse).collect();
        let octets: [u8; 4] = octets.ok()?.try_into().ok()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').rev().collect();
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return None;
    }
    let number = u128::from_str_radix(&digits.concat(), 16).ok()?;
    Some(Ipv6Addr::from(number).into())
}

/// Encodes an answer; cut down to its question with the truncation bit where it does not fit a datagram.
fn encode(query: &Message, code: ResponseCode, answers: Vec<Record>, transport: Transport) -> Reply {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.recursion_desired = query.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(query.queries.iter().cloned());
    let (plain, extended) = UDP_BYTES;
    let mut limit = plain;
    if let Some(theirs) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(extended);
        message.set_edns(edns);
        limit = theirs.max_payload().clamp(plain, extended);
    }
    message.add_answers(answers);
    let Ok(bytes) = message.to_vec() else {
        return Reply::Nothing;
    };
    if transport == Transport::Udp && bytes.len() > usize::from(limit) {
        return message.truncate().to_vec().map_or(Reply::Nothing, Reply::Answer);
    }
    Reply::Answer(bytes)
}

/// Answers what cannot be decoded: "format error", if it is a query at all.
fn malformed(query: &[u8]) -> Reply {
    let Some(&[high, low, flags, ..]) = query.first_chunk::<12>() else {
        return Reply::Nothing;
    };
    if flags & 0x80 != 0 {
        return Reply::Nothing;
    }
    Reply::Answer(vec![high, low, 0x80 | flags & 0x79, 0x81, 0, 0, 0, 0, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use proptest::prelude::*;

    use super::*;
    use crate::net::dns::names::{NameEntry, NameIndex};

    fn entry(names: &[&str], addresses: &[&str]) -> NameEntry {
        NameEntry {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            names: names.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    /// Asks in two networks and renders code and records, or what else comes.
    fn check(name: &str, kind: RecordType, turn: usize, expected: &str) {
        let front = [
            entry(&["web", "app-web-1"], &["10.0.0.2", "fd00::2"]),
            entry(&["web", "app-web-2"], &["10.0.0.3"]),
        ];
        let back = [entry(&["db", "app_db_1"], &["10.1.0.2"]), entry(&["web"], &["10.1.0.9"])];
        let (front, back) = (NameIndex::new(front.iter()), NameIndex::new(back.iter()));
        let networks = [("app_front", &front), ("app_back", &back)];
        let found = match reply(&query(name, kind), &networks, Transport::Udp, turn) {
            Reply::Answer(bytes) => {
                let message = Message::from_vec(&bytes).unwrap();
                let data: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
                format!("{:?} {}", message.metadata.response_code, data.join(" "))
            }
            other => format!("{other:?}"),
        };
        assert_eq!(found, expected, "{name} {kind}");
    }

    #[test]
    fn names_resolve_in_the_networks_of_the_asker() {
        check("db", RecordType::A, 0, "NoError 10.1.0.2");
        check("DB.", RecordType::A, 0, "NoError 10.1.0.2");
        check("app_db_1", RecordType::A, 0, "NoError 10.1.0.2");
        check("db", RecordType::AAAA, 0, "NoError ");
        check("db", RecordType::MX, 0, "NoError ");
        check("web", RecordType::A, 0, "NoError 10.0.0.2 10.0.0.3");
        check("web", RecordType::A, 1, "NoError 10.0.0.3 10.0.0.2");
        check("web", RecordType::AAAA, 7, "NoError fd00::2");
        check("web.app_back", RecordType::A, 0, "NoError 10.1.0.9");
        check("web.app_other", RecordType::A, 0, "Forward");
        check("example.com", RecordType::A, 0, "Forward");
        check("2.0.1.10.in-addr.arpa", RecordType::PTR, 0, "NoError db.app_back.");
        check("3.0.0.10.in-addr.arpa", RecordType::PTR, 0, "NoError app-web-2.app_front.");
        check("8.8.8.8.in-addr.arpa", RecordType::PTR, 0, "Forward");
        check("8.8.in-addr.arpa", RecordType::PTR, 0, "Forward");
        let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        check(v6, RecordType::PTR, 0, "NoError app-web-1.app_front.");
    }

    #[test]
    fn an_answer_too_large_for_a_datagram_is_cut() {
        let many: Vec<NameEntry> = (0..100).map(|n| entry(&["web"], &[&format!("10.0.0.{n}")])).collect();
        let index = NameIndex::new(many.iter());
        let networks = [("n", &index)];
        let sizes = [Transport::Udp, Transport::Tcp].map(|transport| {
            let Reply::Answer(bytes) = reply(&query("web", RecordType::A), &networks, transport, 0) else {
                panic!("no answer");
            };
            let message = Message::from_vec(&bytes).unwrap();
            (message.metadata.truncation, message.answers.len())
        });
        assert_eq!(sizes, [(true, 0), (false, 100)]);
    }

    proptest! {
        #[test]
        fn any_bytes_get_a_reply(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..40, value in any::<u8>()) {
            let index = NameIndex::default();
            reply(&bytes, &[("n", &index)], Transport::Udp, 0);
            question(&bytes);
            let mut mutated = query("web.example", RecordType::A);
            if let Some(byte) = mutated.get_mut(at) {
                *byte = value;
            }
            reply(&mutated, &[("n", &index)], Transport::Tcp, 1);
        }
    }
}
