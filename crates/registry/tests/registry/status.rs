//! Health, metrics, pages.

use crate::harness::{Registry, header};

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics() {
    let registry = Registry::start("").await;
    registry.image("r", "t", "x").await;
    registry.get("/v2/r/manifests/t").await;
    for path in ["/health", "/healthz", "/livez", "/readyz"] {
        assert_eq!(registry.get(path).await.status(), 200, "{path}");
    }
    let metrics = registry.get("/metrics").await;
    assert!(header(&metrics, "content-type").starts_with("application/openmetrics-text"));
    let text = metrics.text().await.unwrap();
    for line in [
        "wharf_registry_requests_total{handler=\"manifest\",method=\"GET\",code=\"200\"} 1",
        "wharf_registry_requests_total{handler=\"manifest\",method=\"PUT\",code=\"201\"} 1",
        "wharf_registry_events_total{kind=\"pull\"} 1",
        "wharf_registry_request_duration_seconds_count{kind=\"upload\"} 4",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let registry = Registry::start("metrics: {enabled: false}").await;
    assert_eq!(registry.get("/metrics").await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_for_people() {
    let registry = Registry::start("web: {title: 'Ours <& theirs>'}").await;
    let digest = registry.image("team/app", "v1", "x").await;
    let home = registry.get("/").await;
    assert!(header(&home, "content-type").starts_with("text/html"));
    assert!(header(&home, "content-security-policy").starts_with("default-src 'none'"));
    let home = home.text().await.unwrap();
    assert!(
        home.contains("href=\"/r/team/app\"") && home.contains("Ours &lt;&amp; theirs&gt;"),
        "{home}"
    );
    let page = registry.get("/r/team/app").await.text().await.unwrap();
    assert!(
        page.contains("href=\"/r/team/app:v1\"") && page.contains(digest.short()),
        "{page}"
    );
    let page = registry.get("/r/team/app:v1").await.text().await.unwrap();
    assert!(
        page.contains("linux/amd64") && page.contains("Layers") && page.contains(digest.as_str()),
        "{page}"
    );
    let none = registry.get("/r/none").await;
    assert_eq!(none.status(), 404);
    assert!(none.text().await.unwrap().contains("<html"));
    let search = registry.get("/?q=%3Cscript%3E").await.text().await.unwrap();
    assert!(search.contains("&lt;script&gt;") && !search.contains("<script>"));
    let off = Registry::start("web: {enabled: false}").await;
    assert_eq!(off.get("/").await.status(), 404);
}
