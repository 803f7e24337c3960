//! Children of an interface of the host (macvlan, ipvlan), and the parents that are made for them.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, InfoVlan, IpVlanFlags, IpVlanMode,
    LinkAttribute, LinkInfo, LinkMessage, MacVlanMode,
};
use rustix::io::Errno;

use super::bridge::kind;
use super::message::{CREATE, change_link, link_by_name, set_up};
use crate::error::NetworkError;
use crate::name::random_veth;
use crate::netlink::{Batch, Connection, NetlinkError};

/// What kind of child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildKind {
    Macvlan(MacVlanMode),
    /// Mode and `IPVLAN_F_*`.
    Ipvlan(IpVlanMode, u16),
}

/// The interface that children share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParentPlan {
    pub(crate) name: String,
    /// Made by us, leads nowhere, goes with its network.
    pub(crate) is_dummy: bool,
}

/// A child to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChildPlan {
    pub(crate) parent: ParentPlan,
    pub(crate) kind: ChildKind,
    /// Name in the container.
    pub(crate) name: String,
}

impl ParentPlan {
    /// Makes the parent if it is missing and may be made: a dummy, or a VLAN of an interface that is there. Says whether it was
    /// made.
    pub(crate) fn ensure(&self, host: &mut Connection) -> Result<bool, NetworkError> {
        if link_by_name(host, &self.name)?.is_some() {
            return Ok(false);
        }
        let (info, base) = if self.is_dummy {
            (vec![LinkInfo::Kind(InfoKind::Dummy)], None)
        } else {
            let (base, vlan) = self.vlan()?;
            let link = link_by_name(host, base)?.ok_or_else(|| {
                invalid(format!(
                    "-o parent interface was not found on the host: {base}"
                ))
            })?;
            let data = InfoData::Vlan(vec![InfoVlan::Id(vlan)]);
            (
                vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)],
                Some(link.header.index),
            )
        };
        match self.create(host, info, base) {
            // A kernel without dummies has pairs: one end is as good, with the other as its carrier.
            Err(error) if error.is(Errno::OPNOTSUPP) && self.is_dummy => self.create_pair(host)?,
            Err(error) if error.is(Errno::OPNOTSUPP) => {
                return Err(NetworkError::NotImplemented(format!(
                    "making the VLAN {}: this kernel has no VLANs (CONFIG_VLAN_8021Q), which",
                    self.name
                )));
            }
            other => other?,
        }
        Ok(true)
    }

    fn create(
        &self,
        host: &mut Connection,
        info: Vec<LinkInfo>,
        base: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        set_up(&mut message);
        message.attributes = vec![
            LinkAttribute::IfName(self.name.clone()),
            LinkAttribute::LinkInfo(info),
        ];
        message.attributes.extend(base.map(LinkAttribute::Link));
        let mut batch = Batch::new();
        batch.push_route(
            format!("create parent interface {}", self.name),
            CREATE,
            RouteNetlinkMessage::NewLink(message),
        );
        host.exchange(&mut batch)
    }

    fn create_pair(&self, host: &mut Connection) -> Result<(), NetlinkError> {
        let peer_name = random_veth();
        let mut peer = LinkMessage::default();
        peer.attributes = vec![LinkAttribute::IfName(peer_name.clone())];
        let info = vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ];
        self.create(host, info, None)?;
        let index = link_by_name(host, &peer_name)?.map_or(0, |link| link.header.index);
        let mut batch = Batch::new();
        let step = format!("bring up {peer_name}");
        batch.push_route(step, 0, change_link(index, Vec::new(), true));
        host.exchange(&mut batch)
    }

    /// Whether the name is that of a VLAN of another interface, which may be made and removed with its network.
    pub(crate) fn is_vlan(&self) -> bool {
        self.vlan().is_ok()
    }

    /// `eth0.10` is VLAN 10 of `eth0`.
    fn vlan(&self) -> Result<(&str, u16), NetworkError> {
        let (base, vlan) = self.name.split_once('.').ok_or_else(|| {
            invalid(format!(
                "invalid subinterface vlan name {}, example formatting is eth0.10",
                self.name
            ))
        })?;
        let vlan: u16 = vlan.parse().map_err(|_| {
            invalid(format!(
                "unable to parse a valid vlan id from: {vlan} (ex. eth0.10 for vlan 10)"
            ))
        })?;
        if !(1..=4094).contains(&vlan) {
            return Err(invalid(format!(
                "vlan id must be between 1-4094, received: {vlan}"
            )));
        }
        Ok((base, vlan))
    }
}

impl ChildPlan {
    /// Makes the child in the namespace `inside`, down. Its index there is to be looked up.
    pub(crate) fn execute(
        &self,
        host: &mut Connection,
        inside: BorrowedFd<'_>,
    ) -> Result<(), NetworkError> {
        let parent = link_by_name(host, &self.parent.name)?.ok_or_else(|| {
            invalid(format!(
                "the requested parent interface {} was not found on the Docker host",
                self.parent.name
            ))
        })?;
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(self.name.clone()),
            LinkAttribute::Link(parent.header.index),
            LinkAttribute::NetNsFd(inside.as_raw_fd()),
            LinkAttribute::LinkInfo(self.info()),
        ];
        let mut batch = Batch::new();
        batch.push_route(
            format!("create {} of {}", self.word(), self.parent.name),
            CREATE,
            RouteNetlinkMessage::NewLink(message),
        );
        host.exchange(&mut batch)
            .map_err(|error| self.explain(error))
    }

    fn word(&self) -> &'static str {
        match self.kind {
            ChildKind::Macvlan(_) => "macvlan",
            ChildKind::Ipvlan(..) => "ipvlan",
        }
    }

    fn info(&self) -> Vec<LinkInfo> {
        match self.kind {
            ChildKind::Macvlan(mode) => vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)])),
            ],
            ChildKind::Ipvlan(mode, flags) => vec![
                LinkInfo::Kind(InfoKind::IpVlan),
                LinkInfo::Data(InfoData::IpVlan(vec![
                    InfoIpVlan::Mode(mode),
                    InfoIpVlan::Flags(IpVlanFlags::from_bits_retain(flags)),
                ])),
            ],
        }
    }

    /// A kernel without the driver says only that the operation is not supported.
    fn explain(&self, error: NetlinkError) -> NetworkError {
        if error.is(Errno::OPNOTSUPP) {
            return NetworkError::NotImplemented(format!(
                "the {} driver: this kernel has no {0} (CONFIG_{}), which",
                self.word(),
                self.word().to_uppercase()
            ));
        }
        error.into()
    }
}

/// Whether an interface is of a kind that is made as a parent.
pub(crate) fn is_made_kind(link: &LinkMessage, is_dummy: bool) -> bool {
    match kind(link) {
        Some(InfoKind::Vlan) => !is_dummy,
        Some(InfoKind::Dummy | InfoKind::Veth) => is_dummy,
        _ => false,
    }
}

fn invalid(text: String) -> NetworkError {
    NetworkError::Invalid(text)
}
