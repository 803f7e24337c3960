//! Rules: who may do what with which repositories. What any rule allows is allowed.

use crate::config::{Action, AuthConfig};
use crate::name::{self, RepoName};

/// Whether the rules allow it; `None` is nobody in particular.
pub fn allow(config: &AuthConfig, user: Option<&str>, repo: &RepoName, action: Action) -> bool {
    if config.rules.is_empty() {
        return user.is_some();
    }
    config.rules.iter().any(|rule| {
        rule.actions.contains(&action)
            && rule
                .repositories
                .iter()
                .any(|pattern| name::matches(pattern, repo.as_str()))
            && rule.who.iter().any(|who| is(config, who, user))
    })
}

fn is(config: &AuthConfig, who: &str, user: Option<&str>) -> bool {
    let Some(user) = user else {
        return who == "anonymous";
    };
    match who.strip_prefix('@') {
        Some(group) => config
            .groups
            .get(group)
            .is_some_and(|members| members.iter().any(|member| member == user)),
        None => who == "*" || who == "anonymous" || who == user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn rules_add_up() {
        let config = Config::parse(
            "auth:\n  groups: {dev: [bob]}\n  rules:\n  - {repositories: ['team/**'], who: [alice, '@dev'], actions: [pull, push]}\n  - {repositories: ['**'], who: ['*'], actions: [pull]}\n  - {repositories: ['pub/*'], who: [anonymous], actions: [pull]}\n",
        )
        .expect("parses");
        for (user, repo, action, expected) in [
            (Some("alice"), "team/a", Action::Push, true),
            (Some("bob"), "team/a/b", Action::Push, true),
            (Some("carol"), "team/a", Action::Push, false),
            (Some("carol"), "team/a", Action::Pull, true),
            (Some("alice"), "team/a", Action::Delete, false),
            (Some("alice"), "other", Action::Push, false),
            (None, "pub/a", Action::Pull, true),
            (None, "pub/a", Action::Push, false),
            (None, "team/a", Action::Pull, false),
        ] {
            let name = RepoName::parse(repo).expect("a name");
            assert_eq!(
                allow(&config.auth, user, &name, action),
                expected,
                "{user:?} {repo} {action:?}"
            );
        }
        let none = AuthConfig::default();
        let repo = RepoName::parse("a").expect("a name");
        assert!(
            allow(&none, Some("x"), &repo, Action::Delete)
                && !allow(&none, None, &repo, Action::Pull)
        );
    }
}
