//! `--security-opt`: seccomp profiles are read here, since the daemon may be elsewhere.

use crate::failure::errno_text;

/// What the option list comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Options for the daemon.
    pub options: Vec<String>,
    /// `systempaths=unconfined`: nothing is masked and nothing is read-only.
    pub unconfined_paths: bool,
}

/// Reads `--security-opt` values.
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse(values: &[String]) -> Result<Security, String> {
    let mut security = Security::default();
    for value in values {
        let pair = value.split_once('=').or_else(|| {
            value
                .split_once(':')
                .filter(|_| value != "no-new-privileges")
        });
        let (key, rest) = match pair {
            Some((key, rest)) if !rest.is_empty() || key == "no-new-privileges" => (key, rest),
            None if value == "no-new-privileges" => (value.as_str(), ""),
            _ => {
                return Err(format!(
                    "Invalid --security-opt: {}",
                    crate::flags::parse::quote(value)
                ));
            }
        };
        if value == "systempaths=unconfined" {
            security.unconfined_paths = true;
        } else if key == "seccomp" && !matches!(rest, "builtin" | "unconfined") {
            security.options.push(format!("seccomp={}", profile(rest)?));
        } else {
            security.options.push(value.clone());
        }
    }
    Ok(security)
}

fn profile(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!(
            "opening seccomp profile ({path}) failed: open {path}: {}",
            errno_text(&error)
        )
    })?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| format!("compacting json for seccomp profile ({path}) failed: {error}"))?;
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_sorted_out() {
        let given = [
            "no-new-privileges",
            "seccomp=unconfined",
            "systempaths=unconfined",
            "label:disable",
        ];
        let security = parse(&given.map(str::to_owned)).expect("fits");
        assert!(security.unconfined_paths);
        assert_eq!(
            security.options,
            ["no-new-privileges", "seccomp=unconfined", "label:disable"]
        );
        assert_eq!(
            parse(&["foo".into()]),
            Err("Invalid --security-opt: \"foo\"".into())
        );
        assert_eq!(
            parse(&["seccomp=/nonexistent".into()]),
            Err("opening seccomp profile (/nonexistent) failed: open /nonexistent: no such file or directory".into())
        );
    }
}
