//! Real containers under a real monitor.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wharf_runtime::client::{AttachRequest, ExecRequest, MonitorEvent, Target};
use wharf_runtime::plan::{ExecOptions, plan_exec};

use crate::bed::Bed;
use crate::fixture::{Container, Fixture, attach_all, frames, out};
use crate::{Test, socket_pair};

pub const TESTS: &[(&str, Test)] = &[
    ("a_container_runs_and_leaves_nothing_behind", |f| {
        Box::pin(runs(f))
    }),
    ("init_takes_everything_in_its_pid_namespace_along", |f| {
        Box::pin(takes_along(f))
    }),
    ("without_a_pid_namespace_leftovers_are_killed", |f| {
        Box::pin(host_pid(f))
    }),
    ("a_container_starts_with_default_signals", |f| {
        Box::pin(signals(f))
    }),
    ("a_terminal_of_the_containers_own", |f| {
        Box::pin(terminal(f))
    }),
    ("a_terminal_may_be_closed_and_opened_again", |f| {
        Box::pin(reopened(f))
    }),
    ("an_exec_joins_the_container", |f| Box::pin(exec_joins(f))),
    ("execs_end_with_their_container", |f| Box::pin(execs_end(f))),
    ("memory_exhausted_is_told", |f| Box::pin(out_of_memory(f))),
    ("a_failed_launch_leaves_nothing_behind", |f| {
        Box::pin(failed_launch(f))
    }),
    ("fifty_containers_at_once", |f| Box::pin(fifty(f))),
];

async fn start(
    f: &Fixture,
    bed: &Bed,
    change: impl FnOnce(&mut wharf_runtime::client::SpawnRequest),
) -> Container {
    let mut request = f.request(&bed.id, "");
    request.plan = bed.plan();
    change(&mut request);
    f.run(request, vec![]).await
}

fn assert_gone(bed: &Bed) {
    for dir in bed.cgroup_dirs() {
        assert!(!dir.exists(), "{}", dir.display());
    }
}

fn exec_request(bed: &Bed, id: &str, args: &[&str]) -> ExecRequest {
    let options = ExecOptions {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..ExecOptions::default()
    };
    ExecRequest {
        exec_id: id.into(),
        plan: plan_exec(&bed.plan(), options, &bed.host).expect("plannable"),
        tty: false,
        open_stdin: true,
        console_size: (0, 0),
    }
}

async fn runs(f: Fixture) {
    let bed = Bed::new(&["sh", "-c", "echo $$ $(hostname); exit 3"]);
    let mut container = start(&f, &bed, |_| {}).await;
    assert_eq!(container.exit().await.code, 3);
    assert_eq!(container.log(), [out("1 testhost\n")]);
    assert_gone(&bed);
    assert!(!container.dir.join("monitor.sock").exists());
}

async fn takes_along(f: Fixture) {
    let bed = Bed::new(&[
        "sh",
        "-c",
        "sleep 1000 & sh -c 'sleep 1000' & echo up; exit 4",
    ]);
    let begin = std::time::Instant::now();
    let mut container = start(&f, &bed, |_| {}).await;
    assert_eq!(container.exit().await.code, 4);
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(container.log(), [out("up\n")]);
    assert_gone(&bed);
}

async fn host_pid(f: Fixture) {
    let mut bed = Bed::new(&["sh", "-c", "sleep 1000 & echo up; exit 5"]);
    bed.spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "ipc"}, {"type": "cgroup"}]);
    let begin = std::time::Instant::now();
    let mut container = start(&f, &bed, |_| {}).await;
    assert_eq!(container.exit().await.code, 5);
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    assert_gone(&bed);
}

async fn signals(f: Fixture) {
    let bed = Bed::new(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    let mut container = start(&f, &bed, |_| {}).await;
    container.exit().await;
    assert_eq!(
        container.log(),
        ["SigBlk", "SigIgn"].map(|name| out(&format!("{name}:\t{:016x}\n", 0)))
    );
}

async fn terminal(f: Fixture) {
    let bed = Bed::new(&["sh", "-c", "tty; stty size; read x; stty size; echo got $x"]);
    let mut container = start(&f, &bed, |request| {
        (request.tty, request.open_stdin, request.console_size) = (true, true, (24, 80));
    })
    .await;
    container.logged("24 80").await;
    container
        .monitor
        .resize(Target::Init, 11, 22)
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
    client.write_all(b"word\r").await.expect("write");
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.expect("read");
    assert!(seen.ends_with("11 22\r\ngot word\r\n"), "{seen:?}");
    assert_eq!(container.exit().await.code, 0);
    assert!(
        container.log()[0].1.starts_with("/dev/"),
        "{:?}",
        container.log()
    );
    assert_gone(&bed);
}

async fn reopened(f: Fixture) {
    let script = "t=$(tty); echo one; exec <&- >&- 2>&-; sleep 0.1; exec <>$t >&0 2>&0; echo two";
    let bed = Bed::new(&["sh", "-c", script]);
    let mut container = start(&f, &bed, |request| request.tty = true).await;
    assert_eq!(container.exit().await.code, 0);
    assert_eq!(container.log(), [out("one\r\n"), out("two\r\n")]);
}

async fn exec_joins(f: Fixture) {
    let bed = Bed::new(&["sleep", "1000"]);
    let mut container = start(&f, &bed, |_| {}).await;
    let (mut client, socket) = socket_pair();
    let request = exec_request(
        &bed,
        "e1",
        &["sh", "-c", "hostname; cat >&2; cat /proc/1/comm; exit 6"],
    );
    container
        .monitor
        .exec(request, Some((attach_all(), socket)))
        .await
        .expect("exec");
    client.write_all(b"input").await.expect("write");
    client.shutdown().await.expect("half-close");
    assert_eq!(frames(&mut client).await, ["testhost\nsleep\n", "input"]);
    assert!(matches!(
        container.events.recv().await,
        Some(MonitorEvent::ExecExited { code: 6, .. })
    ));

    let (mut client, socket) = socket_pair();
    let mut request = exec_request(&bed, "e2", &["sh", "-c", "read x; stty size; echo $x"]);
    (request.tty, request.console_size) = (true, (30, 90));
    let attach = AttachRequest {
        raw: true,
        ..attach_all()
    };
    container
        .monitor
        .exec(request, Some((attach, socket)))
        .await
        .expect("exec");
    container
        .monitor
        .resize(Target::Exec("e2".into()), 31, 91)
        .await
        .expect("resize");
    client.write_all(b"hi\r").await.expect("write");
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.expect("read");
    assert_eq!(seen, "hi\r\n31 91\r\nhi\r\n");
    container
        .monitor
        .signal(Target::Init, 9)
        .await
        .expect("kill");
    assert_eq!(container.exit().await.code, 137);
    assert_gone(&bed);
}

async fn execs_end(f: Fixture) {
    let bed = Bed::new(&["sleep", "1000"]);
    let mut container = start(&f, &bed, |_| {}).await;
    let (mut client, socket) = socket_pair();
    let request = exec_request(&bed, "e1", &["sh", "-c", "echo up; sleep 1000"]);
    container
        .monitor
        .exec(request, Some((attach_all(), socket)))
        .await
        .expect("exec");
    container
        .monitor
        .exec(exec_request(&bed, "e2", &["sleep", "1000"]), None)
        .await
        .expect("exec");
    let mut header = [0; 11];
    client.read_exact(&mut header).await.expect("output");
    container
        .monitor
        .signal(Target::Init, 9)
        .await
        .expect("kill");
    assert_eq!(frames(&mut client).await, ["", ""]);
    let mut codes = Vec::new();
    loop {
        match container.events.recv().await.expect("event") {
            MonitorEvent::ExecExited { code, .. } => codes.push(code),
            MonitorEvent::Exited(status) => break assert_eq!(status.code, 137),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(codes, [137, 137]);
    assert_gone(&bed);
}

async fn out_of_memory(f: Fixture) {
    let mut bed = Bed::new(&["dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1"]);
    bed.spec["linux"]["resources"]["memory"] = json!({"limit": 20_000_000, "swap": 20_000_000});
    let mut container = start(&f, &bed, |_| {}).await;
    let mut told = false;
    let status = loop {
        match container.events.recv().await.expect("event") {
            MonitorEvent::Oom => told = true,
            MonitorEvent::Exited(status) => break status,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((status.code, status.oom_killed, told), (137, true, true));
    assert_gone(&bed);
}

async fn failed_launch(f: Fixture) {
    let bed = Bed::new(&["no-such-program"]);
    let mut request = f.request(&bed.id, "");
    request.plan = bed.plan();
    let dir = request.state_dir.clone();
    let error = f.try_run(request, vec![]).await.err().expect("an error");
    assert!(error.to_string().contains("no-such-program"), "{error}");
    assert_gone(&bed);
    assert!(!Path::new(&dir).join("monitor.sock").exists());
}

async fn fifty(f: Fixture) {
    let beds: Vec<Bed> = (0..50)
        .map(|n| Bed::new(&["sh", "-c", &format!("echo number {n}; exit {n}")]))
        .collect();
    let starts: Vec<_> = beds.iter().map(|bed| start(&f, bed, |_| {})).collect();
    for (n, mut container) in crate::lifecycle::join_all(starts)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(
            container.exit().await.code,
            i32::try_from(n).expect("small")
        );
        assert_eq!(container.log(), [out(&format!("number {n}\n"))]);
    }
    beds.iter().for_each(assert_gone);
}
