//! What a container wrote, read back.

use std::io::Read;

use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, frames};

fn finished(engine: &Engine, name: &str, script: &str) {
    let output = engine.docker(&[
        "run",
        "--name",
        name,
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn both_streams_come_back_apart() {
    let engine = Engine::start();
    finished(&engine, "ll", "echo out; echo err >&2");
    let output = engine.docker(&["logs", "ll"]);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn tail_gives_the_last_lines() {
    let engine = Engine::start();
    finished(&engine, "ll", "seq 1 100");
    assert_eq!(
        engine.docker_ok(&["logs", "--tail", "3", "ll"]),
        "98\n99\n100"
    );
    assert_eq!(engine.docker_ok(&["logs", "--tail", "0", "ll"]), "");
    assert_eq!(
        engine
            .docker_ok(&["logs", "--tail", "all", "ll"])
            .lines()
            .count(),
        100
    );
}

#[test]
fn timestamps_have_nine_digits_and_utc() {
    let engine = Engine::start();
    finished(&engine, "ll", "echo x");
    let line = engine.docker_ok(&["logs", "-t", "ll"]);
    let (stamp, text) = line.split_once(' ').expect("a stamp and a text");
    assert_eq!(text, "x");
    let fraction = stamp.split('.').nth(1).expect("a fraction");
    assert_eq!(
        (stamp.len(), fraction.len(), stamp.ends_with('Z')),
        (30, 10, true),
        "{stamp}"
    );
}

#[test]
fn since_and_until_cut_by_time() {
    let engine = Engine::start();
    finished(&engine, "ll", "echo first; sleep 1.2; echo second");
    let stamps = engine.docker_ok(&["logs", "-t", "ll"]);
    let second = stamps
        .lines()
        .nth(1)
        .and_then(|l| l.split(' ').next())
        .expect("two lines")
        .to_owned();
    assert_eq!(
        engine.docker_ok(&["logs", "--since", &second, "ll"]),
        "second"
    );
    let first = stamps.split(' ').next().expect("a stamp").to_owned();
    assert_eq!(
        engine.docker_ok(&["logs", "--until", &first, "ll"]),
        "first"
    );
}

#[test]
fn follow_ends_with_the_container() {
    let engine = Engine::start();
    engine.run_detached(
        &["--name", "ff"],
        &[
            "sh",
            "-c",
            "echo one; read line </dev/zero & sleep 0.5; echo two",
        ],
    );
    let output = engine.docker(&["logs", "-f", "ff"]);
    assert_eq!((output.code, output.stdout.as_str()), (0, "one\ntwo\n"));
}

#[test]
fn follow_shows_lines_as_they_are_written() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &["-i"],
        &["sh", "-c", "while read line; do echo got $line; done"],
    );
    let (head, mut body) = engine
        .api()
        .stream("GET", &format!("/containers/{id}/logs?follow=1&stdout=1"));
    assert_eq!(head.status, 200);
    let mut attached = engine.docker_start(&["attach", &id]);
    for word in ["a", "b", "c"] {
        attached.write(format!("{word}\n").as_bytes());
        let frame = frames::read_frame(&mut body)
            .expect("a readable stream")
            .expect("a frame");
        assert_eq!(
            (
                frame.stream,
                String::from_utf8_lossy(&frame.data).into_owned()
            ),
            (1, format!("got {word}\n"))
        );
    }
}

#[test]
fn follow_with_tail_starts_near_the_end() {
    let engine = Engine::start();
    engine.run_detached(
        &["--name", "ff"],
        &["sh", "-c", "seq 1 50; sleep 0.3; echo end"],
    );
    wait_until("the first lines", LONG, || {
        engine.docker_ok(&["logs", "ff"]).lines().count() >= 50
    });
    let followed = engine.docker_ok(&["logs", "-f", "--tail", "2", "ff"]);
    assert!(
        followed.ends_with("end") && followed.lines().count() <= 3,
        "{followed}"
    );
}

#[test]
fn lines_stay_in_order_across_a_restart() {
    let engine = Engine::start();
    finished(&engine, "ll", "echo run");
    engine.docker_ok(&["start", "-a", "ll"]);
    assert_eq!(engine.docker_ok(&["logs", "ll"]), "run\nrun");
}

#[test]
fn a_long_line_comes_back_whole() {
    let engine = Engine::start();
    finished(
        &engine,
        "ll",
        "head -c 50000 /dev/zero | tr '\\0' x; echo; echo after",
    );
    let log = engine.docker_ok(&["logs", "ll"]);
    let lines: Vec<usize> = log.lines().map(str::len).collect();
    assert_eq!(lines, [50_000, 5]);
}

#[test]
fn a_last_line_without_newline_is_kept() {
    let engine = Engine::start();
    finished(&engine, "ll", "printf 'no newline'");
    assert_eq!(engine.docker(&["logs", "ll"]).stdout, "no newline");
}

#[test]
fn bytes_that_are_not_text_survive_as_dockers_json_has_them() {
    let engine = Engine::start();
    finished(&engine, "ll", r"printf 'a\tb\\c\001\n\303\251\n\n'");
    assert_eq!(
        engine.docker(&["logs", "ll"]).stdout,
        "a\tb\\c\u{1}\n\u{e9}\n\n"
    );
}

#[test]
fn the_log_file_has_dockers_format() {
    let engine = Engine::start();
    finished(&engine, "ll", "echo 'say \"hi\" <&>'; echo err >&2");
    let path = engine.inspect("ll", "{{.LogPath}}");
    let id = engine.inspect("ll", "{{.Id}}");
    assert_eq!(
        path,
        format!(
            "{}/containers/{id}/{id}-json.log",
            engine.data_root().display()
        )
    );
    let text = std::fs::read_to_string(path).expect("the log file");
    let mut starts: Vec<String> = text
        .lines()
        .map(|l| {
            l.split(",\"time\":\"")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    starts.sort();
    assert_eq!(
        starts,
        [
            r#"{"log":"err\n","stream":"stderr""#,
            r#"{"log":"say \"hi\" \u003c\u0026\u003e\n","stream":"stdout""#
        ]
    );
}

#[test]
fn rotation_keeps_the_newest_lines() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "run",
        "--name",
        "rr",
        "--log-opt",
        "max-size=10k",
        "--log-opt",
        "max-file=2",
        BUSYBOX,
        "seq",
        "1",
        "5000",
    ]);
    let log = engine.docker_ok(&["logs", "rr"]);
    let numbers: Vec<u32> = log
        .lines()
        .map(|l| l.parse().expect("whole lines"))
        .collect();
    assert_eq!(numbers.last(), Some(&5000));
    assert!(
        numbers.len() < 1000,
        "{} lines are left of 5000",
        numbers.len()
    );
    assert!(
        numbers.windows(2).all(|w| w[1] == w[0] + 1),
        "lines follow each other"
    );
}

#[test]
fn a_tty_log_is_raw() {
    let engine = Engine::start();
    engine.docker_ok(&["run", "-t", "--name", "tt", BUSYBOX, "echo", "x"]);
    let answer = engine
        .api()
        .get("/containers/tt/logs?stdout=1&stderr=1")
        .expect(200);
    assert_eq!(answer.body, b"x\r\n");
}

#[test]
fn asking_for_no_stream_is_refused() {
    let engine = Engine::start();
    finished(&engine, "ll", "true");
    let answer = engine.api().get("/containers/ll/logs");
    assert_eq!(
        (answer.status(), answer.message()),
        (
            400,
            "Bad parameters: you must choose at least one stream".to_owned()
        )
    );
}

#[test]
fn log_driver_none_keeps_nothing() {
    let engine = Engine::start();
    let output = engine.docker(&[
        "run",
        "--name",
        "nn",
        "--log-driver",
        "none",
        BUSYBOX,
        "echo",
        "shown",
    ]);
    assert_eq!((output.code, output.stdout.as_str()), (0, "shown\n"));
    let stderr = engine.docker_fails(&["logs", "nn"], 1);
    assert_eq!(
        stderr.trim_end(),
        "Error response from daemon: configured logging driver does not support reading"
    );
}

#[test]
fn many_lines_are_all_there() {
    let engine = Engine::start();
    finished(&engine, "mm", "seq 1 100000");
    let mut text = String::new();
    let (_, mut body) = engine.api().stream("GET", "/containers/mm/logs?stdout=1");
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).expect("the whole log");
    text.push_str(&frames::split(&bytes).0);
    assert_eq!(text.lines().count(), 100_000);
    assert!(text.ends_with("\n100000\n"));
}
