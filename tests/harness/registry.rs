//! Registries to pull from and push to, inside an engine's network namespace: Debian's `docker-registry`, and one of our own that misbehaves on
//! demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use crate::archive::{Image, gzip, sha256};
use crate::deadline::wait_until;
use crate::engine::{Engine, kill};

/// Debian's `docker-registry`, stopped on drop.
#[derive(Debug)]
pub struct DockerRegistry {
    process: Child,
    /// `127.0.0.1:<port>`
    pub address: String,
}

impl DockerRegistry {
    /// Starts one that keeps its content below `name` in the engine's directory.
    #[must_use]
    pub fn start(engine: &Engine, name: &str, port: u16) -> DockerRegistry {
        DockerRegistry::start_at(engine, &engine.dir().join(name), port)
    }

    /// As [`DockerRegistry::start`], with its content below any directory. Several may share one.
    #[must_use]
    pub fn start_at(engine: &Engine, home: &Path, port: u16) -> DockerRegistry {
        DockerRegistry::launch(engine, home, "127.0.0.1", port, "")
    }

    /// Starts one that shows `server.pem`, and serves only who has a certificate of `ca.pem`; all are in `certificates`.
    #[must_use]
    pub fn start_with_certificates(
        engine: &Engine,
        name: &str,
        ip: &str,
        port: u16,
        certificates: &Path,
    ) -> DockerRegistry {
        let file = |name: &str| certificates.join(name).display().to_string();
        let tls = format!(
            ", tls: {{certificate: {}, key: {}, clientcas: [{}]}}",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        );
        DockerRegistry::launch(engine, &engine.dir().join(name), ip, port, &tls)
    }

    fn launch(engine: &Engine, home: &Path, ip: &str, port: u16, tls: &str) -> DockerRegistry {
        std::fs::create_dir_all(home).expect("a directory for the registry");
        let config = home.join(format!("config-{port}.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \"{ip}:{port}\"{tls}}}\n",
            home.join("data").display()
        );
        std::fs::write(&config, text).expect("write the registry's configuration");
        let process = engine
            .netns()
            .command(Path::new("docker-registry"))
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry (docker-registry) runs");
        let address = format!("{ip}:{port}");
        let netns = engine.netns().path();
        wait_until("the registry to listen", Duration::from_secs(20), || {
            inside(&netns, || TcpStream::connect(address.as_str()).is_ok())
        });
        DockerRegistry { process, address }
    }

    /// `127.0.0.1:<port>/<rest>`
    #[must_use]
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        kill(self.process.id());
        let _ = self.process.wait();
    }
}

/// Does something on a thread inside a network namespace.
/// Does something with the network of a namespace.
pub(crate) fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(netns).expect("the namespace exists");
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            use std::os::fd::AsFd as _;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("enter the namespace");
            work()
        });
        thread.join().expect("the thread ends")
    })
}

/// How our own registry misbehaves. Each wish is about requests for blobs unless it says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The connection breaks after so many bytes of each of the next answers.
    pub cuts: Vec<usize>,
    /// These statuses come instead of the next answers.
    pub statuses: Vec<u16>,
    /// These statuses come instead of the next manifests.
    pub manifest_statuses: Vec<u16>,
    /// One byte in the middle is another one.
    pub wrong_byte: bool,
    /// Ranges are not understood.
    pub no_ranges: bool,
    /// Each answer takes so long to begin.
    pub delay: Duration,
    /// Answers say that they are longer than they are by so many bytes, or shorter.
    pub length_lie: i64,
    /// Blobs of layers are not there.
    pub blobs_gone: bool,
    /// `user:password` that is wanted, in the given way.
    pub auth: Option<(Auth, &'static str)>,
}

/// How a user proves who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Name and password in each request.
    Basic,
    /// A token from another address.
    Token,
    /// A token from another address, and a refresh token with which to get further ones.
    Identity,
}

#[derive(Debug, Default)]
struct Content {
    blobs: HashMap<String, Vec<u8>>,
    /// By repository and tag or digest: type and bytes.
    manifests: HashMap<String, (String, Vec<u8>)>,
    faults: Faults,
    /// `METHOD path`, and the range asked for.
    requests: Vec<String>,
    /// The answer to any search.
    search: String,
}

/// A registry of our own, in threads of the test.
#[derive(Debug)]
pub struct TestRegistry {
    content: Arc<Mutex<Content>>,
    /// `127.0.0.1:<port>`
    pub address: String,
}

impl TestRegistry {
    /// Listens inside the engine's network namespace.
    #[must_use]
    pub fn start(engine: &Engine) -> TestRegistry {
        let listener = inside(&engine.netns().path(), || {
            TcpListener::bind(("127.0.0.1", 0)).expect("a port on the loopback")
        });
        let address = listener.local_addr().expect("it is bound").to_string();
        let content: Arc<Mutex<Content>> = Arc::default();
        let (shared, own) = (content.clone(), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (content, own) = (shared.clone(), own.clone());
                // A client that breaks off is part of the game.
                std::thread::spawn(move || serve(stream, &content, &own));
            }
        });
        TestRegistry { content, address }
    }

    /// `127.0.0.1:<port>/<rest>`
    #[must_use]
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Changes how it misbehaves.
    pub fn set(&self, faults: Faults) {
        self.content.lock().expect("no thread panicked").faults = faults;
    }

    /// What was asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.content
            .lock()
            .expect("no thread panicked")
            .requests
            .clone()
    }

    /// What any search finds, as JSON.
    pub fn set_search(&self, answer: &str) {
        self.content.lock().expect("no thread panicked").search = answer.to_owned();
    }

    /// Puts an image in, its layers compressed by gzip. Returns the manifest's digest.
    pub fn add(&self, repository: &str, tag: &str, image: &Image) -> String {
        let layers = image.layers.iter().map(|layer| gzip(layer)).collect();
        self.add_compressed(repository, tag, image, layers)
    }

    /// Puts an image in with these blobs as its layers, whatever is in them. Returns the manifest's digest.
    pub fn add_compressed(
        &self,
        repository: &str,
        tag: &str,
        image: &Image,
        layers: Vec<Vec<u8>>,
    ) -> String {
        let mut content = self.content.lock().expect("no thread panicked");
        let mut put = |bytes: Vec<u8>| {
            let digest = format!("sha256:{}", sha256(&bytes));
            let size = bytes.len();
            content.blobs.insert(digest.clone(), bytes);
            json!({"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": size, "digest": digest})
        };
        let layers: Vec<_> = layers.into_iter().map(&mut put).collect();
        let mut config = put(image.config_bytes());
        config["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
        let media_type = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
        drop(content);
        self.add_manifest(
            repository,
            tag,
            media_type,
            manifest.to_string().into_bytes(),
        )
    }

    /// Puts a manifest in as it is. Returns its digest.
    pub fn add_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> String {
        let mut content = self.content.lock().expect("no thread panicked");
        let digest = format!("sha256:{}", sha256(&bytes));
        for reference in [tag, &digest] {
            let key = format!("{repository}/{reference}");
            content
                .manifests
                .insert(key, (media_type.to_owned(), bytes.clone()));
        }
        digest
    }
}

struct Asked {
    method: String,
    path: String,
    /// First byte, and the last if it is named.
    range: Option<(usize, Option<usize>)>,
    authorization: String,
    body: Vec<u8>,
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let method = words.next()?.to_owned();
    // Proxies are asked for whole addresses.
    let target = words.next()?;
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest
            .find('/')
            .map_or("/", |slash| &rest[slash..])
            .to_owned(),
        None => target.to_owned(),
    };
    let (mut range, mut authorization, mut length) = (None, String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let from = value.trim().trim_start_matches("bytes=");
                range = from
                    .split_once('-')
                    .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok())));
            }
            "authorization" => authorization = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        range,
        authorization,
        body,
    })
}

fn serve(mut stream: TcpStream, content: &Mutex<Content>, own: &str) {
    let Some(asked) = read_request(&stream) else {
        return;
    };
    let answer = {
        let mut content = content.lock().expect("no thread panicked");
        let range = asked
            .range
            .map(|(from, _)| format!(" from {from}"))
            .unwrap_or_default();
        content
            .requests
            .push(format!("{} {}{range}", asked.method, asked.path));
        answer(&mut content, &asked, own)
    };
    std::thread::sleep(answer.delay);
    let length = i64::try_from(answer.body.len()).expect("small") + answer.length_lie;
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {length}\r\nConnection: close\r\n",
        answer.status,
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = if asked.method == "HEAD" {
        &[][..]
    } else {
        &answer.body
    };
    let sent = answer.cut.unwrap_or(body.len()).min(body.len());
    // Clients may be gone.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body[..sent]));
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
    delay: Duration,
    length_lie: i64,
}

impl Answer {
    fn new(status: u16, body: Vec<u8>) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body,
            cut: None,
            delay: Duration::ZERO,
            length_lie: 0,
        }
    }

    fn error(status: u16, code: &str) -> Answer {
        let body =
            json!({"errors": [{"code": code, "message": code.to_lowercase().replace('_', " ")}]});
        Answer::new(status, body.to_string().into_bytes())
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}

/// The token our token server gives to who knows the password.
const TOKEN: &str = "Bearer secret-token";

fn answer(content: &mut Content, asked: &Asked, own: &str) -> Answer {
    if let Some((auth, user)) = content.faults.auth {
        let basic = format!("Basic {}", base64(user.as_bytes()));
        if asked.path.starts_with("/token") {
            let body = String::from_utf8_lossy(&asked.body);
            let refreshed = auth == Auth::Identity
                && asked.method == "POST"
                && body.contains("grant_type=refresh_token")
                && body.contains("refresh_token=the-refresh-token");
            let by_password = asked.authorization == basic
                && (auth == Auth::Token || asked.path.contains("offline_token=true"));
            return if refreshed {
                Answer::new(
                    200,
                    br#"{"access_token":"secret-token","expires_in":300}"#.to_vec(),
                )
            } else if by_password && auth == Auth::Identity {
                Answer::new(
                    200,
                    br#"{"token":"secret-token","refresh_token":"the-refresh-token"}"#.to_vec(),
                )
            } else if by_password {
                Answer::new(
                    200,
                    br#"{"token":"secret-token","expires_in":300}"#.to_vec(),
                )
            } else {
                Answer::new(
                    401,
                    br#"{"details":"incorrect username or password"}"#.to_vec(),
                )
            };
        }
        let (wanted, challenge) = match auth {
            Auth::Basic => (basic, "Basic realm=\"test\"".to_owned()),
            Auth::Token | Auth::Identity => (
                TOKEN.to_owned(),
                format!("Bearer realm=\"http://{own}/token\",service=\"test\""),
            ),
        };
        if asked.authorization != wanted {
            return Answer::error(401, "UNAUTHORIZED").header("WWW-Authenticate", challenge);
        }
    }
    if asked.path.starts_with("/v1/search") {
        return Answer::new(200, content.search.clone().into_bytes());
    }
    let Some(rest) = asked.path.strip_prefix("/v2/") else {
        return Answer::error(404, "UNSUPPORTED");
    };
    if let Some((repository, reference)) = rest.split_once("/manifests/") {
        return manifest(content, &format!("{repository}/{reference}"));
    }
    if let Some((_, digest)) = rest.split_once("/blobs/") {
        return blob(content, digest, asked);
    }
    match rest.strip_suffix("/tags/list") {
        Some(repository) => tags(content, repository),
        None => Answer::new(200, b"{}".to_vec()),
    }
}

fn tags(content: &Content, repository: &str) -> Answer {
    let prefix = format!("{repository}/");
    let mut tags: Vec<&str> = content
        .manifests
        .keys()
        .filter_map(|key| key.strip_prefix(&prefix))
        .filter(|reference| !reference.contains(':'))
        .collect();
    tags.sort_unstable();
    Answer::new(
        200,
        json!({"name": repository, "tags": tags})
            .to_string()
            .into_bytes(),
    )
}

fn manifest(content: &mut Content, key: &str) -> Answer {
    if let Some(status) = pop(&mut content.faults.manifest_statuses) {
        return Answer::error(status, "TOOMANYREQUESTS");
    }
    match content.manifests.get(key) {
        Some((media_type, bytes)) => {
            let digest = format!("sha256:{}", sha256(bytes));
            Answer::new(200, bytes.clone())
                .header("Content-Type", media_type.clone())
                .header("Docker-Content-Digest", digest)
        }
        None => Answer::error(404, "MANIFEST_UNKNOWN"),
    }
}

fn blob(content: &mut Content, digest: &str, asked: &Asked) -> Answer {
    let Some(bytes) = content.blobs.get(digest).cloned() else {
        return Answer::error(404, "BLOB_UNKNOWN");
    };
    // Small ones are image configs.
    let is_layer = bytes.len() > 2048;
    let faults = &mut content.faults;
    if is_layer && faults.blobs_gone {
        return Answer::error(404, "BLOB_UNKNOWN");
    }
    if asked.method == "GET"
        && is_layer
        && let Some(status) = pop(&mut faults.statuses)
    {
        return Answer::error(status, "TOOMANYREQUESTS");
    }
    let mut body = bytes;
    if faults.wrong_byte && is_layer {
        let middle = body.len() / 2;
        body[middle] ^= 0xff;
    }
    let length = body.len();
    let range = asked
        .range
        .filter(|(from, _)| !faults.no_ranges && *from < length);
    let mut answer = match range {
        Some((from, to)) => {
            let last = to.unwrap_or(length - 1).min(length - 1);
            Answer::new(206, body[from..=last].to_vec())
                .header("Content-Range", format!("bytes {from}-{last}/{length}"))
        }
        None => Answer::new(200, body),
    };
    if asked.method == "GET" && is_layer {
        answer.cut = pop(&mut faults.cuts);
        answer.delay = faults.delay;
        answer.length_lie = faults.length_lie;
    }
    answer.header("Docker-Content-Digest", digest.to_owned())
}

fn pop<T>(list: &mut Vec<T>) -> Option<T> {
    if list.is_empty() {
        None
    } else {
        Some(list.remove(0))
    }
}

/// Standard base64 with padding.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_u32, |all, byte| all << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let index = (group >> (18 - 6 * at) & 63) as usize;
            out.push(if at <= chunk.len() {
                char::from(ALPHABET[index])
            } else {
                '='
            });
        }
    }
    out
}
