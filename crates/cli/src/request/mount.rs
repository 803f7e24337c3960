//! `--mount type=bind,source=/a,target=/b`, `-v`, `--tmpfs`.

use std::path::Path;

use wharf_api::container::{
    BindOptions, ImageOptions, Mount, TmpfsOptions, VolumeDriverConfig, VolumeOptions,
};

use crate::text::size;

/// Checks a `--mount` value.
pub fn check(value: &str) -> Result<(), String> {
    parse(value).map(drop)
}

/// Reads a `--mount` value.
///
/// # Errors
/// Docker's text for what does not fit.
pub fn parse(value: &str) -> Result<Mount, String> {
    let value = value.trim();
    if value.is_empty() {
        return Err("EOF".into());
    }
    let mut mount = Mount {
        kind: "volume".into(),
        ..Mount::default()
    };
    for field in csv(value)? {
        let (key, value) = split_field(&field)?;
        apply(&mut mount, &key, value, &field)?;
    }
    if mount.kind.is_empty() {
        return Err("type is required".into());
    }
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    check_kind(&mount)?;
    Ok(mount)
}

fn split_field(field: &str) -> Result<(String, Option<&str>), String> {
    const SWITCHES: [&str; 6] = [
        "idmap",
        "readonly",
        "ro",
        "volume-nocopy",
        "bind-nonrecursive",
        "bind-create-src",
    ];
    let (key, value) = field
        .split_once('=')
        .map_or((field, None), |(key, value)| (key, Some(value)));
    if key.trim() != key {
        return Err(format!(
            "invalid option '{}' in '{field}': option should not have whitespace",
            key.trim()
        ));
    }
    if let Some(value) = value {
        if value.trim().is_empty() {
            return Err(format!("invalid value for '{key}': value is empty"));
        }
        if value.trim() != value {
            return Err(format!(
                "invalid value for '{key}' in '{field}': value should not have whitespace"
            ));
        }
    }
    let key = key.to_lowercase();
    if value.is_none() && !SWITCHES.contains(&key.as_str()) {
        return Err(format!("invalid field '{field}' must be a key=value pair"));
    }
    Ok((key, value))
}

fn apply(mount: &mut Mount, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
    let text = value.unwrap_or_default();
    match key {
        "type" => mount.kind = text.to_lowercase(),
        "source" | "src" => mount.source = absolute_if_dotted(text),
        "target" | "dst" | "destination" => mount.target = text.to_owned(),
        "readonly" | "ro" => mount.read_only = boolean(key, value)?,
        "consistency" => mount.consistency = text.to_lowercase(),
        "idmap" => mount.idmap = value.unwrap_or("container").to_owned(),
        "bind-nonrecursive" => {
            return Err(
                "bind-nonrecursive is deprecated, use bind-recursive=disabled instead".into(),
            );
        }
        "bind-propagation" | "bind-recursive" | "bind-create-src" => apply_bind(mount, key, value)?,
        "volume-subpath" => volume(mount).subpath = text.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = boolean(key, value)?,
        "volume-label" => {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            volume(mount)
                .labels
                .insert(name.to_owned(), value.to_owned());
        }
        "volume-driver" => driver(mount).name = text.to_owned(),
        "volume-opt" => {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            driver(mount)
                .options
                .insert(name.to_owned(), value.to_owned());
        }
        "image-subpath" => {
            mount
                .image_options
                .get_or_insert_with(ImageOptions::default)
                .subpath = text.to_owned()
        }
        "tmpfs-size" => {
            let bytes =
                size::parse_binary(text).map_err(|_| format!("invalid value for {key}: {text}"))?;
            mount
                .tmpfs_options
                .get_or_insert_with(TmpfsOptions::default)
                .size_bytes = bytes;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(text, 8)
                .map_err(|_| format!("invalid value for {key}: {text}"))?;
            mount
                .tmpfs_options
                .get_or_insert_with(TmpfsOptions::default)
                .mode = mode;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn apply_bind(mount: &mut Mount, key: &str, value: Option<&str>) -> Result<(), String> {
    let text = value.unwrap_or_default();
    let create = if key == "bind-create-src" {
        boolean(key, value)?
    } else {
        false
    };
    let bind = mount.bind_options.get_or_insert_with(BindOptions::default);
    match (key, text) {
        ("bind-propagation", text) => bind.propagation = text.to_lowercase(),
        ("bind-create-src", _) => bind.create_mountpoint = create,
        (_, "enabled") => {}
        (_, "disabled") => bind.non_recursive = true,
        (_, "writable") => bind.read_only_non_recursive = true,
        (_, "readonly") => bind.read_only_force_recursive = true,
        _ => {
            return Err(format!(
                "invalid value for {key}: {text} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount
        .volume_options
        .get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut VolumeDriverConfig {
    volume(mount)
        .driver_config
        .get_or_insert_with(VolumeDriverConfig::default)
}

/// Options of one kind of mount make no sense on another.
fn check_kind(mount: &Mount) -> Result<(), String> {
    let clash = |options: &str| {
        Err(format!(
            "cannot mix '{options}-*' options with mount type '{}'",
            mount.kind
        ))
    };
    if mount.bind_options.is_some() && mount.kind != "bind" {
        return clash("bind");
    }
    if mount.volume_options.is_some() && mount.kind != "volume" {
        return clash("volume");
    }
    if mount.image_options.is_some() && mount.kind != "image" {
        return clash("image");
    }
    if mount.tmpfs_options.is_some() && mount.kind != "tmpfs" {
        return clash("tmpfs");
    }
    let Some(bind) = &mount.bind_options else {
        return Ok(());
    };
    if bind.read_only_non_recursive && !mount.read_only {
        return Err(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"
                .into(),
        );
    }
    if bind.read_only_force_recursive && !mount.read_only {
        return Err(
            "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction"
                .into(),
        );
    }
    if bind.read_only_force_recursive && bind.propagation != "rprivate" {
        return Err(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".into()
        );
    }
    Ok(())
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!(
            "invalid value for '{key}': invalid boolean value ({}): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")",
            crate::flags::parse::quote(other)
        )),
    }
}

/// Splits a line of comma-separated values, with double quotes around values that contain commas (RFC 4180).
pub fn csv(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next() {
                    Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => {
                        return Err(format!(
                            "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                            line.len() + 1
                        ));
                    }
                }
            }
        }
        while let Some(c) = chars.next_if(|c| *c != ',') {
            if c == '"' {
                return Err("parse error on line 1: bare \" in non-quoted-field".into());
            }
            field.push(c);
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}

/// `-v` values: those with a source are binds, those without one anonymous volumes.
pub fn split_volumes(values: &[String]) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut binds, mut volumes) = (Vec::new(), Vec::new());
    for value in values {
        match value.split_once(':') {
            None if value.is_empty() => return Err("invalid empty volume spec".into()),
            None => volumes.push(value.clone()),
            Some((source, rest)) => {
                if value.split(':').any(str::is_empty) {
                    return Err(format!(
                        "invalid spec: {value}: empty section between colons"
                    ));
                }
                binds.push(format!("{}:{rest}", absolute_if_dotted(source)));
            }
        }
    }
    Ok((binds, volumes))
}

/// `./a` and `..` are meant from where we are; the daemon is elsewhere.
fn absolute_if_dotted(path: &str) -> String {
    if !path.starts_with('.') {
        return path.to_owned();
    }
    match std::env::current_dir() {
        Ok(here) => clean(&here.join(path)),
        Err(_) => path.to_owned(),
    }
}

/// The path without `.` and `..`, by its text alone.
fn clean(path: &Path) -> String {
    use std::path::Component;
    let mut out = std::path::PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_to_json() {
        for (given, expected) in [
            (
                "type=bind,source=/a,target=/b,readonly",
                r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}"#,
            ),
            (
                "target=/b,src=vol",
                r#"{"Type":"volume","Source":"vol","Target":"/b"}"#,
            ),
            (
                "type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1777",
                r#"{"Type":"tmpfs","Target":"/b","TmpfsOptions":{"SizeBytes":1048576,"Mode":1023}}"#,
            ),
            (
                "type=volume,dst=/b,volume-nocopy,volume-label=x=y,volume-driver=d,\"volume-opt=o=a,b\"",
                r#"{"Type":"volume","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"x":"y"},"DriverConfig":{"Name":"d","Options":{"o":"a,b"}}}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,idmap",
                r#"{"Type":"bind","Source":"/a","Target":"/b","IdMap":"container"}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,idmap=uids=0-1000-1;gids=0-1000-1",
                r#"{"Type":"bind","Source":"/a","Target":"/b","IdMap":"uids=0-1000-1;gids=0-1000-1"}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=rshared,bind-recursive=disabled",
                r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Propagation":"rshared","NonRecursive":true}}"#,
            ),
        ] {
            let mount = parse(given).expect("fits");
            assert_eq!(
                serde_json::to_string(&mount).expect("plain data"),
                expected,
                "{given}"
            );
        }
    }

    #[test]
    fn bad_mounts() {
        for (given, expected) in [
            ("", "EOF"),
            ("type=bind", "target is required"),
            (
                "type=bind,target",
                "invalid field 'target' must be a key=value pair",
            ),
            (
                "type=bind,target=/b,foo=1",
                "unexpected key 'foo' in 'foo=1'",
            ),
            (
                "type=bind,target=/b,volume-nocopy",
                "cannot mix 'volume-*' options with mount type 'bind'",
            ),
            (
                "type=bind,target=",
                "invalid value for 'target': value is empty",
            ),
        ] {
            assert_eq!(parse(given), Err(expected.to_owned()), "{given}");
        }
    }

    #[test]
    fn volumes_with_and_without_source() {
        let given = ["/a:/b:ro", "/c", "name:/d"].map(str::to_owned);
        let (binds, volumes) = split_volumes(&given).expect("fits");
        assert_eq!(binds, ["/a:/b:ro", "name:/d"]);
        assert_eq!(volumes, ["/c"]);
        let here = std::env::current_dir()
            .expect("a directory")
            .to_string_lossy()
            .into_owned();
        let (binds, _) = split_volumes(&["./x:/b".to_owned()]).expect("fits");
        assert_eq!(binds, [format!("{here}/x:/b")]);
        assert!(split_volumes(&["a::b".to_owned()]).is_err());
    }
}
