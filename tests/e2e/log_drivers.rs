//! Log drivers besides json-file: what services get, and that `logs` works all the same.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind};

/// Our own only: Debian's dockerd has no extensions and another wording.
fn engine() -> Option<Engine> {
    (Kind::from_env() == Kind::Wharf).then(Engine::start)
}

/// Makes a socket in the daemon's network namespace.
fn inside<T: Send>(engine: &Engine, make: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let enter = || {
            let namespace = std::fs::File::open(engine.netns().path()).expect("the namespace");
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).expect("enter");
            make()
        };
        scope.spawn(enter).join().expect("a socket")
    })
}

fn run(engine: &Engine, driver: &str, options: &[&str], script: &str) -> String {
    let mut args = vec![
        "run",
        "--name",
        "ll",
        "--network",
        "none",
        "--log-driver",
        driver,
    ];
    for option in options {
        args.extend(["--log-opt", option]);
    }
    args.extend([BUSYBOX, "sh", "-c", script]);
    engine.docker_ok(&args);
    engine.inspect("ll", "{{.Id}}")
}

fn receive(socket: &UnixDatagram) -> String {
    let mut bytes = vec![0; 64 * 1024];
    socket.set_read_timeout(Some(LONG)).expect("a limit");
    let n = socket.recv(&mut bytes).expect("a datagram");
    String::from_utf8_lossy(&bytes[..n]).into_owned()
}

#[test]
fn local_logs_are_kept_and_read() {
    let Some(engine) = engine() else { return };
    let id = run(
        &engine,
        "local",
        &["max-size=1k", "max-file=2"],
        "seq 1 100",
    );
    assert!(engine.docker_ok(&["logs", "ll"]).ends_with("\n99\n100"));
    let directory = engine
        .data_root()
        .join("containers")
        .join(id)
        .join("local-logs");
    let files = std::fs::read_dir(directory).expect("the directory").count();
    assert_eq!(files, 2);
    assert_eq!(engine.inspect("ll", "{{.LogPath}}"), "");
}

#[test]
fn syslog_gets_lines_and_logs_still_reads_them() {
    let Some(engine) = engine() else { return };
    let path = engine.dir().join("syslog");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let address = format!("syslog-address=unixgram://{}", path.display());
    run(
        &engine,
        "syslog",
        &[
            &address,
            "tag={{.Name}}/{{.ImageName}}",
            "syslog-facility=local0",
            "syslog-format=rfc5424",
        ],
        "echo out; sleep 0.1; echo err >&2",
    );
    let (first, second) = (receive(&socket), receive(&socket));
    // local0 is 16: 16 * 8 + 6 and + 3.
    assert!(
        first.starts_with("<134>1 ") && first.ends_with(" - out\n"),
        "{first}"
    );
    assert!(first.contains(&format!(" ll/{BUSYBOX} ")), "{first}");
    assert!(
        second.starts_with("<131>1 ") && second.ends_with(" - err\n"),
        "{second}"
    );
    let output = engine.docker(&["logs", "ll"]);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn without_its_copy_a_log_cannot_be_read() {
    let Some(engine) = engine() else { return };
    let path = engine.dir().join("syslog");
    let _socket = UnixDatagram::bind(&path).expect("a socket");
    let address = format!("syslog-address=unixgram://{}", path.display());
    run(
        &engine,
        "syslog",
        &[&address, "cache-disabled=true"],
        "echo out",
    );
    let answer = engine.api().get("/containers/ll/logs?stdout=1");
    assert_eq!(
        (answer.status(), answer.message().as_str()),
        (501, "configured logging driver does not support reading")
    );
}

#[test]
fn syslog_over_tcp() {
    let Some(engine) = engine() else { return };
    let listener = inside(&engine, || {
        TcpListener::bind("127.0.0.1:5514").expect("bind")
    });
    let server = std::thread::spawn(move || {
        let mut text = String::new();
        listener
            .accept()
            .expect("accept")
            .0
            .read_to_string(&mut text)
            .expect("read");
        text
    });
    run(
        &engine,
        "syslog",
        &["syslog-address=tcp://127.0.0.1:5514"],
        "echo one; echo two",
    );
    let text = server.join().expect("server");
    let endings: Vec<_> = text
        .lines()
        .map(|line| line.rsplit_once(": ").expect("a head").1)
        .collect();
    assert_eq!(endings, ["one", "two"]);
}

#[test]
fn a_service_that_is_not_there_fails_the_start() {
    let Some(engine) = engine() else { return };
    for (driver, option, reason) in [
        (
            "syslog",
            "syslog-address=tcp://127.0.0.1:5999",
            "dial tcp 127.0.0.1:5999: connect: connection refused",
        ),
        (
            "fluentd",
            "fluentd-address=127.0.0.1:5999",
            "dial tcp 127.0.0.1:5999: connect: connection refused",
        ),
    ] {
        let id = engine.docker_ok(&[
            "create",
            "--log-driver",
            driver,
            "--log-opt",
            option,
            BUSYBOX,
            "true",
        ]);
        let answer = engine.api().post_empty(&format!("/containers/{id}/start"));
        assert_eq!(
            (answer.status(), answer.message()),
            (
                500,
                format!(
                    "failed to create task for container: failed to initialize logging driver: {reason}"
                )
            )
        );
    }
    if !Path::new("/run/systemd/journal/socket").exists() {
        let answer =
            engine.docker_fails(&["run", "--log-driver", "journald", BUSYBOX, "true"], 125);
        assert!(
            answer.contains("journald is not enabled on this host"),
            "{answer}"
        );
    }
}

#[test]
fn gelf_over_udp() {
    let Some(engine) = engine() else { return };
    let socket = inside(&engine, || UdpSocket::bind("127.0.0.1:5555").expect("bind"));
    let id = run(
        &engine,
        "gelf",
        &[
            "gelf-address=udp://127.0.0.1:5555",
            "gelf-compression-type=none",
            "env=SHLVL,PATH",
        ],
        "echo hello",
    );
    socket.set_read_timeout(Some(LONG)).expect("a limit");
    let mut bytes = vec![0; 64 * 1024];
    let n = socket.recv(&mut bytes).expect("a datagram");
    let message: Value = serde_json::from_slice(&bytes[..n]).expect("JSON");
    assert_eq!(
        (
            &message["short_message"],
            &message["_container_id"],
            &message["_container_name"],
            &message["level"]
        ),
        (&json!("hello"), &json!(id), &json!("ll"), &json!(6))
    );
    assert!(
        message["_PATH"]
            .as_str()
            .is_some_and(|path| path.contains("/bin"))
    );
}

#[test]
fn fluentd_connects_later_when_asked_to() {
    let Some(engine) = engine() else { return };
    let path = engine.dir().join("fluentd");
    let address = format!("fluentd-address=unix://{}", path.display());
    let id = engine.docker_ok(&[
        "run",
        "-d",
        "--log-driver",
        "fluentd",
        "--log-opt",
        &address,
        "--log-opt",
        "fluentd-async=true",
        "--log-opt",
        "fluentd-retry-wait=10ms",
        BUSYBOX,
        "sh",
        "-c",
        "while :; do echo tick; sleep 0.05; done",
    ]);
    wait_until("lines in the copy", LONG, || {
        engine.docker_ok(&["logs", &id]).contains("tick")
    });
    let listener = UnixListener::bind(&path).expect("bind");
    let (mut client, _) = listener.accept().expect("accept");
    client.set_read_timeout(Some(LONG)).expect("a limit");
    let mut bytes = vec![0; 4096];
    let n = client.read(&mut bytes).expect("read");
    let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
    assert!(
        text.contains("container_id") && text.contains(&id) && text.contains("tick"),
        "{text}"
    );
}

#[test]
fn a_blocking_log_lets_the_container_wait_and_a_non_blocking_one_does_not() {
    let Some(engine) = engine() else { return };
    let script = "i=0; while [ $i -lt 30000 ]; do echo $i-0123456789012345678901234567890123456789012345678901234567890123456789; i=$((i+1)); done; echo over >/over; sleep 1000";
    let start = |name: &str, mode: &str| {
        let path = engine.dir().join(name);
        let listener = UnixListener::bind(&path).expect("bind");
        let address = format!("syslog-address=unix://{}", path.display());
        let id = engine.docker_ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--log-driver",
            "syslog",
            "--log-opt",
            &address,
            "--log-opt",
            mode,
            "--log-opt",
            "cache-disabled=true",
            BUSYBOX,
            "sh",
            "-c",
            script,
        ]);
        // Accepted, not read.
        (id, listener.accept().expect("accept").0)
    };
    let (quick, _unread) = start("quick", "mode=non-blocking");
    let is_over = |id: &str| engine.docker(&["exec", id, "test", "-f", "/over"]).code == 0;
    wait_until("the end of the output", LONG, || is_over(&quick));
    let (slow, mut unread) = start("slow", "mode=blocking");
    let size = || {
        let io = engine.docker_ok(&["exec", &slow, "cat", "/proc/1/io"]);
        io.lines()
            .find(|line| line.starts_with("wchar"))
            .expect("a counter")
            .to_owned()
    };
    let mut last = String::new();
    wait_until("it to stand still", LONG, || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = size();
        std::mem::replace(&mut last, now.clone()) == now
    });
    assert!(!is_over(&slow));
    // It can be stopped all the same, and goes on when somebody reads.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        unread.read_to_end(&mut text).map(|_| text)
    });
    wait_until("the end of the output", LONG, || is_over(&slow));
    engine.docker_ok(&["rm", "-f", "slow"]);
    let text = reader.join().expect("reader").expect("read");
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 30000);
}

#[test]
fn a_killed_shipper_is_replaced() {
    let Some(engine) = engine() else { return };
    let path = engine.dir().join("syslog");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let address = format!("syslog-address=unixgram://{}", path.display());
    engine.docker_ok(&[
        "run",
        "-d",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        BUSYBOX,
        "sh",
        "-c",
        "while :; do echo tick; sleep 0.05; done",
    ]);
    let _ = receive(&socket);
    let shippers = || {
        let ours = engine.processes();
        let is_shipper = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("wharf-logship"))
        };
        ours.into_iter().filter(is_shipper).collect::<Vec<u32>>()
    };
    // A shipper that dies young is not replaced.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    let first = shippers();
    assert_eq!(first.len(), 1);
    wharf_e2e::engine::kill(first[0]);
    wait_until("another shipper", LONG, || {
        shippers().iter().any(|pid| *pid != first[0])
    });
    while !shippers().is_empty() && receive(&socket).is_empty() {}
    let _ = receive(&socket);
}

#[test]
fn logs_can_be_cleared() {
    let Some(engine) = engine() else { return };
    let id = engine.docker_ok(&[
        "run",
        "-d",
        "-i",
        "--name",
        "cc",
        "--log-opt",
        "max-size=1k",
        "--log-opt",
        "max-file=3",
        BUSYBOX,
        "sh",
        "-c",
        "seq 1 200; while read line; do echo $line; done",
    ]);
    wait_until("the output", LONG, || {
        engine.docker_ok(&["logs", "cc"]).ends_with("200")
    });
    let cleared = engine.wharf(&["logs", "--clear", "cc"]);
    assert_eq!(cleared.code, 0, "{}", cleared.stderr);
    assert_eq!(engine.docker_ok(&["logs", "cc"]), "");
    let attach = engine.docker_start(&["attach", "--no-stdin", "cc"]);
    let _ = engine.api().post_empty("/containers/cc/stop?t=0");
    drop(attach);
    assert_eq!(
        engine
            .api()
            .delete(&format!("/containers/{id}/logs"))
            .status(),
        204
    );
    engine.docker_ok(&["start", "cc"]);
    wait_until("the new output", LONG, || {
        engine.docker_ok(&["logs", "cc"]).ends_with("200")
    });
}

#[test]
fn the_daemons_default_driver_is_used_and_checked() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let engine = Engine::options()
        .flag("--log-driver=local")
        .flag("--log-opt=max-size=2m")
        .start();
    engine.load("busybox.tar");
    let id = engine.docker_ok(&["create", BUSYBOX, "true"]);
    assert_eq!(
        engine.inspect(&id, "{{json .HostConfig.LogConfig}}"),
        r#"{"Type":"local","Config":{"max-size":"2m"}}"#
    );
    assert_eq!(
        engine.docker_ok(&["info", "--format", "{{.LoggingDriver}}"]),
        "local"
    );
}

/// A service that speaks TLS, of a certificate that is its own authority.
#[test]
fn syslog_over_tls() {
    let Some(engine) = engine() else { return };
    let path = |name: &str| engine.dir().join(name).to_string_lossy().into_owned();
    let make = |name: &str| {
        let files = [&path(&format!("{name}.key")), &path(&format!("{name}.pem"))];
        let output = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args([
                "-subj",
                "/CN=syslog",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ])
            .args(["-keyout", files[0], "-out", files[1]])
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{output:?}");
    };
    make("service");
    make("other");
    let heard = std::fs::File::create(engine.dir().join("heard")).expect("a file");
    let mut server = engine
        .netns()
        .command(Path::new("openssl"))
        .args([
            "s_server",
            "-quiet",
            "-accept",
            "6514",
            "-cert",
            &path("service.pem"),
            "-key",
            &path("service.key"),
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(heard)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl runs");
    wait_until("the service to listen", LONG, || {
        inside(&engine, || {
            std::net::TcpStream::connect("127.0.0.1:6514").is_ok()
        })
    });
    let address = "syslog-address=tcp+tls://127.0.0.1:6514";
    let authority = |name: &str| format!("syslog-tls-ca-cert={}", path(name));
    run(
        &engine,
        "syslog",
        &[address, &authority("service.pem")],
        "echo in secret",
    );
    wait_until("the line", LONG, || {
        std::fs::read_to_string(path("heard")).is_ok_and(|text| text.contains("in secret"))
    });
    let wrong = authority("other.pem");
    let answer = engine.docker_fails(
        &[
            "run",
            "--log-driver",
            "syslog",
            "--log-opt",
            address,
            "--log-opt",
            &wrong,
            BUSYBOX,
            "true",
        ],
        125,
    );
    assert!(
        answer.contains("failed to initialize logging driver"),
        "{answer}"
    );
    let unchecked = [address, &wrong, "syslog-tls-skip-verify=true"];
    engine.docker_ok(&["rm", "ll"]);
    run(&engine, "syslog", &unchecked, "echo unchecked");
    wait_until("the second line", LONG, || {
        std::fs::read_to_string(path("heard")).is_ok_and(|text| text.contains("unchecked"))
    });
    server.kill().expect("our own child");
    server.wait().expect("its end");
}
