//! The `filters` query value, and how its values are compared (moby `api/types/filters`).

use std::collections::BTreeMap;

use serde_json::Value;

/// Filter values by key. A value may be given several times; it counts once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// Why filters were refused. The text is Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The query value is neither of the two forms.
    #[error("invalid filter: {0}")]
    Malformed(String),
    /// This endpoint has no such filter.
    #[error("invalid filter '{0}'")]
    UnknownKey(String),
    /// The key exists, the value makes no sense.
    #[error("invalid filter '{key}=[{}]'", value.join(" "))]
    InvalidValue {
        /// Filter.
        key: String,
        /// All its values.
        value: Vec<String>,
    },
}

impl Filters {
    /// Parses `{"label":["a"]}` or the older `{"label":{"a":true}}`. Empty text is no filter.
    pub fn parse(text: &str) -> Result<Filters, FilterError> {
        if text.is_empty() {
            return Ok(Filters::default());
        }
        let malformed = |why: &str| FilterError::Malformed(why.to_owned());
        let value: Value =
            serde_json::from_str(text).map_err(|e| FilterError::Malformed(e.to_string()))?;
        let Value::Object(object) = value else {
            return Err(malformed("not an object"));
        };
        let mut filters = Filters::default();
        for (key, values) in object {
            for value in filter_values(values)
                .ok_or_else(|| malformed("values are neither a list nor a map"))?
            {
                filters.add(&key, value);
            }
        }
        Ok(filters)
    }

    /// The form every daemon since API 1.22 reads: `{"label":{"a":true}}`; empty for no filters.
    #[must_use]
    pub fn to_query(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let map: BTreeMap<&String, BTreeMap<&String, bool>> = self
            .0
            .iter()
            .map(|(key, values)| (key, values.iter().map(|v| (v, true)).collect()))
            .collect();
        serde_json::to_string(&map).unwrap_or_default()
    }

    /// Adds a value to a key.
    pub fn add(&mut self, key: &str, value: String) {
        let values = self.0.entry(key.to_owned()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Whether there are no filters at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key was given.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The values of a key; empty when it was not given.
    #[must_use]
    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Refuses keys that are not in `accepted`.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|key| !accepted.contains(&key.as_str())) {
            Some(key) => Err(FilterError::UnknownKey(key.clone())),
            None => Ok(()),
        }
    }

    /// A yes-or-no filter: `1`/`true`, `0`/`false`; `default` when not given.
    pub fn get_bool(&self, key: &str, default: bool) -> Result<bool, FilterError> {
        let values = self.get(key);
        match values {
            [] => Ok(default),
            [value] if value == "1" || value == "true" => Ok(true),
            [value] if value == "0" || value == "false" => Ok(false),
            _ => Err(FilterError::InvalidValue {
                key: key.to_owned(),
                value: values.to_vec(),
            }),
        }
    }

    /// Whether `source` is one of the values; yes when the key was not given.
    #[must_use]
    pub fn matches_exact(&self, key: &str, source: &str) -> bool {
        self.0
            .get(key)
            .is_none_or(|values| values.is_empty() || values.iter().any(|v| v == source))
    }

    /// Whether one of the values is a prefix of `source`; yes when the key was not given.
    #[must_use]
    pub fn matches_prefix(&self, key: &str, source: &str) -> bool {
        self.0
            .get(key)
            .is_none_or(|values| values.is_empty() || values.iter().any(|v| source.starts_with(v)))
    }

    /// Whether `source` is one of the values, or one of them as a regular expression finds something in it;
    /// yes when the key was not given. A value that is no regular expression matches only itself.
    #[must_use]
    pub fn matches(&self, key: &str, source: &str) -> bool {
        let Some(values) = self.0.get(key) else {
            return true;
        };
        values.is_empty()
            || values.iter().any(|value| {
                value == source || regex_lite::Regex::new(value).is_ok_and(|re| re.is_match(source))
            })
    }

    /// Whether every value, `name` or `name=value`, is found among `labels`; yes when the key was not given.
    #[must_use]
    pub fn matches_labels(&self, key: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.get(key).iter().all(|wanted| {
            let (name, value) = wanted
                .split_once('=')
                .map_or((wanted.as_str(), None), |(n, v)| (n, Some(v)));
            let found = labels.and_then(|labels| labels.get(name));
            found.is_some_and(|found| value.is_none_or(|value| value == found))
        })
    }
}

fn filter_values(values: Value) -> Option<Vec<String>> {
    match values {
        Value::Array(list) => list
            .into_iter()
            .map(|v| v.as_str().map(str::to_owned))
            .collect(),
        // `{"a":true}`; moby keeps a value whatever stands behind it.
        Value::Object(map) => map
            .values()
            .all(Value::is_boolean)
            .then(|| map.into_iter().map(|(value, _)| value).collect()),
        Value::Null => Some(Vec::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(text).expect("well formed")
    }

    #[test]
    fn both_encodings_mean_the_same() {
        assert_eq!(
            filters(r#"{"label":["a","b=c"]}"#),
            filters(r#"{"label":{"a":true,"b=c":true}}"#)
        );
        assert_eq!(filters(""), Filters::default());
        assert_eq!(
            filters(r#"{"label":["a"]}"#).to_query(),
            r#"{"label":{"a":true}}"#
        );
    }

    #[test]
    fn malformed_filters_are_refused() {
        for text in ["[]", "{", r#"{"a":1}"#, r#"{"a":[1]}"#] {
            assert!(Filters::parse(text).is_err(), "{text}");
        }
        let error = filters(r#"{"colour":["red"]}"#)
            .validate(&["label"])
            .expect_err("unknown key");
        assert_eq!(error.to_string(), "invalid filter 'colour'");
    }

    #[test]
    fn labels_must_all_match() {
        let labels = BTreeMap::from([
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
        ]);
        for (text, expected) in [
            (r#"{"label":["a"]}"#, true),
            (r#"{"label":["a=1","b"]}"#, true),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label":["a","c"]}"#, false),
            ("{}", true),
        ] {
            assert_eq!(
                filters(text).matches_labels("label", Some(&labels)),
                expected,
                "{text}"
            );
        }
        assert!(!filters(r#"{"label":["a"]}"#).matches_labels("label", None));
    }

    #[test]
    fn names_match_as_regular_expressions() {
        let f = filters(r#"{"name":["^web.$","("]}"#);
        assert!(f.matches("name", "web1") && !f.matches("name", "web10") && f.matches("name", "("));
        assert!(f.matches("id", "anything"));
    }

    #[test]
    fn booleans_are_checked() {
        assert_eq!(
            filters(r#"{"dangling":["true"]}"#).get_bool("dangling", false),
            Ok(true)
        );
        assert_eq!(filters("{}").get_bool("dangling", true), Ok(true));
        let error = filters(r#"{"dangling":["perhaps"]}"#)
            .get_bool("dangling", true)
            .expect_err("not a boolean");
        assert_eq!(error.to_string(), "invalid filter 'dangling=[perhaps]'");
    }
}
