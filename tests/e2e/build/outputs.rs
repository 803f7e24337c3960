//! Where results and caches go.

use std::process::Command;

use serde_json::Value;
use wharf_e2e::Engine;
use wharf_e2e::archive::sha256;
use wharf_e2e::registry::DockerRegistry;

use super::{cat, directory, wharf_build, wharf_build_fails};

const FILE: &str = "FROM busybox AS one\nRUN echo one > /one\nFROM busybox\nCOPY --from=one /one /one\nRUN echo two > /two && rm /bin/yes\n";

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn skopeo(engine: &Engine, args: &[&str]) -> String {
    let output = engine
        .netns()
        .command("skopeo".as_ref())
        .args(args)
        .output()
        .expect("skopeo runs");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn results_go_where_they_are_wanted() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let dir = directory(&engine, "context", &[("Dockerfile", FILE)]);
    let to = |name: &str| engine.dir().join(name).display().to_string();
    let build = |output: &str, more: &[&str]| {
        let mut args = vec!["-t", "out:1", "--output", output];
        args.extend_from_slice(more);
        args.push(&dir);
        wharf_build(&engine, &args)
    };
    let _ = build(
        &format!("type=local,dest={}", to("local")),
        &["--sbom=true"],
    );
    let local = engine.dir().join("local");
    assert_eq!(
        std::fs::read_to_string(local.join("one")).expect("a file"),
        "one\n"
    );
    assert!(!local.join("bin/yes").exists() && local.join("bin/busybox").exists());
    let statement = json(&std::fs::read_to_string(local.join("provenance.json")).expect("a file"));
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert!(local.join("sbom.spdx.json").exists());
    let _ = build(&format!("type=tar,dest={}", to("files.tar")), &[]);
    let listed = Command::new("tar")
        .args(["-tf", &to("files.tar")])
        .output()
        .expect("tar runs");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("two\n"));
    let _ = build(&format!("type=docker,dest={}", to("docker.tar")), &[]);
    let other = Engine::start();
    assert!(
        other
            .docker_ok(&["load", "-i", &to("docker.tar")])
            .contains("out:1")
    );
    assert_eq!(cat(&other, "out:1", "/two"), "two");
    for compression in ["gzip", "zstd", "uncompressed"] {
        let spec = format!(
            "type=oci,dest={},compression={compression},annotation.a=b",
            to("oci.tar")
        );
        let _ = build(
            &spec,
            &[
                "--provenance=false",
                "--annotation",
                "index:c=d",
                "--annotation",
                "manifest-descriptor:e=f",
            ],
        );
        let copy = format!("oci-archive:{}", to("oci.tar"));
        let index = json(&skopeo(&engine, &["inspect", "--raw", &copy]));
        assert_eq!(index["annotations"]["c"], "d", "{index}");
        assert_eq!(index["manifests"][0]["annotations"]["e"], "f", "{index}");
        // All blobs are what their names say: skopeo checks them.
        let copied = to(&format!("copied-{compression}"));
        let _ = skopeo(
            &engine,
            &["--insecure-policy", "copy", &copy, &format!("dir:{copied}")],
        );
    }
    let wrong = wharf_build_fails(&engine, &["--output", "type=other", &dir]);
    assert!(
        wrong.contains("exporter \"other\" could not be found"),
        "{wrong}"
    );
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let file = "FROM busybox\nWORKDIR /w\nCOPY . /w/\nRUN mkdir /d && date > /d/ignored && rm /d/ignored && echo x > /d/x && ln -s x /d/l\nLABEL a=b\n";
    let mut digests = Vec::new();
    for name in ["first", "second"] {
        // Another daemon at another time.
        let engine = Engine::start();
        if engine.is_reference() {
            return;
        }
        let dir = directory(&engine, name, &[("Dockerfile", file), ("f", "content")]);
        let tar = engine.dir().join("out.tar").display().to_string();
        let output = format!("type=oci,dest={tar}");
        let epoch = "SOURCE_DATE_EPOCH=1700000000";
        let said = wharf_build(
            &engine,
            &[
                "-t",
                "x:1",
                "--build-arg",
                epoch,
                "--output",
                &output,
                "--sbom=true",
                &dir,
            ],
        );
        assert!(!said.contains("not consumed"), "{said}");
        let bytes = std::fs::read(&tar).expect("an archive");
        let id = engine.inspect("x:1", "{{.Id}} {{.Created}}");
        assert!(id.ends_with("2023-11-14T22:13:20Z"), "{id}");
        digests.push((id, sha256(&bytes)));
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn pushed_results_have_statements() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let registry = DockerRegistry::start(&engine, "registry", 5000);
    let dir = directory(&engine, "context", &[("Dockerfile", FILE)]);
    let name = registry.name("some/image:1");
    let metadata = engine.dir().join("metadata");
    let _ = wharf_build(
        &engine,
        &[
            "-t",
            &name,
            "--push",
            "--sbom=true",
            "--attest",
            "type=provenance,mode=max",
            "--build-arg",
            "ARG=given",
            "--metadata-file",
            &metadata.display().to_string(),
            &dir,
        ],
    );
    let told = json(&std::fs::read_to_string(metadata).expect("a file"));
    let address = format!("docker://{name}");
    let raw = skopeo(
        &engine,
        &["inspect", "--tls-verify=false", "--raw", &address],
    );
    assert_eq!(
        told["containerimage.digest"],
        format!("sha256:{}", sha256(raw.as_bytes()))
    );
    let index = json(&raw);
    let entries = index["manifests"].as_array().expect("a list");
    assert_eq!(entries.len(), 2, "{index}");
    assert_eq!(
        entries[1]["annotations"]["vnd.docker.reference.type"],
        "attestation-manifest"
    );
    assert_eq!(
        entries[1]["annotations"]["vnd.docker.reference.digest"],
        entries[0]["digest"]
    );
    let digest = entries[1]["digest"].as_str().expect("a digest");
    let holder = format!("docker://{}@{digest}", registry.name("some/image"));
    let holder = json(&skopeo(
        &engine,
        &["inspect", "--tls-verify=false", "--raw", &holder],
    ));
    let kinds: Vec<&str> = holder["layers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|layer| layer["annotations"]["in-toto.io/predicate-type"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "https://slsa.dev/provenance/v1",
            "https://spdx.dev/Document"
        ]
    );
    let arguments = &told["buildx.build.provenance"]["buildDefinition"]["externalParameters"]["request"]
        ["args"];
    assert_eq!(arguments["build-arg:ARG"], "given");
    // It can be pulled like any other.
    let other = ["rmi", "-f", &name];
    let _ = engine.docker_ok(&other);
    let _ = engine.docker_ok(&["pull", "-q", &name]);
    assert_eq!(cat(&engine, &name, "/two"), "two");
}

#[test]
fn caches_are_taken_from_files_and_registries() {
    let first = Engine::start();
    if first.is_reference() {
        return;
    }
    let registry = DockerRegistry::start(&first, "registry", 5000);
    let dir = directory(&first, "context", &[("Dockerfile", FILE)]);
    let at = |name: &str| first.dir().join(name).display().to_string();
    let name = registry.name("cache:1");
    let _ = wharf_build(
        &first,
        &[
            "-t",
            "result",
            "--cache-to",
            &format!("type=local,dest={},mode=max", at("cache")),
            "--cache-to",
            &format!("type=oci,dest={},mode=max", at("cache.tar")),
            "--cache-to",
            &format!("type=registry,ref={name},mode=max"),
            "--cache-to",
            "type=inline",
            &dir,
        ],
    );
    let id = first.inspect("result", "{{.Id}}");
    for source in [
        format!("type=local,src={}", at("cache")),
        format!("type=oci,src={}", at("cache.tar")),
    ] {
        let fresh = Engine::start();
        let said = wharf_build(&fresh, &["-t", "result", "--cache-from", &source, &dir]);
        assert_eq!(said.matches("CACHED").count(), 3, "{source}: {said}");
        assert_eq!(fresh.inspect("result", "{{.Id}}"), id);
        assert_eq!(cat(&fresh, "result", "/two"), "two");
    }
    // The registry is only reachable from the first one's namespace: its own steps go first.
    let _ = first.docker_ok(&["rmi", "-f", "result"]);
    let _ = first.docker_ok(&["builder", "prune", "-af"]);
    let said = wharf_build(&first, &["-t", "result", "--cache-from", &name, &dir]);
    assert_eq!(said.matches("CACHED").count(), 3, "{said}");
    assert_eq!(first.inspect("result", "{{.Id}}"), id);
    let said = wharf_build(&first, &["--no-cache-filter", "one", &dir]);
    assert_eq!(said.matches("CACHED").count(), 2, "{said}");
    let said = wharf_build(
        &first,
        &[
            "--cache-from",
            &registry.name("none:1"),
            "--cache-from",
            "type=local,src=/not/there",
            &dir,
        ],
    );
    assert!(said.contains("Successfully built"), "{said}");
}

#[test]
fn caches_of_commands_move_to_other_machines() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let file = "FROM busybox\nRUN --mount=type=cache,id=mine,target=/c ls /c > /before && echo content > /c/file\n";
    let dir = directory(&engine, "context", &[("Dockerfile", file)]);
    let _ = wharf_build(&engine, &[&dir]);
    let tar = engine.dir().join("cache.tar").display().to_string();
    let exported = engine.wharf(&["builder", "export-cache", "-o", &tar, "mine"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    let other = Engine::start();
    let imported = other.wharf(&["builder", "import-cache", "-i", &tar, "mine"]);
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    let listed = other.wharf(&["builder", "caches", "--format", "{{.ID}}"]);
    assert_eq!(listed.stdout, "mine\n");
    let _ = wharf_build(&other, &["-t", "seeded", &dir]);
    assert_eq!(cat(&other, "seeded", "/before"), "file");
    let broken = other.dir().join("broken");
    std::fs::write(&broken, "no archive").expect("a file");
    let refused = other.wharf(&[
        "builder",
        "import-cache",
        "-i",
        &broken.display().to_string(),
        "mine",
    ]);
    assert_eq!(refused.code, 1);
    let _ = wharf_build(&other, &["--no-cache", "-t", "seeded", &dir]);
    assert_eq!(cat(&other, "seeded", "/before"), "file");
    let missing = engine.wharf(&["builder", "export-cache", "-o", "/dev/null", "none"]);
    assert!(
        missing.stderr.contains("no such build cache: none"),
        "{}",
        missing.stderr
    );
}

#[test]
fn caches_stay_below_their_limit() {
    let engine = Engine::options().flag("--build-cache-max-size=3m").start();
    if engine.is_reference() {
        return;
    }
    engine.load("busybox.tar");
    for name in ["a", "b", "c", "d"] {
        let file = format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c,id={name} dd if=/dev/zero of=/c/big bs=1024 count=1024\n"
        );
        let dir = directory(&engine, name, &[("Dockerfile", &file)]);
        let _ = wharf_build(&engine, &[&dir]);
    }
    wharf_e2e::deadline::wait_until(
        "the oldest cache is gone",
        wharf_e2e::deadline::LONG,
        || {
            let listed = engine.wharf(&["builder", "caches", "-q"]).stdout;
            !listed.lines().any(|line| line == "a") && listed.contains('d')
        },
    );
    let pruned = engine.docker_ok(&["builder", "prune", "-f", "--filter", "until=24h"]);
    assert!(pruned.contains("Total reclaimed space: 0B"), "{pruned}");
    let pruned = engine.docker_ok(&["builder", "prune", "-f", "--keep-storage", "1500k"]);
    assert!(!pruned.contains("reclaimed space: 0B"), "{pruned}");
    let usage = engine.api().get("/system/df").expect(200).json();
    let records = usage["BuildCache"].as_array().expect("a list");
    assert!(
        records
            .iter()
            .any(|record| record["Type"] == "exec.cachemount"),
        "{usage}"
    );
}
