//! SIGKILL of the daemon at random moments of pull, push, load, rmi and prune: what was acknowledged is there, the store is clean, and the next
//! attempt succeeds. 40 moments, or 200 with `WHARF_LONG`; `WHARF_E2E_SEED` chooses others.

use std::time::{Duration, Instant};

use wharf_e2e::archive::Image;
use wharf_e2e::cli::Running;
use wharf_e2e::registry::{DockerRegistry, TestRegistry};
use wharf_e2e::{Engine, Kind};

use super::{assert_clean, image, skopeo_digest};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Pull,
    Push,
    Load,
    Remove,
    Prune,
}

const ALL: [Work; 5] = [
    Work::Pull,
    Work::Push,
    Work::Load,
    Work::Remove,
    Work::Prune,
];

/// Where the images come from and go to.
struct Scene {
    // Before the engine, whose end finds every process that is left.
    target: DockerRegistry,
    engine: Engine,
    /// The name in the first registry.
    name: String,
    loaded: &'static str,
    archive: Vec<u8>,
    digest: String,
}

impl Scene {
    fn new(image: &Image) -> (Scene, TestRegistry) {
        let engine = Engine::empty();
        let source = TestRegistry::start(&engine);
        let target = DockerRegistry::start(&engine, "registry", 5000);
        let digest = source.add("bb", "1", image);
        let scene = Scene {
            name: source.name("bb:1"),
            loaded: "x:latest",
            archive: image.docker_archive(),
            digest,
            engine,
            target,
        };
        (scene, source)
    }

    fn pushed(&self, round: usize) -> String {
        self.target.name(&format!("copy{round}:1"))
    }

    /// What has to be there before the work.
    fn prepare(&self, work: Work, round: usize) {
        match work {
            Work::Pull | Work::Load => {}
            Work::Push | Work::Remove | Work::Prune => {
                self.engine.docker_ok(&["pull", "-q", &self.name]);
            }
        }
        if work == Work::Push {
            self.engine
                .docker_ok(&["tag", &self.name, &self.pushed(round)]);
        }
    }

    fn start(&self, work: Work, round: usize) -> Running {
        let pushed = self.pushed(round);
        match work {
            Work::Pull => self.engine.docker_start(&["pull", "-q", &self.name]),
            Work::Push => self.engine.docker_start(&["push", "-q", &pushed]),
            Work::Remove => self.engine.docker_start(&["rmi", &self.name]),
            Work::Prune => self.engine.docker_start(&["image", "prune", "-af"]),
            Work::Load => {
                let mut load = self.engine.docker_start(&["load", "-q"]);
                load.write(&self.archive);
                load.close_input();
                load
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        !self.engine.docker_ok(&["images", "-q", name]).is_empty()
    }

    /// What the work promised once it was acknowledged.
    fn assert_done(&self, work: Work, round: usize) {
        match work {
            Work::Pull => assert!(self.has(&self.name), "pulled and lost"),
            Work::Load => assert!(self.has(self.loaded), "loaded and lost"),
            Work::Remove | Work::Prune => assert!(!self.has(&self.name), "removed and back"),
            Work::Push => {
                assert_eq!(
                    skopeo_digest(&self.engine, &self.pushed(round)),
                    self.digest
                );
            }
        }
    }

    /// As at the beginning.
    fn clear(&self) {
        let ids = self.engine.docker_ok(&["images", "-aq"]);
        for id in ids.lines() {
            // Several names may have the same image.
            let _ = self.engine.docker(&["rmi", "-f", id]);
        }
        assert_eq!(self.engine.docker_ok(&["images", "-aq"]), "");
    }
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
        (self.0 >> 33) % limit.max(1)
    }
}

#[test]
fn killed_at_any_moment_the_daemon_loses_no_image() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let rounds = if std::env::var_os("WHARF_LONG").is_some() {
        200
    } else {
        40
    };
    let seed = std::env::var("WHARF_E2E_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let mut random = Random(seed);
    let (mut scene, _source) = Scene::new(&image(3, 700_000));
    // How long each takes when nothing happens to it.
    let mut lengths = Vec::new();
    for work in ALL {
        scene.prepare(work, 1000);
        let begin = Instant::now();
        assert_eq!(scene.start(work, 1000).finish().code, 0, "{work:?}");
        lengths.push(begin.elapsed());
        scene.assert_done(work, 1000);
        scene.clear();
    }
    let mut survived = 0;
    for round in 0..rounds {
        let work = ALL[round % ALL.len()];
        scene.prepare(work, round);
        let length = u64::try_from(lengths[round % ALL.len()].as_micros()).expect("short");
        let moment = random.below(length * 11 / 10);
        let running = scene.start(work, round);
        std::thread::sleep(Duration::from_micros(moment));
        scene.engine.kill_daemon();
        let acknowledged = running.finish().code == 0;
        scene.engine.start_daemon();
        assert_clean(&scene.engine);
        if acknowledged {
            scene.assert_done(work, round);
        } else {
            survived += 1;
            // The next attempt succeeds, or finds that there is nothing left to do.
            let again = scene.start(work, round).finish();
            let gone = work == Work::Remove && again.stderr.contains("No such image");
            assert!(
                again.code == 0 || gone,
                "{work:?} again, seed {seed}, round {round}: {}",
                again.stderr
            );
            scene.assert_done(work, round);
        }
        scene.clear();
    }
    assert!(
        survived > rounds / 4,
        "only {survived} of {rounds} kills hit anything"
    );
    assert_clean(&scene.engine);
}
