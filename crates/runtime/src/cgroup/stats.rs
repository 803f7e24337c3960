//! Reading what a control group has used. Values are v1's and v2's common ground, in Docker's units.

use std::path::Path;

use super::control::read;
use super::{CgroupError, CgroupPath};

/// One reading of everything `docker stats` shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CgroupStats {
    /// CPU time and throttling.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Number of tasks.
    pub pids: PidsStats,
    /// Bytes moved, per device and operation.
    pub block_bytes: Vec<BlockIoEntry>,
    /// Requests, per device and operation.
    pub block_ops: Vec<BlockIoEntry>,
    /// Pressure stall information by resource (`cpu`, `memory`, `io`), where the kernel keeps it: `[some, full]`.
    pub pressure: Vec<(&'static str, [Stall; 2])>,
}

/// One line of a pressure file, Linux `Documentation/accounting/psi.rst`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10, 60 and 300 seconds.
    pub averages: [f64; 3],
    /// Microseconds in all.
    pub total: u64,
}

/// CPU use. Times are nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Total.
    pub total: u64,
    /// Per CPU; empty on v2, which does not keep it.
    pub per_cpu: Vec<u64>,
    /// In user mode.
    pub user: u64,
    /// In kernel mode.
    pub kernel: u64,
    /// Enforcement periods that passed.
    pub periods: u64,
    /// Those in which the group was held back.
    pub throttled_periods: u64,
    /// For how long.
    pub throttled_time: u64,
}

/// Memory use in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use now, caches included.
    pub usage: u64,
    /// Highest use seen; 0 where the kernel does not keep it.
    pub max_usage: u64,
    /// The limit; `u64::MAX` for none (v1 answers a number close to 2^63).
    pub limit: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
    /// Processes killed for memory.
    pub oom_kills: u64,
    /// `memory.stat`, as the kernel gives it.
    pub stats: Vec<(String, u64)>,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// At most; 0 means no limit, as in Docker's API.
    pub limit: u64,
}

/// One line of block device accounting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIoEntry {
    /// Device numbers.
    pub major: u64,
    /// See `major`.
    pub minor: u64,
    /// `read`, `write`, … in the case the kernel gives it.
    pub op: String,
    /// Bytes or requests.
    pub value: u64,
}

impl CgroupPath {
    /// Reads all statistics. What the kernel does not offer stays zero.
    pub fn stats(&self) -> Result<CgroupStats, CgroupError> {
        Ok(match self {
            CgroupPath::V1(_) => CgroupStats {
                cpu: self
                    .dir("cpuacct")
                    .map(|d| v1_cpu(d, self.dir("cpu").unwrap_or(d)))
                    .unwrap_or_default(),
                memory: self.dir("memory").map(v1_memory).unwrap_or_default(),
                pids: self.dir("pids").map(pids).unwrap_or_default(),
                block_bytes: self
                    .dir("blkio")
                    .map(|d| v1_block(d, "io_service_bytes"))
                    .unwrap_or_default(),
                block_ops: self
                    .dir("blkio")
                    .map(|d| v1_block(d, "io_serviced"))
                    .unwrap_or_default(),
                pressure: Vec::new(),
            },
            CgroupPath::V2(dir) => {
                let (block_bytes, block_ops) = parse_io_stat(&read_or_empty(&dir.join("io.stat")));
                // Only this file is on every kernel: without it the group is gone.
                let cpu = parse_v2_cpu(&read(&dir.join("cpu.stat"))?);
                CgroupStats {
                    cpu,
                    memory: v2_memory(dir),
                    pids: pids(dir),
                    block_bytes,
                    block_ops,
                    pressure: pressure(dir),
                }
            }
        })
    }

    /// How many processes the kernel has killed for memory so far. Cheap; what tells an OOM from other SIGKILLs.
    pub fn oom_kills(&self) -> u64 {
        match self {
            CgroupPath::V1(_) => self.dir("memory").map_or(0, v1_oom_kills),
            CgroupPath::V2(dir) => value_of(
                &parse_pairs(&read_or_empty(&dir.join("memory.events"))),
                "oom_kill",
            ),
        }
    }
}

fn read_or_empty(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn read_number(file: &Path) -> u64 {
    parse_number(&read_or_empty(file))
}

/// `max` is no limit; an unreadable value is none.
fn parse_number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        n => n.parse().unwrap_or(0),
    }
}

/// Lines of `key value`.
fn parse_pairs(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|l| l.split_once(' '))
        .filter_map(|(k, v)| v.trim().parse().ok().map(|v| (k.to_string(), v)))
        .collect()
}

fn value_of(pairs: &[(String, u64)], key: &str) -> u64 {
    pairs.iter().find(|(k, _)| k == key).map_or(0, |(_, v)| *v)
}

/// cpuacct counts user and system time in ticks of 1/100 s (`USER_HZ`).
const NANOS_PER_TICK: u64 = 10_000_000;

fn v1_cpu(cpuacct: &Path, cpu: &Path) -> CpuStats {
    let ticks = parse_pairs(&read_or_empty(&cpuacct.join("cpuacct.stat")));
    let stat = parse_pairs(&read_or_empty(&cpu.join("cpu.stat")));
    CpuStats {
        total: read_number(&cpuacct.join("cpuacct.usage")),
        per_cpu: read_or_empty(&cpuacct.join("cpuacct.usage_percpu"))
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect(),
        user: value_of(&ticks, "user") * NANOS_PER_TICK,
        kernel: value_of(&ticks, "system") * NANOS_PER_TICK,
        periods: value_of(&stat, "nr_periods"),
        throttled_periods: value_of(&stat, "nr_throttled"),
        throttled_time: value_of(&stat, "throttled_time"),
    }
}

fn parse_v2_cpu(text: &str) -> CpuStats {
    let stat = parse_pairs(text);
    let nanos = |key| value_of(&stat, key) * 1000;
    CpuStats {
        total: nanos("usage_usec"),
        per_cpu: Vec::new(),
        user: nanos("user_usec"),
        kernel: nanos("system_usec"),
        periods: value_of(&stat, "nr_periods"),
        throttled_periods: value_of(&stat, "nr_throttled"),
        throttled_time: nanos("throttled_usec"),
    }
}

fn v1_oom_kills(dir: &Path) -> u64 {
    value_of(
        &parse_pairs(&read_or_empty(&dir.join("memory.oom_control"))),
        "oom_kill",
    )
}

fn v1_memory(dir: &Path) -> MemoryStats {
    MemoryStats {
        usage: read_number(&dir.join("memory.usage_in_bytes")),
        max_usage: read_number(&dir.join("memory.max_usage_in_bytes")),
        limit: read_number(&dir.join("memory.limit_in_bytes")),
        failcnt: read_number(&dir.join("memory.failcnt")),
        oom_kills: v1_oom_kills(dir),
        stats: parse_pairs(&read_or_empty(&dir.join("memory.stat"))),
    }
}

fn v2_memory(dir: &Path) -> MemoryStats {
    let events = parse_pairs(&read_or_empty(&dir.join("memory.events")));
    MemoryStats {
        usage: read_number(&dir.join("memory.current")),
        max_usage: read_number(&dir.join("memory.peak")),
        limit: read_number(&dir.join("memory.max")),
        failcnt: value_of(&events, "oom"),
        oom_kills: value_of(&events, "oom_kill"),
        stats: parse_pairs(&read_or_empty(&dir.join("memory.stat"))),
    }
}

/// The kernel may be built or booted without (`psi=0`): then the files are missing or cannot be read.
fn pressure(dir: &Path) -> Vec<(&'static str, [Stall; 2])> {
    ["cpu", "memory", "io"]
        .into_iter()
        .map(|name| (name, read_or_empty(&dir.join(format!("{name}.pressure")))))
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name, parse_pressure(&text)))
        .collect()
}

/// Lines of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …`.
fn parse_pressure(text: &str) -> [Stall; 2] {
    ["some", "full"].map(|kind| {
        let line = text.lines().find_map(|l| l.strip_prefix(kind));
        let value = |key: &str| {
            let mut words = line.unwrap_or_default().split_whitespace();
            words.find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
        };
        let average = |key| value(key).and_then(|v| v.parse().ok()).unwrap_or(0.0);
        Stall {
            averages: ["avg10", "avg60", "avg300"].map(average),
            total: value("total").and_then(|v| v.parse().ok()).unwrap_or(0),
        }
    })
}

fn pids(dir: &Path) -> PidsStats {
    let limit = read_number(&dir.join("pids.max"));
    PidsStats {
        current: read_number(&dir.join("pids.current")),
        limit: if limit == u64::MAX { 0 } else { limit },
    }
}

/// The throttling layer's counters, recursive where the kernel keeps them so: the only ones every scheduler has.
fn v1_block(dir: &Path, what: &str) -> Vec<BlockIoEntry> {
    let recursive = read_or_empty(&dir.join(format!("blkio.throttle.{what}_recursive")));
    let text = if recursive.is_empty() {
        read_or_empty(&dir.join(format!("blkio.throttle.{what}")))
    } else {
        recursive
    };
    parse_v1_block(&text)
}

/// Lines of `8:0 Read 4096`, then a `Total 4096`.
fn parse_v1_block(text: &str) -> Vec<BlockIoEntry> {
    let parse = |line: &str| {
        let mut parts = line.split_whitespace();
        let (major, minor) = parts.next()?.split_once(':')?;
        Some(BlockIoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: parts.next()?.to_string(),
            value: parts.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`. Answers bytes and operations.
fn parse_io_stat(text: &str) -> (Vec<BlockIoEntry>, Vec<BlockIoEntry>) {
    let (mut bytes, mut ops) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut parts = line.split_whitespace();
        let Some((major, minor)) = parts.next().and_then(|d| d.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "read"),
                "wbytes" => (&mut bytes, "write"),
                "rios" => (&mut ops, "read"),
                "wios" => (&mut ops, "write"),
                _ => continue,
            };
            list.push(BlockIoEntry {
                major,
                minor,
                op: op.into(),
                value: value.parse().unwrap_or(0),
            });
        }
    }
    (bytes, ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_cpu_is_nanoseconds() {
        let stats = parse_v2_cpu(
            "usage_usec 12\nuser_usec 7\nsystem_usec 5\nnr_periods 3\nnr_throttled 1\nthrottled_usec 9\n",
        );
        assert_eq!(
            (stats.total, stats.user, stats.kernel),
            (12_000, 7_000, 5_000)
        );
        assert_eq!(
            (stats.periods, stats.throttled_periods, stats.throttled_time),
            (3, 1, 9_000)
        );
    }

    #[test]
    fn io_lines_of_both_versions() {
        let entry = |op: &str, value| BlockIoEntry {
            major: 8,
            minor: 0,
            op: op.into(),
            value,
        };
        assert_eq!(
            parse_v1_block("8:0 Read 10\n8:0 Write 20\nTotal 30\n"),
            [entry("Read", 10), entry("Write", 20)]
        );
        let (bytes, ops) = parse_io_stat("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n");
        assert_eq!(bytes, [entry("read", 1), entry("write", 2)]);
        assert_eq!(ops, [entry("read", 3), entry("write", 4)]);
    }

    #[test]
    fn pressure_has_two_lines() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let [some, full] = parse_pressure(text);
        assert_eq!((some.averages, some.total), ([1.5, 0.25, 0.0], 42));
        assert_eq!(full.total, 7);
        assert_eq!(parse_pressure("")[0], Stall::default());
    }

    #[test]
    fn max_is_no_limit() {
        assert_eq!(parse_number("max\n"), u64::MAX);
        assert_eq!(parse_number("42\n"), 42);
    }
}
