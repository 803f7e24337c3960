//! `builder` in `daemon.json`: what builds keep, and what they may be allowed to do.

use serde::Deserialize;
use wharf_api::units::ram_in_bytes;

use super::settings::Settings;

/// Settings of builds, as the file has them.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Builder {
    /// What is kept.
    pub gc: BuilderGc,
    /// What builds may be allowed to do.
    pub entitlements: Entitlements,
}

/// What builds keep.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BuilderGc {
    /// Off: nothing goes by itself.
    pub enabled: Option<bool>,
    /// Such as `20GB`.
    pub default_keep_storage: String,
    /// The newer names of the same.
    pub default_reserved_space: String,
    /// The same.
    pub default_max_used_space: String,
    /// Rules of their own; the largest of their limits counts.
    pub policy: Vec<BuilderRule>,
}

/// One rule of `builder.gc.policy`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BuilderRule {
    /// Such as `20GB`.
    pub keep_storage: String,
    /// The newer name of the same.
    pub max_used_space: String,
    /// The same.
    pub reserved_space: String,
}

/// What builds may be allowed to do.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Entitlements {
    /// `RUN --network=host`.
    pub network_host: Option<bool>,
    /// `RUN --security=insecure`.
    pub security_insecure: Option<bool>,
}

impl Settings {
    /// Bytes that caches of builds may have together; `None` without a limit. The error is a text.
    pub fn build_cache_limit(&self) -> Result<Option<u64>, String> {
        let gc = &self.builder.gc;
        let rules = gc.policy.iter();
        let mut texts = vec![
            &gc.default_keep_storage,
            &gc.default_reserved_space,
            &gc.default_max_used_space,
        ];
        texts.extend(rules.flat_map(|rule| {
            [
                &rule.keep_storage,
                &rule.max_used_space,
                &rule.reserved_space,
            ]
        }));
        let mut limit = self.build_cache_max_size;
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            let bytes =
                ram_in_bytes(text).ok_or_else(|| format!("invalid size in builder.gc: {text}"))?;
            if gc.enabled != Some(false) && self.build_cache_max_size == 0 {
                limit = limit.max(bytes);
            }
        }
        Ok(u64::try_from(limit).ok().filter(|limit| *limit > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_the_limit() {
        let rows = [
            ("{}", 0, Ok(None)),
            ("{}", 5, Ok(Some(5))),
            (r#"{"gc": {"defaultKeepStorage": "2k"}}"#, 0, Ok(Some(2048))),
            (r#"{"gc": {"defaultKeepStorage": "2k"}}"#, 5, Ok(Some(5))),
            (
                r#"{"gc": {"enabled": false, "defaultKeepStorage": "2k"}}"#,
                0,
                Ok(None),
            ),
            (
                r#"{"gc": {"policy": [{"keepStorage": "1k"}, {"maxUsedSpace": "3k", "all": true}]}}"#,
                0,
                Ok(Some(3072)),
            ),
            (
                r#"{"gc": {"defaultKeepStorage": "much"}}"#,
                0,
                Err("invalid size in builder.gc: much".to_owned()),
            ),
        ];
        for (builder, flag, expected) in rows {
            let settings = Settings {
                builder: serde_json::from_str(builder).expect("valid"),
                build_cache_max_size: flag,
                ..Settings::default()
            };
            assert_eq!(settings.build_cache_limit(), expected, "{builder}");
        }
    }
}
