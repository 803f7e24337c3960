//! `state`

use serde_json::{Value, json};

use super::{Context, Done};
use crate::container::{Container, Status};
use crate::options::Parsed;

/// Prints a container's state (runtime-spec, runtime, "State", with runc's additions).
pub fn run(context: &Context, parsed: &Parsed) -> Done {
    let container = Container::load(&context.root, parsed.id("state")?)?;
    println!("{:#}", describe(&container));
    Ok(0)
}

/// The state as JSON.
pub fn describe(container: &Container) -> Value {
    let (record, status) = (&container.record, container.status());
    let pid = match status {
        Status::Stopped => 0,
        _ => record.pid,
    };
    let mut value = json!({
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": pid,
        "status": status.text(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
    });
    if !record.annotations.is_empty() {
        value["annotations"] = json!(record.annotations);
    }
    value["owner"] = "".into();
    value
}
