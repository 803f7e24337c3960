//! SIGKILL of anything at any moment: what was acknowledged is accounted for, and nothing is left over.
//!
//! `WHARF_E2E_KILL_OPS` operations (60 unless set) by several clients, with `WHARF_E2E_SEED`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use wharf_e2e::cli::{Output, Running};
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind, leftovers};

const CLIENTS: u64 = 3;

/// What the clients were told last about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It was created.
    There,
    /// It was removed.
    Gone,
    /// An answer is missing: both are right.
    Unknown,
}

/// Numbers that repeat with the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's constants.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn docker(engine: &RwLock<Engine>, args: &[&str]) -> Output {
    let mut command = engine.read().expect("no panic").docker_command(args);
    Running::start(&mut command).finish()
}

/// Creates, runs, stops, executes and removes, each container by one client only.
fn churn(
    engine: &RwLock<Engine>,
    client: u64,
    seed: u64,
    left: &AtomicUsize,
    told: &Mutex<BTreeMap<String, Told>>,
) {
    let mut random = Random(seed ^ ((client + 1) * 7919));
    let mut own: Vec<String> = Vec::new();
    let note = |name: &str, what: Told| {
        told.lock().expect("no panic").insert(name.to_owned(), what);
    };
    for at in 0.. {
        if left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_err()
        {
            return;
        }
        let pick = |random: &mut Random| {
            let place = random.below(own.len().max(1) as u64);
            own.get(usize::try_from(place).expect("few")).cloned()
        };
        match (random.below(6), pick(&mut random)) {
            (0, Some(name)) => {
                note(&name, Told::Unknown);
                own.retain(|other| *other != name);
                if docker(engine, &["rm", "-f", &name]).code == 0 {
                    note(&name, Told::Gone);
                }
            }
            (1, Some(name)) => drop(docker(engine, &["stop", "-t", "0", &name])),
            (2, Some(name)) => drop(docker(engine, &["start", &name])),
            (3, Some(name)) => drop(docker(engine, &["exec", &name, "true"])),
            _ => {
                let name = format!("c{client}-{at}");
                note(&name, Told::Unknown);
                let policy = if random.below(3) == 0 { "always" } else { "no" };
                let network = if random.below(2) == 0 {
                    "bridge"
                } else {
                    "none"
                };
                let made = docker(
                    engine,
                    &[
                        "run",
                        "-d",
                        "--name",
                        &name,
                        "--restart",
                        policy,
                        "--network",
                        network,
                        BUSYBOX,
                        "sleep",
                        "1000",
                    ],
                );
                if made.code == 0 {
                    note(&name, Told::There);
                    own.push(name);
                }
            }
        }
    }
}

/// Processes of the daemon's by name.
fn named(engine: &Engine, name: &str) -> Vec<u32> {
    let is_named = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    engine
        .netns()
        .processes()
        .into_iter()
        .filter(is_named)
        .collect()
}

/// Kills some of daemon, spawner, a monitor and netd, alone or together; a killed daemon is started again.
fn strike(engine: &RwLock<Engine>, random: &mut Random) {
    let (victims, pause) = (
        1 + random.below(15),
        Duration::from_millis(random.below(120)),
    );
    let mut engine = engine.write().expect("no panic");
    let kill_one = |list: Vec<u32>, random: &mut Random| {
        let place = random.below(list.len().max(1) as u64);
        if let Some(pid) = list.get(usize::try_from(place).expect("few")) {
            wharf_e2e::engine::kill(*pid);
        }
    };
    if victims & 2 != 0 {
        kill_one(named(&engine, "wharf-spawner"), random);
    }
    if victims & 4 != 0 {
        kill_one(named(&engine, "wharf-monitor"), random);
    }
    if victims & 8 != 0 {
        kill_one(named(&engine, "wharf-netd"), random);
    }
    if victims & 1 != 0 {
        engine.kill_daemon();
        std::thread::sleep(pause);
        engine.start_daemon();
    }
}

/// The engine agrees with the kernel about every container.
fn assert_true_states(engine: &Engine) {
    for id in engine.container_ids() {
        let mut last = String::new();
        wait_until("the state to be true", LONG, || {
            last = engine
                .docker(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", &id])
                .stdout;
            let Some((status, pid)) = last.trim().split_once(' ') else {
                return false;
            };
            let pid = pid.parse().expect("a number");
            let alive = leftovers::state_and_parent(pid).is_some_and(|(state, _)| state != 'Z');
            match status {
                "running" => pid != 0 && alive,
                // On its way to one of the others.
                "restarting" => false,
                _ => pid == 0,
            }
        });
    }
}

#[test]
fn kills_at_random_moments_lose_and_leak_nothing() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let operations = number("WHARF_E2E_KILL_OPS", 60);
    let seed = number("WHARF_E2E_SEED", 1);
    let engine = RwLock::new(Engine::start());
    let left = AtomicUsize::new(usize::try_from(operations).expect("not that many"));
    let told = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (engine, left, told) = (&engine, &left, &told);
            scope.spawn(move || churn(engine, client, seed, left, told));
        }
        let mut random = Random(seed);
        while left.load(Ordering::SeqCst) > 0 {
            // Not waiting for anything: the moment is what is tried.
            std::thread::sleep(Duration::from_millis(100 + random.below(500)));
            strike(&engine, &mut random);
        }
    });
    let mut engine = engine.into_inner().expect("no panic");
    engine.kill_daemon();
    engine.start_daemon();
    assert_true_states(&engine);
    let names = engine.docker_ok(&["ps", "-a", "--format", "{{.Names}}"]);
    let names: Vec<&str> = names.lines().collect();
    for (name, told) in told.into_inner().expect("no panic") {
        let there = names.contains(&name.as_str());
        match told {
            Told::There => assert!(there, "{name} was acknowledged and is lost; seed {seed}"),
            Told::Gone => assert!(!there, "{name} was removed and is back; seed {seed}"),
            Told::Unknown => {}
        }
    }
    // Its end checks that no process, mount, interface, control group or directory is left.
    drop(engine);
}

#[test]
fn a_container_does_not_outlive_its_monitor() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let mut engine = Engine::start();
    let plain = engine.run_detached(&["--name", "plain"], &["sleep", "1000"]);
    let pid: u32 = engine
        .inspect(&plain, "{{.State.Pid}}")
        .parse()
        .expect("a pid");
    let monitor = leftovers::state_and_parent(pid).expect("it runs").1;
    wharf_e2e::engine::kill(monitor);
    engine.wait_inspect(
        &plain,
        "{{.State.Status}} {{.State.ExitCode}}",
        "exited 255",
    );
    wait_until("its process to be gone", LONG, || {
        leftovers::state_and_parent(pid).is_none_or(|(state, _)| state == 'Z')
    });
    // Also without a daemon that sees it, and with a policy that asks for another run.
    let kept = engine.run_detached(
        &["--name", "kept", "--restart", "always"],
        &["sleep", "1000"],
    );
    let pid: u32 = engine
        .inspect(&kept, "{{.State.Pid}}")
        .parse()
        .expect("a pid");
    let monitor = leftovers::state_and_parent(pid).expect("it runs").1;
    engine.kill_daemon();
    wharf_e2e::engine::kill(monitor);
    engine.start_daemon();
    wait_until("another run", LONG, || {
        let now = engine.inspect(&kept, "{{.State.Status}} {{.State.Pid}}");
        now.starts_with("running") && now != format!("running {pid}")
    });
    assert!(leftovers::state_and_parent(pid).is_none_or(|(state, _)| state == 'Z'));
}
