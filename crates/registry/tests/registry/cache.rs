//! Other registries: the pull-through cache, mirror jobs.

use serde_json::{Value, json};
use wharf_registry::config::Config;
use wharf_registry::upstream::mirror::Mirror;
use wharf_spec::digest::Digest;

use crate::discovery::attach;
use crate::harness::{JsonBody as _, Registry, code};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_fetched_and_kept() {
    let mut first = Registry::start("").await;
    let second = Registry::start("").await;
    let digest = first.image("lib/app", "v1", "x").await;
    let layer = Digest::of(b"layer x");
    second.image("tool", "t", "y").await;
    let yaml = format!(
        "upstreams:\n- {{prefix: one, url: '{}', namespace: one.example, ttl: 0}}\n- {{prefix: two, url: '{}', ttl: 1h}}\n",
        first.base, second.base
    );
    let cache = Registry::start(&yaml).await;
    assert_eq!(
        cache.get("/v2/one/lib/app/manifests/v1").await.status(),
        200
    );
    assert_eq!(cache.get("/v2/two/tool/manifests/t").await.status(), 200);
    assert_eq!(
        cache.get("/v2/two/lib/app/manifests/v1").await.status(),
        404
    );
    let blob = format!("/v2/one/lib/app/blobs/{layer}");
    assert_eq!(cache.head(&blob).await.status(), 200);
    let (a, b) = tokio::join!(cache.get(&blob), cache.get(&blob));
    assert_eq!(a.bytes().await.unwrap(), "layer x");
    assert_eq!(b.bytes().await.unwrap(), "layer x");
    // As containerd asks a mirror.
    assert_eq!(
        cache
            .get("/v2/lib/app/manifests/v1?ns=one.example")
            .await
            .status(),
        200
    );
    let tags: Value = cache
        .get("/v2/one/lib/app/tags/list")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(tags["tags"], json!(["v1"]));
    let push = cache
        .ask(reqwest::Method::POST, "/v2/one/lib/app/blobs/uploads/")
        .send()
        .await
        .unwrap();
    assert_eq!(push.status(), 405);
    assert_eq!(code(push).await, "UNSUPPORTED");
    cache.image("own", "t", "own").await;

    // A tag that moves is followed.
    let moved = first.image("lib/app", "v1", "newer").await;
    let got = cache.get("/v2/one/lib/app/manifests/v1").await;
    assert_eq!(
        crate::harness::header(&got, "docker-content-digest"),
        moved.as_str()
    );
    assert_eq!(
        cache
            .get(&format!("/v2/one/lib/app/manifests/{digest}"))
            .await
            .status(),
        200,
        "the old one is kept"
    );

    // The upstream goes away: what is here is still given, what is not is an error of the gateway.
    first.running.take().unwrap().stop().await;
    assert_eq!(
        cache.get("/v2/one/lib/app/manifests/v1").await.status(),
        200
    );
    assert_eq!(cache.get(&blob).await.bytes().await.unwrap(), "layer x");
    let tags: Value = cache
        .get("/v2/one/lib/app/tags/list")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(tags["tags"], json!(["v1"]));
    assert_eq!(
        cache.get("/v2/one/lib/app/manifests/v2").await.status(),
        502
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_come_from_there() {
    let mut origin = Registry::start("").await;
    let subject = origin.image("r", "v1", "x").await;
    let sbom = attach(&origin, &subject, Some("application/sbom"), "application/x").await;
    attach(&origin, &subject, None, "application/signature").await;
    let yaml = format!("upstreams: [{{prefix: p, url: '{}'}}]", origin.base);
    let cache = Registry::start(&yaml).await;
    let list = async |filter: &str| {
        let path = format!("/v2/p/r/referrers/{subject}{filter}");
        let answer: Value = cache.get(&path).await.json().await.unwrap();
        answer["manifests"].as_array().unwrap().clone()
    };
    assert_eq!(list("").await.len(), 2);
    let only = list("?artifactType=application/sbom").await;
    assert_eq!(only.len(), 1);
    assert_eq!(only[0]["digest"], sbom.as_str());
    assert_eq!(only[0]["annotations"]["made"], "by hand");
    let pulled = cache.get(&format!("/v2/p/r/manifests/{sbom}")).await;
    assert!(sbom.verify(&pulled.bytes().await.unwrap()));
    // The upstream goes away: what was pulled is still told.
    origin.running.take().unwrap().stop().await;
    let here = list("").await;
    assert_eq!(here.len(), 1);
    assert_eq!(here[0]["digest"], sbom.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_everything() {
    let origin = Registry::start("").await;
    origin.image("library/app", "v1", "x").await;
    let cache = Registry::start(&format!("upstreams: [{{url: '{}'}}]", origin.base)).await;
    assert_eq!(
        cache.get("/v2/library/app/manifests/v1").await.status(),
        200
    );
    assert_eq!(origin.delete("/v2/library/app/manifests/v1").await, 202);
    assert_eq!(
        cache.get("/v2/library/app/manifests/v1").await.status(),
        200,
        "believed for five minutes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_deleted_there_goes_here() {
    let origin = Registry::start("").await;
    origin.image("app", "v1", "x").await;
    let cache = Registry::start(&format!(
        "upstreams: [{{prefix: p, url: '{}', ttl: 0}}]",
        origin.base
    ))
    .await;
    assert_eq!(cache.get("/v2/p/app/manifests/v1").await.status(), 200);
    assert_eq!(origin.delete("/v2/app/manifests/v1").await, 202);
    assert_eq!(cache.get("/v2/p/app/manifests/v1").await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_jobs() {
    let origin = Registry::start("").await;
    let digest = origin.image("team/app", "v1", "1").await;
    origin.image("team/app", "v2", "2").await;
    origin.image("team/app", "nightly", "n").await;
    let here = Registry::start("").await;
    let yaml = format!(
        "mirrors: [{{from: '{}/team/app', to: copies/app, tags: ['v*'], delete: true}}]",
        origin.base
    );
    let config = Config::parse(&yaml).unwrap();
    let mirror = Mirror::open(&config.mirrors[0], here.dir.path()).unwrap();
    let report = mirror.once(here.content()).await.unwrap();
    assert_eq!((report.tags, report.blobs, report.removed), (2, 4, 0));
    let got = here.get("/v2/copies/app/manifests/v1").await;
    assert!(digest.verify(&got.bytes().await.unwrap()));
    assert_eq!(
        here.get("/v2/copies/app/manifests/nightly").await.status(),
        404
    );
    let again = mirror.once(here.content()).await.unwrap();
    assert_eq!((again.tags, again.blobs, again.removed), (0, 0, 0));
    here.image("copies/app", "own", "own").await;
    assert_eq!(origin.delete("/v2/team/app/manifests/v2").await, 202);
    let third = mirror.once(here.content()).await.unwrap();
    assert_eq!((third.tags, third.removed), (0, 1));
    let tags: Value = here
        .get("/v2/copies/app/tags/list")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        tags["tags"],
        json!(["own", "v1"]),
        "what the job is not about stays"
    );
}
