//! Which of the processes of the design this one is.

use std::ffi::OsStr;
use std::path::Path;

/// A process the binary can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The command line client, which calls itself `name` in what it prints.
    Cli {
        /// `docker` or `wharf`.
        name: &'static str,
    },
    /// The client as a helper for credentials: the argument is the helper's verb.
    CredentialHelper,
    /// The daemon, invoked as `dockerd`: the arguments are the daemon's flags.
    Dockerd,
    /// The daemon, invoked as `wharf daemon`: the flags follow the word.
    Daemon,
    /// The daemon in a session of its own, as the client starts it when none answers.
    DetachedDaemon,
    /// The process that forks monitors, invoked as `wharf spawner` by the daemon.
    Spawner,
    /// Process 1 of a container of another runtime, invoked as `docker-init`: what follows `--` is its child.
    Init,
    /// The process that serves names and ports of containers, invoked as `wharf netd` by the daemon.
    Netd,
    /// The OCI runtime, invoked by a name of its own: all arguments are its own.
    OciRuntime,
    /// The OCI runtime, invoked as `wharf oci-runtime`: they follow the word.
    OciRuntimeWord,
    /// The registry server and its tools, invoked as `wharf registry`: what follows the word is theirs.
    Registry,
}

impl Role {
    /// Decides by the name of the program, then by its first argument.
    pub fn of(program: &OsStr, first: Option<&OsStr>) -> Role {
        let name = Path::new(program).file_name().unwrap_or(program);
        if name == "docker" {
            return Role::Cli { name: "docker" };
        }
        if name == "docker-credential-wharf" {
            return Role::CredentialHelper;
        }
        if name == "dockerd" {
            return Role::Dockerd;
        }
        if name == "docker-init" {
            return Role::Init;
        }
        if name == "wharf-runtime" || name == "runc" {
            return Role::OciRuntime;
        }
        match first.and_then(OsStr::to_str) {
            Some("daemon") => Role::Daemon,
            Some(wharf_cli::autostart::DETACHED_DAEMON) => Role::DetachedDaemon,
            Some("spawner") => Role::Spawner,
            Some("netd") => Role::Netd,
            Some("oci-runtime") => Role::OciRuntimeWord,
            Some("registry") => Role::Registry,
            _ => Role::Cli { name: "wharf" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_the_program_wins_over_its_first_argument() {
        let wharf = Role::Cli { name: "wharf" };
        let docker = Role::Cli { name: "docker" };
        for (program, first, expected) in [
            ("wharf", None, wharf),
            ("wharf", Some("run"), wharf),
            ("/usr/bin/wharf", Some("daemon"), Role::Daemon),
            ("wharf", Some("spawner"), Role::Spawner),
            ("wharf", Some("netd"), Role::Netd),
            ("/usr/local/bin/docker", Some("daemon"), docker),
            ("docker", None, docker),
            ("dockerd", Some("-H"), Role::Dockerd),
            (
                "docker-credential-wharf",
                Some("get"),
                Role::CredentialHelper,
            ),
            ("/sbin/docker-init", Some("--"), Role::Init),
            ("/usr/bin/wharf-runtime", Some("spawner"), Role::OciRuntime),
            ("runc", None, Role::OciRuntime),
            ("wharf", Some("oci-runtime"), Role::OciRuntimeWord),
            ("wharf", Some("registry"), Role::Registry),
            ("docker", Some("registry"), docker),
            ("", None, wharf),
        ] {
            assert_eq!(
                Role::of(OsStr::new(program), first.map(OsStr::new)),
                expected,
                "{program} {first:?}"
            );
        }
    }
}
