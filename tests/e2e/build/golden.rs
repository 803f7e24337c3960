//! What small Dockerfiles become: output, settings, history, files and cache hits, kept in `golden/<name>.txt`.
//!
//! `UPDATE_GOLDEN=1` writes them anew. With `WHARF_E2E_DAEMON=dockerd` the reference is held against the same files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};
use wharf_e2e::Engine;
use wharf_e2e::archive::sha256;

use super::case::{Case, all};

#[test]
fn small_dockerfiles_become_what_they_did() {
    let engine = Engine::start();
    let base = tree(&engine, "busybox:latest");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/build/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let only = std::env::var("WHARF_BUILD_CASE").ok();
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in all() {
        if only.as_ref().is_some_and(|only| *only != case.name)
            || (case.modern && engine.is_reference())
        {
            continue;
        }
        count += 1;
        let found = describe(&engine, &case, &base);
        let mut path = folder.join(format!("{}.txt", case.name));
        let older = folder.join(format!("{}.reference.txt", case.name));
        if engine.is_reference() && older.exists() {
            // Where the installed reference is older than what is presented here, and words differ.
            path = older;
        }
        if update {
            std::fs::write(&path, &found).expect("a golden file");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "==== {}\n{}",
                case.name,
                difference(&expected, &found)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) =
        (expected.lines().collect(), found.lines().collect());
    let gone = expected.iter().filter(|line| !found.contains(line));
    let new = found.iter().filter(|line| !expected.contains(line));
    let mut text = String::new();
    gone.for_each(|line| text.push_str(&format!("- {line}\n")));
    new.for_each(|line| text.push_str(&format!("+ {line}\n")));
    text
}

/// Everything about a build that must stay as it is.
fn describe(engine: &Engine, case: &Case, base: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let (lines, image) = build(engine, case);
    text.push_str(&lines);
    let Some(image) = image else { return text };
    let inspect = engine
        .api()
        .get(&format!("/images/{image}/json"))
        .expect(200)
        .json();
    writeln!(text, "-- config").expect("a string");
    text.push_str(&settings(&inspect));
    writeln!(text, "-- history").expect("a string");
    let history = engine
        .api()
        .get(&format!("/images/{image}/history"))
        .expect(200)
        .json();
    for step in history.as_array().expect("a list").iter().rev() {
        let by = step["CreatedBy"].as_str().unwrap_or_default();
        let empty = if step["Size"] == json!(0) {
            "empty "
        } else {
            ""
        };
        writeln!(text, "{empty}{}", mask(by)).expect("a string");
    }
    writeln!(text, "-- files").expect("a string");
    for (path, what) in tree(engine, &image) {
        if base.get(&path) != Some(&what) {
            writeln!(text, "{path} {what}").expect("a string");
        }
    }
    let (again, _) = build(engine, case);
    writeln!(text, "-- again").expect("a string");
    writeln!(text, "cached {}", again.matches("Using cache").count()).expect("a string");
    text
}

/// Output with what differs from run to run masked, and the image.
fn build(engine: &Engine, case: &Case) -> (String, Option<String>) {
    let target = format!("/build?rm=1{}", case.query);
    let answer = engine
        .api()
        .post_bytes(&target, "application/x-tar", &case.context);
    if answer.status() != 200 {
        return (
            format!(
                "status {}\n{}\n",
                answer.status(),
                wording(&answer.message())
            ),
            None,
        );
    }
    let (mut output, mut image, mut error) = (String::new(), None, None);
    for line in answer.text().lines() {
        let line: Value = serde_json::from_str(line).expect("lines of JSON");
        if let Some(text) = line["stream"].as_str() {
            output.push_str(text);
        }
        if let Some(id) = line["aux"]["ID"].as_str() {
            image = Some(id.to_owned());
        }
        if let Some(message) = line["error"].as_str() {
            let code = &line["errorDetail"]["code"];
            error = Some(format!("error {} code {code}\n", wording(message)));
            image = None;
        }
    }
    if image.is_none() && error.is_none() {
        // Quiet: nothing but the ID.
        image = Some(output.trim().to_owned());
    }
    (mask(&output) + &error.unwrap_or_default(), image)
}

/// The older builder's words as the newer one's.
fn wording(text: &str) -> String {
    let text = text.replace(
        "dockerfile parse error line ",
        "dockerfile parse error on line ",
    );
    mask(&text)
}

/// IDs and hashes become stars. The reference says "Removing" where the newer one says "Removed", and reports of deprecation go.
fn mask(text: &str) -> String {
    // How standard error is cut into pieces is chance.
    let text = text.replace("\u{1b}[0m\u{1b}[91m", "");
    let text = text.replace(
        "Removing intermediate container",
        " ---> Removed intermediate container",
    );
    let mut masked = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, masked: &mut String| {
        let hex = word.chars().all(|c| c.is_ascii_hexdigit());
        if hex && matches!(word.len(), 12 | 64) {
            masked.push('*');
        } else {
            masked.push_str(word);
        }
        word.clear();
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            word.push(c);
        } else {
            flush(&mut word, &mut masked);
            masked.push(c);
        }
    }
    flush(&mut word, &mut masked);
    masked
}

fn settings(inspect: &Value) -> String {
    const KEYS: [&str; 12] = [
        "User",
        "ExposedPorts",
        "Env",
        "Cmd",
        "Healthcheck",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "OnBuild",
        "Labels",
        "StopSignal",
        "Shell",
    ];
    let mut text = String::new();
    let config = &inspect["Config"];
    for key in KEYS {
        let value = &config[key];
        let empty =
            value.is_null() || *value == json!("") || *value == json!({}) || *value == json!([]);
        if !empty {
            writeln!(text, "{key} {value}").expect("a string");
        }
    }
    if let Some(author) = inspect["Author"]
        .as_str()
        .filter(|author| !author.is_empty())
    {
        writeln!(text, "Author {author}").expect("a string");
    }
    text
}

/// Paths of an image with what is there, without times.
fn tree(engine: &Engine, image: &str) -> BTreeMap<String, String> {
    let body = json!({"Image": image, "Cmd": ["/none"], "Entrypoint": []});
    let id = engine.create(&body);
    let export = engine
        .api()
        .get(&format!("/containers/{id}/export"))
        .expect(200);
    let _ = engine
        .api()
        .delete(&format!("/containers/{id}?v=1"))
        .expect(204);
    let mut archive = tar::Archive::new(export.body.as_slice());
    let mut tree = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let header = entry.header().clone();
        let link = entry.link_name().ok().flatten();
        let link = link
            .map(|link| format!(" -> {}", link.display()))
            .unwrap_or_default();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        let what = format!(
            "{:?} {:o} {}:{} {}{link}",
            header.entry_type(),
            header.mode().expect("a mode") & 0o7777,
            header.uid().expect("an owner"),
            header.gid().expect("a group"),
            if content.is_empty() {
                String::new()
            } else {
                sha256(&content)[..8].to_owned()
            },
        );
        tree.insert(path, what.trim_end().to_owned());
    }
    tree
}
