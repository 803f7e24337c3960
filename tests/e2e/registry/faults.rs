//! Registries that misbehave, and disks that are full: nothing half-made stays, and the next attempt succeeds.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use wharf_e2e::archive::{Image, TarFile, gzip};
use wharf_e2e::deadline::wait_until;
use wharf_e2e::registry::{DockerRegistry, Faults, TestRegistry};
use wharf_e2e::{Engine, Kind, images};

use super::{LIMIT, assert_clean, image};

#[test]
fn connections_that_break_are_gone_on_with() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(2, 300_000));
    let cuts = vec![1, 100_000, 77, 0, 250_000, 4097];
    registry.set(Faults {
        cuts: cuts.clone(),
        ..Faults::default()
    });
    engine.docker_ok(&["pull", &registry.name("bb:1")]);
    assert!(
        registry
            .requests()
            .iter()
            .any(|request| request.contains(" from ")),
        "{:?}",
        registry.requests()
    );
    assert_clean(&engine);
    registry.add("bb", "2", &image(3, 200_000));
    registry.set(Faults {
        cuts: vec![1000, 150_000],
        no_ranges: true,
        ..Faults::default()
    });
    engine.docker_ok(&["pull", &registry.name("bb:2")]);
}

#[test]
fn a_busy_registry_is_asked_again() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(1, 50_000));
    registry.set(Faults {
        statuses: vec![500, 429],
        manifest_statuses: if engine.is_reference() {
            vec![]
        } else {
            vec![503]
        },
        ..Faults::default()
    });
    engine.docker_ok(&["pull", &registry.name("bb:1")]);
}

#[test]
fn content_that_lies_is_refused_and_leaves_nothing() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(2, 50_000));
    registry.set(Faults {
        wrong_byte: true,
        ..Faults::default()
    });
    engine.docker_fails(&["pull", &registry.name("bb:1")], 1);
    assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
    assert_clean(&engine);
    registry.set(Faults::default());
    engine.docker_ok(&["pull", &registry.name("bb:1")]);
}

#[test]
fn a_manifest_of_ten_megabytes_is_refused() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    let mut text = br#"{"schemaVersion":2,"layers":[],"annotations":{"a":""#.to_vec();
    text.resize(10 << 20, b'x');
    text.extend(br#""}}"#);
    registry.add_manifest(
        "big",
        "1",
        "application/vnd.oci.image.manifest.v1+json",
        text,
    );
    engine.docker_fails(&["pull", &registry.name("big:1")], 1);
    assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
}

#[test]
fn an_interrupted_pull_goes_on_after_a_restart() {
    let mut engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(1, 6 << 20));
    registry.set(Faults {
        cuts: [vec![5 << 20; 2], vec![0; 20]].concat(),
        ..Faults::default()
    });
    let name = registry.name("bb:1");
    let pull = engine.docker_start(&["pull", &name]);
    wait_until("most of the layer", LIMIT, || {
        registry
            .requests()
            .iter()
            .any(|request| request.contains(" from "))
    });
    engine.kill_daemon();
    assert_ne!(pull.finish().code, 0);
    registry.set(Faults::default());
    let before = registry.requests().len();
    engine.start_daemon();
    engine.docker_ok(&["pull", &name]);
    let asked = registry.requests();
    let again: Vec<&String> = asked[before..]
        .iter()
        .filter(|request| request.contains("/blobs/"))
        .collect();
    assert!(
        again.iter().any(|request| request.contains(" from ")),
        "goes on in the middle: {again:?}"
    );
    assert_clean(&engine);
}

#[test]
fn a_length_that_is_a_lie_is_no_harm() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(1, 100_000));
    let name = registry.name("bb:1");
    for length_lie in [1, -1, 1 << 40] {
        registry.set(Faults {
            length_lie,
            ..Faults::default()
        });
        let said = engine.docker(&["pull", &name]);
        // All bytes may come in spite of it; then it is the image.
        if said.code == 0 {
            engine.docker_ok(&["rmi", &name]);
        }
        assert_eq!(engine.docker_ok(&["images", "-aq"]), "", "{length_lie}");
        assert_clean(&engine);
    }
    registry.set(Faults::default());
    engine.docker_ok(&["pull", &name]);
}

#[test]
fn a_blob_of_another_length_than_the_manifest_says_is_refused() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    let made = image(1, 100_000);
    let layers: Vec<Vec<u8>> = made.layers.iter().map(|layer| gzip(layer)).collect();
    registry.add_compressed("bb", "1", &made, layers.clone());
    let size = |layer: &Vec<u8>| i64::try_from(layer.len()).expect("small");
    let digest = |bytes: &[u8]| format!("sha256:{}", wharf_e2e::archive::sha256(bytes));
    for wrong in [1, -1, 1 << 50] {
        let list: Vec<_> = layers
            .iter()
            .map(|layer| json!({"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": size(layer) + wrong, "digest": digest(layer)}))
            .collect();
        let config = made.config_bytes();
        let media_type = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "layers": list,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(&config)}});
        registry.add_manifest("bb", "wrong", media_type, manifest.to_string().into_bytes());
        engine.docker_fails(&["pull", &registry.name("bb:wrong")], 1);
        assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
        assert_clean(&engine);
    }
    engine.docker_ok(&["pull", &registry.name("bb:1")]);
}

#[test]
fn layers_that_vanish_in_the_middle_are_told_about() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(2, 50_000));
    registry.set(Faults {
        blobs_gone: true,
        ..Faults::default()
    });
    let name = registry.name("bb:1");
    let said = engine.docker_fails(&["pull", &name], 1);
    assert!(
        said.contains(engine.wording("blob unknown", "unknown blob"))
            || said.contains("blob unknown"),
        "{said}"
    );
    assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
    assert_clean(&engine);
    registry.set(Faults::default());
    engine.docker_ok(&["pull", &name]);
}

#[test]
fn a_rate_limit_is_told_in_the_registrys_words() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(0, 0));
    registry.set(Faults {
        manifest_statuses: vec![429; 20],
        ..Faults::default()
    });
    let said = engine.docker_fails(&["pull", &registry.name("bb:1")], 1);
    assert!(said.contains("toomanyrequests: "), "{said}");
}

/// As small as gzip makes it.
fn squeezed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A layer of `size` zeros: members of gzip one after the other, so that it costs nothing to make.
fn bomb(size: usize) -> Vec<u8> {
    const PART: usize = 64 << 20;
    let mut tar = TarFile::new().file("bomb", &vec![0; PART]).finish();
    tar.truncate(512 + PART);
    // The size in the header, in octal.
    tar[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut all = squeezed(&tar);
    let more = squeezed(&vec![0; PART]);
    for _ in 1..size / PART {
        all.extend_from_slice(&more);
    }
    all
}

#[test]
fn a_decompression_bomb_does_not_go_off() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    let mut made = images::busybox().expect("busybox");
    let mut layers: Vec<Vec<u8>> = made.layers.iter().map(|layer| gzip(layer)).collect();
    let bomb = bomb(6 << 30);
    // Whatever digest it has when it has gone off.
    made.layers.push(b"bomb".to_vec());
    layers.push(bomb.clone());
    registry.add_compressed("bomb", "1", &made, layers);
    let said = engine.docker_fails(&["pull", &registry.name("bomb:1")], 1);
    assert!(said.contains("decompression bomb"), "{said}");
    assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
    assert_clean(&engine);
    let said = engine.docker_with_input(&["import", "-"], &bomb);
    assert_eq!(said.code, 1);
    assert!(
        said.stderr.contains("decompression bomb"),
        "{}",
        said.stderr
    );
    assert_clean(&engine);
}

#[test]
fn a_thousand_layers_are_refused_before_they_are_fetched() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    let mut layers = images::busybox().expect("busybox").layers;
    for n in layers.len()..1000 {
        let text = n.to_string();
        layers.push(
            TarFile::new()
                .file(&format!("n/{n}"), text.as_bytes())
                .finish(),
        );
    }
    let mut made = Image::new("x:latest", layers);
    registry.add("deep", "1", &made);
    let said = engine.docker_fails(&["pull", &registry.name("deep:1")], 1);
    assert!(said.contains("max depth exceeded"), "{said}");
    let said = engine.docker_with_input(&["load"], &made.docker_archive());
    assert!(
        said.stderr.contains("max depth exceeded"),
        "{}",
        said.stderr
    );
    assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
    assert_clean(&engine);
    // As many as the kernel stacks are run.
    made.layers.truncate(499);
    registry.add("deep", "2", &made);
    let name = registry.name("deep:2");
    engine.docker_ok(&["pull", "-q", &name]);
    let count = engine.docker_ok(&[
        "run",
        "--rm",
        &name,
        "sh",
        "-c",
        "ls /n | wc -l; cat /n/498",
    ]);
    assert_eq!(count.split_whitespace().collect::<Vec<_>>(), ["498", "498"]);
    engine.docker_ok(&["rmi", &name]);
    assert_clean(&engine);
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A file system that is full at will.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn create(megabytes: u32) -> SmallDisk {
        let dir = std::env::temp_dir().join(format!("wharf-e2e-disk-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&dir)
            .status();
        assert!(mounted.expect("mount runs").success());
        SmallDisk(dir)
    }

    /// Leaves about so many bytes free.
    fn leave(&self, bytes: u64) {
        let filler = self.0.join("filler");
        let _ = fs::remove_file(&filler);
        let figures = rustix::fs::statvfs(&self.0).expect("it is mounted");
        let free = figures.f_bavail * figures.f_frsize;
        let length = usize::try_from(free.saturating_sub(bytes)).expect("small");
        fs::write(filler, vec![1; length]).expect("there is room for it");
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_disk_that_fills_up_at_any_moment_is_survived() {
    if Kind::from_env() != Kind::Wharf {
        return;
    }
    let disk = SmallDisk::create(64);
    let engine = Engine::options()
        .data_root(&disk.path().join("data"))
        .start();
    let registry = TestRegistry::start(&engine);
    let pushed = DockerRegistry::start(&engine, "registry", 5000);
    let made = image(3, 4 << 20);
    registry.add("bb", "1", &made);
    let (name, archive) = (registry.name("bb:1"), engine.dir().join("image.tar"));
    fs::write(&archive, made.docker_archive()).expect("room for the archive");
    let (mut failed, mut done) = (0, 0);
    for kilobytes in [
        0, 4, 16, 64, 300, 1000, 3000, 5000, 8000, 11_000, 13_000, 40_000,
    ] {
        let mut tried = |output: wharf_e2e::cli::Output, image: &str| {
            if output.code == 0 {
                done += 1;
                engine.docker_ok(&["rmi", "-f", image]);
            } else {
                failed += 1;
                let said = output.stderr + &output.stdout;
                assert!(
                    said.contains("no space left on device"),
                    "{kilobytes}: {said}"
                );
            }
            assert_eq!(engine.docker_ok(&["images", "-aq"]), "", "{kilobytes}");
            assert_clean(&engine);
        };
        disk.leave(kilobytes << 10);
        tried(engine.docker(&["pull", "-q", &name]), &name);
        disk.leave(kilobytes << 10);
        tried(engine.docker(&["load", "-i", path(&archive)]), "x:latest");
    }
    assert!(
        failed > 4 && done > 1,
        "{failed} attempts failed, {done} did not"
    );
    // A full disk is no reason not to push, nor not to remove.
    disk.leave(60 << 20);
    engine.docker_ok(&["pull", "-q", &name]);
    let copy = pushed.name("copy:1");
    engine.docker_ok(&["tag", &name, &copy]);
    disk.leave(0);
    engine.docker_ok(&["push", "-q", &copy]);
    engine.docker_ok(&["rmi", &name, &copy]);
    assert_clean(&engine);
}
