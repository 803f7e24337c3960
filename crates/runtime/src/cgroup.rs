//! Control groups as directories: make, fill, read, freeze, kill, remove.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a container's control group is. Part of the plan; all later operations work on it alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupPath {
    /// One directory per hierarchy.
    V1(Vec<V1Dir>),
    /// One directory.
    V2(PathBuf),
}

/// A v1 directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V1Dir {
    /// Controllers of the hierarchy, e.g. `["cpu", "cpuacct"]` or `["name=systemd"]`.
    pub controllers: Vec<String>,
    /// Mount point of the hierarchy.
    pub mount: PathBuf,
    /// Absolute host path of the container's directory.
    pub dir: PathBuf,
}
