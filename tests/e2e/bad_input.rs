//! Archives that are broken or lie, and a disk that is full: refused with Docker's words, and nothing half-made stays.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use wharf_e2e::Engine;
use wharf_e2e::archive::{Image, TarFile, sha256};
use wharf_e2e::images::{self, BUSYBOX};

fn image() -> Image {
    Image::new(
        "bad:1",
        vec![TarFile::new().file("f", &vec![b'x'; 100_000]).finish()],
    )
}

/// Loads and returns the error, which comes as a status or in the stream.
fn load_error(engine: &Engine, archive: &[u8]) -> String {
    let answer = engine
        .api()
        .post_bytes("/images/load?quiet=1", "application/x-tar", archive);
    let text = answer.text();
    assert!(
        answer.status() >= 400 || text.contains("errorDetail"),
        "accepted: {} {text}",
        answer.status()
    );
    text
}

/// Layer directories of the data root; short links and the layer that all containers share aside.
fn layer_dirs(engine: &Engine) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(engine.data_root().join("overlay2"));
    entries
        .map(|e| {
            e.flatten()
                .map(|e| e.path())
                .filter(|p| {
                    p.file_name()
                        .is_some_and(|n| !["l", "init", "new"].iter().any(|own| n == *own))
                })
                .collect()
        })
        .unwrap_or_default()
}

fn assert_nothing_stays(engine: &Engine) {
    assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
    assert_eq!(layer_dirs(engine), Vec::<PathBuf>::new());
}

#[test]
fn a_truncated_archive_is_refused() {
    let engine = Engine::empty();
    let whole = image().docker_archive();
    load_error(&engine, &whole[..whole.len() / 2]);
    assert_nothing_stays(&engine);
}

#[test]
fn garbage_is_refused() {
    let engine = Engine::empty();
    load_error(&engine, &[0x5a; 4096]);
    load_error(
        &engine,
        b"\x1f\x8b\x08\x00garbage that only looks like gzip",
    );
    assert_nothing_stays(&engine);
}

#[test]
fn a_lying_diff_id_is_refused() {
    let engine = Engine::empty();
    let honest = image();
    let layer = &honest.layers[0];
    let config = String::from_utf8(honest.config_bytes())
        .expect("text")
        .replace(&sha256(layer), &sha256(b"something else"));
    let config_name = format!("{}.json", sha256(config.as_bytes()));
    let manifest = json!([{"Config": config_name, "RepoTags": ["bad:1"], "Layers": ["layer.tar"]}]);
    let archive = TarFile::new()
        .file("layer.tar", layer)
        .file(&config_name, config.as_bytes())
        .file("manifest.json", manifest.to_string().as_bytes())
        .finish();
    let error = load_error(&engine, &archive);
    let expected = format!(
        "invalid diffID for layer 0: expected \\\"sha256:{}\\\", got \\\"sha256:{}\\\"",
        sha256(b"something else"),
        sha256(layer)
    );
    assert!(error.contains(&expected), "{error}");
    assert_nothing_stays(&engine);
}

#[test]
fn a_layer_that_is_named_but_missing_is_refused() {
    let engine = Engine::empty();
    let honest = image();
    let config = honest.config_bytes();
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["bad:1"], "Layers": ["not-there/layer.tar"]}]);
    let archive = TarFile::new()
        .file("c.json", &config)
        .file("manifest.json", manifest.to_string().as_bytes())
        .finish();
    load_error(&engine, &archive);
    assert_nothing_stays(&engine);
}

#[test]
fn more_layers_than_diff_ids_are_refused() {
    let engine = Engine::empty();
    let honest = image();
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["bad:1"], "Layers": ["l.tar", "l.tar"]}]);
    let archive = TarFile::new()
        .file("l.tar", &honest.layers[0])
        .file("c.json", &honest.config_bytes())
        .file("manifest.json", manifest.to_string().as_bytes())
        .finish();
    let error = load_error(&engine, &archive);
    assert!(
        error.contains("invalid manifest, layers length mismatch: expected 2, got 1")
            || error.contains("layers length mismatch"),
        "{error}"
    );
    assert_nothing_stays(&engine);
}

#[test]
fn an_archive_that_climbs_out_by_its_manifest_is_refused() {
    let engine = Engine::empty();
    let manifest =
        json!([{"Config": "../../../../../../etc/passwd", "RepoTags": ["bad:1"], "Layers": []}]);
    let archive = TarFile::new()
        .file("manifest.json", manifest.to_string().as_bytes())
        .finish();
    load_error(&engine, &archive);
    assert_nothing_stays(&engine);
}

#[test]
fn a_layer_that_is_no_tar_is_refused() {
    let engine = Engine::empty();
    let mut broken = image();
    broken.layers[0] = vec![b'x'; 5000];
    load_error(&engine, &broken.docker_archive());
    assert_nothing_stays(&engine);
}

#[test]
fn a_bad_second_layer_takes_the_first_with_it() {
    let engine = Engine::empty();
    let mut broken = image();
    broken.layers.push(vec![b'x'; 5000]);
    load_error(&engine, &broken.docker_archive());
    assert_nothing_stays(&engine);
}

/// A file system of a few megabytes in memory; unmounted on drop.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    fn mount(name: &str, megabytes: u32) -> SmallDisk {
        let dir =
            std::env::temp_dir().join(format!("wharf-e2e-disk-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a mount point");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "small"])
            .arg(&dir)
            .status()
            .expect("mount runs");
        assert!(status.success(), "mount a tmpfs: {status}");
        SmallDisk { dir }
    }

    fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).status();
        let _ = std::fs::remove_dir(&self.dir);
    }
}

#[test]
fn a_full_disk_while_loading_leaves_nothing_and_the_engine_works_on() {
    let disk = SmallDisk::mount("load", 24);
    let engine = Engine::options().data_root(disk.path()).start();
    engine.load("busybox.tar");
    let before = layer_dirs(&engine).len();
    let big = Image::new(
        "big:1",
        vec![TarFile::new().file("f", &vec![7; 40_000_000]).finish()],
    );
    let error = load_error(&engine, &big.docker_archive());
    assert!(error.contains("no space left on device"), "{error}");
    assert_eq!(layer_dirs(&engine).len(), before);
    assert_eq!(
        engine.docker_ok(&["images", "--format", "{{.Repository}}"]),
        "busybox"
    );
    assert_eq!(engine.run(&[], &["echo", "still here"]), "still here");
}

#[test]
fn a_full_disk_inside_a_container_is_its_own_problem() {
    let disk = SmallDisk::mount("run", 24);
    let engine = Engine::options().data_root(disk.path()).start();
    engine.load("busybox.tar");
    let output = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        BUSYBOX,
        "dd",
        "if=/dev/zero",
        "of=/fill",
        "bs=1M",
    ]);
    assert!(
        output.stderr.contains("No space left on device"),
        "{output:?}"
    );
    assert_eq!(engine.run(&[], &["echo", "next"]), "next");
}

#[test]
fn importing_garbage_is_refused() {
    let engine = Engine::empty();
    let output = engine.docker_with_input(&["import", "-", "imp:1"], &[0x5a; 2048]);
    assert_eq!(output.code, 1, "{output:?}");
    assert_nothing_stays(&engine);
}

#[test]
fn a_client_that_stops_in_the_middle_of_an_upload_leaves_nothing() {
    let engine = Engine::empty();
    let archive = images::archive("busybox.tar");
    let mut connection = engine.api().connect();
    let head = format!(
        "POST /images/load HTTP/1.1\r\nHost: docker\r\nContent-Length: {}\r\n\r\n",
        archive.len()
    );
    connection.send_raw(head.as_bytes()).expect("head");
    connection
        .send_raw(&archive[..archive.len() / 2])
        .expect("half");
    drop(connection);
    wharf_e2e::deadline::wait_until("nothing half-made", wharf_e2e::deadline::LONG, || {
        layer_dirs(&engine).is_empty()
    });
    assert_nothing_stays(&engine);
}
