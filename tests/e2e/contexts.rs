//! Contexts, shared with the stock CLI, and the three ways to a daemon they name: a socket, TLS, ssh. Also what a terminal gets:
//! completions and the live view.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use wharf_e2e::cli::{Output, Running, docker_program};
use wharf_e2e::engine::wharf_program;
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::terminal::Terminal;
use wharf_e2e::{Engine, Kind};

use crate::authorization::{authority, certificate};

const ADDRESS: &str = "tcp://127.0.0.1:2376";

/// A CLI that knows the engine by its contexts alone.
fn by_context(engine: &Engine, program: &Path, args: &[&str]) -> Command {
    let mut command = engine.netns().command(program);
    for variable in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY"] {
        command.env_remove(variable);
    }
    command
        .env("DOCKER_CONFIG", engine.dir().join("cli"))
        .args(args);
    command
}

fn run(engine: &Engine, program: &Path, args: &[&str]) -> Output {
    Running::start(&mut by_context(engine, program, args)).finish()
}

fn ok(engine: &Engine, program: &Path, args: &[&str]) -> String {
    let output = run(engine, program, args);
    assert_eq!(output.code, 0, "{args:?}: {output:?}");
    output.stdout
}

fn ours() -> PathBuf {
    wharf_program()
}

#[test]
fn each_cli_uses_the_contexts_of_the_other() {
    let engine = Engine::options().kind(Kind::Wharf).start();
    let host = format!("host={}", engine.host());
    let id = engine.docker_ok(&["info", "--format", "{{.ID}}"]);
    let who = ["info", "--format", "{{.ID}}"];
    for (maker, user, name) in [
        (ours(), docker_program(), "by-us"),
        (docker_program(), ours(), "by-them"),
    ] {
        ok(
            &engine,
            &maker,
            &[
                "context",
                "create",
                name,
                "--docker",
                &host,
                "--description",
                "words",
            ],
        );
        let asked = [&["-c", name][..], &who].concat();
        assert_eq!(ok(&engine, &user, &asked).trim(), id);
        ok(&engine, &user, &["context", "use", name]);
        assert_eq!(ok(&engine, &maker, &["context", "show"]).trim(), name);
        assert_eq!(ok(&engine, &maker, &who).trim(), id);
        let exported = engine
            .dir()
            .join(format!("{name}.tar"))
            .display()
            .to_string();
        ok(&engine, &maker, &["context", "export", name, &exported]);
        ok(
            &engine,
            &user,
            &["context", "import", &format!("{name}-2"), &exported],
        );
        let described = ["context", "ls", "--format", "{{.Name}} {{.Description}}"];
        assert!(ok(&engine, &maker, &described).contains(&format!("{name}-2 words\n")));
    }
    // A host that is named, by flag or environment, wins over the context in use; both together make no sense.
    let lost = run(&engine, &ours(), &["-H", "unix:///nowhere", "ps"]);
    assert!(lost.stderr.contains("unix:///nowhere"), "{lost:?}");
    let mut command = by_context(&engine, &ours(), &["context", "use", "by-us"]);
    let warned = Running::start(command.env("DOCKER_HOST", "unix:///nowhere")).finish();
    assert!(
        warned
            .stderr
            .contains("Warning: DOCKER_HOST environment variable overrides the active context")
    );
    let mut command = by_context(&engine, &ours(), &who);
    let chosen = Running::start(command.env("DOCKER_CONTEXT", "by-them-2")).finish();
    assert_eq!(chosen.stdout.trim(), id, "{chosen:?}");
    let both = run(&engine, &ours(), &["-c", "by-us", "-H", "unix:///x", "ps"]);
    assert_eq!(
        both.stderr,
        "conflicting options: cannot specify both --host and --context\n"
    );
}

#[test]
fn tls_with_certificates_of_files_and_contexts() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    authority(dir, "ca");
    authority(dir, "other");
    certificate(dir, "ca", "server", "daemon");
    certificate(dir, "ca", "cert", "me");
    let path = |name: &str| dir.join(name).display().to_string();
    let (ca, cert, key) = (path("ca.pem"), path("cert.pem"), path("cert-key.pem"));
    let files = ["--tlsverify", "--tlscacert", &ca];
    let engine = files
        .iter()
        .copied()
        .chain([
            "--host",
            ADDRESS,
            "--tlscert",
            &path("server.pem"),
            "--tlskey",
            &path("server-key.pem"),
        ])
        .fold(
            Engine::options().kind(Kind::Wharf),
            wharf_e2e::engine::Options::flag,
        )
        .start();
    engine.load("busybox.tar");
    let mine = ["--tlscert", &cert, "--tlskey", &key];
    let flags = [&["-H", ADDRESS][..], &files, &mine].concat();

    // Input, output and exit code through a connection that is taken over and half closed.
    let cat = [
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "cat; exit 3",
    ];
    let mut running = Running::start(&mut by_context(
        &engine,
        &ours(),
        &[&flags[..], &cat].concat(),
    ));
    running.write(&vec![b'x'; 300_000]);
    let output = running.finish();
    assert_eq!(
        (output.code, output.stdout.len()),
        (3, 300_000),
        "{}",
        output.stderr
    );

    let docker = format!("host={ADDRESS},ca={ca},cert={cert},key={key}");
    ok(
        &engine,
        &ours(),
        &["context", "create", "secure", "--docker", &docker],
    );
    for program in [ours(), docker_program()] {
        assert!(ok(&engine, &program, &["-c", "secure", "images"]).contains("busybox"));
    }
    let listed = ok(
        &engine,
        &ours(),
        &[
            "context",
            "inspect",
            "secure",
            "-f",
            "{{json .TLSMaterial}}",
        ],
    );
    assert_eq!(
        listed,
        "{\"docker\":[\"ca.pem\",\"cert.pem\",\"key.pem\"]}\n"
    );

    // The wrong authority, no certificate of one's own, and no TLS at all.
    let strange = [
        "-H",
        ADDRESS,
        "--tlsverify",
        "--tlscacert",
        &path("other.pem"),
        "ps",
    ];
    let refused = run(&engine, &ours(), &strange);
    assert!(
        refused.code == 1 && refused.stderr.contains("error during connect: tls: "),
        "{refused:?}"
    );
    let nobody = run(
        &engine,
        &ours(),
        &[&["-H", ADDRESS][..], &files, &["ps"]].concat(),
    );
    assert!(
        nobody.code == 1 && nobody.stderr.contains("tls: "),
        "{nobody:?}"
    );
    let missing = run(
        &engine,
        &ours(),
        &["--tlsverify", "--tlscacert", "/nowhere/ca.pem", "ps"],
    );
    assert!(
        missing
            .stderr
            .contains("open /nowhere/ca.pem: no such file or directory"),
        "{missing:?}"
    );
}

#[test]
fn ssh_runs_a_program_over_there() {
    let engine = Engine::options().kind(Kind::Wharf).start();
    engine.load("busybox.tar");
    // A machine where `docker` is ours, and an `ssh` that goes no further than this one.
    let bin = engine.dir().join("bin");
    fs::create_dir_all(&bin).expect("a directory");
    let program = fs::canonicalize(ours()).expect("it is there");
    symlink(&program, bin.join("docker")).expect("a name");
    let log = engine.dir().join("ssh.log");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >> {}\ncase \"$*\" in *broken*) echo 'no route' >&2; exit 255;; esac\n\
         unset DOCKER_HOST; export PATH={}:/usr/bin:/bin; while [ \"$1\" != -- ]; do shift; done; shift 2; exec sh -c \"$*\"\n",
        log.display(),
        bin.display()
    );
    let ssh = bin.join("ssh");
    fs::write(&ssh, script).expect("written");
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).expect("it may run");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
    let host = engine.host();
    let url = format!("ssh://me@there:2222{}", host.trim_start_matches("unix://"));
    let stock = std::process::Command::new("sh")
        .args([
            "-c",
            "command -v \"$0\"",
            &docker_program().display().to_string(),
        ])
        .output()
        .expect("sh runs");
    let stock = PathBuf::from(String::from_utf8_lossy(&stock.stdout).trim().to_owned());
    for program in [ours(), stock] {
        let cat = [
            "-H",
            &url,
            "run",
            "--rm",
            "-i",
            "--network",
            "none",
            BUSYBOX,
            "cat",
        ];
        let mut running = Running::start(by_context(&engine, &program, &cat).env("PATH", &path));
        running.write(b"through ssh\n");
        let output = running.finish();
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (0, "through ssh\n"),
            "{program:?}: {output:?}"
        );
    }
    let words = fs::read_to_string(&log).expect("ssh was called");
    assert!(
        words.contains("-o ConnectTimeout=30 -T -l me -p 2222 -- there docker --host unix://"),
        "{words}"
    );
    let create = [
        "context",
        "create",
        "far",
        "--docker",
        &format!("host={url}"),
    ];
    ok(&engine, &ours(), &create);
    let mut far = by_context(
        &engine,
        &ours(),
        &["-c", "far", "images", "--format", "{{.Repository}}"],
    );
    let far = Running::start(far.env("PATH", &path)).finish();
    assert!(far.stdout.contains("busybox"), "{far:?}");
    let mut broken = by_context(&engine, &ours(), &["-H", "ssh://broken", "ps"]);
    let broken = Running::start(broken.env("PATH", &path)).finish();
    assert!(
        broken.code == 1
            && broken.stderr.contains("exit status 255")
            && broken.stderr.contains("no route"),
        "{broken:?}"
    );
}

#[test]
fn a_shell_completes_names_of_containers_and_flags() {
    let engine = Engine::options().kind(Kind::Wharf).start();
    engine.load("busybox.tar");
    engine.run_detached(&["--name", "runs", "--network", "none"], &["sleep", "1000"]);
    engine.docker_ok(&["create", "--name", "rests", BUSYBOX, "true"]);
    for (line, expected) in [
        ("wharf stop r", "runs"),
        ("wharf start r", "rests"),
        ("wharf rm -f r", "rests runs"),
        ("wharf conta", "container"),
        ("wharf run --netw", "--network --network-alias"),
        ("wharf run --network=no", "none"),
        ("wharf network connect br", "bridge"),
    ] {
        let program = fs::canonicalize(ours()).expect("it is there");
        let script = format!(
            "wharf() {{ '{}' \"$@\"; }}; source <(wharf completion bash); COMP_LINE='{line}' COMP_POINT={}; _wharf; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\" | sort | paste -sd' '",
            program.display(),
            line.len()
        );
        let mut command = Command::new("bash");
        command
            .args(["--norc", "-c", &script])
            .env("DOCKER_HOST", engine.host());
        let output = Running::start(&mut command).finish();
        assert_eq!(output.stdout.trim(), expected, "{line}: {output:?}");
    }
    let manual = engine.dir().join("man");
    ok(&engine, &ours(), &["man", &manual.display().to_string()]);
    let page = fs::read_to_string(manual.join("wharf-run.1")).expect("a page");
    assert!(page.contains("publish"));
    engine.docker_ok(&["rm", "-f", "runs", "rests"]);
}

#[test]
fn top_without_a_container_shows_all_of_them() {
    let engine = Engine::options().kind(Kind::Wharf).start();
    engine.load("busybox.tar");
    engine.run_detached(
        &[
            "--name",
            "busy",
            "--network",
            "none",
            "--stop-signal",
            "KILL",
        ],
        &["sleep", "1000"],
    );
    let piped = engine.wharf(&["top"]);
    assert!(
        piped.code == 1 && piped.stderr.contains("wharf stats --no-stream"),
        "{piped:?}"
    );
    let mut screen = Terminal::run(&engine.wharf_command(&["top"]));
    screen.wait_for("busy");
    screen.wait_for("1 running");
    screen.write("q");
    let (code, seen) = screen.finish();
    assert_eq!(code, 0, "{seen}");
    // The screen that was there before is back.
    assert!(seen.trim_end().ends_with("\u{1b}[?1049l"), "{seen:?}");
    engine.docker_ok(&["rm", "-f", "busy"]);
}
