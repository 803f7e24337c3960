//! The report: what was measured where, with which command, and which goals hold.

use std::fs::read_to_string;

use crate::goals::{self, Better, Goal};
use crate::measure::{Results, summary};
use crate::side::Side;
use crate::table::{label, names};

/// Markdown: a head that says where and how, then a table with a row per value.
pub(crate) fn report(sides: &[Side], all: &[(&str, Vec<Results>)]) -> String {
    let mut text = format!("# Results\n\n{}\n", head());
    let reference = sides.get(1).map_or("reference", |side| side.name.as_str());
    text.push_str(&format!(
        "| value (ms unless named) | wharf (min-max) | {reference} (min-max) | ratio | must reach | as ratio | holds | runs |\n|---|---|---|---|---|---|---|---|\n"
    ));
    for (case, results) in all {
        for name in names(results) {
            text.push_str(&row(case, name, results));
        }
        for (side, result) in sides.iter().zip(results) {
            if let Some(error) = &result.error {
                text.push_str(&format!(
                    "| {case} | {}: {error} | | | | | | |\n",
                    side.name
                ));
            }
        }
    }
    text
}

fn head() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "- Command: `cargo xtask bench {}`\n- Machine: {}\n- Kernel: {}\n- Date: {}\n\nMedians. A goal holds if the value reaches it, or the ratio to the reference of the same run does: milliseconds are of the machine they were set on.\n",
        arguments.join(" "),
        machine(),
        file("/proc/sys/kernel/osrelease"),
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
    )
}

/// Processors and memory.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpuinfo = file("/proc/cpuinfo");
    let model = field(&cpuinfo, "model name").unwrap_or("unknown processor");
    let meminfo = file("/proc/meminfo");
    let kib: u64 = field(&meminfo, "MemTotal")
        .and_then(|total| total.trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    format!("{cores} cores of {model}, {} GiB", kib.div_ceil(1 << 20))
}

fn file(path: &str) -> String {
    read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// What follows `name` and a colon.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn row(case: &str, name: &str, results: &[Results]) -> String {
    let label = label(case, name);
    let values = |side: usize| results.get(side).and_then(|result| result.get(name));
    let median = |side| values(side).and_then(summary).map(|(median, ..)| median);
    let runs = values(0).or(values(1)).map_or(0, <[f64]>::len);
    let (ours, theirs) = (median(0), median(1));
    let ratio = match (ours, theirs) {
        (Some(ours), Some(theirs)) if theirs > 0.0 => format!("{:.3}", ours / theirs),
        _ => String::new(),
    };
    let goal = goals::find(&label);
    let holds = match (goal, ours) {
        (Some(goal), Some(ours)) if goal.holds(ours, theirs) => "yes",
        (Some(_), Some(_)) => "**no**",
        _ => "",
    };
    format!(
        "| {label} | {} | {} | {ratio} | {} | {} | {holds} | {runs} |\n",
        figure(values(0)),
        figure(values(1)),
        goal.map_or(String::new(), must),
        goal.and_then(Goal::ratio)
            .map_or(String::new(), |ratio| format!("{ratio:.3}")),
    )
}

fn must(goal: &Goal) -> String {
    match goal.better {
        Better::Less => format!("{}", goal.must),
        Better::More => "not below".to_owned(),
    }
}

/// Median, and the range where there were several runs.
fn figure(values: Option<&[f64]>) -> String {
    match values.and_then(summary) {
        None => "-".to_owned(),
        Some((median, min, max)) if min < max => format!("{median:.2} ({min:.2}-{max:.2})"),
        Some((median, ..)) => format!("{median:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(values: &[f64]) -> Results {
        let mut results = Results::default();
        for value in values {
            results.add(vec![("total".to_owned(), *value)]);
        }
        results
    }

    #[test]
    fn a_row_has_both_sides_and_says_whether_the_goal_holds() {
        assert_eq!(
            row(
                "api-none",
                "total",
                &[results(&[6.0, 8.0, 7.0]), results(&[200.0])]
            ),
            "| api-none.total | 7.00 (6.00-8.00) | 200.00 | 0.035 | 9 | 0.044 | yes | 3 |\n"
        );
        assert_eq!(
            row("api-none", "total", &[results(&[19.0])]),
            "| api-none.total | 19.00 | - |  | 9 | 0.044 | **no** | 1 |\n"
        );
    }
}
