//! The Debian package, installed into a Debian container, and the README's tour with what it installs.

use std::path::PathBuf;

use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

/// `cargo xtask test` makes it.
fn package() -> PathBuf {
    let path = std::env::var_os("WHARF_DEB")
        .expect("WHARF_DEB names the package that `cargo xtask test` made");
    PathBuf::from(path)
}

/// A machine of its own, as far as a privileged container is one.
struct Machine {
    engine: Engine,
}

impl Machine {
    fn start() -> Machine {
        let engine = Engine::options().start();
        engine.load("debian.tar");
        let data = ["-v", "/var/lib/wharf", "-v", "/root/target/images"];
        let args = [
            &["run", "-d", "--privileged", "--name", "machine"][..],
            &data,
            &["-w", "/root"],
        ]
        .concat();
        engine.docker_ok(&[&args[..], &[images::DEBIAN, "sleep", "infinity"]].concat());
        Machine { engine }
    }

    fn sh(&self, script: &str) -> String {
        self.engine
            .docker_ok(&["exec", "machine", "sh", "-ec", script])
    }

    fn copy(&self, from: &std::path::Path, to: &str) {
        let from = from.display().to_string();
        self.engine
            .docker_ok(&["cp", &from, &format!("machine:{to}")]);
    }
}

/// Commands of a section of the README with what they print, as the reader sees them.
fn commands(section: &str) -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(README).expect("the README");
    let (_, rest) = text
        .split_once(&format!("\n## {section}\n"))
        .expect("the section");
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in rest.lines().take_while(|line| !line.starts_with("## ")) {
        if let Some(command) = line.strip_prefix("    # ") {
            found.push((command.to_owned(), Vec::new()));
        } else if let (Some(printed), Some((_, lines))) =
            (line.strip_prefix("    "), found.last_mut())
        {
            lines.push(printed.to_owned());
        }
    }
    found
}

#[test]
fn the_package_installs_and_the_tour_works() {
    let machine = Machine::start();
    machine.copy(&package(), "/root/wharf.deb");
    machine.copy(
        &images::directory().join("debian.tar"),
        "/root/target/images/debian.tar",
    );
    machine.sh("dpkg -i wharf.deb >/dev/null 2>&1");
    assert_eq!(
        machine.sh("readlink -f /usr/bin/docker /usr/bin/dockerd"),
        "/usr/bin/wharf\n/usr/bin/wharf"
    );
    assert_eq!(machine.sh("getent group docker | cut -d: -f1"), "docker");
    for file in [
        "lib/systemd/system/wharf.service",
        "etc/wharf/daemon.json",
        "usr/share/bash-completion/completions/wharf",
        "usr/share/man/man1/wharf-run.1",
    ] {
        machine.sh(&format!("test -s /{file}"));
    }
    machine.sh("grep -qx KillMode=process /lib/systemd/system/wharf.service");
    machine.sh("grep -qx 'ExecStart=/usr/bin/wharf daemon .*' /lib/systemd/system/wharf.service");

    machine
        .engine
        .docker_ok(&["exec", "-d", "machine", "wharf", "daemon"]);
    wait_until("the installed daemon", LONG, || {
        machine
            .engine
            .docker(&["exec", "machine", "wharf", "version"])
            .code
            == 0
    });
    let tour = commands("A tour");
    assert!(tour.len() >= 5, "{tour:?}");
    for (command, printed) in &tour {
        let output = machine.sh(command);
        let expected = printed.join("\n");
        // Ids, times and versions differ from run to run; what is left must not.
        assert_eq!(shape(&output), shape(&expected), "{command}");
    }
    // Under Docker's name it is found where Docker's clients look.
    machine.sh("docker -H unix:///run/wharf/wharf.sock ps | grep -q web");
    machine.sh("wharf rm -f web && dpkg -r wharf >/dev/null 2>&1");
    machine.sh(
        "test ! -e /usr/bin/docker && test -d /var/lib/wharf && test -e /etc/wharf/daemon.json",
    );
}

/// Words without digits in them; numbers, ids and dates become `#`.
fn shape(text: &str) -> Vec<Vec<String>> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const UNITS: [&str; 8] = [
        "second", "seconds", "Less", "than", "a", "About", "minute", "ago",
    ];
    let word = |word: &str| {
        let varies = word.bytes().any(|b| b.is_ascii_digit())
            || MONTHS.contains(&word)
            || DAYS.contains(&word);
        if varies {
            "#".to_owned()
        } else {
            word.to_owned()
        }
    };
    let line = |line: &str| {
        line.split_whitespace()
            .filter(|w| !UNITS.contains(w))
            .map(word)
            .filter(|w| w != "#")
            .collect()
    };
    text.lines().map(line).collect()
}
