//! Limits, proven by what happens to who exceeds them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use wharf_e2e::Engine;
use wharf_e2e::deadline::{wait_for, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::leftovers::cgroup_parents;

const LIMIT: Duration = Duration::from_secs(30);

/// The first of `names` that exists in one of the container's groups.
fn cgroup_file(engine: &Engine, id: &str, names: &[&str]) -> PathBuf {
    let parents = cgroup_parents(engine.cgroup_parent());
    let mut candidates = names
        .iter()
        .flat_map(|name| parents.iter().map(move |parent| parent.join(id).join(name)));
    candidates
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("none of {names:?} below {parents:?}"))
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Nanoseconds of CPU that a container has used.
fn cpu_time(engine: &Engine, id: &str) -> u64 {
    let path = cgroup_file(engine, id, &["cpuacct.usage", "cpu.stat"]);
    let text = read(&path);
    match text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))
    {
        Some(micros) => micros.parse::<u64>().expect("a number") * 1000,
        None => text.trim().parse().expect("a number"),
    }
}

#[test]
fn a_memory_hog_is_killed_and_reported() {
    let engine = Engine::start();
    let hog = "head -c 200m /dev/zero | tail >/dev/null; sleep 1000";
    let flags = ["--memory", "16m", "--memory-swap", "16m"];
    let id = engine.run_detached(&flags, &["sh", "-c", hog]);
    // The hog is a child: the container goes on, and it is known all the same.
    engine.wait_inspect(&id, "{{.State.OOMKilled}}", "true");
    let until = engine.docker_ok(&["info", "--format", "{{.SystemTime}}"]);
    let events = engine.docker_ok(&[
        "events",
        "--since",
        "1m",
        "--until",
        &until,
        "--filter",
        "event=oom",
        "--format",
        "{{.ID}}",
    ]);
    assert_eq!(events.lines().next(), Some(id.as_str()));
}

#[test]
fn a_limit_set_later_kills_as_well() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sleep", "1000"]);
    engine.docker_ok(&["update", "--memory", "16m", "--memory-swap", "16m", &id]);
    let _ = engine.docker(&[
        "exec",
        &id,
        "sh",
        "-c",
        "head -c 200m /dev/zero | tail >/dev/null",
    ]);
    engine.wait_inspect(&id, "{{.State.OOMKilled}}", "true");
}

#[test]
fn a_fork_bomb_stops_at_the_limit() {
    let engine = Engine::start();
    let bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1000";
    let id = engine.run_detached(&["--pids-limit", "25"], &["sh", "-c", bomb]);
    let current = cgroup_file(&engine, &id, &["pids.current"]);
    let events = cgroup_file(&engine, &id, &["pids.events"]);
    wait_until("the limit to be hit", LIMIT, || {
        !read(&events).contains("max 0")
    });
    assert!(read(&current).trim().parse::<u32>().expect("a number") <= 25);
    assert_eq!(
        engine.run(&[], &["echo", "the host lives"]),
        "the host lives"
    );
}

#[test]
fn a_cpu_hog_gets_its_quota() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--cpus", "0.2"], &["sh", "-c", "while :; do :; done"]);
    wait_until("the hog to run", LIMIT, || {
        cpu_time(&engine, &id) > 20_000_000
    });
    // Other tests want the processors too, and can only make it less: one good second of several is the proof.
    let share = wait_for("a fifth of a processor", LIMIT, || {
        let (begin, used) = (Instant::now(), cpu_time(&engine, &id));
        std::thread::sleep(Duration::from_secs(1));
        let used = cpu_time(&engine, &id) - used;
        let share = Duration::from_nanos(used).as_secs_f64() / begin.elapsed().as_secs_f64();
        assert!(share < 0.22, "{share} of a processor");
        (share > 0.18).then_some(share)
    });
    engine.docker_ok(&["update", "--cpus", "0.5", &id]);
    wait_for("more after an update", LIMIT, || {
        let (begin, before) = (Instant::now(), cpu_time(&engine, &id));
        std::thread::sleep(Duration::from_millis(500));
        let used = Duration::from_nanos(cpu_time(&engine, &id) - before);
        (used.as_secs_f64() / begin.elapsed().as_secs_f64() > share * 1.5).then_some(())
    });
}

/// Device file of the disk that `path` is on. `None`: it is on no disk.
fn disk_of(path: &std::path::Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(path).expect("there").dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let uevent = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).ok()?;
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))?;
    // Limits are those of whole disks.
    let whole = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let whole = if std::path::Path::new(&format!("/sys/block/{name}")).exists() {
        name
    } else {
        whole
    };
    Some(format!("/dev/{whole}"))
}

#[test]
fn writing_is_slowed_to_its_limit() {
    let engine = Engine::start();
    let disk = disk_of(engine.data_root()).expect("tests run on a disk");
    let seconds = |flags: &[&str]| {
        let id = engine.run_detached(&[&["-v", "/data"], flags].concat(), &["sleep", "1000"]);
        let begin = Instant::now();
        engine.docker_ok(&[
            "exec",
            &id,
            "dd",
            "if=/dev/zero",
            "of=/data/file",
            "bs=256k",
            "count=16",
            "oflag=direct",
        ]);
        begin.elapsed().as_secs_f64()
    };
    // Four megabytes.
    let (fast, slow) = (format!("{disk}:4mb"), format!("{disk}:2mb"));
    let (fast, slow) = (
        seconds(&["--device-write-bps", &fast]),
        seconds(&["--device-write-bps", &slow]),
    );
    assert!(fast > 0.8 && slow > 1.7, "{fast} s, {slow} s");
}

#[test]
fn a_paused_container_makes_no_progress() {
    let engine = Engine::start();
    let id = engine.run_detached(&[], &["sh", "-c", "while :; do :; done"]);
    wait_until("progress", LIMIT, || cpu_time(&engine, &id) > 10_000_000);
    engine.docker_ok(&["pause", &id]);
    let frozen = cpu_time(&engine, &id);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(cpu_time(&engine, &id), frozen);
    engine.docker_ok(&["unpause", &id]);
    wait_until("progress again", LIMIT, || cpu_time(&engine, &id) > frozen);
}

#[test]
fn every_limit_can_be_changed_while_running() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--memory", "64m"], &["sleep", "1000"]);
    engine.docker_ok(&[
        "update",
        "--memory",
        "256m",
        "--memory-swap",
        "512m",
        "--memory-reservation",
        "32m",
        "--cpu-shares",
        "512",
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "25000",
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--pids-limit",
        "77",
        &id,
    ]);
    for (names, expected) in [
        (
            &["memory.limit_in_bytes", "memory.max"][..],
            &["268435456"][..],
        ),
        (
            &["memory.memsw.limit_in_bytes", "memory.swap.max"],
            &["536870912", "268435456"],
        ),
        (&["memory.soft_limit_in_bytes", "memory.low"], &["33554432"]),
        (&["cpu.shares", "cpu.weight"], &["512", "20"]),
        (&["cpu.cfs_quota_us", "cpu.max"], &["25000", "25000 50000"]),
        (&["cpuset.cpus"], &["0"]),
        (&["pids.max"], &["77"]),
    ] {
        let value = read(&cgroup_file(&engine, &id, names));
        assert!(expected.contains(&value.trim()), "{names:?}: {value}");
    }
    // Down again: memory must go below memory plus swap first.
    engine.docker_ok(&[
        "update",
        "--memory",
        "32m",
        "--memory-swap",
        "32m",
        "--memory-reservation",
        "16m",
        &id,
    ]);
    engine.docker_ok(&["update", "--pids-limit", "-1", &id]);
    assert_eq!(
        read(&cgroup_file(&engine, &id, &["pids.max"])).trim(),
        "max"
    );
    assert_eq!(
        engine.inspect(&id, "{{.HostConfig.Memory}} {{.HostConfig.CpuQuota}}"),
        "33554432 25000"
    );
}

#[test]
fn a_refused_update_changes_nothing() {
    let engine = Engine::start();
    let id = engine.run_detached(&["--memory", "64m"], &["sleep", "1000"]);
    let answer = engine.docker_fails(&["update", "--memory", "400m", &id], 1);
    assert!(
        answer.contains("Memory limit should be smaller than already set memoryswap limit"),
        "{answer}"
    );
    assert_eq!(engine.inspect(&id, "{{.HostConfig.Memory}}"), "67108864");
}

#[test]
fn resource_limits_of_processes_are_set() {
    let engine = Engine::start();
    let script = "ulimit -n; ulimit -Hn; ulimit -c; ulimit -u";
    let flags = [
        "--ulimit",
        "nofile=100:200",
        "--ulimit",
        "core=-1",
        "--ulimit",
        "nproc=50",
    ];
    assert_eq!(
        engine.run(&flags, &["sh", "-c", script]),
        "100\n200\nunlimited\n50"
    );
}

#[test]
fn a_device_rule_gives_access() {
    let engine = Engine::start();
    let script = "mknod /k c 1 11 && head -c 1 /k >/dev/null 2>&1 && echo read; (echo x >/k) 2>/dev/null && echo written; true";
    assert_eq!(engine.run(&[], &["sh", "-c", script]), "");
    let rule = ["--device-cgroup-rule", "c 1:11 r", "--cap-add", "SYSLOG"];
    assert_eq!(engine.run(&rule, &["sh", "-c", script]), "read");
}

#[test]
fn statistics_have_dockers_fields() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &["--memory", "64m", "--pids-limit", "9"],
        &["sh", "-c", "while :; do :; done"],
    );
    let stats = engine
        .api()
        .get(&format!("/containers/{id}/stats?stream=0"))
        .expect(200)
        .json();
    assert_eq!(stats["memory_stats"]["limit"], 67_108_864);
    assert!(stats["memory_stats"]["usage"].as_u64() > Some(0));
    assert_eq!(stats["pids_stats"]["limit"], 9);
    assert!(
        stats["cpu_stats"]["cpu_usage"]["total_usage"].as_u64()
            > stats["precpu_stats"]["cpu_usage"]["total_usage"].as_u64()
    );
    assert!(stats["cpu_stats"]["system_cpu_usage"].as_u64() > Some(0));
    assert!(stats["networks"]["eth0"]["rx_bytes"].is_u64());
    assert!(stats["blkio_stats"].is_object() && stats["storage_stats"].is_object());
    assert_eq!(stats["Wharf"]["OomKills"], 0);
    let one_shot = engine
        .api()
        .get(&format!("/containers/{id}/stats?stream=0&one-shot=1"))
        .expect(200)
        .json();
    assert_eq!(one_shot["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    let gone = engine.docker(&["run", "--rm", BUSYBOX, "true"]);
    assert_eq!(gone.code, 0);
}
