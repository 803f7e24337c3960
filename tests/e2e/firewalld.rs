//! Beside firewalld, which rejects what is forwarded unless its zones allow it, and reloads whenever somebody changes something.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::lan::Lan;
use wharf_e2e::web::{get, server};

/// A bus that only the test's processes know.
const BUS: &str = r#"<busconfig>
  <type>system</type>
  <listen>unix:path=BUS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_destination="*"/> <allow eavesdrop="true"/>
  </policy>
</busconfig>"#;

/// A system bus and, later, a firewalld in a daemon's network namespace.
struct Firewalld {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Firewalld {
    fn bus(dir: &Path, backend: &str) -> Firewalld {
        let dir = dir.to_owned();
        std::fs::create_dir_all(dir.join("etc")).expect("a directory");
        let path = dir.join("bus");
        let config = BUS.replace("BUS", &path.display().to_string());
        std::fs::write(dir.join("bus.conf"), config).expect("write a file");
        let settings = format!("FirewallBackend={backend}\n");
        std::fs::write(dir.join("etc/firewalld.conf"), settings).expect("write a file");
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", dir.join("bus.conf").display()))
            .args(["--nofork", "--nopidfile"])
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon runs");
        wait_until("the bus", LONG, || path.exists());
        Firewalld {
            dir,
            children: vec![bus],
        }
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.dir.join("bus").display())
    }

    fn start(&mut self, engine: &Engine) {
        let child = engine
            .netns()
            .command("firewalld".as_ref())
            .args(["--nofork", "--nopid", "--system-config"])
            .arg(self.dir.join("etc"))
            .arg("--log-file")
            .arg(self.dir.join("log"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.address())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("firewalld runs");
        self.children.push(child);
        wait_until("firewalld", LONG, || self.ask(&["--state"]) == "running");
    }

    fn ask(&self, args: &[&str]) -> String {
        let output = Command::new("firewall-cmd")
            .args(args)
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.address())
            .output()
            .expect("firewall-cmd runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn wait_for_bridges(&self, expected: &[&str]) {
        wait_until("the bridges in their zone", LONG, || {
            let listed = self.ask(&["--zone=docker", "--list-interfaces"]);
            let mut listed: Vec<&str> = listed.split_whitespace().collect();
            listed.sort_unstable();
            listed == expected
        });
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn bridges_have_a_zone_and_ports_survive_reloads() {
    for backend in ["nftables", "iptables"] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut firewalld = Firewalld::bus(dir.path(), backend);
        let mut engine = Engine::options()
            .env("DBUS_SYSTEM_BUS_ADDRESS", &firewalld.address())
            .flag(&format!("--firewall-backend={backend}"))
            .start();
        engine.load("busybox.tar");
        firewalld.start(&engine);
        firewalld.wait_for_bridges(&["docker0"]);
        let lan = Lan::around(&engine);
        // Without its zone, docker0 would be in another one than the LAN, and nothing could pass.
        firewalld.ask(&["--zone=home", "--add-interface=lan0"]);
        server(&engine, &["--name", "web", "-p", "8080:80"]);
        engine.docker_ok(&[
            "network",
            "create",
            "-o",
            "com.docker.network.bridge.name=br7",
            "n7",
        ]);
        firewalld.wait_for_bridges(&["br7", "docker0"]);
        let check = |engine: &Engine, when: &str| {
            wait_until(when, LONG, || get(&lan.remote, "192.0.2.1:8080") == "hello");
            let out = engine.docker_ok(&["exec", "web", "ping", "-c1", "-W5", "198.51.100.2"]);
            assert!(out.contains("1 packets received"), "{when}: {out}");
        };
        check(&engine, "at first");
        assert_eq!(firewalld.ask(&["--reload"]), "success");
        firewalld.wait_for_bridges(&["br7", "docker0"]);
        check(&engine, "after a reload");
        engine.docker_ok(&["network", "rm", "n7"]);
        firewalld.wait_for_bridges(&["docker0"]);
        // A daemon that starts after firewalld.
        engine.kill_daemon();
        firewalld.ask(&["--zone=docker", "--remove-interface=docker0"]);
        engine.start_daemon();
        firewalld.wait_for_bridges(&["docker0"]);
        check(&engine, "under the next daemon");
        // It lives in the daemon's namespace, where nothing may be left.
        drop((lan, firewalld));
    }
}
