//! Images from and to registries: Debian's `docker-registry`, and one that misbehaves.

pub mod access;
mod collect;
mod damage;
mod faults;
mod kills;
mod peers;

use std::time::Duration;

use serde_json::json;
use wharf_e2e::archive::{Image, TarFile};
use wharf_e2e::deadline::{wait_for, wait_until};
use wharf_e2e::registry::{DockerRegistry, Faults, TestRegistry};
use wharf_e2e::{Engine, images};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

/// Busybox under further layers of `size` bytes each.
pub(crate) fn image(layers: u64, size: usize) -> Image {
    let mut all = images::busybox().expect("busybox").layers;
    for n in 0..layers {
        all.push(
            TarFile::new()
                .file(&format!("f{n}"), &noise(n + 7, size))
                .finish(),
        );
    }
    Image::new("x:latest", all)
}

pub(crate) fn assert_clean(engine: &Engine) {
    if engine.is_reference() {
        return;
    }
    let check = engine.wharf(&["system", "check"]);
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
}

pub(crate) fn skopeo_digest(engine: &Engine, name: &str) -> String {
    let output = engine
        .netns()
        .command("skopeo".as_ref())
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{name}"))
        .output()
        .expect("skopeo (skopeo) runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn inspect(engine: &Engine, name: &str, format: &str) -> String {
    engine
        .docker_ok(&["image", "inspect", "-f", format, name])
        .trim()
        .to_owned()
}

#[test]
fn a_missing_image_is_pulled_and_run() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    let digest = registry.add("lib/bb", "1", &image(1, 100_000));
    let name = registry.name("lib/bb:1");
    let output = engine.docker(&["run", "--rm", &name, "sh", "-c", "wc -c < /f0"]);
    assert_eq!(
        (output.code, output.stdout.trim()),
        (0, "100000"),
        "{}",
        output.stderr
    );
    let said = &output.stderr;
    for line in [
        &format!("Unable to find image '{name}' locally"),
        "1: Pulling from lib/bb",
        ": Pulling fs layer",
        ": Download complete",
        ": Pull complete",
        &format!("Digest: {digest}"),
        &format!("Status: Downloaded newer image for {name}"),
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    let digests = engine.docker_ok(&["image", "inspect", "-f", "{{json .RepoDigests}}", &name]);
    assert_eq!(
        digests.trim(),
        format!("[\"{}@{digest}\"]", registry.name("lib/bb"))
    );
    let again = engine.docker_ok(&["pull", &name]);
    assert!(
        again.contains(&format!("Status: Image is up to date for {name}")),
        "{again}"
    );
}

#[test]
fn a_digest_names_an_image() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    let digest = registry.add("bb", "latest", &image(0, 0));
    let name = format!("{}@{digest}", registry.name("bb"));
    engine.docker_ok(&["pull", "-q", &name]);
    assert_eq!(
        engine
            .docker_ok(&["run", "--rm", &name, "echo", "hi"])
            .trim(),
        "hi"
    );
    let tags = engine.docker_ok(&["image", "inspect", "-f", "{{json .RepoTags}}", &name]);
    assert_eq!(tags.trim(), "[]");
}

#[test]
fn all_tags_come_with_all_tags() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "one", &image(0, 0));
    registry.add("bb", "two", &image(1, 5000));
    engine.docker_ok(&["pull", "-a", &registry.name("bb")]);
    let names = engine.docker_ok(&["images", "--format", "{{.Tag}}", &registry.name("bb")]);
    let mut tags: Vec<&str> = names.lines().collect();
    tags.sort_unstable();
    assert_eq!(tags, ["one", "two"]);
}

#[test]
fn a_platform_is_chosen_from_an_index() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    let ours = registry.add("bb", "ours", &image(0, 0));
    let theirs = registry.add("bb", "theirs", &image(1, 3000));
    let entry = |digest: &str, architecture: &str| {
        json!({"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest, "size": 400,
            "platform": {"os": "linux", "architecture": architecture}})
    };
    let host = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&theirs, "s390x"), entry(&ours, host)]});
    let top = registry.add_manifest(
        "bb",
        "latest",
        "application/vnd.oci.image.index.v1+json",
        index.to_string().into_bytes(),
    );
    let name = registry.name("bb");
    let said = engine.docker_ok(&["pull", &name]);
    assert!(said.contains(&format!("Digest: {top}")), "{said}");
    assert_eq!(inspect(&engine, &name, "{{.Id}}"), image(0, 0).id());
    engine.docker_ok(&["pull", "-q", "--platform", "linux/s390x", &name]);
    assert_eq!(inspect(&engine, &name, "{{.Id}}"), image(1, 3000).id());
    let said = engine.docker_fails(&["pull", "--platform", "linux/mips64", &name], 1);
    assert!(
        said.contains("no matching manifest for linux/mips64 in the manifest list entries"),
        "{said}"
    );
}

#[test]
fn refusals_are_in_dockers_words() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    let name = registry.name("none:1");
    let said = engine.docker_fails(&["pull", &name], 1);
    assert!(
        said.contains(&format!(
            "manifest for {name} not found: manifest unknown: manifest unknown"
        )),
        "{said}"
    );
    let said = engine.docker_fails(&["pull", "127.0.0.1:1/x"], 1);
    assert!(
        said.contains("dial tcp 127.0.0.1:1: connect: connection refused"),
        "{said}"
    );
    registry.add_manifest(
        "old",
        "1",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        br#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.to_vec(),
    );
    let said = engine.docker_fails(&["pull", &registry.name("old:1")], 1);
    assert!(said.contains("schema 1"), "{said}");
}

#[test]
fn large_layers_come_in_ranges_side_by_side() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    let size = 36 << 20;
    registry.add("bb", "1", &image(1, size));
    registry.set(Faults {
        cuts: vec![usize::MAX, usize::MAX, 1000],
        ..Faults::default()
    });
    let name = registry.name("bb:1");
    engine.docker_ok(&["pull", &name]);
    let asked = registry.requests();
    let ranges = asked
        .iter()
        .filter(|request| request.contains(" from "))
        .count();
    assert!(ranges > 2, "{asked:?}");
    let sum = format!("{}  /f0", wharf_e2e::archive::sha256(&noise(7, size)));
    let made = engine.docker_ok(&["run", "--rm", &name, "sha256sum", "/f0"]);
    assert_eq!(made.trim(), sum);
}

#[test]
fn pulls_at_the_same_time_share_their_layers() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(2, 200_000));
    registry.set(Faults {
        delay: Duration::from_millis(500),
        ..Faults::default()
    });
    let name = registry.name("bb:1");
    let pulls: Vec<_> = (0..3)
        .map(|_| engine.docker_start(&["pull", &name]))
        .collect();
    for pull in pulls {
        let output = pull.finish();
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    let mut layers: Vec<String> = registry.requests();
    layers.retain(|request| request.starts_with("GET") && request.contains("/blobs/"));
    let all = layers.len();
    layers.sort();
    layers.dedup();
    // Configs are small and fetched by each pull.
    assert!(all <= layers.len() + 2, "{layers:?}, {all} requests");
}

#[test]
fn a_pull_ends_when_its_client_goes_away() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    registry.add("bb", "1", &image(1, 100_000));
    registry.set(Faults {
        cuts: vec![0; 50],
        ..Faults::default()
    });
    let name = registry.name("bb:1");
    let pull = engine.docker_start(&["pull", &name]);
    wait_until("a layer to be asked for", LIMIT, || {
        registry
            .requests()
            .iter()
            .any(|request| request.contains("/blobs/"))
    });
    wharf_e2e::engine::terminate(pull.pid());
    drop(pull.wait());
    let quiet = wait_for("no more requests", LIMIT, || {
        let before = registry.requests().len();
        std::thread::sleep(Duration::from_secs(5));
        (registry.requests().len() == before).then_some(before)
    });
    assert!(quiet > 0);
    assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
}

#[test]
fn what_is_pushed_comes_back() {
    let engine = Engine::start();
    let registry = DockerRegistry::start(&engine, "registry", 5000);
    let name = registry.name("a/busybox:v1");
    engine.docker_ok(&["tag", "busybox", &name]);
    let said = engine.docker_ok(&["push", &name]);
    let first = format!(
        "The push refers to repository [{}]",
        registry.name("a/busybox")
    );
    for line in [
        first.as_str(),
        ": Preparing",
        ": Pushed",
        "v1: digest: sha256:",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    let digest = skopeo_digest(&engine, &name);
    assert!(said.contains(&digest), "{digest} in {said}");
    let again = engine.docker_ok(&["push", &name]);
    assert!(
        again.contains(": Layer already exists") && again.contains(&digest),
        "{again}"
    );
    let other = registry.name("b/busybox:v1");
    engine.docker_ok(&["tag", "busybox", &other]);
    let mounted = engine.docker_ok(&["push", &other]);
    assert!(mounted.contains(": Mounted from a/busybox"), "{mounted}");
    assert_eq!(skopeo_digest(&engine, &other), digest);
    engine.docker_ok(&["rmi", "busybox", &name, &other]);
    let pulled = engine.docker_ok(&["pull", &name]);
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    assert_eq!(
        engine
            .docker_ok(&["run", "--rm", &name, "echo", "back"])
            .trim(),
        "back"
    );
    let said = engine.docker_fails(&["push", &registry.name("none")], 1);
    assert!(
        said.contains("An image does not exist locally with the tag:"),
        "{said}"
    );
}

#[test]
fn an_image_keeps_its_digest_when_pushed_elsewhere() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let from = TestRegistry::start(&engine);
    let to = DockerRegistry::start(&engine, "registry", 5000);
    let digest = from.add("bb", "1", &image(2, 50_000));
    let (old, new) = (from.name("bb:1"), to.name("copy:1"));
    engine.docker_ok(&["pull", &old]);
    engine.docker_ok(&["tag", &old, &new]);
    engine.docker_ok(&["push", &new]);
    assert_eq!(skopeo_digest(&engine, &new), digest);
}

#[test]
fn an_unreachable_hub_is_told_about() {
    let engine = Engine::empty();
    let said = engine.docker_fails(&["pull", "no-such-image"], 1);
    assert!(
        said.contains("Get \"https://registry-1.docker.io/v2/\": dial tcp"),
        "{said}"
    );
}

#[test]
fn what_a_registry_has_is_shown_without_pulling() {
    let engine = Engine::empty();
    let registry = TestRegistry::start(&engine);
    let digest = registry.add("bb", "1", &image(0, 0));
    let answer = engine
        .api()
        .get(&format!("/distribution/{}/json", registry.name("bb:1")))
        .expect(200)
        .json();
    assert_eq!(answer["Descriptor"]["digest"], json!(digest));
    assert_eq!(answer["Platforms"][0]["os"], json!("linux"));
    let missing = engine
        .api()
        .get(&format!("/distribution/{}/json", registry.name("no:1")))
        .expect(404);
    assert!(missing.message().contains("manifest unknown"));
}

#[test]
fn zstd_in_frames_with_a_table_behind_them_is_read() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return;
    }
    let registry = TestRegistry::start(&engine);
    let made = image(1, 300_000);
    let layers = made.layers.iter().map(|layer| {
        // As zstd:chunked has it: a frame per file, and its table in a frame that readers skip.
        let mut blob = Vec::new();
        for part in layer.chunks(70_000) {
            blob.extend(zstd::encode_all(part, 3).expect("compresses"));
        }
        blob.extend([0x5f, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]);
        blob.extend(b"table");
        blob
    });
    let layers = layers.collect();
    registry.add_compressed("bb", "1", &made, layers);
    let name = registry.name("bb:1");
    engine.docker_ok(&["pull", &name]);
    assert_eq!(inspect(&engine, &name, "{{.Id}}"), made.id());
    let size = engine.docker_ok(&["run", "--rm", &name, "sh", "-c", "wc -c < /f0"]);
    assert_eq!(size.trim(), "300000");
}
