//! What instructions change of an image's settings, and how history tells it: Docker's classic builder, word for word.

use std::collections::BTreeMap;

use wharf_api::container::{Config, Empty, HealthConfig};

use crate::dockerfile::expand::quote;
use crate::dockerfile::instruction::{CommandLine, Instruction, exposed_ports};
use crate::path::clean;

/// The shell of shell forms, unless `SHELL` says otherwise.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// `PATH` of an image that has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Settings of the image being built.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// As the image's config will have them.
    pub config: Config,
    /// From `MAINTAINER`.
    pub author: String,
    /// `CMD` was given in this stage: a later `ENTRYPOINT` leaves it alone.
    pub cmd_set: bool,
}

impl Settings {
    /// Settings of a stage that begins with an image's.
    pub fn of(mut config: Config) -> Settings {
        let env = config.env.get_or_insert_default();
        if !env.iter().any(|entry| entry.starts_with("PATH=")) {
            env.push(format!("PATH={DEFAULT_PATH}"));
        }
        config.open_stdin = false;
        config.stdin_once = false;
        Settings {
            config,
            ..Settings::default()
        }
    }

    /// The shell of shell forms.
    pub fn shell(&self) -> Vec<String> {
        match &self.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
        }
    }

    /// A variable of the image's environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        let env = self.config.env.as_deref().unwrap_or_default();
        env.iter()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    }

    /// Takes an instruction whose variables are expanded. Gives the text for history; `None` if it changes no settings (`RUN`, `COPY`,
    /// `ADD`). The error is Docker's text.
    pub fn apply(&mut self, instruction: &Instruction) -> Result<Option<String>, String> {
        let config = &mut self.config;
        Ok(Some(match instruction {
            Instruction::Env(pairs) => {
                let env = config.env.get_or_insert_default();
                let mut text = "ENV".to_owned();
                for pair in pairs {
                    set_variable(env, &pair.key, &pair.value);
                    text.push_str(&format!(" {}", pair.text()));
                }
                text
            }
            Instruction::Label { pairs, .. } => {
                let labels = config.labels.get_or_insert_default();
                let mut text = "LABEL".to_owned();
                for pair in pairs {
                    labels.insert(pair.key.clone(), pair.value.clone());
                    text.push_str(&format!(" {}", pair.text()));
                }
                text
            }
            Instruction::Maintainer(name) => {
                self.author.clone_from(name);
                format!("MAINTAINER {name}")
            }
            Instruction::Expose(ports) => {
                for port in ports {
                    for exposed in exposed_ports(port)?.ports {
                        config.exposed_ports.insert(exposed, Empty {});
                    }
                }
                format!("EXPOSE {}", ports.join(" "))
            }
            Instruction::Volume(paths) => {
                let volumes = config.volumes.get_or_insert_default();
                for path in paths {
                    if path.is_empty() {
                        return Err("VOLUME specified can not be an empty string".to_owned());
                    }
                    volumes.insert(path.clone(), Empty {});
                }
                format!("VOLUME [{}]", paths.join(" "))
            }
            Instruction::User(user) => {
                config.user.clone_from(user);
                format!("USER {user}")
            }
            Instruction::Workdir(path) => {
                config.working_dir = workdir(&config.working_dir, path)?;
                format!("WORKDIR {}", config.working_dir)
            }
            Instruction::Stopsignal(signal) => {
                check_signal(signal)?;
                config.stop_signal.clone_from(signal);
                format!("STOPSIGNAL {signal}")
            }
            Instruction::Shell(shell) => {
                config.shell = Some(shell.clone());
                format!("SHELL [{}]", shell.join(" "))
            }
            Instruction::Onbuild(trigger) => {
                config
                    .on_build
                    .get_or_insert_default()
                    .push(trigger.clone());
                format!("ONBUILD {trigger}")
            }
            Instruction::Healthcheck(check) => {
                let check = HealthConfig {
                    test: check.test.clone(),
                    interval: check.interval,
                    timeout: check.timeout,
                    start_period: check.start_period,
                    start_interval: check.start_interval,
                    retries: check.retries,
                };
                let text = format!("HEALTHCHECK {}", health_text(&check));
                config.healthcheck = Some(check);
                text
            }
            Instruction::Cmd(command) => self.cmd(command),
            Instruction::Entrypoint(command) => self.entrypoint(command),
            Instruction::Arg(arguments) => {
                let words: Vec<String> = arguments
                    .iter()
                    .map(|argument| match &argument.default {
                        Some(value) => format!("{}={value}", argument.name),
                        None => argument.name.clone(),
                    })
                    .collect();
                format!("ARG {}", words.join(" "))
            }
            Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) => return Ok(None),
        }))
    }

    fn cmd(&mut self, command: &CommandLine) -> String {
        let words = command.resolve(&self.shell());
        let text = format!("CMD {}", words_text(&words));
        self.config.cmd = Some(words);
        if !command.words.is_empty() {
            self.cmd_set = true;
        }
        text
    }

    fn entrypoint(&mut self, command: &CommandLine) -> String {
        let words = if command.words.is_empty() {
            Vec::new()
        } else {
            command.resolve(&self.shell())
        };
        let text = format!("ENTRYPOINT {}", words_text(&words));
        self.config.entrypoint = (!words.is_empty()).then_some(words);
        if !self.cmd_set {
            self.config.cmd = None;
        }
        text
    }
}

fn set_variable(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let known = env.iter_mut().find(|known| {
        known
            .split_once('=')
            .map_or(known.as_str(), |(known, _)| known)
            == name
    });
    match known {
        Some(known) => *known = entry,
        None => env.push(entry),
    }
}

/// Relative paths go on from the present directory.
fn workdir(current: &str, wanted: &str) -> Result<String, String> {
    if wanted.is_empty() {
        return Err("cannot normalize nothing".to_owned());
    }
    if wanted.starts_with('/') {
        return Ok(clean(wanted));
    }
    Ok(clean(&format!("/{current}/{wanted}")))
}

/// Go's `%q` of a list.
fn words_text(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `%q` of a pointer to the structure.
fn health_text(check: &HealthConfig) -> String {
    let duration = |nanoseconds: i64| quote(&go_duration(nanoseconds));
    let retries = u8::try_from(check.retries).unwrap_or(u8::MAX);
    let retries = match retries {
        0x20..=0x7e => format!("'{}'", char::from(retries)),
        7 => "'\\a'".to_owned(),
        8 => "'\\b'".to_owned(),
        9 => "'\\t'".to_owned(),
        10 => "'\\n'".to_owned(),
        11 => "'\\v'".to_owned(),
        12 => "'\\f'".to_owned(),
        13 => "'\\r'".to_owned(),
        other => format!("'\\x{other:02x}'"),
    };
    format!(
        "&{{{} {} {} {} {} {retries}}}",
        words_text(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
    )
}

/// Go's text of a duration: `1m30s`, `1.5s`, `2ms`.
fn go_duration(nanoseconds: i64) -> String {
    let fraction = |value: i64, unit: i64, name: &str| {
        let whole = value / unit;
        let rest = value % unit;
        if rest == 0 {
            return format!("{whole}{name}");
        }
        let width = unit.to_string().len() - 1;
        let digits = format!("{rest:0width$}");
        format!("{whole}.{}{name}", digits.trim_end_matches('0'))
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => fraction(nanoseconds, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanoseconds, 1_000_000, "ms"),
        _ => {
            const MINUTE: i64 = 60_000_000_000;
            let (minutes, rest) = (nanoseconds / MINUTE, nanoseconds % MINUTE);
            let seconds = fraction(rest, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Names of signals up to the real-time ones, and numbers.
fn check_signal(text: &str) -> Result<(), String> {
    const NAMES: [&str; 38] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN", "RTMAX", "UNUSED", "EMT",
    ];
    let invalid = || format!("invalid signal: {text}");
    if let Ok(number) = text.parse::<i64>() {
        return (number > 0 && number <= 64)
            .then_some(())
            .ok_or_else(invalid);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, most: u8| {
        name.strip_prefix(prefix)
            .and_then(|number| number.parse::<u8>().ok())
            .is_some_and(|number| number <= most)
    };
    let known = NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14);
    known.then_some(()).ok_or_else(invalid)
}

/// Whether a cached step with these settings did what a step with those would do (moby `daemon/images/cache_compare.go`).
pub fn same_step(a: &Config, b: &Config) -> bool {
    let set = |value: &Option<BTreeMap<String, String>>| value.clone().unwrap_or_default();
    let list = |value: &Option<Vec<String>>| value.clone().unwrap_or_default();
    !a.open_stdin
        && !b.open_stdin
        && a.attach_stdout == b.attach_stdout
        && a.attach_stderr == b.attach_stderr
        && a.user == b.user
        && a.tty == b.tty
        && list(&a.cmd) == list(&b.cmd)
        && list(&a.env) == list(&b.env)
        && set(&a.labels) == set(&b.labels)
        && a.exposed_ports == b.exposed_ports
        && list(&a.entrypoint) == list(&b.entrypoint)
        && a.volumes.clone().unwrap_or_default() == b.volumes.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    fn applied(lines: &str) -> (Settings, Vec<String>) {
        let file = parse(&format!("FROM x\n{lines}")).expect(lines);
        let mut settings = Settings::of(Config::default());
        let mut texts = Vec::new();
        for step in &file.stages[0].steps {
            let lookup = |name: &str| settings.variable(name);
            let expanded = step.instruction.expand(file.escape, &lookup).expect(lines);
            texts.extend(settings.apply(&expanded.instruction).expect(lines));
        }
        (settings, texts)
    }

    #[test]
    fn history_is_told_in_dockers_words() {
        let rows = [
            ("ENV A=1 B=\"x y\"", "ENV A=1 B=x y"),
            ("ENV A 1 2", "ENV A=1 2"),
            ("LABEL a=b", "LABEL a=b"),
            ("EXPOSE 80 443/udp", "EXPOSE 443/udp 80"),
            ("VOLUME /a /b", "VOLUME [/a /b]"),
            ("USER u", "USER u"),
            ("WORKDIR a", "WORKDIR /a"),
            ("STOPSIGNAL 9", "STOPSIGNAL 9"),
            ("SHELL [\"a\", \"b\"]", "SHELL [a b]"),
            ("ONBUILD RUN x", "ONBUILD RUN x"),
            ("CMD a \"b\"", "CMD [\"/bin/sh\" \"-c\" \"a \\\"b\\\"\"]"),
            ("ENTRYPOINT [\"a\"]", "ENTRYPOINT [\"a\"]"),
            ("ENTRYPOINT []", "ENTRYPOINT []"),
            ("ARG X=1 Y", "ARG X=1 Y"),
            (
                "HEALTHCHECK --interval=90s --retries=3 CMD x",
                "HEALTHCHECK &{[\"CMD-SHELL\" \"x\"] \"1m30s\" \"0s\" \"0s\" \"0s\" '\\x03'}",
            ),
        ];
        for (line, expected) in rows {
            assert_eq!(applied(line).1, [expected], "{line}");
        }
    }

    #[test]
    fn settings_add_up() {
        let (settings, _) = applied(
            "ENV A=1\nENV B=$A A=2 C=$A\nWORKDIR /a\nWORKDIR b/../c\nCMD x\nENTRYPOINT y\n",
        );
        let env = settings.config.env.clone().expect("has variables");
        assert_eq!(env[1..], ["A=2", "B=1", "C=1"]);
        assert_eq!(settings.config.working_dir, "/a/c");
        assert!(settings.config.cmd.is_some());
        let (settings, _) = applied("ENTRYPOINT y\n");
        assert_eq!(settings.config.cmd, None);
    }

    #[test]
    fn durations_as_go_prints_them() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (2_000_000, "2ms"),
        ] {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }
}
