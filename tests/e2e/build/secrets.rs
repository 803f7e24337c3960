//! Secrets, agents and entitlements: what a step may have, and what must not stay behind.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use wharf_e2e::Engine;
use wharf_e2e::images::DEBIAN;

use super::{cat, directory, is_below, wharf_build, wharf_build_fails};

/// Looked for in everything that a daemon writes; built so that it is in no file of the test.
fn secret() -> String {
    ["s3cr3t", "value", "nobody", "may", "keep"].join("-")
}

#[test]
fn secrets_stay_nowhere() {
    let engine = Engine::options().flag("--debug").start();
    if engine.is_reference() {
        return;
    }
    engine.load("busybox.tar");
    let file = "FROM busybox\n\
                RUN --mount=type=secret,id=file wc -c < /run/secrets/file > /size\n\
                RUN --mount=type=secret,id=file,env=VAR,target=/t test -n \"$VAR\" && test \"$VAR\" = \"$(cat /t)\"\n\
                RUN --mount=type=secret,id=env,env=FROM_ENV echo ${#FROM_ENV} > /length\n";
    let dir = directory(&engine, "context", &[("Dockerfile", file)]);
    let kept = engine
        .dir()
        .parent()
        .expect("a parent")
        .join(format!("secret-{}", std::process::id()));
    std::fs::write(&kept, secret()).expect("a file");
    let source = format!("id=file,src={}", kept.display());
    let mut command = engine.wharf_command(&[
        "build",
        "--progress",
        "plain",
        "--rm=false",
        "--secret",
        &source,
        "--secret",
        "id=env,env=GIVEN",
        "-t",
        "with",
        "--cache-to",
        &format!("type=local,dest={}", engine.dir().join("cache").display()),
        "--metadata-file",
        &engine.dir().join("metadata").display().to_string(),
        &dir,
    ]);
    let output = wharf_e2e::cli::Running::start(command.env("GIVEN", secret())).finish();
    std::fs::remove_file(&kept).expect("it is there");
    assert_eq!(output.code, 0, "{}", output.stderr);
    let length = secret().len().to_string();
    assert_eq!(cat(&engine, "with", "/size"), length);
    assert_eq!(cat(&engine, "with", "/length"), length);
    let said = output.stdout
        + &output.stderr
        + &engine.docker_ok(&["history", "--no-trunc", "with"])
        + &engine.log();
    assert!(!said.contains(&secret()), "{said}");
    for id in engine.container_ids() {
        let told = engine.docker_ok(&["inspect", &id]);
        assert!(!told.contains(&secret()), "{told}");
    }
    // Layers, database, logs, caches, and what the build wrote.
    assert_eq!(is_below(engine.dir(), secret().as_bytes()), None);
    assert_eq!(is_below(engine.data_root(), secret().as_bytes()), None);
    engine.remove_all();
    let missing = file.replace("id=file wc", "id=file,required wc");
    let dir = directory(&engine, "missing", &[("Dockerfile", &missing)]);
    let said = wharf_build_fails(&engine, &["--no-cache", &dir]);
    assert!(said.contains("secret file: not found"), "{said}");
}

/// An agent that answers every request with these bytes.
const ANSWER: &[u8] = b"\0\0\0\x05\x0c\0\0\0\0";

#[test]
fn steps_speak_to_the_agent_of_the_client() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    engine.load("debian.tar");
    let socket = engine.dir().join("agent");
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 5];
                while stream.read_exact(&mut request).is_ok() {
                    if stream.write_all(ANSWER).is_err() {
                        break;
                    }
                }
            });
        }
    });
    // Two conversations in a row and two at once; what comes back is counted.
    let script = r#"use IO::Socket::UNIX; sub ask { my $s = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die; return $s }
sub talk { my $s = shift; syswrite $s, "\0\0\0\1\x0b"; my $got = ""; while (length $got < 9) { sysread($s, $got, 9, length $got) or die }; print unpack("H*", $got), "\n" }
talk(ask()); talk(ask()); my ($a, $b) = (ask(), ask()); talk($b); talk($a); talk($b);
"#;
    let file = format!(
        "FROM {DEBIAN}\nCOPY talk.pl /\nRUN --mount=type=ssh,required perl /talk.pl > /answers\n\
         RUN --mount=type=ssh,id=other,target=/agent,mode=0600 test ! -e /agent\nRUN echo \"[$SSH_AUTH_SOCK]\" > /after\n"
    );
    let dir = directory(
        &engine,
        "context",
        &[("Dockerfile", &file), ("talk.pl", script)],
    );
    let said = wharf_build_fails(&engine, &[&dir]);
    assert!(
        said.contains("no SSH key \"default\" forwarded from the client"),
        "{said}"
    );
    let agent = format!("default={}", socket.display());
    let _ = wharf_build(&engine, &["--ssh", &agent, "-t", "spoken", &dir]);
    assert_eq!(
        cat(&engine, "spoken", "/answers"),
        ["000000050c00000000"; 5].join("\n")
    );
    assert_eq!(cat(&engine, "spoken", "/after"), "[]");
}

#[test]
fn privileges_are_only_given_to_those_who_ask() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let file = "FROM busybox\nRUN --security=insecure grep CapEff /proc/self/status > /insecure\n\
                RUN --network=host ls /sys/class/net > /host\nRUN grep CapEff /proc/self/status > /usual\n";
    let dir = directory(&engine, "context", &[("Dockerfile", file)]);
    let said = wharf_build_fails(&engine, &[&dir]);
    assert!(said.contains("security.insecure is not allowed"), "{said}");
    let said = wharf_build_fails(&engine, &["--allow", "security.insecure", &dir]);
    assert!(said.contains("network.host is not allowed"), "{said}");
    let allowed = ["--allow", "security.insecure", "--allow", "network.host"];
    let _ = wharf_build(&engine, &[&allowed[..], &["-t", "allowed", &dir]].concat());
    let capabilities = |path: &str| {
        let line = cat(&engine, "allowed", path);
        u64::from_str_radix(line.split_whitespace().nth(1).expect("a number"), 16)
            .expect("a number")
    };
    let (all, usual) = (capabilities("/insecure"), capabilities("/usual"));
    assert!(
        all & (1 << 21) != 0 && usual & (1 << 21) == 0,
        "{all:x} {usual:x}"
    );
    assert!(cat(&engine, "allowed", "/host").contains("docker0"));
    let file = engine.dir().join("daemon.json");
    std::fs::write(
        &file,
        r#"{"builder": {"entitlements": {"security-insecure": false}}}"#,
    )
    .expect("a file");
    let strict = Engine::options()
        .flag(&format!("--config-file={}", file.display()))
        .start();
    strict.load("busybox.tar");
    let said = wharf_build_fails(&strict, &[&allowed[..], &[dir.as_str()]].concat());
    assert!(
        said.contains("not allowed by build daemon configuration"),
        "{said}"
    );
}
