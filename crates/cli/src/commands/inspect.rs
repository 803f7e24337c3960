//! `inspect`, of anything and of each kind of object.

use serde_json::Value;

use super::{Flag, text};
use crate::client::ClientError;
use crate::client::request::Request;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::json;
use wharf_template::{Data, Template};

/// The flag as inspect commands have it.
pub const FORMAT: Flag = text(
    "format",
    "Format output using a custom template:\n'json':             Print in JSON format\n\
     'TEMPLATE':         Print output using the given Go template",
)
.short('f');

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
    Plugin,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Network => "network",
            Kind::Volume => "volume",
            Kind::Plugin => "plugin",
        }
    }
}

/// `container inspect`
///
/// # Errors
/// One of them does not exist, or the template does not fit.
pub fn containers(session: &Session, matches: &Matches) -> Result<(), Failure> {
    inspect(session, matches, |name| {
        get(session, Kind::Container, name, matches)
    })
}

/// `image inspect`
///
/// # Errors
/// One of them does not exist, or the template does not fit.
pub fn images(session: &Session, matches: &Matches) -> Result<(), Failure> {
    inspect(session, matches, |name| {
        get(session, Kind::Image, name, matches)
    })
}

/// `network inspect`
///
/// # Errors
/// One of them does not exist, or the template does not fit.
pub fn networks(session: &Session, matches: &Matches) -> Result<(), Failure> {
    inspect(session, matches, |name| {
        get(session, Kind::Network, name, matches)
    })
}

/// `volume inspect`
///
/// # Errors
/// One of them does not exist, or the template does not fit.
pub fn volumes(session: &Session, matches: &Matches) -> Result<(), Failure> {
    inspect(session, matches, |name| {
        get(session, Kind::Volume, name, matches)
    })
}

/// `inspect`
///
/// # Errors
/// The type is none, an object does not exist, or the template does not fit.
pub fn any(session: &Session, matches: &Matches) -> Result<(), Failure> {
    const ALL: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];
    if let Some(name) = matches.args.iter().find(|name| name.is_empty()) {
        return empty(Kind::Container, name, matches);
    }
    let kinds: Vec<Kind> = match matches.text_or_empty("type") {
        "" if matches.given("type") => {
            return Err(Failure::new(
                "type is empty: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\"",
            ));
        }
        "" => ALL.to_vec(),
        "container" => vec![Kind::Container],
        "image" => vec![Kind::Image],
        "network" => vec![Kind::Network],
        "volume" => vec![Kind::Volume],
        "plugin" => vec![Kind::Plugin],
        other => {
            return Err(Failure::new(format!(
                "unknown type: {}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \
                 \"secret\", \"service\", \"task\", \"volume\"",
                crate::flags::parse::quote(other)
            )));
        }
    };
    let one_kind = kinds.len() == 1;
    inspect(session, matches, |name| {
        for kind in &kinds {
            match get(session, *kind, name, matches) {
                Err(error) if error.status() == Some(404) && !one_kind => {}
                found => {
                    if found.is_ok() && matches.on("size") && *kind != Kind::Container {
                        let kind = kind.word();
                        print::error_line(&format!("WARNING: --size ignored for {kind}"));
                    }
                    return found;
                }
            }
        }
        Err(ClientError::Malformed(format!(
            "Error: No such object: {name}"
        )))
    })
}

/// `plugin inspect`
///
/// # Errors
/// One of them does not exist, or the template does not fit.
pub fn plugins(session: &Session, matches: &Matches) -> Result<(), Failure> {
    inspect(session, matches, |name| {
        get(session, Kind::Plugin, name, matches)
    })
}

/// A name that is empty would ask for a list.
fn no_name(kind: Kind, name: &str) -> ClientError {
    ClientError::Malformed(match kind {
        Kind::Image => format!("Error: No such image: {name}"),
        kind => format!("invalid {} name or ID: value is empty", kind.word()),
    })
}

fn empty(kind: Kind, name: &str, matches: &Matches) -> Result<(), Failure> {
    print::out_line(if matches.text_or_empty("format").is_empty() {
        "[]"
    } else {
        ""
    })?;
    Err(no_name(kind, name).into())
}

fn get(
    session: &Session,
    kind: Kind,
    name: &str,
    matches: &Matches,
) -> Result<String, ClientError> {
    if name.trim().is_empty() {
        return Err(no_name(kind, name));
    }
    let request = match kind {
        Kind::Container => Request::get(format!("/containers/{name}/json")).query_if(
            matches.on("size"),
            "size",
            "1",
        ),
        Kind::Image => {
            let platform = matches.text_or_empty("platform");
            Request::get(format!("/images/{name}/json")).query_if(
                !platform.is_empty(),
                "platform",
                platform,
            )
        }
        Kind::Network => Request::get(format!("/networks/{name}")).query_if(
            matches.on("verbose"),
            "verbose",
            "true",
        ),
        Kind::Volume => Request::get(format!("/volumes/{name}")),
        Kind::Plugin => Request::get(format!("/plugins/{name}/json")),
    };
    session.client.text(request)
}

/// Prints what is found, and then what is not.
fn inspect(
    session: &Session,
    matches: &Matches,
    get: impl Fn(&str) -> Result<String, ClientError>,
) -> Result<(), Failure> {
    let _ = session;
    local(&matches.args, matches, |name| {
        get(name).map_err(|error| error.to_string())
    })
}

/// The same for what is not asked of a daemon.
///
/// # Errors
/// One of them does not exist, or the template does not fit.
pub fn local(
    names: &[String],
    matches: &Matches,
    get: impl Fn(&str) -> Result<String, String>,
) -> Result<(), Failure> {
    let format = matches.text_or_empty("format");
    let template = (!format.is_empty() && format != "json")
        .then(|| Template::parse(format))
        .transpose()
        .map_err(|error| Failure::with_code(64, format!("template parsing error: {error}")))?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match get(name) {
            Ok(text) => found.push(text),
            Err(error) => errors.push(error),
        }
    }
    let out = match &template {
        None if format == "json" => format!(
            "[{}]\n",
            found
                .iter()
                .map(|text| text.trim())
                .collect::<Vec<_>>()
                .join(",")
        ),
        None => json::indent(&format!("[{}]", found.join(","))) + "\n",
        Some(template) => {
            let mut out = String::new();
            for text in &found {
                match render(template, text) {
                    Ok(text) => out.push_str(&(text + "\n")),
                    Err(failure) => {
                        print::out(&(out + "\n"))?;
                        return Err(failure);
                    }
                }
            }
            if found.is_empty() { "\n".into() } else { out }
        }
    };
    print::out(&out)?;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

fn render(template: &Template, text: &str) -> Result<String, Failure> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Failure::new(format!("unexpected answer: {error}")))?;
    let absent = |parent: Option<&str>, name: &str| absent(&value, parent, name);
    template
        .render(&Data::value(&value).with_absent(&absent))
        .map_err(|error| Failure::new(format!("template parsing error: {error}")))
}

/// Fields that the daemon leaves out when they are empty, and that templates may ask for all the same, since they are
/// fields of Docker's types.
const ABSENT: &[(&str, &str, &str)] = &[
    ("State", "Health", "null"),
    ("Config", "Healthcheck", "null"),
    ("Config", "StopSignal", "\"\""),
    ("Config", "StopTimeout", "null"),
    ("Config", "Shell", "null"),
    ("Config", "ExposedPorts", "null"),
    ("Config", "ArgsEscaped", "false"),
    ("Config", "MacAddress", "\"\""),
    ("Config", "NetworkDisabled", "false"),
    ("HostConfig", "Mounts", "null"),
    ("HostConfig", "Tmpfs", "null"),
    ("HostConfig", "Sysctls", "null"),
    ("HostConfig", "StorageOpt", "null"),
    ("HostConfig", "Annotations", "null"),
    ("HostConfig", "Init", "null"),
    ("HostConfig", "Runtime", "\"\""),
    ("", "SizeRw", "null"),
    ("", "SizeRootFs", "null"),
    ("", "Variant", "\"\""),
    ("", "OsVersion", "\"\""),
];

fn absent(root: &Value, parent: Option<&str>, name: &str) -> Option<Value> {
    // Sizes are a container's, variants an image's: an object of another kind has no such field.
    let belongs = match name {
        "SizeRw" | "SizeRootFs" => root.get("HostConfig").is_some(),
        "Variant" | "OsVersion" => root.get("RepoTags").is_some(),
        _ => true,
    };
    // Docker's types name some fields otherwise than its JSON does: `.ID` is `Id`, `.NanoCPUs` is `NanoCpus`.
    let object = match parent {
        Some("") => Some(root),
        Some(parent) => root.get(parent),
        None => None,
    };
    let renamed = object
        .and_then(Value::as_object)
        .and_then(|map| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)));
    if let Some((_, value)) = renamed.filter(|_| name.starts_with(|c: char| c.is_ascii_uppercase()))
    {
        return Some(value.clone());
    }
    ABSENT
        .iter()
        .find(|(known, field, _)| {
            belongs && *field == name && parent.is_none_or(|parent| parent == *known)
        })
        .and_then(|(.., default)| serde_json::from_str(default).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_out_fields_can_be_asked_for() {
        let text = r#"{"HostConfig":{},"State":{"Status":"running"},"Config":{}}"#;
        for (template, expected) in [
            (
                "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
                "none",
            ),
            (
                "{{.State.Health}}|{{.Config.StopSignal}}|{{.HostConfig.Init}}|{{.Config.ExposedPorts}}",
                "<nil>||<nil>|map[]",
            ),
            ("{{json .State}}", r#"{"Status":"running"}"#),
        ] {
            let template = Template::parse(template).expect("a template");
            assert_eq!(render(&template, text).expect("renders"), expected);
        }
    }
}
