//! Damage to what is stored: found and mended.

use std::fs;
use std::path::{Path, PathBuf};

use wharf_e2e::Engine;
use wharf_e2e::registry::{DockerRegistry, Faults, TestRegistry};

use super::{assert_clean, image, skopeo_digest};

fn find(layers: &std::path::Path, file: &str) -> std::path::PathBuf {
    let entries = std::fs::read_dir(layers).expect("the layers");
    let mut paths = entries
        .flatten()
        .map(|entry| entry.path().join("diff").join(file));
    paths.find(|path| path.exists()).expect("one layer has it")
}

/// What is in a directory, sorted.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    all.sort();
    all
}

fn blobs(engine: &Engine) -> PathBuf {
    engine.data_root().join("blobs/overlay2")
}

/// The check finds these problems, mends them all, and then finds none.
fn assert_mended(engine: &Engine, problems: &[&str]) {
    let found = engine.wharf(&["system", "check"]);
    assert_eq!(found.code, 1, "{}{}", found.stdout, found.stderr);
    for problem in problems {
        let line = format!("problem: {problem}");
        assert!(found.stdout.contains(&line), "{line}: {}", found.stdout);
    }
    let repaired = engine.wharf(&["system", "check", "--repair"]);
    assert_eq!(repaired.code, 0, "{}{}", repaired.stdout, repaired.stderr);
    assert_clean(engine);
}

fn assert_whole(engine: &Engine, name: &str) {
    let size = engine.docker_ok(&["run", "--rm", name, "sh", "-c", "wc -c < /f0"]);
    assert_eq!(size.trim(), "50000");
}

/// An engine with an image of [`image`] from a registry.
fn pulled() -> Option<(Engine, TestRegistry, String)> {
    let engine = Engine::empty();
    if engine.is_reference() {
        return None;
    }
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(1, 50_000));
    let name = registry.name("bb:1");
    engine.docker_ok(&["pull", &name]);
    Some((engine, registry, name))
}

#[test]
fn torn_layers_and_leftovers_are_found_and_mended() {
    let Some((engine, registry, name)) = pulled() else {
        return;
    };
    let layers = engine.data_root().join("overlay2");
    // Nobody has to be asked: the compressed layer is kept.
    registry.set(Faults {
        blobs_gone: true,
        ..Faults::default()
    });
    fs::remove_file(find(&layers, "f0")).expect("the file is there");
    let orphan = layers.join("0".repeat(64));
    fs::create_dir_all(orphan.join("diff")).expect("a new directory");
    std::os::unix::fs::symlink("../x/diff", layers.join("l/AAAAAAAAAAAAAAAAAAAAAAAAAA"))
        .expect("a new link");
    assert_mended(&engine, &["layer", "orphan"]);
    assert!(!orphan.exists());
    assert_whole(&engine, &name);
    // Content that is there and is wrong.
    fs::write(find(&layers, "f0"), vec![0; 50_000]).expect("the file is there");
    assert_mended(&engine, &["layer"]);
    assert_whole(&engine, &name);
}

#[test]
fn missing_and_damaged_blobs_are_found_and_mended() {
    let Some((engine, _registry, name)) = pulled() else {
        return;
    };
    // A layer without its directory, and no compressed form: it is pulled again.
    let layers = engine.data_root().join("overlay2");
    let torn = find(&layers, "f0");
    let dir = torn.parent().and_then(Path::parent).expect("two up");
    fs::remove_dir_all(dir).expect("a layer");
    for blob in entries(&blobs(&engine)) {
        fs::remove_file(blob).expect("a blob");
    }
    assert_mended(&engine, &["layer"]);
    assert_whole(&engine, &name);
    // The new one came with its blob, and that is damaged: it is done without.
    let kept = entries(&blobs(&engine));
    let blob = kept.first().expect("it was kept");
    fs::write(blob, b"rubbish").expect("a blob");
    fs::write(blobs(&engine).join("0".repeat(64)), b"").expect("a new file");
    assert_mended(&engine, &["blob", "orphan"]);
    assert!(!blob.exists());
    assert_whole(&engine, &name);
}

#[test]
fn an_image_keeps_its_digest_though_its_registry_is_gone() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let from = TestRegistry::start(&engine);
    let to = DockerRegistry::start(&engine, "registry", 5000);
    let digest = from.add("bb", "1", &image(2, 50_000));
    let (old, new) = (from.name("bb:1"), to.name("copy:1"));
    engine.docker_ok(&["pull", &old]);
    from.set(Faults {
        blobs_gone: true,
        ..Faults::default()
    });
    engine.docker_ok(&["tag", &old, &new]);
    engine.docker_ok(&["push", &new]);
    assert_eq!(skopeo_digest(&engine, &new), digest);
    assert!(!entries(&blobs(&engine)).is_empty());
    engine.docker_ok(&["rmi", &old, &new]);
    assert!(entries(&blobs(&engine)).is_empty());
}

/// Bytes below a directory.
fn du(dir: &Path) -> u64 {
    let output = std::process::Command::new("du")
        .args(["-sb"])
        .arg(dir)
        .output();
    let text = String::from_utf8(output.expect("du runs").stdout).expect("text");
    let number = text.split_whitespace().next().expect("a number");
    number.parse().expect("a number")
}

/// Bytes of layers, containers and volumes by the API.
fn said(engine: &Engine) -> i64 {
    let usage = engine.api().get("/system/df").expect(200).json();
    let sum = |list: &str, path: &str| -> i64 {
        let all = usage[list].as_array().expect("a list").iter();
        all.map(|entry| entry.pointer(path).and_then(serde_json::Value::as_i64))
            .map(Option::unwrap_or_default)
            .sum()
    };
    usage["LayersSize"].as_i64().expect("a number")
        + sum("Containers", "/SizeRw")
        + sum("Volumes", "/UsageData/Size")
}

/// The same on disk. Directories, databases and logs are not counted.
fn found(engine: &Engine) -> i64 {
    let parts = ["overlay2", "blobs", "partial", "volumes"];
    let sizes = parts.map(|part| du(&engine.data_root().join(part)));
    i64::try_from(sizes.iter().sum::<u64>()).expect("small")
}

#[test]
fn disk_usage_adds_up_to_what_is_on_disk() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(2, 8 << 20));
    let name = registry.name("bb:1");
    engine.docker_ok(&["pull", &name]);
    engine.docker_ok(&[
        "run",
        "--name",
        "user",
        "-v",
        "vol:/v",
        &name,
        "sh",
        "-c",
        "head -c 5000000 /f0 > /own; head -c 7000000 /f0 > /v/f",
    ]);
    // A pull that is cut off.
    registry.add("bb", "2", &image(3, 9 << 20));
    registry.set(Faults {
        cuts: vec![6 << 20, 6 << 20, 0, 0, 0, 0, 0, 0],
        no_ranges: true,
        statuses: vec![],
        ..Faults::default()
    });
    let pull = engine.docker_start(&["pull", &registry.name("bb:2")]);
    wharf_e2e::deadline::wait_until("a beginning", super::LIMIT, || {
        du(&engine.data_root().join("partial")) > 5 << 20
    });
    wharf_e2e::engine::terminate(pull.pid());
    drop(pull.wait());
    // What the interrupted pull was unpacking goes a moment after its client.
    wharf_e2e::deadline::wait_until("both to agree", super::LIMIT, || {
        let (said, found) = (said(&engine), found(&engine));
        (found - said).abs() < found / 50 + 400_000
    });
    registry.set(Faults::default());
}
