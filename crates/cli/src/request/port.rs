//! `-p [[ip:]host:]container[/protocol]`, with ranges, and `--expose`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use wharf_api::container::{Empty, PortBinding, PortMap, Set};

/// Ports that are published and those that are only exposed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ports {
    /// Every port the container offers.
    pub exposed: Set,
    /// Where they are published.
    pub bindings: PortMap,
}

/// Reads `-p` and `--expose`.
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for value in publish {
        publish_one(&mut ports, &standard_notation(value)?)?;
    }
    for value in expose {
        let (range, protocol) = split_protocol(value);
        let (first, last) = parse_range(range).map_err(|reason| {
            format!("invalid range format for --expose: {value}, error: {reason}")
        })?;
        for port in first..=last {
            ports.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok(ports)
}

/// `target=80,published=8080,protocol=tcp` as the short form.
fn standard_notation(value: &str) -> Result<String, String> {
    if !value.contains('=') {
        return Ok(value.to_owned());
    }
    let mut params = BTreeMap::from([("protocol", "tcp")]);
    for param in value.split(',') {
        match param.split_once('=') {
            Some((key, value)) if !key.is_empty() => params.insert(key, value),
            _ => {
                return Err(format!(
                    "invalid publish opts format (should be name=value but got '{param}')"
                ));
            }
        };
    }
    let get = |key: &str| params.get(key).copied().unwrap_or_default();
    Ok(format!(
        "{}:{}/{}",
        get("published"),
        get("target"),
        get("protocol")
    ))
}

fn publish_one(ports: &mut Ports, value: &str) -> Result<(), String> {
    let (ip, host, container) = split_parts(value);
    let (container, protocol) = split_protocol(container);
    let ip = ip
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {value}<empty>"));
    }
    let (first, last) =
        parse_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        host => Some(parse_range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if let Some((host_first, host_last)) = host_range
        && last - first != host_last - host_first
        && first != last
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    for offset in 0..=last - first {
        let key = format!("{}/{protocol}", first + offset);
        let host_port = match host_range {
            None => String::new(),
            // One container port may take any free one of a range of host ports.
            Some((host_first, host_last)) if first == last && host_first != host_last => {
                format!("{host_first}-{host_last}")
            }
            Some((host_first, _)) => (host_first + offset).to_string(),
        };
        ports.exposed.insert(key.clone(), Empty {});
        let binding = PortBinding {
            host_ip: ip.to_owned(),
            host_port,
        };
        ports
            .bindings
            .entry(key)
            .or_default()
            .get_or_insert_default()
            .push(binding);
    }
    Ok(())
}

/// Address, host port and container port; the address may contain colons.
fn split_parts(value: &str) -> (&str, &str, &str) {
    match value.rsplit_once(':') {
        None => ("", "", value),
        Some((before, container)) => match before.rsplit_once(':') {
            None => ("", before, container),
            Some((ip, host)) => (ip, host, container),
        },
    }
}

fn split_protocol(value: &str) -> (&str, String) {
    match value.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol.to_lowercase()),
        Some((port, _)) => (port, "tcp".into()),
        None => (value, "tcp".into()),
    }
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        text.parse::<u16>().map_err(|_| {
            let is_number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
            let what = if is_number {
                "value out of range"
            } else {
                "invalid syntax"
            };
            format!(
                "strconv.ParseUint: parsing {}: {what}",
                crate::flags::parse::quote(text)
            )
        })
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if last < first {
        Err(format!("invalid range specified for port: {text}"))
    } else {
        Ok((first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(publish: &str) -> Result<String, String> {
        parse(&[publish.to_owned()], &[])
            .map(|ports| serde_json::to_string(&ports.bindings).expect("plain data"))
    }

    #[test]
    fn ports_in_every_form() {
        for (given, expected) in [
            ("80", r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#),
            ("8080:80", r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#),
            (
                "127.0.0.1:8080:80/udp",
                r#"{"80/udp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]}"#,
            ),
            (
                "127.0.0.1::80",
                r#"{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":""}]}"#,
            ),
            (
                "[::1]:8080:80",
                r#"{"80/tcp":[{"HostIp":"::1","HostPort":"8080"}]}"#,
            ),
            (
                "8080-8081:80-81",
                r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}],"81/tcp":[{"HostIp":"","HostPort":"8081"}]}"#,
            ),
            (
                "8080-8090:80",
                r#"{"80/tcp":[{"HostIp":"","HostPort":"8080-8090"}]}"#,
            ),
            (
                "published=8080,target=80",
                r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#,
            ),
        ] {
            assert_eq!(bindings(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn bad_ports() {
        for (given, expected) in [
            ("99999:1", "invalid hostPort: 99999"),
            ("1:x", "invalid containerPort: x"),
            ("x:1:1", "invalid IP address: x"),
            ("80/foo", "invalid proto: foo"),
            (
                "1-2:1-3",
                "invalid ranges specified for container and host Ports: 1-3 and 1-2",
            ),
        ] {
            assert_eq!(bindings(given), Err(expected.to_owned()), "{given}");
        }
    }

    #[test]
    fn exposed_ports_and_ranges() {
        let ports = parse(&["1:2".into()], &["80".into(), "90-91/udp".into()]).expect("fits");
        assert_eq!(
            ports.exposed.keys().collect::<Vec<_>>(),
            ["2/tcp", "80/tcp", "90/udp", "91/udp"]
        );
    }
}
