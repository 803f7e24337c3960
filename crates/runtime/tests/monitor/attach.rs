//! Clients: frames, input, detaching, terminals, slow and dying ones.

use std::os::fd::AsFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wharf_runtime::client::{AttachRequest, LogPlan, MonitorEvent, Target};

use crate::fixture::{Fixture, attach_all, err, exec, frames, out};
use crate::{Test, socket_pair};

pub const TESTS: &[(&str, Test)] = &[
    (
        "streams_arrive_framed_and_the_connection_ends_with_the_container",
        |f| Box::pin(framed(f)),
    ),
    ("the_end_of_input_reaches_the_program", |f| {
        Box::pin(stdin_end(f))
    }),
    ("early_input_and_a_megabyte_more_go_through_cat", |f| {
        Box::pin(much_input(f))
    }),
    ("input_without_stdin_once_ends_the_attachment_only", |f| {
        Box::pin(stdin_kept(f))
    }),
    ("several_clients_see_the_same", |f| Box::pin(several(f))),
    ("a_slow_client_loses_nothing", |f| Box::pin(slow(f))),
    ("a_dead_client_holds_up_nobody", |f| Box::pin(dead(f))),
    ("a_client_that_hangs_up_ends_the_input", |f| {
        Box::pin(hang_up(f))
    }),
    ("detach_keys_end_the_attachment_of_a_terminal", |f| {
        Box::pin(detach(f))
    }),
    ("a_terminal_can_be_resized", |f| Box::pin(resize(f))),
    ("an_exec_has_its_own_client", |f| Box::pin(exec_client(f))),
    (
        "the_end_of_an_exec_is_seen_after_the_daemon_noted_it",
        |f| Box::pin(exec_recorded(f)),
    ),
    ("an_attached_client_survives_the_daemon", |f| {
        Box::pin(daemon_gone(f))
    }),
    ("a_client_gets_only_the_streams_it_asked_for", |f| {
        Box::pin(one_stream(f))
    }),
];

fn output_only() -> AttachRequest {
    AttachRequest {
        stdin: false,
        ..attach_all()
    }
}

async fn framed(f: Fixture) {
    let (mut client, socket) = socket_pair();
    let request = f.request("a", "echo to out; echo to err >&2; exit 3");
    let mut container = f.run(request, vec![(output_only(), socket)]).await;
    assert_eq!(frames(&mut client).await, ["to out\n", "to err\n"]);
    assert_eq!(container.exit().await.code, 3);
    let mut log = container.log();
    log.sort();
    assert_eq!(log, [err("to err\n"), out("to out\n")]);
}

async fn stdin_end(f: Fixture) {
    let (mut client, socket) = socket_pair();
    let mut request = f.request("a", "cat; echo over");
    (request.open_stdin, request.stdin_once) = (true, true);
    let mut container = f.run(request, vec![(attach_all(), socket)]).await;
    client.write_all(b"hello\n").await.expect("write");
    client.shutdown().await.expect("half-close");
    assert_eq!(frames(&mut client).await, ["hello\nover\n", ""]);
    assert_eq!(container.exit().await.code, 0);
}

async fn much_input(f: Fixture) {
    let (mut client, socket) = socket_pair();
    let mut request = f.request("a", "cat");
    (request.open_stdin, request.stdin_once) = (true, true);
    let attach = AttachRequest {
        early_input: b"early ".to_vec(),
        ..attach_all()
    };
    let mut container = f.run(request, vec![(attach, socket)]).await;
    let text = "0123456789abcde\n".repeat(65_536);
    let (mut read, mut write) = client.split();
    let send = async {
        write.write_all(text.as_bytes()).await.expect("write");
        write.shutdown().await.expect("half-close");
    };
    let mut bytes = Vec::new();
    let (_, received) = tokio::join!(send, read.read_to_end(&mut bytes));
    received.expect("read");
    assert_eq!(unframed(&bytes), format!("early {text}"));
    assert_eq!(container.exit().await.code, 0);
}

fn unframed(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let len = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        text.extend_from_slice(&rest[..len]);
        bytes = &rest[len..];
    }
    String::from_utf8(text).expect("text")
}

async fn stdin_kept(f: Fixture) {
    let mut request = f.request("a", "read a; echo got $a; read b; echo got $b");
    request.open_stdin = true;
    let mut container = f.run(request, vec![]).await;
    for word in ["one", "two"] {
        let (mut client, socket) = socket_pair();
        container
            .monitor
            .attach(
                AttachRequest {
                    stdout: false,
                    stderr: false,
                    ..attach_all()
                },
                socket,
            )
            .await
            .expect("attach");
        client
            .write_all(format!("{word}\n").as_bytes())
            .await
            .expect("write");
        client.shutdown().await.expect("half-close");
        assert_eq!(frames(&mut client).await, ["", ""]);
        container.logged(&format!("got {word}")).await;
    }
    assert_eq!(container.exit().await.code, 0);
}

async fn several(f: Fixture) {
    let mut request = f.request("a", "read x; seq 1000; echo end >&2");
    request.open_stdin = true;
    let (mut first, socket) = socket_pair();
    let mut container = f.run(request, vec![(attach_all(), socket)]).await;
    let (mut second, socket) = socket_pair();
    container
        .monitor
        .attach(output_only(), socket)
        .await
        .expect("attach");
    first.write_all(b"go\n").await.expect("write");
    let (one, two) = tokio::join!(frames(&mut first), frames(&mut second));
    assert_eq!(one, two);
    assert_eq!(
        one[0],
        (1..=1000).map(|n| format!("{n}\n")).collect::<String>()
    );
    assert_eq!(one[1], "end\n");
    container.exit().await;
}

async fn slow(f: Fixture) {
    const LINES: usize = 1_000_000;
    for raw in [false, true] {
        let (mut client, socket) = socket_pair();
        let mut request = f.request("a", &format!("seq {LINES} | cat; echo end"));
        request.log = LogPlan::None;
        let attach = AttachRequest {
            raw,
            ..output_only()
        };
        let mut container = f.run(request, vec![(attach, socket)]).await;
        let (mut buffer, mut bytes) = (vec![0; 5000], Vec::new());
        while let Ok(n @ 1..) = client.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..n]);
            if bytes.len() % 7 == 0 {
                tokio::time::sleep(std::time::Duration::from_micros(50)).await;
            }
        }
        let text = if raw {
            String::from_utf8(bytes).expect("text")
        } else {
            unframed(&bytes)
        };
        let mut expected: String = (1..=LINES).map(|n| format!("{n}\n")).collect();
        expected.push_str("end\n");
        assert!(
            text == expected,
            "{} bytes instead of {}",
            text.len(),
            expected.len()
        );
        assert_eq!(container.exit().await.code, 0);
    }
}

async fn dead(f: Fixture) {
    let (client, socket) = socket_pair();
    let (mut healthy, second) = socket_pair();
    let request = f.request("a", "yes 0123456789abcde | head -n 500000");
    let mut container = f
        .run(
            request,
            vec![(output_only(), socket), (output_only(), second)],
        )
        .await;
    drop(client);
    assert_eq!(frames(&mut healthy).await[0].len(), 500_000 * 16);
    assert_eq!(container.exit().await.code, 0);
    assert_eq!(container.log().len(), 500_000);
}

async fn hang_up(f: Fixture) {
    let (mut client, socket) = socket_pair();
    let mut request = f.request("a", "cat > /dev/null; echo input over");
    (request.open_stdin, request.stdin_once) = (true, true);
    let mut container = f.run(request, vec![(attach_all(), socket)]).await;
    client.write_all(b"last words").await.expect("write");
    drop(client);
    assert_eq!(container.exit().await.code, 0);
    assert_eq!(container.log(), [out("input over\n")]);
}

async fn detach(f: Fixture) {
    let (mut client, socket) = socket_pair();
    let mut request = f.request(
        "a",
        "stty -echo; echo ready; read x; echo got $x; read y; echo then $y",
    );
    (request.tty, request.open_stdin, request.stdin_once) = (true, true, true);
    let attach = AttachRequest {
        raw: true,
        detach_keys: vec![16, 17],
        ..attach_all()
    };
    let mut container = f.run(request, vec![(attach.clone(), socket)]).await;
    container.logged("ready").await;
    client.write_all(b"first\n").await.expect("write");
    container.logged("got first").await;
    client.write_all(&[16]).await.expect("write");
    client.write_all(&[17]).await.expect("write");
    assert!(matches!(
        container.events.recv().await,
        Some(MonitorEvent::Detached { exec_id: None })
    ));
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.expect("read");
    assert!(seen.ends_with("got first\r\n"), "{seen:?}");
    let (mut again, socket) = socket_pair();
    container
        .monitor
        .attach(attach, socket)
        .await
        .expect("attach");
    again.write_all(b"second\n").await.expect("write");
    let mut seen = String::new();
    again.read_to_string(&mut seen).await.expect("read");
    assert_eq!(seen, "then second\r\n");
    assert_eq!(container.exit().await.code, 0);
}

async fn resize(f: Fixture) {
    let mut request = f.request("a", "echo ready; read x; stty size");
    (request.tty, request.open_stdin, request.console_size) = (true, true, (24, 80));
    let mut container = f.run(request, vec![]).await;
    container.logged("ready").await;
    container
        .monitor
        .resize(Target::Init, 33, 77)
        .await
        .expect("resize");
    let (mut client, socket) = socket_pair();
    container
        .monitor
        .attach(
            AttachRequest {
                raw: true,
                ..attach_all()
            },
            socket,
        )
        .await
        .expect("attach");
    client.write_all(b"\n").await.expect("write");
    container.exit().await;
    assert_eq!(container.log().last().expect("a line"), &out("33 77\r\n"));
}

async fn exec_client(f: Fixture) {
    let mut container = f
        .run(f.request("a", "while :; do sleep 0.01; done"), vec![])
        .await;
    let (mut client, socket) = socket_pair();
    let request = exec("e", "cat; echo done >&2; exit 12");
    container
        .monitor
        .exec(request, Some((attach_all(), socket)))
        .await
        .expect("exec");
    client.write_all(b"into exec").await.expect("write");
    client.shutdown().await.expect("half-close");
    assert_eq!(frames(&mut client).await, ["into exec", "done\n"]);
    match container.events.recv().await.expect("event") {
        MonitorEvent::ExecExited { exec_id, code } => {
            assert_eq!((exec_id.as_str(), code), ("e", 12))
        }
        other => panic!("{other:?}"),
    }
    container
        .monitor
        .signal(Target::Init, 9)
        .await
        .expect("kill");
    container.exit().await;
}

async fn exec_recorded(f: Fixture) {
    let mut container = f
        .run(f.request("a", "while :; do sleep 0.01; done"), vec![])
        .await;
    let (mut client, socket) = socket_pair();
    let begin = std::time::Instant::now();
    container
        .monitor
        .exec(exec("e", "exit 0"), Some((attach_all(), socket)))
        .await
        .expect("exec");
    assert!(matches!(
        container.events.recv().await,
        Some(MonitorEvent::ExecExited { .. })
    ));
    let ended = begin.elapsed();
    let early = std::io::Error::from(std::io::ErrorKind::WouldBlock).kind();
    assert_eq!(
        client.try_read(&mut [0]).expect_err("still open").kind(),
        early
    );
    container
        .monitor
        .exec_recorded("e".into())
        .await
        .expect("told");
    assert_eq!(client.read(&mut [0]).await.expect("end"), 0);
    assert!(begin.elapsed() < ended + std::time::Duration::from_millis(200));
    container
        .monitor
        .signal(Target::Init, 9)
        .await
        .expect("kill");
    container.exit().await;
}

async fn daemon_gone(f: Fixture) {
    let (mut client, socket) = socket_pair();
    let mut request = f.request("a", "cat; exit 5");
    (request.open_stdin, request.stdin_once) = (true, true);
    let container = f.run(request, vec![(attach_all(), socket)]).await;
    let dir = container.dir.clone();
    drop((container, f.spawner));
    client.write_all(b"still here").await.expect("write");
    client.shutdown().await.expect("half-close");
    assert_eq!(frames(&mut client).await, ["still here", ""]);
    let status = wharf_runtime::monitor::read_record(&dir)
        .expect("readable")
        .expect("a record");
    assert_eq!(status.code, 5);
}

async fn one_stream(f: Fixture) {
    let (mut client, socket) = socket_pair();
    let attach = AttachRequest {
        stdin: false,
        stdout: false,
        ..attach_all()
    };
    let mut container = f
        .run(
            f.request("a", "echo out; echo err >&2"),
            vec![(attach, socket)],
        )
        .await;
    assert_eq!(frames(&mut client).await, ["", "err\n"]);
    assert!(client.as_fd().try_clone_to_owned().is_ok());
    container.exit().await;
}
