//! Images without a registry: load, save, import, tag, history, remove, list.

use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::archive::{Image, TarFile, gzip};
use wharf_e2e::images::{self, BUSYBOX};

fn small(tag: &str, content: &str) -> Image {
    Image::new(
        tag,
        vec![TarFile::new().file("file", content.as_bytes()).finish()],
    )
}

fn image_id(engine: &Engine, name: &str) -> String {
    engine.docker_ok(&["image", "inspect", "--format", "{{.Id}}", name])
}

fn scratch(engine: &Engine, name: &str, bytes: &[u8]) -> String {
    let path = engine.dir().join(name);
    std::fs::write(&path, bytes).expect("a scratch file");
    path.to_str().expect("a plain path").to_owned()
}

#[test]
fn load_names_what_it_loaded() {
    let engine = Engine::empty();
    let file = scratch(
        &engine,
        "a.tar",
        &small("some/name:1.0", "x").docker_archive(),
    );
    assert_eq!(
        engine.docker_ok(&["load", "-i", &file]),
        "Loaded image: some/name:1.0"
    );
    let mut untagged = small("", "y");
    untagged.tags.clear();
    let file = scratch(&engine, "b.tar", &untagged.docker_archive());
    assert_eq!(
        engine.docker_ok(&["load", "-i", &file]),
        format!("Loaded image ID: {}", untagged.id())
    );
}

#[test]
fn load_reads_standard_input() {
    let engine = Engine::empty();
    let output = engine.docker_with_input(&["load"], &small("stdin:1", "x").docker_archive());
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (0, "Loaded image: stdin:1\n")
    );
}

#[test]
fn id_and_layers_are_the_digests_of_config_and_tars() {
    let engine = Engine::empty();
    let image = small("digests:1", "content");
    engine.load_bytes(&image.docker_archive());
    let inspect = engine
        .api()
        .get("/images/digests:1/json")
        .expect(200)
        .json();
    assert_eq!(inspect["Id"], json!(image.id()));
    assert_eq!(
        inspect["RootFS"],
        json!({"Type": "layers", "Layers": image.diff_ids()})
    );
    assert_eq!(
        (
            &inspect["RepoTags"],
            &inspect["Os"],
            &inspect["Architecture"]
        ),
        (&json!(["digests:1"]), &json!("linux"), &json!("amd64"))
    );
    assert_eq!(inspect["Created"], json!("2024-01-01T00:00:00Z"));
    assert_eq!(inspect["Size"], json!(7));
    assert_eq!(inspect["Config"]["Cmd"], json!(["sh"]));
}

#[test]
fn graph_driver_names_the_layers_directory() {
    let engine = Engine::empty();
    engine.load_bytes(&small("graph:1", "content").docker_archive());
    let driver = engine.api().get("/images/graph:1/json").expect(200).json()["GraphDriver"].clone();
    assert_eq!(driver["Name"], json!("overlay2"));
    let upper = driver["Data"]["UpperDir"].as_str().expect("a path");
    assert!(
        upper.starts_with(&format!("{}/overlay2/", engine.data_root().display())),
        "{upper}"
    );
    assert_eq!(
        std::fs::read_to_string(format!("{upper}/file")).expect("the layer's file"),
        "content"
    );
    for field in ["MergedDir", "WorkDir"] {
        assert!(driver["Data"][field].is_string(), "{field}");
    }
}

#[test]
fn every_compression_is_understood() {
    let engine = Engine::empty();
    let plain = |n: u32| small(&format!("packed:{n}"), &format!("content {n}")).docker_archive();
    engine.load_bytes(&gzip(&plain(1)));
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain(2)).expect("memory");
    engine.load_bytes(&xz.finish().expect("memory"));
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&plain(3)).expect("memory");
    engine.load_bytes(&bz.finish().expect("memory"));
    let mut expected = vec!["packed:1", "packed:2", "packed:3"];
    if !engine.is_reference() {
        engine.load_bytes(&zstd::encode_all(plain(4).as_slice(), 1).expect("memory"));
        expected.push("packed:4");
    }
    let listed = engine.docker_ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, expected);
}

#[test]
fn oci_layouts_are_loaded() {
    let engine = Engine::empty();
    if engine.is_reference() {
        return; // since Docker 25
    }
    let image = small("oci:1", "from a layout");
    engine.load_bytes(&image.oci_archive());
    assert_eq!(image_id(&engine, "oci:1"), image.id());
    engine.load("busybox-oci.tar");
    assert_eq!(engine.run(&[], &["echo", "runs"]), "runs");
}

#[test]
fn loading_again_changes_nothing() {
    let engine = Engine::start();
    let before = image_id(&engine, BUSYBOX);
    engine.load("busybox.tar");
    assert_eq!(image_id(&engine, BUSYBOX), before);
    assert_eq!(engine.docker_ok(&["images", "-aq"]).lines().count(), 1);
}

#[test]
fn loading_moves_a_tag() {
    let engine = Engine::empty();
    let (old, new) = (small("moving:1", "old"), small("moving:1", "new"));
    engine.load_bytes(&old.docker_archive());
    let file = scratch(&engine, "new.tar", &new.docker_archive());
    let said = engine.docker_ok(&["load", "-i", &file]);
    assert_eq!(
        said,
        format!(
            "The image moving:1 already exists, renaming the old one with ID {} to empty string\nLoaded image: moving:1",
            old.id()
        )
    );
    assert_eq!(image_id(&engine, "moving:1"), new.id());
    let dangling = engine.docker_ok(&["images", "-q", "--no-trunc", "-f", "dangling=true"]);
    assert_eq!(dangling, old.id());
}

#[test]
fn saved_images_load_elsewhere_with_the_same_id() {
    let engine = Engine::start();
    engine.docker_ok(&["tag", BUSYBOX, "second:tag"]);
    let file = engine.dir().join("saved.tar");
    let path = file.to_str().expect("a plain path");
    engine.docker_ok(&["save", "-o", path, BUSYBOX, "second:tag"]);
    let id = image_id(&engine, BUSYBOX);

    let other = Engine::empty();
    other.load_bytes(&std::fs::read(&file).expect("the saved archive"));
    assert_eq!(image_id(&other, "second:tag"), id);
    assert_eq!(image_id(&other, BUSYBOX), id);
    assert_eq!(other.run(&[], &["echo", "runs"]), "runs");
}

#[test]
fn saved_layers_are_the_exact_tars() {
    let engine = Engine::empty();
    let image = Image::new(
        "exact:1",
        vec![
            TarFile::new()
                .dir("d")
                .file("d/a", b"one")
                .hardlink("d/b", "d/a")
                .symlink("d/c", "a")
                .finish(),
            TarFile::new().file("d/.wh.a", b"").finish(),
        ],
    );
    engine.load_bytes(&image.docker_archive());
    let saved = engine.api().get("/images/exact:1/get").expect(200).body;
    let mut archive = tar::Archive::new(saved.as_slice());
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("content");
        files.insert(path, bytes);
    }
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).expect("JSON");
    assert_eq!(manifest[0]["RepoTags"], json!(["exact:1"]));
    assert_eq!(
        files[manifest[0]["Config"].as_str().expect("a path")],
        image.config_bytes()
    );
    let layers: Vec<&Vec<u8>> = manifest[0]["Layers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|l| &files[l.as_str().expect("a path")])
        .collect();
    assert!(
        layers == image.layers.iter().collect::<Vec<_>>(),
        "layers differ"
    );
}

#[test]
fn skopeo_reads_saved_archives() {
    let engine = Engine::start();
    let file = engine.dir().join("saved.tar");
    engine.docker_ok(&["save", "-o", file.to_str().expect("a plain path"), BUSYBOX]);
    let read = |transport: &str| {
        let output = Command::new("skopeo")
            .args([
                "inspect",
                "--config",
                &format!("{transport}:{}", file.display()),
            ])
            .output()
            .expect("skopeo runs");
        assert!(
            output.status.success(),
            "{transport}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let expected = engine.api().get("/images/busybox/json").json()["RootFS"]["Layers"].clone();
    assert_eq!(read("docker-archive")["rootfs"]["diff_ids"], expected);
    if !engine.is_reference() {
        assert_eq!(read("oci-archive")["rootfs"]["diff_ids"], expected);
    }
}

#[test]
fn saving_an_unknown_image_is_an_error() {
    let engine = Engine::empty();
    let stderr = engine.docker_fails(
        &[
            "save",
            "-o",
            engine.dir().join("x").to_str().expect("a plain path"),
            "nope",
        ],
        1,
    );
    assert!(stderr.contains("No such image: nope"), "{stderr}");
}

#[test]
fn import_makes_an_image_with_its_changes() {
    let engine = Engine::start();
    let rootfs = images::busybox().expect("busybox").layers.remove(0);
    let file = scratch(&engine, "root.tar", &rootfs);
    let id = engine.docker_ok(&[
        "import",
        "-m",
        "a message",
        "-c",
        "CMD [\"echo\", \"imported\"]",
        "-c",
        "ENV A=b",
        "-c",
        "WORKDIR /home",
        &file,
        "imp:1",
    ]);
    assert_eq!(id, image_id(&engine, "imp:1"));
    assert_eq!(engine.docker_ok(&["run", "--rm", "imp:1"]), "imported");
    let inspect = engine.api().get("/images/imp:1/json").json();
    assert_eq!(
        (&inspect["Comment"], &inspect["Config"]["WorkingDir"]),
        (&json!("a message"), &json!("/home"))
    );
    assert_eq!(inspect["Config"]["Env"], json!(["A=b"]));
    assert_eq!(
        engine.docker_ok(&[
            "history",
            "--format",
            "{{.CreatedBy}}|{{.Comment}}",
            "imp:1"
        ]),
        "|a message"
    );
}

#[test]
fn import_from_standard_input_and_without_a_name() {
    let engine = Engine::empty();
    let output = engine.docker_with_input(
        &["import", "-"],
        &gzip(&TarFile::new().file("f", b"x").finish()),
    );
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(
        engine.docker_ok(&["images", "-q", "--no-trunc"]),
        output.stdout.trim()
    );
}

#[test]
fn history_is_the_configs_newest_first() {
    let engine = Engine::empty();
    let layers = vec![
        TarFile::new().file("a", b"12345").finish(),
        TarFile::new().file("b", b"1").finish(),
    ];
    engine.load_bytes(&Image::new("hist:1", layers).docker_archive());
    let history = engine.docker_ok(&[
        "history",
        "--no-trunc",
        "--human=false",
        "--format",
        "{{.CreatedAt}} {{.CreatedBy}} {{.Size}}",
        "hist:1",
    ]);
    let utc = history.replace("+00:00", "Z");
    assert_eq!(
        utc,
        "2024-01-01T00:00:00Z layer 1 1\n2024-01-01T00:00:00Z layer 0 5"
    );
}

#[test]
fn tags_are_added_moved_and_removed() {
    let engine = Engine::start();
    let id = image_id(&engine, BUSYBOX);
    engine.docker_ok(&["tag", BUSYBOX, "registry.example:5000/team/app:v1"]);
    assert_eq!(image_id(&engine, "registry.example:5000/team/app:v1"), id);
    assert_eq!(
        engine.docker_ok(&["rmi", "registry.example:5000/team/app:v1"]),
        "Untagged: registry.example:5000/team/app:v1"
    );
    assert_eq!(image_id(&engine, BUSYBOX), id);
}

#[test]
fn images_are_found_by_every_form_of_their_name() {
    let engine = Engine::start();
    let id = image_id(&engine, BUSYBOX);
    let hex = id.strip_prefix("sha256:").expect("a digest");
    for name in [
        "busybox",
        "busybox:latest",
        "library/busybox",
        "docker.io/library/busybox:latest",
        "docker.io/busybox",
        &id,
        hex,
        &hex[..12],
        &format!("sha256:{}", &hex[..12]),
    ] {
        assert_eq!(image_id(&engine, name), id, "by {name}");
    }
}

#[test]
fn removing_the_last_tag_deletes_the_image() {
    let engine = Engine::empty();
    let image = small("gone:1", "x");
    engine.load_bytes(&image.docker_archive());
    let upper = engine.docker_ok(&[
        "image",
        "inspect",
        "-f",
        "{{.GraphDriver.Data.UpperDir}}",
        "gone:1",
    ]);
    let said = engine.docker_ok(&["rmi", "gone:1"]);
    assert_eq!(
        said,
        format!(
            "Untagged: gone:1\nDeleted: {}\nDeleted: {}",
            image.id(),
            image.diff_ids()[0]
        )
    );
    assert_eq!(engine.docker_ok(&["images", "-aq"]), "");
    assert!(!std::path::Path::new(&upper).exists());
}

#[test]
fn layers_shared_with_another_image_stay() {
    let engine = Engine::empty();
    let base = TarFile::new().file("base", b"shared").finish();
    let one = Image::new(
        "one:1",
        vec![base.clone(), TarFile::new().file("x", b"1").finish()],
    );
    let two = Image::new("two:1", vec![base, TarFile::new().file("x", b"2").finish()]);
    engine.load_bytes(&one.docker_archive());
    engine.load_bytes(&two.docker_archive());
    let said = engine.docker_ok(&["rmi", "one:1"]);
    assert_eq!(
        said.lines().count(),
        3,
        "untagged, the image and its own layer: {said}"
    );
    let saved = engine.api().get("/images/two:1/get").expect(200);
    assert!(saved.body.len() > 1024);
}

#[test]
fn an_image_in_use_is_kept() {
    let engine = Engine::start();
    let container = engine.docker_ok(&["create", "--name", "user", BUSYBOX, "true"]);
    let stderr = engine.docker_fails(&["rmi", "busybox"], 1);
    let expected = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its referenced image",
        &container[..12]
    );
    assert!(stderr.contains(&expected), "{stderr}");
    let id = image_id(&engine, BUSYBOX);
    let short = &id["sha256:".len()..][..12];
    engine.docker_ok(&["rm", "user"]);
    let running = engine.run_detached(&[], &["sleep", "1000"]);
    let stderr = engine.docker_fails(&["rmi", "-f", short], 1);
    let expected = format!(
        "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
        &running[..12]
    );
    assert!(stderr.contains(&expected), "{stderr}");
}

#[test]
fn an_id_with_several_repositories_needs_force() {
    let engine = Engine::start();
    engine.docker_ok(&["tag", BUSYBOX, "other:1"]);
    let id = image_id(&engine, BUSYBOX);
    let short = &id["sha256:".len()..][..12];
    let stderr = engine.docker_fails(&["rmi", short], 1);
    assert!(stderr.contains(&format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")), "{stderr}");
    engine.docker_ok(&["rmi", "-f", short]);
    assert_eq!(engine.docker_ok(&["images", "-q"]), "");
}

#[test]
fn list_filters_select() {
    let engine = Engine::start();
    engine.load_bytes(
        &small("app:1", "1")
            .with("Labels", json!({"k": "v"}))
            .docker_archive(),
    );
    engine.load_bytes(&small("app:2", "2").docker_archive());
    engine.load_bytes(&small("team/app:3", "3").docker_archive());
    let check = |filters: &[&str], expected: &[&str]| {
        let mut args = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
        for filter in filters {
            args.extend_from_slice(&["-f", filter]);
        }
        let listed = engine.docker_ok(&args);
        let mut listed: Vec<&str> = listed.lines().collect();
        listed.sort_unstable();
        assert_eq!(listed, expected, "{filters:?}");
    };
    check(&["reference=app"], &["app:1", "app:2"]);
    check(&["reference=app:2"], &["app:2"]);
    check(&["reference=*/app"], &["team/app:3"]);
    check(&["reference=app:*"], &["app:1", "app:2"]);
    check(&["label=k"], &["app:1"]);
    check(&["label=k=w"], &[]);
    check(&["dangling=true"], &[]);
    check(
        &["dangling=false", "reference=busybox"],
        &["busybox:latest"],
    );
    check(
        &["reference=app:1", "reference=busybox"],
        &["app:1", "busybox:latest"],
    );
}

#[test]
fn the_list_has_dockers_fields() {
    let engine = Engine::start();
    let list = engine.api().get("/images/json").expect(200).json();
    let image = &list[0];
    assert_eq!(image["RepoTags"], json!([BUSYBOX]));
    assert_eq!(image["Created"], json!(1_704_067_200));
    assert_eq!(
        (
            &image["SharedSize"],
            &image["Containers"],
            &image["ParentId"]
        ),
        (
            &json!(-1),
            &json!(if engine.is_reference() { -1 } else { 0 }),
            &json!("")
        )
    );
    assert!(image["Size"].as_u64() > Some(1_000_000));
}

#[test]
fn the_table_has_dockers_columns() {
    let engine = Engine::start();
    let table = engine.docker_ok(&["images"]);
    let head: Vec<&str> = table
        .lines()
        .next()
        .expect("a head")
        .split("  ")
        .map(str::trim)
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(head, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    let row: Vec<&str> = table
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(row[..2], ["busybox", "latest"]);
}

#[test]
fn prune_deletes_dangling_images_and_with_all_unused_ones() {
    let engine = Engine::start();
    engine.load_bytes(&small("moving:1", "old").docker_archive());
    engine.load_bytes(&small("moving:1", "new").docker_archive());
    engine.docker_ok(&["create", BUSYBOX, "true"]);
    let dangling = engine.api().post_empty("/images/prune").expect(200).json();
    assert!(dangling["SpaceReclaimed"].as_u64() >= Some(3));
    let tags = |engine: &Engine| {
        engine.docker_ok(&["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"])
    };
    assert_eq!(tags(&engine).lines().count(), 2);
    engine.docker_ok(&["image", "prune", "-af"]);
    assert_eq!(tags(&engine), BUSYBOX);
}

#[test]
fn image_config_is_used_by_containers() {
    let engine = Engine::empty();
    let layer = images::busybox().expect("busybox").layers.remove(0);
    let image = Image::new("configured:1", vec![layer])
        .with("Entrypoint", json!(["sh", "-c"]))
        .with("Cmd", json!(["echo $A $(pwd) $(id -u)"]))
        .with("Env", json!(["PATH=/bin", "A=from-image"]))
        .with("WorkingDir", json!("/home/app"))
        .with("User", json!("app"))
        .with("StopSignal", json!("SIGUSR1"))
        .with("Labels", json!({"from": "image"}));
    engine.load_bytes(&image.docker_archive());
    assert_eq!(
        engine.docker_ok(&["run", "--name", "cc", "configured:1"]),
        "from-image /home/app 1000"
    );
    assert_eq!(
        engine.docker_ok(&["run", "--rm", "-e", "A=mine", "configured:1", "echo $A"]),
        "mine"
    );
    assert_eq!(
        engine.inspect(
            "cc",
            "{{.Config.StopSignal}} {{index .Config.Labels \"from\"}}"
        ),
        "SIGUSR1 image"
    );
}
