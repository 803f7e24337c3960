//! `stats`

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use wharf_api::container::{ContainerSummary, Stats};
use wharf_api::filters::Filters;

use super::ls;
use crate::client::request::Request;
use crate::commands::listing::{Listing, Row, short_id};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::size::{self, as_float};

const STATS: Listing = Listing {
    type_name: "*container.statsContext",
    headers: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    raw: None,
};

/// How often the screen is drawn.
const REDRAW: Duration = Duration::from_millis(500);

/// `stats`
///
/// # Errors
/// A named container does not exist, or the format does not fit.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let format = match matches.text_or_empty("format") {
        "" => session.config().stats_format.clone(),
        format => format.to_owned(),
    };
    let truncate = !matches.on("no-trunc");
    let all = matches.on("all") || !matches.args.is_empty();
    if matches.on("no-stream") {
        let names = names(session, matches, all)?;
        let rows = sample_all(session, &names, truncate)?;
        report(session, matches, &rows)?;
        return print::out(&STATS.render(
            &format,
            false,
            &rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>(),
        )?);
    }
    follow(session, matches, &format, truncate, all)
}

/// The containers asked for, or all of them.
fn names(session: &Session, matches: &Matches, all: bool) -> Result<Vec<String>, Failure> {
    if !matches.args.is_empty() {
        return Ok(matches.args.clone());
    }
    let containers = ls::fetch(session, all, -1, false, &Filters::default())?;
    Ok(containers
        .into_iter()
        .map(|container: ContainerSummary| short_id(&container.id))
        .collect())
}

/// Named containers that do not exist are told about.
fn report(session: &Session, matches: &Matches, rows: &[(String, Row)]) -> Result<(), Failure> {
    let missing: Vec<String> = matches
        .args
        .iter()
        .filter(|name| !rows.iter().any(|(known, _)| known == *name))
        .filter_map(|name| {
            session
                .client
                .done(Request::get(format!("/containers/{name}/json")))
                .err()
        })
        .map(|error| error.to_string())
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(missing.join("\n")))
    }
}

/// One sample of each, asked for at the same time: the daemon takes its time to measure.
fn sample_all(
    session: &Session,
    names: &[String],
    truncate: bool,
) -> Result<Vec<(String, Row)>, Failure> {
    let (sender, receiver) = channel();
    let version = session.client.version()?.to_owned();
    for name in names {
        spawn_reader(session, name, &version, false, sender.clone());
    }
    drop(sender);
    let mut samples: BTreeMap<String, Stats> = receiver.into_iter().collect();
    let mut rows = Vec::new();
    for name in names {
        if let Some(stats) = samples.remove(name) {
            rows.push((name.clone(), row(name, &stats, truncate)));
        }
    }
    Ok(rows)
}

fn follow(
    session: &Session,
    matches: &Matches,
    format: &str,
    truncate: bool,
    all: bool,
) -> Result<(), Failure> {
    let version = session.client.version()?.to_owned();
    let names = names(session, matches, all)?;
    report(
        session,
        matches,
        &names
            .iter()
            .filter(|_| matches.args.is_empty())
            .map(|n| (n.clone(), Row::new()))
            .collect::<Vec<_>>(),
    )?;
    let (sender, receiver) = channel();
    for name in &names {
        spawn_reader(session, name, &version, true, sender.clone());
    }
    drop(sender);
    let mut latest: BTreeMap<String, Stats> = BTreeMap::new();
    loop {
        let open = collect(&receiver, &mut latest);
        let rows: Vec<Row> = names
            .iter()
            .filter_map(|name| Some(row(name, latest.get(name)?, truncate)))
            .collect();
        let text = STATS.render(format, false, &rows)?;
        // From the top left corner, each line cleared to its end, and what was below.
        let text: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        print::out(&format!("\x1b[H{text}\x1b[J"))?;
        if !open {
            return Ok(());
        }
    }
}

/// Takes what comes for a while; false when nothing will come any more.
fn collect(receiver: &Receiver<(String, Stats)>, latest: &mut BTreeMap<String, Stats>) -> bool {
    let until = std::time::Instant::now() + REDRAW;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        match receiver.recv_timeout(left) {
            Ok((name, stats)) => drop(latest.insert(name, stats)),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return true,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// Reads one container's samples on a connection and thread of its own.
pub(super) fn spawn_reader(
    session: &Session,
    name: &str,
    version: &str,
    stream: bool,
    sender: Sender<(String, Stats)>,
) {
    let client = session.client.another(version);
    let name = name.to_owned();
    std::thread::spawn(move || {
        let request = Request::get(format!("/containers/{name}/stats"))
            .query("stream", if stream { "1" } else { "0" });
        let Ok(response) = client().send(request) else {
            return;
        };
        for line in BufReader::new(response.body).lines().map_while(Result::ok) {
            let Ok(stats) = wharf_api::gojson::from_slice::<Stats>(line.as_bytes()) else {
                return;
            };
            if sender.send((name.clone(), stats)).is_err() {
                return;
            }
        }
    });
}

fn row(container: &str, stats: &Stats, truncate: bool) -> Row {
    let memory = memory_used(stats);
    let limit = as_u64(stats.memory_stats.limit);
    let percent = if limit > 0.0 {
        memory / limit * 100.0
    } else {
        0.0
    };
    let (received, sent) = stats
        .networks
        .values()
        .fold((0.0, 0.0), |(rx, tx), network| {
            (rx + as_u64(network.rx_bytes), tx + as_u64(network.tx_bytes))
        });
    let (read, written) = block_io(stats);
    Row::new()
        .with("BlockIO", format!("{} / {}", short(read), short(written)))
        .with("CPUPerc", format!("{:.2}%", cpu_percent(stats)))
        .with("Container", container.to_owned())
        .with(
            "ID",
            if truncate {
                short_id(&stats.id)
            } else {
                stats.id.clone()
            },
        )
        .with("MemPerc", format!("{percent:.2}%"))
        .with(
            "MemUsage",
            format!("{} / {}", size::binary(memory), size::binary(limit)),
        )
        .with("Name", stats.name.trim_start_matches('/').to_owned())
        .with("NetIO", format!("{} / {}", short(received), short(sent)))
        .with("PIDs", stats.pids_stats.current.to_string())
}

/// Counters are far below the range where a fraction loses whole numbers.
pub(super) fn as_u64(value: u64) -> f64 {
    as_float(i64::try_from(value).unwrap_or(i64::MAX))
}

fn short(bytes: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // a byte count, saturating
    size::decimal_short(bytes as i64)
}

/// Usage without the page cache that can be dropped at once.
pub(super) fn memory_used(stats: &Stats) -> f64 {
    let memory = &stats.memory_stats;
    // cgroup v1 names it total_inactive_file, v2 inactive_file.
    let cache = memory
        .stats
        .get("total_inactive_file")
        .or_else(|| memory.stats.get("inactive_file"));
    match cache {
        Some(cache) if *cache < memory.usage => as_u64(memory.usage - cache),
        _ => as_u64(memory.usage),
    }
}

/// Share of one CPU, times the number of CPUs: 200% is two busy ones.
pub(super) fn cpu_percent(stats: &Stats) -> f64 {
    let used = as_u64(stats.cpu_stats.cpu_usage.total_usage)
        - as_u64(stats.precpu_stats.cpu_usage.total_usage);
    let system =
        as_u64(stats.cpu_stats.system_cpu_usage) - as_u64(stats.precpu_stats.system_cpu_usage);
    let mut cpus = f64::from(stats.cpu_stats.online_cpus);
    if cpus == 0.0 {
        cpus = as_float(i64::try_from(stats.cpu_stats.cpu_usage.percpu_usage.len()).unwrap_or(0));
    }
    if system > 0.0 && used > 0.0 {
        used / system * cpus * 100.0
    } else {
        0.0
    }
}

pub(super) fn block_io(stats: &Stats) -> (f64, f64) {
    let entries = stats
        .blkio_stats
        .io_service_bytes_recursive
        .as_deref()
        .unwrap_or_default();
    entries.iter().fold((0.0, 0.0), |(read, written), entry| {
        match entry.op.bytes().next().map(|b| b.to_ascii_lowercase()) {
            Some(b'r') => (read + as_u64(entry.value), written),
            Some(b'w') => (read, written + as_u64(entry.value)),
            _ => (read, written),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_row() {
        let stats: Stats = serde_json::from_value(serde_json::json!({
            "id": "0123456789abcdef", "name": "/web",
            "pids_stats": {"current": 3},
            "cpu_stats": {"cpu_usage": {"total_usage": 2_000}, "system_cpu_usage": 20_000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 1_000}, "system_cpu_usage": 10_000},
            "memory_stats": {"usage": 3_145_728, "limit": 104_857_600, "stats": {"inactive_file": 1_048_576}},
            "networks": {"eth0": {"rx_bytes": 1_500, "tx_bytes": 10}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 1}]},
        }))
        .expect("stats");
        assert_eq!(
            STATS
                .render("", false, &[row("web", &stats, true)])
                .expect("renders"),
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O       BLOCK I/O    PIDS\n\
             0123456789ab   web       20.00%    2MiB / 100MiB       2.00%     1.5kB / 10B   4.1kB / 1B   3\n"
        );
    }
}
