//! Content management: what is deleted is gone, and nothing else is.

use serde_json::{Value, json};
use wharf_spec::digest::Digest;

use crate::harness::{JsonBody as _, Registry, code};

#[tokio::test(flavor = "multi_thread")]
async fn tags_manifests_and_blobs() {
    let registry = Registry::start("").await;
    let digest = registry.image("r", "a", "x").await;
    registry.image("r", "b", "x").await;
    registry.image("r", "c", "y").await;
    assert_eq!(registry.delete("/v2/r/manifests/a").await, 202);
    assert_eq!(registry.get("/v2/r/manifests/a").await.status(), 404);
    assert_eq!(
        registry.get("/v2/r/manifests/b").await.status(),
        200,
        "another tag of the same manifest"
    );
    assert_eq!(
        registry
            .get(&format!("/v2/r/manifests/{digest}"))
            .await
            .status(),
        200
    );
    assert_eq!(
        registry.delete(&format!("/v2/r/manifests/{digest}")).await,
        202
    );
    assert_eq!(
        registry.get("/v2/r/manifests/b").await.status(),
        404,
        "its tags went with it"
    );
    let list: Value = registry.get("/v2/r/tags/list").await.json().await.unwrap();
    assert_eq!(list["tags"], json!(["c"]));
    let blob = registry.blob("r", b"blob").await;
    assert_eq!(registry.delete(&format!("/v2/r/blobs/{blob}")).await, 202);
    assert_eq!(
        registry.head(&format!("/v2/r/blobs/{blob}")).await.status(),
        404
    );
    let unknown = Digest::of(b"?");
    for (path, expected) in [
        ("/v2/r/manifests/a".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/r/manifests/{unknown}"), "MANIFEST_UNKNOWN"),
        (format!("/v2/r/blobs/{blob}"), "BLOB_UNKNOWN"),
        ("/v2/none/manifests/a".to_owned(), "NAME_UNKNOWN"),
    ] {
        let response = registry
            .ask(reqwest::Method::DELETE, &path)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(code(response).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switches() {
    let registry = Registry::start("storage: {delete: false}").await;
    let digest = registry.image("r", "a", "x").await;
    for path in [
        "/v2/r/manifests/a".to_owned(),
        format!("/v2/r/manifests/{digest}"),
        format!("/v2/r/blobs/{digest}"),
    ] {
        assert_eq!(registry.delete(&path).await, 405, "{path}");
    }
    let dir = {
        let mut registry = registry;
        registry.running.take().unwrap().stop().await;
        registry.dir
    };
    let registry = Registry::start_in("storage: {read_only: true}", dir).await;
    assert_eq!(registry.get("/v2/r/manifests/a").await.status(), 200);
    let post = registry
        .ask(reqwest::Method::POST, "/v2/r/blobs/uploads/")
        .send()
        .await
        .unwrap();
    assert_eq!(post.status(), 405);
    assert_eq!(code(post).await, "UNSUPPORTED");
    assert_eq!(registry.delete("/v2/r/manifests/a").await, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_an_oci_layout() {
    let mut registry = Registry::start("").await;
    let digest = registry.image("team/app", "v1", "x").await;
    registry.running.take().unwrap().stop().await;
    let read = |name: &str| -> Value {
        serde_json::from_slice(
            &std::fs::read(registry.dir.path().join("store").join(name)).unwrap(),
        )
        .unwrap()
    };
    assert_eq!(read("oci-layout")["imageLayoutVersion"], "1.0.0");
    let index = read("index.json");
    assert_eq!(index["manifests"][0]["digest"], digest.as_str());
    assert_eq!(
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
        "team/app:v1"
    );
    assert_eq!(
        read(&format!("blobs/sha256/{}", digest.hex()))["schemaVersion"],
        2
    );
}
