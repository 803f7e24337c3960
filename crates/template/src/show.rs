//! Values as Go prints them.

use serde_json::Value;

/// A value as `{{.}}` prints it.
pub fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => number(n),
        Value::String(s) => s.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(show).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key}:{}", show(value)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}

/// Integers as they are; fractions as Go's `%v`, which changes to an exponent from 1e21 on.
fn number(n: &serde_json::Number) -> String {
    match n.as_f64() {
        Some(x)
            if !n.is_i64() && !n.is_u64() && (x.abs() >= 1e21 || (x != 0.0 && x.abs() < 1e-4)) =>
        {
            let text = format!("{x:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            format!(
                "{mantissa}e{}{:02}",
                if exponent < 0 { '-' } else { '+' },
                exponent.abs()
            )
        }
        Some(x) if !n.is_i64() && !n.is_u64() => x.to_string(),
        _ => n.to_string(),
    }
}

/// How a field without value is printed: what is a list or a map in Docker's types is an empty one.
pub fn show_null(field: &str) -> &'static str {
    const LISTS: &[&str] = &[
        "Args",
        "Binds",
        "BlkioDeviceReadBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceWriteIOps",
        "BlkioWeightDevice",
        "CapAdd",
        "CapDrop",
        "Cmd",
        "DeviceCgroupRules",
        "DeviceRequests",
        "Devices",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "Entrypoint",
        "Env",
        "ExecIDs",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "MaskedPaths",
        "Mounts",
        "OnBuild",
        "ReadonlyPaths",
        "RepoDigests",
        "RepoTags",
        "SecurityOpt",
        "SecondaryIPAddresses",
        "SecondaryIPv6Addresses",
        "Shell",
        "Ulimits",
        "VolumesFrom",
        "Layers",
        "Aliases",
        "DNSNames",
    ];
    const MAPS: &[&str] = &[
        "Annotations",
        "ExposedPorts",
        "Labels",
        "LogOpts",
        "Options",
        "PortBindings",
        "Ports",
        "StorageOpt",
        "Sysctls",
        "Tmpfs",
        "Volumes",
        "Networks",
        "Containers",
        "DriverOpts",
    ];
    if LISTS.contains(&field) {
        "[]"
    } else if MAPS.contains(&field) {
        "map[]"
    } else {
        "<nil>"
    }
}

/// The type Go would name for a value that came from JSON.
pub fn type_name(_value: &Value) -> &'static str {
    "interface {}"
}

/// JSON on one line, fields in the order they have.
pub fn json_text(value: &Value) -> String {
    value.to_string()
}

/// Go's `%q` for the texts that occur in command lines.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A character as Go's lexer shows it (`U+0021 '!'`).
pub fn quote_char(c: char) -> String {
    format!("{:?}", c.to_string())
}
