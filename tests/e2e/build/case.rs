//! Small Dockerfiles with their contexts, all in one file.
//!
//! ```text
//! #### name [modern] [?query]
//! the Dockerfile
//! -- path [mode] --
//! content
//! -- path -> target --
//! ```
//!
//! `modern`: the classic builder of the reference does not know it.

use wharf_e2e::archive::TarFile;

/// One of them.
pub struct Case {
    pub name: String,
    /// Not for the reference.
    pub modern: bool,
    /// More of the query, encoded.
    pub query: String,
    /// The context.
    pub context: Vec<u8>,
}

/// All of them.
pub fn all() -> Vec<Case> {
    let text = include_str!("cases.txt");
    text.split("#### ").skip(1).map(parse).collect()
}

fn parse(text: &str) -> Case {
    let (head, body) = text.split_once('\n').expect("a name and a Dockerfile");
    let mut words = head.split(' ');
    let mut case = Case {
        name: words.next().expect("a name").to_owned(),
        modern: false,
        query: String::new(),
        context: Vec::new(),
    };
    for word in words {
        match word.strip_prefix('?') {
            Some(query) => case.query = format!("&{}", encode(query)),
            None => case.modern = word == "modern",
        }
    }
    let body = body.strip_suffix('\n').unwrap_or(body);
    case.context = context(body);
    case
}

/// What JSON has and a query may not.
fn encode(query: &str) -> String {
    let mut encoded = String::new();
    for c in query.chars() {
        match c {
            '{' | '}' | '"' | '[' | ']' | ':' | ',' | '/' => {
                encoded.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => encoded.push(c),
        }
    }
    encoded
}

fn context(body: &str) -> Vec<u8> {
    let mut files: Vec<(String, String)> = vec![("Dockerfile".to_owned(), String::new())];
    for line in body.split_inclusive('\n') {
        let header = line
            .strip_prefix("-- ")
            .and_then(|rest| rest.trim_end().strip_suffix(" --"));
        match header {
            Some(header) => files.push((header.to_owned(), String::new())),
            None => {
                let (_, content) = files.last_mut().expect("the Dockerfile is there");
                content.push_str(line);
            }
        }
    }
    let mut tar = TarFile::new();
    for (header, content) in &files {
        // A case may have its Dockerfile elsewhere.
        if header == "Dockerfile" && content.is_empty() {
            continue;
        }
        if let Some((path, target)) = header.split_once(" -> ") {
            tar = tar.symlink(path, target);
            continue;
        }
        let (path, mode) = header
            .rsplit_once(' ')
            .filter(|(_, mode)| mode.len() == 4)
            .unwrap_or((header, "0644"));
        let mode = u32::from_str_radix(mode, 8).expect("an octal mode");
        tar = tar.file_mode(path, mode, content.as_bytes());
    }
    tar.finish()
}
