//! Which tags go.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::config::Retention;
use crate::content::tags::Tagged;
use crate::name::{self, RepoName, Tag};

/// The tags of a repository that no rule keeps. A tag that no rule is about stays.
pub fn plan_retention(
    rules: &[Retention],
    repo: &RepoName,
    tags: &[Tagged],
    now: SystemTime,
) -> Vec<Tag> {
    let about = |rule: &&Retention| {
        rule.repositories
            .iter()
            .any(|pattern| name::matches(pattern, repo.as_str()))
    };
    let rules: Vec<&Retention> = rules.iter().filter(about).collect();
    let mut by_rule: HashMap<usize, Vec<&Tagged>> = HashMap::new();
    for tagged in tags {
        let first = rules.iter().position(|rule| fits(&rule.tags, &tagged.tag));
        if let Some(rule) = first {
            by_rule.entry(rule).or_default().push(tagged);
        }
    }
    let mut expired: Vec<Tag> = by_rule
        .into_iter()
        .flat_map(|(rule, tags)| expired_by(rules[rule], tags, now))
        .collect();
    expired.sort();
    expired
}

fn expired_by(rule: &Retention, mut tags: Vec<&Tagged>, now: SystemTime) -> Vec<Tag> {
    // An entry that says nothing keeps everything: forgetting a word must not cost images.
    if rule.keep_last.is_none() && rule.keep_for.is_none() && rule.keep_tags.is_empty() {
        return Vec::new();
    }
    tags.sort_by(|a, b| b.pushed.cmp(&a.pushed).then(a.tag.cmp(&b.tag)));
    tags.iter()
        .enumerate()
        .filter(|(nth, tagged)| {
            let last = rule.keep_last.is_some_and(|n| *nth < n);
            let age = now.duration_since(tagged.pushed).unwrap_or_default();
            let young = rule.keep_for.is_some_and(|keep| age < keep);
            !last && !young && !fits(&rule.keep_tags, &tagged.tag)
        })
        .map(|(_, tagged)| tagged.tag.clone())
        .collect()
}

fn fits(patterns: &[String], tag: &Tag) -> bool {
    patterns
        .iter()
        .any(|pattern| name::matches(pattern, tag.as_str()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use wharf_spec::digest::Digest;

    fn plan(yaml: &str, tags: &[(&str, u64)]) -> Vec<String> {
        let rules: Vec<Retention> = serde_yaml_ng::from_str(yaml).expect("parses");
        let now = SystemTime::now();
        let tags: Vec<Tagged> = tags
            .iter()
            .map(|(tag, days)| Tagged {
                tag: Tag::parse(tag).expect("a tag"),
                digest: Digest::of(tag.as_bytes()),
                pushed: now - Duration::from_secs(days * 86_400),
            })
            .collect();
        let repo = RepoName::parse("ci/app").expect("a name");
        plan_retention(&rules, &repo, &tags, now)
            .iter()
            .map(Tag::to_string)
            .collect()
    }

    #[test]
    fn what_any_word_keeps_stays() {
        let tags = [("a", 1), ("b", 2), ("c", 3), ("latest", 90), ("v1", 100)];
        for (yaml, expected) in [
            ("[]", vec![]),
            ("[{tags: ['**']}]", vec![]),
            ("[{keep_last: 2}]", vec!["c", "latest", "v1"]),
            ("[{keep_for: 30d}]", vec!["latest", "v1"]),
            (
                "[{keep_last: 1, keep_tags: [latest, 'v*']}]",
                vec!["b", "c"],
            ),
            (
                "[{keep_last: 1, keep_for: 2d}]",
                vec!["b", "c", "latest", "v1"],
            ),
            (
                "[{tags: ['v*'], keep_last: 1}, {keep_last: 1}]",
                vec!["b", "c", "latest"],
            ),
            ("[{repositories: [other], keep_last: 0}]", vec![]),
            (
                "[{repositories: ['ci/*'], keep_last: 0}]",
                vec!["a", "b", "c", "latest", "v1"],
            ),
        ] {
            assert_eq!(plan(yaml, &tags), expected, "{yaml}");
        }
    }
}
