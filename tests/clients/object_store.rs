//! The registry server over an object store that others make: moto's S3, which fails one call in twenty here. Two replicas share nothing but
//! the store; one is killed while clients push.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use wharf_e2e::archive::sha256;
use wharf_e2e::deadline::{LONG, wait_until};
use wharf_e2e::engine::{kill, wharf_program};
use wharf_e2e::registry_client::{Books, ask, free_port, push};

use crate::shop;

/// A process, killed on drop.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        kill(self.0.id());
        let _ = self.0.wait();
    }
}

/// The store, and its port.
fn store() -> (Guard, u16) {
    let mut command = Command::new(shop::installed("python/bin/python"));
    command.arg(shop::file("python/objects.py"));
    let mut process = command.stdout(Stdio::piped()).spawn().expect("python runs");
    let mut line = String::new();
    let said = process.stdout.take().expect("a pipe");
    BufReader::new(said)
        .read_line(&mut line)
        .expect("it tells its port");
    let port = line.trim().parse().expect("a port");
    let bucket = ask(port, "PUT", "/images", "", b"").expect("an answer");
    assert_eq!(bucket.status, 200);
    (Guard(process), port)
}

struct Replica {
    process: Guard,
    config: PathBuf,
    port: u16,
}

impl Replica {
    fn start(dir: &Path, store: u16, redirect: bool) -> Replica {
        let port = free_port();
        let config = dir.join(format!("{port}.yml"));
        let options = format!(
            "aws_endpoint: 'http://127.0.0.1:{store}', aws_region: us-east-1, aws_allow_http: 'true', aws_access_key_id: id, aws_secret_access_key: key"
        );
        let text = format!(
            "listen: ['127.0.0.1:{port}']\nlog: {{level: error}}\nstorage: {{url: 's3://images/registry', redirect: {redirect}, options: {{{options}}}}}\n"
        );
        std::fs::write(&config, text).expect("write a configuration");
        Replica {
            process: serve(&config, port),
            config,
            port,
        }
    }

    fn kill_and_start(&mut self) {
        kill(self.process.0.id());
        self.process.0.wait().expect("it ends");
        self.process = serve(&self.config, self.port);
    }
}

fn serve(config: &Path, port: u16) -> Guard {
    let mut command = Command::new(wharf_program());
    let process = command
        .args(["registry", "serve", "--config"])
        .arg(config)
        .spawn();
    let process = Guard(process.expect("the registry starts"));
    wait_until("the registry to answer", LONG, || {
        ask(port, "GET", "/healthz", "", b"").is_some()
    });
    process
}

fn registry(args: &[&str], config: &Path) -> String {
    let mut command = Command::new(wharf_program());
    let output = command
        .arg("registry")
        .args(args)
        .arg("--config")
        .arg(config)
        .output();
    let output = output.expect("wharf runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}{complained}");
    said
}

#[test]
fn replicas_of_the_registry_over_s3_that_fails() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_store, s3) = store();
    let mut one = Replica::start(dir.path(), s3, false);
    let two = Replica::start(dir.path(), s3, false);
    let books = Books::default();
    std::thread::scope(|scope| {
        let (killed, steady, books) = (one.port, two.port, &books);
        for n in 0..2 {
            scope.spawn(move || {
                for round in 0..4 {
                    let pushed = push(steady, &format!("s{n}-{round}"), books);
                    pushed.expect("nobody killed this replica, and five tries are enough");
                }
            });
            scope.spawn(move || {
                for round in 0..4 {
                    // Whatever was not acknowledged is no loss.
                    let _ = push(killed, &format!("killed{n}-{round}"), books);
                }
            });
        }
        for n in 0..3 {
            books.wait_for_more(n);
            one.kill_and_start();
        }
    });
    books.check(one.port);
    books.check(two.port);
    an_upload_moves(&mut one, &two);
    signed(dir.path(), s3);
    let check = ["check", "--read"];
    assert!(registry(&check, &one.config).contains(" 0 problems"));
    registry(&["gc"], &one.config);
    assert!(registry(&check, &one.config).contains(" 0 problems"));
    books.check(two.port);
    let failures = ask(s3, "GET", "/failures", "", b"")
        .expect("an answer")
        .body;
    let failures: u32 = String::from_utf8_lossy(&failures)
        .parse()
        .expect("a number");
    assert!(failures > 10, "{failures}: the test tests something");
}

/// Begun here, the process killed, finished there.
fn an_upload_moves(one: &mut Replica, two: &Replica) {
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let (first, rest) = bytes.split_at(700_001);
    let begun = ask(one.port, "POST", "/v2/moved/blobs/uploads/", "", b"").expect("an answer");
    let sent = ask(one.port, "PATCH", &begun.location, "", first).expect("an answer");
    assert_eq!(sent.status, 202);
    one.kill_and_start();
    let digest = format!("sha256:{}", sha256(&bytes));
    let target = format!("{}?digest={digest}", sent.location);
    assert_eq!(
        ask(two.port, "PUT", &target, "", rest).map(|answer| answer.status),
        Some(201)
    );
    let got = ask(
        one.port,
        "GET",
        &format!("/v2/moved/blobs/{digest}"),
        "",
        b"",
    )
    .expect("an answer");
    assert!(got.status == 200 && got.body == bytes);
}

/// Clients are sent to the store itself, which believes the signature.
fn signed(dir: &Path, s3: u16) {
    let replica = Replica::start(dir, s3, true);
    let bytes = b"signed".to_vec();
    let digest = format!("sha256:{}", sha256(&bytes));
    let put = format!("/v2/signed/blobs/uploads/?digest={digest}");
    assert_eq!(
        ask(replica.port, "POST", &put, "", &bytes).map(|answer| answer.status),
        Some(201)
    );
    let path = format!("/v2/signed/blobs/{digest}");
    let sent = ask(replica.port, "GET", &path, "", b"").expect("an answer");
    let base = format!("http://127.0.0.1:{s3}");
    let target = sent
        .location
        .strip_prefix(&base)
        .unwrap_or_else(|| panic!("{sent:?}"));
    assert!(
        sent.status == 307 && target.contains("X-Amz-Signature="),
        "{sent:?}"
    );
    // One in twenty.
    let got = (0..5)
        .filter_map(|_| ask(s3, "GET", target, "", b""))
        .find(|got| got.status == 200);
    assert_eq!(got.map(|got| got.body), Some(bytes));
}
