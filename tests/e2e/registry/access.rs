//! Who may have what, and by which way: passwords, tokens, helper programs, proxies, mirrors, certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use wharf_e2e::connect_proxy::ConnectProxy;
use wharf_e2e::engine::wharf_program;
use wharf_e2e::registry::{Auth, DockerRegistry, Faults, TestRegistry, base64};
use wharf_e2e::{Engine, cli};

use super::image;

#[test]
fn a_registry_wants_a_password() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(0, 0));
    let name = registry.name("bb:1");
    for auth in [Auth::Basic, Auth::Token] {
        registry.set(Faults {
            auth: Some((auth, "user:secret")),
            ..Faults::default()
        });
        let config = engine.dir().join(format!("config-{auth:?}"));
        let docker = |args: &[&str]| {
            let mut command = engine.docker_command(args);
            command.env("DOCKER_CONFIG", &config);
            command.output().expect("docker runs")
        };
        let text =
            |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!docker(&["pull", &name]).status.success());
        let wrong = docker(&["login", "-u", "user", "-p", "wrong", &registry.address]);
        assert!(!wrong.status.success(), "{}", text(&wrong));
        let right = docker(&["login", "-u", "user", "-p", "secret", &registry.address]);
        assert!(right.status.success(), "{}", text(&right));
        assert!(String::from_utf8_lossy(&right.stdout).contains("Login Succeeded"));
        let saved = std::fs::read_to_string(config.join("config.json")).expect("saved");
        assert!(saved.contains(&base64(b"user:secret")), "{saved}");
        let pulled = docker(&["pull", &name]);
        assert!(pulled.status.success(), "{}", text(&pulled));
        docker(&["rmi", &name]);
    }
}

/// One of both command lines with a configuration of its own.
struct Client<'a> {
    engine: &'a Engine,
    program: PathBuf,
    config: PathBuf,
    path: String,
}

impl<'a> Client<'a> {
    fn new(engine: &'a Engine, program: PathBuf) -> Client<'a> {
        let stem = program.file_name().expect("a name").to_string_lossy();
        let config = engine.dir().join(format!("config-{stem}"));
        fs::create_dir_all(&config).expect("a directory");
        Client {
            engine,
            config,
            path: std::env::var("PATH").expect("a path"),
            program,
        }
    }

    fn both(engine: &'a Engine) -> [Client<'a>; 2] {
        [
            Client::new(engine, cli::docker_program()),
            Client::new(engine, wharf_program()),
        ]
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = Command::new(&self.program)
            .args(args)
            .env("DOCKER_HOST", self.engine.host())
            .env("DOCKER_CONFIG", &self.config)
            .env("PATH", &self.path)
            .output();
        output.expect("the program runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{:?} {args:?}: {text}",
            self.program
        );
        String::from_utf8_lossy(&output.stdout).into_owned() + &text
    }

    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{:?} {args:?}", self.program);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn file(&self) -> String {
        fs::read_to_string(self.config.join("config.json")).unwrap_or_default()
    }
}

#[test]
fn a_refresh_token_stands_for_the_password() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(0, 0));
    let name = registry.name("bb:1");
    registry.set(Faults {
        auth: Some((Auth::Identity, "user:secret")),
        ..Faults::default()
    });
    // Docker's client asks for a name where there is nobody to answer.
    let ours = Client::new(&engine, wharf_program());
    let said = ours.fails(&["pull", &name]);
    assert!(said.contains("unauthorized"), "{said}");
    for client in Client::both(&engine) {
        client.ok(&["login", "-u", "user", "-p", "secret", &registry.address]);
        let file = client.file();
        assert!(!file.contains(&base64(b"user:secret")), "{file}");
        client.ok(&["pull", &name]);
        client.ok(&["rmi", &name]);
        client.ok(&["logout", &registry.address]);
    }
    ours.fails(&["pull", &name]);
    let posted = registry.requests();
    assert!(
        posted.iter().any(|request| request == "POST /token"),
        "{posted:?}"
    );
}

#[test]
fn our_login_keeps_no_readable_secret() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(0, 0));
    registry.set(Faults {
        auth: Some((Auth::Basic, "user:secret")),
        ..Faults::default()
    });
    let (name, address) = (registry.name("bb:1"), registry.address.clone());
    let client = Client::new(&engine, wharf_program());
    let said = client.ok(&["login", "-u", "user", "-p", "secret", &address]);
    assert!(said.contains("Login Succeeded"), "{said}");
    assert!(!said.contains("stored unencrypted"), "{said}");
    let file = client.file();
    assert!(file.contains(&address), "{file}");
    for readable in ["secret", &base64(b"user:secret"), &base64(b"secret")] {
        assert!(!file.contains(readable), "{readable} in {file}");
    }
    client.ok(&["pull", &name]);
    client.ok(&["rmi", &name]);
    // As the helper of other programs.
    let link = client.config.join("docker-credential-wharf");
    std::os::unix::fs::symlink(wharf_program(), &link).expect("a new link");
    let helper = Command::new(link)
        .arg("get")
        .env("DOCKER_CONFIG", &client.config)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut helper = helper.expect("the program runs");
    let mut input = helper.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, address.as_bytes()).expect("it reads");
    drop(input);
    let answer = helper.wait_with_output().expect("it ends");
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.contains("\"Secret\":\"secret\""), "{answer}");
    client.ok(&["logout", &address]);
    assert!(!client.file().contains(&address), "{}", client.file());
    client.fails(&["pull", &name]);
    // Asked for, the secret is kept as Docker keeps it.
    let plain = Command::new(wharf_program())
        .args(["login", "-u", "user", "-p", "secret", &address])
        .env("DOCKER_HOST", engine.host())
        .env("DOCKER_CONFIG", &client.config)
        .env("WHARF_CREDENTIALS", "file")
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&plain.stderr);
    assert!(
        said.contains("WARNING! Your credentials are stored unencrypted"),
        "{said}"
    );
    let file = client.file();
    assert!(file.contains(&base64(b"user:secret")), "{file}");
}

/// A helper that keeps what it is told in files beside it.
fn write_helper(dir: &Path) {
    let script = r#"#!/bin/sh
dir=$(dirname "$0")
key() { echo "$1" | tr -c 'a-zA-Z0-9\n' _; }
case $1 in
store) read -r input || true; url=$(echo "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/'); echo "$input" > "$dir/kept-$(key "$url")";;
get) read -r url || true; if [ -f "$dir/kept-$(key "$url")" ]; then cat "$dir/kept-$(key "$url")"; else echo "credentials not found in native keychain"; exit 1; fi;;
erase) read -r url || true; rm -f "$dir/kept-$(key "$url")";;
list) echo '{}';;
esac
"#;
    let path = dir.join("docker-credential-test");
    fs::write(&path, script).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn helper_programs_keep_secrets() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(0, 0));
    registry.set(Faults {
        auth: Some((Auth::Basic, "user:secret")),
        ..Faults::default()
    });
    let (name, address) = (registry.name("bb:1"), registry.address.clone());
    for mut client in Client::both(&engine) {
        for config in [
            r#"{"credsStore":"test"}"#.to_owned(),
            format!(r#"{{"credsStore":"none","credHelpers":{{"{address}":"test"}}}}"#),
        ] {
            let dir = client.config.clone();
            write_helper(&dir);
            client.path = format!("{}:{}", dir.display(), client.path);
            fs::write(dir.join("config.json"), config).expect("write");
            client.fails(&["pull", &name]);
            let said = client.ok(&["login", "-u", "user", "-p", "secret", &address]);
            assert!(!said.contains("unencrypted"), "{said}");
            let file = client.file();
            assert!(!file.contains(&base64(b"user:secret")), "{file}");
            client.ok(&["pull", &name]);
            client.ok(&["rmi", &name]);
            client.ok(&["logout", &address]);
            client.fails(&["pull", &name]);
        }
    }
}

#[test]
fn proxies_are_used_but_for_exceptions() {
    let mut engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(0, 0));
    let proxy = format!("http://{}", registry.address);
    // By a flag, by the file, by the environment.
    let file = engine.dir().join("daemon.json");
    fs::write(
        &file,
        format!(r#"{{"proxies":{{"http-proxy":"{proxy}","no-proxy":"direct.test"}}}}"#),
    )
    .expect("write");
    let insecure = [
        "--insecure-registry",
        "far.test",
        "--insecure-registry",
        "direct.test",
    ];
    let flags = [
        vec!["--http-proxy", &proxy, "--no-proxy", "direct.test"],
        vec!["--config-file", file.to_str().expect("a plain path")],
    ];
    for flags in flags {
        engine.kill_daemon();
        engine.set_flags(&[flags, insecure.to_vec()].concat());
        engine.start_daemon();
        engine.docker_ok(&["pull", "-q", "far.test/bb:1"]);
        engine.docker_ok(&["rmi", "far.test/bb:1"]);
        let said = engine.docker_fails(&["pull", "direct.test/bb:1"], 1);
        assert!(said.contains("dial tcp: lookup direct.test"), "{said}");
        let info = engine.docker_ok(&["info", "--format", "{{.HTTPProxy}} {{.NoProxy}}"]);
        assert_eq!(info.trim(), format!("{proxy} direct.test"));
        // Loopback addresses are never asked for from a proxy.
        engine.docker_ok(&["pull", "-q", &registry.name("bb:1")]);
        engine.docker_ok(&["rmi", &registry.name("bb:1")]);
    }
}

#[test]
fn mirrors_of_any_registry_are_asked_first() {
    let mut engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let mirror = TestRegistry::start(&engine);
    let own = TestRegistry::start(&engine);
    let made = image(1, 20_000);
    let digest = own.add("bb", "1", &made);
    mirror.add("bb", "1", &made);
    let name = own.name("bb:1");
    let dead = format!("{}=http://127.0.0.1:1", own.address);
    let live = format!("{}=http://{}", own.address, mirror.address);
    engine.kill_daemon();
    engine.set_flags(&["--registry-mirror", &dead, "--registry-mirror", &live]);
    engine.start_daemon();
    let said = engine.docker_ok(&["pull", &name]);
    assert!(said.contains(&digest), "{said}");
    assert!(own.requests().is_empty(), "{:?}", own.requests());
    assert!(!mirror.requests().is_empty());
    let warnings = engine.log().matches("mirror does not work").count();
    assert_eq!(
        warnings, 1,
        "a dead mirror is left alone after its first failure"
    );
    engine.docker_ok(&["rmi", &name]);
    // A mirror that has it not, or not all of it, is passed over.
    mirror.set(Faults {
        manifest_statuses: vec![404; 20],
        ..Faults::default()
    });
    engine.docker_ok(&["pull", &name]);
    assert!(!own.requests().is_empty());
    engine.docker_ok(&["rmi", &name]);
    mirror.set(Faults {
        blobs_gone: true,
        ..Faults::default()
    });
    engine.docker_ok(&["pull", &name]);
}

#[test]
fn searches_are_shown_in_columns() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.set_search(
        r#"{"num_results":2,"query":"x","results":[
            {"name":"lib/first","description":"A description that is certainly longer than forty-five characters","star_count":7,"is_official":true,"is_automated":false},
            {"name":"lib/second","description":"short","star_count":0,"is_official":false,"is_automated":false}]}"#,
    );
    let term = registry.name("first");
    let expected = "NAME         DESCRIPTION                                     STARS     OFFICIAL\nlib/first    A description that is certainly longer than …   7         [OK]\nlib/second   short                                           0         \n";
    for client in Client::both(&engine) {
        assert_eq!(
            client.ok(&["search", &term]),
            expected,
            "{:?}",
            client.program
        );
        let named = client.ok(&[
            "search",
            "--filter",
            "stars=3",
            "--no-trunc",
            "--format",
            "{{.Name}} {{.Description}}",
            &term,
        ]);
        assert_eq!(
            named,
            "lib/first A description that is certainly longer than forty-five characters\n"
        );
        let said = client.fails(&["search", "--limit", "101", &term]);
        assert!(
            said.contains("limit 101 is outside the range of [1, 100]"),
            "{said}"
        );
    }
    assert!(
        registry
            .requests()
            .iter()
            .any(|request| request.starts_with("GET /v1/search?q=first&n="))
    );
}

/// Certificates in `/etc/docker/certs.d`, taken away at the end.
pub struct Certificates(PathBuf);

impl Certificates {
    pub fn install(address: &str, from: &Path) -> Certificates {
        let dir = Path::new("/etc/docker/certs.d").join(address);
        fs::create_dir_all(&dir).expect("a directory");
        for (file, name) in [
            ("ca.pem", "ca.crt"),
            ("client.pem", "client.cert"),
            ("client.key", "client.key"),
        ] {
            fs::copy(from.join(file), dir.join(name)).expect("copy");
        }
        Certificates(dir)
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An authority with a certificate for an address and one for a client.
pub fn make_certificates(dir: &Path, address: &str) {
    let script = format!(
        "set -e
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority
        for who in server client; do
          openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $who.key -out $who.csr -subj /CN=$who
          echo 'subjectAltName=IP:{address}' > $who.ext
          openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $who.pem -days 2 -extfile $who.ext
        done"
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir)
        .output();
    let output = output.expect("sh runs");
    assert!(
        output.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn certificates_of_a_registry_come_from_certs_d() {
    let mut engine = Engine::start();
    // Not a loopback address, which need not be trusted.
    let address = "198.51.100.7";
    let added = engine
        .netns()
        .command("ip".as_ref())
        .args(["address", "add", &format!("{address}/32"), "dev", "lo"])
        .status();
    assert!(added.expect("ip runs").success());
    let dir = engine.dir().join("certificates");
    fs::create_dir_all(&dir).expect("a directory");
    make_certificates(&dir, address);
    let registry =
        DockerRegistry::start_with_certificates(&engine, "registry", address, 5443, &dir);
    let name = registry.name("busybox:1");
    engine.docker_ok(&["tag", "busybox", &name]);
    let said = engine.docker_fails(&["push", &name], 1);
    assert!(
        said.contains("x509: certificate signed by unknown authority"),
        "{said}"
    );
    let certificates = Certificates::install(&registry.address, &dir);
    engine.docker_ok(&["push", &name]);
    engine.docker_ok(&["rmi", &name]);
    engine.docker_ok(&["pull", &name]);
    if !engine.is_reference() {
        reached_through_a_proxy(&mut engine, &name, address);
    }
    drop(certificates);
}

/// Encrypted from end to end, but for addresses that are an exception.
fn reached_through_a_proxy(engine: &mut Engine, name: &str, address: &str) {
    let proxy = ConnectProxy::start(engine);
    let url = format!("http://someone:secret@{}", proxy.address);
    engine.docker_ok(&["rmi", name]);
    for (exceptions, used) in [("10.0.0.0/8", true), ("198.51.100.0/24", false)] {
        engine.kill_daemon();
        engine.set_flags(&["--https-proxy", &url, "--no-proxy", exceptions]);
        engine.start_daemon();
        let before = proxy.asked().len();
        engine.docker_ok(&["pull", name]);
        engine.docker_ok(&["rmi", name]);
        let asked = proxy.asked().split_off(before);
        assert_eq!(!asked.is_empty(), used, "{exceptions}: {asked:?}");
        for head in asked {
            assert!(
                head.starts_with(&format!("CONNECT {address}:5443 ")),
                "{head}"
            );
            let secret = base64(b"someone:secret");
            let basic = format!("proxy-authorization: basic {}", secret.to_lowercase());
            assert!(head.to_lowercase().contains(&basic), "{head}");
        }
    }
}
