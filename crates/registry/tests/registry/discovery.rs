//! Content discovery: tags, repositories, referrers.

use reqwest::Method;
use serde_json::{Value, json};
use wharf_spec::digest::Digest;

use crate::harness::{INDEX, JsonBody as _, MANIFEST, Registry, code, header};

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_sorted_and_in_pages() {
    let registry = Registry::start("").await;
    for tag in ["b", "a", "C", "1", "z9", "_x"] {
        registry.image("r", tag, tag).await;
    }
    registry.image("p/q", "t", "x").await;
    let all: Value = registry.get("/v2/r/tags/list").await.json().await.unwrap();
    assert_eq!(
        all,
        json!({"name": "r", "tags": ["1", "C", "_x", "a", "b", "z9"]})
    );
    for (query, expected, more) in [
        ("n=2", json!(["1", "C"]), true),
        ("n=2&last=C", json!(["_x", "a"]), true),
        ("n=2&last=a", json!(["b", "z9"]), false),
        ("n=0", json!([]), false),
        ("last=b", json!(["z9"]), false),
        ("last=nothing", json!(["z9"]), false),
        ("n=100", json!(["1", "C", "_x", "a", "b", "z9"]), false),
    ] {
        let response = registry.get(&format!("/v2/r/tags/list?{query}")).await;
        assert_eq!(response.headers().contains_key("link"), more, "{query}");
        let page: Value = response.json().await.unwrap();
        assert_eq!(page["tags"], expected, "{query}");
    }
    let bad = registry.get("/v2/r/tags/list?n=x").await;
    assert_eq!(bad.status(), 400);
    assert_eq!(code(bad).await, "PAGINATION_NUMBER_INVALID");
    // A client that only follows links sees everything once.
    let (mut path, mut seen) = ("/v2/r/tags/list?n=1".to_owned(), Vec::new());
    loop {
        let response = registry.get(&path).await;
        let link = response
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        let page: Value = response.json().await.unwrap();
        seen.extend(
            page["tags"]
                .as_array()
                .unwrap()
                .iter()
                .map(|tag| tag.as_str().unwrap().to_owned()),
        );
        match link {
            Some(link) => link[1..].split('>').next().unwrap().clone_into(&mut path),
            None => break,
        }
    }
    assert_eq!(seen, ["1", "C", "_x", "a", "b", "z9"]);
    let catalog: Value = registry.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog, json!({"repositories": ["p/q", "r"]}));
    let page = registry.get("/v2/_catalog?n=1").await;
    assert_eq!(
        header(&page, "link"),
        "</v2/_catalog?last=p%2Fq&n=1>; rel=\"next\""
    );
    let rest: Value = registry
        .get("/v2/_catalog?last=p%2Fq&n=1")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(rest["repositories"], json!(["r"]));
}

/// Something that refers to a manifest of repository `r`.
pub async fn attach(
    registry: &Registry,
    subject: &Digest,
    artifact: Option<&str>,
    config: &str,
) -> Digest {
    let empty = registry.blob("r", b"{}").await;
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": config, "digest": empty, "size": 2}, "layers": [],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1}, "annotations": {"made": "by hand"}});
    if let Some(artifact) = artifact {
        manifest["artifactType"] = json!(artifact);
    }
    let bytes = manifest.to_string();
    let digest = Digest::of(bytes.as_bytes());
    let response = registry
        .put_manifest("r", digest.as_str(), MANIFEST, bytes.as_bytes())
        .await;
    assert_eq!(response.status(), 201);
    assert_eq!(header(&response, "oci-subject"), subject.as_str());
    digest
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_and_their_filter() {
    let registry = Registry::start("").await;
    let subject = Digest::of(b"not pushed yet");
    let path = format!("/v2/r/referrers/{subject}");
    let none = registry.get(&path).await;
    assert_eq!(
        (none.status().as_u16(), header(&none, "content-type")),
        (200, INDEX.to_owned())
    );
    let none: Value = none.json().await.unwrap();
    assert_eq!(none["manifests"], json!([]));
    let sbom = attach(
        &registry,
        &subject,
        Some("application/sbom"),
        "application/vnd.oci.empty.v1+json",
    )
    .await;
    let signature = attach(&registry, &subject, None, "application/signature").await;
    let all: Value = registry.get(&path).await.json().await.unwrap();
    assert_eq!(all["schemaVersion"], 2);
    let found: Vec<(&str, &str)> = all["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["digest"].as_str().unwrap(),
                one["artifactType"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&(sbom.as_str(), "application/sbom")));
    assert!(found.contains(&(signature.as_str(), "application/signature")));
    assert_eq!(all["manifests"][0]["annotations"]["made"], "by hand");
    let filtered = registry
        .get(&format!("{path}?artifactType=application/sbom"))
        .await;
    assert_eq!(header(&filtered, "oci-filters-applied"), "artifactType");
    let filtered: Value = filtered.json().await.unwrap();
    assert_eq!(filtered["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(
        registry.delete(&format!("/v2/r/manifests/{sbom}")).await,
        202
    );
    let left: Value = registry.get(&path).await.json().await.unwrap();
    assert_eq!(left["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(registry.get("/v2/r/referrers/nonsense").await.status(), 400);
    let post = registry.ask(Method::POST, &path).send().await.unwrap();
    assert_eq!(
        (post.status().as_u16(), header(&post, "allow")),
        (405, "GET, HEAD".to_owned())
    );
}
