//! From start to exit record, and daemons that come and go.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wharf_runtime::client::{ClientError, FilePlan, LogPlan, Monitor, MonitorEvent, Target};

use crate::Test;
use crate::fixture::{Container, Fixture, err, exec, out};

pub const TESTS: &[(&str, Test)] = &[
    ("output_is_logged_in_order_before_the_exit_is_told", |f| {
        Box::pin(output_is_logged(f))
    }),
    ("exit_codes_and_signals_are_told_and_recorded", |f| {
        Box::pin(exit_codes(f))
    }),
    (
        "a_program_that_cannot_start_is_an_error_and_leaves_no_monitor",
        |f| Box::pin(launch_failure(f)),
    ),
    ("a_request_of_megabytes_goes_through", |f| {
        Box::pin(large_request(f))
    }),
    ("programs_start_with_default_signals", |f| {
        Box::pin(default_signals(f))
    }),
    ("a_later_daemon_finds_the_container", |f| {
        Box::pin(reconnect(f))
    }),
    ("a_later_daemon_finds_the_exit_record", |f| {
        Box::pin(record(f))
    }),
    ("events_missed_by_the_daemon_are_told_to_the_next", |f| {
        Box::pin(missed_events(f))
    }),
    ("a_killed_monitor_is_reported_lost", |f| Box::pin(lost(f))),
    ("a_killed_spawner_is_replaced_and_monitors_go_on", |f| {
        Box::pin(spawner_dies(f))
    }),
    ("execs_run_beside_the_container", |f| Box::pin(execs(f))),
    ("calls_for_what_is_not_there_fail", |f| {
        Box::pin(unknown_targets(f))
    }),
    ("many_containers_at_once", |f| Box::pin(many(f))),
    (
        "a_leftover_that_holds_the_output_does_not_hold_up_the_end",
        |f| Box::pin(leftover(f)),
    ),
    ("a_log_that_cannot_be_opened_fails_the_start", |f| {
        Box::pin(bad_log(f))
    }),
];

async fn output_is_logged(f: Fixture) {
    let script =
        "echo one; echo two >&2; sleep 0.02; printf 'three'; sleep 0.02; echo ' more'; printf end";
    let mut container = f.run(f.request("a", script), vec![]).await;
    assert_eq!(container.exit().await.code, 0);
    let lines = container.log();
    let of = |stream: &str| {
        lines
            .iter()
            .filter(|(s, _)| s == stream)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("stdout"),
        [out("one\n"), out("three more\n"), out("end")]
    );
    assert_eq!(of("stderr"), [err("two\n")]);
}

async fn exit_codes(f: Fixture) {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 42", 42),
        ("kill -9 $$", 137),
        ("kill -15 $$", 143),
    ] {
        let mut container = f.run(f.request("a", script), vec![]).await;
        let status = container.exit().await;
        assert_eq!((status.code, status.oom_killed), (code, false), "{script}");
        assert!(status.exited_at_ns >= container.started.started_at_ns);
        assert_eq!(
            Monitor::reconnect(&container.dir)
                .await
                .expect("a record")
                .expect_err("ended"),
            status
        );
    }
}

async fn launch_failure(f: Fixture) {
    let mut request = f.request("a", "");
    request.plan.process.args = vec!["/no/such/program".into()];
    let dir = request.state_dir.clone();
    let error = f.try_run(request, vec![]).await.err().expect("an error");
    assert!(matches!(&error, ClientError::Launch(_)), "{error:?}");
    assert!(
        error.to_string().starts_with("exec: \"/no/such/program\""),
        "{error}"
    );
    assert!(matches!(
        Monitor::reconnect(&dir).await,
        Err(ClientError::Gone)
    ));
    let left: Vec<_> = std::fs::read_dir(&dir)
        .expect("dir")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(left, ["log"]);
}

async fn large_request(f: Fixture) {
    let mut request = f.request("a", "env | wc -c");
    request
        .plan
        .process
        .env
        .extend((0..20).map(|n| format!("V{n}={}", "x".repeat(100_000))));
    let mut container = f.run(request, vec![]).await;
    assert_eq!(container.exit().await.code, 0);
    let size: usize = container.log()[0].1.trim().parse().expect("a number");
    assert!(size > 2_000_000, "{size}");
}

async fn default_signals(f: Fixture) {
    let mut request = f.request("a", "");
    request.plan.process.args = [
        "/bin/busybox",
        "grep",
        "-E",
        "^Sig(Blk|Ign)",
        "/proc/self/status",
    ]
    .map(String::from)
    .into();
    let mut container = f.run(request, vec![]).await;
    container.exit().await;
    for (stream, line) in container.log() {
        let (name, mask) = line.trim().split_once(":\t").expect("name and mask");
        // Real-time signals stay as whoever started the tests left them; resetting those is the launch's business.
        let standard = u64::from_str_radix(mask, 16).expect("a mask") & 0x7fff_ffff;
        assert_eq!((stream.as_str(), standard), ("stdout", 0), "{name}");
    }
    assert_eq!(container.log().len(), 2);
}

async fn reconnect(f: Fixture) {
    let request = f.request(
        "a",
        "trap 'echo got it; exit 7' USR1; echo ready; while :; do sleep 0.01; done",
    );
    let Container {
        monitor,
        started,
        events,
        dir,
    } = f.run(request, vec![]).await;
    drop((monitor, events));
    // The daemon's death is the end of its sockets.
    drop(f.spawner);
    let (monitor, again, events) = Monitor::reconnect(&dir)
        .await
        .expect("a monitor")
        .expect("running");
    assert_eq!(
        (again.pid, again.started_at_ns),
        (started.pid, started.started_at_ns)
    );
    let mut container = Container {
        monitor,
        started: again,
        events,
        dir,
    };
    container.logged("ready").await;
    container
        .monitor
        .signal(Target::Init, 10)
        .await
        .expect("signal");
    assert_eq!(container.exit().await.code, 7);
    assert_eq!(container.log(), [out("ready\n"), out("got it\n")]);
}

async fn record(f: Fixture) {
    let container = f
        .run(f.request("a", "while :; do sleep 0.01; done"), vec![])
        .await;
    let Container {
        monitor,
        started,
        events,
        dir,
    } = container;
    drop((monitor, events));
    kill_process(Pid::from_raw(started.pid).expect("pid"), Signal::KILL).expect("kill");
    let status = loop {
        match Monitor::reconnect(&dir)
            .await
            .expect("a monitor or a record")
        {
            Err(status) => break status,
            Ok((_, _, mut events)) => {
                drop(tokio::time::timeout(Duration::from_millis(5), events.recv()).await)
            }
        }
    };
    assert_eq!(status.code, 137);
    assert!(!dir.join("monitor.sock").exists());
}

async fn missed_events(f: Fixture) {
    let container = f
        .run(f.request("a", "while :; do sleep 0.01; done"), vec![])
        .await;
    container
        .monitor
        .exec(exec("e1", "read x < /proc/self/fd/0; exit 5"), None)
        .await
        .expect("exec");
    let gate = f.dir.path().join("gate");
    let waiting = format!(
        "until [ -e {} ]; do sleep 0.01; done; exit 6",
        gate.display()
    );
    let pid = container
        .monitor
        .exec(exec("e2", &waiting), None)
        .await
        .expect("exec");
    let Container {
        monitor,
        events,
        dir,
        ..
    } = container;
    drop((monitor, events));
    std::fs::write(&gate, "").expect("open the gate");
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (monitor, _, mut events) = Monitor::reconnect(&dir)
        .await
        .expect("a monitor")
        .expect("running");
    loop {
        match events.recv().await.expect("event") {
            MonitorEvent::ExecExited { exec_id, code } if exec_id == "e2" => {
                break assert_eq!(code, 6);
            }
            MonitorEvent::ExecExited { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    monitor.signal(Target::Init, 9).await.expect("kill");
}

async fn lost(f: Fixture) {
    let mut container = f
        .run(f.request("a", "while :; do sleep 0.01; done"), vec![])
        .await;
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", container.started.pid)).expect("stat");
    let parent: i32 = stat
        .rsplit_once(") ")
        .expect("stat")
        .1
        .split(' ')
        .nth(1)
        .expect("ppid")
        .parse()
        .expect("number");
    kill_process(Pid::from_raw(parent).expect("pid"), Signal::KILL).expect("kill the monitor");
    assert!(matches!(
        container.events.recv().await,
        Some(MonitorEvent::Lost)
    ));
    assert!(matches!(
        container.monitor.signal(Target::Init, 15).await,
        Err(ClientError::Gone)
    ));
    assert!(matches!(
        Monitor::reconnect(&container.dir).await,
        Err(ClientError::Gone)
    ));
    kill_process(
        Pid::from_raw(container.started.pid).expect("pid"),
        Signal::KILL,
    )
    .expect("clean up");
}

async fn spawner_dies(f: Fixture) {
    let mut first = f
        .run(f.request("a", "while :; do sleep 0.01; done"), vec![])
        .await;
    let pid = f.spawner.pid();
    kill_process(
        Pid::from_raw(i32::try_from(pid).expect("pid")).expect("pid"),
        Signal::KILL,
    )
    .expect("kill the spawner");
    let mut second = f.run(f.request("b", "exit 4"), vec![]).await;
    assert_eq!(second.exit().await.code, 4);
    assert_ne!(f.spawner.pid(), pid);
    first
        .monitor
        .signal(Target::Init, 15)
        .await
        .expect("signal");
    assert_eq!(first.exit().await.code, 143);
}

async fn execs(f: Fixture) {
    let mut container = f
        .run(f.request("a", "while :; do sleep 0.01; done"), vec![])
        .await;
    let (first, second) = tokio::join!(
        container.monitor.exec(exec("e1", "exit 1"), None),
        container.monitor.exec(exec("e2", "kill -9 $$"), None),
    );
    assert_ne!(first.expect("exec"), second.expect("exec"));
    let mut ended = Vec::new();
    while ended.len() < 2 {
        match container.events.recv().await.expect("event") {
            MonitorEvent::ExecExited { exec_id, code } => ended.push((exec_id, code)),
            other => panic!("{other:?}"),
        }
    }
    ended.sort();
    assert_eq!(ended, [("e1".to_owned(), 1), ("e2".to_owned(), 137)]);
    let mut missing = exec("e3", "");
    missing.plan.process.args = vec!["/no/such".into()];
    assert!(matches!(
        container.monitor.exec(missing, None).await,
        Err(ClientError::Launch(_))
    ));
    container
        .monitor
        .exec(exec("e4", "while :; do sleep 0.01; done"), None)
        .await
        .expect("exec");
    container
        .monitor
        .signal(Target::Exec("e4".into()), 15)
        .await
        .expect("signal an exec");
    assert!(matches!(
        container.events.recv().await,
        Some(MonitorEvent::ExecExited { code: 143, .. })
    ));
    container
        .monitor
        .signal(Target::Init, 9)
        .await
        .expect("kill");
    assert_eq!(container.exit().await.code, 137);
    assert_eq!(container.log(), [], "output of execs is not logged");
}

async fn unknown_targets(f: Fixture) {
    let mut container = f
        .run(f.request("a", "while :; do sleep 0.01; done"), vec![])
        .await;
    assert!(matches!(
        container
            .monitor
            .signal(Target::Exec("nope".into()), 1)
            .await,
        Err(ClientError::Gone)
    ));
    // Docker takes a size for what has no terminal.
    let resized = container.monitor.resize(Target::Init, 10, 10).await;
    assert!(resized.is_ok(), "{resized:?}");
    let error = container
        .monitor
        .signal(Target::Init, 99)
        .await
        .expect_err("no such signal");
    assert!(matches!(error, ClientError::Io { .. }), "{error:?}");
    container
        .monitor
        .signal(Target::Init, 9)
        .await
        .expect("kill");
    container.exit().await;
}

async fn many(f: Fixture) {
    let request = |n: usize| {
        f.request(
            &format!("c{n}"),
            &format!("echo number {n}; exit {}", n % 100),
        )
    };
    let requests: Vec<_> = (0..100).map(request).collect();
    let spawns: Vec<_> = requests
        .into_iter()
        .map(|request| f.try_run(request, vec![]))
        .collect();
    for (n, spawn) in join_all(spawns).await.into_iter().enumerate() {
        let mut container = spawn.expect("spawn");
        assert_eq!(
            container.exit().await.code,
            i32::try_from(n % 100).expect("small")
        );
        assert_eq!(container.log(), [out(&format!("number {n}\n"))]);
    }
}

/// Polls all futures until each is done.
pub async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

async fn leftover(f: Fixture) {
    let gate = f.dir.path().join("gate");
    let script = format!(
        "(until [ -e {} ]; do sleep 0.05; done) & echo main; exit 9",
        gate.display()
    );
    let mut container = f.run(f.request("a", &script), vec![]).await;
    let begin = std::time::Instant::now();
    assert_eq!(container.exit().await.code, 9);
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(container.log(), [out("main\n")]);
    std::fs::write(gate, "").expect("let the leftover go");
}

async fn bad_log(f: Fixture) {
    let mut request = f.request("a", "echo never");
    let path = f.dir.path().join("no/such/dir/log");
    request.log = LogPlan::File(FilePlan {
        path,
        max_size: None,
        max_file: 1,
        compress: false,
        attrs: vec![],
    });
    let error = f.try_run(request, vec![]).await.err().expect("an error");
    assert!(
        error
            .to_string()
            .starts_with("failed to initialize logging driver"),
        "{error}"
    );
}
