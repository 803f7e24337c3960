//! `# check=skip=A,B;error=true;experimental=all`, also as a build argument and in comments before an instruction.

use super::Rule;

/// Which rules count and what a finding means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    skip_all: bool,
    skip: Vec<String>,
    experimental_all: bool,
    experimental: Vec<String>,
    /// A finding fails the build.
    pub error: bool,
}

/// Settings that make no sense, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Unknown, or without a value.
    #[error("invalid check option {0:?}")]
    Unknown(String),
    /// `error=` is not a boolean.
    #[error("failed to parse check option {0:?}")]
    Boolean(String),
}

impl Options {
    /// Reads settings; empty text sets nothing.
    pub fn parse(text: &str) -> Result<Options, OptionsError> {
        let mut options = Options::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| OptionsError::Unknown(part.to_owned()))?;
            let value = value.trim();
            let names = || {
                value
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect()
            };
            match key.trim() {
                "skip" if value == "all" => options.skip_all = true,
                "skip" => options.skip = names(),
                "experimental" if value == "all" => options.experimental_all = true,
                "experimental" => options.experimental = names(),
                "error" => {
                    options.error = match value {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(OptionsError::Boolean(part.to_owned())),
                    }
                }
                other => return Err(OptionsError::Unknown(other.to_owned())),
            }
        }
        Ok(options)
    }

    /// These settings and those in the comments before an instruction.
    pub fn with_comments(&self, comments: &[String]) -> Options {
        let mut merged = self.clone();
        let found = comments.iter().find_map(|comment| {
            let (key, value) = comment.split_once('=')?;
            (key.trim().eq_ignore_ascii_case("check")).then(|| value.trim())
        });
        let word = found.and_then(|value| value.split(' ').next());
        if let Some(Ok(other)) = word.map(Options::parse) {
            merged.skip_all |= other.skip_all;
            merged.experimental_all |= other.experimental_all;
            merged.skip.extend(other.skip);
            merged.experimental.extend(other.experimental);
        }
        merged
    }

    pub(crate) fn wants(&self, rule: &Rule) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == rule.name);
        if rule.experimental {
            self.experimental_all || named(&self.experimental)
        } else {
            !self.skip_all && !named(&self.skip)
        }
    }
}
