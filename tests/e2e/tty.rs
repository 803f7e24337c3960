//! Terminals: `-t`, sizes, detaching.

use std::time::Duration;

use wharf_e2e::Engine;
use wharf_e2e::deadline::{LONG, wait_for_paced, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::terminal::Terminal;

/// A shell in a terminal, at its prompt.
fn shell(engine: &Engine) -> Terminal {
    let terminal = Terminal::run(&engine.docker_command(&["run", "--rm", "-it", BUSYBOX, "sh"]));
    terminal.wait_for("# ");
    terminal
}

#[test]
fn an_interactive_shell_answers_and_ends_with_its_code() {
    let engine = Engine::start();
    let mut terminal = shell(&engine);
    terminal.write("echo sum=$((40 + 2))\n");
    terminal.wait_for("sum=42");
    terminal.write("exit 6\n");
    assert_eq!(terminal.finish().0, 6);
}

#[test]
fn the_command_sees_a_terminal_of_its_own() {
    let engine = Engine::start();
    let terminal = Terminal::run(&engine.docker_command(&[
        "run",
        "--rm",
        "-it",
        BUSYBOX,
        "sh",
        "-c",
        "tty; echo TERM=$TERM; until [ \"$(stty size)\" = \"24 80\" ]; do sleep 0.01; done 2>/dev/null; stty size",
    ]));
    let (code, screen) = terminal.finish();
    assert_eq!(
        (code, screen.as_str()),
        (0, "/dev/pts/0\r\nTERM=xterm\r\n24 80\r\n")
    );
}

#[test]
fn t_without_a_terminal_on_our_side_still_gives_the_command_one() {
    let engine = Engine::start();
    let output = engine.docker(&[
        "run",
        "--rm",
        "-t",
        BUSYBOX,
        "sh",
        "-c",
        "tty; echo err >&2",
    ]);
    assert_eq!(
        (output.code, output.stdout.as_str(), output.stderr.as_str()),
        (0, "/dev/pts/0\r\nerr\r\n", "")
    );
}

#[test]
fn resizing_the_window_reaches_the_command() {
    let engine = Engine::start();
    // A process 1 without a handler would take no notice of the interrupt between two sleeps.
    let script =
        "trap 'stty size' WINCH; trap 'exit 0' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal =
        Terminal::run(&engine.docker_command(&["run", "--rm", "-it", BUSYBOX, "sh", "-c", script]));
    terminal.wait_for("ready");
    // The client listens for SIGWINCH some time after it has shown the first output: change the size until it is seen.
    let pace = Duration::from_millis(100);
    wait_for_paced("the new size to arrive", LONG, pace, || {
        terminal.resize(33, 110);
        terminal.resize(33, 111);
        terminal.screen().contains("33 111").then_some(())
    });
    terminal.write("\x03");
    let _ = terminal.finish();
}

#[test]
fn ctrl_c_interrupts_the_foreground_process() {
    let engine = Engine::start();
    let mut terminal = shell(&engine);
    terminal.write("echo st''arted; sleep 1000\n");
    terminal.wait_for("started");
    terminal.write("\x03");
    terminal.write("echo al''ive\n");
    terminal.wait_for("alive");
    terminal.write("exit 0\n");
    assert_eq!(terminal.finish().0, 0);
}

#[test]
fn detach_keys_leave_the_container_running_and_attach_returns() {
    let engine = Engine::start();
    let mut terminal =
        Terminal::run(&engine.docker_command(&["run", "-it", "--name", "dd", BUSYBOX, "sh"]));
    terminal.wait_for("# ");
    terminal.write("\x10\x11");
    assert_eq!(terminal.finish().0, 0);
    assert_eq!(engine.inspect("dd", "{{.State.Running}}"), "true");

    let mut again = Terminal::run(&engine.docker_command(&["attach", "dd"]));
    again.write("echo ba''ck\n");
    again.wait_for("back");
    again.write("exit 4\n");
    assert_eq!(again.finish().0, 4);
}

#[test]
fn other_detach_keys_can_be_chosen() {
    let engine = Engine::start();
    let mut terminal = Terminal::run(&engine.docker_command(&[
        "run",
        "-it",
        "--name",
        "kk",
        "--detach-keys",
        "ctrl-a,x",
        BUSYBOX,
        "sh",
    ]));
    terminal.wait_for("# ");
    terminal.write("\x01x");
    assert_eq!(terminal.finish().0, 0);
    assert_eq!(engine.inspect("kk", "{{.State.Running}}"), "true");
}

#[test]
fn a_lone_first_detach_key_is_passed_on() {
    let engine = Engine::start();
    let mut terminal = Terminal::run(&engine.docker_command(&[
        "run",
        "--rm",
        "-it",
        "--detach-keys",
        "a,b",
        BUSYBOX,
        "sh",
    ]));
    terminal.wait_for("# ");
    terminal.write("echo xay\n");
    terminal.wait_for("\nxay");
    terminal.write("exit\n");
    let _ = terminal.finish();
}

#[test]
fn exec_it_has_a_terminal() {
    let engine = Engine::start();
    engine.run_detached(&["--name", "ee"], &["sleep", "1000"]);
    let mut terminal = Terminal::run(&engine.docker_command(&["exec", "-it", "ee", "sh"]));
    terminal.wait_for("# ");
    terminal.write("tty; stty size\n");
    terminal.wait_for("/dev/pts/0");
    terminal.wait_for("24 80");
    terminal.resize(40, 132);
    wait_until("the new size", LONG, || {
        terminal.write("stty size\n");
        terminal.screen().contains("40 132")
    });
    terminal.write("exit 3\n");
    assert_eq!(terminal.finish().0, 3);
}

#[test]
fn resize_over_the_api_changes_the_size() {
    let engine = Engine::start();
    let id = engine.run_detached(&["-t"], &["sleep", "1000"]);
    let _ = engine
        .api()
        .post_empty(&format!("/containers/{id}/resize?h=50&w=150"))
        .expect(200);
    assert_eq!(
        engine.docker_ok(&["exec", &id, "sh", "-c", "stty size </proc/1/fd/0"]),
        "50 150"
    );
}

#[test]
fn dev_console_is_the_containers_terminal() {
    let engine = Engine::start();
    let output = engine.docker(&[
        "run",
        "--rm",
        "-t",
        BUSYBOX,
        "sh",
        "-c",
        "echo hi >/dev/console; ls -l /dev/console | cut -c1-10",
    ]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "hi\r\ncrw--w----\r\n")
    );
}
