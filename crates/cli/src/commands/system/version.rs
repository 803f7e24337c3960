//! `version`

use serde_json::{Value, json};
use wharf_api::system::{Component, Version};

use crate::client::request::Request;
use crate::client::{API_VERSION, ClientError};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::table::{Layout, align};
use wharf_template::{Data, Template, TemplateError};

/// `version`
///
/// # Errors
/// No daemon answers; what is known of the client is printed all the same.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let server: Result<Version, ClientError> = session.client.json(Request::get("/version"));
    let format = match matches.text_or_empty("format") {
        "json" => "{{json .}}",
        format => format,
    };
    if format.is_empty() {
        print::out(&text(session, server.as_ref().ok()))?;
    } else {
        print::out_line(&formatted(session, format, server.as_ref().ok())?)?;
    }
    server.map(drop).map_err(Failure::from)
}

fn formatted(session: &Session, format: &str, server: Option<&Version>) -> Result<String, Failure> {
    // This template has a name of its own in Docker's client.
    let named = |error: &TemplateError| {
        error
            .to_string()
            .replacen("template: :", "template: version:", 1)
            .replacen("executing \"\"", "executing \"version\"", 1)
    };
    let template = Template::parse(format).map_err(|error| {
        Failure::with_code(64, format!("template parsing error: {}", named(&error)))
    })?;
    let value = value(session, server);
    let renamed = |parent: Option<&str>, name: &str| {
        let map = value
            .get(parent.filter(|parent| !parent.is_empty())?)?
            .as_object()?;
        map.iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    };
    let rendered = template.render(&Data::row(&value, "system.versionInfo").with_absent(&renamed));
    rendered.or_else(|error| {
        print::out_line("")?;
        Err(Failure::new(typed(&named(&error))))
    })
}

/// A field that is not there, in the words for the types that Docker's client has here.
fn typed(error: &str) -> String {
    let Some((before, field)) = error.split_once("map has no entry for key ") else {
        return error.to_owned();
    };
    let type_name = match before.contains("<.Server.") {
        true => "*types.Version",
        false => "system.clientVersion",
    };
    let field = field.trim_matches('"');
    format!("{before}can't evaluate field {field} in type {type_name}")
}

/// The Go names of the machine's architecture, as the daemon uses them.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn api_version(session: &Session) -> String {
    let version = session.client.version_or_own();
    if version == API_VERSION {
        version.to_owned()
    } else {
        format!("{version} (downgraded from {API_VERSION})")
    }
}

fn value(session: &Session, server: Option<&Version>) -> Value {
    json!({
        "Client": {
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": session.client.version_or_own(),
            "DefaultAPIVersion": API_VERSION,
            "GitCommit": "",
            "GoVersion": "",
            "Os": std::env::consts::OS,
            "Arch": architecture(),
            "BuildTime": "",
            "Context": session.context,
        },
        "Server": server.map(|server| serde_json::to_value(server).unwrap_or_default()),
    })
}

fn text(session: &Session, server: Option<&Version>) -> String {
    let mut out = format!(
        "Client: Wharf\n Version:\t{}\n API version:\t{}\n OS/Arch:\t{}/{}\n Context:\t{}\n",
        env!("CARGO_PKG_VERSION"),
        api_version(session),
        std::env::consts::OS,
        architecture(),
        session.context,
    );
    let Some(server) = server else {
        return align(&out, LAYOUT);
    };
    let name = if server.platform.name.is_empty() {
        String::new()
    } else {
        format!(" {}", server.platform.name)
    };
    out.push_str(&format!("\nServer:{name}\n"));
    for component in &server.components {
        if component.name == "Engine" {
            engine(&mut out, component);
        } else {
            out.push_str(&format!(
                " {}:\n  Version:\t{}\n",
                component.name, component.version
            ));
            if let Some(commit) = component.details.get("GitCommit") {
                out.push_str(&format!("  GitCommit:\t{commit}\n"));
            }
        }
    }
    align(&out, LAYOUT)
}

const LAYOUT: Layout = Layout {
    min_width: 20,
    padding: 1,
};

fn engine(out: &mut String, component: &Component) {
    let detail = |name: &str| component.details.get(name).map_or("", String::as_str);
    out.push_str(&format!(
        " Engine:\n  Version:\t{}\n  API version:\t{} (minimum version {})\n  Go version:\t{}\n  Git commit:\t{}\n  \
         Built:\t{}\n  OS/Arch:\t{}/{}\n  Experimental:\t{}\n",
        component.version,
        detail("ApiVersion"),
        detail("MinAPIVersion"),
        detail("GoVersion"),
        detail("GitCommit"),
        built(detail("BuildTime")),
        detail("Os"),
        detail("Arch"),
        detail("Experimental"),
    ));
}

/// A build time as the C library writes one.
fn built(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => at
            .to_zoned(jiff::tz::TimeZone::UTC)
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
        Err(_) => text.to_owned(),
    }
}
