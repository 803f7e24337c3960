//! The image around the program, as `docker save` writes images.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::GREETING;
use super::elf::{Machine, elf};
use crate::failure::Failure;

/// The archive that `POST /images/load` takes.
///
/// # Errors
/// No program can be made for this machine.
pub fn archive() -> Result<Vec<u8>, Failure> {
    let machine = Machine::current().ok_or_else(|| {
        Failure::new(format!(
            "the built-in hello-world does not run on {}",
            std::env::consts::ARCH
        ))
    })?;
    Ok(archive_for(machine)?)
}

fn archive_for(machine: Machine) -> std::io::Result<Vec<u8>> {
    let layer = tar(&[("hello", 0o755, &elf(GREETING, machine))])?;
    let layer_digest = hex(&layer);
    let config = json!({
        "architecture": machine.architecture(),
        "os": "linux",
        "created": CREATED,
        "config": {"Env": ["PATH=/"], "Cmd": ["/hello"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created": CREATED, "created_by": "wharf", "comment": "built into wharf"}],
    })
    .to_string();
    let (config_name, layer_name) = (
        format!("{}.json", hex(config.as_bytes())),
        format!("{layer_digest}/layer.tar"),
    );
    let manifest = json!([{"Config": config_name, "RepoTags": ["hello-world:latest"], "Layers": [layer_name]}]).to_string();
    tar(&[
        (&config_name, 0o644, config.as_bytes()),
        (&layer_name, 0o644, &layer),
        ("manifest.json", 0o644, manifest.as_bytes()),
    ])
}

/// A fixed date, so that the image is the same wherever it is made.
const CREATED: &str = "2026-11-24T00:00:00Z";

/// A tar file with these files: name, mode, content.
fn tar(files: &[(&str, u32, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, *content)?;
    }
    builder.into_inner()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_archive_is_small_and_consistent() {
        for machine in [Machine::X86_64, Machine::Aarch64] {
            let bytes = archive_for(machine).expect("built");
            assert!(bytes.len() < 10 * 1024, "{} bytes", bytes.len());
            assert_eq!(
                bytes,
                archive_for(machine).expect("built"),
                "the same bytes each time"
            );
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut names = Vec::new();
            for entry in archive.entries().expect("entries") {
                let mut entry = entry.expect("an entry");
                let name = entry.path().expect("a name").to_string_lossy().into_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("content");
                match name.split_once('/') {
                    Some((digest, "layer.tar")) => assert_eq!(digest, hex(&content)),
                    _ if name != "manifest.json" => {
                        assert_eq!(name, format!("{}.json", hex(&content)))
                    }
                    _ => {}
                }
                names.push(name);
            }
            assert_eq!(names.len(), 3);
        }
    }
}
