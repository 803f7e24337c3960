//! The only home of `unsafe`: thin, typed wrappers over what `rustix` lacks.
//!
//! Borrowed descriptors in, owned descriptors out, errno as `io::Result`. No policy, no logging.

pub mod activation;
pub mod btrfs;
pub mod cgroup;
pub mod child;
pub mod clone;
pub mod devicemapper;
pub mod fdpass;
pub mod heap;
pub mod keyring;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod mountns;
pub mod netns;
mod outcome;
pub mod pktinfo;
pub mod process;
pub mod queue;
pub mod quota;
pub mod seccomp;
pub mod signal;
pub mod signal_watch;
pub mod tty;
pub mod userns;
