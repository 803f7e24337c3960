//! `KEY=VALUE` lists: environment and labels, from flags and from files.

use std::collections::BTreeMap;

use crate::failure::errno_text;

/// `-e`: a name is needed.
pub fn check_env(value: &str) -> Result<(), String> {
    if value.is_empty() || value.starts_with('=') {
        return Err(format!("invalid environment variable: {value}"));
    }
    Ok(())
}

/// `-l`: a name without blanks is needed.
pub fn check_label(value: &str) -> Result<(), String> {
    let key = value.split_once('=').map_or(value, |(key, _)| key);
    if key.is_empty() {
        return Err(format!("invalid label '{value}': empty name"));
    }
    if key.contains(char::is_whitespace) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok(())
}

/// `--sysctl`: those of namespaces a container has.
pub fn check_sysctl(value: &str) -> Result<(), String> {
    const NAMES: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match value.split_once('=') {
        Some((name, _))
            if NAMES.contains(&name)
                || name.starts_with("net.")
                || name.starts_with("fs.mqueue.") =>
        {
            Ok(())
        }
        _ => Err(format!("sysctl '{value}' is not allowed")),
    }
}

/// The container's environment: the files first, then `-e`. A name without a value takes ours; if we have none it goes
/// to the daemon as it is, which unsets the image's.
///
/// # Errors
/// A file cannot be read or has a bad line.
pub fn environment(files: &[String], given: &[String]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        all.extend(
            read(file)?
                .into_iter()
                .filter_map(|entry| with_own_value(&entry)),
        );
    }
    all.extend(
        given
            .iter()
            .map(|entry| with_own_value(entry).unwrap_or_else(|| entry.clone())),
    );
    Ok(all)
}

fn with_own_value(entry: &str) -> Option<String> {
    if entry.contains('=') {
        return Some(entry.to_owned());
    }
    std::env::var(entry)
        .ok()
        .map(|value| format!("{entry}={value}"))
}

/// Labels: the files first, then the flags.
///
/// # Errors
/// A file cannot be read or has a bad line.
pub fn labels(files: &[String], given: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read(file)?);
    }
    all.extend(given.iter().cloned());
    Ok(map(&all))
}

/// A list of `KEY=VALUE` as a map; a key without value has an empty one.
pub fn map(entries: &[String]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn read(file: &str) -> Result<Vec<String>, String> {
    let bytes =
        std::fs::read(file).map_err(|error| format!("open {file}: {}", errno_text(&error)))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("invalid env file ({file}): invalid utf8 bytes"))?;
    parse_lines(&text).map_err(|reason| format!("invalid env file ({file}): {reason}"))
}

/// Lines of `KEY=VALUE`; empty ones and those that begin with `#` do not count.
fn parse_lines(text: &str) -> Result<Vec<String>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .map_or((line, None), |(key, value)| (key, Some(value)));
        if key.contains(char::is_whitespace) {
            return Err(format!("variable '{key}' contains whitespaces"));
        }
        if key.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        entries.push(value.map_or(key.to_owned(), |value| format!("{key}={value}")));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_env_file() {
        assert_eq!(
            parse_lines("\u{feff}A=1\n# note\n\n  B=two words\nC\nD=\n"),
            Ok(["A=1", "B=two words", "C", "D="]
                .map(str::to_owned)
                .to_vec())
        );
        assert_eq!(
            parse_lines("A B=1"),
            Err("variable 'A B' contains whitespaces".into())
        );
        assert_eq!(
            parse_lines("=1"),
            Err("no variable name on line '=1'".into())
        );
    }

    #[test]
    fn a_name_without_value_takes_ours() {
        let path = std::env::var("PATH").expect("tests have a PATH");
        let env = environment(
            &[],
            &["PATH".into(), "NOT_SET_ANYWHERE".into(), "A=1".into()],
        );
        assert_eq!(
            env,
            Ok(vec![
                format!("PATH={path}"),
                "NOT_SET_ANYWHERE".into(),
                "A=1".into()
            ])
        );
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(
            check_env("=1"),
            Err("invalid environment variable: =1".into())
        );
        assert_eq!(
            check_label("a b=1"),
            Err("label 'a b' contains whitespaces".into())
        );
        assert!(
            check_sysctl("net.core.somaxconn=1").is_ok() && check_sysctl("kernel.panic=1").is_err()
        );
    }
}
