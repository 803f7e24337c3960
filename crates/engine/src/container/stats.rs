//! `GET /containers/{id}/stats`: counters of the control group and the network namespace.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use wharf_api::container::{
    BlkioStatEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Pressure,
    Stall, Stats, ThrottlingData, WharfStats,
};
use wharf_runtime::cgroup::{self, BlockIoEntry, CgroupPath, CgroupStats};

use super::network::Mode;
use super::{Container, Live};
use crate::{Engine, Error, Result, clock};

/// Docker's sampling interval.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between the two samples of an answer that is asked for once. Half of Docker's: shares are computed from both samples' own times, and the
/// stock CLI adds half a second itself.
const SINGLE: Duration = Duration::from_millis(500);
/// `USER_HZ` of Linux.
const TICKS_PER_SECOND: u64 = 100;

/// How to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatsOptions {
    /// One reading after the other.
    pub stream: bool,
    /// Without waiting for an earlier reading to compare with.
    pub one_shot: bool,
}

impl Engine {
    /// Readings, one or a stream. The stream ends with the client or the container.
    pub async fn container_stats(
        &self,
        name: &str,
        options: StatsOptions,
    ) -> Result<mpsc::Receiver<Stats>> {
        let container = self.containers.get(name)?;
        let (sender, receiver) = mpsc::channel(1);
        let Some(engine) = self.handle() else {
            return Ok(receiver);
        };
        if container.live().is_none() && !options.stream {
            // Docker answers zeros for what does not run.
            let _ = sender
                .send(identify(
                    &container,
                    Stats {
                        read: wharf_api::time::ZERO.into(),
                        preread: wharf_api::time::ZERO.into(),
                        ..Stats::default()
                    },
                ))
                .await;
            return Ok(receiver);
        }
        tokio::spawn(async move { engine.sample(&container, options, &sender).await });
        Ok(receiver)
    }

    async fn sample(
        &self,
        container: &Arc<Container>,
        options: StatsOptions,
        sender: &mpsc::Sender<Stats>,
    ) {
        let mut previous: Option<Stats> = None;
        loop {
            let mut stats = match self.read_stats(container).await {
                Ok(stats) => stats,
                Err(_) if options.stream && self.containers.by_id(&container.id).is_some() => {
                    identify(container, Stats::default())
                }
                Err(_) => return,
            };
            stats.preread = previous
                .as_ref()
                .map_or(wharf_api::time::ZERO.to_owned(), |earlier| {
                    earlier.read.clone()
                });
            stats.precpu_stats = previous
                .as_ref()
                .map_or(CpuStats::default(), |earlier| earlier.cpu_stats.clone());
            let complete = options.stream || options.one_shot || previous.is_some();
            previous = Some(stats.clone());
            if complete && (sender.send(stats).await.is_err() || !options.stream) {
                return;
            }
            let pause = if options.stream { INTERVAL } else { SINGLE };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = sender.closed() => return,
            }
        }
    }

    async fn read_stats(&self, container: &Arc<Container>) -> Result<Stats> {
        let live = container.running()?;
        let own_network = Mode::of(&container.record().host_config) != Mode::Host;
        let total = memory_total();
        let online = u32::try_from(self.cpus).unwrap_or(u32::MAX);
        let stats = crate::blocking(move || read(&live, own_network, online, total)).await?;
        Ok(identify(container, stats))
    }
}

fn identify(container: &Container, stats: Stats) -> Stats {
    Stats {
        name: format!("/{}", container.name()),
        id: container.id.clone(),
        ..stats
    }
}

fn read(live: &Live, own_network: bool, online: u32, memory_total: u64) -> Result<Stats> {
    let cgroup = live
        .plan
        .cgroup
        .path
        .stats()
        .map_err(|error| Error::caused("read statistics", error))?;
    let networks = if own_network {
        networks(live.pid)
    } else {
        BTreeMap::new()
    };
    Ok(Stats {
        read: clock::text(Some(clock::now_ns())),
        pids_stats: PidsStats {
            current: cgroup.pids.current,
            limit: cgroup.pids.limit,
        },
        blkio_stats: block_io(&cgroup, matches!(live.plan.cgroup.path, CgroupPath::V1(_))),
        cpu_stats: cpu(&cgroup, online),
        memory_stats: memory(&cgroup, memory_total),
        networks,
        wharf: Some(beyond_docker(&cgroup)),
        ..Stats::default()
    })
}

fn beyond_docker(cgroup: &CgroupStats) -> WharfStats {
    let stall = |stall: &cgroup::Stall| Stall {
        avg10: stall.averages[0],
        avg60: stall.averages[1],
        avg300: stall.averages[2],
        total: stall.total,
    };
    let pressure = cgroup.pressure.iter().map(|(name, [some, full])| {
        let pressure = Pressure {
            some: stall(some),
            full: stall(full),
        };
        ((*name).to_owned(), pressure)
    });
    WharfStats {
        oom_kills: cgroup.memory.oom_kills,
        pressure: pressure.collect(),
    }
}

/// On v1 Docker shows a list for each counter, empty where the scheduler does not keep it; on v2 only the first two exist.
fn block_io(cgroup: &CgroupStats, v1: bool) -> BlkioStats {
    let missing = || v1.then(Vec::new);
    BlkioStats {
        io_service_bytes_recursive: entries(&cgroup.block_bytes).or_else(missing),
        io_serviced_recursive: entries(&cgroup.block_ops).or_else(missing),
        io_queue_recursive: missing(),
        io_service_time_recursive: missing(),
        io_wait_time_recursive: missing(),
        io_merged_recursive: missing(),
        io_time_recursive: missing(),
        sectors_recursive: missing(),
    }
}

fn entries(list: &[BlockIoEntry]) -> Option<Vec<BlkioStatEntry>> {
    let entry = |entry: &BlockIoEntry| BlkioStatEntry {
        major: entry.major,
        minor: entry.minor,
        op: entry.op.clone(),
        value: entry.value,
    };
    (!list.is_empty()).then(|| list.iter().map(entry).collect())
}

fn cpu(cgroup: &CgroupStats, online_cpus: u32) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cgroup.cpu.total,
            percpu_usage: cgroup.cpu.per_cpu.clone(),
            usage_in_kernelmode: cgroup.cpu.kernel,
            usage_in_usermode: cgroup.cpu.user,
        },
        system_cpu_usage: system_cpu_usage(&fs::read_to_string("/proc/stat").unwrap_or_default()),
        online_cpus,
        throttling_data: ThrottlingData {
            periods: cgroup.cpu.periods,
            throttled_periods: cgroup.cpu.throttled_periods,
            throttled_time: cgroup.cpu.throttled_time,
        },
    }
}

/// Nanoseconds all CPUs spent since boot: the first seven columns of the first line of `/proc/stat`.
fn system_cpu_usage(text: &str) -> u64 {
    let columns = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .skip(1)
        .take(7);
    let ticks: u64 = columns
        .filter_map(|column| column.parse::<u64>().ok())
        .sum();
    ticks * (1_000_000_000 / TICKS_PER_SECOND)
}

fn memory(cgroup: &CgroupStats, total: u64) -> MemoryStats {
    MemoryStats {
        usage: cgroup.memory.usage,
        max_usage: cgroup.memory.max_usage,
        stats: cgroup.memory.stats.iter().cloned().collect(),
        failcnt: cgroup.memory.failcnt,
        limit: cgroup.memory.limit.min(total),
    }
}

/// Bytes of memory the host has.
pub(crate) fn memory_total() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line
        .and_then(|line| line.split_ascii_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Counters of the interfaces in a process's network namespace, without loopback.
fn networks(pid: i32) -> BTreeMap<String, NetworkStats> {
    parse_interfaces(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

fn parse_interfaces(text: &str) -> BTreeMap<String, NetworkStats> {
    let mut interfaces = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<u64> = counters
            .split_ascii_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        if name.trim() == "lo" || numbers.len() < 12 {
            continue;
        }
        let stats = NetworkStats {
            rx_bytes: numbers[0],
            rx_packets: numbers[1],
            rx_errors: numbers[2],
            rx_dropped: numbers[3],
            tx_bytes: numbers[8],
            tx_packets: numbers[9],
            tx_errors: numbers[10],
            tx_dropped: numbers[11],
        };
        interfaces.insert(name.trim().to_owned(), stats);
    }
    interfaces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_without_loopback() {
        let text = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 0 1 0 0 0 0 20 4 0 3 0 0 0 0\n";
        let interfaces = parse_interfaces(text);
        assert_eq!(interfaces.len(), 1);
        let eth0 = &interfaces["eth0"];
        assert_eq!(
            (
                eth0.rx_bytes,
                eth0.rx_dropped,
                eth0.tx_bytes,
                eth0.tx_dropped
            ),
            (10, 1, 20, 3)
        );
    }

    #[test]
    fn system_time_is_in_nanoseconds() {
        assert_eq!(
            system_cpu_usage("cpu  1 2 3 4 5 6 7 99 99\ncpu0 9\n"),
            28 * 10_000_000
        );
    }
}
