//! An object store that fails, replicas that die, clients that mean no good.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wharf_registry::collect::check;
use wharf_registry::storage::{Cloud, Storage};
use wharf_spec::digest::Digest;

use crate::harness::{MANIFEST, Registry, header, manifest};

/// Memory that fails one call in twenty, before or after it has done what was asked.
#[derive(Debug, Default)]
struct Flaky {
    inner: InMemory,
    calls: AtomicU64,
    failures: AtomicU64,
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

impl Flaky {
    /// Whether this call fails: a fixed sequence that looks like none.
    fn fails(&self) -> bool {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        let mixed = (n ^ 0x9e37).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        mixed.is_multiple_of(20)
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        if !self.fails() {
            return call.await;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        if failures.is_multiple_of(2) {
            // It was done, but the answer was lost.
            call.await?;
        }
        Err(object_store::Error::Generic {
            store: "flaky",
            source: "one in twenty".into(),
        })
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.call(self.inner.put_opts(path, payload, options)).await
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call(self.inner.put_multipart_opts(path, options))
            .await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(self.inner.get_opts(path, options)).await
    }
    async fn get_range(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        self.call(self.inner.get_range(path, range)).await
    }
    async fn delete(&self, path: &Path) -> Result<()> {
        self.call(self.inner.delete(path)).await
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.fails() {
            let error = object_store::Error::Generic {
                store: "flaky",
                source: "one in twenty".into(),
            };
            return Box::pin(futures_util::stream::iter([Err(error)]));
        }
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.call(self.inner.list_with_delimiter(prefix)).await
    }
    async fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(self.inner.copy(from, to)).await
    }
    async fn copy_if_not_exists(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(self.inner.copy_if_not_exists(from, to)).await
    }
}

#[async_trait]
impl MultipartStore for Flaky {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.call(self.inner.create_multipart(path)).await
    }
    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        self.call(self.inner.put_part(path, id, part, data)).await
    }
    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.call(self.inner.complete_multipart(path, id, parts))
            .await
    }
    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.call(self.inner.abort_multipart(path, id)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_fails_one_call_in_twenty() {
    let flaky = Arc::new(Flaky::default());
    let registry = Registry::start_on("", Storage::Cloud(Cloud::unsigned(flaky.clone()))).await;
    let large = vec![4u8; 20 << 20];
    let digest = registry.blob("r", &large).await;
    for n in 0..20 {
        let seed = n.to_string();
        let image = registry.image("r", &seed, &seed).await;
        let got = registry.get(&format!("/v2/r/manifests/{seed}")).await;
        assert!(image.verify(&got.bytes().await.unwrap()));
    }
    let got = registry.get(&format!("/v2/r/blobs/{digest}")).await;
    assert_eq!(got.bytes().await.unwrap(), large);
    assert!(
        flaky.failures.load(Ordering::Relaxed) > 10,
        "the test tests something"
    );
    let report = check::run(registry.content(), false, |_| false)
        .await
        .unwrap();
    assert_eq!((report.problems.len(), report.manifests), (0, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_nothing_but_the_store() {
    let memory = Arc::new(InMemory::new());
    let storage = || Storage::Cloud(Cloud::unsigned(memory.clone()));
    let mut one = Registry::start_on("", storage()).await;
    let two = Registry::start_on("", storage()).await;
    let bytes = vec![8u8; 200_000];
    let digest = Digest::of(&bytes);
    let location = one.begin("r").await;
    let chunk = |registry: &Registry, range: &str, bytes: &[u8]| {
        let request = registry.ask(Method::PATCH, &location);
        request
            .header("Content-Range", range.to_owned())
            .body(bytes.to_vec())
            .send()
    };
    assert_eq!(
        chunk(&one, "0-99999", &bytes[..100_000])
            .await
            .unwrap()
            .status(),
        202
    );
    // The one that took the beginning dies; the other goes on.
    one.running.take().unwrap().stop().await;
    assert_eq!(header(&two.get(&location).await, "range"), "0-99999");
    assert_eq!(
        chunk(&two, "100000-199999", &bytes[100_000..])
            .await
            .unwrap()
            .status(),
        202
    );
    assert_eq!(two.finish(&location, &digest, b"").await.status(), 201);
    let three = Registry::start_on("", storage()).await;
    assert_eq!(
        three
            .get(&format!("/v2/r/blobs/{digest}"))
            .await
            .bytes()
            .await
            .unwrap(),
        bytes
    );
    // Under the same load, all at once.
    let push = |n: u32| {
        let registry = if n.is_multiple_of(2) { &two } else { &three };
        async move {
            registry
                .image("shared", &format!("t{}", n % 5), &format!("{}", n % 7))
                .await
        }
    };
    futures_util::future::join_all((0..24).map(push)).await;
    let report = check::run(two.content(), false, |_| false).await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    for n in 0..5 {
        let path = format!("/v2/shared/manifests/t{n}");
        let (a, b) = (two.get(&path).await, three.get(&path).await);
        assert_eq!(
            header(&a, "docker-content-digest"),
            header(&b, "docker-content-digest")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_on_one_directory() {
    let one = Registry::start("").await;
    let config = crate::harness::config("", one.dir.path());
    let other = wharf_registry::run::start(config, None).await.unwrap();
    let client = crate::harness::client();
    let base = format!("http://{}", other.addresses[0]);
    let digest = one.image("r", "t", "x").await;
    let got = client
        .get(format!("{base}/v2/r/manifests/t"))
        .send()
        .await
        .unwrap();
    assert!(digest.verify(&got.bytes().await.unwrap()));
    let moved = one.image("r", "t", "y").await;
    let got = client
        .get(format!("{base}/v2/r/manifests/t"))
        .send()
        .await
        .unwrap();
    assert!(
        moved.verify(&got.bytes().await.unwrap()),
        "nothing stale is given"
    );
    assert_eq!(one.delete("/v2/r/manifests/t").await, 202);
    assert_eq!(
        client
            .get(format!("{base}/v2/r/manifests/t"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_declared_gigabytes_that_never_come() {
    let registry = Registry::start("").await;
    let address = registry.base.trim_start_matches("http://").to_owned();
    let digest = Digest::of(b"never");
    let location = registry.begin("r").await;
    for (method, path) in [
        ("POST", format!("/v2/r/blobs/uploads/?digest={digest}")),
        ("PATCH", location.clone()),
        ("PUT", format!("{location}?digest={digest}")),
    ] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let _ = stream.write_all(&[1; 1000]).await;
    }
    // The registry has other things to do, and nothing of it is a blob.
    registry.image("r", "t", "x").await;
    assert_eq!(
        registry
            .head(&format!("/v2/r/blobs/{digest}"))
            .await
            .status(),
        404
    );
    let used: u64 = walk(registry.dir.path());
    assert!(used < 1_000_000, "{used} bytes");
}

fn walk(dir: &std::path::Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(
            |entry| match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => walk(&entry.path()),
                false => entry.metadata().map_or(0, |meta| meta.len()),
            },
        )
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_upload_goes_on_where_it_was() {
    let registry = Registry::start("").await;
    let address = registry.base.trim_start_matches("http://").to_owned();
    let bytes = vec![6u8; 900_000];
    let location = registry.begin("r").await;
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes[..600_000]).await.unwrap();
    drop(stream);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let offset = loop {
        let status = registry.get(&location).await;
        let range = header(&status, "range");
        let end: usize = range.split_once('-').unwrap().1.parse().unwrap();
        if end > 0 {
            break end + 1;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "what came was not kept"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // It may still be writing what came; then it says so, and we ask again.
    let mut offset = offset;
    loop {
        let rest = registry
            .ask(Method::PATCH, &location)
            .header("Content-Range", format!("{offset}-{}", bytes.len() - 1))
            .body(bytes[offset..].to_vec())
            .send()
            .await
            .unwrap();
        if rest.status() == 202 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{}", rest.status());
        let range = header(&registry.get(&location).await, "range");
        offset = range.split_once('-').unwrap().1.parse::<usize>().unwrap() + 1;
    }
    assert_eq!(
        registry
            .finish(&location, &Digest::of(&bytes), b"")
            .await
            .status(),
        201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_lose_their_connection_and_others_do_not_notice() {
    let registry = Registry::start(
        "http: {header_timeout: 500ms, body_timeout: 500ms, max_connections_per_client: 60}",
    )
    .await;
    let address = registry.base.trim_start_matches("http://").to_owned();
    let mut slow = Vec::new();
    for n in 0..40 {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let begun = match n % 2 {
            0 => "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow".to_owned(),
            _ => "POST /v2/r/blobs/uploads/?digest=sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfo".to_owned(),
        };
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    registry.image("r", "t", "x").await;
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended =
            tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection ends");
        assert!(!rest.starts_with(b"HTTP/1.1 2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tricks_with_paths() {
    let registry = Registry::start("").await;
    registry.image("r", "t", "x").await;
    std::fs::write(registry.dir.path().join("secret"), "secret").unwrap();
    let address = registry.base.trim_start_matches("http://").to_owned();
    // Raw, because clients tidy paths up.
    for path in [
        "/v2/../../secret",
        "/v2/r/../../secret",
        "/v2/r/manifests/../../../secret",
        "/v2/r/manifests/..%2f..%2f..%2fsecret",
        "/v2/r/blobs/sha256:../../../secret",
        "/v2/r/blobs/sha256:..%2f..%2fsecret",
        "/v2/r/blobs/uploads/../../../../secret",
        "/v2/r/blobs/uploads/%2e%2e%2f%2e%2e",
        "/v2/%2e%2e/tags/list",
        "/v2/r%00/tags/list",
        "/v2/r/tags/list%00",
        "/v2//tags/list",
        "/v2/r/_tags/manifests/t",
        "/v2/_tags/manifests/t",
        "/r/..%2f..",
        "/r/r:..%2f..",
        "/v2/r/manifests/%ff",
    ] {
        for method in ["GET", "PUT", "DELETE", "PATCH", "POST"] {
            let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            let ask = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.starts_with("HTTP/1.1 4"),
                "{method} {path}: {answer}"
            );
            assert!(!answer.contains("secret\n"), "{method} {path}");
        }
    }
    assert_eq!(
        std::fs::read_to_string(registry.dir.path().join("secret")).unwrap(),
        "secret"
    );
    let config = registry.blob("r", b"{}").await;
    let body = manifest(&config, &[]);
    assert_eq!(
        registry
            .put_manifest("r", "ok", MANIFEST, &body)
            .await
            .status(),
        201
    );
}
