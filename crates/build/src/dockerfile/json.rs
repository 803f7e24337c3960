//! The JSON form of arguments: `["a", "b"]`.

use super::error::Problem;

/// The strings of a JSON array, or `None` if the text is not a JSON array at all (and so a shell form).
pub(crate) fn strings(text: &str) -> Result<Option<Vec<String>>, Problem> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Ok(text),
            _ => Err(Problem::JsonNotStrings),
        })
        .collect::<Result<_, _>>()
        .map(Some)
}
