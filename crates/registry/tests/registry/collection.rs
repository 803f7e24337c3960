//! Garbage collection, retention, scrub, check.

use std::time::Duration;

use wharf_registry::collect::{self, Plan, check, scrub};
use wharf_registry::config::GcConfig;
use wharf_spec::digest::Digest;

use crate::harness::{MANIFEST, Registry, manifest};

fn plan(yaml: &str) -> Plan {
    let config: GcConfig = wharf_registry::config::Config::parse(&format!("gc: {{{yaml}}}"))
        .unwrap()
        .gc;
    Plan {
        config,
        dry_run: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_names_goes_and_nothing_else() {
    let registry = Registry::start("gc: {lease: 0}").await;
    let kept = registry.image("r", "keep", "kept").await;
    let gone = registry.image("r", "gone", "gone").await;
    let shared = registry.blob("r", b"alone").await;
    assert_eq!(
        registry.delete(&format!("/v2/r/manifests/{gone}")).await,
        202
    );
    let content = registry.content();
    let dry = Plan {
        dry_run: true,
        ..plan("lease: 0")
    };
    let would = collect::run(content, &dry).await.unwrap();
    let report = collect::run(content, &plan("lease: 0")).await.unwrap();
    assert_eq!(
        (would.blobs, would.unlinked),
        (report.blobs, report.unlinked)
    );
    assert_eq!(
        report.blobs, 4,
        "config, layer, manifest, and the blob nobody names: {report:?}"
    );
    assert!(
        registry
            .head(&format!("/v2/r/blobs/{shared}"))
            .await
            .status()
            == 404
    );
    assert_eq!(
        registry
            .get(&format!("/v2/r/manifests/{kept}"))
            .await
            .status(),
        200
    );
    assert!(
        check::run(content, false, |_| false)
            .await
            .unwrap()
            .problems
            .is_empty()
    );
    let again = collect::run(content, &plan("lease: 0")).await.unwrap();
    assert_eq!((again.blobs, again.unlinked, again.leased), (0, 0, 0));
    // What was collected can be pushed again.
    assert_eq!(registry.image("r", "gone", "gone").await, gone);
    assert_eq!(registry.get("/v2/r/manifests/gone").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_is_kept() {
    let registry = Registry::start("gc: {lease: 1h}").await;
    let digest = registry.blob("r", b"promised").await;
    let report = collect::run(registry.content(), &plan("lease: 1h"))
        .await
        .unwrap();
    assert_eq!((report.blobs, report.unlinked), (0, 0));
    assert!(report.leased > 0);
    assert_eq!(
        registry
            .head(&format!("/v2/r/blobs/{digest}"))
            .await
            .status(),
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn collection_while_pushes_run() {
    // Leases far shorter than a push takes in all, far longer than between two of its requests.
    let registry = Registry::start("gc: {lease: 3s}").await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let plan = plan("lease: 3s");
    let collector = async {
        let mut runs = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            collect::run(registry.content(), &plan).await.unwrap();
            runs += 1;
        }
        runs
    };
    let pushes = async {
        let push = |n: u32| {
            let registry = &registry;
            async move {
                for round in 0..8 {
                    // The same blobs again and again, which collection may have found unneeded meanwhile.
                    let repo = format!("r{n}");
                    let digest = registry.image(&repo, "t", &format!("{}", round % 3)).await;
                    assert_eq!(
                        registry
                            .get(&format!("/v2/{repo}/manifests/{digest}"))
                            .await
                            .status(),
                        200
                    );
                    assert_eq!(
                        registry
                            .delete(&format!("/v2/{repo}/manifests/{digest}"))
                            .await,
                        202
                    );
                }
                registry.image(&format!("r{n}"), "last", "last").await;
            }
        };
        futures_util::future::join_all((0..4).map(push)).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (runs, ()) = tokio::join!(collector, pushes);
    assert!(runs > 0);
    let report = check::run(registry.content(), false, |_| false)
        .await
        .unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.manifests, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn untagged_manifests_and_those_that_refer_to_them() {
    let registry = Registry::start("").await;
    let old = registry.image("r", "t", "old").await;
    let new = registry.image("r", "t", "new").await;
    let config = registry.blob("r", b"{}").await;
    let about = |subject: &Digest| {
        let body = String::from_utf8(manifest(&config, &[])).unwrap();
        body.replacen('{', &format!("{{\"subject\":{{\"mediaType\":\"{MANIFEST}\",\"digest\":\"{subject}\",\"size\":1}},"), 1)
    };
    for subject in [&old, &new] {
        let body = about(subject);
        let digest = Digest::of(body.as_bytes());
        assert_eq!(
            registry
                .put_manifest("r", digest.as_str(), MANIFEST, body.as_bytes())
                .await
                .status(),
            201
        );
    }
    let report = collect::run(registry.content(), &plan("lease: 0"))
        .await
        .unwrap();
    assert!(report.manifests.is_empty(), "they stay unless asked");
    let report = collect::run(registry.content(), &plan("lease: 0, untagged: true"))
        .await
        .unwrap();
    assert_eq!(
        report.manifests.len(),
        2,
        "the old one and what is about it: {report:?}"
    );
    assert_eq!(
        registry
            .get(&format!("/v2/r/manifests/{old}"))
            .await
            .status(),
        404
    );
    assert_eq!(
        registry
            .get(&format!("/v2/r/manifests/{new}"))
            .await
            .status(),
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_and_uploads() {
    let registry = Registry::start("").await;
    for tag in ["1", "2", "3", "latest"] {
        registry.image("ci/a", tag, tag).await;
    }
    registry.image("other", "1", "1").await;
    registry.begin("ci/a").await;
    let wanted = plan(
        "lease: 0, upload_expiry: 0, retention: [{repositories: ['ci/**'], keep_last: 1, keep_tags: ['2']}]",
    );
    let report = collect::run(registry.content(), &wanted).await.unwrap();
    assert_eq!(report.uploads, 1);
    assert_eq!(report.tags, ["ci/a:1", "ci/a:3"]);
    assert_eq!(report.manifests.len(), 2);
    assert_eq!(
        registry
            .content()
            .tags(&wharf_registry::name::RepoName::parse("ci/a").unwrap())
            .await
            .unwrap(),
        ["2", "latest"]
    );
    assert_eq!(
        registry.get("/v2/other/manifests/1").await.status(),
        200,
        "which shares its blobs"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_put_aside() {
    let registry = Registry::start("").await;
    registry.image("r", "t", "x").await;
    let digest = registry.blob("r", &[1; 5000]).await;
    let file = registry
        .dir
        .path()
        .join("store/blobs/sha256")
        .join(digest.hex());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[17] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let report = scrub::run(registry.content(), 0, true).await.unwrap();
    assert_eq!(report.damaged, [digest.to_string()]);
    assert_eq!(
        registry
            .head(&format!("/v2/r/blobs/{digest}"))
            .await
            .status(),
        404
    );
    registry.blob("r", &[1; 5000]).await;
    assert_eq!(
        registry
            .get(&format!("/v2/r/blobs/{digest}"))
            .await
            .bytes()
            .await
            .unwrap(),
        vec![1u8; 5000]
    );
    // Losing a layer is a problem with a name; a lost manifest can be taken out.
    let image = registry.image("lost", "t", "lost").await;
    std::fs::remove_file(
        registry
            .dir
            .path()
            .join("store/blobs/sha256")
            .join(image.hex()),
    )
    .unwrap();
    let fresh = wharf_registry::content::Content::new(
        registry.content().storage().clone(),
        wharf_registry::content::Settings::of(&wharf_registry::config::Config::default()),
    );
    let found = check::run(&fresh, false, |_| false).await.unwrap();
    assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    check::run(&fresh, true, |_| false).await.unwrap();
    assert!(
        check::run(&fresh, false, |_| false)
            .await
            .unwrap()
            .problems
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrub_keeps_to_its_rate() {
    let registry = Registry::start("").await;
    registry.blob("r", &[1; 50_000]).await;
    let began = std::time::Instant::now();
    scrub::run(registry.content(), 100_000, false)
        .await
        .unwrap();
    assert!(began.elapsed() >= Duration::from_millis(490));
}
