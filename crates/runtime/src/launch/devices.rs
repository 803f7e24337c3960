//! Device nodes and links in the container's `/dev`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::fs::{
    FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::mounts::attach;
use super::root::Root;
use super::{LaunchError, Step};
use crate::plan::{DeviceKind, DeviceNode};

/// Makes all nodes. The file mode creation mask must be 0. Where we may not, the host's are bound: `sources` has one per
/// device then.
pub(super) fn make_nodes(
    root: &Root,
    devices: &[DeviceNode],
    sources: Vec<OwnedFd>,
) -> Result<(), LaunchError> {
    let mut sources = sources.into_iter();
    for device in devices {
        let made = match sources.next() {
            Some(node) => root
                .ensure_file(&device.path)
                .and_then(|target| attach(&node, &target)),
            None => make_node(root, device),
        };
        made.step_with(|| format!("error creating device {:?}", device.path))?;
    }
    Ok(())
}

fn make_node(root: &Root, device: &DeviceNode) -> io::Result<()> {
    let (dir, name) = root.parent(&device.path)?;
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(device.mode);
    let number = makedev(device.major, device.minor);
    match mknodat(&dir, name, kind, mode, number) {
        Err(Errno::EXIST) => {
            unlinkat(&dir, name, AtFlags::empty())?;
            mknodat(&dir, name, kind, mode, number)?;
        }
        made => made?,
    }
    // mknod applies the mask and default ACLs of the directory; the node was just made by us, so it is no link.
    chmodat(&dir, name, mode, AtFlags::empty())?;
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Makes links, replacing what the image has there.
pub(super) fn make_links(root: &Root, links: &[(String, String)]) -> Result<(), LaunchError> {
    for (path, target) in links {
        make_link(root, path, target).step_with(|| format!("error creating link {path:?}"))?;
    }
    Ok(())
}

fn make_link(root: &Root, path: &str, target: &str) -> io::Result<()> {
    let (dir, name) = root.parent(path)?;
    match symlinkat(target, &dir, name) {
        Err(Errno::EXIST) => {
            unlinkat(&dir, name, AtFlags::empty())?;
            symlinkat(target, &dir, name)?;
        }
        made => made?,
    }
    Ok(())
}
