//! Which process has a port: said when somebody else wants it.

use std::fs;
use std::path::Path;

use crate::record::Protocol;

/// ` (by nginx, process 12)`, or empty where no process is found: it may be in another namespace, or gone.
pub(super) fn describe(protocol: Protocol, port: u16) -> String {
    let tables: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => &[],
    };
    let read = |name: &&str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).ok();
    let mut texts = tables.iter().filter_map(read);
    let holder = texts
        .find_map(|text| inode(&text, port))
        .and_then(|inode| process_with(&format!("socket:[{inode}]")));
    holder.map_or_else(String::new, |(name, pid)| {
        format!(" (by {name}, process {pid})")
    })
}

/// Inode of the socket that is bound to `port` in a table such as `/proc/net/tcp`, connections apart (proc(5)).
fn inode(table: &str, port: u16) -> Option<u64> {
    /// `TCP_LISTEN`, and what UDP shows for a socket that is not connected (`TCP_CLOSE`).
    const STATES: [&str; 2] = ["0A", "07"];
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        let (_, number) = local.rsplit_once(':')?;
        let is_it = u16::from_str_radix(number, 16) == Ok(port) && STATES.contains(&state);
        is_it.then(|| inode.parse().ok()).flatten()
    })
}

/// Name and id of a process with an open descriptor that links to `target`.
fn process_with(target: &str) -> Option<(String, u32)> {
    let entries = fs::read_dir("/proc").ok()?;
    entries.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        files
            .any(|file| fs::read_link(file.path()).is_ok_and(|link| link == Path::new(target)))
            .then_some(())?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((name.trim_end().to_owned(), pid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 111 1 0000000000000000
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0000000000000000
";
        assert_eq!(inode(table, 8080), Some(222));
        assert_eq!(inode(table, 8081), None);
        assert_eq!(inode("", 1), None);
    }

    #[test]
    fn a_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shown = describe(Protocol::Tcp, port);
        let own = format!("process {})", std::process::id());
        assert!(shown.ends_with(&own), "{shown}");
    }
}
