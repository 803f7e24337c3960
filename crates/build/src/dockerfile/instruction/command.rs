//! Command lines in shell or exec form.

use super::super::heredoc::{self, Heredoc};

/// What `RUN`, `CMD` and `ENTRYPOINT` are given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// Words of the exec form, or the one text of the shell form; empty if nothing was given.
    pub words: Vec<String>,
    /// The shell form: the stage's shell runs it.
    pub shell: bool,
    /// Here-documents, in order.
    pub heredocs: Vec<Heredoc>,
}

/// A script that a lone here-document with a `#!` line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Name of its file.
    pub name: String,
    /// What is in it.
    pub content: String,
}

impl CommandLine {
    /// The words to execute, given the stage's shell. A lone here-document is the script itself; with a command before it, the shell
    /// gets command and here-document as they were written.
    pub fn resolve(&self, shell: &[String]) -> Vec<String> {
        if !self.shell {
            return self.words.clone();
        }
        let mut words = shell.to_vec();
        words.extend(self.text());
        words
    }

    /// The shell's text; nothing if there is no command.
    fn text(&self) -> Option<String> {
        let command = self.words.first()?;
        let Some(first) = self.heredocs.first() else {
            return Some(command.clone());
        };
        if self.is_lone_heredoc() {
            return Some(first.text());
        }
        let mut text = command.clone();
        for doc in &self.heredocs {
            text.push('\n');
            text.push_str(&doc.content);
            text.push_str(&doc.name);
        }
        Some(text)
    }

    /// The script that is to be executed as a file, if this is one.
    pub fn script(&self) -> Option<Script> {
        let first = self.heredocs.first()?;
        (self.is_lone_heredoc() && first.content.starts_with("#!")).then(|| Script {
            name: first.name.clone(),
            content: first.text(),
        })
    }

    fn is_lone_heredoc(&self) -> bool {
        self.shell
            && self
                .words
                .first()
                .is_some_and(|word| matches!(heredoc::parse(word), Ok(Some(_))))
    }
}

#[cfg(test)]
mod tests {
    use crate::dockerfile::instruction::Instruction;
    use crate::dockerfile::parse;

    fn resolved(text: &str) -> Vec<String> {
        let file = parse(&format!("FROM x\n{text}")).expect(text);
        let Instruction::Run(run) = &file.stages[0].steps[0].instruction else {
            panic!("no RUN");
        };
        run.command.resolve(&["sh".to_owned(), "-c".to_owned()])
    }

    #[test]
    fn heredocs_become_shell_text() {
        let rows: &[(&str, &[&str])] = &[
            ("RUN a  b", &["sh", "-c", "a  b"]),
            ("RUN [\"a\", \"b\"]", &["a", "b"]),
            ("RUN <<E\na\nb\nE\n", &["sh", "-c", "a\nb\n"]),
            ("RUN <<-E\n\ta\n\tE\n", &["sh", "-c", "a\n"]),
            ("RUN cat <<E\na\nE\n", &["sh", "-c", "cat <<E\na\nE"]),
            (
                "RUN cat <<A <<B\na\nA\nb\nB\n",
                &["sh", "-c", "cat <<A <<B\na\nA\nb\nB"],
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(resolved(text), *expected, "{text}");
        }
    }

    #[test]
    fn a_script_has_its_own_interpreter() {
        let file = parse("FROM x\nRUN <<E\n#!/usr/bin/env python\nprint()\nE\n").expect("parses");
        let Instruction::Run(run) = &file.stages[0].steps[0].instruction else {
            panic!("no RUN");
        };
        let script = run.command.script().expect("a script");
        assert_eq!(script.content, "#!/usr/bin/env python\nprint()\n");
    }
}
