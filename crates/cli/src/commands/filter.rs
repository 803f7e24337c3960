//! `--filter key=value`, repeated, to the API's `filters`.

use wharf_api::filters::Filters;

use super::{Flag, list};
use crate::flags::parse::Matches;

/// The flag as most listings have it.
pub const FLAG: Flag = list("filter", "Filter output based on conditions provided")
    .short('f')
    .value("filter")
    .check(check);

/// The flag of prune commands, where `-f` is something else.
pub const LONG_FLAG: Flag = list(
    "filter",
    "Provide filter values (e.g. \"until=<timestamp>\")",
)
.value("filter")
.check(check);

fn check(value: &str) -> Result<(), String> {
    if value.is_empty() || value.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".into())
}

/// What was asked for. Keys are lower case and blanks around both sides do not count, as in Docker's client.
pub fn filters(matches: &Matches) -> Filters {
    let mut filters = Filters::default();
    for (key, value) in matches
        .list("filter")
        .iter()
        .filter_map(|given| given.split_once('='))
    {
        filters.add(&key.trim().to_lowercase(), value.trim().to_owned());
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_contain_equal_signs() {
        assert!(check("label=a=b").is_ok() && check("label").is_err());
    }
}
