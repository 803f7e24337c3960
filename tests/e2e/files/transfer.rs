//! The archive endpoints themselves, and `cp` through our own CLI.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::Value;
use wharf_e2e::Engine;
use wharf_e2e::archive::TarFile;
use wharf_e2e::images::BUSYBOX;

fn scratch(engine: &Engine, name: &str) -> PathBuf {
    let dir = engine.dir().join(name);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// The header is standard base64 of JSON; enough of a decoder for a test.
fn decode(text: &str) -> Value {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for c in text.bytes().filter(|c| *c != b'=') {
        let value = ALPHABET.iter().position(|a| *a == c).expect("base64");
        bits = bits << 6 | u32::try_from(value).expect("six bits");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("eight bits"));
        }
    }
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn head_tells_about_a_path_in_gos_terms() {
    let engine = Engine::start();
    let id = engine.run_detached(
        &["--name", "stat"],
        &[
            "sh",
            "-c",
            "mkdir -m 1777 /d; ln -s /etc/passwd /l; ln -s gone /x; sleep 600",
        ],
    );
    engine.docker_ok(&["exec", "stat", "sh", "-c", "until [ -L /x ]; do :; done"]);
    let stat = |path: &str| {
        let target = format!("/containers/{id}/archive?path={path}");
        // No body follows, whatever the length says.
        let mut connection = engine.api().connect();
        connection.send("HEAD", &target, &[], b"").expect("sent");
        let head = connection.read_head().expect("an answer");
        let header = head.header("X-Docker-Container-Path-Stat").map(decode);
        (head.status, header)
    };
    let (status, dir) = stat("/d");
    let dir = dir.expect("a header");
    assert_eq!(
        (status, dir["name"].as_str(), dir["mode"].as_u64()),
        (200, Some("d"), Some(1 << 31 | 1 << 20 | 0o777))
    );
    let link = stat("/l").1.expect("a header");
    assert_eq!(
        (link["mode"].as_u64(), link["linkTarget"].as_str()),
        (Some(1 << 27 | 0o777), Some("/etc/passwd"))
    );
    assert_eq!(stat("/x").1.expect("a header")["linkTarget"], "/gone");
    let file = stat("/etc/passwd").1.expect("a header");
    assert!(
        file["size"].as_i64() > Some(0)
            && file["mtime"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
    );
    assert_eq!(stat("/none").0, 404);
    assert_eq!(stat("").0, 400);
}

#[test]
fn refusals_of_uploads_have_dockers_status() {
    let engine = Engine::start();
    engine.docker_ok(&[
        "create",
        "--name",
        "up",
        "--read-only",
        "-v",
        "ro:/ro:ro",
        "-v",
        "rw:/rw",
        BUSYBOX,
    ]);
    let tar = TarFile::new().file("f", b"x").finish();
    let put = |path: &str| {
        let mut connection = engine.api().connect();
        let target = format!("/containers/up/archive?path={path}");
        connection
            .send(
                "PUT",
                &target,
                &[("Content-Type", "application/x-tar")],
                &tar,
            )
            .expect("sent");
        let head = connection.read_head().expect("an answer");
        head.status
    };
    assert_eq!(put("/rw"), 200);
    for (path, status) in [
        ("/", 400),
        ("/ro", 400),
        ("/none", 404),
        ("/etc/passwd", 400),
    ] {
        assert_eq!(put(path), status, "{path}");
    }
}

#[test]
fn our_own_cp_copies_both_ways() {
    let engine = Engine::start();
    if engine.is_reference() {
        return; // its own CLI is tested by the table
    }
    let dir = scratch(&engine, "own");
    fs::create_dir(dir.join("tree")).expect("created");
    fs::write(dir.join("tree/file"), "text").expect("written");
    fs::set_permissions(dir.join("tree/file"), fs::Permissions::from_mode(0o4751)).expect("mode");
    fs::hard_link(dir.join("tree/file"), dir.join("tree/other")).expect("link");
    std::os::unix::fs::symlink("file", dir.join("tree/link")).expect("link");
    engine.run_detached(&["--name", "own", "--tmpfs", "/t"], &["sleep", "600"]);
    let at = |name: &str| dir.join(name).display().to_string();
    let cp = |args: &[&str]| {
        let output = engine.wharf(&[&["cp"], args].concat());
        (output.code, output.stdout, output.stderr)
    };
    let silent = (0, String::new(), String::new());
    assert_eq!(cp(&[&at("tree"), "own:/new"]), silent);
    let seen = engine.docker_ok(&[
        "exec",
        "own",
        "sh",
        "-c",
        "cd /new; stat -c '%n %a %h' file other; readlink link",
    ]);
    assert_eq!(seen, "file 4751 2\nother 4751 2\nfile");
    assert_eq!(cp(&["own:/new", &at("back")]), silent);
    let file = fs::metadata(dir.join("back/file")).expect("there");
    assert_eq!(
        (file.mode() & 0o7777, file.nlink(), file.len()),
        (0o4751, 2, 4)
    );
    assert_eq!(cp(&["own:/new/.", &at("tree")]), silent);
    assert_eq!(cp(&["-L", "own:/new/link", &at("followed")]), silent);
    assert_eq!(
        fs::read_to_string(dir.join("followed")).expect("there"),
        "text"
    );
    // What only a running container has.
    assert_eq!(cp(&[&at("followed"), "own:/t/in-memory"]), silent);
    assert_eq!(
        engine.docker_ok(&["exec", "own", "cat", "/t/in-memory"]),
        "text"
    );
    let shown = cp(&["-q=false", "own:/t/in-memory", &at("shown")]);
    assert_eq!(
        shown.2,
        format!("Successfully copied 2.05kB to {}\n", at("shown"))
    );
    for (args, message) in [
        (
            ["own:/none", &at("x")],
            "Error response from daemon: Could not find the file /none in container own\n",
        ),
        ([&at("tree"), "own:/etc/passwd"], "cannot copy directory\n"),
        ([&at("tree/file"), "own:/none/"], "no such directory\n"),
        (
            ["own:/a", "own:/b"],
            "copying between containers is not supported\n",
        ),
        (["a", "b"], "must specify at least one container source\n"),
    ] {
        assert_eq!(
            cp(&args),
            (1, String::new(), message.to_owned()),
            "{args:?}"
        );
    }
}

#[test]
fn holes_and_attributes_survive_a_commit() {
    let engine = Engine::start();
    if engine.is_reference() {
        return; // it writes holes out and drops attributes
    }
    let id = engine.run_detached(
        &["--name", "sparse"],
        &[
            "sh",
            "-c",
            "dd if=/dev/zero of=/s bs=1 count=1 seek=64M 2>/dev/null; touch /a; sleep 600",
        ],
    );
    engine.docker_ok(&["exec", "sparse", "sh", "-c", "until [ -e /a ]; do :; done"]);
    let upper = engine.inspect(&id, "{{.GraphDriver.Data.UpperDir}}");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(format!("{upper}/a"), "user.note", b"kept", flags).expect("set");
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(
        format!("{upper}/a"),
        "security.capability",
        &capability,
        flags,
    )
    .expect("set");
    engine.docker_ok(&["commit", "sparse", "holes"]);
    let layer = engine.docker_ok(&[
        "image",
        "inspect",
        "-f",
        "{{.GraphDriver.Data.UpperDir}}",
        "holes",
    ]);
    let file = fs::metadata(format!("{layer}/s")).expect("there");
    assert_eq!(file.len(), (64 << 20) + 1);
    assert!(file.blocks() * 512 < 1 << 20, "{} blocks", file.blocks());
    let mut value = [0; 64];
    let length =
        rustix::fs::getxattr(format!("{layer}/a"), "user.note", &mut value).expect("there");
    assert_eq!(&value[..length], b"kept");
    let length = rustix::fs::getxattr(format!("{layer}/a"), "security.capability", &mut value)
        .expect("there");
    assert_eq!(value[..length], capability);
    // The archive says the same after a way out and in again.
    let archive = engine.api().get("/images/holes/get").expect(200).body;
    engine.docker_ok(&["rmi", "-f", "holes"]);
    engine.load_bytes(&archive);
    assert_eq!(
        engine.docker_ok(&[
            "run",
            "--rm",
            "--network",
            "none",
            "holes",
            "stat",
            "-c",
            "%s",
            "/s"
        ]),
        ((64 << 20) + 1).to_string()
    );
}
