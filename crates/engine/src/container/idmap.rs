//! Binds and volumes whose files have other owners inside than on disk (extension): `-v SRC:DST:idmap=uids=0-1000-1;gids=0-1000-1`,
//! `--mount type=bind,…,idmap=…`. Podman's grammar: `DISK-SHOWN-COUNT`, several joined by `#`; after `@`, `SHOWN` is an id of the
//! container's user namespace. `idmap` alone maps ids as the container's user namespace does.

use wharf_runtime::plan::{IdRange, Mappings};

use crate::{Error, Result};

/// The word that asks for it, also in the mode of `-v`.
pub const WORD: &str = "idmap";

/// A checked request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idmap {
    /// As the container's user namespace.
    Container,
    /// Ranges of its own.
    Own {
        /// User ids.
        uids: Ranges,
        /// Group ids.
        gids: Ranges,
    },
}

/// Ranges of ids: on disk, and as they are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    relative: bool,
    ranges: Vec<IdRange>,
}

impl Idmap {
    /// Reads `container` or `uids=…;gids=…`. Without group ids they are mapped as user ids are.
    pub fn parse(text: &str) -> Result<Idmap> {
        if matches!(text, "" | "container") {
            return Ok(Idmap::Container);
        }
        let invalid = || {
            Error::invalid(format!(
                "invalid idmap {text:?}: must be \"uids=DISK-SHOWN-COUNT[#…][;gids=…]\""
            ))
        };
        let (mut uids, mut gids) = (None, None);
        for part in text.split(';') {
            let (key, value) = part.split_once('=').ok_or_else(invalid)?;
            let place = match key {
                "uids" => &mut uids,
                "gids" => &mut gids,
                _ => return Err(invalid()),
            };
            let ranges = Ranges::parse(value).ok_or_else(invalid)?;
            if place.replace(ranges).is_some() {
                return Err(invalid());
            }
        }
        let uids = uids.ok_or_else(invalid)?;
        let gids = gids.unwrap_or_else(|| uids.clone());
        Ok(Idmap::Own { uids, gids })
    }

    /// What the kernel is told. `own`: the ids of the container's user namespace, empty for the host's.
    pub fn mappings(&self, own: &Mappings) -> Result<Mappings> {
        match self {
            Idmap::Container if own.is_empty() => Err(Error::invalid(
                "idmap without ranges needs a container with a user namespace; give ranges, as in idmap=uids=0-1000-1",
            )),
            Idmap::Container => Ok(own.clone()),
            Idmap::Own { uids, gids } => Ok(Mappings {
                uids: uids.on_host(&own.uids)?,
                gids: gids.on_host(&own.gids)?,
            }),
        }
    }
}

impl Ranges {
    fn parse(text: &str) -> Option<Ranges> {
        let (relative, text) = match text.strip_prefix('@') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let ranges: Option<Vec<IdRange>> = text.split('#').map(range).collect();
        Some(Ranges {
            relative,
            ranges: ranges?,
        })
    }

    fn on_host(&self, own: &[IdRange]) -> Result<Vec<IdRange>> {
        if !self.relative || own.is_empty() {
            return Ok(self.ranges.clone());
        }
        let shift = |range: &IdRange| {
            let last = range.host.checked_add(range.size - 1);
            let host = Mappings::to_host(own, range.host);
            let end = last.and_then(|last| Mappings::to_host(own, last));
            match (host, end) {
                (Some(host), Some(end)) if end.wrapping_sub(host) == range.size - 1 => {
                    Ok(IdRange { host, ..*range })
                }
                _ => Err(Error::invalid(format!(
                    "idmap: the container's user namespace does not have ids {} to {}",
                    range.host,
                    u64::from(range.host) + u64::from(range.size) - 1
                ))),
            }
        };
        self.ranges.iter().map(shift).collect()
    }
}

/// `DISK-SHOWN-COUNT`.
fn range(text: &str) -> Option<IdRange> {
    let mut numbers = text.split('-').map(|number| number.parse::<u32>().ok());
    let range = IdRange {
        container: numbers.next()??,
        host: numbers.next()??,
        size: numbers.next()?.filter(|size| *size > 0)?,
    };
    let whole = numbers.next().is_none()
        && range.container.checked_add(range.size - 1).is_some()
        && range.host.checked_add(range.size - 1).is_some();
    whole.then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(from: &[(u32, u32, u32)]) -> Vec<IdRange> {
        let range = |&(container, host, size): &(u32, u32, u32)| IdRange {
            container,
            host,
            size,
        };
        from.iter().map(range).collect()
    }

    fn own() -> Mappings {
        Mappings {
            uids: ranges(&[(0, 100_000, 1000)]),
            gids: ranges(&[(0, 200_000, 1000)]),
        }
    }

    #[test]
    fn ranges_are_read_and_placed() {
        for (text, uids, gids) in [
            (
                "uids=0-1000-1;gids=0-2000-5",
                &[(0, 1000, 1)][..],
                &[(0, 2000, 5)][..],
            ),
            (
                "uids=0-1-10#10-30-10",
                &[(0, 1, 10), (10, 30, 10)],
                &[(0, 1, 10), (10, 30, 10)],
            ),
            (
                "uids=@0-5-10;gids=@7-0-1",
                &[(0, 100_005, 10)],
                &[(7, 200_000, 1)],
            ),
        ] {
            let found = Idmap::parse(text)
                .expect("fits")
                .mappings(&own())
                .expect("fits");
            assert_eq!(
                (found.uids, found.gids),
                (ranges(uids), ranges(gids)),
                "{text}"
            );
        }
        assert_eq!(
            Idmap::parse("container")
                .expect("fits")
                .mappings(&own())
                .expect("fits"),
            own()
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "uids",
            "gids=0-0-1",
            "uids=0-1",
            "uids=0-1-0",
            "uids=0-1-1-1",
            "uids=4294967295-0-2",
            "uids=0-0-1;uids=0-0-1",
            "pids=0-0-1",
            "uids=a-0-1",
        ] {
            assert!(Idmap::parse(text).is_err(), "{text}");
        }
        assert!(Idmap::Container.mappings(&Mappings::default()).is_err());
        let beyond = Idmap::parse("uids=@0-999-2").expect("fits");
        assert!(beyond.mappings(&own()).is_err());
    }
}
