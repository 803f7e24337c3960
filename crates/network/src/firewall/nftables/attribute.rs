//! Netlink attributes as nfnetlink wants them: big-endian numbers, names with a terminating zero, nests flagged as such.

const NLA_F_NESTED: u16 = 0x8000;
const HEADER_LEN: usize = 4;

/// A sequence of attributes under construction.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    pub(crate) fn new() -> Attributes {
        Attributes::default()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Attributes {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Attributes {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Attributes {
        self.begin(value.len(), kind);
        self.bytes.extend_from_slice(value);
        self.pad()
    }

    /// An attribute that holds attributes.
    pub(crate) fn nest(
        &mut self,
        kind: u16,
        fill: impl FnOnce(&mut Attributes),
    ) -> &mut Attributes {
        let mut inner = Attributes::new();
        fill(&mut inner);
        self.begin(inner.bytes.len(), kind | NLA_F_NESTED);
        self.bytes.extend_from_slice(&inner.bytes);
        self.pad()
    }

    fn begin(&mut self, length: usize, kind: u16) {
        let length = u16::try_from(length + HEADER_LEN)
            .expect("lists are cut so that attributes stay below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) -> &mut Attributes {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{NlaBuffer, NlasIterator};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn attributes_are_read_back_by_an_independent_parser(values in proptest::collection::vec((1u16..100, proptest::collection::vec(any::<u8>(), 0..50)), 0..10)) {
            let mut attributes = Attributes::new();
            attributes.nest(1, |inner| {
                for (kind, value) in &values {
                    inner.bytes(*kind, value);
                }
            });
            let bytes = attributes.into_bytes();
            let outer = NlaBuffer::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!(outer.kind(), 1);
            let found: Vec<(u16, Vec<u8>)> = NlasIterator::new(outer.value())
                .map(|nla| nla.map(|nla| (nla.kind(), nla.value().to_vec())).unwrap())
                .collect();
            prop_assert_eq!(found, values);
        }
    }
}
