//! Dockerfiles and what they mean, kept beside each other: `golden/<name>.Dockerfile` and `golden/<name>.txt`.
//!
//! With `UPDATE_GOLDEN=1` the expectations are written anew; the difference is then to be read like code.

use std::fmt::Write as _;
use std::path::Path;

use wharf_build::dockerfile::{Dockerfile, excerpt, parse};
use wharf_build::ignore::Patterns;
use wharf_build::lint::{Facts, check};

#[test]
fn dockerfiles_mean_what_they_meant() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of golden files") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_none_or(|extension| extension != "Dockerfile")
        {
            continue;
        }
        seen += 1;
        let source = std::fs::read_to_string(&path).expect("a Dockerfile");
        let described = describe(&source);
        let expected_path = path.with_extension("txt");
        if update {
            std::fs::write(&expected_path, &described).expect("the folder can be written to");
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if described != expected {
            wrong.push(format!("{}\n{described}", path.display()));
        }
    }
    assert!(seen > 50, "only {seen} golden files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn describe(source: &str) -> String {
    match parse(source) {
        Ok(file) => describe_file(&file),
        Err(error) => format!(
            "{}\n{}",
            error.message("Dockerfile"),
            excerpt("Dockerfile", source, error.lines)
        ),
    }
}

fn describe_file(file: &Dockerfile) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        writeln!(text, "{line}").expect("a string grows");
    };
    line(format!("escape {:?} {:?}", file.escape, file.directives));
    for step in &file.globals {
        line(format!(
            "{}-{} {:?}",
            step.lines.first, step.lines.last, step.instruction
        ));
    }
    for stage in &file.stages {
        line(format!(
            "{}-{} FROM {:?} as {:?} platform {:?} described {:?}",
            stage.lines.first,
            stage.lines.last,
            stage.base,
            stage.name,
            stage.platform,
            stage.description
        ));
        for step in &stage.steps {
            line(format!(
                "  {}-{} {:?}",
                step.lines.first, step.lines.last, step.instruction
            ));
        }
    }
    let facts = Facts {
        ignore: Some(Patterns::parse_file("ignored\n").expect("a pattern")),
        platform: wharf_spec::platform::Platform::parse("linux/amd64").expect("a platform"),
        ..Facts::default()
    };
    match check(file, &facts) {
        Ok(findings) => {
            for finding in findings {
                line(format!(
                    "lint {}: {} (line {})",
                    finding.rule.name, finding.message, finding.lines.first
                ));
            }
        }
        Err(error) => line(format!("lint: {error}")),
    }
    text
}
