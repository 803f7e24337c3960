//! `docker run` in the foreground.

use std::time::Duration;

use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::engine::terminate;
use wharf_e2e::images::BUSYBOX;

#[test]
fn output_streams_stay_apart() {
    let engine = Engine::start();
    let output = engine.docker(&["run", "--rm", BUSYBOX, "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (0, "out\n", "err\n")
    );
}

/// The client attaches on one connection and starts on another; a command shorter than the hand-over of the first must
/// not end unheard.
#[test]
fn the_shortest_output_is_never_lost() {
    let engine = Engine::start();
    for round in 0..30 {
        let output = engine.docker(&["run", "--rm", "--network", "none", BUSYBOX, "echo", "hi"]);
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (0, "hi\n"),
            "round {round}"
        );
    }
}

#[test]
fn exit_code_of_the_command_becomes_the_clis() {
    let engine = Engine::start();
    for code in [0, 1, 42, 255] {
        assert_eq!(
            engine
                .docker(&["run", "--rm", BUSYBOX, "sh", "-c", &format!("exit {code}")])
                .code,
            code
        );
    }
}

#[test]
fn death_by_signal_is_128_plus_its_number() {
    let engine = Engine::start();
    // PID 1 is not killed by a signal from inside, so a child dies and the shell reports it.
    assert_eq!(
        engine
            .docker(&[
                "run",
                "--rm",
                BUSYBOX,
                "sh",
                "-c",
                "sh -c 'kill -9 $$'; exit $?"
            ])
            .code,
        137
    );
}

#[test]
fn piped_input_reaches_the_command_and_its_end_too() {
    let engine = Engine::start();
    let output = engine.docker_with_input(&["run", "--rm", "-i", BUSYBOX, "cat"], b"one\ntwo");
    assert_eq!((output.code, output.stdout.as_str()), (0, "one\ntwo"));
}

#[test]
fn megabytes_pass_through_unchanged() {
    let engine = Engine::start();
    let input: Vec<u8> = (0u32..2_000_000)
        .flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes())
        .collect();
    let mut running = engine.docker_start(&["run", "--rm", "-i", BUSYBOX, "md5sum"]);
    running.write(&input);
    let through_container = running.finish().stdout;
    std::fs::write(engine.dir().join("input"), &input).expect("scratch file");
    let on_host = std::process::Command::new("md5sum")
        .arg(engine.dir().join("input"))
        .output()
        .expect("md5sum runs")
        .stdout;
    assert_eq!(
        through_container[..32],
        String::from_utf8_lossy(&on_host)[..32]
    );
}

#[test]
fn without_i_the_command_has_no_input() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(&[], &["sh", "-c", "readlink /proc/self/fd/0; wc -c"]),
        "/dev/null\n0"
    );
}

#[test]
fn rm_removes_the_container() {
    let engine = Engine::start();
    engine.docker_ok(&["run", "--rm", "--name", "gone", BUSYBOX, "true"]);
    wait_until("the container to be removed", LONG, || {
        engine.container_ids().is_empty()
    });
}

#[test]
fn without_rm_the_container_stays_with_its_exit_code() {
    let engine = Engine::start();
    assert_eq!(
        engine
            .docker(&["run", "--name", "stays", BUSYBOX, "sh", "-c", "exit 3"])
            .code,
        3
    );
    assert_eq!(
        engine.inspect("stays", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 3"
    );
}

#[test]
fn detached_prints_the_full_id() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--name", "dd"], &["sleep", "1000"]);
    assert_eq!(id.len(), 64);
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(engine.inspect("dd", "{{.Id}}"), id);
}

#[test]
fn environment_is_path_hostname_home_and_what_was_given() {
    let engine = Engine::start();
    let env = engine.run(
        &[
            "--hostname",
            "box",
            "-e",
            "A=1",
            "-e",
            "B=two words",
            "-e",
            "EMPTY=",
        ],
        &["env"],
    );
    let mut lines: Vec<&str> = env.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        lines,
        [
            "A=1",
            "B=two words",
            "EMPTY=",
            "HOME=/root",
            "HOSTNAME=box",
            path
        ]
    );
}

#[test]
fn order_of_the_environment_is_dockers() {
    let engine = Engine::start();
    let env = engine.run(&["--hostname", "box", "-e", "A=1"], &["env"]);
    assert_eq!(
        env,
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOSTNAME=box\nA=1\nHOME=/root"
    );
}

#[test]
fn hostname_defaults_to_the_short_id() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--network", "none"], &["sleep", "1000"]);
    assert_eq!(engine.docker_ok(&["exec", &id, "hostname"]), id[..12]);
}

#[test]
fn working_directory_is_created() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(
            &["-w", "/a/b"],
            &["sh", "-c", "pwd; ls -ld /a/b | cut -c1-10"]
        ),
        "/a/b\ndrwxr-xr-x"
    );
}

#[test]
fn users_are_resolved_inside_the_image() {
    let engine = Engine::start();
    let id = |user: &str| engine.run(&["--user", user], &["id"]);
    assert_eq!(
        engine.run(&[], &["id"]),
        "uid=0(root) gid=0(root) groups=0(root)"
    );
    assert_eq!(
        id("app"),
        "uid=1000(app) gid=1000(app) groups=1(daemon),1000(app),2000(extra)"
    );
    assert_eq!(
        id("1000"),
        "uid=1000(app) gid=1000(app) groups=1(daemon),1000(app),2000(extra)"
    );
    assert_eq!(
        id("app:nogroup"),
        "uid=1000(app) gid=65534(nogroup) groups=65534(nogroup)"
    );
    assert_eq!(id("1234:5678"), "uid=1234 gid=5678 groups=5678");
    assert_eq!(id("1234"), "uid=1234 gid=0(root) groups=0(root)");
}

#[test]
fn additional_groups_are_added() {
    let engine = Engine::start();
    let id = engine.run(
        &[
            "--user",
            "1234:5678",
            "--group-add",
            "extra",
            "--group-add",
            "77",
        ],
        &["id", "-G"],
    );
    assert_eq!(id, "5678 77 2000");
}

#[test]
fn home_follows_the_user() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(&["--user", "app"], &["sh", "-c", "echo $HOME"]),
        "/home/app"
    );
    assert_eq!(
        engine.run(&["--user", "4321"], &["sh", "-c", "echo $HOME"]),
        "/"
    );
}

#[test]
fn entrypoint_replaces_and_arguments_follow() {
    let engine = Engine::start();
    assert_eq!(engine.run(&["--entrypoint", "echo"], &["a", "b"]), "a b");
}

#[test]
fn cidfile_gets_the_id() {
    let engine = Engine::start();
    let file = engine.dir().join("cid");
    let path = file.to_str().expect("a plain path");
    let id = engine.run_detached(&["--cidfile", path], &["sleep", "1000"]);
    assert_eq!(std::fs::read_to_string(file).expect("the cid file"), id);
}

#[test]
fn signals_to_the_cli_reach_the_container() {
    let engine = Engine::start();
    let script = "trap 'echo got term; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let running = engine.docker_start(&["run", "--name", "proxied", BUSYBOX, "sh", "-c", script]);
    wait_until("the trap to be set", LONG, || {
        engine.docker(&["logs", "proxied"]).stdout.contains("ready")
    });
    terminate(running.pid());
    let output = running.wait();
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (7, "ready\ngot term\n")
    );
}

#[test]
fn init_runs_as_pid_1_and_reaps() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &["--init"],
        &["sh", "-c", "(sleep 0.01 &) ; exec sleep 1000"],
    );
    let init = engine.docker_ok(&["exec", &id, "cat", "/proc/1/comm"]);
    assert_ne!(init, "sleep");
    wait_until("no zombie inside", Duration::from_secs(20), || {
        !engine
            .docker_ok(&[
                "exec",
                &id,
                "sh",
                "-c",
                "cat /proc/[0-9]*/stat | cut -d' ' -f3",
            ])
            .contains('Z')
    });
    assert_eq!(engine.inspect(&id, "{{.HostConfig.Init}}"), "true");
}

#[test]
fn init_passes_signals_and_exit_code_on() {
    let engine = Engine::start();
    assert_eq!(
        engine
            .docker(&["run", "--rm", "--init", BUSYBOX, "sh", "-c", "exit 9"])
            .code,
        9
    );
    let id = engine.run_detached(
        &["--init"],
        &[
            "sh",
            "-c",
            "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done",
        ],
    );
    wait_until("the trap to be set", LONG, || {
        engine.docker_ok(&["logs", &id]).contains("ready")
    });
    engine.docker_ok(&["stop", &id]);
    assert_eq!(engine.inspect(&id, "{{.State.ExitCode}}"), "5");
}

#[test]
fn read_only_root_refuses_writes_but_tmpfs_takes_them() {
    let engine = Engine::start();
    let script = "touch /x 2>/dev/null || echo refused; touch /scratch/x && echo written";
    assert_eq!(
        engine.run(
            &["--read-only", "--tmpfs", "/scratch"],
            &["sh", "-c", script]
        ),
        "refused\nwritten"
    );
}

#[test]
fn tmpfs_options_are_applied() {
    let engine = Engine::start();
    let mount = engine.run(
        &["--tmpfs", "/t:size=1m,mode=1770,exec"],
        &["grep", " /t ", "/proc/mounts"],
    );
    assert_eq!(
        mount,
        "tmpfs /t tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=1770 0 0"
    );
}

#[test]
fn ulimits_are_applied() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(
            &["--ulimit", "nofile=123:456"],
            &["sh", "-c", "ulimit -Sn; ulimit -Hn"]
        ),
        "123\n456"
    );
}

#[test]
fn names_are_resolved_to_containers_by_id_prefix_and_name() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--name", "by.name-1_x"], &["sleep", "1000"]);
    for name in [
        id.as_str(),
        &id[..12],
        &id[..4],
        "by.name-1_x",
        "/by.name-1_x",
    ] {
        assert_eq!(engine.inspect(name, "{{.Id}}"), id, "by {name}");
    }
}

#[test]
fn many_runs_at_once_all_succeed() {
    let engine = Engine::start();
    let running: Vec<_> = (0..8)
        .map(|i| engine.docker_start(&["run", "--rm", BUSYBOX, "echo", &i.to_string()]))
        .collect();
    for (i, one) in running.into_iter().enumerate() {
        let output = one.finish();
        assert_eq!(
            (output.code, output.stdout),
            (0, format!("{i}\n")),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn attach_only_stderr() {
    let engine = Engine::start();
    let output = engine.docker(&[
        "run",
        "--rm",
        "-a",
        "stderr",
        BUSYBOX,
        "sh",
        "-c",
        "echo out; echo err >&2",
    ]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (0, "", "err\n")
    );
}

#[test]
fn sysctls_are_set_in_the_containers_namespace() {
    let engine = Engine::start();
    assert_eq!(
        engine.run(
            &["--sysctl", "net.ipv4.ip_default_ttl=99"],
            &["cat", "/proc/sys/net/ipv4/ip_default_ttl"]
        ),
        "99"
    );
}

#[test]
fn hosts_and_resolv_conf_are_the_engines() {
    let engine = Engine::start();
    let hosts = engine.run(
        &["--hostname", "box", "--add-host", "other:10.1.2.3"],
        &["cat", "/etc/hosts"],
    );
    assert!(hosts.starts_with("127.0.0.1\tlocalhost\n"), "{hosts}");
    assert!(hosts.lines().any(|l| l == "10.1.2.3\tother"), "{hosts}");
    assert_eq!(
        engine.run(&["--hostname", "box"], &["cat", "/etc/hostname"]),
        "box"
    );
    let resolv = engine.docker_ok(&[
        "run",
        "--rm",
        "--dns",
        "9.9.9.9",
        "--dns-search",
        "example.org",
        BUSYBOX,
        "cat",
        "/etc/resolv.conf",
    ]);
    assert!(
        resolv.lines().any(|l| l == "nameserver 9.9.9.9"),
        "{resolv}"
    );
    assert!(
        resolv.lines().any(|l| l == "search example.org"),
        "{resolv}"
    );
}
