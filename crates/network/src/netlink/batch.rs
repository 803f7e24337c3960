//! Several netlink messages in one buffer.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER_LEN: usize = 16;

/// Requests that go out in one send. Each has a step, named in errors.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Offset of each message and what it does.
    messages: Vec<(usize, String)>,
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch::default()
    }

    /// Adds an rtnetlink request; `flags` beyond `NLM_F_REQUEST`.
    pub(crate) fn push_route(
        &mut self,
        step: impl Into<String>,
        flags: u16,
        message: RouteNetlinkMessage,
    ) {
        let mut message = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(message),
        );
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let start = self.begin(step.into());
        self.bytes.resize(start + message.buffer_len(), 0);
        message.serialize(&mut self.bytes[start..]);
        self.pad();
    }

    /// Adds a message of which only the part after the netlink header is given.
    pub(crate) fn push_raw(
        &mut self,
        step: impl Into<String>,
        message_type: u16,
        flags: u16,
        body: &[u8],
    ) {
        let start = self.begin(step.into());
        let length = u32::try_from(HEADER_LEN + body.len())
            .expect("a message is smaller than a socket buffer");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&message_type.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(body);
        self.pad();
        debug_assert!(self.bytes.len() >= start + HEADER_LEN);
    }

    /// Number of messages.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// What message `index` does.
    pub(crate) fn step(&self, index: usize) -> &str {
        self.messages
            .get(index)
            .map_or("netlink request", |(_, step)| step.as_str())
    }

    /// The bytes to send: sequence numbers from `first`, an acknowledgement asked of message `acknowledged`.
    pub(crate) fn seal(&mut self, first: u32, acknowledged: usize) -> &[u8] {
        for (index, (offset, _)) in self.messages.iter().enumerate() {
            let sequence = first.wrapping_add(u32::try_from(index).expect("few messages"));
            self.bytes[offset + 8..offset + 12].copy_from_slice(&sequence.to_ne_bytes());
            if index == acknowledged {
                let flags = u16::from_ne_bytes([self.bytes[offset + 6], self.bytes[offset + 7]])
                    | NLM_F_ACK;
                self.bytes[offset + 6..offset + 8].copy_from_slice(&flags.to_ne_bytes());
            }
        }
        &self.bytes
    }

    fn begin(&mut self, step: String) -> usize {
        let start = self.bytes.len();
        self.messages.push((start, step));
        start
    }

    /// Messages start at multiples of four (`NLMSG_ALIGN`).
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
