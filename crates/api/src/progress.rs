//! Progress of long operations: one JSON value a line (moby `pkg/jsonmessage`, `pkg/streamformatter`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::is_zero;

/// One line of progress. At least one field is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Plain text to print.
    #[serde(skip_serializing_if = "is_zero")]
    pub stream: String,
    /// What is going on with `id`.
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    /// How far it is.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
    /// `detail` as a bar of text, for old clients.
    #[serde(rename = "progress", skip_serializing_if = "is_zero")]
    pub bar: String,
    /// The object the line is about, such as a layer's short id.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// The operation failed; nothing follows.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// `error_detail`'s message again, for old clients.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
    /// Data for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// Position in bytes, or in `units`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// Done so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    /// In all; 0 when not known.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    /// Start of the operation, seconds since the epoch.
    #[serde(skip_serializing_if = "is_zero")]
    pub start: i64,
    /// Print the bar without numbers.
    #[serde(rename = "hidecounts", skip_serializing_if = "is_zero")]
    pub hide_counts: bool,
    /// Empty means bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub units: String,
}

/// Why the operation failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// HTTP-like code, 0 when there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    /// Docker's wording.
    #[serde(skip_serializing_if = "is_zero")]
    pub message: String,
}

impl Progress {
    /// A line of plain text; the text carries its own newline.
    #[must_use]
    pub fn stream(text: impl Into<String>) -> Progress {
        Progress {
            stream: text.into(),
            ..Progress::default()
        }
    }

    /// A state of one object, without a position.
    #[must_use]
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Progress {
        Progress {
            id: id.into(),
            status: status.into(),
            detail: Some(Detail::default()),
            ..Progress::default()
        }
    }

    /// A position in one object. `total` 0 means not known.
    #[must_use]
    pub fn position(
        id: impl Into<String>,
        status: impl Into<String>,
        current: i64,
        total: i64,
    ) -> Progress {
        let detail = Detail {
            current,
            total,
            ..Detail::default()
        };
        Progress {
            bar: bar(&detail),
            detail: Some(detail),
            ..Progress::status(id, status)
        }
    }

    /// The end of an operation that failed after its answer had begun.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Progress {
        let message = message.into();
        Progress {
            error_detail: Some(ErrorDetail {
                code: 0,
                message: message.clone(),
            }),
            error: message,
            ..Progress::default()
        }
    }

    /// The line as Docker writes it, which ends in CR LF (moby `streamformatter`).
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = crate::gojson::to_line(self);
        line.truncate(line.len() - 1);
        line.extend(b"\r\n");
        line
    }
}

/// The bar dockerd puts in `progress`: 50 columns and the counts, as if the terminal had 200 columns.
fn bar(detail: &Detail) -> String {
    if detail.current <= 0 && detail.total <= 0 {
        return String::new();
    }
    let current = human_size(detail.current);
    if detail.total <= 0 {
        return format!("{current:>8}");
    }
    let total = human_size(detail.total);
    let percent = usize::try_from(detail.current.clamp(0, detail.total) * 100 / detail.total / 2)
        .unwrap_or(0);
    let (filled, empty) = (
        "=".repeat(percent),
        " ".repeat(50usize.saturating_sub(percent)),
    );
    if detail.current > detail.total {
        // The size was only an estimate: no total any more.
        return format!("[{filled}>{empty}] {current:>8}");
    }
    format!("[{filled}>{empty}] {current:>8}/{total}")
}

/// Decimal size with four significant digits (go-units `HumanSize`): `1.5kB`, `28.06MB`.
#[must_use]
pub fn human_size(bytes: i64) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    #[allow(clippy::cast_precision_loss)] // four digits are shown
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit < UNITS.len() - 1 {
        size /= 1000.0;
        unit += 1;
    }
    format!("{}{}", four_digits(size), UNITS[unit])
}

/// Go's `%.4g` for numbers below 1000.
fn four_digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn human_size_has_four_digits_at_most() {
        for (bytes, expected) in [
            (0, "0B"),
            (32, "32B"),
            (1000, "1kB"),
            (1536, "1.536kB"),
            (28_056_576, "28.06MB"),
            (123_456, "123.5kB"),
        ] {
            assert_eq!(human_size(bytes), expected);
        }
    }

    #[test]
    fn bar_is_dockers() {
        let line = Progress::position("a", "Loading layer", 50, 100);
        assert_eq!(
            line.bar,
            format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25))
        );
        assert_eq!(
            Progress::position("a", "Loading layer", 50, 0).bar,
            "     50B"
        );
    }

    #[test]
    fn failed_operation_ends_with_both_error_fields() {
        let text = serde_json::to_string(&Progress::error("no space")).expect("plain data");
        assert_eq!(
            text,
            r#"{"errorDetail":{"message":"no space"},"error":"no space"}"#
        );
    }
}
