//! Creating processes: clone3, fork, setns, unshare.
