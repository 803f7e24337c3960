//! The Dockerfile instructions that `docker import` and `docker commit` accept as changes of an image's settings
//! (moby `daemon/builder/dockerfile`, `BuildFromConfig`).

use wharf_api::container::{Config, Empty, HealthConfig};
use wharf_api::time::parse_go_duration;

use super::words;
use crate::{Error, Result};

/// One instruction.
#[derive(Debug)]
struct Instruction {
    /// As written.
    name: String,
    rest: String,
}

/// Applies instructions, one or more in each text.
pub(crate) fn apply(mut config: Config, changes: &[String]) -> Result<Config> {
    let instructions = parse(&changes.join("\n"));
    let known =
        |instruction: &Instruction| ACCEPTED.contains(&instruction.name.to_uppercase().as_str());
    if let Some(unknown) = instructions.iter().find(|instruction| !known(instruction)) {
        return Err(Error::invalid(format!(
            "{} is not a valid change command",
            unknown.name
        )));
    }
    let mut cmd_set = false;
    for instruction in &instructions {
        apply_one(&mut config, instruction, &mut cmd_set)?;
    }
    Ok(config)
}

const ACCEPTED: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "HEALTHCHECK",
    "ENV",
    "EXPOSE",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Joins continued lines, drops comments and empty lines.
fn parse(text: &str) -> Vec<Instruction> {
    let (mut found, mut line) = (Vec::new(), String::new());
    for part in text.lines() {
        let trimmed = part.trim();
        if trimmed.starts_with('#') || (trimmed.is_empty() && line.is_empty()) {
            continue;
        }
        match part.trim_end().strip_suffix('\\') {
            Some(continued) => line.push_str(continued),
            None => {
                line.push_str(part);
                found.extend(instruction(&std::mem::take(&mut line)));
            }
        }
    }
    found.extend(instruction(&line));
    found
}

fn instruction(line: &str) -> Option<Instruction> {
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    Some(Instruction {
        name: name.to_owned(),
        rest: rest.trim().to_owned(),
    })
}

fn apply_one(config: &mut Config, instruction: &Instruction, cmd_set: &mut bool) -> Result<()> {
    let name = instruction.name.to_uppercase();
    let rest = instruction.rest.as_str();
    if rest.is_empty() && !matches!(name.as_str(), "CMD" | "ENTRYPOINT") {
        let wanted = if matches!(
            name.as_str(),
            "ENV" | "EXPOSE" | "LABEL" | "VOLUME" | "HEALTHCHECK"
        ) {
            "at least one argument"
        } else {
            "exactly one argument"
        };
        return Err(Error::invalid(format!("{name} requires {wanted}")));
    }
    let expand = |word: &str| {
        let env = config.env.as_deref().unwrap_or_default();
        words::expand(word, env)
            .map_err(|error| Error::invalid(format!("failed to process {word:?}: {error}")))
    };
    match name.as_str() {
        "CMD" => {
            config.cmd = command(rest, config.shell.as_deref());
            *cmd_set = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = command(rest, config.shell.as_deref());
            // A command that came with the image is no argument of the new entry point.
            if !*cmd_set {
                config.cmd = None;
            }
        }
        "ENV" => set_env(config, &pairs("ENV", rest)?)?,
        "LABEL" => set_labels(config, &pairs("LABEL", rest)?)?,
        "EXPOSE" => expose(config, rest)?,
        "VOLUME" => {
            let paths = json_list(rest).unwrap_or_else(|| words::split(rest));
            for path in paths {
                let path = expand(&path)?;
                if path.trim().is_empty() {
                    return Err(Error::invalid(
                        "VOLUME specified can not be an empty string",
                    ));
                }
                config
                    .volumes
                    .get_or_insert_default()
                    .insert(path, Empty {});
            }
        }
        "USER" => config.user = expand(rest)?,
        "WORKDIR" => config.working_dir = join(&config.working_dir, &expand(rest)?),
        "STOPSIGNAL" => config.stop_signal = stop_signal(expand(rest)?)?,
        "ONBUILD" => config
            .on_build
            .get_or_insert_default()
            .push(on_build(rest)?),
        _ => config.healthcheck = Some(health(rest)?),
    }
    Ok(())
}

/// A JSON list is taken as it is, anything else goes through the shell.
fn command(rest: &str, shell: Option<&[String]>) -> Option<Vec<String>> {
    if let Some(list) = json_list(rest) {
        return Some(list);
    }
    if rest.is_empty() {
        return None;
    }
    let mut command = shell.map_or_else(
        || vec!["/bin/sh".to_owned(), "-c".to_owned()],
        <[String]>::to_vec,
    );
    command.push(rest.to_owned());
    Some(command)
}

fn json_list(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[')
        .then(|| serde_json::from_str(rest).ok())
        .flatten()
}

/// `A=1 B="2 3"`, or the old `A the rest of the line`.
fn pairs(name: &str, rest: &str) -> Result<Vec<(String, String)>> {
    let words = words::split(rest);
    let first = words.first().map_or("", String::as_str);
    if !first.contains('=') {
        let Some((key, value)) = rest.split_once(char::is_whitespace) else {
            return Err(Error::invalid(format!("{name} must have two arguments")));
        };
        return Ok(vec![(key.to_owned(), value.trim_start().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(Error::invalid(format!("{name} names can not be blank"))),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Error::invalid(format!(
            "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
        ))),
    };
    words.iter().map(pair).collect()
}

/// All values of one instruction see the environment before it.
fn set_env(config: &mut Config, pairs: &[(String, String)]) -> Result<()> {
    let env = config.env.get_or_insert_default();
    let before = env.clone();
    for (key, value) in pairs {
        let (key, value) = (expand_in(key, &before)?, expand_in(value, &before)?);
        let entry = format!("{key}={value}");
        match env
            .iter_mut()
            .find(|known| known.split('=').next() == Some(key.as_str()))
        {
            Some(known) => *known = entry,
            None => env.push(entry),
        }
    }
    Ok(())
}

fn set_labels(config: &mut Config, pairs: &[(String, String)]) -> Result<()> {
    let env = config.env.clone().unwrap_or_default();
    let labels = config.labels.get_or_insert_default();
    for (key, value) in pairs {
        labels.insert(expand_in(key, &env)?, expand_in(value, &env)?);
    }
    Ok(())
}

fn expand_in(word: &str, env: &[String]) -> Result<String> {
    words::expand(word, env)
        .map_err(|error| Error::invalid(format!("failed to process {word:?}: {error}")))
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn expose(config: &mut Config, rest: &str) -> Result<()> {
    let env = config.env.clone().unwrap_or_default();
    for word in words::split(rest) {
        let word = expand_in(&word, &env)?;
        for spec in word.split_whitespace() {
            let (ports, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
            let invalid = || Error::invalid(format!("invalid containerPort: {ports}"));
            if !matches!(protocol, "tcp" | "udp" | "sctp") {
                return Err(Error::invalid(format!("invalid proto: {protocol}")));
            }
            let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
            let (low, high): (u16, u16) = (
                low.parse().map_err(|_| invalid())?,
                high.parse().map_err(|_| invalid())?,
            );
            if low > high {
                return Err(invalid());
            }
            config
                .exposed_ports
                .extend((low..=high).map(|port| (format!("{port}/{protocol}"), Empty {})));
        }
    }
    Ok(())
}

/// Joins and cleans as Go's `path.Join` does.
fn join(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{base}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A number or a name, with or without `SIG`.
fn stop_signal(text: String) -> Result<String> {
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let valid = match text.parse::<i32>() {
        Ok(number) => (1..=64).contains(&number),
        Err(_) => SIGNALS.contains(&name) || is_real_time(name),
    };
    if valid {
        Ok(text)
    } else {
        Err(Error::invalid(format!("invalid signal: {text}")))
    }
}

const SIGNALS: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "EMT",
];

fn is_real_time(name: &str) -> bool {
    let offset = |rest: &str, sign: char| {
        rest.is_empty()
            || rest
                .strip_prefix(sign)
                .is_some_and(|n| n.parse::<u8>().is_ok())
    };
    name.strip_prefix("RTMIN")
        .is_some_and(|rest| offset(rest, '+'))
        || name
            .strip_prefix("RTMAX")
            .is_some_and(|rest| offset(rest, '-'))
}

fn on_build(rest: &str) -> Result<String> {
    let trigger = rest
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_uppercase();
    match trigger.as_str() {
        "ONBUILD" => Err(Error::invalid(
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        )),
        "MAINTAINER" | "FROM" => Err(Error::invalid(format!(
            "{trigger} isn't allowed as an ONBUILD trigger"
        ))),
        _ => Ok(rest.to_owned()),
    }
}

/// `NONE`, or flags and `CMD …`.
fn health(rest: &str) -> Result<HealthConfig> {
    let mut health = HealthConfig::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        set_health_flag(&mut health, flag)?;
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    match kind.to_uppercase().as_str() {
        "NONE" if command.is_empty() => health.test = vec!["NONE".to_owned()],
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" if command.is_empty() => {
            return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => {
            health.test = match json_list(command) {
                Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
                None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            };
        }
        other => {
            return Err(Error::invalid(format!(
                "Unknown type {other:?} in HEALTHCHECK (try CMD)"
            )));
        }
    }
    Ok(health)
}

fn set_health_flag(health: &mut HealthConfig, flag: &str) -> Result<()> {
    let (name, value) = flag
        .split_once('=')
        .ok_or_else(|| Error::invalid(format!("Missing a value on flag: {flag}")))?;
    let duration = || match parse_go_duration(value) {
        Some(ns) if ns == 0 || ns >= 1_000_000 => Ok(ns),
        Some(_) => Err(Error::invalid(format!(
            "Interval {name:?} cannot be less than 1ms"
        ))),
        None => Err(Error::invalid(format!("time: invalid duration {value:?}"))),
    };
    match name {
        "interval" => health.interval = duration()?,
        "timeout" => health.timeout = duration()?,
        "start-period" => health.start_period = duration()?,
        "start-interval" => health.start_interval = duration()?,
        "retries" => {
            let retries = value.parse::<i64>().ok().filter(|n| *n >= 0);
            health.retries = retries
                .ok_or_else(|| Error::invalid(format!("--retries cannot be negative ({value})")))?;
        }
        _ => return Err(Error::invalid(format!("Unknown flag: {name}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_to_default(changes: &[&str]) -> Result<Config> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply(Config::default(), &changes)
    }

    #[test]
    fn every_instruction_has_its_effect() {
        let config = apply_to_default(&[
            "ENV A=1 B=\"two words\"",
            "ENV C $A and more",
            "CMD echo hi",
            "ENTRYPOINT [\"/bin/x\", \"y\"]",
            "EXPOSE 80 8000-8001/udp",
            "LABEL k=v \"with space\"=$A",
            "USER $A:2",
            "VOLUME [\"/data\"]",
            "VOLUME /more /again",
            "WORKDIR /srv",
            "WORKDIR sub/../app",
            "STOPSIGNAL SIGRTMIN+3",
            "ONBUILD RUN make",
            "HEALTHCHECK --interval=5s --retries=2 CMD curl localhost",
            "# a comment",
        ])
        .expect("valid");
        assert_eq!(
            config.env.as_deref(),
            Some(
                &[
                    "A=1".to_owned(),
                    "B=two words".into(),
                    "C=1 and more".into()
                ][..]
            )
        );
        assert_eq!(
            config.cmd.as_deref(),
            Some(&["/bin/sh".to_owned(), "-c".into(), "echo hi".into()][..])
        );
        assert_eq!(
            config.entrypoint.as_deref(),
            Some(&["/bin/x".to_owned(), "y".into()][..])
        );
        assert_eq!(
            config.exposed_ports.keys().collect::<Vec<_>>(),
            ["80/tcp", "8000/udp", "8001/udp"]
        );
        assert_eq!(
            config.labels.as_ref().map(|l| l["with space"].as_str()),
            Some("1")
        );
        assert_eq!(config.user, "1:2");
        assert_eq!(config.volumes.as_ref().map(|v| v.len()), Some(3));
        assert_eq!(config.working_dir, "/srv/app");
        assert_eq!(config.stop_signal, "SIGRTMIN+3");
        assert_eq!(
            config.on_build.as_deref(),
            Some(&["RUN make".to_owned()][..])
        );
        let health = config.healthcheck.expect("set");
        assert_eq!(
            (health.interval, health.retries, health.test.len()),
            (5_000_000_000, 2, 2)
        );
    }

    #[test]
    fn bad_changes_are_refused() {
        let check = |change: &str, message: &str| {
            let error = apply_to_default(&[change]).expect_err(change);
            assert_eq!(error.to_string(), message, "{change}");
        };
        check("RUN make", "RUN is not a valid change command");
        check("USER", "USER requires exactly one argument");
        check("ENV A", "ENV must have two arguments");
        check(
            "ENV A=1 B",
            "Syntax error - can't find = in \"B\". Must be of the form: name=value",
        );
        check("EXPOSE x", "invalid containerPort: x");
        check("STOPSIGNAL nope", "invalid signal: nope");
        check(
            "HEALTHCHECK RUN x",
            "Unknown type \"RUN\" in HEALTHCHECK (try CMD)",
        );
        check(
            "ONBUILD ONBUILD x",
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        );
    }

    #[test]
    fn lines_continue_and_entry_points_reset_commands() {
        let config = apply(
            Config {
                cmd: Some(vec!["old".into()]),
                ..Config::default()
            },
            &["ENTRYPOINT [\"a\", \\\n \"b\"]".to_owned()],
        )
        .expect("valid");
        assert_eq!(config.cmd, None);
        assert_eq!(config.entrypoint.map(|list| list.len()), Some(2));
    }
}
