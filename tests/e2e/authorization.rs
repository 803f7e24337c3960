//! Who may do what: TLS with client certificates, the policy file, authorization plugins.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::cli::{Output, Running, docker_program};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::plugin::{self, Plugin};

const ADDRESS: &str = "tcp://127.0.0.1:2376";

pub(crate) fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl")
        .current_dir(dir)
        .args(args)
        .output()
        .expect("openssl runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {said}");
}

/// An authority `<name>.pem` with its key.
pub(crate) fn authority(dir: &Path, name: &str) {
    let (key, pem) = (format!("{name}-key.pem"), format!("{name}.pem"));
    let subject = format!("/CN={name}");
    let key_args = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let args = ["req", "-x509", "-nodes", "-days", "2", "-subj", &subject];
    openssl(
        dir,
        &[&args[..], &key_args, &["-keyout", &key, "-out", &pem]].concat(),
    );
}

/// A certificate `<file>.pem` for `name`, signed by an authority.
pub(crate) fn certificate(dir: &Path, authority: &str, file: &str, name: &str) {
    let (key, pem, request) = (
        format!("{file}-key.pem"),
        format!("{file}.pem"),
        format!("{file}.csr"),
    );
    let subject = format!("/CN={name}");
    let key_args = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    openssl(
        dir,
        &[
            &["req"][..],
            &key_args,
            &["-subj", &subject, "-keyout", &key, "-out", &request],
        ]
        .concat(),
    );
    fs::write(
        dir.join("ext"),
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
    )
    .expect("written");
    let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}-key.pem"));
    let args = [
        "x509",
        "-req",
        "-days",
        "2",
        "-CAcreateserial",
        "-extfile",
        "ext",
    ];
    openssl(
        dir,
        &[
            &args[..],
            &["-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-out", &pem],
        ]
        .concat(),
    );
}

/// The stock CLI over TLS, with the certificate `client`.
fn over_tls(engine: &Engine, dir: &Path, authority: &str, client: &str, args: &[&str]) -> Output {
    let path = |name: String| dir.join(name).display().to_string();
    let mut command = engine.netns().command(&docker_program());
    command
        .env("DOCKER_CONFIG", engine.dir().join("cli"))
        .env_remove("DOCKER_HOST")
        .args([
            "-H",
            ADDRESS,
            "--tlsverify",
            "--tlscacert",
            &path(format!("{authority}.pem")),
        ])
        .args([
            "--tlscert",
            &path(format!("{client}.pem")),
            "--tlskey",
            &path(format!("{client}-key.pem")),
        ])
        .args(args);
    Running::start(&mut command).finish()
}

const POLICY: &str = r#"{"rules": [
    {"users": ["root"], "allow": ["*"]},
    {"certificates": ["ci-*"], "deny": ["POST /containers/*/exec"]},
    {"certificates": ["ci-*"], "allow": ["read", "POST /containers/*", "DELETE /containers/*"], "containers": {}},
    {"certificates": ["watcher"], "allow": ["read"]}]}"#;

#[test]
fn certificates_decide_who_may_do_what_and_can_be_renewed() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    authority(dir, "ca");
    authority(dir, "ca2");
    certificate(dir, "ca", "server", "daemon");
    certificate(dir, "ca", "ci", "ci-7");
    certificate(dir, "ca", "watcher", "watcher");
    certificate(dir, "ca2", "stranger", "ci-8");
    let policy = dir.join("policy.json");
    fs::write(&policy, POLICY).expect("written");
    let path = |name: &str| dir.join(name).display().to_string();
    let engine = [
        "--tlsverify",
        "--host",
        ADDRESS,
        "--authorization-policy",
        &path("policy.json"),
    ]
    .into_iter()
    .chain([
        "--tlscacert",
        &path("ca.pem"),
        "--tlscert",
        &path("server.pem"),
        "--tlskey",
        &path("server-key.pem"),
    ])
    .fold(Engine::options(), |options, flag| options.flag(flag))
    .start();
    engine.load("busybox.tar");

    let ci = |args: &[&str]| over_tls(&engine, dir, "ca", "ci", args);
    let run = ci(&["run", "--rm", "--name", "pp", BUSYBOX, "echo", "hello"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "hello\n"), "{run:?}");
    let denied = |output: Output, what: &str| {
        let told = format!("authorization denied by policy {}", policy.display());
        assert!(
            output.code != 0 && output.stderr.contains(&told),
            "{output:?}"
        );
        assert!(output.stderr.contains(what), "{output:?}");
    };
    denied(
        ci(&["run", "--rm", "--privileged", BUSYBOX, "true"]),
        "privileged containers",
    );
    denied(
        ci(&["run", "--rm", "-v", "/etc:/e", BUSYBOX, "true"]),
        "a bind of /etc",
    );
    denied(ci(&["pull", "x/y"]), "no rule allows it");
    engine.docker_ok(&["run", "-d", "--name", "dd", BUSYBOX, "sleep", "1000"]);
    denied(ci(&["exec", "dd", "true"]), "rule 2 denies it");
    let watcher = |args: &[&str]| over_tls(&engine, dir, "ca", "watcher", args);
    assert!(watcher(&["ps"]).stdout.contains("dd"));
    denied(watcher(&["stop", "dd"]), "watcher");
    assert_eq!(
        engine.container_ids().len(),
        1,
        "what was denied left nothing"
    );

    // Certificates are renewed without a restart: new files count from the next connection on.
    assert_ne!(over_tls(&engine, dir, "ca", "stranger", &["ps"]).code, 0);
    certificate(dir, "ca2", "fresh", "daemon");
    for (from, to) in [
        ("fresh.pem", "server.pem"),
        ("fresh-key.pem", "server-key.pem"),
        ("ca2.pem", "ca.pem"),
    ] {
        fs::copy(dir.join(from), dir.join(to)).expect("copied");
    }
    let stranger = over_tls(&engine, dir, "ca2", "stranger", &["ps"]);
    assert!(stranger.stdout.contains("dd"), "{stranger:?}");
    assert_ne!(over_tls(&engine, dir, "ca2", "watcher", &["ps"]).code, 0);
}

#[test]
fn a_policy_that_is_wrong_stops_the_daemon() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("policy.json");
    fs::write(&file, r#"{"rules": [{"allow": ["*"]}]}"#).expect("written");
    let output = Command::new(wharf_e2e::engine::wharf_program())
        .args(["daemon", "--validate", "--authorization-policy"])
        .arg(&file)
        .output()
        .expect("wharf runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("rule 1: name who it is for"),
        "{said}"
    );
}

#[test]
fn a_plugin_is_asked_about_requests_and_answers() {
    let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let noted = asked.clone();
    let plugin = Plugin::start(
        Path::new(plugin::EVERYBODYS),
        "authz",
        move |method, question| {
            noted
                .lock()
                .expect("not poisoned")
                .push((method.to_owned(), question.clone()));
            let uri = question["RequestUri"].as_str().unwrap_or_default();
            match method {
                "/AuthZPlugin.AuthZReq" if uri.contains("/volumes/create") => {
                    json!({"Allow": false, "Msg": "no volumes"})
                }
                "/AuthZPlugin.AuthZReq" if uri.contains("/networks/prune") => {
                    json!({"Err": "cannot say"})
                }
                "/AuthZPlugin.AuthZRes" if uri.contains("/volumes") => {
                    json!({"Allow": false, "Msg": "none to see"})
                }
                _ => json!({"Allow": true}),
            }
        },
    );
    let engine = Engine::options()
        .flag("--authorization-plugin")
        .flag(plugin.name())
        .start();
    engine.load("busybox.tar");
    assert_eq!(
        engine.docker_ok(&["run", "--rm", BUSYBOX, "echo", "fine"]),
        "fine"
    );
    assert_eq!(
        engine.docker_ok(&["info", "--format", "{{.Plugins.Authorization}}"]),
        format!("[{}]", plugin.name())
    );
    let said = engine.docker(&["volume", "create", "v"]);
    let expected = format!(
        "Error response from daemon: authorization denied by plugin {}: no volumes\n",
        plugin.name()
    );
    assert_eq!((said.code, said.stderr.as_str()), (1, expected.as_str()));
    let api = engine.api();
    assert!(
        api.request("GET", "/volumes", None)
            .expect(403)
            .message()
            .contains("none to see")
    );
    let failed = api
        .request("POST", "/networks/prune", None)
        .expect(500)
        .message();
    assert_eq!(
        failed,
        format!("plugin {} failed with error: cannot say", plugin.name())
    );

    let asked = asked.lock().expect("not poisoned");
    let (_, create) = asked
        .iter()
        .find(|(method, q)| {
            method == "/AuthZPlugin.AuthZReq"
                && q["RequestUri"]
                    .as_str()
                    .is_some_and(|uri| uri.ends_with("/containers/create"))
        })
        .expect("it was asked about the container");
    assert_eq!(create["RequestMethod"], "POST");
    assert_eq!(create["RequestHeaders"]["Content-Type"], "application/json");
    assert!(
        create["RequestBody"]
            .as_str()
            .is_some_and(|body| body.len() > 100),
        "{create}"
    );
    let answer = asked
        .iter()
        .find(|(method, q)| method == "/AuthZPlugin.AuthZRes" && q["ResponseStatusCode"] == 201);
    let (_, answer) = answer.expect("it was asked about the answer");
    assert!(
        answer["ResponseBody"]
            .as_str()
            .is_some_and(|body| !body.is_empty()),
        "{answer}"
    );
}

#[test]
fn a_plugin_that_is_not_there_stops_the_daemon() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let output = Command::new(wharf_e2e::engine::wharf_program())
        .args([
            "daemon",
            "--authorization-plugin",
            "no-such-plugin",
            "--data-root",
            &path("data"),
        ])
        .args(["--exec-root", &path("exec"), "--pidfile", &path("pid")])
        .output()
        .expect("wharf runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("failed to validate authorization plugin"),
        "{said}"
    );
}
