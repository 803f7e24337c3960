//! The host's `resolv.conf`, read again when it changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

/// More servers than this are not asked, as in the C library.
const MOST: usize = 3;

/// What is known of the host's files.
#[derive(Debug, Default)]
pub(crate) struct HostServers {
    files: RefCell<HashMap<String, File>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    /// Inode, seconds and nanoseconds of the last change, length.
    version: (u64, i64, i64, u64),
    servers: Vec<IpAddr>,
}

impl HostServers {
    /// Name servers of the file at `path`, as it is now. None when there is no file.
    pub(crate) fn of(&self, path: &str) -> Vec<IpAddr> {
        let Ok(metadata) = fs::metadata(path) else {
            return Vec::new();
        };
        let version = (
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.len(),
        );
        let mut files = self.files.borrow_mut();
        if let Some(file) = files.get(path).filter(|file| file.version == version) {
            return file.servers.clone();
        }
        let servers = servers(&fs::read_to_string(path).unwrap_or_default());
        let file = File { version, servers };
        files.insert(path.to_owned(), file.clone());
        file.servers
    }
}

/// Addresses after `nameserver`, without our own.
fn servers(text: &str) -> Vec<IpAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    });
    addresses.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_the_file_are_seen() {
        let dir = std::env::temp_dir().join(format!("wharf-resolv-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("resolv.conf");
        let host = HostServers::default();
        let of = || {
            let servers = host.of(path.to_str().unwrap());
            servers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(of().is_empty());
        fs::write(&path, "# x\nnameserver 10.0.0.1\nnameserver x\nsearch a\n").unwrap();
        assert_eq!(of(), ["10.0.0.1"]);
        fs::write(&path, "nameserver 127.0.0.53\nnameserver ::1\n").unwrap();
        assert_eq!(of(), ["127.0.0.53", "::1"]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
