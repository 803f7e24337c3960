//! What a user may mount and how it is written: `-v`, `--mount`, `--volumes-from`, image `VOLUME`s.
//!
//! Parsing is pure (moby `daemon/volume/mounts/linux_parser.go`); [`plan`] brings the sources together in Docker's order.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use wharf_api::container::{HostConfig, Mount};

use super::idmap::{self, Idmap};
use super::record::MountRecord;
use super::validate::clean;
use crate::{Error, Result};

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
];

/// Mounts wanted, by destination, before volumes exist.
pub type Wanted = BTreeMap<String, MountRecord>;

/// Brings together everything a container asks to mount. `from`: mounts of the containers in `VolumesFrom`, in their order.
pub fn plan(
    host: &HostConfig,
    image_volumes: &[String],
    from: Vec<(String, Vec<MountRecord>)>,
) -> Result<Wanted> {
    let mut wanted = Wanted::new();
    for (mode, mounts) in from {
        for mount in mounts {
            let rw = mount.rw && !is_read_only(&mode);
            let inherited = MountRecord {
                rw,
                no_copy: true,
                anonymous: false,
                mode: String::new(),
                ..mount
            };
            wanted.insert(inherited.destination.clone(), inherited);
        }
    }
    let mut own = std::collections::BTreeSet::new();
    for raw in host.binds.iter().flatten() {
        let mount = parse_bind(raw, &host.volume_driver)?;
        if own.contains(&mount.destination) || host.tmpfs.contains_key(&mount.destination) {
            return Err(duplicate(&mount.destination));
        }
        own.insert(mount.destination.clone());
        wanted.insert(mount.destination.clone(), mount);
    }
    for spec in &host.mounts {
        let mount = parse_spec(spec)?;
        if !own.insert(mount.destination.clone()) {
            return Err(duplicate(&spec.target));
        }
        wanted.insert(mount.destination.clone(), mount);
    }
    for path in image_volumes {
        let destination = clean(path);
        if host.tmpfs.contains_key(&destination) {
            continue;
        }
        wanted
            .entry(destination.clone())
            .or_insert_with(|| MountRecord {
                kind: "volume".into(),
                destination,
                driver: host.volume_driver.clone(),
                rw: true,
                ..MountRecord::default()
            });
    }
    Ok(wanted)
}

fn duplicate(destination: &str) -> Error {
    Error::invalid(format!("Duplicate mount point: {destination}"))
}

/// Splits one `--volumes-from` value into container and mode.
pub fn parse_volumes_from(text: &str) -> Result<(&str, &str)> {
    if text.is_empty() {
        return Err(Error::invalid(
            "volumes-from specification cannot be an empty string",
        ));
    }
    let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
    let own_terms = mode
        .split(',')
        .any(|word| PROPAGATIONS.contains(&word) || matches!(word, "copy" | "nocopy"));
    if own_terms || !is_mode(mode) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    Ok((container, mode))
}

/// Parses `[source:]destination[:mode]`.
pub fn parse_bind(raw: &str, volume_driver: &str) -> Result<MountRecord> {
    let invalid = |why: &str| {
        let more = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        Error::invalid(format!("invalid volume specification: '{raw}'{more}"))
    };
    let parts: Vec<&str> = raw.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] if !target.is_empty() => ("", target, ""),
        // `/data:ro` names no source: what looks like a mode is not taken for a path.
        [source, target] if !source.is_empty() && !is_mode(target) => (source, target, ""),
        [source, target, mode] if !source.is_empty() => (source, target, mode),
        _ => return Err(invalid("")),
    };
    if !is_mode(mode) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let is_path = source.starts_with('/');
    check_target(target).map_err(|why| {
        let kind = if is_path { "bind" } else { "volume" };
        invalid(&format!("invalid mount config for type {kind:?}: {why}"))
    })?;
    let mut mount = MountRecord {
        destination: clean(target),
        mode: mode.to_owned(),
        rw: !is_read_only(mode),
        no_copy: mode.split(',').any(|word| word == "nocopy"),
        ..MountRecord::default()
    };
    if let Some(idmap) = mode.split(',').find_map(idmap_of) {
        Idmap::parse(idmap)?;
        idmap_text(idmap).clone_into(&mut mount.idmap);
    }
    if is_path && mount.no_copy {
        return Err(invalid(
            "invalid mount config for type \"bind\": field VolumeOptions must not be specified",
        ));
    }
    if is_path {
        mount.kind = "bind".into();
        mount.source = clean(source);
        mount.propagation = propagation(mode).into();
        mount.create_source = true;
    } else {
        mount.kind = "volume".into();
        mount.name = source.to_owned();
        mount.driver = volume_driver.to_owned();
    }
    Ok(mount)
}

/// Turns one entry of `HostConfig.Mounts` into a mount.
pub fn parse_spec(spec: &Mount) -> Result<MountRecord> {
    check_spec(spec).map_err(|why| {
        Error::invalid(format!(
            "invalid mount config for type {:?}: {why}",
            spec.kind
        ))
    })?;
    let mut mount = MountRecord {
        kind: spec.kind.clone(),
        destination: clean(&spec.target),
        rw: !spec.read_only,
        ..MountRecord::default()
    };
    if !spec.idmap.is_empty() {
        Idmap::parse(&spec.idmap)?;
        mount.idmap.clone_from(&spec.idmap);
    }
    match spec.kind.as_str() {
        "bind" => {
            let options = spec.bind_options.clone().unwrap_or_default();
            mount.source = clean(&spec.source);
            mount.propagation = if options.propagation.is_empty() {
                "rprivate".into()
            } else {
                options.propagation
            };
            mount.non_recursive = options.non_recursive;
            mount.create_source = options.create_mountpoint;
            mount.read_only_non_recursive = options.read_only_non_recursive;
            mount.read_only_force_recursive = options.read_only_force_recursive;
        }
        "volume" => {
            let options = spec.volume_options.clone().unwrap_or_default();
            mount.name.clone_from(&spec.source);
            mount.no_copy = options.no_copy;
            mount.subpath = options.subpath;
            mount.driver = options
                .driver_config
                .map_or_else(String::new, |driver| driver.name);
        }
        "image" => {
            mount.name.clone_from(&spec.source);
            mount.source.clone_from(&spec.source);
            let options = spec.image_options.clone().unwrap_or_default();
            mount.subpath = options.subpath;
        }
        _ => mount.tmpfs.clone_from(&spec.tmpfs_options),
    }
    Ok(mount)
}

fn check_spec(spec: &Mount) -> Result<(), String> {
    let kind = spec.kind.as_str();
    let foreign = [
        ("bind", spec.bind_options.is_some(), "BindOptions"),
        ("volume", spec.volume_options.is_some(), "VolumeOptions"),
        ("image", spec.image_options.is_some(), "ImageOptions"),
        ("tmpfs", spec.tmpfs_options.is_some(), "TmpfsOptions"),
    ];
    if let Some((_, _, field)) = foreign
        .iter()
        .find(|(owner, given, _)| *given && kind != *owner)
    {
        return Err(format!("field {field} must not be specified"));
    }
    if !spec.idmap.is_empty() && !matches!(kind, "bind" | "volume") {
        return Err("field IdMap must not be specified".into());
    }
    check_target(&spec.target)?;
    match kind {
        "bind" => check_bind(spec),
        "volume" => check_volume(spec),
        "tmpfs" if !spec.source.is_empty() => Err("field Source must not be specified".into()),
        "tmpfs" => Ok(()),
        "image" if spec.source.is_empty() => Err("field Source must not be empty".into()),
        "image" => check_subpath(
            spec.image_options
                .as_ref()
                .map_or("", |o| o.subpath.as_str()),
        ),
        _ => Err("mount type unknown".into()),
    }
}

/// Refuses destinations that are empty, relative, or the root itself.
pub fn check_target(target: &str) -> Result<(), String> {
    if target.is_empty() {
        return Err("field Target must not be empty".into());
    }
    if !target.starts_with('/') {
        return Err(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        ));
    }
    if clean(target) == "/" {
        return Err("invalid specification: destination can't be '/'".into());
    }
    Ok(())
}

fn check_bind(spec: &Mount) -> Result<(), String> {
    if spec.source.is_empty() {
        return Err("field Source must not be empty".into());
    }
    let options = spec.bind_options.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    if !spec.source.starts_with('/') {
        return Err(format!(
            "invalid mount path: '{}' mount path must be absolute",
            spec.source
        ));
    }
    if !options.create_mountpoint && !Path::new(&spec.source).exists() {
        return Err(format!("bind source path does not exist: {}", spec.source));
    }
    Ok(())
}

fn check_volume(spec: &Mount) -> Result<(), String> {
    let subpath = spec
        .volume_options
        .as_ref()
        .map_or("", |options| options.subpath.as_str());
    if subpath.is_empty() {
        return Ok(());
    }
    if spec.source.is_empty() {
        return Err("must not set Subpath when using anonymous volumes".into());
    }
    check_subpath(subpath)
}

fn check_subpath(subpath: &str) -> Result<(), String> {
    if !subpath.is_empty() && !is_local(subpath) {
        return Err("subpath must be a relative path within the volume".into());
    }
    Ok(())
}

/// Whether a relative path stays below where it starts.
fn is_local(path: &str) -> bool {
    let mut depth = 0i32;
    for part in Path::new(path).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

/// What `idmap` and `idmap=…` ask for.
fn idmap_of(word: &str) -> Option<&str> {
    let rest = word.strip_prefix(idmap::WORD)?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix('=')
}

/// Never empty, which would mean none.
fn idmap_text(text: &str) -> &str {
    if text.is_empty() { "container" } else { text }
}

fn is_read_only(mode: &str) -> bool {
    mode.split(',').any(|word| word == "ro")
}

fn propagation(mode: &str) -> &str {
    mode.split(',')
        .find(|word| PROPAGATIONS.contains(word))
        .unwrap_or("rprivate")
}

/// Whether every word of a mode is known and no topic is named twice.
fn is_mode(mode: &str) -> bool {
    if mode.is_empty() {
        return true;
    }
    let mut topics = [false; 6];
    mode.split(',').all(|word| {
        let topic = match word {
            "rw" | "ro" => 0,
            "z" | "Z" => 1,
            word if PROPAGATIONS.contains(&word) => 2,
            "copy" | "nocopy" => 3,
            "consistent" | "cached" | "delegated" => 4,
            word if idmap_of(word).is_some() => 5,
            _ => return false,
        };
        !std::mem::replace(&mut topics[topic], true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(raw: &str) -> String {
        match parse_bind(raw, "") {
            Ok(m) => format!(
                "{} {}{} {} {}",
                m.kind,
                m.name,
                m.source,
                m.destination,
                if m.rw { "rw" } else { "ro" }
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn binds_are_read_as_docker_does() {
        let rows = [
            ("/host:/ctr", "bind /host /ctr rw"),
            ("/host/../x:/ctr/:ro", "bind /x /ctr ro"),
            ("data:/ctr", "volume data /ctr rw"),
            ("data:/ctr:ro,nocopy", "volume data /ctr ro"),
            ("/ctr", "volume  /ctr rw"),
            ("/ctr:ro", "invalid volume specification: '/ctr:ro'"),
            ("", "invalid volume specification: ''"),
            ("a:/b:c:d", "invalid volume specification: 'a:/b:c:d'"),
            ("/a:/b:odd", "invalid mode: odd"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            (
                "/a:b",
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (
                "/a:/b:nocopy",
                "invalid volume specification: '/a:/b:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
        ];
        for (raw, expected) in rows {
            assert_eq!(shape(raw), expected, "{raw}");
        }
    }

    #[test]
    fn mount_specs_are_checked() {
        let spec = |kind: &str, source: &str, target: &str| Mount {
            kind: kind.into(),
            source: source.into(),
            target: target.into(),
            ..Mount::default()
        };
        let rows = [
            (spec("bind", "/proc", "/x"), "ok"),
            (
                spec("bind", "/absent-path", "/x"),
                "invalid mount config for type \"bind\": bind source path does not exist: /absent-path",
            ),
            (
                spec("bind", "", "/x"),
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                spec("volume", "", ""),
                "invalid mount config for type \"volume\": field Target must not be empty",
            ),
            (
                spec("tmpfs", "x", "/x"),
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                spec("odd", "", "/x"),
                "invalid mount config for type \"odd\": mount type unknown",
            ),
        ];
        for (spec, expected) in rows {
            let got = parse_spec(&spec).map_or_else(|error| error.to_string(), |_| "ok".into());
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn later_sources_override_earlier_ones_but_not_themselves() {
        let host = HostConfig {
            binds: Some(vec!["/a:/x".into()]),
            ..HostConfig::default()
        };
        let inherited = MountRecord {
            kind: "volume".into(),
            name: "v".into(),
            destination: "/x".into(),
            rw: true,
            ..MountRecord::default()
        };
        let wanted = plan(
            &host,
            &["/x".into(), "/y".into()],
            vec![("ro".into(), vec![inherited])],
        )
        .expect("plan");
        assert_eq!(wanted["/x"].source, "/a");
        assert_eq!(wanted["/y"].kind, "volume");
        let twice = HostConfig {
            binds: Some(vec!["/a:/x".into(), "/b:/x".into()]),
            ..HostConfig::default()
        };
        let error = plan(&twice, &[], Vec::new()).expect_err("duplicate");
        assert_eq!(error.to_string(), "Duplicate mount point: /x");
    }

    #[test]
    fn subpaths_stay_inside() {
        for (path, local) in [
            ("a/b", true),
            ("a/../b", true),
            ("../a", false),
            ("/a", false),
            ("a/../../b", false),
        ] {
            assert_eq!(is_local(path), local, "{path}");
        }
    }
}
