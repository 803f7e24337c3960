//! `plan(spec, host)`: a pure function from an OCI spec to a value that leaves no choices.

use serde::{Deserialize, Serialize};
use wharf_spec::rootfs::RootfsMount;

/// Everything [`crate::launch`] needs to make one container. A plain value: printable, comparable, sent to the monitor whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// The root file system to build before `pivot_root`.
    pub rootfs: RootfsMount,
}

/// Everything needed to start a further process in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecPlan {}

/// A user as Docker writes it, resolved inside the container's root: `name|uid[:group|gid]`, plus `--group-add` entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// `""` means root.
    pub user: String,
    /// Names or numbers of further groups.
    pub additional_groups: Vec<String>,
}
