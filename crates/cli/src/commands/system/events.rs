//! `events`

use std::io::{BufRead, BufReader};

use jiff::Timestamp;
use wharf_api::events::Event;

use crate::client::request::Request;
use crate::commands::filter;
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::print;
use crate::session::Session;
use crate::text::moment;
use wharf_template::{Data, Template};

/// `events`
///
/// # Errors
/// The daemon refuses, or the format does not fit.
pub fn run(session: &Session, matches: &Matches) -> Result<(), Failure> {
    let template = match matches.text_or_empty("format") {
        "" => None,
        "json" => Some(Template::parse("{{json .}}")),
        format => Some(Template::parse(format)),
    };
    let template = template
        .transpose()
        .map_err(|error| Failure::with_code(64, format!("Error parsing format: {error}")))?;
    if let Some(template) = &template {
        // Docker's client tries the format before it asks the daemon.
        let empty = Event::new("", "", wharf_api::events::Actor::default(), 0);
        match shown(&empty, Some(template)) {
            // Which attributes there are depends on the event.
            Err(failure) if !failure.message.contains("map has no entry") => {
                let message = format!("Error parsing format: {}", failure.message);
                return Err(Failure::with_code(64, message));
            }
            _ => {}
        }
    }
    let filters = filter::filters(matches);
    let mut request =
        Request::get("/events").query_if(!filters.is_empty(), "filters", filters.to_query());
    for name in ["since", "until"] {
        if let Some(text) = matches.text(name).filter(|text| !text.is_empty()) {
            let at = moment::parse(text, Timestamp::now()).map_err(Failure::new)?;
            request = request.query(name, at);
        }
    }
    let body = session.client.send(request)?.body;
    for line in BufReader::new(body).lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let event: Event = wharf_api::gojson::from_slice(line.as_bytes())
            .map_err(|error| Failure::new(format!("unexpected answer: {error}")))?;
        print::out(&(shown(&event, template.as_ref())? + "\n"))?;
    }
    Ok(())
}

fn shown(event: &Event, template: Option<&Template>) -> Result<String, Failure> {
    let Some(template) = template else {
        return Ok(plain(event));
    };
    let value = serde_json::to_value(event).map_err(|error| Failure::new(error.to_string()))?;
    // The names of the fields in Docker's type, which templates use, differ from those in JSON.
    let method = |name: &str, args: &[serde_json::Value]| {
        let key = match name {
            "Status" => "status",
            "ID" => "id",
            "From" => "from",
            "Time" => "time",
            "TimeNano" => "timeNano",
            "Scope" => "scope",
            _ => return None,
        };
        args.is_empty()
            .then(|| value.get(key).cloned().unwrap_or_else(|| "".into()))
    };
    template
        .render(&Data::row(&value, "*events.Message").with_method(&method))
        .map_err(|error| Failure::new(error.to_string()))
}

/// `2026-11-24T08:00:00.000000000Z container start <id> (image=x, name=y)`
fn plain(event: &Event) -> String {
    let mut out = String::new();
    if event.time_nano != 0 || event.time != 0 {
        let nanoseconds = if event.time_nano != 0 {
            i128::from(event.time_nano)
        } else {
            i128::from(event.time) * 1_000_000_000
        };
        let at = Timestamp::from_nanosecond(nanoseconds).unwrap_or_default();
        let text = at
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%dT%H:%M:%S.%9f%:z")
            .to_string();
        out.push_str(
            &text
                .strip_suffix("+00:00")
                .map_or(text.clone(), |utc| format!("{utc}Z")),
        );
        out.push(' ');
    }
    out.push_str(&format!(
        "{} {} {}",
        event.kind, event.action, event.actor.id
    ));
    if !event.actor.attributes.is_empty() {
        let attributes: Vec<String> = event
            .actor
            .attributes
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        out.push_str(&format!(" ({})", attributes.join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use wharf_api::events::Actor;

    #[test]
    fn a_line_for_every_event() {
        let attributes = BTreeMap::from([
            ("name".into(), "web".into()),
            ("image".into(), "busybox".into()),
        ]);
        let event = Event::new(
            "container",
            "start",
            Actor {
                id: "abc".into(),
                attributes,
            },
            1_500_000_000_000_000_001,
        );
        // Z or an offset: the zone of the machine decides.
        let line = plain(&event);
        assert!(
            line.contains(".000000001")
                && line.ends_with(" container start abc (image=busybox, name=web)"),
            "{line}"
        );
        let template =
            Template::parse("{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Time}} {{.ID}}")
                .expect("a template");
        assert_eq!(
            shown(&event, Some(&template)).expect("renders"),
            "container start web 1500000000 abc"
        );
    }
}
