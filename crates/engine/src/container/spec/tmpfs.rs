//! Options of `--tmpfs` and `--mount type=tmpfs`.

use wharf_api::container::TmpfsOptions;

use crate::{Error, Result};

/// What Docker gives a tmpfs before the user's options.
const DEFAULTS: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];

const FLAG_PAIRS: [[&str; 2]; 9] = [
    ["ro", "rw"],
    ["nosuid", "suid"],
    ["nodev", "dev"],
    ["noexec", "exec"],
    ["sync", "async"],
    ["dirsync", "dirsync"],
    ["remount", "remount"],
    ["noatime", "atime"],
    ["nodiratime", "diratime"],
];

const PROPAGATIONS: [&str; 8] = [
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
];

const KEYS: [&str; 9] = [
    "mode",
    "uid",
    "gid",
    "size",
    "nr_inodes",
    "nr_blocks",
    "mpol",
    "huge",
    "noswap",
];

/// Merges `text` over the defaults: of contradicting options the last counts (moby `mount.MergeTmpfsOptions`).
pub fn merge(text: &str) -> Result<Vec<String>> {
    let given = text.split(',').filter(|option| !option.is_empty());
    let mut merged: Vec<&str> = Vec::new();
    let mut topics = Vec::new();
    let all: Vec<&str> = DEFAULTS.into_iter().chain(given).collect();
    for option in all.into_iter().rev() {
        let topic = topic(option).ok_or_else(|| {
            // As Go shows a list of name and value.
            let parts: Vec<String> = option.splitn(2, '=').map(|p| format!("{p:?}")).collect();
            Error::invalid(format!("invalid tmpfs option [{}]", parts.join(" ")))
        })?;
        if !topics.contains(&topic) {
            topics.push(topic);
            merged.push(option);
        }
    }
    merged.reverse();
    Ok(merged.into_iter().map(str::to_owned).collect())
}

/// What an option is about; options about the same thing exclude each other.
fn topic(option: &str) -> Option<&'static str> {
    if let Some(pair) = FLAG_PAIRS.iter().find(|pair| pair.contains(&option)) {
        return Some(pair[0]);
    }
    if PROPAGATIONS.contains(&option) {
        return Some("propagation");
    }
    if matches!(
        option,
        "relatime" | "norelatime" | "strictatime" | "nostrictatime"
    ) {
        return Some("atime");
    }
    let key = option.split_once('=').map_or(option, |(key, _)| key);
    KEYS.into_iter().find(|known| *known == key)
}

/// Options of a `--mount type=tmpfs` as text.
pub fn of_mount(options: Option<&TmpfsOptions>, read_only: bool) -> String {
    let mut words = Vec::new();
    if read_only {
        words.push("ro".to_owned());
    }
    if let Some(options) = options {
        if options.mode != 0 {
            words.push(format!("mode={:o}", options.mode));
        }
        if options.size_bytes != 0 {
            words.push(format!("size={}", options.size_bytes));
        }
        words.extend(options.options.iter().map(|pair| pair.join("=")));
    }
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_of_contradicting_options_counts() {
        let rows = [
            ("", "noexec,nosuid,nodev,rprivate"),
            ("size=64m,exec", "nosuid,nodev,rprivate,size=64m,exec"),
            (
                "size=1m,size=2m,ro",
                "noexec,nosuid,nodev,rprivate,size=2m,ro",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(
                merge(text).expect("known options").join(","),
                expected,
                "{text}"
            );
        }
        assert!(merge("odd=1").is_err());
    }

    #[test]
    fn mount_options_become_text() {
        let options = TmpfsOptions {
            size_bytes: 1000,
            mode: 0o1770,
            options: vec![vec!["exec".into()]],
        };
        assert_eq!(
            of_mount(Some(&options), true),
            "ro,mode=1770,size=1000,exec"
        );
        assert_eq!(of_mount(None, false), "");
    }
}
