//! What a log line is told with besides its text: the tag, labels and variables (moby `daemon/logger/loginfo.go`, `log_tag.go`).

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::{Value, json};
use wharf_template::{Data, Template};

use super::record::Record;
use crate::{clock, ids};

/// Tag of drivers that cannot do without one.
pub const DEFAULT: &str = "{{.ID}}";

/// The tag, a template filled in with the container.
pub fn tag(record: &Record, default: &str) -> Result<String, String> {
    let given = record.log_options.get("tag").map_or("", String::as_str);
    let text = if given.is_empty() { default } else { given };
    if !text.contains("{{") {
        return Ok(text.to_owned());
    }
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    let value = facts(record);
    let method = |name: &str, _: &[Value]| {
        (name == "ExtraAttributes")
            .then(|| extra(record, str::to_owned).map_or(Value::Null, |extra| json!(extra)))
    };
    let data = Data::row(&value, "*logger.Info").with_method(&method);
    template.render(&data).map_err(|error| error.to_string())
}

/// Checks a tag before there is a container: that it is a template.
pub fn check(text: &str) -> Result<(), String> {
    Template::parse(text)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Fields and methods of Docker's `logger.Info`.
fn facts(record: &Record) -> Value {
    let image_id = record.image_id.trim_start_matches("sha256:");
    json!({
        "ID": ids::short(&record.id),
        "FullID": record.id,
        "Name": record.name,
        "Command": command(record),
        "ImageID": ids::short(image_id),
        "ImageFullID": record.image_id,
        "ImageName": record.config.image,
        "Hostname": hostname(),
        "DaemonName": "docker",
        "Config": record.log_options,
        "ContainerID": record.id,
        "ContainerName": format!("/{}", record.name),
        "ContainerEntrypoint": record.path,
        "ContainerArgs": record.args,
        "ContainerImageID": record.image_id,
        "ContainerImageName": record.config.image,
        "ContainerCreated": clock::text(Some(record.created_ns)),
        "ContainerEnv": record.config.env,
        "ContainerLabels": record.config.labels,
    })
}

/// Program and arguments in one line.
pub fn command(record: &Record) -> String {
    let mut words = vec![record.path.as_str()];
    words.extend(record.args.iter().map(String::as_str));
    words.join(" ")
}

/// This host's name.
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Chosen labels and variables, under names made by `name`.
pub fn extra(
    record: &Record,
    name: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, String>, String> {
    let empty = BTreeMap::new();
    let labels = record.config.labels.as_ref().unwrap_or(&empty);
    let variables: BTreeMap<String, String> = record
        .config
        .env
        .iter()
        .flatten()
        .filter_map(|entry| entry.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let mut chosen = BTreeMap::new();
    for (list, regex, from) in [
        ("labels", "labels-regex", labels),
        ("env", "env-regex", &variables),
    ] {
        let keys = record.log_options.get(list).into_iter();
        for key in keys.flat_map(|keys| keys.split(',')) {
            if let Some(value) = from.get(key) {
                chosen.insert(name(key), value.clone());
            }
        }
        let regex = record
            .log_options
            .get(regex)
            .filter(|text| !text.is_empty());
        if let Some(text) = regex {
            let regex = Regex::new(text)
                .map_err(|error| format!("error parsing regexp: {error}: `{text}`"))?;
            let matching = from.iter().filter(|(key, _)| regex.is_match(key));
            chosen.extend(matching.map(|(key, value)| (name(key), value.clone())));
        }
    }
    Ok(chosen)
}

/// Attributes of every line in a file: as [`extra`], and the tag if one was asked for.
pub fn attributes(record: &Record) -> Result<Vec<(String, String)>, String> {
    let mut attributes = extra(record, str::to_owned)?;
    let tag = tag(record, "")?;
    if !tag.is_empty() {
        attributes.insert("tag".into(), tag);
    }
    Ok(attributes.into_iter().collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::log_options::tests::options;
    use super::*;

    /// A container with log options.
    pub fn record(pairs: &[(&str, &str)]) -> Record {
        Record {
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            image_id: format!("sha256:{}", "fedcba9876543210".repeat(4)),
            path: "/bin/sh".into(),
            args: vec!["-c".into(), "x".into()],
            config: wharf_api::container::Config {
                image: "busybox:1".into(),
                env: Some(vec!["A=1".into(), "APP_X=2".into()]),
                labels: Some(options(&[("l", "3"), ("app.y", "4")])),
                ..Default::default()
            },
            log_options: options(pairs),
            ..Record::default()
        }
    }

    #[test]
    fn tags_are_templates() {
        let rows = [
            ("", "0123456789ab"),
            ("plain", "plain"),
            (
                "{{.ImageName}}/{{.Name}}/{{.ID}}",
                "busybox:1/web/0123456789ab",
            ),
            ("{{.ImageID}} {{.DaemonName}}", "fedcba987654 docker"),
            ("{{.Command}}", "/bin/sh -c x"),
            ("{{upper .Name}} {{slice .FullID 0 4}}", "WEB 0123"),
            ("{{(.ExtraAttributes nil).A}}", "1"),
        ];
        for (text, expected) in rows {
            let record = record(&[("tag", text), ("env", "A")]);
            assert_eq!(tag(&record, DEFAULT).as_deref(), Ok(expected), "{text}");
        }
        assert!(tag(&record(&[("tag", "{{.Nothing}}")]), DEFAULT).is_err());
        assert!(check("{{").is_err());
    }

    #[test]
    fn labels_and_variables_are_chosen() {
        let record = record(&[
            ("labels", "l,absent"),
            ("labels-regex", "^app"),
            ("env", "A"),
            ("env-regex", "^APP_"),
            ("tag", "{{.Name}}"),
        ]);
        let pairs = [
            ("A", "1"),
            ("APP_X", "2"),
            ("app.y", "4"),
            ("l", "3"),
            ("tag", "web"),
        ];
        let expected: Vec<_> = pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        assert_eq!(attributes(&record), Ok(expected));
    }
}
