//! Further processes in a running container.

use std::io::Read;

use wharf_runtime::launch::{LaunchErrorKind, LaunchStdio, launch_exec};
use wharf_runtime::plan::{ExecOptions, plan_exec};

use crate::bed::{Bed, Output, wait};

fn options(args: &[&str]) -> ExecOptions {
    ExecOptions {
        args: args.iter().map(|a| (*a).to_string()).collect(),
        ..ExecOptions::default()
    }
}

fn out(output: &Output) -> &str {
    assert_eq!(output.stderr, "");
    output.stdout.trim()
}

pub fn an_exec_joins_everything() {
    let mut bed = Bed::new(&[]);
    let init = bed.start_sleeping();
    let script = "hostname; echo $HOME $PATH; for n in ipc net uts pid mnt cgroup; do \
        [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] && echo $n; done; \
        grep -E '^(CapEff|Seccomp):' /proc/self/status; cd /proc/self/fd; for f in 0 1 2 3 4 5 6; do \
        [ -e /proc/$$/fd/$f ] && echo $f; done";
    let output = bed
        .exec(&init, options(&["sh", "-c", script]))
        .expect("launched");
    let expected = "testhost\n/root /bin\nipc\nnet\nuts\npid\nmnt\ncgroup\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n0\n1\n2";
    assert_eq!(out(&output), expected);
    let output = bed
        .exec(&init, options(&["sh", "-c", "cat /proc/self/cgroup"]))
        .expect("launched");
    assert!(
        out(&output).lines().all(|l| l.ends_with(":/")),
        "{output:?}"
    );
    assert_eq!(
        bed.exec(&init, options(&["sh", "-c", "exit 9"]))
            .expect("launched")
            .code,
        9
    );
    let own = |p: &str| std::fs::read_link(p).expect("own namespace");
    assert_eq!(
        own("/proc/self/ns/pid_for_children"),
        own("/proc/self/ns/pid")
    );
    bed.stop(&init);
}

pub fn an_exec_has_its_own_options() {
    let mut bed = Bed::new(&[]);
    let init = bed.start_sleeping();
    let show = [
        "sh",
        "-c",
        "id -u; pwd; echo $A $HOME; grep ^CapEff /proc/self/status",
    ];
    let output = bed.exec(
        &init,
        ExecOptions {
            user: Some("worker".into()),
            cwd: Some("/tmp".into()),
            env: vec!["A=b".into()],
            ..options(&show)
        },
    );
    assert_eq!(
        out(&output.expect("launched")),
        "1000\n/tmp\nb /home/worker\nCapEff:\t0000000000000000"
    );
    let output = bed
        .exec(
            &init,
            ExecOptions {
                privileged: true,
                ..options(&show)
            },
        )
        .expect("launched");
    let all = format!("CapEff:\t{:016x}", bed.host.cap_bounding);
    assert_eq!(out(&output).lines().last(), Some(all.as_str()));
    bed.stop(&init);
}

pub fn an_exec_can_have_a_terminal() {
    let mut bed = Bed::new(&[]);
    let init = bed.start_sleeping();
    let plan = plan_exec(
        &bed.plan(),
        options(&["sh", "-c", "tty; stty size; echo > /dev/tty"]),
        &bed.host,
    )
    .expect("planned");
    let launched =
        launch_exec(&plan, &init.pidfd, LaunchStdio::Tty { rows: 11, cols: 22 }).expect("launched");
    let mut console = std::fs::File::from(
        launched
            .console
            .as_ref()
            .expect("terminal")
            .try_clone()
            .expect("dup"),
    );
    let mut seen = Vec::new();
    let _ = console.read_to_end(&mut seen);
    assert_eq!(wait(launched.pid), 0);
    assert_eq!(
        String::from_utf8_lossy(&seen).trim().replace('\r', ""),
        "/dev/pts/0\n11 22"
    );
    bed.stop(&init);
}

pub fn exec_failures_are_reported() {
    let mut bed = Bed::new(&[]);
    let init = bed.start_sleeping();
    let error = bed.exec(&init, options(&["nope"])).expect_err("refused");
    assert_eq!(error.kind, LaunchErrorKind::NotFound);
    assert_eq!(
        error.message,
        "exec: \"nope\": executable file not found in $PATH"
    );
    let error = bed
        .exec(
            &init,
            ExecOptions {
                user: Some("ghost".into()),
                ..options(&["true"])
            },
        )
        .expect_err("refused");
    assert_eq!(
        error.message,
        "unable to find user ghost: no matching entries in passwd file"
    );
    let error = bed
        .exec(
            &init,
            ExecOptions {
                cwd: Some("/none".into()),
                ..options(&["true"])
            },
        )
        .expect_err("refused");
    assert!(
        error.message.contains("no such file or directory"),
        "{error}"
    );
    bed.stop(&init);
    let error = bed
        .exec(&init, options(&["true"]))
        .expect_err("nobody is there");
    assert_eq!(error.kind, LaunchErrorKind::Setup);
}
