//! Pull: manifests and blobs, whole and in part.

use reqwest::Method;
use wharf_spec::digest::{Algorithm, Digest};

use crate::harness::{DOCKER, MANIFEST, Registry, code, header, manifest};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_comes_back_byte_for_byte() {
    let registry = Registry::start("").await;
    let base = registry.get("/v2/").await;
    assert_eq!(base.status(), 200);
    assert_eq!(
        header(&base, "docker-distribution-api-version"),
        "registry/2.0"
    );
    let digest = registry.image("a/b", "v1", "x").await;
    for reference in ["v1", digest.as_str()] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let got = registry.get(&path).await;
        assert_eq!(got.status(), 200);
        assert_eq!(header(&got, "content-type"), MANIFEST);
        assert_eq!(header(&got, "docker-content-digest"), digest.as_str());
        let length = header(&got, "content-length");
        assert!(digest.verify(&got.bytes().await.unwrap()));
        let head = registry.head(&path).await;
        assert_eq!(
            (head.status().as_u16(), header(&head, "content-length")),
            (200, length)
        );
        assert_eq!(header(&head, "docker-content-digest"), digest.as_str());
        assert!(head.bytes().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_media_type_is_the_pushed_one() {
    let registry = Registry::start("").await;
    let config = registry.blob("r", b"{}").await;
    let body = String::from_utf8(manifest(&config, &[]))
        .unwrap()
        .replace(MANIFEST, DOCKER);
    assert_eq!(
        registry
            .put_manifest("r", "t", DOCKER, body.as_bytes())
            .await
            .status(),
        201
    );
    assert_eq!(
        header(&registry.get("/v2/r/manifests/t").await, "content-type"),
        DOCKER
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_has_its_code() {
    let registry = Registry::start("").await;
    registry.image("r", "t", "x").await;
    let digest = Digest::of(b"nothing");
    for (path, status, expected) in [
        ("/v2/r/manifests/other".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/r/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
        ("/v2/none/manifests/t".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/r/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("/v2/none/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/R/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("/v2/r/blobs/sha256:abc".to_owned(), 400, "DIGEST_INVALID"),
        (
            "/v2/r/blobs/md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        ("/v2/r/manifests/-x".to_owned(), 400, "TAG_INVALID"),
        (
            "/v2/r/blobs/uploads/0123456789abcdef0123456789abcdef".to_owned(),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
        (
            "/v2/r/blobs/uploads/..%2f..%2fr".to_owned(),
            404,
            "UNSUPPORTED",
        ),
    ] {
        let response = registry.get(&path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(code(response).await, expected, "{path}");
        let head = registry.head(&path).await;
        assert_eq!(head.status(), status, "HEAD {path}");
    }
    // A blob of another repository is not this one's.
    let other = registry.blob("other", b"secret").await;
    assert_eq!(
        registry.get(&format!("/v2/r/blobs/{other}")).await.status(),
        404
    );
    let put = registry
        .ask(Method::PUT, "/v2/r/tags/list")
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_blobs() {
    let registry = Registry::start("").await;
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let digest = registry.blob("r", &bytes).await;
    let path = format!("/v2/r/blobs/{digest}");
    for (range, status, expected) in [
        ("bytes=0-9", 206, 0..10),
        ("bytes=1000-2000999", 206, 1000..2_001_000),
        ("bytes=2999990-", 206, 2_999_990..3_000_000),
        ("bytes=-5", 206, 2_999_995..3_000_000),
        ("bytes=0-0,5-6", 200, 0..3_000_000),
        ("nonsense", 200, 0..3_000_000),
    ] {
        let response = registry
            .ask(Method::GET, &path)
            .header("Range", range)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{range}");
        if status == 206 {
            let text = format!("bytes {}-{}/3000000", expected.start, expected.end - 1);
            assert_eq!(header(&response, "content-range"), text);
        }
        assert_eq!(response.bytes().await.unwrap(), bytes[expected], "{range}");
    }
    let outside = registry
        .ask(Method::GET, &path)
        .header("Range", "bytes=3000000-")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (outside.status().as_u16(), header(&outside, "content-range")),
        (416, "bytes */3000000".to_owned())
    );
    assert_eq!(code(outside).await, "RANGE_INVALID");
    // A part of something else is of no use.
    let other = registry
        .ask(Method::GET, &path)
        .header("Range", "bytes=0-1")
        .header("If-Range", "\"x\"")
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_has_is_not_sent_again() {
    let registry = Registry::start("").await;
    let digest = registry.image("r", "t", "x").await;
    let blob = registry.blob("r", b"blob").await;
    for path in [
        "/v2/r/manifests/t".to_owned(),
        format!("/v2/r/blobs/{blob}"),
    ] {
        let etag = header(&registry.head(&path).await, "etag");
        let ask = |etag: &str| {
            registry
                .ask(Method::GET, &path)
                .header("If-None-Match", etag.to_owned())
                .send()
        };
        let known = ask(&etag).await.unwrap();
        assert_eq!(known.status(), 304, "{path}");
        assert!(known.bytes().await.unwrap().is_empty());
        assert_eq!(ask("\"other\"").await.unwrap().status(), 200, "{path}");
    }
    assert!(header(&registry.head("/v2/r/manifests/t").await, "etag").contains(digest.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sha512_names_manifests_and_blobs() {
    let registry = Registry::start("").await;
    let of = |bytes: &[u8]| {
        let mut hasher = Algorithm::Sha512.hasher();
        hasher.update(bytes);
        hasher.finish()
    };
    let digest = of(b"layer");
    let location = registry.begin("r").await;
    assert_eq!(
        registry.finish(&location, &digest, b"layer").await.status(),
        201
    );
    let got = registry.get(&format!("/v2/r/blobs/{digest}")).await;
    assert_eq!(got.bytes().await.unwrap(), "layer");
    let body = manifest(&digest, std::slice::from_ref(&digest));
    let name = of(&body);
    assert_eq!(
        registry
            .put_manifest("r", name.as_str(), MANIFEST, &body)
            .await
            .status(),
        201
    );
    assert_eq!(
        header(
            &registry.get(&format!("/v2/r/manifests/{name}")).await,
            "docker-content-digest"
        ),
        name.as_str()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_and_answers_come_in_order() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let registry = Registry::start("").await;
    let bytes = vec![7u8; 2_500_000];
    let digest = registry.blob("r", &bytes).await;
    registry.image("r", "t", "x").await;
    // Blob, manifest, blob on one connection, asked all at once: what the kernel sends stays between its heads.
    let address = registry.base.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let blob = format!("GET /v2/r/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    let text = "GET /v2/r/manifests/t HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = format!(
        "GET /v2/r/blobs/{digest} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(format!("{blob}{text}{last}").as_bytes())
        .await
        .unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let head_end = |from: usize| {
        from + all[from..]
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap()
            + 4
    };
    let first = head_end(0);
    assert!(all.starts_with(b"HTTP/1.1 200 OK"));
    assert_eq!(all[first..first + bytes.len()], bytes[..]);
    let second = first + bytes.len();
    assert!(
        all[second..].starts_with(b"HTTP/1.1 200 OK"),
        "{}",
        String::from_utf8_lossy(&all[second..second + 80])
    );
    assert!(all.ends_with(&[b'\n', 7, 7, 7, 7]));
}
