//! From a query's bytes to an answer's, as far as it can be answered here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::{Family, Names};
use crate::netd::protocol::Resolving;

/// Seconds that clients may keep an answer, as in Docker.
const TIME_TO_LIVE: u32 = 600;

/// Largest answer over UDP to who does not say more (RFC 1035, 4.2.1).
const PLAIN_UDP: u16 = 512;

/// What we ourselves take over UDP (RFC 9715).
const OUR_PAYLOAD: u16 = 1232;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send this.
    Reply(Vec<u8>),
    /// Others have to be asked; this goes back if none answers.
    Forward {
        /// `SERVFAIL`.
        failure: Vec<u8>,
    },
    /// It is no query.
    Ignore,
}

/// Decides on a query of `container`.
pub(crate) fn answer(
    names: &Names,
    container: &Resolving,
    query: &[u8],
    transport: Transport,
) -> Action {
    let Ok(query) = Message::from_vec(query) else {
        return malformed(query);
    };
    if query.metadata.message_type != MessageType::Query {
        return Action::Ignore;
    }
    let limit = match transport {
        Transport::Udp => query
            .edns
            .as_ref()
            .map_or(PLAIN_UDP, Edns::max_payload)
            .max(PLAIN_UDP),
        Transport::Tcp => u16::MAX,
    };
    let reply = |response| Action::Reply(encode(&response, limit));
    if query.metadata.op_code != OpCode::Query {
        return reply(respond(&query, ResponseCode::NotImp));
    }
    let [question] = query.queries.as_slice() else {
        return reply(respond(&query, ResponseCode::FormErr));
    };
    match local(names, container, question) {
        Some(records) => {
            let mut response = respond(&query, ResponseCode::NoError);
            response.add_answers(records);
            reply(response)
        }
        None if kept_back(container, question) => reply(respond(&query, ResponseCode::NoError)),
        None => Action::Forward {
            failure: encode(&respond(&query, ResponseCode::ServFail), limit),
        },
    }
}

/// A header that can be read gets an answer; the rest is noise.
fn malformed(bytes: &[u8]) -> Action {
    /// First byte of the flags: "this is a response".
    const RESPONSE: u8 = 0x80;
    match bytes {
        [a, b, flags, ..] if bytes.len() >= 12 && flags & RESPONSE == 0 => {
            let id = u16::from_be_bytes([*a, *b]);
            let response = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            Action::Reply(encode(&response, PLAIN_UDP))
        }
        _ => Action::Ignore,
    }
}

/// Records for a name that is known here; none for types it does not have, so that nobody is told that it does not exist.
fn local(names: &Names, container: &Resolving, question: &Query) -> Option<Vec<Record>> {
    if question.query_class != DNSClass::IN {
        return None;
    }
    let name = text(&question.name);
    let record = |data| Record::from_rdata(question.name.clone(), TIME_TO_LIVE, data);
    if question.query_type == RecordType::PTR {
        let host = names.name(container, reverse_address(&name)?)?;
        let labels = host.split('.').map(str::as_bytes);
        let mut host = Name::from_labels(labels).ok()?;
        host.set_fqdn(true);
        return Some(vec![record(RData::PTR(PTR(host)))]);
    }
    let addresses = |family| names.addresses(container, &name, family);
    match question.query_type {
        RecordType::A => addresses(Family::V4),
        RecordType::AAAA => addresses(Family::V6),
        RecordType::ANY => addresses(Family::V4).map(|mut list| {
            list.extend(addresses(Family::V6).unwrap_or_default());
            list
        }),
        _ => addresses(Family::V4).map(|_| Vec::new()),
    }
    .map(|list| {
        let data = |address| match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        list.into_iter().map(|a| record(data(a))).collect()
    })
}

/// Who chose `ndots` wants its search domains tried for names without a dot (moby `resolver.serveDNS`).
fn kept_back(container: &Resolving, question: &Query) -> bool {
    container.ndots_chosen
        && matches!(question.query_type, RecordType::A | RecordType::AAAA)
        && question.name.num_labels() <= 1
}

/// Labels joined by dots, without the last one.
fn text(name: &Name) -> String {
    let labels: Vec<_> = name.iter().map(String::from_utf8_lossy).collect();
    labels.join(".")
}

/// Reads `4.3.2.1.in-addr.arpa` and its IPv6 relative.
fn reverse_address(name: &str) -> Option<IpAddr> {
    let name = name.to_ascii_lowercase();
    if let Some(numbers) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = numbers.rsplit('.').map(str::parse::<u8>);
        let mut next = || octets.next()?.ok();
        let address = Ipv4Addr::new(next()?, next()?, next()?, next()?);
        return octets.next().is_none().then_some(address.into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits: u128 = 0;
    let mut count = 0;
    for digit in digits.rsplit('.') {
        let value = u128::from_str_radix(digit, 16).ok()?;
        if digit.len() != 1 {
            return None;
        }
        bits = bits << 4 | value;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

fn respond(query: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_PAYLOAD);
        response.set_edns(edns);
    }
    response
}

/// What fits into `limit`; the flag says that there is more (RFC 2181, section 9).
fn encode(response: &Message, limit: u16) -> Vec<u8> {
    let mut response = response.clone();
    loop {
        let bytes = response.to_vec().unwrap_or_default();
        if bytes.len() <= usize::from(limit) || response.answers.is_empty() {
            return bytes;
        }
        response.metadata.truncation = true;
        // Records of a name are equally long: near enough to what fits, at least one less.
        let keep = response.answers.len() * usize::from(limit) / bytes.len();
        response
            .answers
            .truncate(keep.min(response.answers.len() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netd::protocol::ResolvingEndpoint;

    fn resolving(id: &str, address: [u8; 4], names: &[&str]) -> Resolving {
        Resolving {
            id: id.into(),
            endpoints: vec![ResolvingEndpoint {
                network_id: "n".into(),
                network_name: "net".into(),
                addresses: vec![address.into()],
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                links: Vec::new(),
            }],
            external: true,
            ..Resolving::default()
        }
    }

    fn directory() -> Names {
        let mut names = Names::default();
        for n in 0..60 {
            names.put(resolving(
                &format!("c{n}"),
                [10, 0, 0, n + 2],
                &[&format!("c{n}"), "all"],
            ));
        }
        names
    }

    fn query(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 77;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    fn ask(query: &[u8], transport: Transport) -> Message {
        let names = directory();
        match answer(&names, names.get("c0").unwrap(), query, transport) {
            Action::Reply(bytes) => {
                if transport == Transport::Udp {
                    assert!(bytes.len() <= 4096);
                }
                Message::from_vec(&bytes).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_known_name_is_answered() {
        let reply = ask(&query("C1.", RecordType::A, None), Transport::Udp);
        assert_eq!(
            (reply.metadata.id, reply.metadata.response_code),
            (77, ResponseCode::NoError)
        );
        assert!(reply.metadata.recursion_desired && reply.metadata.recursion_available);
        assert_eq!(reply.answers.len(), 1);
        assert_eq!(
            reply.answers[0].to_string(),
            "C1. 600 IN A 10.0.0.3",
            "the question's own spelling comes back"
        );
        assert!(reply.edns.is_none());
        for kind in [RecordType::AAAA, RecordType::MX, RecordType::HTTPS] {
            let reply = ask(&query("c1.net.", kind, None), Transport::Udp);
            assert_eq!(
                reply.metadata.response_code,
                ResponseCode::NoError,
                "{kind}"
            );
            assert!(reply.answers.is_empty(), "{kind}");
        }
    }

    #[test]
    fn an_address_is_answered_with_its_name() {
        let reply = ask(
            &query("3.0.0.10.in-addr.arpa.", RecordType::PTR, None),
            Transport::Udp,
        );
        assert_eq!(
            reply.answers[0].to_string(),
            "3.0.0.10.in-addr.arpa. 600 IN PTR c1.net."
        );
    }

    #[test]
    fn answers_fit_what_the_client_takes() {
        let size = |payload, transport| {
            let reply = ask(&query("all.", RecordType::A, payload), transport);
            assert_eq!(reply.edns.is_some(), payload.is_some());
            (reply.answers.len(), reply.metadata.truncation)
        };
        let (plain, truncated) = size(None, Transport::Udp);
        assert!(truncated && (20..60).contains(&plain), "{plain}");
        assert_eq!(size(Some(4096), Transport::Udp), (60, false));
        assert_eq!(size(None, Transport::Tcp), (60, false));
        assert!(size(Some(100), Transport::Udp).1, "512 is the least");
    }

    #[test]
    fn unknown_names_go_elsewhere() {
        let names = directory();
        let asker = names.get("c0").unwrap();
        let action = answer(
            &names,
            asker,
            &query("example.org.", RecordType::A, None),
            Transport::Udp,
        );
        let Action::Forward { failure } = action else {
            panic!("{action:?}")
        };
        let failure = Message::from_vec(&failure).unwrap();
        assert_eq!(
            (failure.metadata.id, failure.metadata.response_code),
            (77, ResponseCode::ServFail)
        );
        let mut choosy = (**asker).clone();
        choosy.ndots_chosen = true;
        let action = answer(
            &names,
            &choosy,
            &query("plain.", RecordType::A, None),
            Transport::Udp,
        );
        assert!(matches!(action, Action::Reply(_)));
    }

    #[test]
    fn nonsense_is_refused_or_ignored() {
        let names = directory();
        let asker = names.get("c0").unwrap();
        let act = |bytes: &[u8]| answer(&names, asker, bytes, Transport::Udp);
        assert_eq!(act(b""), Action::Ignore);
        assert_eq!(act(&[0; 11]), Action::Ignore);
        let mut response = query("c1.", RecordType::A, None);
        response[2] |= 0x80;
        assert_eq!(act(&response), Action::Ignore);
        let mut cut = query("c1.", RecordType::A, None);
        cut.truncate(14);
        let Action::Reply(bytes) = act(&cut) else {
            panic!("no answer")
        };
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr);
    }

    #[test]
    fn reverse_names_are_read() {
        for (name, expected) in [
            ("4.3.2.1.in-addr.arpa", Some("1.2.3.4")),
            ("5.4.3.2.1.in-addr.arpa", None),
            ("3.2.1.in-addr.arpa", None),
            (
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.F.IP6.ARPA",
                Some("fd00::1"),
            ),
            ("1.0.ip6.arpa", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(reverse_address(name), expected, "{name}");
        }
    }
}
