//! What `EXPOSE` may say: `80`, `80/udp`, `8000-8010/tcp`, and the old `ip:host:container`.

use std::net::IpAddr;

use super::super::expand::quote;

/// Ports of one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// `80/tcp` and so on.
    pub ports: Vec<String>,
    /// The protocol was not in lower case.
    pub odd_case: bool,
    /// It names an address or a port of the host, which means nothing here.
    pub names_host: bool,
}

/// Reads one argument; the error is Docker's text.
pub fn exposed_ports(text: &str) -> Result<Exposed, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (container, front) = parts.split_last().ok_or("empty")?;
    let (host_port, address) = match front.split_last() {
        Some((port, address)) => (*port, address.join(":")),
        None => ("", String::new()),
    };
    let (range, protocol) = match container.split_once('/') {
        Some((range, protocol)) => (range, protocol),
        None => (*container, ""),
    };
    if range.is_empty() {
        return Err(format!("invalid port: {}: no port specified", quote(text)));
    }
    let protocol = match protocol {
        "" => "tcp",
        other => other,
    };
    let lower = protocol.to_lowercase();
    if !matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {lower}"));
    }
    check_address(&address)?;
    let (first, last) =
        port_range(range).ok_or_else(|| format!("invalid containerPort: {range}"))?;
    if !host_port.is_empty() {
        let (from, to) =
            port_range(host_port).ok_or_else(|| format!("invalid hostPort: {host_port}"))?;
        if last - first != to - from && first != last {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {range} and {host_port}"
            ));
        }
    }
    Ok(Exposed {
        ports: (first..=last)
            .map(|port| format!("{port}/{lower}"))
            .collect(),
        odd_case: protocol != lower,
        names_host: !address.is_empty() || !host_port.is_empty(),
    })
}

fn check_address(address: &str) -> Result<(), String> {
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    if address.is_empty() || bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("invalid IP address: {address}"))
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then_some((first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let rows: &[(&str, Result<&[&str], &str>)] = &[
            ("80", Ok(&["80/tcp"])),
            ("80/UDP", Ok(&["80/udp"])),
            ("80-82/sctp", Ok(&["80/sctp", "81/sctp", "82/sctp"])),
            ("8080:80", Ok(&["80/tcp"])),
            ("127.0.0.1:8080:80", Ok(&["80/tcp"])),
            ("[::1]:8080:80", Ok(&["80/tcp"])),
            ("x", Err("invalid containerPort: x")),
            ("65536", Err("invalid containerPort: 65536")),
            ("9-8", Err("invalid containerPort: 9-8")),
            ("80/foo", Err("invalid proto: foo")),
            ("/tcp", Err("invalid port: \"/tcp\": no port specified")),
            ("x:80", Err("invalid hostPort: x")),
            ("h:1:80", Err("invalid IP address: h")),
            (
                "1-3:80-81",
                Err("invalid ranges specified for container and host Ports: 80-81 and 1-3"),
            ),
        ];
        for (text, expected) in rows {
            let got = exposed_ports(text).map(|exposed| exposed.ports);
            match expected {
                Ok(ports) => assert_eq!(got.expect(text), *ports),
                Err(error) => assert_eq!(got.expect_err(text), *error),
            }
        }
    }
}
