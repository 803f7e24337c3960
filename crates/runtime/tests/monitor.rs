//! Spawner, monitor and the daemon's end of them, as real processes. In most tests they watch plain programs instead of containers;
//! what needs namespaces and control groups is in `real`.
//!
//! This file is also the spawner's binary (`monitor spawner`), hence its own `main`. Arguments that are no flags select tests by name.

#[path = "monitor/attach.rs"]
mod attach;
#[allow(dead_code)]
#[path = "launch/bed.rs"]
mod bed;
#[path = "monitor/double.rs"]
mod double;
#[path = "monitor/fixture.rs"]
mod fixture;
#[path = "monitor/lifecycle.rs"]
mod lifecycle;
#[path = "monitor/measure.rs"]
mod measure;
#[path = "monitor/real.rs"]
mod real;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use fixture::Fixture;

/// A test gets a fresh directory with a spawner and may take this long.
const LIMIT: Duration = Duration::from_secs(30);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "spawner") {
        wharf_runtime::spawner::run(double::LAUNCHER);
    }
    if args.iter().any(|arg| arg == "--list") {
        return;
    }
    if args.get(1).is_some_and(|arg| arg == "measure") {
        run("measure", |f| Box::pin(measure::all(f)));
        return;
    }
    let wanted: Vec<&String> = args[1..]
        .iter()
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let containers = match bed::cannot_run() {
        Some(why) => {
            println!("SKIPPED: real containers: {why}");
            &[]
        }
        None => real::TESTS,
    };
    let mut failures = 0;
    for (name, test) in attach::TESTS
        .iter()
        .chain(lifecycle::TESTS)
        .chain(containers)
    {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            failures += u32::from(!run(name, *test));
        }
    }
    std::process::exit(i32::from(failures > 0));
}

type Test = fn(Fixture) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn run(name: &str, test: Test) -> bool {
    let begin = Instant::now();
    let passed = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let fixture = Fixture::new().await;
            tokio::time::timeout(LIMIT, test(fixture))
                .await
                .expect("the test took too long");
        });
    });
    println!(
        "test {name} ... {} ({:?})",
        if passed.is_ok() { "ok" } else { "FAILED" },
        begin.elapsed()
    );
    passed.is_ok()
}

/// A pair of connected stream sockets: what a client has, what the daemon hands over.
fn socket_pair() -> (tokio::net::UnixStream, OwnedFd) {
    let (client, daemon) = std::os::unix::net::UnixStream::pair().expect("socketpair");
    client.set_nonblocking(true).expect("non-blocking");
    (
        tokio::net::UnixStream::from_std(client).expect("tokio socket"),
        daemon.into(),
    )
}
