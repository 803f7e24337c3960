//! Log drivers that send lines elsewhere: their options, and the destinations these make.

use std::time::Duration;

use wharf_logship::connection::{Address, Tls};
use wharf_logship::{Destination, fluentd, gelf, journald, syslog};

use super::log_options::{self as options, Options};
use super::log_tag;
use super::record::Record;

const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
    "syslog-format",
];

const FLUENTD: [&str; 10] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
    "fluentd-read-timeout",
];

const GELF: [&str; 5] = [
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];

/// Names of syslog's facilities; their numbers are their places.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `syslog`.
    Syslog,
    /// `journald`.
    Journald,
    /// `fluentd`.
    Fluentd,
    /// `gelf`.
    Gelf,
}

impl Service {
    /// Refuses options that make no sense.
    pub fn check(self, given: &Options) -> Result<(), String> {
        match self {
            Service::Syslog => {
                options::check_known(given, &SYSLOG, |key| {
                    format!("unknown log opt '{key}' for syslog log driver")
                })?;
                syslog_config(given, String::new()).map(drop)
            }
            Service::Journald => options::check_known(given, &[], |key| {
                format!("unknown log opt '{key}' for journald log driver")
            }),
            Service::Fluentd => {
                options::check_known(given, &FLUENTD, |key| {
                    format!("unknown log opt '{key}' for fluentd log driver")
                })?;
                fluentd_config(given, String::new(), Vec::new()).map(drop)
            }
            Service::Gelf => {
                let config = gelf_config(given, Vec::new())?;
                options::check_known(given, &GELF, |key| {
                    format!("unknown log opt {key:?} for gelf log driver")
                })?;
                check_gelf(given, &config.address)
            }
        }
    }

    /// Where a container's lines go.
    pub fn destination(self, record: &Record) -> Result<Destination, String> {
        let given = &record.log_options;
        let tag = log_tag::tag(record, log_tag::DEFAULT)?;
        Ok(match self {
            Service::Syslog => Destination::Syslog(syslog_config(given, tag)?),
            Service::Journald => Destination::Journald(journald_config(record, tag)?),
            Service::Fluentd => {
                let mut fields = vec![
                    ("container_id".to_owned(), record.id.clone()),
                    ("container_name".to_owned(), format!("/{}", record.name)),
                ];
                fields.extend(log_tag::extra(record, str::to_owned)?);
                Destination::Fluentd(fluentd_config(given, tag, fields)?)
            }
            Service::Gelf => Destination::Gelf(gelf_config(given, gelf_fields(record, tag)?)?),
        })
    }
}

/// `scheme://rest`, or Go's complaint.
fn split_url(text: &str) -> Result<(&str, &str), String> {
    match text.split_once("://") {
        Some(parts) => Ok(parts),
        None if text.contains(':') => Err(format!(
            "parse {text:?}: first path segment in URL cannot contain colon"
        )),
        None => Ok(("", text)),
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(name, _)| !name.contains(':') || name.ends_with(']'))
}

fn syslog_config(given: &Options, tag: String) -> Result<syslog::Config, String> {
    let format = match given.get("syslog-format").map_or("", String::as_str) {
        "" => syslog::Format::Unix,
        "rfc3164" => syslog::Format::Rfc3164,
        "rfc5424" => syslog::Format::Rfc5424,
        "rfc5424micro" => syslog::Format::Rfc5424Micro,
        _ => return Err("Invalid syslog format".into()),
    };
    let facility = match given.get("syslog-facility").map_or("", String::as_str) {
        "" => 3,
        name => FACILITIES
            .iter()
            .position(|known| *known == name)
            .or_else(|| name.parse().ok().filter(|number| *number <= 23))
            .and_then(|number| u8::try_from(number).ok())
            .ok_or("invalid syslog facility")?,
    };
    Ok(syslog::Config {
        address: syslog_address(given)?,
        facility,
        format,
        tag,
        hostname: log_tag::hostname(),
    })
}

fn syslog_address(given: &Options) -> Result<Option<Address>, String> {
    const PORT: &str = "514";
    let text = given.get("syslog-address").map_or("", String::as_str);
    if text.is_empty() {
        return Ok(None);
    }
    let (scheme, rest) = split_url(text)?;
    if let "unix" | "unixgram" = scheme {
        if !std::path::Path::new(rest).exists() {
            return Err(format!("stat {rest}: no such file or directory"));
        }
        return Ok(Some(match scheme {
            "unix" => Address::Unix(rest.into()),
            _ => Address::UnixDatagram(rest.into()),
        }));
    }
    let host = if has_port(rest) {
        rest.to_owned()
    } else {
        format!("{rest}:{PORT}")
    };
    match scheme {
        "udp" => Ok(Some(Address::Udp(host))),
        "tcp" => Ok(Some(Address::Tcp(host))),
        "tcp+tls" => {
            let option = |key: &str| given.get(key).filter(|text| !text.is_empty()).cloned();
            let tls = Tls {
                ca: option("syslog-tls-ca-cert"),
                identity: option("syslog-tls-cert").zip(option("syslog-tls-key")),
                // Its presence counts, whatever its value.
                skip_verify: given.contains_key("syslog-tls-skip-verify"),
            };
            Ok(Some(Address::Tls(host, tls)))
        }
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

fn journald_config(record: &Record, tag: String) -> Result<journald::Config, String> {
    let mut fields: Vec<(String, String)> = [
        ("CONTAINER_ID", crate::ids::short(&record.id).to_owned()),
        ("CONTAINER_ID_FULL", record.id.clone()),
        ("CONTAINER_NAME", record.name.clone()),
        ("CONTAINER_TAG", tag.clone()),
        ("IMAGE_NAME", record.config.image.clone()),
        ("SYSLOG_IDENTIFIER", tag),
        ("CONTAINER_LOG_EPOCH", crate::ids::random()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    fields.extend(log_tag::extra(record, journald::field_name)?);
    Ok(journald::Config {
        socket: journald::SOCKET.into(),
        fields,
    })
}

fn fluentd_config(
    given: &Options,
    tag: String,
    fields: Vec<(String, String)>,
) -> Result<fluentd::Config, String> {
    let text = |key: &str| {
        given
            .get(key)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    };
    let named = |key: &str| {
        options::duration(given, key, Duration::ZERO).map_err(|why| {
            let why = if why.starts_with("time:") {
                format!("value must be a duration: {why}")
            } else {
                why
            };
            format!("invalid value for {key}: {why}")
        })
    };
    let interval = named("fluentd-async-reconnect-interval")?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(10);
    if !interval.is_zero() && !allowed.contains(&interval) {
        return Err(format!(
            "invalid value for fluentd-async-reconnect-interval: value ({interval:?}) must be between 100ms and 10s"
        ));
    }
    let retries = match text("fluentd-max-retries") {
        None => u32::MAX,
        Some(text) => text
            .parse::<u32>()
            .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))?,
    };
    Ok(fluentd::Config {
        address: fluentd_address(text("fluentd-address").unwrap_or_default()).map_err(|why| {
            let given = text("fluentd-address").unwrap_or_default();
            format!("invalid fluentd-address ({given}): {why}")
        })?,
        tag,
        fields,
        is_async: options::switch(given, "fluentd-async")?,
        buffer_limit: text("fluentd-buffer-limit").map_or(Ok(1 << 20), options::binary_size)?,
        max_retries: retries,
        retry_wait: options::duration(given, "fluentd-retry-wait", Duration::from_secs(1))?,
        sub_second: options::switch(given, "fluentd-sub-second-precision")?,
        request_ack: options::switch(given, "fluentd-request-ack")?,
        write_timeout: named("fluentd-write-timeout")?,
        read_timeout: named("fluentd-read-timeout")?,
        reconnect_interval: interval,
    })
}

fn fluentd_address(text: &str) -> Result<Address, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
    if scheme == "unix" {
        if rest.trim_start_matches('/').is_empty() {
            return Err("path is empty".into());
        }
        return Ok(Address::Unix(rest.into()));
    }
    if !matches!(scheme, "tcp" | "tls") {
        return Err(format!("unsupported scheme: '{scheme}'"));
    }
    if rest.contains('/') {
        return Err("should not contain a path element".into());
    }
    let (host, port) = match rest.rsplit_once(':').filter(|_| has_port(rest)) {
        Some((host, port)) => (host, port),
        None => (rest, ""),
    };
    let port: u16 = match port {
        "" => 24224,
        port => port.parse().map_err(|_| {
            format!("invalid port: strconv.ParseUint: parsing {port:?}: invalid syntax")
        })?,
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let host = format!("{host}:{port}");
    Ok(match scheme {
        "tcp" => Address::Tcp(host),
        _ => Address::Tls(host, Tls::default()),
    })
}

fn gelf_config(given: &Options, extra: Vec<(String, String)>) -> Result<gelf::Config, String> {
    let text = given.get("gelf-address").map_or("", String::as_str);
    if text.is_empty() {
        return Err("gelf-address is a required parameter".into());
    }
    let (scheme, host) = split_url(text)?;
    let address = match scheme {
        "udp" => Address::Udp(host.into()),
        "tcp" => Address::Tcp(host.into()),
        _ => return Err("gelf: endpoint needs to be TCP or UDP".into()),
    };
    if !has_port(host) {
        return Err("gelf: please provide gelf-address as proto://host:port".into());
    }
    let number = |key: &str| given.get(key).and_then(|text| text.parse::<u32>().ok());
    let packing = match given
        .get("gelf-compression-type")
        .map_or("", String::as_str)
    {
        "zlib" => gelf::Packing::Zlib,
        "none" => gelf::Packing::None,
        _ => gelf::Packing::Gzip,
    };
    let level = given.get("gelf-compression-level");
    Ok(gelf::Config {
        address,
        packing,
        level: level.and_then(|text| text.parse().ok()).unwrap_or(1),
        max_reconnect: number("gelf-tcp-max-reconnect").unwrap_or(3),
        reconnect_delay: Duration::from_secs(
            number("gelf-tcp-reconnect-delay").unwrap_or(1).into(),
        ),
        hostname: log_tag::hostname(),
        extra,
    })
}

fn check_gelf(given: &Options, address: &Address) -> Result<(), String> {
    let is_udp = matches!(address, Address::Udp(_));
    let unknown = |key: &str, value: &str| {
        format!("unknown value {value:?} for log opt {key:?} for gelf log driver")
    };
    for (key, value) in given {
        match key.as_str() {
            "gelf-compression-level" | "gelf-compression-type" if !is_udp => {
                return Err("compression is only supported on UDP".into());
            }
            "gelf-compression-level" => {
                let level = value.parse::<i32>().ok();
                level
                    .filter(|level| (-1..=9).contains(level))
                    .ok_or_else(|| unknown(key, value))?;
            }
            "gelf-compression-type" if !matches!(value.as_str(), "gzip" | "zlib" | "none") => {
                return Err(unknown(key, value));
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if is_udp => {
                return Err(format!("{key:?} is only valid for TCP"));
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => {
                value
                    .parse::<u32>()
                    .map_err(|_| format!("{key:?} must be a positive integer"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn gelf_fields(record: &Record, tag: String) -> Result<Vec<(String, String)>, String> {
    let mut fields: Vec<(String, String)> = [
        ("_container_id", record.id.clone()),
        ("_container_name", record.name.clone()),
        ("_image_id", record.image_id.clone()),
        ("_image_name", record.config.image.clone()),
        ("_command", log_tag::command(record)),
        ("_tag", tag),
        ("_created", crate::clock::text(Some(record.created_ns))),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let underscored = |key: &str| {
        if key.starts_with('_') {
            key.to_owned()
        } else {
            format!("_{key}")
        }
    };
    fields.extend(log_tag::extra(record, underscored)?);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::super::log_options::tests::options;
    use super::super::log_tag::tests::record;
    use super::*;

    fn refusal(service: Service, pairs: &[(&str, &str)]) -> String {
        match service.check(&options(pairs)) {
            Ok(()) => "accepted".into(),
            Err(why) => why,
        }
    }

    #[test]
    fn syslog_options_are_checked() {
        let check = |pairs: &[(&str, &str)]| refusal(Service::Syslog, pairs);
        let rows = [
            (&[][..], "accepted"),
            (
                &[
                    ("syslog-address", "tcp+tls://h"),
                    ("syslog-tls-skip-verify", ""),
                ],
                "accepted",
            ),
            (
                &[("syslog-address", "http://h")],
                "unsupported scheme: 'http'",
            ),
            (
                &[("syslog-address", "unix:///no/such")],
                "stat /no/such: no such file or directory",
            ),
            (
                &[("syslog-address", "1.2.3.4:514")],
                "parse \"1.2.3.4:514\": first path segment in URL cannot contain colon",
            ),
            (&[("syslog-facility", "24")], "invalid syslog facility"),
            (&[("syslog-facility", "local7")], "accepted"),
            (&[("syslog-format", "xml")], "Invalid syslog format"),
            (&[("x", "y")], "unknown log opt 'x' for syslog log driver"),
        ];
        for (pairs, expected) in rows {
            assert_eq!(check(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn fluentd_options_are_checked() {
        let rows = [
            (&[][..], "accepted"),
            (
                &[("fluentd-address", "udp://h")],
                "invalid fluentd-address (udp://h): unsupported scheme: 'udp'",
            ),
            (
                &[("fluentd-address", "h:1/x")],
                "invalid fluentd-address (h:1/x): should not contain a path element",
            ),
            (
                &[("fluentd-async-reconnect-interval", "1m")],
                "invalid value for fluentd-async-reconnect-interval: value (60s) must be between 100ms and 10s",
            ),
            (
                &[("fluentd-async", "maybe")],
                "strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (&[("x", "y")], "unknown log opt 'x' for fluentd log driver"),
        ];
        for (pairs, expected) in rows {
            assert_eq!(refusal(Service::Fluentd, pairs), expected, "{pairs:?}");
        }
        let address = |text: &str| fluentd_address(text).expect("an address");
        assert_eq!(address(""), Address::Tcp("127.0.0.1:24224".into()));
        assert_eq!(address("h"), Address::Tcp("h:24224".into()));
        assert_eq!(
            address("tls://h:1"),
            Address::Tls("h:1".into(), Tls::default())
        );
    }

    #[test]
    fn gelf_options_are_checked() {
        let rows = [
            (&[][..], "gelf-address is a required parameter"),
            (
                &[("gelf-address", "udp://h")],
                "gelf: please provide gelf-address as proto://host:port",
            ),
            (
                &[("gelf-address", "http://h:1")],
                "gelf: endpoint needs to be TCP or UDP",
            ),
            (
                &[
                    ("gelf-address", "tcp://h:1"),
                    ("gelf-compression-type", "gzip"),
                ],
                "compression is only supported on UDP",
            ),
            (
                &[
                    ("gelf-address", "udp://h:1"),
                    ("gelf-compression-level", "10"),
                ],
                "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
            ),
            (
                &[
                    ("gelf-address", "udp://h:1"),
                    ("gelf-tcp-max-reconnect", "1"),
                ],
                "\"gelf-tcp-max-reconnect\" is only valid for TCP",
            ),
            (
                &[("gelf-address", "udp://h:1"), ("x", "y")],
                "unknown log opt \"x\" for gelf log driver",
            ),
        ];
        for (pairs, expected) in rows {
            assert_eq!(refusal(Service::Gelf, pairs), expected, "{pairs:?}");
        }
        assert_eq!(
            refusal(Service::Journald, &[("x", "")]),
            "unknown log opt 'x' for journald log driver"
        );
    }

    #[test]
    fn destinations_tell_of_the_container() {
        let record = record(&[("gelf-address", "udp://h:1"), ("labels", "l")]);
        let Ok(Destination::Gelf(config)) = Service::Gelf.destination(&record) else {
            panic!("a GELF destination")
        };
        let field = |name: &str| {
            let found = config.extra.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(field("_container_name"), Some("web"));
        assert_eq!(field("_tag"), Some("0123456789ab"));
        assert_eq!(field("_l"), Some("3"));
    }
}
