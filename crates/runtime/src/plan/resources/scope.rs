//! A container's group as a unit of systemd: its name and place, and limits as properties (systemd.resource-control(5)).
//!
//! The same limits are also written into the group's files, which know more than systemd does. As properties they survive
//! `systemctl daemon-reload`, which brings every unit's files back to what systemd was told.

use std::path::PathBuf;

use wharf_spec::runtime::{LinuxCpu, LinuxResources};

use super::device_rules::{Access, Kind, Rule};
use super::{v1, v2};
use crate::host::CgroupLayout;
use crate::plan::{OciExtra, PlanError};
use crate::systemd::{Property, Scope};

/// "No limit" where a property is a number.
const INFINITY: u64 = u64::MAX;

/// Longest name of a unit, `UNIT_NAME_MAX` of systemd.
const LONGEST_UNIT: usize = 255;

/// Reads `slice:prefix:name`, and gives the unit's place below a hierarchy's root.
pub(super) fn plan_scope(
    text: &str,
    extra: &OciExtra,
    layout: &CgroupLayout,
) -> Result<(Scope, PathBuf), PlanError> {
    let invalid = |value: &str| PlanError::Invalid {
        what: "cgroup path for systemd, which should be slice:prefix:name and not",
        value: value.to_owned(),
    };
    let parts: Vec<&str> = text.split(':').collect();
    let [slice, prefix, name] = parts.as_slice() else {
        return Err(invalid(text));
    };
    let slice = match (*slice, extra.rootless) {
        ("", false) => "system.slice",
        ("", true) => "user.slice",
        (slice, _) => slice,
    };
    let unit = match prefix.is_empty() {
        true => format!("{name}.scope"),
        false => format!("{prefix}-{name}.scope"),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.is_empty() || unit.len() > LONGEST_UNIT || !unit.chars().all(fits) {
        return Err(invalid(text));
    }
    if name.ends_with(".slice") {
        return Err(PlanError::Unsupported("a slice as a container".into()));
    }
    let place = manager_root(extra.rootless, layout)?
        .join(expand_slice(slice).ok_or_else(|| invalid(text))?)
        .join(&unit);
    let scope = Scope {
        unit,
        slice: slice.to_owned(),
        user: extra.rootless,
        properties: Vec::new(),
    };
    Ok((scope, place))
}

/// A slice's group is in those of the slices that its name begins with: `a-b.slice` is `a.slice/a-b.slice` (systemd.slice(5)).
pub(crate) fn expand_slice(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    if name.is_empty() || name.contains('/') || name.split('-').any(str::is_empty) {
        return None;
    }
    let mut path = PathBuf::new();
    for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
        path.push(format!("{}.slice", &name[..at]));
    }
    Some(path)
}

/// Where the manager's units are: at the root, or, of a user's manager, in the group of its service.
fn manager_root(rootless: bool, layout: &CgroupLayout) -> Result<PathBuf, PlanError> {
    match layout {
        _ if !rootless => Ok(PathBuf::new()),
        CgroupLayout::V1 { .. } => Err(PlanError::Unsupported(
            "the systemd cgroup driver without root on cgroup v1".into(),
        )),
        CgroupLayout::V2 { own, .. } => {
            let mut root = PathBuf::new();
            for part in own.split('/').filter(|part| !part.is_empty()) {
                root.push(part);
                if part.starts_with("user@") && part.ends_with(".service") {
                    return Ok(root);
                }
            }
            Err(PlanError::Unavailable(
                "a systemd user session around this process",
            ))
        }
    }
}

/// What every scope has, and the limits.
pub(super) fn plan_properties(
    name: &str,
    resources: &LinuxResources,
    rules: &[Rule],
    is_v2: bool,
) -> Result<Vec<(String, Property)>, PlanError> {
    let on = |name: &str| (name.to_owned(), Property::Flag(true));
    let mut all = vec![
        (
            "Description".to_owned(),
            Property::Text(format!("wharf container {name}")),
        ),
        on("Delegate"),
        ("DefaultDependencies".to_owned(), Property::Flag(false)),
        // Nobody will ask for the results of one that failed.
        (
            "CollectMode".to_owned(),
            Property::Text("inactive-or-failed".into()),
        ),
        on("MemoryAccounting"),
        on("CPUAccounting"),
        on("TasksAccounting"),
        on(if is_v2 {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        }),
    ];
    all.extend(plan_limits(resources, is_v2)?);
    // v2: two device programs would both have to agree, and ours is attached for good.
    if let Some(allowed) = (!is_v2).then(|| allowed_devices(rules)).flatten() {
        all.push(("DevicePolicy".into(), Property::Text("strict".into())));
        all.push(("DeviceAllow".into(), Property::Pairs(allowed)));
    }
    Ok(all)
}

/// Limits that systemd has a word for.
pub(super) fn plan_limits(
    resources: &LinuxResources,
    is_v2: bool,
) -> Result<Vec<(String, Property)>, PlanError> {
    let mut all = Vec::new();
    let mut put = |name: &str, value: Property| all.push((name.to_owned(), value));
    let number = |value: i64| Property::Number(u64::try_from(value).unwrap_or(INFINITY));
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|l| *l != 0);
        if let Some(limit) = limit {
            put(
                if is_v2 { "MemoryMax" } else { "MemoryLimit" },
                number(limit),
            );
        }
        if is_v2 {
            if let Some(low) = memory.reservation().filter(|r| *r != 0) {
                put("MemoryLow", number(low));
            }
            if let Some(swap) = v2::swap_max(memory.swap(), limit)? {
                put(
                    "MemorySwapMax",
                    Property::Number(swap.parse().unwrap_or(INFINITY)),
                );
            }
        }
    }
    if let Some(cpu) = resources.cpu() {
        put_cpu(&mut put, cpu, is_v2)?;
    }
    if let Some(max) = resources.pids().and_then(|p| v1::pids_max(p.limit())) {
        put(
            "TasksMax",
            Property::Number(max.parse().unwrap_or(INFINITY)),
        );
    }
    let weight = resources.block_io().as_ref().and_then(|io| io.weight());
    if let Some(weight) = weight.filter(|w| *w != 0) {
        match is_v2 {
            true => put("IOWeight", Property::Number(v2::io_weight(weight))),
            false => put("BlockIOWeight", Property::Number(weight.into())),
        }
    }
    Ok(all)
}

fn put_cpu(
    put: &mut impl FnMut(&str, Property),
    cpu: &LinuxCpu,
    is_v2: bool,
) -> Result<(), PlanError> {
    if let Some(shares) = cpu.shares().filter(|s| *s != 0) {
        match is_v2 {
            true => put(
                "CPUWeight",
                Property::Number(v2::weight_from_shares(shares)),
            ),
            false => put("CPUShares", Property::Number(shares)),
        }
    }
    let (quota, period) = (
        cpu.quota().filter(|q| *q != 0),
        cpu.period().filter(|p| *p != 0),
    );
    if let (Some(period), true) = (period, is_v2) {
        put("CPUQuotaPeriodUSec", Property::Number(period));
    }
    if let Some(quota) = quota {
        put(
            "CPUQuotaPerSecUSec",
            Property::Number(quota_per_second(quota, period)),
        );
    }
    if is_v2 {
        for (name, list) in [
            ("AllowedCPUs", cpu.cpus()),
            ("AllowedMemoryNodes", cpu.mems()),
        ] {
            if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                put(name, Property::Bits(bits(list)?));
            }
        }
    }
    Ok(())
}

/// systemd keeps whole percents: rounded up, as runc does.
fn quota_per_second(quota: i64, period: Option<u64>) -> u64 {
    const PERCENT: u64 = 10_000;
    let Ok(quota) = u64::try_from(quota) else {
        return INFINITY;
    };
    let per_second = quota.saturating_mul(1_000_000) / period.unwrap_or(v2::DEFAULT_PERIOD);
    per_second.div_ceil(PERCENT) * PERCENT
}

/// `0-2,7` as a bit mask, lowest byte first.
fn bits(list: &str) -> Result<Vec<u8>, PlanError> {
    let invalid = || PlanError::Invalid {
        what: "list of processors or memory nodes",
        value: list.to_owned(),
    };
    let mut bytes = Vec::new();
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (
            first.parse().map_err(|_| invalid())?,
            last.parse().map_err(|_| invalid())?,
        );
        // More than any machine has; a mask is no place for the imagination.
        if last < first || last > 0xffff {
            return Err(invalid());
        }
        for n in first..=last {
            if bytes.len() <= n / 8 {
                bytes.resize(n / 8 + 1, 0);
            }
            bytes[n / 8] |= 1 << (n % 8);
        }
    }
    Ok(bytes)
}

/// What is left after "deny all", or `None` where the rules say something that a list of the allowed cannot.
fn allowed_devices(rules: &[Rule]) -> Option<Vec<(String, String)>> {
    let (first, rest) = rules.split_first()?;
    if first.allow || first.kind != Kind::All || rest.iter().any(|rule| !rule.allow) {
        return None;
    }
    let mut allowed = Vec::new();
    for rule in rest {
        let kind = match rule.kind {
            Kind::All => return None,
            Kind::Char => "char",
            Kind::Block => "block",
        };
        let device = match (rule.major, rule.minor) {
            (None, None) => format!("{kind}-*"),
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            // By the driver's name in /proc/devices, which is fixed for this one alone.
            (Some(136), None) if rule.kind == Kind::Char => "char-pts".to_owned(),
            _ => return None,
        };
        allowed.push((device, access(rule.access)));
    }
    Some(allowed)
}

fn access(access: Access) -> String {
    [(2, 'r'), (4, 'w'), (1, 'm')]
        .into_iter()
        .filter(|(bit, _)| access.0 & bit != 0)
        .map(|(_, c)| c)
        .collect()
}

/// Annotations `org.systemd.property.NAME`, whose values are GVariant texts (runc, systemd.md).
pub(super) fn annotated(
    annotations: impl Iterator<Item = (String, String)>,
) -> Result<Vec<(String, Property)>, PlanError> {
    let mut all = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix("org.systemd.property.") else {
            continue;
        };
        let invalid = || PlanError::Invalid {
            what: "value of an org.systemd.property annotation",
            value: format!("{name}={text}"),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) {
            return Err(invalid());
        }
        let value = parse_value(text.trim()).ok_or_else(invalid)?;
        // Seconds are what people write, microseconds what systemd takes.
        all.push(
            match name.strip_suffix("Sec").filter(|n| !n.ends_with('U')) {
                Some(stem) => {
                    let seconds = match value {
                        Property::Number(n) => n,
                        Property::Signed(n) => u64::try_from(n).map_err(|_| invalid())?,
                        _ => return Err(invalid()),
                    };
                    let micros = seconds.saturating_mul(1_000_000);
                    (format!("{stem}USec"), Property::Number(micros))
                }
                None => (name.to_owned(), value),
            },
        );
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(all)
}

fn parse_value(text: &str) -> Option<Property> {
    let string = |text: &str| {
        let text = text.trim();
        let inner = ['\'', '"']
            .into_iter()
            .find_map(|q| text.strip_prefix(q)?.strip_suffix(q))?;
        Some(inner.to_owned())
    };
    if let Some(text) = string(text) {
        return Some(Property::Text(text));
    }
    if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let items = list.split(',').filter(|item| !item.trim().is_empty());
        return items
            .map(string)
            .collect::<Option<_>>()
            .map(Property::Texts);
    }
    match text {
        "true" => return Some(Property::Flag(true)),
        "false" => return Some(Property::Flag(false)),
        _ => {}
    }
    match text.split_once(' ') {
        Some(("uint64", number)) => number.trim().parse().ok().map(Property::Number),
        Some(("int32", number)) => number.trim().parse().ok().map(Property::Signed),
        Some(_) => None,
        None => text.parse().ok().map(Property::Signed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder};

    #[test]
    fn slices_are_nested_by_their_names() {
        for (slice, path) in [
            ("system.slice", Some("system.slice")),
            ("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice")),
            ("-.slice", Some("")),
            ("a--b.slice", None),
            ("-a.slice", None),
            ("a-.slice", None),
            ("a/b.slice", None),
            ("a", None),
            (".slice", None),
        ] {
            assert_eq!(expand_slice(slice), path.map(PathBuf::from), "{slice}");
        }
    }

    fn v2(own: &str) -> CgroupLayout {
        CgroupLayout::V2 {
            mount: "/sys/fs/cgroup".into(),
            own: own.into(),
            controllers: Vec::new(),
        }
    }

    #[test]
    fn a_scope_is_in_its_slice() {
        let root = OciExtra::default();
        let rootless = OciExtra {
            rootless: true,
            ..OciExtra::default()
        };
        let user = "/user.slice/user-7.slice/user@7.service/app.slice/x.scope";
        for (text, extra, own, unit, place) in [
            (
                "a-b.slice:docker:x",
                &root,
                "/",
                "docker-x.scope",
                "a.slice/a-b.slice/docker-x.scope",
            ),
            ("::x", &root, "/", "x.scope", "system.slice/x.scope"),
            (
                ":p:x",
                &rootless,
                user,
                "p-x.scope",
                "user.slice/user-7.slice/user@7.service/user.slice/p-x.scope",
            ),
        ] {
            let (scope, at) = plan_scope(text, extra, &v2(own)).expect("valid");
            assert_eq!(
                (scope.unit.as_str(), at),
                (unit, PathBuf::from(place)),
                "{text}"
            );
        }
        for text in [
            "/docker/x",
            "a:b",
            "a:b:c:d",
            "s.slice:p:",
            "s.slice:p:x/y",
            "slice:p:x",
        ] {
            assert!(plan_scope(text, &root, &v2("/")).is_err(), "{text}");
        }
        assert!(plan_scope(":p:x", &rootless, &v2("/")).is_err());
    }

    #[test]
    fn limits_become_properties() {
        let mut resources = LinuxResources::default();
        let memory = LinuxMemoryBuilder::default()
            .limit(100i64)
            .swap(150i64)
            .build();
        resources.set_memory(memory.ok());
        let cpu = LinuxCpuBuilder::default()
            .shares(1024u64)
            .quota(12_345i64)
            .period(100_000u64)
            .cpus("0-1,9")
            .build();
        resources.set_cpu(cpu.ok());
        resources.set_pids(LinuxPidsBuilder::default().limit(-1).build().ok());
        let text = |is_v2| {
            let limits = plan_limits(&resources, is_v2).expect("valid");
            let one = |(name, value): &(String, Property)| match value {
                Property::Number(INFINITY) => format!("{name}=infinity"),
                Property::Number(n) => format!("{name}={n}"),
                Property::Bits(bytes) => format!("{name}={bytes:?}"),
                other => panic!("{other:?}"),
            };
            limits.iter().map(one).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(true),
            "MemoryMax=100 MemorySwapMax=50 CPUWeight=39 CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=130000 \
             AllowedCPUs=[3, 2] TasksMax=infinity"
        );
        assert_eq!(
            text(false),
            "MemoryLimit=100 CPUShares=1024 CPUQuotaPerSecUSec=130000 TasksMax=infinity"
        );
    }

    #[test]
    fn devices_are_listed_where_a_list_can_say_it() {
        let rule = |allow, kind, major, minor| Rule {
            allow,
            kind,
            major,
            minor,
            access: Access::ALL,
        };
        let deny = rule(false, Kind::All, None, None);
        let null = rule(true, Kind::Char, Some(1), Some(3));
        let pts = rule(true, Kind::Char, Some(136), None);
        let pair = |device: &str| (device.to_owned(), "rwm".to_owned());
        assert_eq!(
            allowed_devices(&[deny, null, pts]),
            Some(vec![pair("/dev/char/1:3"), pair("char-pts")])
        );
        for rules in [
            vec![],
            vec![null],
            vec![deny, rule(false, Kind::Char, Some(1), Some(3))],
            vec![deny, rule(true, Kind::Block, Some(8), None)],
        ] {
            assert_eq!(allowed_devices(&rules), None, "{rules:?}");
        }
    }

    #[test]
    fn annotations_become_properties() {
        let read = |key: &str, text: &str| {
            annotated([(format!("org.systemd.property.{key}"), text.to_owned())].into_iter())
        };
        for (key, text, name, value) in [
            ("KillSignal", "int32 15", "KillSignal", Property::Signed(15)),
            (
                "TimeoutStopUSec",
                "uint64 10",
                "TimeoutStopUSec",
                Property::Number(10),
            ),
            (
                "TimeoutStopSec",
                "2",
                "TimeoutStopUSec",
                Property::Number(2_000_000),
            ),
            (
                "CollectMode",
                "'inactive'",
                "CollectMode",
                Property::Text("inactive".into()),
            ),
            (
                "After",
                "['a.service', 'b']",
                "After",
                Property::Texts(vec!["a.service".into(), "b".into()]),
            ),
        ] {
            assert_eq!(read(key, text).expect("valid"), [(name.to_owned(), value)]);
        }
        for (key, text) in [("A b", "1"), ("", "1"), ("KillSignal", "fifteen")] {
            assert!(read(key, text).is_err(), "{key} {text}");
        }
    }
}
