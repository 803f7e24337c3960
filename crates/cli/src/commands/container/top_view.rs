//! `wharf top`: all running containers on one screen, each with the last minute of its CPU, memory, network and disk as small plots.
//!
//! `q`, Escape or Ctrl-C ends it; `c`, `m`, `n`, `d` sort by a column, `↑` and `↓` (or `k`, `j`) scroll.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wharf_api::container::Stats;
use wharf_api::filters::Filters;

use super::{ls, stats};
use crate::commands::listing::ellipsis;
use crate::failure::Failure;
use crate::print;
use crate::session::Session;
use crate::stream::terminal::{self, RawMode};
use crate::text::size;

/// Samples that a plot shows; one comes each second.
const SAMPLES: usize = 60;
/// How often the screen is drawn and the list of containers looked at.
const REDRAW: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(2);
/// Eighths of a cell.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Shows it until the user has seen enough.
///
/// # Errors
/// The daemon does not answer any more.
pub(super) fn run(session: &Session) -> Result<(), Failure> {
    let mut view = View::new(session)?;
    let screen = Screen::enter()?;
    let result = view.follow();
    drop(screen);
    result
}

/// The other screen of the terminal, without a cursor, and keys as they are pressed.
struct Screen {
    _raw: RawMode,
}

impl Screen {
    fn enter() -> Result<Screen, Failure> {
        let raw = RawMode::enter()?;
        print::out("\x1b[?1049h\x1b[?25l")?;
        Ok(Screen { _raw: raw })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = print::out("\x1b[?25h\x1b[?1049l");
    }
}

/// What is known of a container: newest sample last.
#[derive(Debug, Default)]
struct Row {
    name: String,
    cpu: VecDeque<f64>,
    memory: VecDeque<f64>,
    /// Bytes a second.
    network: VecDeque<f64>,
    disk: VecDeque<f64>,
    limit: f64,
    processes: u64,
    counters: Option<(Instant, f64, f64)>,
}

impl Row {
    fn take(&mut self, stats: &Stats, now: Instant) {
        stats
            .name
            .trim_start_matches('/')
            .clone_into(&mut self.name);
        push(&mut self.cpu, stats::cpu_percent(stats));
        push(&mut self.memory, stats::memory_used(stats));
        self.limit = stats::as_u64(stats.memory_stats.limit);
        self.processes = stats.pids_stats.current;
        let network: f64 = stats
            .networks
            .values()
            .map(|net| stats::as_u64(net.rx_bytes) + stats::as_u64(net.tx_bytes))
            .sum();
        let (read, written) = stats::block_io(stats);
        let disk = read + written;
        if let Some((then, net_before, disk_before)) = self.counters {
            let seconds = now.duration_since(then).as_secs_f64().max(0.001);
            push(&mut self.network, (network - net_before).max(0.0) / seconds);
            push(&mut self.disk, (disk - disk_before).max(0.0) / seconds);
        }
        self.counters = Some((now, network, disk));
    }

    fn last(values: &VecDeque<f64>) -> f64 {
        values.back().copied().unwrap_or(0.0)
    }
}

fn push(values: &mut VecDeque<f64>, value: f64) {
    if values.len() == SAMPLES {
        values.pop_front();
    }
    values.push_back(value);
}

/// By what rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Cpu,
    Memory,
    Network,
    Disk,
    Name,
}

struct View<'a> {
    session: &'a Session,
    version: String,
    rows: BTreeMap<String, Row>,
    followed: BTreeSet<String>,
    sender: Sender<(String, Stats)>,
    receiver: Receiver<(String, Stats)>,
    order: Order,
    top: usize,
}

impl<'a> View<'a> {
    fn new(session: &'a Session) -> Result<View<'a>, Failure> {
        let (sender, receiver) = channel();
        let mut view = View {
            session,
            version: session.client.version()?.to_owned(),
            rows: BTreeMap::new(),
            followed: BTreeSet::new(),
            sender,
            receiver,
            order: Order::Cpu,
            top: 0,
        };
        view.look()?;
        Ok(view)
    }

    /// Follows containers that have begun, and forgets those that have ended.
    fn look(&mut self) -> Result<(), Failure> {
        let running = ls::fetch(self.session, false, -1, false, &Filters::default())?;
        let running: BTreeSet<String> = running.into_iter().map(|container| container.id).collect();
        for id in running.difference(&self.followed) {
            stats::spawn_reader(self.session, id, &self.version, true, self.sender.clone());
        }
        self.rows.retain(|id, _| running.contains(id));
        self.followed = running;
        Ok(())
    }

    fn follow(&mut self) -> Result<(), Failure> {
        let mut looked = Instant::now();
        loop {
            while let Ok((id, stats)) = self.receiver.try_recv() {
                if self.followed.contains(&id) {
                    self.rows
                        .entry(id)
                        .or_default()
                        .take(&stats, Instant::now());
                }
            }
            let (height, width) = terminal::size().unwrap_or((24, 80));
            print::out(&self.draw(usize::from(height), usize::from(width)))?;
            match key()? {
                Some(b'q' | 3 | 27) => return Ok(()),
                Some(key) => self.press(key),
                None => {}
            }
            if looked.elapsed() >= LOOK {
                self.look()?;
                looked = Instant::now();
            }
        }
    }

    fn press(&mut self, key: u8) {
        match key {
            b'c' => self.order = Order::Cpu,
            b'm' => self.order = Order::Memory,
            b'n' => self.order = Order::Network,
            b'd' => self.order = Order::Disk,
            b'a' => self.order = Order::Name,
            b'j' => self.top += 1,
            b'k' => self.top = self.top.saturating_sub(1),
            _ => {}
        }
    }

    fn sorted(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.values().collect();
        rows.sort_by(|one, other| {
            let by = |values: fn(&Row) -> &VecDeque<f64>| {
                Row::last(values(other)).total_cmp(&Row::last(values(one)))
            };
            let by_value = match self.order {
                Order::Cpu => by(|row| &row.cpu),
                Order::Memory => by(|row| &row.memory),
                Order::Network => by(|row| &row.network),
                Order::Disk => by(|row| &row.disk),
                Order::Name => std::cmp::Ordering::Equal,
            };
            by_value.then_with(|| one.name.cmp(&other.name))
        });
        rows
    }

    fn draw(&mut self, height: usize, width: usize) -> String {
        let rows = self.sorted();
        let visible = height.saturating_sub(3).max(1);
        let top = self.top.min(rows.len().saturating_sub(visible));
        let plot = plot_width(width);
        let mut lines = vec![
            head(&rows, width),
            format!(
                "\x1b[1m{:<NAME$} {:>6} {:<plot$} {:>9} {:<plot$} {:>9} {:<plot$} {:>9} {:<plot$} {:>5}\x1b[0m",
                "NAME", "CPU %", "", "MEMORY", "", "NET/s", "", "DISK/s", "", "PIDS"
            ),
        ];
        lines.extend(
            rows.iter()
                .skip(top)
                .take(visible)
                .map(|row| line(row, plot)),
        );
        if rows.is_empty() {
            lines.push("no container runs".to_owned());
        }
        lines.push("\x1b[2mq quit   sort by: c cpu  m memory  n network  d disk  a name   j k scroll\x1b[0m".to_owned());
        self.top = top;
        // From the top left corner, each line cleared to its end, and what was below.
        let text: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        format!("\x1b[H{}\x1b[J", text.join("\r\n"))
    }
}

/// Columns of a name.
const NAME: usize = 20;

/// What is left of a line for each of the four plots.
fn plot_width(width: usize) -> usize {
    // Name, four numbers, processes, and the blanks between.
    let fixed = NAME + 6 + 9 * 3 + 5 + 9;
    (width.saturating_sub(fixed) / 4).clamp(1, SAMPLES)
}

fn head(rows: &[&Row], width: usize) -> String {
    let sum = |values: fn(&Row) -> &VecDeque<f64>| -> f64 {
        rows.iter().map(|row| Row::last(values(row))).sum()
    };
    let text = format!(
        "{} running   cpu {:.1}%   memory {}   network {}/s   disk {}/s",
        rows.len(),
        sum(|row| &row.cpu),
        size::binary(sum(|row| &row.memory)),
        short(sum(|row| &row.network)),
        short(sum(|row| &row.disk)),
    );
    ellipsis(&text, width)
}

fn line(row: &Row, plot: usize) -> String {
    let (cpu, memory) = (Row::last(&row.cpu), Row::last(&row.memory));
    let (network, disk) = (Row::last(&row.network), Row::last(&row.disk));
    // Of one processor, of the limit, and of the most that was seen.
    let most = |values: &VecDeque<f64>, least: f64| values.iter().copied().fold(least, f64::max);
    format!(
        "{:<NAME$} {:>6.1} \x1b[32m{}\x1b[0m {:>9} \x1b[34m{}\x1b[0m {:>9} \x1b[36m{}\x1b[0m {:>9} \x1b[33m{}\x1b[0m {:>5}",
        ellipsis(&row.name, NAME),
        cpu,
        sparkline(&row.cpu, most(&row.cpu, 100.0), plot),
        size::binary(memory),
        sparkline(
            &row.memory,
            if row.limit > 0.0 {
                row.limit.min(most(&row.memory, 1.0) * 4.0)
            } else {
                most(&row.memory, 1.0)
            },
            plot
        ),
        short(network),
        sparkline(&row.network, most(&row.network, 1.0), plot),
        short(disk),
        sparkline(&row.disk, most(&row.disk, 1.0), plot),
        row.processes,
    )
}

fn short(bytes: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // a byte count, saturating
    size::decimal_short(bytes as i64)
}

/// The newest values as bars, the newest at the right; nothing is a blank.
fn sparkline(values: &VecDeque<f64>, full: f64, width: usize) -> String {
    let shown = values.len().min(width);
    let mut out = " ".repeat(width - shown);
    for value in values.iter().skip(values.len() - shown) {
        let share = (value / full).clamp(0.0, 1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 8
        let eighths = (share * 8.0).ceil() as usize;
        out.push(match eighths {
            0 => ' ',
            n => BARS[n.min(8) - 1],
        });
    }
    out
}

/// A key, if one is pressed before the screen is to be drawn again. An arrow comes as the letter that does the same.
fn key() -> Result<Option<u8>, Failure> {
    let stdin = rustix::stdio::stdin();
    let mut fds = [PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
    let timeout = Timespec::try_from(REDRAW).map_err(|error| Failure::new(error.to_string()))?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(std::io::Error::from(error).into()),
    }
    let mut buffer = [0; 8];
    let n = std::io::stdin().lock().read(&mut buffer)?;
    Ok(match &buffer[..n] {
        // The terminal is gone.
        [] => Some(b'q'),
        [27, b'[' | b'O', b'A', ..] => Some(b'k'),
        [27, b'[' | b'O', b'B', ..] => Some(b'j'),
        [27, _, ..] => None,
        [key, ..] => Some(*key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots() {
        let values = VecDeque::from([0.0, 1.0, 50.0, 100.0, 200.0]);
        assert_eq!(sparkline(&values, 100.0, 6), "  ▁▄██");
        assert_eq!(sparkline(&values, 100.0, 2), "██");
    }

    #[test]
    fn rates_come_from_two_samples() {
        let sample = |bytes: u64| -> Stats {
            serde_json::from_value(serde_json::json!({
                "name": "/web", "networks": {"eth0": {"rx_bytes": bytes, "tx_bytes": 0}},
                "pids_stats": {"current": 2}, "memory_stats": {"usage": 1024, "limit": 4096},
            }))
            .expect("stats")
        };
        let (mut row, now) = (Row::default(), Instant::now());
        row.take(&sample(1000), now);
        assert!(row.network.is_empty());
        row.take(&sample(3000), now + Duration::from_secs(2));
        assert_eq!(row.network, [1000.0]);
        assert!(line(&row, 4).starts_with("web "), "{}", line(&row, 4));
    }
}
