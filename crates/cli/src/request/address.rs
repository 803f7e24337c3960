//! Flags whose values are addresses and names of hosts.

use std::net::IpAddr;

/// `--dns`
pub fn check_ip(value: &str) -> Result<(), String> {
    match value.trim().parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("IP address is not correctly formatted: {value}")),
    }
}

/// `--add-host`: checks it.
pub fn check_extra_host(value: &str) -> Result<(), String> {
    extra_host(value).map(drop)
}

/// `--add-host name:address` or `name=address` to the form the API takes.
pub fn extra_host(value: &str) -> Result<String, String> {
    let bad = || {
        format!(
            "bad format for add-host: {}",
            crate::flags::parse::quote(value)
        )
    };
    let (name, address) = value
        .split_once('=')
        .or_else(|| value.split_once(':'))
        .ok_or_else(bad)?;
    if name.is_empty() || name.contains(':') {
        return Err(bad());
    }
    let address = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address);
    if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
        return Err(format!(
            "invalid IP address in add-host: {}",
            crate::flags::parse::quote(address)
        ));
    }
    Ok(format!("{name}:{address}"))
}

/// `--link`
pub fn check_link(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("empty string specified for links".into());
    }
    if value.split(':').count() > 2 {
        return Err(format!("bad format for links: {value}"));
    }
    Ok(())
}

/// `--dns-search`: labels of letters, digits and hyphens, or `.` for none.
pub fn check_dns_search(value: &str) -> Result<(), String> {
    let domain = value.trim();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let fits = domain.len() < 256
        && domain.chars().any(char::is_alphabetic)
        && domain.trim_end_matches('.').split('.').all(label);
    if domain == "." || fits {
        Ok(())
    } else {
        Err(format!("{value} is not a valid domain"))
    }
}

/// A MAC address in one of the forms Go reads (colons, hyphens, dots).
pub fn is_mac(value: &str) -> bool {
    let groups = |separator: char, digits: usize, counts: &[usize]| {
        let parts: Vec<&str> = value.split(separator).collect();
        counts.contains(&parts.len())
            && parts
                .iter()
                .all(|part| part.len() == digits && part.chars().all(|c| c.is_ascii_hexdigit()))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_hosts_in_both_spellings() {
        for (given, expected) in [
            ("a:1.2.3.4", Ok("a:1.2.3.4")),
            ("a=1.2.3.4", Ok("a:1.2.3.4")),
            ("a:::1", Ok("a:::1")),
            ("a=[::1]", Ok("a:::1")),
            ("a:host-gateway", Ok("a:host-gateway")),
            ("a", Err("bad format for add-host: \"a\"")),
            ("a:1.2.3", Err("invalid IP address in add-host: \"1.2.3\"")),
        ] {
            assert_eq!(
                extra_host(given),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{given}"
            );
        }
    }

    #[test]
    fn mac_addresses() {
        assert!(
            is_mac("92:d0:c6:0a:29:33") && is_mac("92-d0-c6-0a-29-33") && is_mac("92d0.c60a.2933")
        );
        assert!(!is_mac("92:d0:c6:0a:29") && !is_mac("zz:d0:c6:0a:29:33"));
    }
}
