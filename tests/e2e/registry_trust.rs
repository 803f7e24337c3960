//! The registry server and those who believe neither its certificate nor its clients without being shown: Debian's dockerd, skopeo and podman.

use std::fs;
use std::process::Command;

use wharf_e2e::{Engine, Kind, images};

use crate::registry::access::{Certificates, make_certificates};
use crate::registry_server::{Server, passwords, ran, store};

/// Not a loopback address, which need not be trusted.
const ADDRESS: &str = "198.51.100.8";

/// A registry with TLS and passwords in an engine's network namespace.
fn guarded(engine: &Engine) -> Server {
    let mut ip = engine.netns().command("ip".as_ref());
    ran(ip.args(["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]));
    let dir = engine.dir().join("certificates");
    fs::create_dir_all(&dir).expect("a directory");
    make_certificates(&dir, ADDRESS);
    let file = |name: &str| dir.join(name).display().to_string();
    let (root, users) = (store(engine, "registry"), passwords(engine.dir()));
    let (certificate, key) = (file("server.pem"), file("server.key"));
    let flags = [
        "--root",
        &root,
        "--htpasswd",
        &users,
        "--tls-cert",
        &certificate,
        "--tls-key",
        &key,
    ];
    Server::start_at(engine, format!("{ADDRESS}:5443"), &flags)
}

#[test]
fn dockerd_skopeo_and_podman_check_the_certificate_and_log_in() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let dockerd = Engine::options().kind(Kind::Reference).start();
    dockerd.load("busybox.tar");
    let registry = guarded(&dockerd);
    let name = registry.name("team/bb:1");
    dockerd.docker_ok(&["tag", images::BUSYBOX, &name]);
    let skopeo = |args: &[&str]| {
        let mut skopeo = dockerd.netns().command("skopeo".as_ref());
        skopeo.args(args);
        skopeo
    };
    let remote = format!("docker://{name}");
    let refused = |mut command: Command| {
        let output = command.output().expect("it runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // An authority that nobody knows.
    let said = dockerd.docker_fails(&["push", &name], 1);
    assert!(said.contains("x509: certificate"), "{said}");
    let said = refused(skopeo(&["inspect", "--creds", "alice:pw", &remote]));
    assert!(said.contains("x509: certificate"), "{said}");
    let _trusted = Certificates::install(&registry.address, &dockerd.dir().join("certificates"));
    // Known by now, but who are they?
    let said = dockerd.docker_fails(&["push", &name], 1);
    assert!(said.contains("no basic auth credentials"), "{said}");
    let said = refused(skopeo(&["inspect", &remote]));
    assert!(
        said.contains("unauthorized") || said.contains("authentication required"),
        "{said}"
    );
    let login = [
        "login",
        "-u",
        "alice",
        "--password-stdin",
        &registry.address,
    ];
    let said = dockerd.docker_with_input(&login, b"pw");
    assert!(said.stdout.contains("Login Succeeded"), "{said:?}");
    let pushed = dockerd.docker_ok(&["push", &name]);
    dockerd.docker_ok(&["rmi", &name]);
    let pulled = dockerd.docker_ok(&["pull", &name]);
    let creds = ["--creds", "alice:pw"];
    let digest = ran(&mut skopeo(&[
        "inspect",
        "--format",
        "{{.Digest}}",
        creds[0],
        creds[1],
        &remote,
    ]));
    assert!(
        pushed.contains(digest.trim()) && pulled.contains(digest.trim()),
        "{pushed}{pulled}"
    );
    let copy = format!("docker://{}", registry.name("team/copy:1"));
    ran(&mut skopeo(&[
        "copy",
        "-q",
        "--src-creds",
        "alice:pw",
        "--dest-creds",
        "alice:pw",
        &remote,
        &copy,
    ]));
    podman_pulls_and_pushes(&dockerd, &registry);
    dockerd.docker_ok(&["pull", &registry.name("team/podman:1")]);
}

fn podman_pulls_and_pushes(engine: &Engine, registry: &Server) {
    let podman = |args: &[&str]| {
        let mut podman = engine.netns().command("podman".as_ref());
        podman.args([
            "--root",
            &store(engine, "pod"),
            "--runroot",
            &store(engine, "podrun"),
        ]);
        podman.args(["--storage-driver", "vfs"]).args(args);
        podman
    };
    let (from, to) = (registry.name("team/copy:1"), registry.name("team/podman:1"));
    ran(&mut podman(&[
        "login",
        "-u",
        "alice",
        "-p",
        "pw",
        "--authfile",
        &store(engine, "auth.json"),
        &registry.address,
    ]));
    let file = store(engine, "auth.json");
    ran(&mut podman(&["pull", "-q", "--authfile", &file, &from]));
    ran(&mut podman(&["tag", &from, &to]));
    ran(&mut podman(&["push", "-q", "--authfile", &file, &to]));
}
