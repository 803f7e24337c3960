//! Process attributes: capabilities, rlimits, credentials, prctl, pidfds, wait.
