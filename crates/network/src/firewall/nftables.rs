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

    /// Takes the tables of an earlier daemon away.
    pub(crate) fn remove() {
        let families = Families { v4: true, v6: true };
        let Ok(mut nftables) = Nftables::open(families) else {
            return;
        };
        for family in [Family::Ipv4, Family::Ipv6] {
            if let Err(error) = nftables.send(&plan::removal(family)) {
                tracing::debug!(%error, "no nftables rules to remove");
            }
        }
    }

    /// Whether the `filter` table of iptables, in its nftables variant, has a chain of that name.
    pub(crate) fn has_iptables_chain(name: &str) -> bool {
        let connection = Connection::open_netfilter();
        connection.is_ok_and(|mut connection| has_chain(&mut connection, name))
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

/// Whether the `filter` table of iptables has a chain of that name.
fn has_chain(connection: &mut Connection, name: &str) -> bool {
    let mut question = encode::look_up_chain(Family::Ipv4, "filter", name);
    connection.exchange(&mut question).is_ok()
}

impl Nftables {
    /// A `FORWARD` chain of iptables that drops cannot be overruled from our table; where there is one, it learns of our bridges.
    /// `all`: no other bridges are ours.
    fn allow_forwarding(&mut self, changes: &[Change], all: bool) {
        // On the connection that is there: closing another one waits until the kernel has freed what a transaction deleted (12 ms).
        if !has_chain(&mut self.connection, "FORWARD") {
            return;
        }
        let bridges: Vec<String> = changes
            .iter()
            .filter_map(|change| match change {
                Change::AddNetwork(network) => Some(network.bridge.clone()),
                _ => None,
            })
            .collect();
        if let Err(error) = super::iptables::allow_forwarding(&bridges, all) {
            tracing::warn!(%error, "the host's FORWARD chain may drop traffic of containers");
        }
    }
}

impl Nftables {
    fn disallow_forwarding(&mut self, changes: &[Change]) {
        let bridges: Vec<String> = changes
            .iter()
            .filter_map(|change| match change {
                Change::RemoveNetwork(network) => Some(network.bridge.clone()),
                _ => None,
            })
            .collect();
        if bridges.is_empty() || !has_chain(&mut self.connection, "FORWARD") {
            return;
        }
        if let Err(error) = super::iptables::disallow_forwarding(&bridges) {
            tracing::warn!(%error, "rules for a removed bridge stay in iptables");
        }
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
        self.send(&commands)?;
        self.allow_forwarding(changes, true);
        Ok(())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), NetworkError> {
        self.send(&plan::changes(changes, &self.families))?;
        if changes
            .iter()
            .any(|change| matches!(change, Change::AddNetwork(_)))
        {
            self.allow_forwarding(changes, false);
        }
        self.disallow_forwarding(changes);
        Ok(())
    }

    fn is_intact(&mut self, _: &[Change]) -> bool {
        let connection = &mut self.connection;
        let own = self.families.iter().all(|family| {
            let mut question = encode::look_up_chain(*family, command::TABLE, "forward");
            connection.exchange(&mut question).is_ok()
        });
        own && (!has_chain(connection, "FORWARD") || super::iptables::allows_forwarding())
    }

    fn name(&self) -> &'static str {
        "nftables"
    }

    fn sender(&self) -> Option<u32> {
        self.connection.port()
    }

    fn tables(&self) -> &'static [&'static str] {
        &[command::TABLE, "filter"]
    }

    fn own_tables(&self) -> &'static [&'static str] {
        &[command::TABLE]
    }
}
