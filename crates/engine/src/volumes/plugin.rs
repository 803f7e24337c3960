//! Volume drivers outside of the engine: Docker's plugin protocol, JSON posted to a Unix socket or a TCP address
//! (docs.docker.com, "Docker volume plugins"). Blocking.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, Result};

/// Where sockets are found, by name or in a directory of that name.
const SOCKETS: &str = "/run/docker/plugins";
/// Where files that name an address are found.
const SPECS: [&str; 2] = ["/etc/docker/plugins", "/usr/lib/docker/plugins"];
/// A driver may have to ask a server far away.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest answer that is read.
const MAX_ANSWER: u64 = 16 << 20;

/// Where a driver listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// A driver that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    name: String,
    address: Address,
}

/// A volume as a driver tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginVolume {
    /// Name.
    pub name: String,
    /// Where it is mounted, if it is.
    pub mountpoint: String,
    /// When it was made.
    pub created_at: String,
    /// Anything.
    pub status: Option<BTreeMap<String, Value>>,
}

/// Finds a driver that says it handles volumes.
pub fn find(name: &str) -> Result<Plugin> {
    let unknown = || {
        Error::not_found(format!(
            "error looking up volume plugin {name}: plugin {name:?} not found"
        ))
    };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(unknown());
    }
    let plugin = Plugin {
        name: name.to_owned(),
        address: locate(Path::new(SOCKETS), name).ok_or_else(unknown)?,
    };
    let answer = plugin.call("/Plugin.Activate", &Value::Null)?;
    let handles = answer["Implements"]
        .as_array()
        .is_some_and(|list| list.contains(&json!("VolumeDriver")));
    if handles { Ok(plugin) } else { Err(unknown()) }
}

fn locate(sockets: &Path, name: &str) -> Option<Address> {
    let file = format!("{name}.sock");
    let places = [sockets.join(&file), sockets.join(name).join(&file)];
    if let Some(socket) = places.into_iter().find(|place| place.exists()) {
        return Some(Address::Unix(socket));
    }
    SPECS.iter().find_map(|dir| spec(Path::new(dir), name))
}

/// `<name>.spec` holds an address, `<name>.json` an object with one.
fn spec(dir: &Path, name: &str) -> Option<Address> {
    let read = |extension: &str| {
        let file = format!("{name}.{extension}");
        std::fs::read_to_string(dir.join(&file))
            .or_else(|_| std::fs::read_to_string(dir.join(name).join(&file)))
            .ok()
    };
    let text = read("spec").or_else(|| {
        let json: Value = serde_json::from_str(&read("json")?).ok()?;
        json["Addr"].as_str().map(str::to_owned)
    })?;
    match text.trim().split_once("://")? {
        ("unix", path) => Some(Address::Unix(path.into())),
        ("tcp" | "http", address) => Some(Address::Tcp(address.trim_end_matches('/').to_owned())),
        _ => None,
    }
}

impl Plugin {
    /// Makes a volume.
    pub fn create(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        self.call(
            "/VolumeDriver.Create",
            &json!({"Name": name, "Opts": options}),
        )
        .map(drop)
    }

    /// Removes a volume.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.call("/VolumeDriver.Remove", &json!({"Name": name}))
            .map(drop)
    }

    /// Makes a volume's data accessible for one user, who has an ID; where it is.
    pub fn mount(&self, name: &str, id: &str) -> Result<PathBuf> {
        let answer = self.call("/VolumeDriver.Mount", &json!({"Name": name, "ID": id}))?;
        Ok(answer["Mountpoint"].as_str().unwrap_or_default().into())
    }

    /// That user is done with it.
    pub fn unmount(&self, name: &str, id: &str) -> Result<()> {
        self.call("/VolumeDriver.Unmount", &json!({"Name": name, "ID": id}))
            .map(drop)
    }

    /// What the driver knows about a volume.
    pub fn get(&self, name: &str) -> Result<PluginVolume> {
        let answer = self.call("/VolumeDriver.Get", &json!({"Name": name}))?;
        serde_json::from_value(answer["Volume"].clone())
            .map_err(|error| Error::caused("read the answer of a volume plugin", error))
    }

    /// All its volumes.
    pub fn list(&self) -> Result<Vec<PluginVolume>> {
        let answer = self.call("/VolumeDriver.List", &Value::Null)?;
        let list: Option<Vec<PluginVolume>> = serde_json::from_value(answer["Volumes"].clone())
            .map_err(|error| Error::caused("read the answer of a volume plugin", error))?;
        Ok(list.unwrap_or_default())
    }

    /// `local` or `global`. Old drivers do not know the question.
    pub fn scope(&self) -> String {
        let answer = self.call("/VolumeDriver.Capabilities", &Value::Null);
        let scope = answer
            .ok()
            .and_then(|answer| Some(answer["Capabilities"]["Scope"].as_str()?.to_owned()));
        scope
            .filter(|scope| scope == "global")
            .unwrap_or_else(|| "local".into())
    }

    fn call(&self, method: &str, body: &Value) -> Result<Value> {
        let what = method.trim_start_matches('/');
        let failed = |error: std::io::Error| {
            Error::caused(
                &format!(
                    "error while calling {what} of volume plugin {:?}",
                    self.name
                ),
                error,
            )
        };
        let (status, text) = self.exchange(method, body).map_err(failed)?;
        let answer: Value = serde_json::from_slice(&text).unwrap_or(Value::Null);
        let error = answer["Err"].as_str().unwrap_or_default();
        if status != 200 || !error.is_empty() {
            let reason = if error.is_empty() {
                String::from_utf8_lossy(&text).trim().to_owned()
            } else {
                error.to_owned()
            };
            return Err(Error::internal(format!("{what}: {reason}")));
        }
        Ok(answer)
    }

    /// HTTP/1.0, so that the answer ends with the connection and is never chunked.
    fn exchange(&self, method: &str, body: &Value) -> std::io::Result<(u16, Vec<u8>)> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "POST {method} HTTP/1.0\r\nHost: {}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.name,
            body.len()
        );
        let mut answer = Vec::new();
        match &self.address {
            Address::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(request.as_bytes())?;
                stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
            }
            Address::Tcp(address) => {
                let mut stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(request.as_bytes())?;
                stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
            }
        }
        split(answer)
    }
}

/// Status and body of an answer.
fn split(mut answer: Vec<u8>) -> std::io::Result<(u16, Vec<u8>)> {
    let malformed =
        || std::io::Error::new(std::io::ErrorKind::InvalidData, "malformed HTTP answer");
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(malformed)?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(malformed)?, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_dockers_places() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("one.sock"), "").expect("written");
        std::fs::create_dir(dir.path().join("two")).expect("created");
        std::fs::write(dir.path().join("two/two.sock"), "").expect("written");
        std::fs::write(dir.path().join("three.spec"), "tcp://localhost:99\n").expect("written");
        std::fs::write(
            dir.path().join("four.json"),
            r#"{"Name":"four","Addr":"unix:///x/four"}"#,
        )
        .expect("written");
        assert_eq!(
            locate(dir.path(), "one"),
            Some(Address::Unix(dir.path().join("one.sock")))
        );
        assert_eq!(
            locate(dir.path(), "two"),
            Some(Address::Unix(dir.path().join("two/two.sock")))
        );
        assert_eq!(
            spec(dir.path(), "three"),
            Some(Address::Tcp("localhost:99".into()))
        );
        assert_eq!(
            spec(dir.path(), "four"),
            Some(Address::Unix("/x/four".into()))
        );
        assert!(find("no-such-plugin").is_err() && find("../x").is_err());
    }

    #[test]
    fn answers_are_taken_apart() {
        let (status, body) =
            split(Vec::from(*b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}")).expect("an answer");
        assert_eq!((status, body.as_slice()), (200, &b"{}"[..]));
        assert!(split(Vec::from(*b"nonsense")).is_err());
    }
}
