//! `--secret id=name[,src=path][,env=variable][,type=file|env]`

use std::collections::BTreeMap;

use base64::Engine as _;

use crate::failure::{Failure, errno_text};
use crate::request::mount::csv;

/// Secrets by ID, each as base64.
pub(super) fn read(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    given.iter().map(|text| one(text)).collect()
}

fn one(text: &str) -> Result<(String, String), Failure> {
    let (mut id, mut file, mut variable) = (String::new(), String::new(), String::new());
    let mut kind = String::new();
    for field in csv(text).map_err(Failure::new)? {
        let (key, value) = field.split_once('=').ok_or_else(|| {
            Failure::new(format!("invalid field '{field}' must be a key=value pair"))
        })?;
        match key.to_lowercase().as_str() {
            "id" => id = value.to_owned(),
            "source" | "src" => file = value.to_owned(),
            "env" => variable = value.to_owned(),
            "type" if matches!(value, "file" | "env") => kind = value.to_owned(),
            "type" => return Err(Failure::new(format!("unsupported secret type {value:?}"))),
            _ => return Err(Failure::new(format!("unexpected key '{key}' in '{field}'"))),
        }
    }
    if id.is_empty() {
        return Err(Failure::new("secret is missing its id"));
    }
    if kind == "env" && variable.is_empty() {
        variable = std::mem::take(&mut file);
    }
    if variable.is_empty() && file.is_empty() {
        // A variable of that name, or else a file.
        match std::env::var_os(&id) {
            Some(_) if kind != "file" => variable.clone_from(&id),
            _ => file.clone_from(&id),
        }
    }
    let value = if variable.is_empty() {
        std::fs::read(&file).map_err(|error| {
            Failure::new(format!("failed to stat {file}: {}", errno_text(&error)))
        })?
    } else {
        std::env::var(&variable).unwrap_or_default().into_bytes()
    };
    Ok((id, base64::engine::general_purpose::STANDARD.encode(value)))
}
