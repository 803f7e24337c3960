//! `dm.directlvm_device`: a whole disk becomes a thin pool, by the programs of LVM, as Docker sets it up: volume group `wharf`, pool
//! `thinpool`.

use std::io;
use std::path::Path;
use std::process::Command;

use super::device::run;
use super::options::DmOptions;

/// Volume group.
const GROUP: &str = "wharf";
/// Name of the pool in the device mapper.
const POOL: &str = "wharf-thinpool";
const PROFILE: &str = "/etc/lvm/profile/wharf-thinpool.profile";

/// The pool's name; the pool is made the first time.
pub(super) fn ensure_pool(disk: &Path, options: &DmOptions) -> io::Result<String> {
    if lvm("lvs", &["--noheadings", "wharf/thinpool"]).is_ok() {
        lvm("lvchange", &["--yes", "--activate", "y", "wharf/thinpool"])?;
        return Ok(POOL.to_owned());
    }
    let disk = disk.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    if !options.direct_lvm_force {
        ensure_unused(disk)?;
    }
    let (data, metadata) = options.lvm_percent;
    let (data, metadata) = (format!("{data}%VG"), format!("{metadata}%VG"));
    let create = ["--yes", "--wipesignatures", "y"];
    lvm("pvcreate", &["--force", "--yes", disk])?;
    lvm("vgcreate", &[GROUP, disk])?;
    lvm(
        "lvcreate",
        &[&create[..], &["-n", "thinpool", GROUP, "-l", &data]].concat(),
    )?;
    lvm(
        "lvcreate",
        &[&create[..], &["-n", "thinpoolmeta", GROUP, "-l", &metadata]].concat(),
    )?;
    let convert = [
        "--yes",
        "--zero",
        "n",
        "--chunksize",
        "512K",
        "--thinpool",
        "wharf/thinpool",
        "--poolmetadata",
        "wharf/thinpoolmeta",
    ];
    lvm("lvconvert", &convert)?;
    write_profile(options)?;
    lvm(
        "lvchange",
        &["--metadataprofile", "wharf-thinpool", "wharf/thinpool"],
    )?;
    Ok(POOL.to_owned())
}

/// Nobody's data is overwritten unasked.
fn ensure_unused(disk: &str) -> io::Result<()> {
    let found = Command::new("blkid").args(["-p", disk]).output()?;
    // blkid(8): 2 means that nothing was found.
    if found.status.code() == Some(2) {
        return Ok(());
    }
    let text = format!(
        "devmapper: {disk} already has a file system or partitions; dm.directlvm_device_force=true overwrites it"
    );
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// LVM's own daemon extends the pool before it is full.
fn write_profile(options: &DmOptions) -> io::Result<()> {
    let (threshold, percent) = options.lvm_extend;
    let text = format!(
        "activation {{\n\tthin_pool_autoextend_threshold={threshold}\n\tthin_pool_autoextend_percent={percent}\n}}\n"
    );
    std::fs::create_dir_all("/etc/lvm/profile")?;
    std::fs::write(PROFILE, text)
}

fn lvm(program: &str, args: &[&str]) -> io::Result<()> {
    run(Command::new(program).args(args))
}
