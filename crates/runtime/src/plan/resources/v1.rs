//! Limits as files of the v1 controllers (Linux `Documentation/admin-guide/cgroup-v1`).

use std::path::Path;

use wharf_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{Rule, Writes};
use crate::cgroup::V1Dir;
use crate::host::HostFacts;
use crate::plan::CgroupWrite;

/// Values in the order they must be written: memory before memory+swap, period before quota, deny before allow.
pub(super) fn plan_writes(
    dirs: &[V1Dir],
    resources: &LinuxResources,
    rules: &[Rule],
    host: &HostFacts,
) -> Vec<CgroupWrite> {
    let mut w = Writes { out: Vec::new() };
    // A controller that is not mounted has been warned about when the container was created.
    let dir = |controller: &str| {
        dirs.iter()
            .find(|d| d.controllers.iter().any(|c| c == controller))
            .map(|d| &*d.dir)
    };
    if let (Some(dir), Some(memory)) = (dir("memory"), resources.memory()) {
        put_memory(&mut w, dir, memory, host.features.swap_accounting);
    }
    if let (Some(dir), Some(cpu)) = (dir("cpu"), resources.cpu()) {
        put_cpu(&mut w, dir, cpu);
    }
    if let (Some(dir), Some(cpu)) = (dir("cpuset"), resources.cpu()) {
        w.put_opt(
            dir,
            "cpuset.cpus",
            cpu.cpus().as_ref().filter(|c| !c.is_empty()),
        );
        w.put_opt(
            dir,
            "cpuset.mems",
            cpu.mems().as_ref().filter(|c| !c.is_empty()),
        );
    }
    if let (Some(dir), Some(pids)) = (dir("pids"), resources.pids()) {
        w.put_opt(dir, "pids.max", pids_max(pids.limit()));
    }
    if let (Some(dir), Some(io)) = (dir("blkio"), resources.block_io()) {
        put_block_io(&mut w, dir, io);
    }
    if let Some(dir) = dir("hugetlb") {
        for limit in resources.hugepage_limits().iter().flatten() {
            w.put(
                dir,
                &format!("hugetlb.{}.limit_in_bytes", limit.page_size()),
                limit.limit(),
            );
        }
    }
    if let (Some(dir), Some(network)) = (dir("net_cls"), resources.network()) {
        w.put_opt(dir, "net_cls.classid", network.class_id());
    }
    if let Some(dir) = dir("devices") {
        for rule in rules {
            w.put(
                dir,
                if rule.allow {
                    "devices.allow"
                } else {
                    "devices.deny"
                },
                rule.v1_text(),
            );
        }
    }
    w.out
}

/// `None` leaves the new group's `max`; Docker's -1 is unlimited and 0 is unset.
pub(super) fn pids_max(limit: i64) -> Option<String> {
    match limit {
        0 => None,
        n if n < 0 => Some("max".into()),
        n => Some(n.to_string()),
    }
}

fn put_memory(w: &mut Writes, dir: &Path, memory: &LinuxMemory, swap_accounting: bool) {
    let set = |v: Option<i64>| v.filter(|v| *v != 0);
    w.put_opt(dir, "memory.limit_in_bytes", set(memory.limit()));
    if swap_accounting {
        w.put_opt(dir, "memory.memsw.limit_in_bytes", set(memory.swap()));
    }
    w.put_opt(dir, "memory.soft_limit_in_bytes", set(memory.reservation()));
    w.put_opt(
        dir,
        "memory.kmem.tcp.limit_in_bytes",
        set(memory.kernel_tcp()),
    );
    if memory.disable_oom_killer() == Some(true) {
        w.put(dir, "memory.oom_control", 1);
    }
    // Beyond 100 it is Docker's -1 for "leave it", carried through an unsigned field.
    w.put_opt(
        dir,
        "memory.swappiness",
        memory.swappiness().filter(|s| *s <= 100),
    );
}

fn put_cpu(w: &mut Writes, dir: &Path, cpu: &LinuxCpu) {
    w.put_opt(dir, "cpu.shares", cpu.shares().filter(|s| *s != 0));
    w.put_opt(dir, "cpu.cfs_period_us", cpu.period().filter(|p| *p != 0));
    w.put_opt(dir, "cpu.cfs_quota_us", cpu.quota().filter(|q| *q != 0));
    w.put_opt(dir, "cpu.cfs_burst_us", cpu.burst());
    w.put_opt(
        dir,
        "cpu.rt_period_us",
        cpu.realtime_period().filter(|p| *p != 0),
    );
    w.put_opt(
        dir,
        "cpu.rt_runtime_us",
        cpu.realtime_runtime().filter(|r| *r != 0),
    );
    w.put_opt(dir, "cpu.idle", cpu.idle());
}

fn put_block_io(w: &mut Writes, dir: &Path, io: &LinuxBlockIo) {
    if let Some(weight) = io.weight().filter(|w| *w != 0) {
        w.put_either(
            dir,
            ("blkio.weight", weight.to_string()),
            ("blkio.bfq.weight", weight.to_string()),
        );
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            w.put_either(
                dir,
                ("blkio.weight_device", line.clone()),
                ("blkio.bfq.weight_device", line),
            );
        }
    }
    for (file, devices) in [
        (
            "blkio.throttle.read_bps_device",
            io.throttle_read_bps_device(),
        ),
        (
            "blkio.throttle.write_bps_device",
            io.throttle_write_bps_device(),
        ),
        (
            "blkio.throttle.read_iops_device",
            io.throttle_read_iops_device(),
        ),
        (
            "blkio.throttle.write_iops_device",
            io.throttle_write_iops_device(),
        ),
    ] {
        for d in devices.iter().flatten() {
            w.put(
                dir,
                file,
                format!("{}:{} {}", d.major(), d.minor(), d.rate()),
            );
        }
    }
}
