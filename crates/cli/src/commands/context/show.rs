//! `context ls`, `inspect`, `show`

use serde_json::{Map, Value, json};

use super::edit;
use crate::commands::inspect as objects;
use crate::commands::listing::{Listing, Row};
use crate::context::store::Store;
use crate::context::{DEFAULT, env};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;

const CONTEXTS: Listing = Listing {
    type_name: "*formatter.clientContextContext",
    headers: &[
        ("Name", "NAME"),
        ("Current", ""),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
    ],
    table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet: "{{.Name}}",
    raw: None,
};

/// `context show`
///
/// # Errors
/// Standard output cannot be written.
pub fn current(session: &Session, _: &Matches) -> Result<(), Failure> {
    print::out_line(&session.context)
}

/// `context ls`
///
/// # Errors
/// A context cannot be read, or the format does not fit.
pub fn ls(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let store = session.contexts()?;
    let mut rows = vec![(
        DEFAULT.to_owned(),
        row(
            session,
            DEFAULT,
            "Current DOCKER_HOST based configuration",
            &Ok(edit::default_host(session)),
        ),
    )];
    for context in store.list().map_err(Failure::new)? {
        let row = row(
            session,
            &context.name,
            context.description(),
            &context.host(),
        );
        rows.push((context.name, row));
    }
    if !rows.iter().any(|(name, _)| *name == session.context) {
        let missing = store.get(&session.context).map(|_| String::new());
        let row = row(session, &session.context, "", &missing);
        rows.push((session.context.clone(), row));
    }
    rows.sort_by_key(|(name, _)| natural(name));
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let format = matches.text_or_empty("format");
    print::out(&CONTEXTS.render(format, matches.on("quiet"), &rows)?)?;
    if env("DOCKER_HOST").is_some() {
        print::error_line(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global \
             --context flag, or unset DOCKER_HOST environment variable.",
        );
    }
    Ok(())
}

fn row(session: &Session, name: &str, about: &str, host: &Result<String, String>) -> Row {
    let (host, error) = match host {
        Ok(host) => (host.as_str(), ""),
        Err(error) => ("", error.as_str()),
    };
    Row::new()
        .with("Current", name == session.context)
        .with("Description", about)
        .with("DockerEndpoint", host)
        .with("Error", error)
        .with("Name", name)
}

/// A key by which `a2` comes before `a10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0_u64)];
    let mut in_number = false;
    for c in name.chars() {
        let digit = c.to_digit(10);
        if digit.is_none() && in_number {
            parts.push((String::new(), 0));
        }
        in_number = digit.is_some();
        let Some((text, number)) = parts.last_mut() else {
            continue;
        };
        match digit {
            Some(digit) => *number = number.saturating_mul(10).saturating_add(u64::from(digit)),
            None => text.push(c),
        }
    }
    parts
}

/// `context inspect`
///
/// # Errors
/// One of them does not exist, or the template does not fit.
pub fn inspect(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let store = session.contexts()?;
    let names = match &*matches.args {
        [] => std::slice::from_ref(&session.context),
        names => names,
    };
    objects::local(names, matches, |name| describe(session, &store, name))
}

fn describe(session: &Session, store: &Store, name: &str) -> Result<String, String> {
    let context = edit::get(session, store, name).map_err(|failure| failure.message)?;
    let material: Map<String, Value> = store
        .tls(name)?
        .into_iter()
        .map(|(endpoint, files)| (endpoint, files.into_keys().collect()))
        .collect();
    let place = |path: std::path::PathBuf| match name {
        // As Go writes `<` and `>` into JSON.
        DEFAULT => "<IN MEMORY>".to_owned(),
        _ => path.display().to_string(),
    };
    let value = json!({
        "Name": context.name,
        "Metadata": context.metadata,
        "Endpoints": context.endpoints,
        "TLSMaterial": material,
        "Storage": {
            "MetadataPath": place(store.meta_directory(name)),
            "TLSPath": place(store.tls_directory(name)),
        },
    });
    Ok(wharf_api::gojson::to_string(&value))
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_sort_as_numbers() {
        let mut names = ["b", "a10", "a2", "a"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a", "a2", "a10", "b"]);
    }
}
