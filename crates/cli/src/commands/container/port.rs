//! `port`

use wharf_api::container::ContainerInspect;

use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

/// `port`
///
/// # Errors
/// The container or the mapping does not exist.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let name = &matches.args[0];
    let container: ContainerInspect = session
        .client
        .json(Request::get(format!("/containers/{name}/json")))?;
    let ports = container.network_settings.ports;
    let wanted = match matches.args.get(1) {
        Some(port) if !port.is_empty() => Some(full_port(port)?),
        _ => None,
    };
    let mut lines: Vec<(u16, String)> = Vec::new();
    for (port, bindings) in &ports {
        if wanted.as_ref().is_some_and(|wanted| wanted != port) {
            continue;
        }
        let number = port
            .split('/')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        for binding in bindings.iter().flatten() {
            let ip = if binding.host_ip.contains(':') {
                format!("[{}]", binding.host_ip)
            } else {
                binding.host_ip.clone()
            };
            let address = format!("{ip}:{}", binding.host_port);
            let line = if wanted.is_some() {
                address
            } else {
                format!("{port} -> {address}")
            };
            lines.push((number, line));
        }
    }
    if lines.is_empty() && wanted.is_some() {
        return Err(Failure::new(format!(
            "Error: No public port '{}' published for {name}",
            matches.args[1]
        )));
    }
    lines.sort();
    let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
    print::out(&text)
}

fn full_port(port: &str) -> Result<String, Failure> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    match number.parse::<u16>() {
        Ok(number) => Ok(format!("{number}/{protocol}")),
        Err(_) => Err(Failure::new(format!(
            "Error: invalid port ({number}): strconv.ParseUint: parsing {}: invalid syntax",
            crate::flags::parse::quote(number)
        ))),
    }
}
