//! Resource limits as they are asked for: what is refused, and what is taken back with a warning because this host cannot
//! honour it (moby `verifyPlatformContainerResources`).

use wharf_api::container::HostConfig;

use super::abilities::{Abilities, parse_list};
use crate::{Error, Result};

/// Least memory limit.
const MIN_MEMORY: i64 = 6 * 1024 * 1024;

/// Checks resource limits; gives warnings. `update`: for a container that exists.
pub fn validate(host: &mut HostConfig, can: &Abilities, update: bool) -> Result<Vec<String>> {
    let mut warnings = Warnings::default();
    memory_size(host, can, update, &mut warnings)?;
    memory_details(host, can, &mut warnings)?;
    pids(host, can, &mut warnings);
    cpu(host, can, &mut warnings)?;
    cpuset(host, can, &mut warnings)?;
    block_io(host, can, &mut warnings)?;
    extensions(host, can)?;
    Ok(warnings.0)
}

/// What the client is told.
#[derive(Debug, Default)]
struct Warnings(Vec<String>);

impl Warnings {
    fn add(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

fn memory_size(
    host: &mut HostConfig,
    can: &Abilities,
    update: bool,
    warnings: &mut Warnings,
) -> Result<()> {
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if host.memory > 0 && !can.memory {
        warnings.add("Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.");
        host.memory = 0;
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap != -1 && !can.swap {
        warnings.add("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.");
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if host.memory == 0 && host.memory_swap > 0 && !update {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    Ok(())
}

fn memory_details(host: &mut HostConfig, can: &Abilities, warnings: &mut Warnings) -> Result<()> {
    // Docker's CLI sends -1 for "not given".
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    if host.memory_swappiness.is_some() && !can.swappiness {
        warnings.add("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.");
        host.memory_swappiness = None;
    }
    if let Some(swappiness) = host
        .memory_swappiness
        .filter(|value| !(0..=100).contains(value))
    {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    if host.memory_reservation > 0 && !can.reservation {
        warnings.add("Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.");
        host.memory_reservation = 0;
    }
    if host.memory_reservation > 0 && host.memory_reservation < MIN_MEMORY {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    if host.kernel_memory > 0 {
        warnings.add("Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.");
        host.kernel_memory = 0;
    }
    if host.kernel_memory_tcp > 0 && !can.kernel_memory_tcp {
        warnings.add("Your kernel does not support kernel memory TCP limit capabilities or the cgroup is not mounted. Limitation discarded.");
        host.kernel_memory_tcp = 0;
    }
    if host.oom_kill_disable.is_some() && !can.oom_kill_disable {
        if host.oom_kill_disable == Some(true) {
            warnings.add("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
        }
        host.oom_kill_disable = None;
    }
    if host.oom_kill_disable == Some(true) && host.memory == 0 {
        warnings.add("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.");
    }
    Ok(())
}

fn pids(host: &mut HostConfig, can: &Abilities, warnings: &mut Warnings) {
    if host.pids_limit.is_some() && !can.pids {
        if host.pids_limit > Some(0) {
            warnings.add("Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.");
        }
        host.pids_limit = None;
    }
}

fn cpu(host: &mut HostConfig, can: &Abilities, warnings: &mut Warnings) -> Result<()> {
    nano_cpus(host, can)?;
    if host.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        )));
    }
    if host.cpu_shares > 0 && !can.cpu_shares {
        warnings.add("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.");
        host.cpu_shares = 0;
    }
    if (host.cpu_period != 0 || host.cpu_quota != 0) && !can.cpu_quota {
        warnings.add("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.");
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return Err(Error::invalid(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ));
    }
    if (host.cpu_realtime_period != 0 || host.cpu_realtime_runtime != 0) && !can.cpu_realtime {
        warnings.add("Your kernel does not support CPU real-time scheduler. CPU real-time period and runtime discarded.");
        (host.cpu_realtime_period, host.cpu_realtime_runtime) = (0, 0);
    }
    if host.cpu_percent > 0 {
        warnings.add("linux does not support CPU percent. Percent discarded.");
        host.cpu_percent = 0;
    }
    Ok(())
}

fn nano_cpus(host: &HostConfig, can: &Abilities) -> Result<()> {
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return Err(Error::invalid(
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ));
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return Err(Error::invalid(
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ));
    }
    if host.nano_cpus > 0 && !can.cpu_quota {
        return Err(Error::invalid(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        ));
    }
    if host.nano_cpus != 0 && !(0..=can.cpus * 1_000_000_000).contains(&host.nano_cpus) {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available",
            can.cpus
        )));
    }
    Ok(())
}

fn cpuset(host: &mut HostConfig, can: &Abilities, warnings: &mut Warnings) -> Result<()> {
    let asked = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    if asked && !can.cpuset {
        warnings.add(
            "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
        );
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
    for (what, things, asked, available) in [
        ("cpus", "CPUs", &host.cpuset_cpus, &can.cpu_list),
        ("mems", "memory nodes", &host.cpuset_mems, &can.memory_nodes),
    ] {
        let wanted = parse_list(asked).ok_or_else(|| {
            Error::invalid(format!(
                "Invalid value {asked} for cpuset {what}: invalid format: {asked}"
            ))
        })?;
        if !wanted.is_subset(&parse_list(available).unwrap_or_default()) {
            return Err(Error::invalid(format!(
                "Requested {things} are not available - requested {asked}, available: {available}"
            )));
        }
    }
    Ok(())
}

fn block_io(host: &mut HostConfig, can: &Abilities, warnings: &mut Warnings) -> Result<()> {
    if host.blkio_weight > 0 && !can.io_weight {
        warnings.add("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.");
        host.blkio_weight = 0;
    }
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if host.io_maximum_bandwidth != 0 || host.io_maximum_iops != 0 {
        return Err(Error::invalid(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        ));
    }
    let given = |count: Option<usize>| count.is_some_and(|count| count > 0);
    if given(host.blkio_weight_device.as_ref().map(Vec::len)) && !can.io_weight {
        warnings.add("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.");
        host.blkio_weight_device = Some(Vec::new());
    }
    for (list, kind, unit, direction) in [
        (
            &mut host.blkio_device_read_bps,
            "BPS Block I/O read",
            "BPS",
            "read",
        ),
        (
            &mut host.blkio_device_write_bps,
            "BPS Block I/O write",
            "BPS",
            "write",
        ),
        (
            &mut host.blkio_device_read_iops,
            "IOPS Block read",
            "IOPS",
            "read",
        ),
        (
            &mut host.blkio_device_write_iops,
            "IOPS Block write",
            "IOPS",
            "write",
        ),
    ] {
        if given(list.as_ref().map(Vec::len)) && !can.io_throttle {
            warnings.add(&format!(
                "Your kernel does not support {kind} limit or the cgroup is not mounted. Block I/O {unit} {direction} limit discarded."
            ));
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

/// Limits under the key `Wharf`: refused where they cannot be honoured.
fn extensions(host: &HostConfig, can: &Abilities) -> Result<()> {
    let wharf = &host.wharf;
    if !wharf.unified.is_empty() && !can.cgroup_v2 {
        return Err(Error::invalid(
            "control group files can be set by name with cgroup v2 only",
        ));
    }
    let plain =
        |name: &str| name.contains('.') && !name.contains('/') && !name.starts_with("cgroup.");
    if let Some(name) = wharf.unified.keys().find(|name| !plain(name)) {
        return Err(Error::invalid(format!(
            "invalid control group file {name:?}, expected <controller>.<file>"
        )));
    }
    if !wharf.hugepage_limits.is_empty() && !can.hugetlb {
        return Err(Error::invalid(
            "limits of huge pages need the hugetlb controller, which is not mounted",
        ));
    }
    let known = |clock: &str| matches!(clock, "monotonic" | "boottime");
    match wharf.time_offsets.keys().find(|clock| !known(clock)) {
        Some(clock) => Err(Error::invalid(format!(
            "unknown clock {clock:?}, expected monotonic or boottime"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(can: &Abilities, edit: impl FnOnce(&mut HostConfig)) -> (HostConfig, String) {
        let mut host = HostConfig::default();
        edit(&mut host);
        let answer = match validate(&mut host, can, false) {
            Ok(warnings) => warnings.join("\n"),
            Err(error) => error.to_string(),
        };
        (host, answer)
    }

    #[test]
    fn what_the_host_lacks_is_taken_back_with_a_warning() {
        let nothing = Abilities::default();
        let (host, answer) = check(&nothing, |host| {
            host.memory = MIN_MEMORY;
            host.memory_reservation = MIN_MEMORY;
            host.memory_swappiness = Some(3);
            host.oom_kill_disable = Some(true);
            host.pids_limit = Some(5);
            host.cpu_shares = 5;
            host.cpu_quota = 5000;
            host.cpu_realtime_runtime = 5;
            host.cpuset_cpus = "0".into();
            host.blkio_weight = 100;
            host.blkio_device_read_bps = Some(vec![Default::default()]);
        });
        let taken_back = HostConfig {
            memory_swap: -1,
            blkio_device_read_bps: Some(Vec::new()),
            ..HostConfig::default()
        };
        assert_eq!(host, taken_back);
        assert_eq!(answer.lines().count(), 11, "{answer}");
    }

    #[test]
    fn sets_are_compared_with_what_is_there() {
        let can = Abilities {
            cpuset: true,
            cpu_list: "0-1".into(),
            memory_nodes: "0".into(),
            ..Abilities::default()
        };
        let answer = |cpus: &str, mems: &str| {
            check(&can, |host| {
                (host.cpuset_cpus, host.cpuset_mems) = (cpus.into(), mems.into());
            })
            .1
        };
        assert_eq!(answer("0,1", "0"), "");
        assert_eq!(
            answer("0-5", ""),
            "Requested CPUs are not available - requested 0-5, available: 0-1"
        );
        assert_eq!(
            answer("", "1"),
            "Requested memory nodes are not available - requested 1, available: 0"
        );
        assert_eq!(
            answer("x", ""),
            "Invalid value x for cpuset cpus: invalid format: x"
        );
    }
}
