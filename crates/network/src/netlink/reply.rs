//! What the kernel answers: messages, acknowledgements and errors with their explanation.

use std::io;

use super::batch::HEADER_LEN;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
/// Explanation text (`enum nlmsgerr_attrs`).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message from the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// Acknowledgement of the request with this sequence number.
    Ack { sequence: u32 },
    /// Refusal: errno and, where the kernel gives one (`NETLINK_EXT_ACK`, Linux 4.12), its reason.
    Error {
        sequence: u32,
        errno: i32,
        reason: Option<String>,
    },
    /// End of a dump.
    Done { errno: i32 },
    /// Anything else: the whole message with its header.
    Message { kind: u16, bytes: &'a [u8] },
}

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{step}{}", reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default())]
pub(crate) struct NetlinkError {
    /// What was asked.
    pub(crate) step: String,
    /// Kernel's explanation.
    pub(crate) reason: Option<String>,
    /// Kernel's errno.
    #[source]
    pub(crate) source: io::Error,
}

impl NetlinkError {
    /// The errno, as a positive number.
    pub(crate) fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    /// Whether the kernel answered `errno`.
    pub(crate) fn is(&self, errno: rustix::io::Errno) -> bool {
        self.errno() == errno.raw_os_error()
    }
}

impl From<NetlinkError> for crate::NetworkError {
    fn from(error: NetlinkError) -> Self {
        crate::NetworkError::io(error.to_string(), error.source)
    }
}

/// Walks the messages of one datagram; stops at the first that does not fit.
#[derive(Debug)]
pub(crate) struct Replies<'a> {
    rest: &'a [u8],
}

impl<'a> Replies<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Replies<'a> {
        Replies { rest: datagram }
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        let length = usize::try_from(u32_at(self.rest, 0)?).ok()?;
        if length < HEADER_LEN || length > self.rest.len() {
            self.rest = &[];
            return None;
        }
        let message = &self.rest[..length];
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(classify(message))
    }
}

fn classify(message: &[u8]) -> Reply<'_> {
    let kind = u16_at(message, 4).unwrap_or(0);
    let errno = u32_at(message, HEADER_LEN).map_or(0, u32::cast_signed);
    let sequence = u32_at(message, 8).unwrap_or(0);
    match kind {
        NLMSG_ERROR if errno == 0 => Reply::Ack { sequence },
        NLMSG_ERROR => Reply::Error {
            sequence,
            errno: errno.saturating_neg(),
            reason: reason(message),
        },
        NLMSG_DONE => Reply::Done {
            errno: errno.saturating_neg(),
        },
        _ => Reply::Message {
            kind,
            bytes: message,
        },
    }
}

/// The text after the error code and the echoed request.
fn reason(message: &[u8]) -> Option<String> {
    let flags = u16_at(message, 6)?;
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = if flags & NLM_F_CAPPED != 0 {
        HEADER_LEN
    } else {
        usize::try_from(u32_at(message, HEADER_LEN + 4)?)
            .ok()?
            .checked_next_multiple_of(4)?
    };
    let mut rest = message.get(HEADER_LEN + 4..)?.get(echoed..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let value = rest.get(4..usize::from(length))?;
        if kind & 0x3fff == NLMSGERR_ATTR_MSG {
            let text = value.split(|&byte| byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .try_into()
        .ok()
        .map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER_LEN + body.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn acknowledgement_and_refusal_are_told_apart() {
        let ok = message(NLMSG_ERROR, 0, &0i32.to_ne_bytes());
        assert_eq!(Replies::new(&ok).next(), Some(Reply::Ack { sequence: 7 }));

        let mut body = (-17i32).to_ne_bytes().to_vec();
        body.extend([0; HEADER_LEN]);
        body.extend(11u16.to_ne_bytes());
        body.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        body.extend(b"exists\0\0");
        let refused = message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, &body);
        assert_eq!(
            Replies::new(&refused).next(),
            Some(Reply::Error {
                sequence: 7,
                errno: 17,
                reason: Some("exists".into())
            })
        );
    }

    proptest! {
        #[test]
        fn any_datagram_is_walked_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Replies::new(&bytes).count();
        }

        #[test]
        fn messages_come_back_in_order(kinds in proptest::collection::vec((4u16..900, 0usize..40), 0..10)) {
            let datagram: Vec<u8> = kinds.iter().flat_map(|(kind, length)| message(*kind, 0, &vec![1; *length])).collect();
            let seen: Vec<(u16, usize)> = Replies::new(&datagram)
                .map(|reply| match reply {
                    Reply::Message { kind, bytes } => (kind, bytes.len() - HEADER_LEN),
                    other => panic!("unexpected {other:?}"),
                })
                .collect();
            prop_assert_eq!(seen, kinds);
        }
    }
}
