//! Waiting for a condition, never for an amount of time.

use std::time::{Duration, Instant};

/// What a test waits for at most. Generous: it is only reached when something is broken.
pub const LONG: Duration = Duration::from_secs(60);

/// How often a condition without an event to wait on is looked at.
const PACE: Duration = Duration::from_millis(5);

/// Asks `look` until it answers.
///
/// # Panics
/// When `limit` passes first; the message says what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    wait_for_paced(what, limit, PACE, look)
}

/// The same, looking as often as `pace` says.
pub fn wait_for_paced<T>(
    what: &str,
    limit: Duration,
    pace: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        std::thread::sleep(pace);
    }
}

/// Waits until `holds` is true.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, limit, || holds().then_some(()));
}
