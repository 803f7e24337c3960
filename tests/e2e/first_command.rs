//! The first command of the README: no daemon, no image, no network.

use std::process::Command;

use wharf_e2e::cli::{Output, Running};
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::engine::{Kind, terminate, wharf_program};
use wharf_e2e::netns::NetNs;

/// A machine as good as new: its own network, and nothing in /run and /var/lib. Only for this one process tree.
struct FreshMachine {
    netns: NetNs,
}

impl FreshMachine {
    fn new(name: &str) -> FreshMachine {
        FreshMachine {
            netns: NetNs::create(&format!("wharf-e2e-{}-{name}", std::process::id())),
        }
    }

    fn shell(&self, script: &str) -> Output {
        let mut command = self.netns.command("unshare".as_ref());
        let fresh = "mount -t tmpfs fresh /run && mount -t tmpfs fresh /var/lib || exit 1; ";
        command
            .args(["--mount", "sh", "-c", &format!("{fresh}{script}"), "sh"])
            .arg(wharf_program());
        without_docker_settings(&mut command);
        Running::start(&mut command).finish()
    }
}

fn without_docker_settings(command: &mut Command) {
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"] {
        command.env_remove(name);
    }
}

impl Drop for FreshMachine {
    fn drop(&mut self) {
        for pid in self.netns.processes() {
            terminate(pid);
        }
        if !std::thread::panicking() {
            wait_until("the daemon to end", LONG, || {
                self.netns.processes().is_empty()
            });
        }
        for pid in self.netns.processes() {
            wharf_e2e::engine::kill(pid);
        }
    }
}

#[test]
fn hello_world_runs_and_says_that_it_is_built_in() {
    if Kind::from_env() == Kind::Reference {
        return; // no other engine starts its daemon
    }
    let machine = FreshMachine::new("hello");
    let output = machine.shell("\"$1\" run --rm hello-world");
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("Hello from"), "{output:?}");
    let all = output.stdout + &output.stderr;
    assert!(
        all.contains("built"),
        "says where the image came from: {all}"
    );
}

#[test]
fn two_first_commands_at_once_share_one_daemon() {
    if Kind::from_env() == Kind::Reference {
        return; // no other engine starts its daemon
    }
    let machine = FreshMachine::new("twice");
    let output = machine.shell("\"$1\" run --rm hello-world >/run/one 2>&1 & \"$1\" run --rm hello-world >/run/two 2>&1; a=$?; wait $!; echo $? $a; cat /run/one /run/two >&2");
    assert_eq!(output.stdout, "0 0\n", "{output:?}");
    assert_eq!(output.stderr.matches("Hello from").count(), 2, "{output:?}");
}
