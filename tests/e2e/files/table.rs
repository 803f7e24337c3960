//! `cases.txt` holds scripts, `expected.txt` what they print: recorded from Debian's dockerd and from Wharf, once where both say the same.
//!
//! The test runs every case against the daemon under test. `WHARF_E2E_RECORD=1` writes down what that daemon says instead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wharf_e2e::{Engine, cli};

const CASES: &str = include_str!("cases.txt");

/// What the cases use.
const PRELUDE: &str = r#"run="docker run --rm --network none"
tree() { mkdir -p t/sub; echo one >t/f; echo two >t/sub/g; ln -s f t/l; chmod 640 t/f; }
running() { docker run -d --name $C --network none busybox sh -c "ln -s etc /ld; ln -s /etc/passwd /lf; ln -s /nowhere /lx; touch /ready; sleep 600" >/dev/null; until docker exec $C test -e /ready; do :; done; }
box() { docker run --name $C --network none busybox "$@"; }
"#;

/// Leaves nothing of a case.
const CLEAN: &str = r#"c=$(docker ps -aq); if [ -n "$c" ]; then docker unpause $c; docker rm -fv $c; fi
v=$(docker volume ls -q); if [ -n "$v" ]; then docker volume rm -f $v; fi
if [ -n "$(docker images -q img)" ]; then docker rmi -f img; fi
true"#;

/// Output by daemon; `both` where they agree.
type Expected = BTreeMap<String, BTreeMap<String, String>>;

fn cases() -> Vec<(&'static str, &'static str)> {
    let parts = CASES.split("\n== ");
    parts
        .map(|part| {
            let part = part.strip_prefix("== ").unwrap_or(part);
            part.split_once('\n').unwrap_or((part, ""))
        })
        .collect()
}

fn expected_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/files/expected.txt")
}

fn read_expected() -> Expected {
    let text = std::fs::read_to_string(expected_path()).unwrap_or_default();
    let mut all = Expected::new();
    for part in text.split("\n== ").filter(|part| !part.is_empty()) {
        let part = part.strip_prefix("== ").unwrap_or(part);
        let (name, blocks) = part.split_once('\n').unwrap_or((part, ""));
        let mut outputs = BTreeMap::new();
        for block in blocks.split("-- ").filter(|block| !block.is_empty()) {
            let (who, output) = block.split_once('\n').unwrap_or((block, ""));
            outputs.insert(who.to_owned(), output.trim_end_matches('\n').to_owned());
        }
        all.insert(name.to_owned(), outputs);
    }
    all
}

fn write_expected(all: &Expected) {
    let mut text = String::new();
    for (name, _) in cases() {
        let Some(outputs) = all.get(name) else {
            continue;
        };
        text.push_str(&format!("== {name}\n"));
        for (who, output) in outputs {
            text.push_str(&format!("-- {who}\n"));
            if !output.is_empty() {
                text.push_str(&format!("{output}\n"));
            }
        }
    }
    std::fs::write(expected_path(), text).expect("the source tree is writable");
}

/// A directory with the stock CLI under its usual name.
fn tools(engine: &Engine) -> PathBuf {
    let dir = engine.dir().join("tools");
    std::fs::create_dir_all(&dir).expect("a directory");
    let program = cli::docker_program();
    if program.is_absolute() {
        std::os::unix::fs::symlink(program, dir.join("docker")).expect("a link");
    }
    dir
}

struct Bench {
    engine: Engine,
    tools: PathBuf,
}

impl Bench {
    fn shell(&self, dir: &Path, name: &str, script: &str) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("bash")
            .arg("-c")
            .arg(format!("exec 2>&1\n{PRELUDE}{script}"))
            .current_dir(dir)
            .env("PATH", format!("{}:{path}", self.tools.display()))
            .env("DOCKER_HOST", self.engine.host())
            .env("DOCKER_CONFIG", self.engine.dir().join("cli"))
            .env("DOCKER_CLI_HINTS", "false")
            .env("C", name)
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn run(&self, index: usize, script: &str) -> String {
        let dir = self.engine.dir().join("case");
        std::fs::create_dir_all(&dir).expect("a directory");
        let name = format!("case-{index}");
        let output = self.shell(&dir, &name, script);
        self.shell(&dir, &name, CLEAN);
        std::fs::remove_dir_all(&dir).expect("the case's files");
        self.same_everywhere(&output, &dir)
    }

    /// Paths and ids are others each time.
    fn same_everywhere(&self, output: &str, dir: &Path) -> String {
        let output = output.replace(dir.to_str().expect("a plain path"), "$PWD");
        let root = self.engine.data_root().to_str().expect("a plain path");
        let output = without_ids(&output.replace(root, "$DATA"));
        // The stock CLI logs how its own archiver ended.
        let lines = output.lines().filter(|line| !line.starts_with("time=\""));
        let lines: Vec<&str> = lines.map(str::trim_end).collect();
        lines.join("\n").trim_end_matches('\n').to_owned()
    }
}

/// 64 hexadecimal digits in a row are an id.
fn without_ids(text: &str) -> String {
    let (mut out, mut digits) = (String::new(), String::new());
    let end = |digits: &mut String, out: &mut String| {
        let whole = digits.len() / 64;
        out.push_str(&"<id>".repeat(whole));
        out.push_str(&digits[whole * 64..]);
        digits.clear();
    };
    for c in text.chars() {
        if c.is_ascii_digit() || ('a'..='f').contains(&c) {
            digits.push(c);
        } else {
            end(&mut digits, &mut out);
            out.push(c);
        }
    }
    end(&mut digits, &mut out);
    out
}

#[test]
fn files_are_handled_as_recorded() {
    assert!(
        cases().len() >= 120,
        "the table has {} cases",
        cases().len()
    );
    let engine = Engine::start();
    let me = if engine.is_reference() {
        "dockerd"
    } else {
        "wharf"
    };
    let bench = Bench {
        tools: tools(&engine),
        engine,
    };
    let record = std::env::var_os("WHARF_E2E_RECORD").is_some();
    let mut expected = read_expected();
    let mut different = Vec::new();
    for (index, (name, script)) in cases().into_iter().enumerate() {
        let output = bench.run(index, script);
        let known = expected.entry(name.to_owned()).or_default();
        if known.get(me).or_else(|| known.get("both")) == Some(&output) {
            continue;
        }
        if record {
            note(known, me, output);
        } else {
            let wanted = known.get(me).or_else(|| known.get("both"));
            different.push(format!(
                "== {name}\n-- expected\n{}\n-- seen\n{output}",
                wanted.map_or("(nothing recorded)", String::as_str)
            ));
        }
    }
    if record {
        write_expected(&expected);
    }
    assert!(
        different.is_empty(),
        "{} of {} cases:\n{}",
        different.len(),
        cases().len(),
        different.join("\n")
    );
}

fn note(known: &mut BTreeMap<String, String>, me: &str, output: String) {
    let other = if me == "wharf" { "dockerd" } else { "wharf" };
    let others = known.remove("both").or_else(|| known.get(other).cloned());
    if others.as_ref() == Some(&output) {
        known.clear();
        known.insert("both".into(), output);
        return;
    }
    if let Some(others) = others {
        known.insert(other.into(), others);
    }
    known.insert(me.into(), output);
}
