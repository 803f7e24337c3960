//! Many containers, one after another and at once: nothing stays, and the daemon does not grow.

use std::fs;

use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;

/// `WHARF_LONG=1` asks for the full count.
fn count(usual: usize, long: usize) -> usize {
    if std::env::var_os("WHARF_LONG").is_some() {
        long
    } else {
        usual
    }
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the daemon's descriptors")
        .count()
}

/// Memory of a process in KiB that is its own whatever others do: pages it has written. Clean pages of the program's file do not
/// count, they become private when the daemon of another test ends.
fn own_kib(pid: u32) -> u64 {
    let text =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the daemon's memory");
    let field = text.lines().find_map(|l| l.strip_prefix("Private_Dirty:"));
    let kib = field.and_then(|v| v.trim().trim_end_matches(" kB").parse().ok());
    kib.expect("smaps_rollup has Private_Dirty")
}

fn run_in_sequence(engine: &Engine, n: usize) {
    for i in 0..n {
        let output = engine.docker(&["run", "--rm", BUSYBOX, "true"]);
        assert_eq!(output.code, 0, "run {i}: {output:?}");
    }
}

#[test]
fn sequential_runs_leave_nothing_and_memory_is_flat() {
    let engine = Engine::start();
    let n = if engine.is_reference() {
        20
    } else {
        count(200, 1000)
    };
    run_in_sequence(&engine, 20);
    engine.assert_settled();
    let (files, memory) = (open_files(engine.pid()), own_kib(engine.pid()));
    run_in_sequence(&engine, n);
    engine.assert_settled();
    assert!(
        open_files(engine.pid()) <= files + 3,
        "descriptors: {files} before, {} after",
        open_files(engine.pid())
    );
    let grown = own_kib(engine.pid()).saturating_sub(memory);
    assert!(
        engine.is_reference() || grown < 4096,
        "the daemon grew by {grown} KiB in {n} runs"
    );
    assert!(engine.container_ids().is_empty());
    assert_eq!(layer_dirs(&engine), 1, "the image's layer alone");
    if !engine.is_reference() {
        assert_eq!(
            exec_root_entries_named_by_ids(&engine),
            Vec::<String>::new()
        );
    }
}

fn layer_dirs(engine: &Engine) -> usize {
    let entries = fs::read_dir(engine.data_root().join("overlay2")).expect("the layers");
    entries
        .flatten()
        .filter(|e| !["l", "init", "new"].iter().any(|own| e.file_name() == *own))
        .count()
}

/// Files or directories anywhere below the exec root whose name holds a container id.
fn exec_root_entries_named_by_ids(engine: &Engine) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![engine.exec_root()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.len() >= 64 && name[..64].bytes().all(|b| b.is_ascii_hexdigit()) {
                found.push(entry.path().display().to_string());
            }
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                todo.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn fifty_at_once_all_succeed() {
    let engine = Engine::start();
    let all: Vec<_> = (0..50)
        .map(|i| engine.docker_start(&["run", "--rm", BUSYBOX, "echo", &i.to_string()]))
        .collect();
    for (i, one) in all.into_iter().enumerate() {
        let output = one.finish();
        assert_eq!(
            (output.code, output.stdout),
            (0, format!("{i}\n")),
            "{}",
            output.stderr
        );
    }
    wharf_e2e::deadline::wait_until("all to be removed", wharf_e2e::deadline::LONG, || {
        engine.container_ids().is_empty()
    });
    engine.assert_settled();
}

#[test]
fn failed_starts_leave_nothing() {
    let engine = Engine::start();
    for _ in 0..10 {
        let _ = engine.docker(&["run", "--rm", BUSYBOX, "no-such-command"]);
        let _ = engine.docker(&["run", "--rm", "--user", "nosuchuser", BUSYBOX, "true"]);
        let _ = engine.docker(&["run", "--rm", "-w", "/etc/passwd/below", BUSYBOX, "true"]);
    }
    assert!(engine.container_ids().is_empty());
    engine.assert_settled();
}

#[test]
fn many_execs_leave_nothing() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    for _ in 0..5 {
        engine.docker_ok(&["exec", &id, "true"]);
    }
    let files = open_files(engine.pid());
    for _ in 0..30 {
        engine.docker_ok(&["exec", &id, "true"]);
    }
    assert!(engine.is_reference() || open_files(engine.pid()) <= files + 3);
    assert_eq!(engine.inspect(&id, "{{json .ExecIDs}}"), "null");
    let inside = engine.docker_ok(&["exec", &id, "sh", "-c", "set -- /proc/[0-9]*; echo $#"]);
    assert_eq!(inside, "2", "sleep and sh");
}
