//! RPM's packages: headers in an SQLite file (rpm 4.16 and later).

use rusqlite::{Connection, OpenFlags};
use wharf_build::files::Files;

use super::{Package, bytes};

const PATHS: [&str; 2] = [
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite",
];
// rpm `include/rpm/rpmtag.h`.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const VENDOR: u32 = 1011;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;
const SOURCE: u32 = 1044;
const INT32: u32 = 4;
/// No header comes near this.
const MAX_ENTRIES: usize = 1 << 16;

pub(super) fn packages(files: &dyn Files) -> Vec<Package> {
    let database = PATHS.iter().find_map(|path| bytes(files, path.as_bytes()));
    database
        .and_then(|bytes| headers(&bytes).ok())
        .unwrap_or_default()
        .iter()
        .filter_map(|header| parse(header))
        .collect()
}

/// The blobs of all packages. SQLite wants a file; a damaged one is an error like any other.
fn headers(database: &[u8]) -> rusqlite::Result<Vec<Vec<u8>>> {
    let path = std::env::temp_dir().join(format!("wharf-rpm-{}", &crate::ids::random()[..16]));
    let opened = std::fs::write(&path, database)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        .and_then(|()| Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY));
    // The connection keeps it as long as it needs it.
    let _ = std::fs::remove_file(&path);
    let connection = opened?;
    let mut statement = connection.prepare("SELECT blob FROM Packages")?;
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    rows.collect()
}

/// A header: number of entries, length of the data, entries of 16 bytes, data; all big-endian.
fn parse(header: &[u8]) -> Option<Package> {
    let word = |at: usize| {
        let bytes = header.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let entries = usize::try_from(word(0)?)
        .ok()
        .filter(|n| *n <= MAX_ENTRIES)?;
    let data = 8 + entries * 16;
    let find = |wanted: u32| {
        (0..entries).map(|n| 8 + n * 16).find_map(|at| {
            (word(at)? == wanted).then_some(())?;
            Some((word(at + 4)?, data + usize::try_from(word(at + 8)?).ok()?))
        })
    };
    let string = |tag: u32| {
        let (_, at) = find(tag)?;
        let rest = header.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    let epoch = match find(EPOCH) {
        Some((INT32, at)) => format!("{}:", word(at)?),
        _ => String::new(),
    };
    Some(Package {
        kind: "rpm",
        name: string(NAME)?,
        version: format!("{epoch}{}-{}", string(VERSION)?, string(RELEASE)?),
        architecture: string(ARCHITECTURE).unwrap_or_default(),
        source: string(SOURCE).unwrap_or_default(),
        license: string(LICENSE).unwrap_or_default(),
        supplier: string(VENDOR).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read() {
        let values = [
            (NAME, "bash"),
            (VERSION, "5.2"),
            (RELEASE, "1.fc40"),
            (ARCHITECTURE, "x86_64"),
        ];
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, text) in values {
            for word in [tag, 6, u32::try_from(data.len()).expect("small"), 1] {
                index.extend(word.to_be_bytes());
            }
            data.extend(text.as_bytes());
            data.push(0);
        }
        let mut header = 4_u32.to_be_bytes().to_vec();
        header.extend(u32::try_from(data.len()).expect("small").to_be_bytes());
        header.extend(index);
        header.extend(data);
        let found = parse(&header).expect("a package");
        assert_eq!(
            (found.name.as_str(), found.version.as_str()),
            ("bash", "5.2-1.fc40")
        );
        for cut in 0..header.len() {
            // Whatever is missing, there is no panic.
            let _ = parse(&header[..cut]);
        }
    }
}
