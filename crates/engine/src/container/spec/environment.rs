//! Environment variables of a container's processes (moby `CreateDaemonEnvironment`, `ReplaceOrAppendEnvValues`).

use wharf_api::container::Config;

/// The search path of containers whose image names none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of the container's own program. `linked`: what containers that it is linked to say of themselves.
pub fn of(config: &Config, linked: &[String]) -> Vec<String> {
    of_terminal(config, config.tty, linked)
}

/// Variables as they are with or without a terminal.
pub fn of_terminal(config: &Config, tty: bool, linked: &[String]) -> Vec<String> {
    let mut env = vec![
        DEFAULT_PATH.to_owned(),
        format!("HOSTNAME={}", config.hostname),
    ];
    if tty {
        env.push("TERM=xterm".into());
    }
    env.extend_from_slice(linked);
    override_with(&mut env, config.env.iter().flatten());
    env
}

/// Replaces or appends; an entry without `=` takes the variable away.
pub fn override_with<'a>(env: &mut Vec<String>, entries: impl Iterator<Item = &'a String>) {
    for entry in entries {
        let key = key(entry);
        let place = env.iter().position(|own| self::key(own) == key);
        match (entry.contains('='), place) {
            (true, Some(place)) => entry.clone_into(&mut env[place]),
            (true, None) => env.push(entry.clone()),
            (false, Some(place)) => {
                env.remove(place);
            }
            (false, None) => {}
        }
    }
}

pub(crate) fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_variables_replace_the_defaults() {
        let config = Config {
            hostname: "h".into(),
            tty: true,
            env: Some(["PATH=/x", "A=1", "TERM", "A=2"].map(str::to_owned).into()),
            ..Config::default()
        };
        assert_eq!(of(&config, &[]), ["PATH=/x", "HOSTNAME=h", "A=2"]);
    }
}
