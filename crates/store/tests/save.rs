//! What comes out is what went in.

mod common;

use common::{Layer, Workshop, docker_archive};
use wharf_spec::digest::Digest;

fn save(workshop: &Workshop, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let plan = workshop.store.plan_save(&names, None).expect("a plan");
    let mut archive = Vec::new();
    workshop.store.save(&plan, &mut archive).expect("saves");
    archive
}

fn file(archive: &[u8], wanted: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        if entry.path_bytes() == wanted.as_bytes() {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).expect("content");
            return content;
        }
    }
    panic!("no {wanted}")
}

#[test]
fn saved_layers_are_the_exact_tars() {
    let workshop = Workshop::new();
    let layers = [
        Layer::new()
            .dir("d")
            .file("d/a", &[1; 70_000])
            .hardlink("d/b", "d/a")
            .symlink("l", "d/a")
            .tar(),
        Layer::new()
            .file("d/.wh.a", b"")
            .file("d/.wh..wh..opq", b"")
            .file("new", b"x")
            .tar(),
        Layer::new()
            .file("twice", b"first")
            .file("twice", b"second")
            .dir("x")
            .file("x/y", b"z")
            .file("x", b"now a file")
            .tar(),
    ];
    let image = docker_archive(&layers, "x:y");
    workshop.load(&image.archive).expect("loads");
    let saved = save(&workshop, &["x:y"]);
    for layer in &layers {
        let hex = Digest::of(layer).hex().to_owned();
        assert!(file(&saved, &format!("blobs/sha256/{hex}")) == *layer);
    }
    let manifest: serde_json::Value =
        serde_json::from_slice(&file(&saved, "manifest.json")).expect("JSON");
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["x:y"]));
    assert_eq!(
        manifest[0]["Config"],
        format!("blobs/sha256/{}", image.id.hex())
    );

    let other = Workshop::new();
    other.load(&saved).expect("loads again");
    assert_eq!(other.store.image("x:y").expect("is there").id, image.id);
    assert!(save(&other, &["x:y"]) == saved, "saving is deterministic");
    other.load(&saved).expect("loads what is there");
}

#[test]
fn names_choose_what_is_saved() {
    let workshop = Workshop::new();
    let image = docker_archive(&[Layer::new().file("a", b"1").tar()], "x:y");
    workshop.load(&image.archive).expect("loads");
    let other = wharf_spec::reference::Reference::parse("x:z").expect("a reference");
    workshop.store.tag(&image.id, &other).expect("tagged");
    let tags = |names: &[&str]| {
        let manifest: serde_json::Value =
            serde_json::from_slice(&file(&save(&workshop, names), "manifest.json")).expect("JSON");
        manifest[0]["RepoTags"].clone()
    };
    assert_eq!(tags(&["x"]), serde_json::json!(["x:y", "x:z"]));
    assert_eq!(tags(&["x:z"]), serde_json::json!(["x:z"]));
    assert_eq!(tags(&[image.id.as_str()]), serde_json::Value::Null);
    assert_eq!(tags(&[&image.id.hex()[..10]]), serde_json::Value::Null);
    let error = |name: &str| {
        workshop
            .store
            .plan_save(&[name.to_owned()], None)
            .expect_err(name)
            .to_string()
    };
    assert_eq!(error("x:nope"), "reference does not exist");
    assert_eq!(error("nope"), "No such image: nope");
    assert_eq!(
        error("NOPE"),
        "invalid reference format: repository name (library/NOPE) must be lowercase"
    );
}
