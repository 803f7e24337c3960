//! Where drivers are found (moby `pkg/plugins/discovery.go`): a socket, or a file that names an address.
//!
//! ```text
//! /run/docker/plugins/<name>.sock                  the socket itself
//! {/etc,/usr/lib}/docker/plugins/<name>.spec       an address: unix:///path, tcp://host:port
//! {/etc,/usr/lib}/docker/plugins/<name>.json       {"Addr": …, "TLSConfig": {"CAFile": …, "CertFile": …, "KeyFile": …}}
//! ```
//!
//! Each may also be in a directory of the driver's name.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharf_logship::connection::{Address, Tls};

/// Where sockets are.
const SOCKETS: &str = "/run/docker/plugins";
/// Where files that name an address are.
const SPECS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];

/// The directories that are looked through.
#[derive(Debug)]
pub(super) struct Places {
    sockets: PathBuf,
    specs: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            sockets: SOCKETS.into(),
            specs: SPECS.iter().map(PathBuf::from).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SpecFile {
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls: Option<SpecTls>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct SpecTls {
    insecure_skip_verify: bool,
    #[serde(rename = "CAFile")]
    ca_file: String,
    cert_file: String,
    key_file: String,
}

impl Places {
    /// Where a driver listens.
    pub(super) fn locate(&self, name: &str) -> Option<Address> {
        let socket = candidates(&self.sockets, name, "sock");
        if let Some(socket) = socket.into_iter().find(|path| is_socket(path)) {
            return Some(Address::Unix(socket.display().to_string()));
        }
        let files = self.specs.iter().flat_map(|dir| {
            let specs = candidates(dir, name, "spec");
            specs.into_iter().chain(candidates(dir, name, "json"))
        });
        let found = files.into_iter().find(|path| path.exists())?;
        let text = std::fs::read_to_string(&found).ok()?;
        if found.extension().is_some_and(|ending| ending == "json") {
            let file: SpecFile = serde_json::from_str(&text).ok()?;
            return address(&file.addr, file.tls.map(tls));
        }
        address(&text, None)
    }

    /// Names of all drivers, of whatever kind.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        names.extend(names_in(&self.sockets, &["sock"]));
        for dir in &self.specs {
            names.extend(names_in(dir, &["spec", "json"]));
        }
        names
    }
}

fn candidates(dir: &Path, name: &str, ending: &str) -> [PathBuf; 2] {
    let file = format!("{name}.{ending}");
    [dir.join(&file), dir.join(name).join(&file)]
}

fn is_socket(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.file_type().is_socket())
}

fn names_in(dir: &Path, endings: &[&str]) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            let inside = |ending: &&&str| path.join(format!("{name}.{ending}")).exists();
            if endings.iter().any(|ending| inside(&ending)) {
                names.push(name);
            }
        } else if let Some((name, ending)) = name.rsplit_once('.')
            && endings.contains(&ending)
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// `None` for an address of no known kind.
fn address(text: &str, tls: Option<Tls>) -> Option<Address> {
    let (scheme, rest) = text.trim().split_once("://")?;
    let host = rest.trim_end_matches('/').to_owned();
    match (scheme, tls) {
        ("unix", _) => Some(Address::Unix(rest.to_owned())),
        ("tcp" | "http", None) => Some(Address::Tcp(host)),
        ("tcp" | "http" | "https", Some(tls)) => Some(Address::Tls(host, tls)),
        ("https", None) => Some(Address::Tls(host, Tls::default())),
        _ => None,
    }
}

/// Without an authority anybody is trusted, as in Docker.
fn tls(spec: SpecTls) -> Tls {
    let given = |path: String| (!path.is_empty()).then_some(path);
    let ca = given(spec.ca_file);
    Tls {
        skip_verify: spec.insecure_skip_verify || ca.is_none(),
        ca,
        identity: given(spec.cert_file).zip(given(spec.key_file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn drivers_are_found_in_dockers_places() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
        let _one = UnixListener::bind(path("one.sock")).expect("a socket");
        std::fs::create_dir(path("two")).expect("created");
        let _two = UnixListener::bind(path("two/two.sock")).expect("a socket");
        write("three.spec", "tcp://localhost:99\n");
        write("four.json", r#"{"Name":"four","Addr":"unix:///x/four"}"#);
        write(
            "five.json",
            r#"{"Addr":"https://far:1","TLSConfig":{"CAFile":"/ca","CertFile":"/c","KeyFile":"/k"}}"#,
        );
        write("six.json", r#"{"Addr":"tcp://far:1","TLSConfig":{}}"#);
        write("file.sock", "no socket");
        write("bad.spec", "nonsense");
        let places = Places {
            sockets: dir.path().into(),
            specs: vec![dir.path().into()],
        };
        let five = Tls {
            ca: Some("/ca".into()),
            identity: Some(("/c".into(), "/k".into())),
            skip_verify: false,
        };
        let six = Tls {
            skip_verify: true,
            ..Tls::default()
        };
        let text = |name: &str| path(name).display().to_string();
        for (name, expected) in [
            ("one", Some(Address::Unix(text("one.sock")))),
            ("two", Some(Address::Unix(text("two/two.sock")))),
            ("three", Some(Address::Tcp("localhost:99".into()))),
            ("four", Some(Address::Unix("/x/four".into()))),
            ("five", Some(Address::Tls("far:1".into(), five))),
            ("six", Some(Address::Tls("far:1".into(), six))),
            ("file", None),
            ("bad", None),
            ("none", None),
        ] {
            assert_eq!(places.locate(name), expected, "{name}");
        }
        let names: Vec<String> = places.names().into_iter().collect();
        assert_eq!(
            names,
            ["bad", "file", "five", "four", "one", "six", "three", "two"]
        );
    }
}
