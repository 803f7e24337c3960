//! Listings: rows through a `--format` template, with a header and aligned columns when it is a table.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Flag, text};
use crate::failure::Failure;
use crate::text::table::{LISTING, align};
use wharf_template::{Data, Template};

/// The flag as listings have it.
pub const FORMAT: Flag = text(
    "format",
    "Format output using a custom template:\n'table':            Print output in table format with column headers (default)\n\
     'table TEMPLATE':   Print output in table format using the given Go template\n\
     'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template",
);

/// What a kind of listing looks like.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    /// What Go calls a row's type in errors.
    pub type_name: &'static str,
    /// Fields and their column headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The template of the default table.
    pub table: &'static str,
    /// The template of `--quiet`.
    pub quiet: &'static str,
    /// The templates of `--format raw`, with `--quiet` and without, where that format exists.
    pub raw: Option<[&'static str; 2]>,
}

/// One row.
#[derive(Debug, Clone, Default)]
pub struct Row {
    fields: Map<String, Value>,
    labels: BTreeMap<String, String>,
}

impl Row {
    /// An empty row.
    pub fn new() -> Row {
        Row::default()
    }

    /// Adds a field.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Row {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The row as a JSON object; Go writes a row as a map, and maps with sorted keys.
    pub fn value(&self) -> Value {
        let sorted: BTreeMap<&String, &Value> = self.fields.iter().collect();
        Value::Object(
            sorted
                .into_iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    /// The labels that `.Label "name"` looks into; they become the field `Labels` too.
    pub fn with_labels(mut self, labels: Option<&BTreeMap<String, String>>) -> Row {
        self.labels = labels.cloned().unwrap_or_default();
        let joined: Vec<String> = self
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        self.with("Labels", joined.join(","))
    }
}

/// How a listing is to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Table(String),
    Plain(String),
}

impl Listing {
    /// The whole text of a listing. `format` is what `--format` or the configuration says, empty for the default.
    ///
    /// # Errors
    /// The template is wrong or does not fit the rows.
    pub fn render(&self, format: &str, quiet: bool, rows: &[Row]) -> Result<String, Failure> {
        let form = self.form(format, quiet);
        let (Form::Table(source) | Form::Plain(source)) = &form;
        let template = Template::parse(source)
            .map_err(|error| Failure::new(format!("template parsing error: {error}")))?;
        let mut out = String::new();
        if let Form::Table(_) = form {
            out.push_str(&self.header(&template)?);
            out.push('\n');
        }
        for row in rows {
            out.push_str(&self.row(&template, row)?);
            out.push('\n');
        }
        Ok(if let Form::Table(_) = form {
            align(&out, LISTING)
        } else {
            out
        })
    }

    /// Whether the template that will be used names the field.
    pub fn uses(&self, format: &str, field: &str) -> bool {
        let (Form::Table(source) | Form::Plain(source)) = self.form(format, false);
        source.contains(&format!(".{field}"))
            || (source.contains("{{json .}}") && format.trim() != "json")
    }

    /// Tries a whole format on a row in which every field is empty, as Docker's `ps` does before it asks the daemon.
    ///
    /// # Errors
    /// Docker's text for a template that is none or does not fit.
    pub fn try_format(&self, format: &str) -> Result<(), Failure> {
        let template = Template::parse(format)
            .map_err(|error| Failure::new(format!("failed to parse template: {error}")))?;
        let mut empty = Row::new();
        for (field, _) in self.headers {
            empty = empty.with(field, "");
        }
        self.row(&template, &empty).map(drop).map_err(|failure| {
            let text =
                failure
                    .message
                    .replacen("template parsing error", "failed to execute template", 1);
            Failure::new(text)
        })
    }

    fn form(&self, format: &str, quiet: bool) -> Form {
        let format = format.replace("\\t", "\t").replace("\\n", "\n");
        match format.trim() {
            "" | "table" if quiet => Form::Plain(self.quiet.to_owned()),
            "" | "table" => Form::Table(self.table.to_owned()),
            "json" => Form::Plain("{{json .}}".to_owned()),
            "raw" if self.raw.is_some() => {
                let [brief, full] = self.raw.unwrap_or_default();
                Form::Plain(if quiet { brief } else { full }.to_owned())
            }
            _ => match format.strip_prefix("table ") {
                Some(_) if quiet => Form::Plain(self.quiet.to_owned()),
                Some(template) => Form::Table(template.trim_matches(' ').to_owned()),
                None => Form::Plain(format),
            },
        }
    }

    fn header(&self, template: &Template) -> Result<String, Failure> {
        let fields: Map<String, Value> = self
            .headers
            .iter()
            .map(|(field, header)| ((*field).to_owned(), Value::from(*header)))
            .collect();
        let fields = Value::Object(fields);
        let method = |name: &str, args: &[Value]| match (name, args) {
            ("Label", [Value::String(label)]) => Some(Value::String(label_header(label))),
            _ => None,
        };
        let data = Data::row(&fields, self.type_name)
            .with_method(&method)
            .of_headers();
        template
            .render(&data)
            .map_err(|error| Failure::new(format!("template parsing error: {error}")))
    }

    fn row(&self, template: &Template, row: &Row) -> Result<String, Failure> {
        let fields = row.value();
        let method = |name: &str, args: &[Value]| match (name, args) {
            ("Label", [Value::String(label)]) => Some(Value::String(
                row.labels.get(label).cloned().unwrap_or_default(),
            )),
            _ => None,
        };
        let data = Data::row(&fields, self.type_name)
            .with_method(&method)
            .with_escaped_json();
        template
            .render(&data)
            .map_err(|error| Failure::new(format!("template parsing error: {error}")))
    }
}

/// A label's column is headed by the last part of its name, in words.
fn label_header(label: &str) -> String {
    let last = label.rsplit('.').next().unwrap_or(label);
    last.replace(['-', '_'], " ")
}

/// The text on one line, with at most this many characters; `…` stands for what was cut.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    if width <= 1 {
        return text.chars().take(width).collect();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// An ID as listings show it: without the algorithm, twelve digits.
pub fn short_id(id: &str) -> String {
    id.split_once(':')
        .map_or(id, |(_, hex)| hex)
        .chars()
        .take(12)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THINGS: Listing = Listing {
        type_name: "*formatter.thing",
        headers: &[("ID", "THING ID"), ("Name", "NAME"), ("Size", "SIZE")],
        table: "{{.ID}}\t{{.Name}}",
        quiet: "{{.ID}}",
        raw: None,
    };

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("com.example.some-key".to_owned(), "v".to_owned())]);
        vec![
            Row::new()
                .with("ID", "0123456789ab")
                .with("Name", "one")
                .with("Size", "1B")
                .with_labels(Some(&labels)),
            Row::new()
                .with("ID", "ba9876543210")
                .with("Name", "two")
                .with("Size", "2B")
                .with_labels(None),
        ]
    }

    #[test]
    fn formats_of_a_listing() {
        for (format, quiet, expected) in [
            (
                "",
                false,
                "THING ID       NAME\n0123456789ab   one\nba9876543210   two\n",
            ),
            (
                "table",
                false,
                "THING ID       NAME\n0123456789ab   one\nba9876543210   two\n",
            ),
            ("", true, "0123456789ab\nba9876543210\n"),
            ("{{.Name}}\\t{{.Size}}", false, "one\t1B\ntwo\t2B\n"),
            (
                "table {{.Name}}\\t{{json .Size}}",
                false,
                "NAME      SIZE\none       \"1B\"\ntwo       \"2B\"\n",
            ),
            (
                "table {{.Name}}\t{{.Label \"com.example.some-key\"}}",
                false,
                "NAME      some key\none       v\ntwo       \n",
            ),
            (
                "json",
                false,
                "{\"ID\":\"0123456789ab\",\"Labels\":\"com.example.some-key=v\",\"Name\":\"one\",\"Size\":\"1B\"}\n\
                 {\"ID\":\"ba9876543210\",\"Labels\":\"\",\"Name\":\"two\",\"Size\":\"2B\"}\n",
            ),
        ] {
            assert_eq!(
                THINGS.render(format, quiet, &rows()).expect("renders"),
                expected,
                "{format}"
            );
        }
    }

    #[test]
    fn an_unknown_field_is_named() {
        let failure = THINGS
            .render("{{.Foo}}", false, &rows())
            .expect_err("no such field");
        assert_eq!(
            failure.message,
            "template parsing error: template: :1:2: executing \"\" at <.Foo>: \
             can't evaluate field Foo in type *formatter.thing"
        );
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("123456", 5), "1234…");
        assert_eq!(ellipsis("12345", 5), "12345");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
