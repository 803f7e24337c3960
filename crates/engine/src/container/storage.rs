//! `--storage-opt`: what a container asks of its storage driver.

use wharf_api::container::HostConfig;
use wharf_api::units::ram_in_bytes;

use crate::{Error, Result};

/// Bytes the container's layer may grow to; `size` is the one option that Docker's drivers know.
pub fn size_limit(host: &HostConfig) -> Result<Option<u64>> {
    let mut limit = None;
    for (key, value) in &host.storage_opt {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("Unknown option {key}")));
        }
        let bytes = ram_in_bytes(value).and_then(|bytes| u64::try_from(bytes).ok());
        let bytes = bytes.filter(|bytes| *bytes > 0).ok_or_else(|| {
            Error::invalid(format!(
                "invalid size: '{value}'; give --storage-opt size= a number with an optional unit, as in size=10G"
            ))
        })?;
        limit = Some(bytes);
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_size_is_known() {
        let with = |key: &str, value: &str| HostConfig {
            storage_opt: [(key.to_owned(), value.to_owned())].into(),
            ..HostConfig::default()
        };
        assert_eq!(size_limit(&HostConfig::default()).expect("none"), None);
        assert_eq!(
            size_limit(&with("size", "10G")).expect("a size"),
            Some(10 << 30)
        );
        for (key, value) in [("size", "big"), ("size", "0"), ("other", "1")] {
            assert!(size_limit(&with(key, value)).is_err(), "{key}={value}");
        }
    }
}
