//! What a monitor costs. `cargo test --release -p wharf-runtime --test monitor -- measure` prints; nothing is asserted.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use wharf_runtime::client::{AttachRequest, LogPlan, Target};

use crate::fixture::{Container, Fixture, attach_all};
use crate::socket_pair;

pub async fn all(f: Fixture) {
    let wanted: Vec<String> = std::env::args().skip(2).collect();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|part| part == name);
    if chosen("start") {
        round_trip(&f).await;
        containers(&f).await;
    }
    if chosen("memory") {
        memory(&f).await;
    }
    if chosen("throughput") {
        throughput(&f).await;
    }
    if chosen("lines") {
        lines(&f).await;
    }
}

async fn round_trip(f: &Fixture) {
    let mut times = Vec::new();
    for _ in 0..300 {
        let mut request = f.request("round", "");
        request.plan.process.args = vec!["/bin/busybox".into(), "true".into()];
        let begin = Instant::now();
        let mut container = f.run(request, vec![]).await;
        let started = begin.elapsed();
        container.exit().await;
        times.push((started, begin.elapsed()));
    }
    times.sort();
    let (started, ended) = times[times.len() / 2];
    println!(
        "start and end of true: started after {started:?}, ended after {ended:?} (medians of 300)"
    );
    let mut times: Vec<Duration> = (0..300)
        .map(|_| {
            let begin = Instant::now();
            let mut child = std::process::Command::new("/bin/busybox")
                .arg("true")
                .spawn()
                .expect("spawn");
            let spawned = begin.elapsed();
            child.wait().expect("wait");
            spawned
        })
        .collect();
    times.sort();
    println!(
        "  of which fork and exec by the test itself: {:?}",
        times[150]
    );
}

async fn containers(f: &Fixture) {
    let Some(bed) = crate::bed::cannot_run()
        .is_none()
        .then(|| crate::bed::Bed::new(&["true"]))
    else {
        return;
    };
    let request = |n: usize| {
        let mut request = f.request(&format!("{}-{n}", bed.id), "");
        request.plan = bed.plan();
        request
    };
    let mut times = Vec::new();
    for _ in 0..200 {
        let request = request(0);
        let begin = Instant::now();
        let mut container = f.run(request, vec![]).await;
        let started = begin.elapsed();
        container.exit().await;
        times.push((started, begin.elapsed()));
    }
    times.sort();
    println!(
        "a container: started after {:?}, ended after {:?} (medians of 200)",
        times[100].0, times[100].1
    );
    let beds: Vec<_> = (0..100).map(|_| crate::bed::Bed::new(&["true"])).collect();
    let mut requests = Vec::new();
    for bed in &beds {
        let mut request = f.request(&bed.id, "");
        request.plan = bed.plan();
        requests.push(request);
    }
    let begin = Instant::now();
    let ends = requests
        .into_iter()
        .map(|request| async { f.run(request, vec![]).await.exit().await });
    crate::lifecycle::join_all(ends.collect()).await;
    println!(
        "100 containers at once, started and ended: {:?}",
        begin.elapsed()
    );
}

async fn memory(f: &Fixture) {
    const COUNT: usize = 100;
    let mut containers = Vec::new();
    for n in 0..COUNT {
        let mut request = f.request(&format!("m{n}"), "");
        request.plan.process.args = ["/bin/busybox", "sleep", "1000"].map(String::from).into();
        containers.push(f.run(request, vec![]).await);
    }
    let monitors: Vec<u32> = containers
        .iter()
        .map(|container| parent(container.started.pid))
        .collect();
    let sum = |field: &str| monitors.iter().map(|pid| rollup(*pid, field)).sum::<u64>();
    // A monitor keeps its buffers for a while: wait until nothing more is given back.
    let mut last = u64::MAX;
    while std::mem::replace(&mut last, sum("Private_Dirty")) > last {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let each = |field: &str| sum(field) as f64 / COUNT as f64;
    println!(
        "memory of one of {COUNT} idle monitors: {:.0} KiB private, {:.0} KiB PSS; spawner {} KiB PSS",
        each("Private_Dirty") + each("Private_Clean"),
        each("Pss"),
        rollup(f.spawner.pid(), "Pss")
    );
    print_mappings(monitors[COUNT / 2]);
    for mut container in containers {
        container
            .monitor
            .signal(Target::Init, 9)
            .await
            .expect("kill");
        container.exit().await;
    }
}

/// Mappings with private memory.
fn print_mappings(pid: u32) {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps");
    let mut name = String::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next().expect("a word") {
            "Private_Dirty:" if !line.contains(" 0 kB") => {
                println!("  {:>5} KiB dirty in {name}", words.next().expect("size"))
            }
            word if word.contains('-') => name = words.skip(4).collect::<Vec<_>>().join(" "),
            _ => {}
        }
    }
}

fn parent(pid: i32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    stat.rsplit_once(") ")
        .expect("stat")
        .1
        .split(' ')
        .nth(1)
        .expect("ppid")
        .parse()
        .expect("number")
}

fn rollup(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{field}:")))
        .expect("field");
    line.split_whitespace()
        .nth(1)
        .expect("size")
        .parse()
        .expect("number")
}

async fn throughput(f: &Fixture) {
    let file = f.dir.path().join("gigabyte");
    std::fs::write(&file, vec![0x55; 1 << 28]).expect("write");
    let path = file.display();
    for log in [false, true] {
        let (mut client, socket) = socket_pair();
        let mut request = f.request("t", &format!("exec cat {path} {path} {path} {path}"));
        if !log {
            request.log = LogPlan::None;
        }
        let begin = Instant::now();
        let attach = AttachRequest {
            stdin: false,
            ..attach_all()
        };
        let mut container = f.run(request, vec![(attach, socket)]).await;
        let (mut buffer, mut total) = (vec![0; 32 * 1024], 0);
        while let Ok(n @ 1..) = client.read(&mut buffer).await {
            total += n;
        }
        container.exit().await;
        println!(
            "1 GiB to a client{}: {:?} ({total} bytes)",
            if log { " and the log" } else { "" },
            begin.elapsed()
        );
        let _ = std::fs::remove_file(container.dir.join("log"));
    }
}

async fn lines(f: &Fixture) {
    let command = "yes 0123456789012345678901234567890123456789012345678901234567890123456 | cut -c1-63 | head -n 1000000";
    let data = f.dir.path().join("lines");
    std::fs::write(&data, format!("{}\n", "x".repeat(63)).repeat(1_000_000)).expect("write");
    for (what, script) in [
        ("from yes", command.to_owned()),
        ("from cat", format!("exec cat {}", data.display())),
    ] {
        let begin = Instant::now();
        let mut container: Container = f.run(f.request("l", &script), vec![]).await;
        container.exit().await;
        let size = std::fs::metadata(container.dir.join("log"))
            .expect("log")
            .len();
        println!(
            "1,000,000 lines of 64 bytes into the log, {what}: {:?} ({size} bytes)",
            begin.elapsed()
        );
        std::fs::remove_file(container.dir.join("log")).expect("remove");
    }
}
