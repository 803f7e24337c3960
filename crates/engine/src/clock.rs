//! The time, as the engine keeps it: nanoseconds since the epoch.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now.
pub fn now_ns() -> i64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
}

/// RFC 3339 as Docker writes it; `None` is Go's zero time.
pub fn text(ns: Option<i64>) -> String {
    match ns {
        Some(ns) => wharf_api::time::rfc3339_nano_from_ns(ns),
        None => wharf_api::time::ZERO.to_owned(),
    }
}
