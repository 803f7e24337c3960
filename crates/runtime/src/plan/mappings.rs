//! User and group ids of user namespaces and idmapped mounts.

use serde::{Deserialize, Serialize};
use wharf_spec::runtime::LinuxIdMapping;

use super::PlanError;

/// One range of ids: `container..container + size` inside is `host..host + size` outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// The ids of a user namespace, or of an idmapped mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mappings {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

impl Mappings {
    /// Nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// The file format of `/proc/<pid>/uid_map` and `gid_map`, user_namespaces(7).
    pub fn text(ranges: &[IdRange]) -> String {
        ranges
            .iter()
            .map(|r| format!("{} {} {}\n", r.container, r.host, r.size))
            .collect()
    }

    /// The id outside that an id inside stands for.
    pub fn to_host(ranges: &[IdRange], id: u32) -> Option<u32> {
        ranges.iter().find_map(|r| {
            let offset = id.checked_sub(r.container).filter(|o| *o < r.size)?;
            r.host.checked_add(offset)
        })
    }
}

/// The kernel takes that many ranges since Linux 4.15.
const MAX_RANGES: usize = 340;

/// Plans one of the two lists.
pub(super) fn plan_ranges(
    what: &'static str,
    ranges: &[LinuxIdMapping],
) -> Result<Vec<IdRange>, PlanError> {
    if ranges.len() > MAX_RANGES {
        return Err(PlanError::Invalid {
            what,
            value: format!("{} ranges", ranges.len()),
        });
    }
    ranges
        .iter()
        .map(|m| {
            let (container, host, size) = (m.container_id(), m.host_id(), m.size());
            let fits = |start: u32| start.checked_add(size).is_some();
            if size == 0 || !fits(container) || !fits(host) {
                let value = format!("{container} {host} {size}");
                return Err(PlanError::Invalid { what, value });
            }
            Ok(IdRange {
                container,
                host,
                size,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_looked_up_by_range() {
        let range = |container, host, size| IdRange {
            container,
            host,
            size,
        };
        let ranges = [range(0, 1000, 1), range(1, 100_000, 10)];
        for (inside, outside) in [
            (0, Some(1000)),
            (1, Some(100_000)),
            (10, Some(100_009)),
            (11, None),
        ] {
            assert_eq!(Mappings::to_host(&ranges, inside), outside);
        }
        assert_eq!(Mappings::text(&ranges), "0 1000 1\n1 100000 10\n");
    }

    #[test]
    fn ranges_must_not_be_empty_or_wrap() {
        let mapping = |container, host, size| -> LinuxIdMapping {
            serde_json::from_value(serde_json::json!({
                "containerID": container, "hostID": host, "size": size
            }))
            .expect("a mapping")
        };
        for bad in [mapping(0, 0, 0), mapping(1, u32::MAX, 2)] {
            assert!(plan_ranges("mapping", &[bad]).is_err());
        }
    }
}
