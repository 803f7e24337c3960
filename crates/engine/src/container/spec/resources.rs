//! Limits (moby `WithResources`).

use wharf_api::container::{HostConfig, ThrottleDevice};
use wharf_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpu, LinuxCpuBuilder, LinuxHugepageLimitBuilder,
    LinuxMemory, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder,
};

use super::devices;
use crate::{Error, Result};

/// CFS period behind `--cpus`, microseconds.
const PERIOD: u64 = 100_000;

/// Fills in the limits.
pub fn fill(resources: &mut LinuxResources, host: &HostConfig) -> Result<()> {
    resources.set_memory(memory(host)?);
    resources.set_cpu(cpu(host)?);
    resources.set_block_io(block_io(host)?);
    if let Some(limit) = host.pids_limit {
        // 0 and below are "no limit".
        let limit = if limit <= 0 { -1 } else { limit };
        let pids = LinuxPidsBuilder::default()
            .limit(limit)
            .build()
            .map_err(unbuildable)?;
        resources.set_pids(Some(pids));
    }
    let wharf = &host.wharf;
    if !wharf.unified.is_empty() {
        resources.set_unified(Some(wharf.unified.clone().into_iter().collect()));
    }
    let hugepages = wharf.hugepage_limits.iter().map(|(size, limit)| {
        LinuxHugepageLimitBuilder::default()
            .page_size(size.as_str())
            .limit(i64::try_from(*limit).unwrap_or(i64::MAX))
            .build()
            .map_err(unbuildable)
    });
    let hugepages: Vec<_> = hugepages.collect::<Result<_>>()?;
    if !hugepages.is_empty() {
        resources.set_hugepage_limits(Some(hugepages));
    }
    Ok(())
}

fn memory(host: &HostConfig) -> Result<Option<LinuxMemory>> {
    let mut memory = LinuxMemoryBuilder::default().build().map_err(unbuildable)?;
    let empty = memory;
    let positive = |value: i64| (value > 0).then_some(value);
    memory.set_limit(positive(host.memory));
    memory.set_reservation(positive(host.memory_reservation));
    memory.set_kernel_tcp(positive(host.kernel_memory_tcp));
    memory.set_swap(
        (host.memory_swap != 0 && (host.memory_swap > 0 || host.memory > 0))
            .then_some(host.memory_swap),
    );
    memory.set_swappiness(
        host.memory_swappiness
            .and_then(|value| u64::try_from(value).ok()),
    );
    memory.set_disable_oom_killer(host.oom_kill_disable.filter(|disable| *disable));
    Ok((memory != empty).then_some(memory))
}

fn cpu(host: &HostConfig) -> Result<Option<LinuxCpu>> {
    let mut cpu = LinuxCpuBuilder::default().build().map_err(unbuildable)?;
    let empty = cpu.clone();
    let unsigned = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    cpu.set_shares(unsigned(host.cpu_shares));
    cpu.set_cpus(text(&host.cpuset_cpus));
    cpu.set_mems(text(&host.cpuset_mems));
    if host.nano_cpus > 0 {
        cpu.set_period(Some(PERIOD));
        cpu.set_quota(Some(host.nano_cpus / (1_000_000_000 / 100_000)));
    }
    if host.cpu_period != 0 {
        cpu.set_period(unsigned(host.cpu_period));
    }
    if host.cpu_quota != 0 {
        cpu.set_quota(Some(host.cpu_quota));
    }
    cpu.set_realtime_period(unsigned(host.cpu_realtime_period));
    cpu.set_realtime_runtime(Some(host.cpu_realtime_runtime).filter(|value| *value != 0));
    Ok((cpu != empty).then_some(cpu))
}

fn block_io(host: &HostConfig) -> Result<Option<LinuxBlockIo>> {
    let mut block_io = LinuxBlockIoBuilder::default()
        .build()
        .map_err(unbuildable)?;
    let empty = block_io.clone();
    block_io.set_weight(Some(host.blkio_weight).filter(|weight| *weight != 0));
    block_io.set_weight_device(weights(host)?);
    block_io.set_throttle_read_bps_device(throttles(host.blkio_device_read_bps.as_ref())?);
    block_io.set_throttle_write_bps_device(throttles(host.blkio_device_write_bps.as_ref())?);
    block_io.set_throttle_read_iops_device(throttles(host.blkio_device_read_iops.as_ref())?);
    block_io.set_throttle_write_iops_device(throttles(host.blkio_device_write_iops.as_ref())?);
    Ok((block_io != empty).then_some(block_io))
}

fn weights(host: &HostConfig) -> Result<Option<Vec<LinuxWeightDevice>>> {
    let Some(list) = host
        .blkio_weight_device
        .as_ref()
        .filter(|list| !list.is_empty())
    else {
        return Ok(None);
    };
    let weight = |device: &wharf_api::container::WeightDevice| {
        let (major, minor) = devices::numbers(&device.path)?;
        LinuxWeightDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .weight(device.weight)
            .build()
            .map_err(unbuildable)
    };
    list.iter().map(weight).collect::<Result<_>>().map(Some)
}

fn throttles(list: Option<&Vec<ThrottleDevice>>) -> Result<Option<Vec<LinuxThrottleDevice>>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        return Ok(None);
    };
    let throttle = |device: &ThrottleDevice| {
        let (major, minor) = devices::numbers(&device.path)?;
        LinuxThrottleDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .rate(device.rate)
            .build()
            .map_err(unbuildable)
    };
    list.iter().map(throttle).collect::<Result<_>>().map(Some)
}

fn unbuildable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused("build spec", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota() {
        let host = HostConfig {
            nano_cpus: 1_500_000_000,
            ..HostConfig::default()
        };
        let cpu = cpu(&host).expect("cpu").expect("set");
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
    }

    #[test]
    fn nothing_asked_is_nothing_set() {
        let host = HostConfig {
            oom_kill_disable: Some(false),
            ..HostConfig::default()
        };
        let mut resources = LinuxResources::default();
        fill(&mut resources, &host).expect("fill");
        assert!(
            resources.memory().is_none()
                && resources.cpu().is_none()
                && resources.block_io().is_none()
        );
    }
}
