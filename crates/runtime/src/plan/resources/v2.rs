//! Limits as files of the unified hierarchy (Linux `Documentation/admin-guide/cgroup-v2.rst`), converted from
//! the v1 values that the OCI spec and Docker's API speak.

use std::path::Path;

use wharf_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::Writes;
use super::v1::pids_max;
use crate::plan::{CgroupWrite, PlanError};

/// The kernel's default CPU period in microseconds.
pub(super) const DEFAULT_PERIOD: u64 = 100_000;

/// Values to write into `dir`.
pub(super) fn plan_writes(
    dir: &Path,
    resources: &LinuxResources,
) -> Result<Vec<CgroupWrite>, PlanError> {
    let mut w = Writes { out: Vec::new() };
    if let Some(memory) = resources.memory() {
        put_memory(&mut w, dir, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        put_cpu(&mut w, dir, cpu);
    }
    if let Some(pids) = resources.pids() {
        w.put_opt(dir, "pids.max", pids_max(pids.limit()));
    }
    if let Some(io) = resources.block_io() {
        put_block_io(&mut w, dir, io);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        w.put(
            dir,
            &format!("hugetlb.{}.max", limit.page_size()),
            limit.limit(),
        );
    }
    put_unified(&mut w, dir, resources)?;
    Ok(w.out)
}

/// Files named outright; they come last and so win.
fn put_unified(w: &mut Writes, dir: &Path, resources: &LinuxResources) -> Result<(), PlanError> {
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.contains('/') || !file.contains('.') {
            return Err(PlanError::Invalid {
                what: "unified cgroup key",
                value: file.clone(),
            });
        }
        w.put(dir, file, value);
    }
    Ok(())
}

fn put_memory(w: &mut Writes, dir: &Path, memory: &LinuxMemory) -> Result<(), PlanError> {
    let limit = memory.limit().filter(|l| *l != 0);
    w.put_opt(dir, "memory.max", limit.map(max_or));
    w.put_opt(dir, "memory.swap.max", swap_max(memory.swap(), limit)?);
    w.put_opt(
        dir,
        "memory.low",
        memory.reservation().filter(|r| *r != 0).map(max_or),
    );
    Ok(())
}

/// -1 is unlimited.
fn max_or(value: i64) -> String {
    if value < 0 {
        "max".into()
    } else {
        value.to_string()
    }
}

/// v1 limits memory plus swap, v2 swap alone.
pub(super) fn swap_max(
    memory_and_swap: Option<i64>,
    limit: Option<i64>,
) -> Result<Option<String>, PlanError> {
    let invalid = |v: i64| PlanError::Invalid {
        what: "memory swap limit",
        value: v.to_string(),
    };
    match (memory_and_swap.filter(|s| *s != 0), limit) {
        (None, Some(-1)) => Ok(Some("max".into())),
        (None, _) => Ok(None),
        (Some(s), _) if s < 0 => Ok(Some("max".into())),
        (Some(s), Some(l)) if l > 0 && s >= l => Ok(Some((s - l).to_string())),
        (Some(s), _) => Err(invalid(s)),
    }
}

fn put_cpu(w: &mut Writes, dir: &Path, cpu: &LinuxCpu) {
    w.put_opt(
        dir,
        "cpu.weight",
        cpu.shares().filter(|s| *s != 0).map(weight_from_shares),
    );
    w.put_opt(dir, "cpu.max", cpu_max(cpu.quota(), cpu.period()));
    w.put_opt(dir, "cpu.max.burst", cpu.burst());
    w.put_opt(dir, "cpu.idle", cpu.idle());
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

/// Shares 2…262144 onto weight 1…10000, linearly, as runc 1.2 does.
pub(super) fn weight_from_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn cpu_max(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    let (quota, period) = (quota.filter(|q| *q != 0), period.filter(|p| *p != 0));
    if quota.is_none() && period.is_none() {
        return None;
    }
    let quota = quota
        .filter(|q| *q > 0)
        .map_or_else(|| "max".into(), |q| q.to_string());
    Some(format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD)))
}

/// Weight 10…1000 of v1 onto 1…10000.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9_999 / 990
}

fn put_block_io(w: &mut Writes, dir: &Path, io: &LinuxBlockIo) {
    if let Some(weight) = io.weight().filter(|w| *w != 0) {
        w.put_either(
            dir,
            ("io.bfq.weight", weight.to_string()),
            ("io.weight", io_weight(weight).to_string()),
        );
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = |weight: u64| format!("{}:{} {weight}", device.major(), device.minor());
            w.put_either(
                dir,
                ("io.bfq.weight", line(weight.into())),
                ("io.weight", line(io_weight(weight))),
            );
        }
    }
    for (key, devices) in [
        ("rbps", io.throttle_read_bps_device()),
        ("wbps", io.throttle_write_bps_device()),
        ("riops", io.throttle_read_iops_device()),
        ("wiops", io.throttle_write_iops_device()),
    ] {
        for d in devices.iter().flatten() {
            let rate = if d.rate() == 0 {
                "max".to_string()
            } else {
                d.rate().to_string()
            };
            w.put(
                dir,
                "io.max",
                format!("{}:{} {key}={rate}", d.major(), d.minor()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [
            (2, 1),
            (1024, 39),
            (262_144, 10_000),
            (1, 1),
            (9_999_999, 10_000),
        ] {
            assert_eq!(weight_from_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn swap_is_the_difference() {
        for (swap, limit, expected) in [
            (Some(300), Some(100), Some("200")),
            (Some(100), Some(100), Some("0")),
            (Some(-1), Some(100), Some("max")),
            (None, Some(100), None),
            (None, Some(-1), Some("max")),
        ] {
            assert_eq!(
                swap_max(swap, limit).expect("valid").as_deref(),
                expected,
                "{swap:?} {limit:?}"
            );
        }
        assert!(swap_max(Some(50), Some(100)).is_err());
        assert!(swap_max(Some(50), None).is_err());
    }

    #[test]
    fn cpu_max_names_both_parts() {
        for (quota, period, expected) in [
            (Some(50_000), Some(100_000), Some("50000 100000")),
            (Some(50_000), None, Some("50000 100000")),
            (Some(-1), Some(20_000), Some("max 20000")),
            (None, None, None),
        ] {
            assert_eq!(cpu_max(quota, period).as_deref(), expected);
        }
    }
}
