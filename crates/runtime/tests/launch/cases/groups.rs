//! Control groups of running containers.

use serde_json::json;
use wharf_runtime::cgroup::CgroupPath;
use wharf_runtime::plan::ExecOptions;

use super::sh;
use crate::bed::{Bed, is_v2, pipes, wait};

pub fn limits_are_in_force() {
    let mut bed = Bed::new(&[]);
    let resources = bed.spec["linux"]["resources"]
        .as_object_mut()
        .expect("object");
    resources.insert(
        "memory".into(),
        json!({"limit": 67108864, "swap": 67108864, "reservation": 33554432}),
    );
    resources.insert(
        "cpu".into(),
        json!({"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"}),
    );
    resources.insert("pids".into(), json!({"limit": 77}));
    let (files, expected) = if is_v2() {
        (
            "memory.max memory.swap.max cpu.weight cpu.max pids.max cpuset.cpus",
            "67108864\n0\n20\n50000 100000\n77\n0",
        )
    } else {
        (
            "memory/memory.limit_in_bytes cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max \
             cpuset/cpuset.cpus",
            "67108864\n512\n50000\n100000\n77\n0",
        )
    };
    assert_eq!(
        sh(&mut bed, &format!("cd /sys/fs/cgroup; cat {files}")),
        expected
    );
    // A refused value is runc's error, and the group is gone.
    bed.spec["linux"]["resources"]["cpu"] = json!({"cpus": "4000"});
    let error = bed.try_run().expect_err("no such cpu");
    assert!(
        error
            .message
            .contains("failed to write \"4000\": write /sys/fs/cgroup/"),
        "{error}"
    );
    assert!(bed.cgroup_dirs().iter().all(|d| !d.exists()));
}

/// Nodes may be made, but the device behind one is opened only if a rule allows it.
pub fn devices_are_refused() {
    let mut bed = Bed::new(&[]);
    let script = "mknod /tmp/mem c 1 1 && (cat /tmp/mem 2>&1 | head -c 0; dd if=/tmp/mem count=1 2>&1 | head -n1); \
        mknod /tmp/zero c 1 5 && dd if=/tmp/zero bs=1 count=3 2>/dev/null | wc -c; echo ok > /dev/null && echo fine";
    assert_eq!(
        sh(&mut bed, script),
        "dd: can't open '/tmp/mem': Operation not permitted\n3\nfine"
    );
}

pub fn groups_freeze_list_and_kill() {
    let mut bed = Bed::new(&[]);
    bed.spec["process"]["args"] = json!(["sh", "-c", "sleep 1000 & echo up; wait"]);
    let (stdio, mut streams) = pipes();
    let launched = bed.start(stdio).expect("launched");
    assert_eq!(streams.read_until("up\n"), "up\n");
    let group = bed.plan().cgroup.path;
    let pids = group.pids().expect("readable");
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&launched.pid));
    group.freeze().expect("frozen");
    if !is_v2() {
        let state = group.dir("freezer").expect("mounted").join("freezer.state");
        assert_eq!(
            std::fs::read_to_string(state).expect("readable").trim(),
            "FROZEN"
        );
    }
    group.thaw().expect("thawed");
    group.freeze().expect("frozen");
    // Also from the freezer.
    group.kill_all().expect("killed");
    assert_eq!(wait(launched.pid), 137);
    group.remove().expect("removed");
    group.remove().expect("removing twice is fine");
}

pub fn memory_kills_are_counted() {
    let mut bed = Bed::new(&[]);
    bed.spec["linux"]["resources"]["memory"] = json!({"limit": 16777216, "swap": 16777216});
    bed.spec["process"]["args"] =
        json!(["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    let (stdio, streams) = pipes();
    let launched = bed.start(stdio).expect("launched");
    let output = streams.finish(&launched);
    assert_eq!(output.code, 137);
    assert_eq!(bed.plan().cgroup.path.oom_kills(), 1);
}

pub fn statistics_are_read() {
    let mut bed = Bed::new(&[]);
    bed.spec["linux"]["resources"]["memory"] = json!({"limit": 67108864});
    bed.spec["linux"]["resources"]["pids"] = json!({"limit": 55});
    bed.spec["process"]["args"] = json!([
        "sh",
        "-c",
        "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo up; read x"
    ]);
    let (stdio, mut streams) = pipes();
    let launched = bed.start(stdio).expect("launched");
    streams.read_until("up\n");
    let stats = bed.plan().cgroup.path.stats().expect("readable");
    assert!(stats.cpu.total > 100_000, "{stats:?}");
    assert_eq!(stats.memory.limit, 67_108_864);
    assert!(stats.memory.usage > 0 && stats.memory.usage < stats.memory.limit);
    assert!(!stats.memory.stats.is_empty());
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 55));
    drop(streams.finish(&launched));
}

/// Killed before it is the program: an error, not a start.
pub fn a_limit_too_small_to_start_is_an_error() {
    let mut bed = Bed::new(&["true"]);
    bed.spec["linux"]["resources"]["memory"] = json!({"limit": 4096, "swap": 4096});
    let error = bed.try_run().expect_err("too little to start in");
    assert_eq!(
        error.message,
        "container init was OOM-killed (memory limit too low?)"
    );
    assert!(bed.cgroup_dirs().iter().all(|d| !d.exists()));
}

/// v2: processes live in leaves only, so an exec cannot go where the container was started.
pub fn an_exec_finds_nested_groups() {
    if !is_v2() {
        return;
    }
    let mut bed = Bed::new(&[]);
    let init = bed.start_sleeping();
    let CgroupPath::V2(dir) = bed.plan().cgroup.path else {
        unreachable!("v2 above")
    };
    let nested = dir.join("own/init");
    std::fs::create_dir_all(&nested).expect("nested group");
    std::fs::write(nested.join("cgroup.procs"), init.pid.to_string()).expect("moved");
    std::fs::write(dir.join("cgroup.subtree_control"), "+pids").expect("enabled");
    let options = ExecOptions {
        args: vec!["cat".into(), "/proc/self/cgroup".into()],
        ..ExecOptions::default()
    };
    assert_eq!(
        bed.exec(&init, options).expect("launched").stdout,
        "0::/own/init\n"
    );
    assert_eq!(bed.plan().cgroup.path.pids().expect("readable"), [init.pid]);
    bed.stop(&init);
    assert!(!dir.exists());
}
