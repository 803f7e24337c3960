//! Measures what an attachment costs: `attach [count] [pause in ms]`, in a network namespace of its own. Needs root.

use std::time::{Duration, Instant};

use wharf_network::{EndpointRequest, NetworkConfig, NetworkManager, PortRequest, Protocol};

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse::<u64>().expect("a number"));
    let count = arguments.next().unwrap_or(500);
    let pause = Duration::from_millis(arguments.next().unwrap_or(5));
    wharf_sys::netns::unshare().expect("new network namespace");
    let start = Instant::now();
    let manager =
        NetworkManager::open(NetworkConfig::default(), Vec::new(), Vec::new()).expect("open");
    println!("open               {:>8.3} ms", millis(start.elapsed()));
    let request = [EndpointRequest {
        network: "bridge".into(),
        ..EndpointRequest::default()
    }];

    measure("attach", count, pause, || {
        let start = Instant::now();
        let sandbox = manager.attach("bench", &request).expect("attach");
        let taken = start.elapsed();
        manager.release(&sandbox.endpoints[0]);
        taken
    });
    measure("isolated", count, pause, || {
        let start = Instant::now();
        let sandbox = manager.isolated().expect("isolated");
        let taken = start.elapsed();
        manager.release(&sandbox.endpoints[0]);
        taken
    });
    let ports = (0..200).map(port).collect();
    let publishing = [EndpointRequest {
        network: "bridge".into(),
        ports,
        ..EndpointRequest::default()
    }];
    measure("with 200 ports", count.min(50), pause, || {
        let start = Instant::now();
        let sandbox = manager.attach("bench", &publishing).expect("attach");
        let taken = start.elapsed();
        manager.release(&sandbox.endpoints[0]);
        taken
    });
    let start = Instant::now();
    for _ in 0..count {
        let sandbox = manager.attach("bench", &request).expect("attach");
        manager.release(&sandbox.endpoints[0]);
    }
    #[allow(clippy::cast_precision_loss)] // a count of a benchmark
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("back to back       {rate:>8.0} attachments/s");
}

fn port(number: u16) -> PortRequest {
    PortRequest {
        protocol: Protocol::Tcp,
        container_port: 1000 + number,
        host_address: None,
        host_port: 9000 + number,
        host_port_end: 9000 + number,
    }
}

fn measure(name: &str, count: u64, pause: Duration, mut once: impl FnMut() -> Duration) {
    let cpu_before = own_processor_time();
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            std::thread::sleep(pause);
            once()
        })
        .collect();
    let cpu = (own_processor_time() - cpu_before) / u32::try_from(count).expect("a small count");
    times.sort();
    let at = |part: usize| millis(times[(times.len() * part / 100).min(times.len() - 1)]);
    println!(
        "{name:<18} p10 {:.3} ms, p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, max {:.3} ms; {:.3} ms of this thread's processor time each",
        at(10),
        at(50),
        at(90),
        at(99),
        at(100),
        millis(cpu)
    );
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Processor time of the calling thread, which a busy machine does not inflate; with the sleeps and the release in it.
fn own_processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).expect("nanoseconds"),
    )
}
