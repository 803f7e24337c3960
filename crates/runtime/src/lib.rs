//! Containers as processes: from an OCI runtime spec to a running, watched, cleaned-up process tree.
//!
//! In: an OCI [`Spec`](wharf_spec::runtime::Spec), a [`RootfsMount`](wharf_spec::rootfs::RootfsMount), host facts.
//! Out: a pid, its output, its exit status. Knows nothing of images, HTTP, networks or the engine's database.
//!
//! Reading order: [`host`] → [`plan`] → [`launch`] (one process tree, inside and out) → [`monitor`] (watches it)
//! → [`spawner`] (forks monitors) → [`client`] (the daemon's end of both).

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod client;
pub mod host;
pub mod launch;
pub mod logfile;
pub mod monitor;
pub mod plan;
pub mod protocol;
pub mod resctrl;
pub mod seccomp;
pub mod spawner;
pub mod systemd;
pub mod view;
