//! `list`

use std::fs;

use serde_json::Value;

use super::{Context, Done};
use crate::container::Container;
use crate::failure::Failure;
use crate::options::{Flag, Parsed, switch, valued};

use super::state::describe;

/// runc's.
pub const FLAGS: &[Flag] = &[
    valued("format", "FORMAT", "table or json").short('f'),
    switch("quiet", "ids only").short('q'),
];

/// Lists containers.
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let containers = load_all(context);
    if parsed.on("quiet") {
        containers.iter().for_each(|c| println!("{}", c.record.id));
        return Ok(0);
    }
    match parsed.text("format") {
        None | Some("table") => print_table(&containers),
        Some("json") => {
            let list: Vec<Value> = containers
                .iter()
                .map(|c| {
                    let mut value = describe(c);
                    value["owner"] = owner_name(c.record.owner).into();
                    value
                })
                .collect();
            println!("{}", Value::from(list));
        }
        Some(_) => return Err(Failure::usage("invalid format option")),
    }
    Ok(0)
}

/// Half-made ones are left out.
fn load_all(context: &Context) -> Vec<Container> {
    let entries = fs::read_dir(&context.root).into_iter().flatten().flatten();
    let mut ids: Vec<String> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    ids.sort();
    ids.iter()
        .filter_map(|id| Container::load(&context.root, id).ok())
        .collect()
}

fn print_table(containers: &[Container]) {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    for container in containers {
        let value = describe(container);
        rows.push([
            container.record.id.clone(),
            value["pid"].to_string(),
            container.status().text().to_string(),
            container.record.bundle.display().to_string(),
            container.record.created.clone(),
            owner_name(container.record.owner),
        ]);
    }
    let width = |at: usize| rows.iter().map(|r| r[at].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(|at| width(at).max(11) + 1).collect();
    for row in &rows {
        let line: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        println!("{}", line.trim_end());
    }
}

fn owner_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let wanted = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted).then(|| name.to_string())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}
