//! Whatever the bytes, parsing ends with a value or an error.

use proptest::prelude::*;
use wharf_build::dockerfile::expand::Expander;
use wharf_build::dockerfile::{excerpt, parse};
use wharf_build::ignore::Patterns;
use wharf_build::lint::{Facts, check};

/// Pieces that Dockerfiles are made of, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "FROM ",
            "RUN ",
            "COPY ",
            "ADD ",
            "ENV ",
            "ARG ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "CMD ",
            "SHELL ",
            "LABEL ",
            "EXPOSE ",
            "VOLUME ",
            "a",
            "b=c",
            " AS x",
            "--mount=type=cache,target=/x ",
            "--from=a ",
            "--",
            "[\"a\"",
            "]",
            "\"",
            "'",
            "\\",
            "`",
            "\n",
            "\r\n",
            "\\\n",
            "<<EOF",
            "<<-'E F'",
            "EOF\n",
            "\t",
            " ",
            "# ",
            "# escape=`\n",
            "# check=skip=all\n",
            "${",
            "}",
            ":-",
            "$x",
            "#",
            "%",
            "/",
            "=",
            "\u{feff}",
            "ä",
            "\0",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,3}".prop_map(|text| text),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsing_never_panics(text in pieces()) {
        match parse(&text) {
            Ok(file) => {
                let _ = check(&file, &Facts::default());
                for stage in &file.stages {
                    for step in &stage.steps {
                        let _ = step.instruction.expand(file.escape, &|name| (name == "x").then(|| "v w".to_owned()));
                    }
                }
            }
            Err(error) => {
                let _ = excerpt("Dockerfile", &text, error.lines);
            }
        }
    }

    #[test]
    fn expansion_never_panics(text in pieces()) {
        let _ = Expander::new('\\').expand(&text, &|_| Some("a/b.c".to_owned()));
        let _ = Expander::heredoc('`').expand(&text, &|_| None);
    }

    #[test]
    fn text_without_special_characters_is_left_alone(text in "[a-zA-Z0-9_.:/=-]{0,40}") {
        prop_assert_eq!(Expander::new('\\').word(&text, &|_| None).ok(), Some(text));
    }

    #[test]
    fn ignore_patterns_never_panic(pattern in "[a-c*?/\\[\\]^!\\\\.-]{0,12}", path in "[a-c/.]{1,12}") {
        if let Ok(patterns) = Patterns::new(&[pattern]) {
            let _ = patterns.excludes(&path);
            let _ = patterns.may_take_back_below(&path);
        }
    }
}
