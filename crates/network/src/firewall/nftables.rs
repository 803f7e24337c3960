//! nftables, spoken natively over netlink: one table of our own, one transaction per call, no program started.

mod attribute;
mod command;
mod encode;
mod plan;
mod statement;

use crate::error::{NetworkError, Step};
use crate::netlink::{Connection, NetlinkError};

use super::{Change, Families, Firewall};
pub(crate) use attribute::Attributes;
use command::{Command, Family};

/// Transactions with hundreds of ports fit into this.
const BUFFER: usize = 4 * 1024 * 1024;

/// The nftables of the namespace where this was opened.
#[derive(Debug)]
pub(crate) struct Nftables {
    connection: Connection,
    families: Vec<Family>,
}

impl Nftables {
    /// Fails where the kernel lacks nftables or the right to use it is missing.
    pub(crate) fn open(families: Families) -> Result<Nftables, NetworkError> {
        let connection = Connection::open_netfilter().step(|| "open nftables".into())?;
        connection
            .grow_buffers(BUFFER)
            .step(|| "enlarge the nftables socket's buffers".into())?;
        let v4 = families.v4.then_some(Family::Ipv4);
        let v6 = families.v6.then_some(Family::Ipv6);
        Ok(Nftables {
            connection,
            families: v4.into_iter().chain(v6).collect(),
        })
    }

    fn send(&mut self, commands: &[Command]) -> Result<(), NetlinkError> {
        if commands.is_empty() {
            return Ok(());
        }
        let mut batch = encode::transaction(commands);
        // The last message ends the transaction; the one before is the last that every kernel acknowledges.
        let last_command = batch.len() - 2;
        self.connection
            .exchange_acknowledged_at(&mut batch, last_command)
    }
}

impl Firewall for Nftables {
    fn reset(&mut self, changes: &[Change]) -> Result<(), NetworkError> {
        let mut commands = Vec::new();
        for family in [Family::Ipv4, Family::Ipv6] {
            commands.extend(if self.families.contains(&family) {
                plan::skeleton(family)
            } else {
                plan::removal(family)
            });
        }
        commands.extend(plan::changes(changes, &self.families));
        Ok(self.send(&commands)?)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), NetworkError> {
        Ok(self.send(&plan::changes(changes, &self.families))?)
    }
}
