//! `--annotation [type[platform][,type…]:]key=value`.

use std::collections::BTreeMap;

use crate::failure::Failure;

/// Annotations by where they go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    pub(super) manifest: BTreeMap<String, String>,
    pub(super) descriptor: BTreeMap<String, String>,
    pub(super) index: BTreeMap<String, String>,
}

impl Annotations {
    pub(super) fn parse(given: &[String]) -> Result<Annotations, Failure> {
        let mut all = Annotations::default();
        for text in given {
            let (head, value) = text.split_once('=').ok_or_else(|| {
                Failure::new(format!("invalid annotation {text:?}, expected key=value"))
            })?;
            let (kinds, key) = match head.split_once(':') {
                Some((kinds, key)) if kinds.split(',').all(is_kind) => (kinds, key),
                _ => ("manifest", head),
            };
            if key.is_empty() {
                return Err(Failure::new(format!("invalid annotation {text:?}: no key")));
            }
            for kind in kinds.split(',') {
                all.add(kind, key, value);
            }
        }
        Ok(all)
    }

    /// `annotation.key=value` and `annotation-<type>.key=value` of an output. `false` if it is something else.
    pub(super) fn attribute(&mut self, name: &str, value: &str) -> bool {
        let Some(rest) = name.strip_prefix("annotation") else {
            return false;
        };
        let Some((kind, key)) = rest.split_once('.') else {
            return false;
        };
        let kind = kind.strip_prefix('-').unwrap_or("manifest");
        if !is_kind(kind) {
            return false;
        }
        self.add(kind, key, value);
        true
    }

    fn add(&mut self, kind: &str, key: &str, value: &str) {
        let map = match bare(kind) {
            "index" => &mut self.index,
            "manifest-descriptor" | "index-descriptor" => &mut self.descriptor,
            _ => &mut self.manifest,
        };
        map.insert(key.to_owned(), value.to_owned());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.manifest.is_empty() && self.descriptor.is_empty() && self.index.is_empty()
    }
}

/// Without the platform: there is one.
fn bare(kind: &str) -> &str {
    kind.split('[').next().unwrap_or(kind)
}

fn is_kind(text: &str) -> bool {
    matches!(
        bare(text),
        "manifest" | "index" | "manifest-descriptor" | "index-descriptor"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_know_where_they_belong() {
        let given = [
            "a=1",
            "index:b=2",
            "index,manifest:c=x=y",
            "manifest[linux/amd64]:d=4",
            "e:f=5",
        ];
        let Ok(all) = Annotations::parse(&given.map(str::to_owned)) else {
            panic!("they parse");
        };
        let keys = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&all.manifest), ["a", "c", "d", "e:f"]);
        assert_eq!(keys(&all.index), ["b", "c"]);
        assert_eq!(all.index["c"], "x=y");
        assert!(Annotations::parse(&["none".to_owned()]).is_err());
    }
}
