//! How long a launch takes. Runs only when named: `cargo test --release --test launch -- speed`.

use std::time::{Duration, Instant};

use serde_json::json;
use wharf_runtime::launch::{launch, launch_exec};
use wharf_runtime::plan::{ExecOptions, plan_exec};

use crate::bed::{Bed, pipes, wait};

const ROUNDS: usize = 200;

/// From the call to `execve`, and from there to a reaped process and removed groups.
pub fn speed_of_a_launch() {
    for (name, without, init) in [
        ("everything new", "", false),
        ("host's cgroup namespace (Docker on v1)", "cgroup", false),
        ("host's network namespace", "network", false),
        ("--init", "", true),
    ] {
        let mut bed = Bed::new(&["true"]);
        bed.extra.init = init;
        bed.spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("list")
            .retain(|n| n["type"] != without);
        let plan = bed.plan();
        let (mut started, mut ended) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (stdio, streams) = pipes();
            let begin = Instant::now();
            let launched = launch(&plan, stdio, None).expect("launched");
            started.push(begin.elapsed());
            streams.finish(&launched);
            plan.cgroup.path.remove().expect("removed");
            ended.push(begin.elapsed());
        }
        println!(
            "{name}: to execve {}, to removed {}",
            summary(started),
            summary(ended)
        );
    }
}

pub fn speed_of_an_exec() {
    let mut bed = Bed::new(&[]);
    let init = bed.start_sleeping();
    let options = ExecOptions {
        args: vec!["true".into()],
        ..ExecOptions::default()
    };
    let plan = plan_exec(&bed.plan(), options, &bed.host).expect("planned");
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (stdio, _streams) = pipes();
        let begin = Instant::now();
        let launched = launch_exec(&plan, &init.pidfd, stdio).expect("launched");
        started.push(begin.elapsed());
        wait(launched.pid);
        ended.push(begin.elapsed());
    }
    println!(
        "exec: to execve {}, to reaped {}",
        summary(started),
        summary(ended)
    );
    bed.stop(&init);
    assert_eq!(bed.spec["hostname"], json!("testhost"));
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    let (n, ms) = (times.len(), |t: Duration| t.as_secs_f64() * 1000.0);
    format!(
        "{:.2} ms (least {:.2}, p10 {:.2})",
        ms(times[n / 2]),
        ms(times[0]),
        ms(times[n / 10])
    )
}
