//! The manual, section 1, made of the command table: one page for the program, each group and each command.

use super::spec::{Command, Flag};
use crate::commands;

/// A page: the name of its file and what is in it.
pub type Page = (String, String);

/// Every page.
pub fn pages(program: &str) -> Vec<Page> {
    let mut pages = vec![overview(program)];
    pages.extend(commands::GROUPS.iter().map(|group| {
        let title = format!("{program} {}", group.name);
        let mut page = Writer::new(&title, group.about);
        page.synopsis(&title, "COMMAND");
        page.commands(program, &format!("{} ", group.name));
        page.file()
    }));
    pages.extend(commands::all().flat_map(|command| {
        let own = command
            .paths
            .iter()
            .map(|path| page(program, path, command));
        own.collect::<Vec<_>>()
    }));
    pages
}

fn overview(program: &str) -> Page {
    let mut page = Writer::new(program, "a container engine");
    page.synopsis(program, "[OPTIONS] COMMAND");
    page.heading("DESCRIPTION");
    page.line("Builds images, and runs, connects and looks after containers. Commands, flags and output are those of Docker's client.");
    page.options(commands::GLOBALS.iter());
    page.commands(program, "");
    page.heading("ENVIRONMENT");
    for (name, about) in [
        (
            "DOCKER_HOST",
            "The daemon's address; wins over a context that is in use.",
        ),
        ("DOCKER_CONTEXT", "The context in use."),
        (
            "DOCKER_CONFIG",
            "The directory of config.json and contexts, instead of ~/.docker.",
        ),
        (
            "DOCKER_CERT_PATH",
            "The directory of ca.pem, cert.pem and key.pem.",
        ),
        ("DOCKER_TLS_VERIFY", "Use TLS and verify the daemon."),
        ("DOCKER_API_VERSION", "The version of the API to speak."),
        (
            "DOCKER_DEFAULT_PLATFORM",
            "The platform of images when none is named.",
        ),
        (
            "WHARF_SSH_COMMAND",
            "The program that ssh:// hosts run over there, instead of docker.",
        ),
        ("WHARF_NO_DAEMON", "Start no daemon when none answers."),
    ] {
        page.entry(name, about);
    }
    page.file()
}

fn page(program: &str, path: &str, command: &Command) -> Page {
    let title = format!("{program} {path}");
    let mut page = Writer::new(&title, command.about);
    page.synopsis(&title, command.usage.lines().next().unwrap_or_default());
    page.heading("DESCRIPTION");
    page.line(command.about);
    page.options(command.all_flags());
    let others: Vec<String> = command
        .paths
        .iter()
        .filter(|other| *other != &path)
        .map(|other| format!("{program} {other}"))
        .collect();
    if !others.is_empty() {
        page.heading("ALIASES");
        page.line(&others.join(", "));
    }
    page.heading("SEE ALSO");
    page.line(&format!("{program}(1)"));
    page.file()
}

struct Writer {
    name: String,
    text: String,
}

impl Writer {
    fn new(title: &str, about: &str) -> Writer {
        let name = title.replace(' ', "-");
        let mut page = Writer {
            text: format!(
                ".TH \"{}\" 1 \"\" \"wharf {}\"\n",
                escape(&name.to_uppercase()),
                env!("CARGO_PKG_VERSION")
            ),
            name,
        };
        page.heading("NAME");
        let line = format!("{} \\- {}\n", escape(&page.name), escape(about));
        page.text.push_str(&line);
        page
    }

    fn heading(&mut self, text: &str) {
        self.text.push_str(&format!(".SH {text}\n"));
    }

    /// A line of text, which may not look like a request.
    fn line(&mut self, text: &str) {
        for line in text.lines() {
            let guard = if line.starts_with(['.', '\'']) {
                "\\&"
            } else {
                ""
            };
            self.text
                .push_str(&format!("{guard}{}\n.br\n", escape(line.trim_end())));
        }
    }

    fn synopsis(&mut self, title: &str, usage: &str) {
        self.heading("SYNOPSIS");
        self.text
            .push_str(&format!("\\fB{}\\fR {}\n", escape(title), escape(usage)));
    }

    fn entry(&mut self, head: &str, about: &str) {
        self.text
            .push_str(&format!(".TP\n\\fB{}\\fR\n", escape(head)));
        self.line(about);
    }

    fn options<'a>(&mut self, flags: impl Iterator<Item = &'a Flag>) {
        let mut flags: Vec<&Flag> = flags.filter(|flag| !flag.hidden).collect();
        flags.sort_by_key(|flag| flag.name);
        if flags.is_empty() {
            return;
        }
        self.heading("OPTIONS");
        for flag in flags {
            let letter = flag.short.map(|letter| format!("-{letter}, "));
            let value = if flag.value.is_empty() { "" } else { "=" };
            let letter = letter.unwrap_or_default();
            let default = match flag.default {
                "" => String::new(),
                default => format!(" (default {default})"),
            };
            self.entry(
                &format!("{letter}--{}{value}{}", flag.name, flag.value),
                &format!("{}{default}", flag.about),
            );
        }
    }

    /// The commands whose names begin so, and the groups.
    fn commands(&mut self, program: &str, prefix: &str) {
        self.heading("COMMANDS");
        let mut rows: Vec<(String, &str)> = match prefix {
            "" => commands::top_level()
                .map(|(name, command)| (name.to_owned(), command.about))
                .collect(),
            prefix => commands::of_group(prefix.trim_end())
                .map(|(name, command)| (format!("{prefix}{name}"), command.about))
                .collect(),
        };
        let groups = commands::GROUPS.iter().filter_map(|group| {
            let rest = group.name.strip_prefix(prefix)?;
            (!rest.contains(' ')).then(|| (group.name.to_owned(), group.about))
        });
        rows.extend(groups);
        rows.sort_unstable();
        for (path, about) in rows {
            self.entry(&format!("{program}-{}(1)", path.replace(' ', "-")), about);
        }
    }

    fn file(self) -> Page {
        (format!("{}.1", self.name), self.text)
    }
}

/// Backslashes and hyphens as roff wants them.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages("wharf");
        for name in [
            "wharf.1",
            "wharf-run.1",
            "wharf-container-run.1",
            "wharf-context.1",
            "wharf-trust-key.1",
        ] {
            let (_, text) = pages.iter().find(|(file, _)| file == name).expect(name);
            assert!(text.starts_with(".TH \"WHARF"), "{text}");
            assert!(!text.lines().any(|line| line.starts_with('\'')), "{text}");
        }
        let (_, run) = pages
            .iter()
            .find(|(file, _)| file == "wharf-run.1")
            .expect("there");
        assert!(run.contains("\\fB\\-p, \\-\\-publish=list\\fR"), "{run}");
    }
}
