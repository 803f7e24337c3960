//! The `iptables` and `ip6tables` programs, with the chains of Docker 28 that people hook into.
//!
//! All of a change goes to one `iptables-restore --noflush`, which applies it table by table in single steps. Rules that others
//! added stay, those in `DOCKER-USER` among them.

mod plan;
mod program;

use super::{Change, Families, Firewall};
use crate::error::NetworkError;
use plan::{Family, Script};

/// The iptables of the namespace where the programs run.
#[derive(Debug)]
pub(crate) struct Iptables {
    families: Vec<Family>,
}

impl Iptables {
    /// Fails where a program is missing.
    pub(crate) fn open(families: Families) -> Result<Iptables, NetworkError> {
        let wanted = [(families.v4, Family::Ipv4), (families.v6, Family::Ipv6)];
        let families: Vec<Family> = wanted
            .into_iter()
            .filter_map(|(on, family)| on.then_some(family))
            .collect();
        for family in &families {
            program::save(*family)?;
        }
        Ok(Iptables { families })
    }

    fn run(&self, script: impl Fn(Family) -> Script) -> Result<(), NetworkError> {
        for family in &self.families {
            let text = script(*family).text();
            if !text.is_empty() {
                program::restore(*family, &text)?;
            }
        }
        Ok(())
    }
}

impl Firewall for Iptables {
    fn reset(&mut self, changes: &[Change]) -> Result<(), NetworkError> {
        for family in &self.families {
            let present = program::save(*family)?;
            let mut script = plan::skeleton(*family, &present, changes);
            script.extend(plan::changes(*family, changes));
            program::restore(*family, &script.text())?;
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), NetworkError> {
        self.run(|family| plan::changes(family, changes))
    }

    fn is_intact(&mut self, changes: &[Change]) -> bool {
        self.families.iter().all(|family| {
            let present = program::save(*family).unwrap_or_default();
            plan::is_intact(*family, &present, changes)
        })
    }

    fn drop_forwarded(&mut self, families: Families) -> Result<(), NetworkError> {
        for (on, family) in [(families.v4, Family::Ipv4), (families.v6, Family::Ipv6)] {
            if on && self.families.contains(&family) {
                program::restore(family, "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n")?;
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "iptables"
    }

    fn tables(&self) -> &'static [&'static str] {
        &["filter", "nat", "raw"]
    }
}

/// Takes the rules of a daemon away that worked with iptables, where there are any. What cannot be removed only costs time.
pub(crate) fn clean_up() {
    for family in [Family::Ipv4, Family::Ipv6] {
        let Ok(present) = program::save(family) else {
            continue;
        };
        let text = plan::removal(&present).text();
        if text.is_empty() {
            continue;
        }
        if let Err(error) = program::restore(family, &text) {
            tracing::warn!(%error, "iptables rules of an earlier daemon stay");
        }
    }
}

/// Lets traffic of `bridges` pass the `FORWARD` chain of iptables where nftables is spoken: a policy or rule there that drops
/// could not be overruled from a table of our own, which goes on deciding what reaches containers. `all`: no others may.
pub(crate) fn allow_forwarding(bridges: &[String], all: bool) -> Result<(), NetworkError> {
    for family in [Family::Ipv4, Family::Ipv6] {
        let Ok(present) = program::save(family) else {
            continue;
        };
        let text = plan::allowance(&present, bridges, all).text();
        if !text.is_empty() {
            program::restore(family, &text)?;
        }
    }
    Ok(())
}

/// Takes bridges that are gone out of what [`allow_forwarding`] did.
pub(crate) fn disallow_forwarding(bridges: &[String]) -> Result<(), NetworkError> {
    for family in [Family::Ipv4, Family::Ipv6] {
        let Ok(present) = program::save(family) else {
            continue;
        };
        let text = plan::disallowance(&present, bridges).text();
        if !text.is_empty() {
            program::restore(family, &text)?;
        }
    }
    Ok(())
}

/// Whether what [`allow_forwarding`] did is still there.
pub(crate) fn allows_forwarding() -> bool {
    program::save(Family::Ipv4).is_ok_and(|present| plan::has_allowance(&present))
}
