//! Contexts that are not sent along: addresses of Dockerfiles, archives and repositories; outputs over the API.

use wharf_e2e::Engine;
use wharf_e2e::archive::{TarFile, gzip};
use wharf_e2e::file_server::FileServer;
use wharf_e2e::registry::DockerRegistry;

use super::sources::repository;
use super::{cat, wharf_build};

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[test]
fn addresses_are_contexts() {
    let engine = Engine::start();
    let dockerfile = b"FROM busybox\nRUN echo from the text > /said\n";
    let tar = TarFile::new()
        .file("Dockerfile", b"FROM busybox\nCOPY f /said\n")
        .file("f", b"from the archive\n")
        .finish();
    let packed = gzip(&tar);
    let server = FileServer::start(
        &engine,
        &[
            ("/text", "text/plain", dockerfile),
            ("/unknown", "application/octet-stream", dockerfile),
            ("/c.tar", "application/x-tar", &tar),
            ("/c.tgz", "application/octet-stream", &packed),
        ],
    );
    for (path, expected) in [
        ("/text", "from the text"),
        ("/unknown", "from the text"),
        ("/c.tar", "from the archive"),
        ("/c.tgz", "from the archive"),
    ] {
        let remote = encode(&format!("{}{path}", server.address));
        let answer = engine
            .api()
            .post_empty(&format!("/build?t=remote&remote={remote}"));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert!(
            answer.text().contains("Successfully tagged"),
            "{}",
            answer.text()
        );
        assert_eq!(cat(&engine, "remote", "/said"), expected);
    }
    let missing = encode(&format!("{}/none", server.address));
    let answer = engine.api().post_empty(&format!("/build?remote={missing}"));
    assert!(
        answer.message().contains("404 Not Found"),
        "{}",
        answer.message()
    );
    if engine.is_reference() {
        return;
    }
    let said = wharf_build(
        &engine,
        &["-t", "remote", &format!("{}/c.tgz", server.address)],
    );
    assert!(said.contains("CACHED"), "{said}");
}

#[test]
fn repositories_are_contexts() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let (server, _) = repository(&engine);
    let address = format!("{}/r.git", server.address);
    for (fragment, path, expected) in [
        ("", "/src/version", "two"),
        ("#v1", "/src/version", "one"),
        ("#main:sub", "/sub/Dockerfile", "FROM busybox\nCOPY . /sub"),
    ] {
        let remote = encode(&format!("{address}{fragment}"));
        let answer = engine
            .api()
            .post_empty(&format!("/build?t=repository&remote={remote}"));
        assert!(
            answer.text().contains("Successfully tagged"),
            "{}",
            answer.text()
        );
        assert_eq!(cat(&engine, "repository", path), expected);
        let remote = format!("{address}{fragment}");
        let _ = wharf_build(&engine, &["-t", "repository", &remote]);
        let said = wharf_build(&engine, &["-t", "repository", &remote]);
        assert!(said.contains("CACHED"), "{said}");
        assert_eq!(cat(&engine, "repository", path), expected);
    }
    for fragment in ["#none", "#main:none", "#--upload-pack=x"] {
        let remote = encode(&format!("{address}{fragment}"));
        let answer = engine.api().post_empty(&format!("/build?remote={remote}"));
        assert!(answer.status() >= 400, "{fragment}: {}", answer.text());
    }
    let left: Vec<_> = std::fs::read_dir(engine.data_root().join("trash"))
        .expect("a directory")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn outputs_of_the_api_are_pushed_or_refused() {
    let engine = Engine::start();
    if engine.is_reference() {
        return;
    }
    let registry = DockerRegistry::start(&engine, "registry", 5000);
    let context = TarFile::new()
        .file("Dockerfile", b"FROM busybox\nLABEL a=b\n")
        .finish();
    let build = |outputs: &str| {
        let target = format!("/build?outputs={}", encode(outputs));
        engine
            .api()
            .post_bytes(&target, "application/x-tar", &context)
    };
    let name = registry.name("made:1");
    let answer = build(&format!(
        r#"[{{"Type":"image","Attrs":{{"name":"{name}","push":"true"}}}}]"#
    ));
    assert!(
        answer.text().contains("digest: sha256:"),
        "{}",
        answer.text()
    );
    assert_eq!(engine.inspect(&name, "{{.Config.Labels.a}}"), "b");
    for (outputs, status) in [
        (r#"[{"Type":"local","Attrs":{"dest":"out"}}]"#, 501),
        (r#"[{"Type":"other"}]"#, 400),
        (r#"[{"Type":"cacheonly"}]"#, 200),
        ("[]", 200),
    ] {
        assert_eq!(build(outputs).status(), status, "{outputs}");
    }
    let session =
        engine
            .api()
            .post_bytes("/build?version=2&session=x", "application/x-tar", &context);
    assert_eq!(session.status(), 501);
    let platforms = engine.api().post_bytes(
        "/build?platform=linux/amd64,linux/arm64",
        "application/x-tar",
        &context,
    );
    assert_eq!(platforms.status(), 501, "{}", platforms.text());
}
