//! A registry in this process, and a client that says what it means.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use wharf_registry::config::Config;
use wharf_registry::run::{self, Running};
use wharf_registry::storage::Storage;
use wharf_spec::digest::Digest;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A registry; stops listening when dropped.
pub struct Registry {
    pub running: Option<Running>,
    pub base: String,
    pub dir: tempfile::TempDir,
    pub client: reqwest::Client,
    login: Option<(String, String)>,
}

pub fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .no_proxy()
        .build()
        .unwrap()
}

pub fn config(yaml: &str, dir: &std::path::Path) -> Config {
    let mut config = Config::parse(&yaml.replace("DIR", &dir.display().to_string())).unwrap();
    config.listen = vec!["127.0.0.1:0".to_owned()];
    config.root = dir.join("store");
    config
}

impl Registry {
    /// With a configuration, in which `DIR` is the test's directory.
    pub async fn start(yaml: &str) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        Registry::start_in(yaml, dir).await
    }

    pub async fn start_in(yaml: &str, dir: tempfile::TempDir) -> Registry {
        let config = config(yaml, dir.path());
        let running = run::start(config, None).await.unwrap();
        Registry::of(running, dir)
    }

    pub async fn start_on(yaml: &str, storage: Storage) -> Registry {
        let dir = tempfile::tempdir().unwrap();
        let running = run::start_on(config(yaml, dir.path()), storage, None)
            .await
            .unwrap();
        Registry::of(running, dir)
    }

    fn of(running: Running, dir: tempfile::TempDir) -> Registry {
        Registry {
            base: format!("http://{}", running.addresses[0]),
            running: Some(running),
            dir,
            client: client(),
            login: None,
        }
    }

    pub fn login(&mut self, name: &str, password: &str) {
        self.login = Some((name.to_owned(), password.to_owned()));
    }

    pub fn content(&self) -> &wharf_registry::content::Content {
        &self.running.as_ref().unwrap().server.content
    }

    /// A request of a path, or of what a Location header said.
    pub fn ask(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        };
        let request = self.client.request(method, url);
        match &self.login {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.unwrap()
    }

    pub async fn head(&self, path: &str) -> Response {
        self.ask(Method::HEAD, path).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> u16 {
        self.ask(Method::DELETE, path)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    }

    /// POST for an upload; its location.
    pub async fn begin(&self, repo: &str) -> String {
        let response = self
            .ask(Method::POST, &format!("/v2/{repo}/blobs/uploads/"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 202);
        header(&response, "location")
    }

    /// Pushes a blob with POST and PUT.
    pub async fn blob(&self, repo: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let location = self.begin(repo).await;
        let response = self.finish(&location, &digest, bytes).await;
        assert_eq!(response.status(), 201);
        digest
    }

    pub async fn finish(&self, location: &str, digest: &Digest, bytes: &[u8]) -> Response {
        let mark = if location.contains('?') { '&' } else { '?' };
        self.ask(Method::PUT, &format!("{location}{mark}digest={digest}"))
            .header("Content-Type", "application/octet-stream")
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap()
    }

    pub async fn put_manifest(
        &self,
        repo: &str,
        reference: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Response {
        self.ask(Method::PUT, &format!("/v2/{repo}/manifests/{reference}"))
            .header("Content-Type", kind)
            .body(bytes.to_vec())
            .send()
            .await
            .unwrap()
    }

    /// Pushes an image of one config and one layer under a tag; its digest.
    pub async fn image(&self, repo: &str, tag: &str, seed: &str) -> Digest {
        let config = format!("{{\"architecture\":\"amd64\",\"os\":\"linux\",\"x\":\"{seed}\"}}");
        let layer = format!("layer {seed}");
        let bytes = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": self.blob(repo, config.as_bytes()).await, "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": self.blob(repo, layer.as_bytes()).await, "size": layer.len()}]})
        .to_string();
        let response = self
            .put_manifest(repo, tag, MANIFEST, bytes.as_bytes())
            .await;
        assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
        Digest::of(bytes.as_bytes())
    }
}

/// An image manifest.
pub fn manifest(config: &Digest, layers: &[Digest]) -> Vec<u8> {
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 0}))
        .collect();
    json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 0}, "layers": layers})
    .to_string()
    .into_bytes()
}

pub fn header(response: &Response, name: &str) -> String {
    response
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("{name} in {:?}", response.headers()))
        .to_str()
        .unwrap()
        .to_owned()
}

/// The first code of an error.
pub async fn code(response: Response) -> String {
    let text = response.text().await.unwrap();
    let value: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?} is no error body"));
    assert!(value["errors"][0]["message"].is_string(), "{text}");
    value["errors"][0]["code"].as_str().unwrap().to_owned()
}

/// What reqwest has only with a feature that nothing else here needs.
pub trait JsonBody {
    fn json(self) -> impl Future<Output = Result<Value, serde_json::Error>>;
}

impl JsonBody for Response {
    async fn json(self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.bytes().await.unwrap())
    }
}
