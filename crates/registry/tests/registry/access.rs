//! Who may do what: passwords, tokens, rules, robots, limits, TLS.

use reqwest::Method;
use serde_json::{Value, json};
use wharf_registry::auth::htpasswd;
use wharf_registry::auth::robots::{self, Robot};
use wharf_registry::config::Action;

use crate::harness::{JsonBody as _, Registry, code, header};

fn users(dir: &std::path::Path) {
    let mut text = String::new();
    for name in ["alice", "bob", "carol"] {
        text = htpasswd::edit(&text, name, Some("pw")).unwrap();
    }
    std::fs::write(dir.join("htpasswd"), text).unwrap();
}

async fn start(yaml: &str) -> Registry {
    let dir = tempfile::tempdir().unwrap();
    users(dir.path());
    Registry::start_in(yaml, dir).await
}

const BASIC: &str = "auth:\n  htpasswd: DIR/htpasswd\n";

const RULES: &str = "  groups: {dev: [bob]}
  rules:
  - {repositories: ['team/**'], who: [alice], actions: [pull, push, delete]}
  - {repositories: ['team/**'], who: ['@dev'], actions: [pull]}
  - {repositories: ['pub/**'], who: ['*'], actions: [pull, push]}
";

#[tokio::test(flavor = "multi_thread")]
async fn basic_passwords() {
    let mut registry = start(BASIC).await;
    let asked = registry.get("/v2/").await;
    assert_eq!(asked.status(), 401);
    assert_eq!(
        header(&asked, "www-authenticate"),
        "Basic realm=\"Wharf registry\""
    );
    assert_eq!(code(asked).await, "UNAUTHORIZED");
    assert_eq!(registry.get("/v2/a/tags/list").await.status(), 401);
    assert_eq!(registry.get("/v2/_catalog").await.status(), 401);
    registry.login("alice", "wrong");
    assert_eq!(registry.get("/v2/").await.status(), 401);
    registry.login("alice", "pw");
    assert_eq!(registry.get("/v2/").await.status(), 200);
    registry.image("a", "t", "x").await;
    // Health needs nobody.
    assert_eq!(
        registry
            .client
            .get(format!("{}/healthz", registry.base))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_repositories() {
    let mut registry = start(&format!("{BASIC}{RULES}")).await;
    registry.login("alice", "pw");
    registry.image("team/a", "t", "x").await;
    registry.image("pub/a", "t", "x").await;
    registry.login("bob", "pw");
    assert_eq!(registry.get("/v2/team/a/manifests/t").await.status(), 200);
    let push = registry
        .ask(Method::POST, "/v2/team/a/blobs/uploads/")
        .send()
        .await
        .unwrap();
    assert_eq!(push.status(), 403);
    assert_eq!(code(push).await, "DENIED");
    assert_eq!(registry.delete("/v2/pub/a/manifests/t").await, 403);
    registry.login("carol", "pw");
    assert_eq!(registry.get("/v2/team/a/manifests/t").await.status(), 403);
    let catalog: Value = registry.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog["repositories"], json!(["pub/a"]));
    // What may not be read may not be mounted, by name or by guess.
    let secret = {
        registry.login("alice", "pw");
        registry.blob("team/a", b"secret").await
    };
    registry.login("carol", "pw");
    for query in [
        format!("mount={secret}&from=team/a"),
        format!("mount={secret}"),
    ] {
        let mount = registry
            .ask(Method::POST, &format!("/v2/pub/b/blobs/uploads/?{query}"))
            .send()
            .await
            .unwrap();
        assert_eq!(mount.status(), 202, "{query}");
    }
}

/// Does what Docker does: asks, is challenged, fetches a token for the scope, asks again.
async fn with_token(
    registry: &Registry,
    login: Option<(&str, &str)>,
    method: Method,
    path: &str,
) -> u16 {
    let url = format!("{}{path}", registry.base);
    let first = registry
        .client
        .request(method.clone(), &url)
        .send()
        .await
        .unwrap();
    if first.status() != 401 {
        return first.status().as_u16();
    }
    let challenge = header(&first, "www-authenticate");
    let part = |name: &str| {
        let from = challenge
            .split_once(&format!("{name}=\""))
            .map(|(_, rest)| rest);
        from.and_then(|rest| rest.split('"').next())
            .unwrap_or("")
            .to_owned()
    };
    let mut ask = registry
        .client
        .get(part("realm"))
        .query(&[("service", part("service")), ("scope", part("scope"))]);
    if let Some((name, password)) = login {
        ask = ask.basic_auth(name, Some(password));
    }
    let answer = ask.send().await.unwrap();
    if answer.status() != 200 {
        return answer.status().as_u16();
    }
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["token"], answer["access_token"]);
    let again = registry
        .client
        .request(method, &url)
        .bearer_auth(answer["token"].as_str().unwrap());
    again.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_tokens() {
    let registry = start(&format!("{BASIC}  token: {{}}\n{RULES}")).await;
    let alice = Some(("alice", "pw"));
    let bob = Some(("bob", "pw"));
    for (login, method, path, status) in [
        (alice, Method::GET, "/v2/", 200),
        (Some(("alice", "no")), Method::GET, "/v2/", 401),
        (alice, Method::POST, "/v2/team/a/blobs/uploads/", 202),
        (bob, Method::POST, "/v2/team/a/blobs/uploads/", 401),
        (bob, Method::GET, "/v2/team/a/manifests/t", 404),
        (None, Method::GET, "/v2/team/a/manifests/t", 401),
        (alice, Method::DELETE, "/v2/team/a/manifests/t", 404),
        (bob, Method::GET, "/v2/_catalog", 200),
    ] {
        assert_eq!(
            with_token(&registry, login, method.clone(), path).await,
            status,
            "{login:?} {method} {path}"
        );
    }
    let forged = registry
        .client
        .get(format!("{}/v2/", registry.base))
        .bearer_auth("a.b.c")
        .send()
        .await
        .unwrap();
    assert_eq!(forged.status(), 401);
    // OAuth2, as buildx and containerd ask, and a token that stands for the password.
    let post = |form: &[(&str, &str)]| {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        registry
            .client
            .post(format!("{}/auth/token", registry.base))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
    };
    let scope = ("scope", "repository:team/a:pull,push");
    let first = post(&[
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "pw"),
        ("access_type", "offline"),
        scope,
    ]);
    let first: Value = first.await.unwrap().json().await.unwrap();
    let refresh = first["refresh_token"].as_str().unwrap().to_owned();
    let second = post(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", &refresh),
        scope,
    ])
    .await
    .unwrap();
    let second: Value = second.json().await.unwrap();
    let url = format!("{}/v2/team/a/blobs/uploads/", registry.base);
    let push = registry
        .client
        .post(url)
        .bearer_auth(second["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(push.status(), 202);
    let used_as_token = registry
        .client
        .get(format!("{}/v2/", registry.base))
        .bearer_auth(refresh)
        .send()
        .await
        .unwrap();
    assert_eq!(
        used_as_token.status(),
        401,
        "it is good for getting tokens only"
    );
    assert_eq!(
        post(&[("grant_type", "refresh_token"), ("refresh_token", "x")])
            .await
            .unwrap()
            .status(),
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_may_pull() {
    let mut registry = start(&format!("{BASIC}  anonymous: [pull]\n")).await;
    registry.login("alice", "pw");
    registry.image("a", "t", "x").await;
    assert_eq!(
        with_token(&registry, None, Method::GET, "/v2/a/manifests/t").await,
        200
    );
    assert_eq!(
        with_token(&registry, None, Method::POST, "/v2/a/blobs/uploads/").await,
        401
    );
    let asked = registry
        .client
        .get(format!("{}/v2/", registry.base))
        .send()
        .await
        .unwrap();
    assert!(
        header(&asked, "www-authenticate").starts_with("Bearer realm=\"http://127.0.0.1:"),
        "how Docker can log in later"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_another_server() {
    // Another registry of ours gives the tokens; its key set is what this one trusts.
    let issuer = start(&format!(
        "{BASIC}  token: {{issuer: them, service: here}}\n"
    ))
    .await;
    let keys = issuer.get("/auth/jwks").await.text().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.json"), keys).unwrap();
    let yaml = format!(
        "auth:\n  token: {{realm: '{}/auth/token', issuer: them, service: here, keys: [DIR/keys.json]}}\n",
        issuer.base
    );
    let registry = Registry::start_in(&yaml, dir).await;
    let alice = Some(("alice", "pw"));
    assert_eq!(
        with_token(&registry, alice, Method::POST, "/v2/a/blobs/uploads/").await,
        202
    );
    assert_eq!(
        with_token(&registry, Some(("alice", "no")), Method::GET, "/v2/").await,
        401
    );
    // A token for another service, and one of somebody else.
    let other = start(&format!(
        "{BASIC}  token: {{issuer: them, service: here}}\n"
    ))
    .await;
    let answer = other
        .client
        .get(format!("{}/auth/token?scope=repository:a:pull", other.base))
        .basic_auth("alice", Some("pw"));
    let answer: Value = answer.send().await.unwrap().json().await.unwrap();
    let url = format!("{}/v2/a/tags/list", registry.base);
    let shown = registry
        .client
        .get(url)
        .bearer_auth(answer["token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(shown.status(), 401);
}

/// A token of `them` for `here` that allows to pull `a`, signed with the key of `<name>.key`; its head shows `<shown>.pem`.
fn token(dir: &std::path::Path, name: &str, shown: Option<&str>) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
    let mut header = json!({"alg": "ES256", "typ": "JWT"});
    if let Some(shown) = shown {
        let leaf = CertificateDer::from_pem_file(dir.join(format!("{shown}.pem"))).unwrap();
        header["x5c"] = json!([STANDARD.encode(&leaf)]);
    }
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let access = json!([{"type": "repository", "name": "a", "actions": ["pull"]}]);
    let claims = json!({"iss": "them", "aud": "here", "exp": now + 60, "access": access});
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let random = ring::rand::SystemRandom::new();
    let key = PrivatePkcs8KeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
    let key = key.secret_pkcs8_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random).unwrap();
    let signature = key.sign(&random, signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_checked_with_certificates_and_public_keys() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), "them", "them");
    // Another authority's.
    let elsewhere = tempfile::tempdir().unwrap();
    certificates(elsewhere.path(), "other", "other");
    for file in ["other.pem", "other.key"] {
        std::fs::copy(elsewhere.path().join(file), dir.path().join(file)).unwrap();
    }
    let public = std::process::Command::new("openssl")
        .args(["pkey", "-in", "them.key", "-pubout", "-out", "public.pem"])
        .current_dir(dir.path())
        .status();
    assert!(public.unwrap().success());
    // What is trusted, who signs, what the token shows, and whether it is believed.
    for (trusted, signer, shown, status) in [
        ("them.pem", "them", None, 404),
        ("them.pem", "them", Some("them"), 404),
        ("them.pem", "other", None, 401),
        ("public.pem", "them", None, 404),
        ("public.pem", "other", None, 401),
        ("ca.pem", "them", Some("them"), 404),
        ("ca.pem", "them", None, 401),
        ("ca.pem", "other", Some("other"), 401),
        ("ca.pem", "other", Some("them"), 401),
    ] {
        let token = token(dir.path(), signer, shown);
        let keys = dir.path().join(trusted).display().to_string();
        let yaml = format!(
            "auth: {{token: {{realm: 'http://127.0.0.1:1/', issuer: them, service: here, keys: ['{keys}']}}}}"
        );
        let registry = Registry::start(&yaml).await;
        let url = format!("{}/v2/a/tags/list", registry.base);
        let asked = registry.client.get(url).bearer_auth(&token).send().await;
        assert_eq!(
            asked.unwrap().status(),
            status,
            "{trusted} {signer} {shown:?}"
        );
        let url = format!("{}/v2/b/tags/list", registry.base);
        let asked = registry.client.get(url).bearer_auth(&token).send().await;
        assert_ne!(asked.unwrap().status(), 404, "the token is for another");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn robot_accounts() {
    let mut registry = start("auth:\n  robots: true\n  htpasswd: DIR/htpasswd\n").await;
    let storage = registry.content().storage().clone();
    let (robot, secret) = Robot::new(
        "ci",
        vec!["ci/*".to_owned()],
        vec![Action::Pull, Action::Push],
        None,
    );
    robots::save(&storage, &robot).await.unwrap();
    let past = Some("2020-01-01T00:00:00Z".parse().unwrap());
    let (old, old_secret) = Robot::new("old", vec!["**".to_owned()], vec![Action::Pull], past);
    robots::save(&storage, &old).await.unwrap();
    registry.login("robot$ci", &secret);
    registry.image("ci/app", "t", "x").await;
    assert_eq!(registry.delete("/v2/ci/app/manifests/t").await, 403);
    assert_eq!(registry.get("/v2/other/tags/list").await.status(), 403);
    registry.login("robot$ci", "guess");
    assert_eq!(registry.get("/v2/").await.status(), 401);
    registry.login("robot$old", &old_secret);
    assert_eq!(registry.get("/v2/").await.status(), 401, "expired");
    registry.login("robot$../../x", "guess");
    assert_eq!(registry.get("/v2/").await.status(), 401);
    assert_eq!(robots::list(&storage).await.unwrap().len(), 2);
    assert!(
        robots::remove(&storage, "ci").await.unwrap()
            && !robots::remove(&storage, "ci").await.unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_per_client() {
    let mut registry = start(&format!(
        "{BASIC}limits: {{requests_per_second: 1, burst: 3}}\n"
    ))
    .await;
    registry.login("alice", "pw");
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(registry.get("/v2/").await.status().as_u16());
    }
    assert_eq!(statuses[..3], [200, 200, 200]);
    assert_eq!(statuses[4], 429);
    let refused = registry.get("/v2/").await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(code(refused).await, "TOOMANYREQUESTS");
    registry.login("bob", "pw");
    assert_eq!(registry.get("/v2/").await.status(), 200, "each has its own");

    let registry = Registry::start("limits: {pulls: 2, pull_window: 6h}").await;
    registry.image("a", "t", "x").await;
    let first = registry.get("/v2/a/manifests/t").await;
    assert_eq!(header(&first, "ratelimit-limit"), "2;w=21600");
    assert_eq!(header(&first, "ratelimit-remaining"), "1;w=21600");
    assert_eq!(
        registry.head("/v2/a/manifests/t").await.status(),
        200,
        "HEAD is free"
    );
    assert_eq!(registry.get("/v2/a/manifests/t").await.status(), 200);
    assert_eq!(registry.get("/v2/a/manifests/t").await.status(), 429);
}

/// `openssl` is part of every Debian; a crate for making certificates would be one more to keep.
fn certificates(dir: &std::path::Path, name: &str, common: &str) {
    let run = |args: &[&str]| {
        let done = std::process::Command::new("openssl")
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    if !dir.join("ca.pem").exists() {
        let args = [
            &["req", "-x509"][..],
            &key,
            &[
                "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            ],
        ]
        .concat();
        run(&args);
    }
    let (pem, keyfile, csr) = (
        format!("{name}.pem"),
        format!("{name}.key"),
        format!("{name}.csr"),
    );
    let subject = format!("/O=test/CN={common}");
    run(&[
        &["req"][..],
        &key,
        &["-subj", &subject, "-keyout", &keyfile, "-out", &csr],
    ]
    .concat());
    std::fs::write(
        dir.join("ext"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\n",
    )
    .unwrap();
    run(&[
        "x509",
        "-req",
        "-in",
        &csr,
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "ext",
        "-out",
        &pem,
    ]);
}

fn tls_client(dir: &std::path::Path, identity: Option<&str>) -> reqwest::Client {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let tls = match identity {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain =
                vec![CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .no_proxy()
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), "server", "registry");
    certificates(dir.path(), "alice", "alice");
    let yaml = "tls: {certificate: DIR/server.pem, key: DIR/server.key, client_ca: DIR/ca.pem}\nauth: {certificates: true, rules: [{repositories: ['a/**'], who: [alice], actions: [pull, push]}]}\n";
    let registry = Registry::start_in(yaml, dir).await;
    let base = registry.base.replace("http:", "https:");
    let dir = registry.dir.path();
    assert!(
        tls_client(dir, None)
            .get(format!("{base}/v2/"))
            .send()
            .await
            .is_err(),
        "a certificate is required"
    );
    let alice = tls_client(dir, Some("alice"));
    assert_eq!(
        alice
            .get(format!("{base}/v2/"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        alice
            .post(format!("{base}/v2/a/b/blobs/uploads/"))
            .send()
            .await
            .unwrap()
            .status(),
        202
    );
    assert_eq!(
        alice
            .post(format!("{base}/v2/b/blobs/uploads/"))
            .send()
            .await
            .unwrap()
            .status(),
        403
    );
    // A blob over TLS, which the kernel cannot send.
    let bytes = vec![5u8; 1_000_000];
    let digest = wharf_spec::digest::Digest::of(&bytes);
    let put = alice
        .post(format!("{base}/v2/a/b/blobs/uploads/?digest={digest}"))
        .body(bytes.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(put.status(), 201);
    let got = alice
        .get(format!("{base}/v2/a/b/blobs/{digest}"))
        .send()
        .await
        .unwrap();
    assert_eq!(got.bytes().await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_without_a_restart() {
    use tokio::io::AsyncWriteExt;
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), "server", "first");
    let registry = Registry::start_in(
        "tls: {certificate: DIR/server.pem, key: DIR/server.key}",
        dir,
    )
    .await;
    let address = registry.base.trim_start_matches("http://").to_owned();
    let name = || async {
        let mut roots = rustls::RootCertStore::empty();
        use rustls_pki_types::pem::PemObject;
        roots
            .add(
                rustls_pki_types::CertificateDer::from_pem_file(registry.dir.path().join("ca.pem"))
                    .unwrap(),
            )
            .unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let host = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config))
            .connect(host, stream)
            .await
            .unwrap();
        tls.flush().await.unwrap();
        let shown = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
        wharf_tls::common_name(&shown).unwrap()
    };
    assert_eq!(name().await, "first");
    certificates(registry.dir.path(), "server", "second");
    assert_eq!(name().await, "second", "with the next handshake");
    // Nonsense does not replace what works.
    std::fs::write(registry.dir.path().join("server.pem"), "nonsense").unwrap();
    assert_eq!(name().await, "second");
}
