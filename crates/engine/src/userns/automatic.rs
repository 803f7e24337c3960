//! Ranges of ids that no other container and no user of the host has (`--userns auto`).

use wharf_runtime::plan::Mappings;

use super::one_range;
use crate::{Engine, Error, Result};

/// Ids of a container that does not say how many.
pub const SIZE: u32 = 65_536;

/// Most ids of one container.
pub const MOST: u32 = 1 << 24;

/// Ids that are given out: the upper half of 32 bits, which neither distributions use for `/etc/subuid` (up to 600,100,000,
/// login.defs(5)) nor systemd for its own containers (up to 1,879,048,191).
const FIRST: u32 = 0x8000_0000;
const END: u32 = 0xfff0_0000;

/// The mapping of a container whose range begins at `first`.
pub fn mappings(first: u32, size: u32) -> Mappings {
    Mappings {
        uids: one_range(first, size),
        gids: one_range(first, size),
    }
}

/// The first free place among ranges `(first, size)`.
fn place(mut taken: Vec<(u32, u32)>, size: u32) -> Option<u32> {
    taken.sort_unstable();
    let mut first = FIRST;
    for (start, length) in taken {
        if start.saturating_sub(first) >= size && start >= first {
            break;
        }
        first = first.max(start.saturating_add(length));
    }
    first.checked_add(size).filter(|end| *end <= END)?;
    Some(first)
}

impl Engine {
    /// A range that no existing container has.
    pub(crate) fn place_ids(&self, size: u32) -> Result<u32> {
        let containers = self.containers.all();
        let taken = containers.iter().filter_map(|container| {
            let record = container.record();
            match super::Mode::of(&record.host_config) {
                super::Mode::Auto(size) => Some((record.first_id, size)),
                _ => None,
            }
        });
        place(taken.collect(), size)
            .ok_or_else(|| Error::internal("no range of user ids is left for another container"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap() {
        for (taken, size, expected) in [
            (vec![], 10, Some(FIRST)),
            (vec![(FIRST, 10)], 10, Some(FIRST + 10)),
            (vec![(FIRST + 10, 10), (FIRST, 5)], 5, Some(FIRST + 5)),
            (vec![(FIRST + 10, 10), (FIRST, 5)], 6, Some(FIRST + 20)),
            (vec![(FIRST, END - FIRST)], 1, None),
        ] {
            assert_eq!(place(taken.clone(), size), expected, "{taken:?} {size}");
        }
    }
}
