//! `update`

use std::fs;
use std::io::Read;

use serde_json::{Map, Value};
use wharf_runtime::host::HostFacts;
use wharf_runtime::plan::{plan_update, plan_update_properties};
use wharf_runtime::resctrl::{self, ResctrlPlan};
use wharf_runtime::systemd;
use wharf_spec::runtime::LinuxResources;

use super::{Context, Done};
use crate::container::{Container, Status};
use crate::failure::{Context as _, Failure};
use crate::options::{Flag, Parsed, valued};

/// runc's.
pub const FLAGS: &[Flag] = &[
    valued(
        "resources",
        "FILE",
        "all of them, as in config.json; - reads standard input",
    )
    .short('r'),
    valued("blkio-weight", "N", "block I/O weight, 10 to 1000"),
    valued("cpu-period", "US", "length of a CPU period in microseconds"),
    valued("cpu-quota", "US", "CPU time in a period"),
    valued("cpu-burst", "US", "CPU time that may be saved up"),
    valued("cpu-share", "N", "CPU weight"),
    valued("cpu-rt-period", "US", "length of a real-time period"),
    valued("cpu-rt-runtime", "US", "real-time CPU time in a period"),
    valued("cpuset-cpus", "LIST", "processors, as 0-2,7"),
    valued("cpuset-mems", "LIST", "memory nodes"),
    valued(
        "cpu-idle",
        "N",
        "idle scheduling of the whole group: 0 or 1",
    ),
    valued("memory", "BYTES", "memory limit"),
    valued("memory-reservation", "BYTES", "soft memory limit"),
    valued(
        "memory-swap",
        "BYTES",
        "memory and swap together; -1 is no limit",
    ),
    valued("kernel-memory", "BYTES", "accepted for compatibility"),
    valued("kernel-memory-tcp", "BYTES", "accepted for compatibility"),
    valued("pids-limit", "N", "most processes; -1 is no limit"),
    valued(
        "l3-cache-schema",
        "SCHEMA",
        "share, as in the schemata of resctrl",
    ),
    valued(
        "mem-bw-schema",
        "SCHEMA",
        "share, as in the schemata of resctrl",
    ),
];

/// Changes limits.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let container = Container::load(&context.root, parsed.id("update")?)?;
    if container.status() == Status::Stopped {
        return Err(Failure::new("container not running"));
    }
    let resources = match parsed.text("resources") {
        Some(file) => read(file)?,
        None => from_flags(parsed)?,
    };
    let host = HostFacts::probe().context(|| "read the host's facts".into())?;
    let group = &container.record.cgroup;
    let plan = container.plan()?;
    change_class(parsed, plan.resctrl.as_deref())?;
    if let Some(scope) = plan.cgroup.scope {
        systemd::change(&scope, &plan_update_properties(group, &resources)?)
            .context(|| "update".into())?;
    }
    group.write(&plan_update(group, &resources, &host)?)?;
    Ok(0)
}

/// Another share of cache or memory bandwidth, for a container that has one.
fn change_class(parsed: &Parsed, class: Option<&ResctrlPlan>) -> Result<(), Failure> {
    let schemas = ["l3-cache-schema", "mem-bw-schema"].map(|name| parsed.text(name));
    let lines = resctrl::lines(schemas.into_iter().flatten());
    match class {
        _ if lines.is_empty() => Ok(()),
        Some(class) => class.write(&lines).map_err(|e| Failure::new(e.to_string())),
        None => Err(Failure::usage(
            "the container was created without intelRdt, so it has no class whose shares could be changed",
        )),
    }
}

fn read(file: &str) -> Result<LinuxResources, Failure> {
    let what = || format!("read {file}");
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().read_to_string(&mut text).context(what)?;
    } else {
        text = fs::read_to_string(file).context(what)?;
    }
    serde_json::from_str(&text).context(what)
}

/// Flag, part of the resources, field.
const NUMBERS: [(&str, &str, &str); 13] = [
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
    ("pids-limit", "pids", "limit"),
    ("cpuset-cpus", "cpu", "cpus"),
];

fn from_flags(parsed: &Parsed) -> Result<LinuxResources, Failure> {
    let mut all = Map::new();
    let mut put = |part: &str, field: &str, value: Value| {
        let part = all.entry(part).or_insert_with(|| Map::new().into());
        part[field] = value;
    };
    for (name, part, field) in NUMBERS {
        let Some(text) = parsed.text(name).filter(|t| !t.is_empty()) else {
            continue;
        };
        let value = match name {
            "cpuset-cpus" => text.into(),
            _ => bytes(text)
                .ok_or_else(|| Failure::usage(format!("invalid value for {name}: {text:?}")))?
                .into(),
        };
        put(part, field, value);
    }
    if let Some(mems) = parsed.text("cpuset-mems").filter(|t| !t.is_empty()) {
        put("cpu", "mems", mems.into());
    }
    serde_json::from_value(all.into()).context(|| "invalid resources".into())
}

/// A number, or one with a unit of 1024s: `64m`.
fn bytes(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: i64 = match lower.get(digits.len()..)? {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::parse;

    #[test]
    fn sizes() {
        for (text, value) in [
            ("64m", Some(64 << 20)),
            ("-1", Some(-1)),
            ("1x", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), value, "{text}");
        }
    }

    #[test]
    fn flags_become_resources() {
        let words = ["--memory", "64m", "--cpuset-cpus=0-1", "--pids-limit", "7"];
        let words = words.iter().map(std::ffi::OsString::from);
        let (parsed, _) = parse(FLAGS, words, true).expect("valid");
        let resources = from_flags(&parsed).expect("valid");
        let memory = resources.memory().as_ref().expect("given");
        assert_eq!(memory.limit(), Some(64 << 20));
        let cpu = resources.cpu().as_ref().expect("given");
        assert_eq!(cpu.cpus().as_deref(), Some("0-1"));
    }
}
