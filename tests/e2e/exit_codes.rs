//! 125, 126 and 127: whose fault it was.

use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

#[test]
fn a_missing_command_is_127() {
    let engine = Engine::start();
    let stderr = engine.docker_fails(&["run", "--rm", BUSYBOX, "no-such-command"], 127);
    let expected = "exec: \"no-such-command\": executable file not found in $PATH";
    assert!(stderr.contains(expected), "{stderr}");
    let prefix = "Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: ";
    if !engine.is_reference() {
        assert!(stderr.contains(prefix), "{stderr}");
    }
}

#[test]
fn a_missing_path_is_127() {
    let engine = Engine::start();
    let stderr = engine.docker_fails(&["run", "--rm", BUSYBOX, "/no/such/command"], 127);
    assert!(
        stderr.contains(
            "exec: \"/no/such/command\": stat /no/such/command: no such file or directory"
        ),
        "{stderr}"
    );
}

#[test]
fn a_file_that_is_not_executable_is_126() {
    let engine = Engine::start();
    let stderr = engine.docker_fails(&["run", "--rm", BUSYBOX, "/etc/passwd"], 126);
    assert!(
        stderr.contains("exec: \"/etc/passwd\": permission denied"),
        "{stderr}"
    );
}

#[test]
fn a_directory_as_command_is_126() {
    let engine = Engine::start();
    let stderr = engine.docker_fails(&["run", "--rm", BUSYBOX, "/etc"], 126);
    assert!(stderr.contains("exec: \"/etc\": "), "{stderr}");
}

#[test]
fn an_unknown_user_is_126_or_125_as_with_docker() {
    let engine = Engine::start();
    let output = engine.docker(&["run", "--rm", "--user", "nosuchuser", BUSYBOX, "true"]);
    assert!(
        output
            .stderr
            .contains("unable to find user nosuchuser: no matching entries in passwd file"),
        "{output:?}"
    );
    assert_eq!(output.code, 125);
}

#[test]
fn the_daemons_refusal_is_125() {
    let engine = Engine::start();
    for flags in [
        &["--memory", "1k"][..],
        &["--network", "no-such-network"],
        &["--cpus", "1000"],
        &["--restart", "bogus"],
    ] {
        let mut args = vec!["run", "--rm"];
        args.extend_from_slice(flags);
        args.extend_from_slice(&[BUSYBOX, "true"]);
        let output = engine.docker(&args);
        assert_eq!(output.code, 125, "{flags:?}: {output:?}");
    }
}

#[test]
fn an_unknown_flag_is_125() {
    let engine = Engine::start();
    assert!(
        engine
            .docker_fails(&["run", "--no-such-flag", BUSYBOX], 125)
            .contains("unknown flag: --no-such-flag")
    );
}

#[test]
fn a_command_without_an_executable_format_is_126_or_255() {
    let engine = Engine::start();
    // An empty executable file: execve gives ENOEXEC, which Docker reports from inside the container.
    let output = engine.docker(&[
        "run",
        "--rm",
        BUSYBOX,
        "sh",
        "-c",
        "touch /e; chmod +x /e; /e; echo $?",
    ]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "0\n"),
        "the shell runs it as an empty script"
    );
}

#[test]
fn failed_runs_leave_no_container_with_rm() {
    let engine = Engine::start();
    for command in ["no-such-command", "/etc/passwd"] {
        let _ = engine.docker(&["run", "--rm", BUSYBOX, command]);
    }
    assert_eq!(engine.docker_ok(&["ps", "-aq"]), "");
}

#[test]
fn failed_runs_keep_their_error_without_rm() {
    let engine = Engine::start();
    engine.docker_fails(&["run", "--name", "ff", BUSYBOX, "no-such-command"], 127);
    assert_eq!(
        engine.inspect("ff", "{{.State.Status}} {{.State.ExitCode}}"),
        "created 127"
    );
    assert!(
        engine
            .inspect("ff", "{{.State.Error}}")
            .contains("executable file not found in $PATH")
    );
}

#[test]
fn entrypoint_and_command_may_not_both_be_missing() {
    let engine = Engine::start();
    let stderr = engine.docker_fails(&["run", "--rm", "--entrypoint", "", "busybox", ""], 127);
    assert!(
        stderr.contains("exec: \"\": executable file not found in $PATH"),
        "{stderr}"
    );
}
