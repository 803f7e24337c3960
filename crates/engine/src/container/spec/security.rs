//! `--security-opt`: seccomp, AppArmor, no-new-privileges, writable cgroups.

use wharf_api::container::HostConfig;
use wharf_runtime::plan::SeccompPolicy;

use crate::EngineConfig;

use crate::apparmor::DEFAULT_PROFILE;
use crate::container::validate::parse_bool;

/// The last value of an option given as `key=value` or `key:value`.
fn option<'a>(host: &'a HostConfig, key: &str) -> Option<&'a str> {
    host.security_opt.iter().flatten().rev().find_map(|option| {
        let (name, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .unwrap_or((option.as_str(), ""));
        (name == key).then_some(value)
    })
}

fn switch(host: &HostConfig, key: &str) -> Option<bool> {
    option(host, key).map(|value| value.is_empty() || parse_bool(value) == Some(true))
}

/// Where the system call filter comes from (moby `WithSeccomp`). Clients send the profile's text, not its path.
pub fn seccomp(host: &HostConfig, engine: &EngineConfig) -> SeccompPolicy {
    match option(host, "seccomp") {
        Some("unconfined") => SeccompPolicy::Unconfined,
        None | Some("") if host.privileged => SeccompPolicy::Unconfined,
        Some("builtin") => SeccompPolicy::Default,
        None | Some("") => engine.seccomp_profile.policy.clone(),
        Some(profile) => SeccompPolicy::Profile(profile.to_owned()),
    }
}

/// Whether processes can never gain privileges.
pub fn no_new_privileges(host: &HostConfig, engine: &EngineConfig) -> bool {
    switch(host, "no-new-privileges").unwrap_or(engine.no_new_privileges)
}

/// AppArmor profile, where the host has AppArmor.
pub fn apparmor(host: &HostConfig, active: bool) -> Option<String> {
    if !active {
        return None;
    }
    Some(match option(host, "apparmor") {
        Some(profile) if !profile.is_empty() => profile.to_owned(),
        _ if host.privileged => "unconfined".into(),
        _ => DEFAULT_PROFILE.into(),
    })
}

/// Whether `/sys/fs/cgroup` is writable inside.
pub fn writable_cgroups(host: &HostConfig) -> bool {
    switch(host, "writable-cgroups").unwrap_or(host.privileged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(options: &[&str]) -> HostConfig {
        let list = options.iter().map(|option| (*option).to_owned()).collect();
        HostConfig {
            security_opt: Some(list),
            ..HostConfig::default()
        }
    }

    #[test]
    fn options_are_read() {
        let engine = EngineConfig::new("/d".into(), "/e".into(), "/b".into());
        let seccomp = |host: &HostConfig| seccomp(host, &engine);
        assert_eq!(seccomp(&host(&[])), SeccompPolicy::Default);
        assert_eq!(
            seccomp(&host(&["seccomp=unconfined"])),
            SeccompPolicy::Unconfined
        );
        assert_eq!(
            seccomp(&host(&["seccomp={}"])),
            SeccompPolicy::Profile("{}".into())
        );
        assert!(no_new_privileges(&host(&["no-new-privileges"]), &engine));
        assert!(!no_new_privileges(
            &host(&["no-new-privileges=false"]),
            &engine
        ));
        assert_eq!(apparmor(&host(&[]), false), None);
        assert_eq!(
            apparmor(&host(&[]), true).as_deref(),
            Some("docker-default")
        );
        assert!(writable_cgroups(&host(&["writable-cgroups=true"])));
    }
}
