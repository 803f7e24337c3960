//! Resource limits in the container's cgroup, version 1 or 2.

use std::path::PathBuf;

use wharf_e2e::Engine;
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::leftovers::cgroup_parents;

/// The value of the first of `files` that exists in a cgroup of container `id`.
fn value(engine: &Engine, id: &str, files: &[&str]) -> String {
    let parents = cgroup_parents(engine.cgroup_parent());
    let candidates = parents
        .iter()
        .flat_map(|p| files.iter().map(move |f| -> PathBuf { p.join(id).join(f) }));
    let found = candidates
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .next();
    found
        .unwrap_or_else(|| panic!("none of {files:?} below {parents:?}"))
        .trim()
        .to_owned()
}

fn limited(flags: &[&str]) -> (Engine, String) {
    let engine = Engine::start();
    let id = engine.run_detached(flags, &["sleep", "1000"]);
    (engine, id)
}

#[test]
fn memory_limit_is_set() {
    let (engine, id) = limited(&["--memory", "64m"]);
    assert_eq!(
        value(&engine, &id, &["memory.limit_in_bytes", "memory.max"]),
        "67108864"
    );
}

#[test]
fn swap_defaults_to_twice_the_memory() {
    let (engine, id) = limited(&["--memory", "64m"]);
    assert_eq!(
        engine.inspect(&id, "{{.HostConfig.MemorySwap}}"),
        "134217728"
    );
}

#[test]
fn memory_reservation_is_set() {
    let (engine, id) = limited(&["--memory", "64m", "--memory-reservation", "32m"]);
    assert_eq!(
        value(&engine, &id, &["memory.soft_limit_in_bytes", "memory.low"]),
        "33554432"
    );
}

#[test]
fn cpus_become_a_quota() {
    let (engine, id) = limited(&["--cpus", "0.5"]);
    let quota = value(&engine, &id, &["cpu.cfs_quota_us", "cpu.max"]);
    assert!(
        ["50000", "50000 100000"].contains(&quota.as_str()),
        "{quota}"
    );
}

#[test]
fn cpu_shares_are_set() {
    let (engine, id) = limited(&["--cpu-shares", "512"]);
    let shares = value(&engine, &id, &["cpu.shares", "cpu.weight"]);
    assert!(["512", "20"].contains(&shares.as_str()), "{shares}");
}

#[test]
fn cpuset_is_set() {
    let (engine, id) = limited(&["--cpuset-cpus", "0"]);
    assert_eq!(value(&engine, &id, &["cpuset.cpus"]), "0");
    assert_eq!(
        engine.docker_ok(&[
            "exec",
            &id,
            "sh",
            "-c",
            "grep Cpus_allowed_list /proc/1/status | cut -f2"
        ]),
        "0"
    );
}

#[test]
fn pids_limit_is_set_and_enforced() {
    let (engine, id) = limited(&["--pids-limit", "10"]);
    assert_eq!(value(&engine, &id, &["pids.max"]), "10");
    let script = "i=0; while [ $i -lt 20 ]; do sleep 5 & i=$((i+1)); done; echo all";
    let output = engine.docker(&["exec", &id, "sh", "-c", script]);
    assert!(!output.stdout.contains("all"), "{output:?}");
}

#[test]
fn exceeding_memory_kills_and_says_so() {
    let engine = Engine::start();
    let script = "head -c 200m /dev/zero | tail >/dev/null";
    let output = engine.docker(&[
        "run",
        "--name",
        "oom",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        BUSYBOX,
        "sh",
        "-c",
        &format!("exec sh -c '{script}'; exit 1"),
    ]);
    assert_ne!(output.code, 0);
    assert_eq!(engine.inspect("oom", "{{.State.OOMKilled}}"), "true");
}

#[test]
fn processes_are_in_the_containers_cgroup_on_the_host() {
    let (engine, id) = limited(&[]);
    let pid = engine.inspect(&id, "{{.State.Pid}}");
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a live process");
    let memory = groups
        .lines()
        .find(|l| l.contains(":memory:") || l.starts_with("0::"))
        .expect("a cgroup");
    assert!(
        memory.ends_with(&format!("/{}/{id}", engine.cgroup_parent())),
        "{groups}"
    );
}

#[test]
fn a_cgroup_parent_can_be_chosen() {
    let engine = Engine::start();
    let parent = format!("/{}/below", engine.cgroup_parent());
    let id = engine.run_detached(&["--cgroup-parent", &parent], &["sleep", "1000"]);
    let pid = engine.inspect(&id, "{{.State.Pid}}");
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a live process");
    assert!(
        groups
            .lines()
            .any(|l| l.ends_with(&format!("{parent}/{id}"))),
        "{groups}"
    );
    engine.docker_ok(&["rm", "-f", &id]);
    for root in cgroup_parents(engine.cgroup_parent()) {
        let _ = std::fs::remove_dir(root.join("below"));
    }
}
