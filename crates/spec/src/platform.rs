//! Platforms: `linux/arm64/v8`, their normal form and which image runs where (`github.com/containerd/platforms`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, processor and its variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name of the processor architecture.
    #[serde(default)]
    pub architecture: String,
    /// Go's name of the operating system.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    /// Features of the operating system (Windows).
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the processor, `v7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// A part is empty or has a character outside letters, digits, `.`, `_`, `-`.
    #[error(
        "{part:?} is an invalid component of {text:?}: platform specifier component must match \"^[A-Za-z0-9_-]+$\": invalid argument"
    )]
    Component {
        /// The bad part.
        part: String,
        /// All that was given.
        text: String,
    },
    /// One word that is neither a system nor a processor.
    #[error("{0:?}: unknown operating system or architecture: invalid argument")]
    Unknown(String),
    /// More than three parts.
    #[error("{0:?}: cannot parse platform specifier: invalid argument")]
    Shape(String),
}

impl Platform {
    /// The machine this program was built for.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            ..Platform::default()
        }
        .normalise()
    }

    /// Parses `os`, `arch`, `os/arch` or `os/arch/variant`; what is missing comes from the host.
    pub fn parse(text: &str) -> Result<Platform, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        for part in &parts {
            if part.is_empty()
                || !part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            {
                return Err(PlatformError::Component {
                    part: (*part).to_owned(),
                    text: text.to_owned(),
                });
            }
        }
        let platform = match parts[..] {
            [one] => return parse_word(one),
            [os, architecture] => Platform {
                os: normal_os(os),
                architecture: architecture.to_owned(),
                ..Platform::default()
            },
            [os, architecture, variant] => Platform {
                os: normal_os(os),
                architecture: architecture.to_owned(),
                variant: variant.to_owned(),
                ..Platform::default()
            },
            _ => return Err(PlatformError::Shape(text.to_owned())),
        };
        Ok(platform.normalise())
    }

    /// Replaces other names of systems and processors by Go's and drops default variants.
    pub fn normalise(&self) -> Platform {
        let (architecture, variant) = normal_arch(&self.architecture, &self.variant);
        Platform {
            architecture,
            variant,
            os: normal_os(&self.os),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// Whether something made for `image` runs here: the same system, and this processor or an older one of its family.
    pub fn runs(&self, image: &Platform) -> bool {
        self.rank(image).is_some()
    }

    /// How well `image` fits: 0 is best, `None` does not run.
    pub fn rank(&self, image: &Platform) -> Option<usize> {
        let (want, have) = (self.normalise(), image.normalise());
        if want.os != have.os {
            return None;
        }
        let exact = runnable(&want)
            .iter()
            .position(|(arch, variant)| *arch == have.architecture && *variant == have.variant);
        // Many image configs carry no variant; Docker then compares the processor alone.
        let without_variant = image.variant.is_empty() && want.architecture == have.architecture;
        exact.or(without_variant.then_some(usize::MAX))
    }

    /// `os/arch/variant`, with the version of the system in parentheses.
    pub fn format_all(&self) -> String {
        if self.os_version.is_empty() {
            return self.to_string();
        }
        let os = format!("{}({})", or_unknown(&self.os), self.os_version);
        joined(&os, &self.architecture, &self.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(
            or_unknown(&self.os),
            &self.architecture,
            &self.variant,
        ))
    }
}

fn or_unknown(os: &str) -> &str {
    if os.is_empty() { "unknown" } else { os }
}

fn joined(os: &str, architecture: &str, variant: &str) -> String {
    [os, architecture, variant]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/")
}

fn parse_word(word: &str) -> Result<Platform, PlatformError> {
    let host = Platform::host();
    let os = normal_os(word);
    if KNOWN_OS.contains(&os.as_str()) {
        return Ok(Platform { os, ..host });
    }
    let (architecture, variant) = normal_arch(word, "");
    if KNOWN_ARCH.contains(&architecture.as_str()) {
        return Ok(Platform {
            os: host.os,
            architecture,
            variant,
            ..Platform::default()
        });
    }
    Err(PlatformError::Unknown(word.to_owned()))
}

const KNOWN_OS: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

const KNOWN_ARCH: [&str; 16] = [
    "386", "amd64", "arm", "arm64", "armbe", "loong64", "mips", "mips64", "mips64le", "mipsle",
    "ppc64", "ppc64le", "riscv64", "s390x", "sparc64", "wasm",
];

fn normal_os(os: &str) -> String {
    let os = os.to_lowercase();
    if os == "macos" {
        "darwin".to_owned()
    } else {
        os
    }
}

fn normal_arch(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_lowercase(), variant.to_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

/// Processors whose programs this one runs, best first.
fn runnable(platform: &Platform) -> Vec<(String, String)> {
    let (architecture, variant) = (platform.architecture.as_str(), platform.variant.as_str());
    let mut found = vec![(architecture.to_owned(), variant.to_owned())];
    let older = |architecture: &str, from: u32, to: u32| -> Vec<(String, String)> {
        (to..from)
            .rev()
            .map(|n| (architecture.to_owned(), format!("v{n}")))
            .collect()
    };
    let number = variant.trim_start_matches('v').parse::<u32>().unwrap_or(0);
    match architecture {
        "amd64" => {
            found.extend(older("amd64", number, 2));
            if number > 1 {
                found.push(("amd64".to_owned(), String::new()));
            }
            found.push(("386".to_owned(), String::new()));
        }
        "arm" => found.extend(older("arm", number, 5)),
        "arm64" => {
            if number > 8 {
                found.push(("arm64".to_owned(), String::new()));
            }
            found.extend(older("arm", 9, 5));
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).expect(text)
    }

    #[test]
    fn parses_to_the_normal_form() {
        let check =
            |text: &str, expected: &str| assert_eq!(platform(text).to_string(), expected, "{text}");
        check("linux/amd64", "linux/amd64");
        check("linux/x86_64", "linux/amd64");
        check("linux/amd64/v1", "linux/amd64");
        check("Linux/aarch64/v8", "linux/arm64");
        check("linux/arm", "linux/arm/v7");
        check("linux/armel", "linux/arm/v6");
        check("arm64", "linux/arm64");
        check("macos/arm64", "darwin/arm64");
    }

    #[test]
    fn refuses_what_is_no_platform() {
        for text in ["", "linux/", "a/b/c/d", "linux/amd 64", "nonsense"] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn runs_its_own_and_older_processors() {
        let check = |host: &str, image: &str, expected: bool| {
            assert_eq!(
                platform(host).runs(&platform(image)),
                expected,
                "{image} on {host}"
            );
        };
        check("linux/amd64", "linux/amd64", true);
        check("linux/amd64", "linux/386", true);
        check("linux/amd64", "linux/amd64/v2", false);
        check("linux/amd64/v3", "linux/amd64", true);
        check("linux/amd64", "linux/arm64", false);
        check("linux/amd64", "windows/amd64", false);
        check("linux/arm64", "linux/arm/v6", true);
        check("linux/arm/v6", "linux/arm/v7", false);
        let bare = Platform {
            os: "linux".into(),
            architecture: "arm".into(),
            ..Platform::default()
        };
        assert!(
            platform("linux/arm/v6").runs(&bare),
            "a config without a variant is compared by processor alone"
        );
    }
}
