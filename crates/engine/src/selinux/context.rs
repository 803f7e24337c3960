//! Security contexts, `user:role:type:level`, and how a container's are made from the policy's. Pure.

use std::collections::HashSet;
use std::fmt;

use super::Labels;

/// How many categories the policies of distributions have.
pub(super) const CATEGORIES: u16 = 1024;

/// Level of files that belong to nobody in particular: those of containers without labels.
const UNLABELLED_LEVEL: &str = "s0:c1022,c1023";

/// A security context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// SELinux user.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type, of a process its domain.
    pub kind: String,
    /// Sensitivity and categories.
    pub level: String,
}

impl Context {
    /// Reads one. A level is not always there.
    pub fn parse(text: &str) -> Option<Context> {
        let mut parts = text.trim().splitn(4, ':').map(str::to_owned);
        Some(Context {
            user: parts.next().filter(|user| !user.is_empty())?,
            role: parts.next()?,
            kind: parts.next()?,
            level: parts.next().unwrap_or_default(),
        })
    }

    /// As options `label=…` that make another container's labels the same.
    pub fn as_options(&self) -> Vec<String> {
        [
            ("user", &self.user),
            ("role", &self.role),
            ("type", &self.kind),
            ("level", &self.level),
        ]
        .into_iter()
        .map(|(key, value)| format!("label={key}:{value}"))
        .collect()
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        match self.level.as_str() {
            "" => Ok(()),
            level => write!(f, ":{level}"),
        }
    }
}

/// What the policy calls containers (`lxc_contexts`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Defaults {
    process: Context,
    file: Context,
}

impl Defaults {
    /// Reads `key = "context"` lines. `None`: the policy knows no containers.
    pub(super) fn parse(text: &str) -> Option<Defaults> {
        let value = |wanted: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                let value = value.trim().trim_matches('"');
                (key.trim() == wanted).then(|| Context::parse(value))?
            })
        };
        Some(Defaults {
            process: value("process")?,
            file: value("file")?,
        })
    }

    /// The labels of a container whose categories are those of `level`, but for what it asks for (go-selinux `InitLabels`).
    pub(super) fn labels(&self, options: &[&str], level: &str) -> Result<Labels, String> {
        let mut process = self.process.clone();
        let mut file = self.file.clone();
        level.clone_into(&mut process.level);
        level.clone_into(&mut file.level);
        for option in options {
            if *option == "disable" {
                UNLABELLED_LEVEL.clone_into(&mut file.level);
                return Ok(Labels {
                    process: String::new(),
                    mount: file.to_string(),
                });
            }
            let bad = || {
                format!(
                    "bad label option \"{option}\", valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"
                )
            };
            let (key, value) = option.split_once(':').ok_or_else(bad)?;
            match key {
                "filetype" => value.clone_into(&mut file.kind),
                "type" => value.clone_into(&mut process.kind),
                "role" => value.clone_into(&mut process.role),
                "user" => {
                    value.clone_into(&mut process.user);
                    value.clone_into(&mut file.user);
                }
                "level" => {
                    value.clone_into(&mut process.level);
                    value.clone_into(&mut file.level);
                }
                _ => return Err(bad()),
            }
        }
        Ok(Labels {
            process: process.to_string(),
            mount: file.to_string(),
        })
    }
}

/// A level that nobody has: two categories by chance, then the next free ones.
pub(super) fn free_level(
    taken: &HashSet<String>,
    chance: &mut dyn FnMut() -> (u16, u16),
) -> Option<String> {
    let text = |(a, b): (u16, u16)| format!("s0:c{},c{}", a.min(b), a.max(b));
    let is_free = |level: &String| !taken.contains(level) && level != UNLABELLED_LEVEL;
    let by_chance = (0..64)
        .map(|_| chance())
        .filter(|(a, b)| a != b)
        .map(text)
        .find(is_free);
    by_chance.or_else(|| {
        let pairs = (0..CATEGORIES).flat_map(|a| (a + 1..CATEGORIES).map(move |b| (a, b)));
        pairs.map(text).find(is_free)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "process = \"system_u:system_r:container_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\n\
        ro_file=\"system_u:object_r:container_ro_file_t:s0\"\n";

    #[test]
    fn options_change_the_policys_labels() {
        let defaults = Defaults::parse(POLICY).expect("a policy with containers");
        for (options, process, mount) in [
            (
                &[][..],
                "system_u:system_r:container_t:s0:c1,c2",
                "system_u:object_r:container_file_t:s0:c1,c2",
            ),
            (
                &["disable"],
                "",
                "system_u:object_r:container_file_t:s0:c1022,c1023",
            ),
            (
                &["type:spc_t", "filetype:web_t"],
                "system_u:system_r:spc_t:s0:c1,c2",
                "system_u:object_r:web_t:s0:c1,c2",
            ),
            (
                &["user:u", "role:r", "level:s0:c7,c9"],
                "u:r:container_t:s0:c7,c9",
                "u:object_r:container_file_t:s0:c7,c9",
            ),
        ] {
            let labels = defaults.labels(options, "s0:c1,c2").expect("valid");
            assert_eq!(
                (labels.process.as_str(), labels.mount.as_str()),
                (process, mount),
                "{options:?}"
            );
        }
        for option in ["odd", "odd:x", "nested"] {
            let error = defaults.labels(&[option], "s0").expect_err(option);
            assert!(error.starts_with(&format!("bad label option \"{option}\", valid options")));
        }
        assert_eq!(Defaults::parse("process = \"a:b:c:s0\"\n"), None);
    }

    #[test]
    fn a_label_as_options_gives_the_label_again() {
        let defaults = Defaults::parse(POLICY).expect("a policy");
        let given = Context::parse("u:r:t:s0:c3,c4").expect("a context");
        let options = given.as_options();
        let options: Vec<&str> = options
            .iter()
            .filter_map(|option| option.strip_prefix("label="))
            .collect();
        let labels = defaults.labels(&options, "s0:c1,c2").expect("valid");
        assert_eq!(labels.process, "u:r:t:s0:c3,c4");
    }

    #[test]
    fn levels_are_given_once() {
        let mut always = || (5, 3);
        let taken = HashSet::from(["s0:c3,c5".to_owned(), "s0:c0,c1".to_owned()]);
        assert_eq!(
            free_level(&HashSet::new(), &mut always).as_deref(),
            Some("s0:c3,c5")
        );
        assert_eq!(free_level(&taken, &mut always).as_deref(), Some("s0:c0,c2"));
    }
}
