//! Push: in one piece, in chunks, resumed, mounted; manifests and what they name.

use reqwest::Method;
use serde_json::{Value, json};
use wharf_spec::digest::Digest;

use crate::harness::{INDEX, JsonBody as _, MANIFEST, Registry, code, header, manifest};

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_in_one_request() {
    let registry = Registry::start("").await;
    for bytes in [&b""[..], b"x", &[9; 700_000]] {
        let digest = Digest::of(bytes);
        let response = registry
            .ask(
                Method::POST,
                &format!("/v2/r/blobs/uploads/?digest={digest}"),
            )
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "docker-content-digest"), digest.as_str());
        let location = header(&response, "location");
        assert_eq!(registry.get(&location).await.bytes().await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_leaves_nothing() {
    let registry = Registry::start("").await;
    let wrong = Digest::of(b"other");
    let location = registry.begin("r").await;
    let response = registry.finish(&location, &wrong, b"bytes").await;
    assert_eq!(response.status(), 400);
    assert_eq!(code(response).await, "DIGEST_INVALID");
    assert_eq!(
        registry.get(&location).await.status(),
        404,
        "the upload is gone"
    );
    assert_eq!(
        registry
            .head(&format!("/v2/r/blobs/{wrong}"))
            .await
            .status(),
        404
    );
    let location = registry.begin("r").await;
    let put = |query: &str| {
        registry
            .ask(Method::PUT, &format!("{location}{query}"))
            .body("x")
            .send()
    };
    for query in [
        "",
        "?digest=",
        "?digest=sha256:xyz",
        "?digest=md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let response = put(query).await.unwrap();
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(code(response).await, "DIGEST_INVALID", "{query}");
    }
    let uploads = std::fs::read_dir(registry.dir.path().join("store/uploads"))
        .unwrap()
        .count();
    assert_eq!(uploads, 1, "the one that was begun last");
}

async fn patch(
    registry: &Registry,
    location: &str,
    range: &str,
    bytes: &[u8],
) -> reqwest::Response {
    registry
        .ask(Method::PATCH, location)
        .header("Content-Type", "application/octet-stream")
        .header("Content-Range", range)
        .body(bytes.to_vec())
        .send()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_come_in_order_or_not_at_all() {
    let registry = Registry::start("").await;
    let bytes = b"0123456789abcdef";
    let digest = Digest::of(bytes);
    let location = registry.begin("r").await;
    let early = patch(&registry, &location, "5-9", &bytes[5..10]).await;
    assert_eq!(early.status(), 416);
    assert_eq!(code(early).await, "BLOB_UPLOAD_INVALID");
    let first = patch(&registry, &location, "0-4", &bytes[..5]).await;
    assert_eq!(
        (first.status().as_u16(), header(&first, "range")),
        (202, "0-4".to_owned())
    );
    let location = header(&first, "location");
    assert_eq!(
        patch(&registry, &location, "0-4", &bytes[..5])
            .await
            .status(),
        416,
        "again"
    );
    assert_eq!(
        patch(&registry, &location, "7-9", &bytes[7..10])
            .await
            .status(),
        416,
        "a gap"
    );
    assert_eq!(
        patch(&registry, &location, "5-9", &bytes[5..8])
            .await
            .status(),
        416,
        "shorter than it says"
    );
    let status = registry.get(&location).await;
    assert_eq!(
        (status.status().as_u16(), header(&status, "range")),
        (204, "0-4".to_owned())
    );
    let second = patch(&registry, &location, "5-9", &bytes[5..10]).await;
    assert_eq!(second.status(), 202);
    // The last chunk may come with the PUT.
    let last = registry
        .ask(
            Method::PUT,
            &format!("{}?digest={digest}", header(&second, "location")),
        )
        .header("Content-Range", "10-15")
        .body(bytes[10..].to_vec())
        .send()
        .await
        .unwrap();
    assert_eq!(last.status(), 201);
    assert_eq!(
        registry
            .get(&format!("/v2/r/blobs/{digest}"))
            .await
            .bytes()
            .await
            .unwrap(),
        &bytes[..]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_restart() {
    let mut registry = Registry::start("").await;
    let bytes = vec![3u8; 100_000];
    let digest = Digest::of(&bytes);
    let location = registry.begin("r").await;
    assert_eq!(
        patch(&registry, &location, "0-59999", &bytes[..60_000])
            .await
            .status(),
        202
    );
    registry.running.take().unwrap().stop().await;
    let registry = Registry::start_in("", registry.dir).await;
    let status = registry.get(&location).await;
    assert_eq!(header(&status, "range"), "0-59999");
    assert_eq!(
        patch(&registry, &location, "60000-99999", &bytes[60_000..])
            .await
            .status(),
        202
    );
    assert_eq!(registry.finish(&location, &digest, b"").await.status(), 201);
    assert_eq!(
        registry
            .get(&format!("/v2/r/blobs/{digest}"))
            .await
            .bytes()
            .await
            .unwrap(),
        bytes
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_belongs_to_its_repository_and_can_be_cancelled() {
    let registry = Registry::start("").await;
    let location = registry.begin("r").await;
    assert_eq!(
        registry
            .get(&location.replace("/r/", "/other/"))
            .await
            .status(),
        404
    );
    assert_eq!(registry.delete(&location).await, 204);
    assert_eq!(registry.get(&location).await.status(), 404);
    assert_eq!(registry.delete(&location).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_with_and_without_a_source() {
    let registry = Registry::start("").await;
    let digest = registry.blob("from", b"shared").await;
    let mount = |query: String| {
        registry
            .ask(Method::POST, &format!("/v2/to/blobs/uploads/?{query}"))
            .send()
    };
    let missing = Digest::of(b"missing");
    for (query, status) in [
        (format!("mount={digest}&from=nowhere"), 202),
        (format!("mount={missing}&from=from"), 202),
        (format!("mount={missing}"), 202),
        (format!("mount={digest}&from=.."), 202),
        ("mount=nonsense&from=from".to_owned(), 400),
        (format!("mount={digest}&from=from"), 201),
    ] {
        let response = mount(query.clone()).await.unwrap();
        assert_eq!(response.status(), status, "{query}");
        if status == 202 {
            assert_eq!(
                registry.get(&header(&response, "location")).await.status(),
                204,
                "an upload instead"
            );
        }
    }
    assert_eq!(
        registry
            .get(&format!("/v2/to/blobs/{digest}"))
            .await
            .bytes()
            .await
            .unwrap(),
        "shared"
    );
    let anonymous = registry
        .ask(
            Method::POST,
            &format!("/v2/third/blobs/uploads/?mount={digest}"),
        )
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status(), 201);
    assert_eq!(
        header(&anonymous, "location"),
        format!("/v2/third/blobs/{digest}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_make_no_sense() {
    let registry = Registry::start("http: {max_manifest_size: 64KiB}").await;
    let config = registry.blob("r", b"{}").await;
    let good = manifest(&config, &[]);
    let unknown = Digest::of(b"unknown");
    let both = json!({"schemaVersion": 2, "config": {"mediaType": "x", "digest": config, "size": 2}, "layers": [], "manifests": []});
    for (reference, kind, body, status, expected) in [
        ("t", MANIFEST, b"nonsense".to_vec(), 400, "MANIFEST_INVALID"),
        ("t", MANIFEST, b"{}".to_vec(), 400, "MANIFEST_INVALID"),
        ("t", "text/plain", good.clone(), 400, "MANIFEST_INVALID"),
        ("t", INDEX, good.clone(), 400, "MANIFEST_INVALID"),
        (
            "t",
            MANIFEST,
            both.to_string().into_bytes(),
            400,
            "MANIFEST_INVALID",
        ),
        (
            "t",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            b"{\"schemaVersion\":1}".to_vec(),
            400,
            "MANIFEST_INVALID",
        ),
        (
            "t",
            MANIFEST,
            manifest(&config, std::slice::from_ref(&unknown)),
            400,
            "MANIFEST_BLOB_UNKNOWN",
        ),
        (
            unknown.as_str(),
            MANIFEST,
            good.clone(),
            400,
            "DIGEST_INVALID",
        ),
        ("t", MANIFEST, vec![b' '; 70_000], 413, "MANIFEST_INVALID"),
    ] {
        let response = registry.put_manifest("r", reference, kind, &body).await;
        assert_eq!(
            response.status(),
            status,
            "{reference} {kind} {}",
            String::from_utf8_lossy(&body[..body.len().min(80)])
        );
        assert_eq!(code(response).await, expected);
    }
    let list: Value = registry.get("/v2/r/tags/list").await.json().await.unwrap();
    assert_eq!(list["tags"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_need_their_manifests_unless_sparse() {
    for (yaml, status) in [("", 400), ("storage: {sparse: true}", 201)] {
        let registry = Registry::start(yaml).await;
        let child = registry.image("r", "one", "1").await;
        let index = |digest: &Digest| {
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"mediaType": MANIFEST, "digest": digest, "size": 1}]}).to_string()
        };
        let full = registry
            .put_manifest("r", "full", INDEX, index(&child).as_bytes())
            .await;
        assert_eq!(full.status(), 201);
        let sparse = registry
            .put_manifest("r", "sparse", INDEX, index(&Digest::of(b"x")).as_bytes())
            .await;
        assert_eq!(sparse.status(), status, "{yaml}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tags_with_one_manifest() {
    let registry = Registry::start("").await;
    let config = registry.blob("r", b"{}").await;
    let body = manifest(&config, &[]);
    let digest = Digest::of(&body);
    let response = registry
        .put_manifest(
            "r",
            &format!("{digest}?tag=1&tag=1.2&tag=latest"),
            MANIFEST,
            &body,
        )
        .await;
    assert_eq!(response.status(), 201);
    let tags: Vec<_> = response
        .headers()
        .get_all("oci-tag")
        .iter()
        .map(|tag| tag.to_str().unwrap())
        .collect();
    assert_eq!(tags, ["1", "1.2", "latest"]);
    for tag in tags {
        assert_eq!(
            header(
                &registry.head(&format!("/v2/r/manifests/{tag}")).await,
                "docker-content-digest"
            ),
            digest.as_str()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_size() {
    let registry = Registry::start(
        "http: {max_blob_size: 1000}\nquotas: [{repositories: ['small/**'], size: 100}]",
    )
    .await;
    let large = vec![1u8; 1001];
    let digest = Digest::of(&large);
    let location = registry.begin("r").await;
    let declared = registry.finish(&location, &digest, &large).await;
    assert_eq!(declared.status(), 413);
    assert_eq!(code(declared).await, "SIZE_INVALID");
    // Not declared: it shows while the bytes come.
    let pieces = futures_util::stream::iter(
        large
            .chunks(100)
            .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
            .collect::<Vec<_>>(),
    );
    let chunked = registry
        .ask(Method::PATCH, &location)
        .body(reqwest::Body::wrap_stream(pieces))
        .send()
        .await
        .unwrap();
    assert_eq!(chunked.status(), 413);
    registry.blob("small/a", &[1; 60]).await;
    let more = vec![2u8; 60];
    let full = registry
        .finish(&registry.begin("small/a").await, &Digest::of(&more), &more)
        .await;
    assert_eq!(full.status(), 403);
    assert_eq!(code(full).await, "DENIED");
    registry.blob("small/a", &[1; 60]).await;
    registry.blob("small/b", &more).await;
}
