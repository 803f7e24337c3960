//! Our command line says what the stock one says: the lines of `lines.txt`, each with both CLIs against one daemon, must agree in standard
//! output, standard error and exit code. Ours is called `docker` for it, so that even its own name agrees.
//!
//! Only what the clock or chance makes is taken out: ages, and for lines that each CLI does to an object of its own, IDs and that name.
//!
//! The surface has a test of its own: every command and flag that the stock CLI's help knows is known to ours.

mod surface;

use std::path::{Path, PathBuf};
use std::process::Command;

use wharf_e2e::cli::{Output, Running, docker_program};
use wharf_e2e::engine::wharf_program;
use wharf_e2e::images::BUSYBOX;
use wharf_e2e::{Engine, Kind};

const LINES: &str = include_str!("lines.txt");

#[test]
fn every_line_says_what_the_stock_cli_says() {
    let engine = Engine::options().kind(Kind::Wharf).start();
    engine.load("busybox.tar");
    let scene = Scene::prepare(&engine);
    let lines: Vec<&str> = LINES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert!(lines.len() >= 150, "the table is cut: {}", lines.len());
    let differ: Vec<String> = lines
        .iter()
        .filter_map(|line| scene.difference(line))
        .collect();
    scene.clear();
    assert!(
        differ.is_empty(),
        "{} of {} lines differ:\n\n{}",
        differ.len(),
        lines.len(),
        differ.join("\n\n")
    );
}

/// Images, containers, networks and volumes that the lines talk about.
struct Scene<'a> {
    engine: &'a Engine,
    /// Our program under the name `docker`.
    ours: PathBuf,
    /// Where both run: a directory with nothing in it.
    place: PathBuf,
    /// A moment after all that was prepared.
    now: String,
}

impl<'a> Scene<'a> {
    fn prepare(engine: &'a Engine) -> Scene<'a> {
        let place = engine.dir().join("place");
        std::fs::create_dir_all(&place).expect("a directory");
        let ours = engine.dir().join("docker");
        std::os::unix::fs::symlink(absolute(&wharf_program()), &ours).expect("a name for ours");
        let idle = ["sleep", "100000"];
        engine.docker_ok(&["tag", BUSYBOX, "busybox:latest"]);
        engine.docker_ok(&[
            "network",
            "create",
            "--label",
            "tier=x",
            "--subnet",
            "10.77.0.0/24",
            "inner",
        ]);
        engine.docker_ok(&["volume", "create", "--label", "tier=x", "data"]);
        engine.docker_ok(&["volume", "create", "spare"]);
        engine.docker_ok(&["create", "--name", "base", "busybox"]);
        let (back, command) = ("LABEL tier=back", "CMD [\"sh\"]");
        engine.docker_ok(&[
            "commit",
            "-c",
            back,
            "-c",
            command,
            "-a",
            "me",
            "-m",
            "words",
            "base",
            "own/app:1",
        ]);
        engine.docker_ok(&["rm", "base"]);
        let web = "run -d --name web --network inner -p 127.0.0.1:8080:80 -v data:/data --label tier=front -e A=b --memory 64m \
                   --stop-timeout 1 busybox";
        engine.docker_ok(&[web.split_whitespace().collect(), idle.to_vec()].concat());
        let worker =
            "run -d --name worker --network none --label tier=back --stop-signal KILL own/app:1";
        engine.docker_ok(&[worker.split_whitespace().collect(), idle.to_vec()].concat());
        let script = "echo one; echo two >&2; echo three; touch /made; rm /bin/vi; exit 3";
        let done = [
            "run",
            "--name",
            "done",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            script,
        ];
        assert_eq!(engine.docker(&done).code, 3);
        engine.docker_ok(&["create", "--name", "fresh", "busybox", "true"]);
        for twin in ["twin-d", "twin-w"] {
            let twin = [
                "run",
                "-d",
                "--name",
                twin,
                "--network",
                "none",
                "--stop-signal",
                "KILL",
                "busybox",
            ];
            engine.docker_ok(&[twin.as_slice(), &idle].concat());
        }
        let host = format!("host={}", engine.host());
        engine.docker_ok(&[
            "context",
            "create",
            "here",
            "--docker",
            &host,
            "--description",
            "this one",
        ]);
        let now = engine.docker_ok(&["info", "--format", "{{.SystemTime}}"]);
        Scene {
            engine,
            ours,
            place,
            now,
        }
    }

    /// Both answers, if they are not the same.
    fn difference(&self, line: &str) -> Option<String> {
        let theirs = self.run(&docker_program(), line, "d");
        let ours = self.run(&self.ours, line, "w");
        (theirs != ours).then(|| format!("{line}\n  docker: {theirs:?}\n  wharf:  {ours:?}"))
    }

    fn run(&self, program: &Path, line: &str, letter: &str) -> Output {
        let line_of_its_own = line.replace('@', letter).replace("{now}", &self.now);
        let mut command = Command::new(program);
        command
            .args(words(&line_of_its_own))
            .current_dir(&self.place)
            .env("DOCKER_CONFIG", self.engine.dir().join("cli"))
            .env("DOCKER_CLI_HINTS", "false")
            .env("TZ", "UTC");
        for variable in [
            "DOCKER_CONTEXT",
            "DOCKER_API_VERSION",
            "DOCKER_TLS_VERIFY",
            "DOCKER_HOST",
        ] {
            command.env_remove(variable);
        }
        // A host that the line names is not to be overruled.
        if !line.starts_with('-') {
            command.env("DOCKER_HOST", self.engine.host());
        }
        let output = Running::start(&mut command).finish();
        let plain = |text: &str| normal(text, line.contains('@').then_some(letter));
        Output {
            code: output.code,
            stdout: plain(&output.stdout),
            stderr: plain(&output.stderr),
        }
    }

    fn clear(&self) {
        let all = self.engine.docker_ok(&["ps", "-aq"]);
        let all: Vec<&str> = all.lines().collect();
        self.engine.docker_ok(&[&["rm", "-fv"], &*all].concat());
        self.engine.docker_ok(&["network", "rm", "inner"]);
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).expect("the program is there")
}

/// A line's words, by a shell's rules for quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Takes out what cannot be the same twice.
fn normal(text: &str, letter: Option<&str>) -> String {
    let text = if text.split([' ', '\n']).any(is_unit) {
        let lines: Vec<String> = text.split('\n').map(without_ages).collect();
        lines.join("\n")
    } else {
        text.to_owned()
    };
    let Some(letter) = letter else {
        return text;
    };
    let own = format!("-{letter}");
    let mut out = String::new();
    let mut token = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() || c == '-' {
            token.push(c);
            continue;
        }
        let is_id = matches!(token.len(), 12 | 64) && token.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id {
            out.push_str("ID");
        } else {
            match token.strip_suffix(&own) {
                Some(name) => out.push_str(&format!("{name}-@")),
                None => out.push_str(&token),
            }
        }
        token.clear();
        out.push(c);
    }
    out
}

fn is_unit(word: &str) -> bool {
    const UNITS: [&str; 6] = ["second", "seconds", "minute", "minutes", "hour", "hours"];
    UNITS.contains(&word.trim_end_matches(|c: char| !c.is_alphabetic()))
}

/// One word for an age (`5 seconds`, `About a minute`, `Less than a second`), and one blank for the columns that ages push around.
fn without_ages(line: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for word in line.split(' ').filter(|word| !word.is_empty()) {
        if !is_unit(word) {
            out.push(word);
            continue;
        }
        let of_age = |word: &&str| {
            matches!(*word, "a" | "an" | "About" | "Less" | "than")
                || word.bytes().all(|b| b.is_ascii_digit())
        };
        while out.last().is_some_and(of_age) {
            out.pop();
        }
        out.push("AGE");
    }
    out.join(" ")
}

#[test]
fn what_is_taken_out() {
    assert_eq!(words("a 'b  c' \"\" d'e'"), ["a", "b  c", "", "de"]);
    for (text, letter, expected) in [
        ("x   5 seconds ago   y", None, "x AGE ago y"),
        ("Up About a minute   y", None, "Up AGE y"),
        ("Up Less than a second", None, "Up AGE"),
        ("a   b", None, "a   b"),
        (
            "twin-w --with 0123456789ab",
            Some("w"),
            "twin-@ --with ID\n",
        ),
    ] {
        assert_eq!(normal(text, letter), expected, "{text}");
    }
}
