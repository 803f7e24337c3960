//! The policy file of `--authorization-policy`: rules in order, the first that speaks of the client and its request decides,
//! and what no rule speaks of is denied.
//!
//! ```json
//! {"rules": [
//!   {"users": ["root"], "allow": ["*"]},
//!   {"certificates": ["ci-*"], "deny": ["POST /containers/*/exec"]},
//!   {"certificates": ["ci-*"], "groups": ["ci"], "allow": ["read", "POST /containers/*", "DELETE /containers/*"],
//!    "containers": {"binds": ["/srv/*"]}},
//!   {"anyone": true, "allow": ["read"]}
//! ]}
//! ```
//!
//! `*` stands for any text, slashes too. `read` is every GET and HEAD. With `containers` a rule allows only containers that
//! stay inside of what it lists: without a word about them, privileges, devices, further capabilities, other security
//! options, the host's namespaces and binds are refused.

use std::path::Path;

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use wildmatch::WildMatch;

use super::peer::{Peer, Process};
use crate::daemon::group;

/// All rules.
#[derive(Debug)]
pub(super) struct Policy {
    file: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rule {
    /// Common names, patterns.
    certificates: Vec<String>,
    /// Names or numbers.
    users: Vec<String>,
    /// Names or numbers.
    groups: Vec<String>,
    anyone: bool,
    allow: Vec<String>,
    deny: Vec<String>,
    containers: Option<Limits>,
}

/// What containers may have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Limits {
    privileged: bool,
    host_namespaces: bool,
    devices: bool,
    security_opt: bool,
    /// Names without `CAP_`.
    capabilities: Vec<String>,
    /// Paths on the host, patterns.
    binds: Vec<String>,
}

/// Requests whose body decides what power they give.
pub(super) fn looks_inside(method: &Method, path: &str) -> bool {
    *method == Method::POST
        && (path == "/containers/create"
            || path.starts_with("/containers/") && path.ends_with("/exec"))
}

impl Policy {
    pub(super) fn read(file: &Path) -> Result<Policy, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        Policy::parse(&file.display().to_string(), &text)
    }

    fn parse(file: &str, text: &str) -> Result<Policy, String> {
        let File { rules } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (n, rule) in rules.iter().enumerate() {
            rule.validate()
                .map_err(|reason| format!("rule {}: {reason}", n + 1))?;
        }
        Ok(Policy {
            file: file.to_owned(),
            rules,
        })
    }

    /// Allowed, or why not.
    pub(super) fn judge(
        &self,
        peer: &Peer,
        method: &Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<(), String> {
        // Clients ask this before anything else, to learn which versions they may speak.
        if matches!(*method, Method::GET | Method::HEAD) && path == "/_ping" {
            return Ok(());
        }
        let denied = |reason: &str| {
            format!(
                "authorization denied by policy {}: {} may not {method} {path}: {reason}",
                self.file,
                peer.described()
            )
        };
        for (n, rule) in self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.speaks_of(peer))
        {
            if matches(&rule.deny, method, path) {
                return Err(denied(&format!("rule {} denies it", n + 1)));
            }
            if matches(&rule.allow, method, path) {
                let limits = rule
                    .containers
                    .as_ref()
                    .filter(|_| looks_inside(method, path));
                let asked = |limits: &Limits| limits.refuse(body.unwrap_or_default());
                return match limits.and_then(asked) {
                    Some(what) => Err(denied(&format!("rule {} does not allow {what}", n + 1))),
                    None => Ok(()),
                };
            }
        }
        Err(denied(
            "no rule allows it; a rule with \"allow\" for this client would",
        ))
    }
}

impl Rule {
    fn validate(&self) -> Result<(), String> {
        let named =
            !(self.certificates.is_empty() && self.users.is_empty() && self.groups.is_empty());
        if named == self.anyone {
            return Err(
                "name who it is for: certificates, users, groups, or \"anyone\": true".into(),
            );
        }
        if self.allow.is_empty() && self.deny.is_empty() {
            return Err("say what it allows or denies".into());
        }
        let form = |text: &&String| {
            !matches!(text.as_str(), "*" | "read")
                && !text.split_once(' ').is_some_and(|(method, path)| {
                    (method == "*" || method.bytes().all(|b| b.is_ascii_uppercase()))
                        && path.starts_with(['/', '*'])
                })
        };
        match self.allow.iter().chain(&self.deny).find(form) {
            Some(wrong) => Err(format!(
                "{wrong:?} is neither \"*\", \"read\" nor \"METHOD /path\""
            )),
            None => Ok(()),
        }
    }

    fn speaks_of(&self, peer: &Peer) -> bool {
        let certificate = peer.certificate.as_deref().is_some_and(|name| {
            self.certificates
                .iter()
                .any(|pattern| WildMatch::new(pattern).matches(name))
        });
        let process = peer
            .process
            .as_ref()
            .is_some_and(|process| self.names(process));
        self.anyone || certificate || process
    }

    fn names(&self, process: &Process) -> bool {
        // The files are small and may change while the daemon runs.
        let uid = |name: &String| group::uid_of(name).ok().flatten() == Some(process.uid);
        let gid = |name: &String| {
            let gid = group::gid_of(name).ok().flatten();
            gid.is_some_and(|gid| process.gids.iter().flatten().any(|g| *g == gid))
        };
        self.users.iter().any(uid) || self.groups.iter().any(gid)
    }
}

fn matches(patterns: &[String], method: &Method, path: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.split_once(' ') {
            Some((verb, place)) => {
                (verb == "*" || verb == method.as_str()) && WildMatch::new(place).matches(path)
            }
            None => pattern == "*" || matches!(*method, Method::GET | Method::HEAD),
        })
}

impl Limits {
    /// What `body`, a request to create a container or to execute in one, asks for beyond the limits.
    fn refuse(&self, body: &[u8]) -> Option<String> {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return (!body.iter().all(u8::is_ascii_whitespace))
                .then(|| "a body that is not JSON".into());
        };
        let host = field(&body, "HostConfig").cloned().unwrap_or(Value::Null);
        let on = |value: &Value, name| field(value, name).and_then(Value::as_bool) == Some(true);
        if !self.privileged && (on(&host, "Privileged") || on(&body, "Privileged")) {
            return Some("privileged containers".into());
        }
        self.namespaces(&host)
            .or_else(|| self.devices(&host))
            .or_else(|| self.kernel(&host))
            .or_else(|| self.binds(&host))
    }

    fn namespaces(&self, host: &Value) -> Option<String> {
        const MODES: [&str; 6] = [
            "NetworkMode",
            "PidMode",
            "IpcMode",
            "UTSMode",
            "UsernsMode",
            "CgroupnsMode",
        ];
        let mode = |name: &&str| {
            let value = field(host, name).and_then(Value::as_str).unwrap_or("");
            value == "host" || value.starts_with("ns:")
        };
        let found = MODES
            .iter()
            .find(|name| !self.host_namespaces && mode(name))?;
        Some(format!("the host's namespaces ({found})"))
    }

    fn devices(&self, host: &Value) -> Option<String> {
        const FIELDS: [&str; 3] = ["Devices", "DeviceRequests", "DeviceCgroupRules"];
        let found = FIELDS
            .iter()
            .find(|name| !self.devices && !list(host, name).is_empty())?;
        Some(format!("devices ({found})"))
    }

    fn kernel(&self, host: &Value) -> Option<String> {
        let bare = |name: &str| {
            name.to_ascii_uppercase()
                .trim_start_matches("CAP_")
                .to_owned()
        };
        let granted: Vec<String> = self.capabilities.iter().map(|name| bare(name)).collect();
        let more = list(host, "CapAdd").into_iter().find(|name| {
            let name = name.as_str().map(bare).unwrap_or_default();
            !granted.contains(&name)
        });
        if let Some(name) = more {
            return Some(format!("capability {name}"));
        }
        const FIELDS: [&str; 3] = ["SecurityOpt", "MaskedPaths", "ReadonlyPaths"];
        let harmless = |value: &Value| {
            let text = value.as_str().unwrap_or("");
            text.starts_with("no-new-privileges") && !text.ends_with("false")
        };
        let weakened = FIELDS.iter().find(|name| match field(host, name) {
            Some(Value::Array(list)) if **name == "SecurityOpt" => !list.iter().all(harmless),
            Some(Value::Array(_)) => true,
            _ => false,
        });
        let weakened = weakened.filter(|_| !self.security_opt)?;
        Some(format!("other security options ({weakened})"))
    }

    fn binds(&self, host: &Value) -> Option<String> {
        let short = list(host, "Binds").into_iter().filter_map(|bind| {
            let source = bind.as_str()?.split(':').next()?.to_owned();
            source.starts_with('/').then_some(source)
        });
        let long = list(host, "Mounts").into_iter().filter_map(|mount| {
            // The `local` driver's options can name any path or device of the host.
            let options = field(&mount, "VolumeOptions").and_then(|o| field(o, "DriverConfig"));
            let device = options
                .and_then(|o| field(o, "Options"))
                .and_then(|o| field(o, "device"));
            match field(&mount, "Type").and_then(Value::as_str) {
                Some("bind") => field(&mount, "Source")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                _ => device.and_then(Value::as_str).map(str::to_owned),
            }
        });
        let allowed = |source: &String| {
            let plain = !source.split('/').any(|part| part == "..");
            plain
                && self
                    .binds
                    .iter()
                    .any(|pattern| WildMatch::new(pattern).matches(source))
        };
        let outside = short.chain(long).find(|source| !allowed(source))?;
        Some(format!("a bind of {outside}"))
    }
}

/// A field whatever its case, as Go decodes it.
fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let fields = value.as_object()?;
    fields
        .iter()
        .rev()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn list(value: &Value, name: &str) -> Vec<Value> {
    field(value, name)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"{"rules": [
        {"users": ["0"], "allow": ["*"]},
        {"certificates": ["ci-*"], "deny": ["POST /containers/*/exec"]},
        {"certificates": ["ci-*"], "groups": ["4242"], "allow": ["read", "POST /containers/*"],
         "containers": {"binds": ["/srv/*"], "capabilities": ["NET_ADMIN"]}},
        {"anyone": true, "allow": ["GET /version"]}]}"#;

    fn process(uid: u32, gids: &[u32]) -> Peer {
        Peer {
            process: Some(Process {
                uid,
                gids: Some(gids.to_vec()),
            }),
            ..Peer::default()
        }
    }

    fn certificate(name: &str) -> Peer {
        Peer {
            certificate: Some(name.into()),
            ..Peer::default()
        }
    }

    #[test]
    fn the_first_rule_that_speaks_decides() {
        let policy = Policy::parse("p.json", RULES).expect("valid");
        let ask = |peer: &Peer, method: Method, path: &str| policy.judge(peer, &method, path, None);
        assert_eq!(
            ask(&process(0, &[0]), Method::POST, "/containers/x/exec"),
            Ok(())
        );
        assert_eq!(
            ask(&certificate("ci-1"), Method::GET, "/images/json"),
            Ok(())
        );
        assert_eq!(
            ask(&process(7, &[7, 4242]), Method::POST, "/containers/x/start"),
            Ok(())
        );
        assert_eq!(ask(&Peer::default(), Method::HEAD, "/_ping"), Ok(()));
        assert_eq!(ask(&Peer::default(), Method::GET, "/version"), Ok(()));
        let denied =
            ask(&certificate("ci-1"), Method::POST, "/containers/x/exec").expect_err("denied");
        assert_eq!(
            denied,
            "authorization denied by policy p.json: the client with certificate \"ci-1\" may not POST /containers/x/exec: rule 2 denies it"
        );
        for (peer, method, path) in [
            (certificate("ci-1"), Method::POST, "/images/create"),
            (certificate("other"), Method::GET, "/images/json"),
            (process(7, &[7]), Method::GET, "/images/json"),
            (Peer::default(), Method::POST, "/version"),
        ] {
            assert!(
                ask(&peer, method.clone(), path).is_err(),
                "{peer:?} {method} {path}"
            );
        }
    }

    #[test]
    fn containers_stay_inside_of_what_a_rule_lists() {
        let policy = Policy::parse("p.json", RULES).expect("valid");
        let ask = |body: &str| {
            policy.judge(
                &certificate("ci-1"),
                &Method::POST,
                "/containers/create",
                Some(body.as_bytes()),
            )
        };
        for fine in [
            "{}",
            r#"{"HostConfig": null}"#,
            r#"{"HostConfig": {"Binds": ["/srv/data:/data", "named:/n"], "CapAdd": ["CAP_NET_ADMIN"]}}"#,
            r#"{"HostConfig": {"SecurityOpt": ["no-new-privileges"], "NetworkMode": "bridge"}}"#,
            r#"{"HostConfig": {"Mounts": [{"Type": "volume", "Source": "v", "Target": "/v"}]}}"#,
        ] {
            assert_eq!(ask(fine), Ok(()), "{fine}");
        }
        for (bad, what) in [
            (
                r#"{"HostConfig": {"Privileged": true}}"#,
                "privileged containers",
            ),
            (
                r#"{"hostconfig": {"privileged": true}}"#,
                "privileged containers",
            ),
            (
                r#"{"HostConfig": {"PidMode": "host"}}"#,
                "the host's namespaces (PidMode)",
            ),
            (
                r#"{"HostConfig": {"Binds": ["/etc:/e"]}}"#,
                "a bind of /etc",
            ),
            (
                r#"{"HostConfig": {"Binds": ["/srv/../etc:/e"]}}"#,
                "a bind of /srv/../etc",
            ),
            (
                r#"{"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/"}]}}"#,
                "a bind of /",
            ),
            (
                r#"{"HostConfig": {"Mounts": [{"Type": "volume", "VolumeOptions": {"DriverConfig": {"Options": {"device": "/etc"}}}}]}}"#,
                "a bind of /etc",
            ),
            (
                r#"{"HostConfig": {"CapAdd": ["SYS_ADMIN"]}}"#,
                "capability \"SYS_ADMIN\"",
            ),
            (
                r#"{"HostConfig": {"SecurityOpt": ["seccomp=unconfined"]}}"#,
                "other security options (SecurityOpt)",
            ),
            (
                r#"{"HostConfig": {"MaskedPaths": []}}"#,
                "other security options (MaskedPaths)",
            ),
            (r#"{"HostConfig": {"Devices": [{}]}}"#, "devices (Devices)"),
            ("nonsense", "a body that is not JSON"),
        ] {
            let denied = ask(bad).expect_err(bad);
            assert!(
                denied.ends_with(&format!("rule 3 does not allow {what}")),
                "{denied}"
            );
        }
    }

    #[test]
    fn mistakes_in_the_file_are_told() {
        for (text, reason) in [
            (
                r#"{"rules": [{"allow": ["*"]}]}"#,
                "rule 1: name who it is for",
            ),
            (
                r#"{"rules": [{"anyone": true}]}"#,
                "rule 1: say what it allows or denies",
            ),
            (
                r#"{"rules": [{"anyone": true, "allow": ["get /"]}]}"#,
                "\"get /\" is neither",
            ),
            (
                r#"{"rules": [{"anyone": true, "alow": ["*"]}]}"#,
                "unknown field `alow`",
            ),
        ] {
            let error = Policy::parse("p", text).expect_err(text);
            assert!(error.contains(reason), "{error}");
        }
    }
}
