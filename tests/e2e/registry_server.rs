//! The registry server with real clients: `docker` through our engine, skopeo, podman, a browser; the commands of its documentation; SIGKILL.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wharf_e2e::deadline::{LONG, wait_for, wait_until};
use wharf_e2e::engine::{kill, wharf_program};
use wharf_e2e::registry_client::{Books, ask, free_port, push};
use wharf_e2e::{Engine, images};

/// `wharf registry serve`, killed on drop.
pub struct Server {
    process: Child,
    /// `127.0.0.1:<port>`
    pub address: String,
}

impl Server {
    /// In the engine's network namespace.
    fn start(engine: &Engine, port: u16, flags: &[&str]) -> Server {
        Server::start_at(engine, format!("127.0.0.1:{port}"), flags)
    }

    /// The same at any address of it.
    pub fn start_at(engine: &Engine, address: String, flags: &[&str]) -> Server {
        let process = engine
            .netns()
            .command(&wharf_program())
            .args([
                "registry",
                "serve",
                "--log-level",
                "error",
                "--listen",
                &address,
            ])
            .args(flags)
            .spawn()
            .expect("the registry starts");
        let scheme = if flags.contains(&"--tls-cert") {
            "https"
        } else {
            "http"
        };
        let url = format!("{scheme}://{address}/healthz");
        wait_until("the registry to answer", LONG, || {
            let mut curl = engine.netns().command("curl".as_ref());
            let asked = curl.args(["-skf", "-o", "/dev/null", &url]).status();
            asked.is_ok_and(|status| status.success())
        });
        Server { process, address }
    }

    /// `127.0.0.1:<port>/<rest>`
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill(self.process.id());
        let _ = self.process.wait();
    }
}

/// What it printed; it must succeed.
pub fn ran(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file of passwords with one user, `alice`, whose password is `pw`.
pub fn passwords(dir: &Path) -> String {
    let file = dir.join("htpasswd").display().to_string();
    let mut add = Command::new(wharf_program());
    add.args([
        "registry",
        "user",
        "add",
        "--htpasswd",
        &file,
        "--password-stdin",
        "alice",
    ]);
    let mut adding = add.stdin(Stdio::piped()).spawn().expect("wharf runs");
    let mut input = adding.stdin.take().expect("a pipe");
    input.write_all(b"pw\n").expect("it reads");
    drop(input);
    assert!(adding.wait().expect("it ends").success());
    file
}

/// A certificate for 127.0.0.1 and its key.
fn certificate(dir: &Path) -> (String, String) {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    ran(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-days",
            "2",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&cert));
    (cert.display().to_string(), key.display().to_string())
}

/// A directory of the engine's.
pub fn store(engine: &Engine, name: &str) -> String {
    engine.dir().join(name).display().to_string()
}

#[test]
fn docker_logs_in_pushes_and_pulls_with_tls_and_without() {
    let engine = Engine::start();
    let file = passwords(engine.dir());
    let (cert, key) = certificate(engine.dir());
    let root = store(&engine, "registry");
    let plain = Server::start(&engine, 5000, &["--root", &root, "--htpasswd", &file]);
    let tls = Server::start(
        &engine,
        5443,
        &[
            "--root",
            &root,
            "--htpasswd",
            &file,
            "--anonymous",
            "pull",
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
        ],
    );
    for server in [&plain, &tls] {
        let name = server.name("team/bb:1");
        engine.docker_ok(&["tag", images::BUSYBOX, &name]);
        assert_ne!(
            engine.docker(&["push", "-q", &name]).code,
            0,
            "nobody logged in"
        );
        let login = |password: &str| {
            let args = ["login", "-u", "alice", "--password-stdin", &server.address];
            engine.docker_with_input(&args, password.as_bytes())
        };
        assert_ne!(login("no").code, 0);
        let good = login("pw");
        assert!(good.stdout.contains("Login Succeeded"), "{good:?}");
        engine.docker_ok(&["push", "-q", &name]);
        engine.docker_ok(&["logout", &server.address]);
        engine.docker_ok(&["rmi", &name]);
    }
    let name = tls.name("team/bb:1");
    engine.docker_ok(&["pull", "-q", &name]);
    let said = engine.docker_ok(&["run", "--rm", "--network", "none", &name, "echo", "hi"]);
    assert_eq!(said.trim(), "hi");
    assert_ne!(
        engine
            .docker(&["pull", "-q", &plain.name("team/bb:1")])
            .code,
        0
    );
    let check = engine.wharf(&["registry", "check", "--root", &root, "--read"]);
    assert_eq!(check.code, 0, "{check:?}");
}

#[test]
fn skopeo_and_podman_push_with_tls_and_without() {
    let engine = Engine::empty();
    let file = passwords(engine.dir());
    let (cert, key) = certificate(engine.dir());
    let root = store(&engine, "registry");
    let plain = Server::start(&engine, 5000, &["--root", &root, "--htpasswd", &file]);
    let tls = Server::start(
        &engine,
        5443,
        &[
            "--root",
            &root,
            "--htpasswd",
            &file,
            "--anonymous",
            "pull",
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
        ],
    );
    let archive = engine.dir().join("bb.tar");
    std::fs::write(&archive, images::archive("busybox.tar")).expect("write an archive");
    let source = format!("docker-archive:{}", archive.display());
    let skopeo = || engine.netns().command("skopeo".as_ref());
    for server in [&plain, &tls] {
        let target = format!("docker://{}", server.name("sk/bb:1"));
        let denied = skopeo()
            .args(["copy", "-q", "--dest-tls-verify=false", &source, &target])
            .output();
        assert!(!denied.expect("skopeo (skopeo) runs").status.success());
        ran(skopeo().args([
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--dest-creds",
            "alice:pw",
            &source,
            &target,
        ]));
        ran(skopeo().args([
            "inspect",
            "--tls-verify=false",
            "--creds",
            "alice:pw",
            &target,
        ]));
    }
    let podman = || {
        let mut podman = engine.netns().command("podman".as_ref());
        podman.args([
            "--root",
            &store(&engine, "pod"),
            "--runroot",
            &store(&engine, "podrun"),
            "--storage-driver",
            "vfs",
        ]);
        podman
    };
    ran(podman().args(["pull", "-q", &source]));
    let id = ran(podman().args(["images", "-q"]));
    let id = id.lines().next().expect("an image");
    for server in [&plain, &tls] {
        let name = server.name("pod/bb:1");
        ran(podman().args([
            "push",
            "-q",
            "--tls-verify=false",
            "--creds",
            "alice:pw",
            id,
            &name,
        ]));
    }
    ran(podman().args(["pull", "-q", "--tls-verify=false", &tls.name("pod/bb:1")]));
    // Deleting as skopeo does, by the digest it looked up.
    let target = format!("docker://{}", plain.name("sk/bb:1"));
    ran(skopeo().args([
        "delete",
        "--tls-verify=false",
        "--creds",
        "alice:pw",
        &target,
    ]));
}

#[test]
fn an_engine_s_images_are_served_to_its_neighbour() {
    let engine = Engine::start();
    engine.docker_ok(&["tag", images::BUSYBOX, "team/app:v1"]);
    let root = engine.data_root().display().to_string();
    let own = store(&engine, "unused");
    let server = Server::start(
        &engine,
        5002,
        &["--from-engine", "--data-root", &root, "--root", &own],
    );
    let id = engine.docker_ok(&["image", "inspect", "-f", "{{.Id}}", "team/app:v1"]);
    let target = engine.dir().join("copy");
    ran(engine
        .netns()
        .command("skopeo".as_ref())
        .args(["copy", "-q", "--src-tls-verify=false"])
        .arg(format!("docker://{}", server.name("team/app:v1")))
        .arg(format!("dir:{}", target.display())));
    let config = target.join(id.trim().trim_start_matches("sha256:"));
    assert!(config.exists(), "the config is the image's own");
    // The engine itself pulls from it: everything is there already.
    engine.docker_ok(&["pull", "-q", &server.name("team/app:v1")]);
    let post = ran(engine.netns().command("curl".as_ref()).args([
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-X",
        "POST",
        &format!("http://{}/v2/team/app/blobs/uploads/", server.address),
    ]));
    assert_eq!(post, "405", "read-only");
}

#[test]
fn commands_name_what_is_not_there_and_make_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, users) = (dir.path().join("store"), dir.path().join("htpasswd"));
    for (command, option, complaint) in [
        (&["gc"][..], "--root", "there is no registry in "),
        (&["check", "--read"], "--root", "there is no registry in "),
        (&["repo", "ls"], "--root", "there is no registry in "),
        (&["repo", "tags", "a"], "--root", "there is no registry in "),
        (&["user", "ls"], "--htpasswd", "htpasswd: No such file"),
        (&["user", "rm", "x"], "--htpasswd", "htpasswd: No such file"),
    ] {
        let place = if option == "--root" { &root } else { &users };
        let mut wharf = Command::new(wharf_program());
        let output = wharf
            .arg("registry")
            .args(command)
            .arg(option)
            .arg(place)
            .output();
        let output = output.expect("wharf runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(complaint),
            "{command:?}: {said}"
        );
    }
    assert!(!root.exists() && !users.exists());
}

#[test]
fn pages_in_a_browser() {
    let engine = Engine::start();
    let root = store(&engine, "registry");
    let server = Server::start(&engine, 5000, &["--root", &root]);
    let name = server.name("team/bb:1");
    engine.docker_ok(&["tag", images::BUSYBOX, &name]);
    engine.docker_ok(&["push", "-q", &name]);
    let page = |path: &str| {
        let mut browser = engine.netns().command("chromium".as_ref());
        browser.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--dump-dom",
        ]);
        browser.arg(format!("--user-data-dir={}", store(&engine, "browser")));
        browser.arg(format!("http://{}{path}", server.address));
        ran(&mut browser)
    };
    let home = page("/");
    assert!(home.contains("href=\"/r/team/bb\""), "{home}");
    let tags = page("/r/team/bb");
    assert!(
        tags.contains("href=\"/r/team/bb:1\"") && tags.contains("docker pull"),
        "{tags}"
    );
    let image = page("/r/team/bb:1");
    assert!(
        image.contains("<h2>Layers</h2>") && image.contains("linux/"),
        "{image}"
    );
}

/// The commands of `docs/registry.md`, with the machine's own directories replaced by the test's.
fn documented(engine: &Engine, tree: &Path) -> String {
    let text = std::fs::read_to_string(tree.join("docs/registry.md")).expect("the documentation");
    let srv = engine.dir().join("srv");
    std::fs::create_dir_all(&srv).expect("a directory");
    let commands = text.lines().filter_map(|line| line.strip_prefix("    # "));
    let mut script = String::from("set -e\n");
    for command in commands {
        let command = command
            .replace("/srv/", &format!("{}/", srv.display()))
            .replace(
                "/var/lib/wharf ",
                &format!("{} ", engine.data_root().display()),
            )
            .replace("contrib/registry", &srv.join("image").display().to_string());
        script.push_str(&format!(
            "echo '+ {}'\n{command}\n",
            command.replace('\'', "")
        ));
        if command.ends_with('&') {
            // The next command expects it to listen.
            let address = command
                .split("--listen ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            let address = address.expect("a registry listens somewhere");
            script.push_str(&format!(
                "PIDS=\"$PIDS $!\"; for n in $(seq 600); do curl -sk -o /dev/null http://{address}/healthz || curl -sk -o /dev/null https://{address}/healthz && break; sleep 0.05; done\n"
            ));
        }
    }
    script.push_str("kill $PIDS\nwait\n");
    script
}

#[test]
fn every_command_of_the_documentation() {
    let engine = Engine::start();
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the tree")
        .to_owned();
    let script = documented(&engine, &tree);
    let image = engine.dir().join("srv/image");
    std::fs::create_dir_all(&image).expect("a directory");
    std::fs::copy(
        tree.join("contrib/registry/Dockerfile"),
        image.join("Dockerfile"),
    )
    .expect("copy the Dockerfile");
    let bin = engine.dir().join("bin");
    std::fs::create_dir_all(&bin).expect("a directory");
    std::os::unix::fs::symlink(wharf_program(), bin.join("wharf")).expect("link wharf");
    let docker = which(&wharf_e2e::cli::docker_program());
    std::os::unix::fs::symlink(docker, bin.join("docker")).expect("link docker");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let output = engine
        .netns()
        .command("sh".as_ref())
        .args(["-c", &script])
        .env("PATH", path)
        .env("DOCKER_HOST", engine.host())
        .env("DOCKER_CONFIG", engine.dir().join("cli"))
        .env("DOCKER_BUILDKIT", "0")
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        engine.log_tail()
    );
    for needle in [
        "{\"repositories\":[\"team/busybox\"]}",
        "alice",
        "robot$ci ",
        "0 problems",
        "{\"name\":\"team/busybox\",\"tags\":[\"1\"]}",
    ] {
        assert!(said.contains(needle), "{needle} in {said}");
    }
}

fn which(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return program.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join(program));
    found
        .find(|file| file.exists())
        .expect("docker is in the path")
}

#[test]
fn a_registry_that_is_killed_loses_nothing_acknowledged() {
    // `WHARF_E2E_KILLS=100` for the long version.
    let kills: u32 = std::env::var("WHARF_E2E_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(8);
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("store").display().to_string();
    let port = free_port();
    let start = || {
        Command::new(wharf_program())
            .args([
                "registry",
                "serve",
                "--log-level",
                "error",
                "--root",
                &root,
                "--listen",
            ])
            .arg(format!("127.0.0.1:{port}"))
            .spawn()
            .expect("the registry starts")
    };
    let books = Books::default();
    let stop = AtomicBool::new(false);
    let mut process = start();
    std::thread::scope(|scope| {
        let _stopping = Stopping(&stop);
        for n in 0..8 {
            let (books, stop) = (&books, &stop);
            scope.spawn(move || {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    if push(port, &format!("t{n}-{round}"), books).is_none() {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            });
        }
        for n in 0..kills {
            // A different moment each time, and always after something new was acknowledged.
            books.wait_for_more(usize::try_from(n % 7).expect("small"));
            kill(process.id());
            process.wait().expect("it ends");
            process = start();
        }
    });
    wait_for("the registry to answer", LONG, || {
        ask(port, "GET", "/healthz", "", b"")
    });
    books.check(port);
    kill(process.id());
    process.wait().expect("it ends");
    let registry = |args: &[&str]| {
        ran(Command::new(wharf_program())
            .arg("registry")
            .args(args)
            .args(["--root", &root]))
    };
    assert!(registry(&["check", "--read"]).contains(" 0 problems"));
    registry(&["gc"]);
    assert!(
        registry(&["check", "--read"]).contains(" 0 problems"),
        "collection took nothing that is needed"
    );
}

/// Lets the pushing threads end, also when the test has failed.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
