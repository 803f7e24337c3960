//! `events`

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf_runtime::cgroup::{BlockIoEntry, CgroupStats};

use super::{Context, Done};
use crate::container::{Container, Status};
use crate::failure::Failure;
use crate::options::{Flag, Parsed, switch, valued};

/// runc's.
pub const FLAGS: &[Flag] = &[
    valued(
        "interval",
        "DURATION",
        "between two statistics, as 5s (the default)",
    ),
    switch("stats", "print statistics once and end"),
];

/// How soon the end of the container, or its lack of memory, is noticed.
const LOOK: Duration = Duration::from_millis(100);

/// Prints one JSON object per line until the container ends.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let id = parsed.id("events")?;
    let interval = match parsed.text("interval") {
        None => Duration::from_secs(5),
        Some(text) => duration(text)
            .filter(|d| !d.is_zero())
            .ok_or_else(|| Failure::usage("duration interval must be greater than 0"))?,
    };
    let container = Container::load(&context.root, id)?;
    if container.status() == Status::Stopped {
        return Err(Failure::new(format!(
            "container with id {id} is not running"
        )));
    }
    if parsed.on("stats") {
        print("stats", id, Some(stats(&container)?))?;
        return Ok(0);
    }
    let mut kills = container.record.cgroup.oom_kills();
    let mut due = Instant::now() + interval;
    while container.status() != Status::Stopped {
        std::thread::sleep(LOOK.min(interval));
        let now = container.record.cgroup.oom_kills();
        if now > kills {
            print("oom", id, None)?;
        }
        kills = now;
        if Instant::now() >= due {
            due += interval;
            // Between the question above and this one it may have ended.
            if let Ok(stats) = stats(&container) {
                print("stats", id, Some(stats))?;
            }
        }
    }
    Ok(0)
}

fn print(kind: &str, id: &str, data: Option<Value>) -> Result<(), Failure> {
    let mut event = json!({"type": kind, "id": id});
    if let Some(data) = data {
        event["data"] = data;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{event}")
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(format!("write: {e}")))
}

fn stats(container: &Container) -> Result<Value, Failure> {
    Ok(describe(&container.record.cgroup.stats()?))
}

/// runc's form (`types/events.go`).
fn describe(stats: &CgroupStats) -> Value {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let raw: serde_json::Map<String, Value> = memory
        .stats
        .iter()
        .map(|(key, value)| (key.clone(), (*value).into()))
        .collect();
    let of = |key: &str| {
        let found = memory.stats.iter().find(|(k, _)| k == key);
        found.map_or(0, |(_, value)| *value)
    };
    json!({
        "cpu": {
            "usage": {"total": cpu.total, "percpu": cpu.per_cpu, "kernel": cpu.kernel, "user": cpu.user},
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_time,
            },
        },
        "cpuset": {},
        "memory": {
            "cache": of("cache") + of("file"),
            "usage": {
                "limit": memory.limit, "usage": memory.usage, "max": memory.max_usage, "failcnt": memory.failcnt,
            },
            "swap": {"limit": 0, "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0},
            "kernelTCP": {"limit": 0, "failcnt": 0},
            "raw": raw,
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": block(&stats.block_bytes),
            "ioServicedRecursive": block(&stats.block_ops),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn block(entries: &[BlockIoEntry]) -> Vec<Value> {
    entries
        .iter()
        .map(|e| json!({"major": e.major, "minor": e.minor, "op": e.op, "value": e.value}))
        .collect()
}

/// `500ms`, `5s`, `2m`, `1h`; a plain number is refused, as in Go.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok().filter(|n: &f64| *n >= 0.0)?;
    let unit = match text.get(digits.len()..)? {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, value) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("5s", Some(Duration::from_secs(5))),
            ("1.5m", Some(Duration::from_secs(90))),
            ("5", None),
            ("-1s", None),
        ] {
            assert_eq!(duration(text), value, "{text}");
        }
    }
}
