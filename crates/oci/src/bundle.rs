//! A bundle on disk, and what it asks for as a plan.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharf_runtime::host::HostFacts;
use wharf_runtime::plan::{
    ContainerPlan, HookState, IdRange, Mappings, OciExtra, PlanExtra, SeccompPolicy, plan,
};
use wharf_spec::rootfs::RootfsMount;
use wharf_spec::runtime::{Capability, Mount, Spec};

use crate::failure::{Context, Failure};

/// A directory with a `config.json`.
#[derive(Debug)]
pub struct Bundle {
    /// The directory, absolute.
    pub dir: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// What is in `config.json`.
    pub spec: Spec,
    /// `uidMappings` and `gidMappings` of its mounts.
    mount_mappings: Vec<Mappings>,
    /// Capabilities asked for that nobody can give; the specification wants that told, and no more.
    pub unknown_capabilities: Vec<String>,
}

/// What the command line adds.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `--preserve-fds`
    pub preserve_fds: u32,
    /// `--no-pivot`
    pub no_pivot: bool,
    /// `--no-new-keyring`
    pub no_new_keyring: bool,
    /// We are not the host's root.
    pub rootless: bool,
    /// `--systemd-cgroup`
    pub systemd: bool,
}

/// The parts of `config.json` that the types of the specification leave out.
#[derive(Debug, Default, Deserialize)]
struct More {
    #[serde(default)]
    mounts: Vec<MoreOfMount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MoreOfMount {
    #[serde(default)]
    uid_mappings: Vec<Range>,
    #[serde(default)]
    gid_mappings: Vec<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range {
    #[serde(rename = "containerID", default)]
    container_id: u32,
    #[serde(rename = "hostID", default)]
    host_id: u32,
    #[serde(default)]
    size: u32,
}

impl Bundle {
    /// Reads and checks one.
    pub fn load(dir: &Path) -> Result<Bundle, Failure> {
        let dir = fs::canonicalize(dir).context(|| format!("bundle {}", dir.display()))?;
        let file = dir.join("config.json");
        let text = match fs::read_to_string(&file) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Failure::new(format!(
                    "JSON specification file {} not found",
                    file.display()
                )));
            }
            read => read.context(|| format!("read {}", file.display()))?,
        };
        let what = || format!("read {}", file.display());
        let (spec, unknown) = parse(&text).context(what)?;
        // Rare, and a second pass over the text.
        let more: More = if text.contains("Mappings\"") {
            serde_json::from_str(&text).context(what)?
        } else {
            More::default()
        };
        check_version(spec.version())?;
        let root = spec
            .root()
            .as_ref()
            .ok_or_else(|| Failure::new("root must be specified in config.json"))?;
        let rootfs = dir.join(root.path());
        let rootfs =
            fs::canonicalize(&rootfs).context(|| format!("rootfs {}", rootfs.display()))?;
        let mut bundle = Bundle {
            rootfs,
            mount_mappings: more.mounts.into_iter().map(mappings).collect(),
            unknown_capabilities: unknown,
            spec,
            dir,
        };
        bundle.make_paths_absolute();
        bundle.check()?;
        Ok(bundle)
    }

    /// Sources of binds are relative to the bundle; destinations have always been taken as absolute (runc).
    fn make_paths_absolute(&mut self) {
        let mut mounts = self.spec.mounts().clone().unwrap_or_default();
        for mount in &mut mounts {
            if !mount.destination().is_absolute() {
                mount.set_destination(Path::new("/").join(mount.destination()));
            }
            if let Some(source) = mount.source().clone().filter(|_| is_bind(mount)) {
                mount.set_source(Some(self.dir.join(source)));
            }
        }
        self.spec.set_mounts(Some(mounts));
    }

    fn check(&self) -> Result<(), Failure> {
        let spec = &self.spec;
        if spec.process().is_none() {
            return Err(Failure::new("process property must not be empty"));
        }
        let has = |kind: &str| {
            let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
            namespaces
                .into_iter()
                .flatten()
                .any(|ns| ns.typ().to_string() == kind)
        };
        let named = |name: &Option<String>| name.as_ref().is_some_and(|n| !n.is_empty());
        if named(spec.hostname()) && !has("uts") {
            return Err(Failure::new(
                "unable to set hostname without a private UTS namespace",
            ));
        }
        if named(spec.domainname()) && !has("uts") {
            return Err(Failure::new(
                "unable to set domainname without a private UTS namespace",
            ));
        }
        Ok(())
    }

    /// Annotations, in order.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let annotations = self.spec.annotations().iter().flatten();
        annotations.map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Adds a mount at the end.
    pub fn add_mount(&mut self, mount: Mount) {
        let mut mounts = self.spec.mounts().clone().unwrap_or_default();
        mounts.push(mount);
        self.spec.set_mounts(Some(mounts));
    }

    /// Plans the container `id`.
    pub fn plan(
        &mut self,
        id: &str,
        wishes: &Wishes,
        host: &HostFacts,
    ) -> Result<ContainerPlan, Failure> {
        self.choose_cgroup(id, wishes);
        let extra = PlanExtra {
            rootfs: RootfsMount::Directory {
                path: self.rootfs.clone(),
            },
            user: None,
            create_cwd: true,
            init: false,
            seccomp: SeccompPolicy::FromSpec,
            oci: OciExtra {
                state: HookState {
                    oci_version: self.spec.version().clone(),
                    id: id.into(),
                    bundle: self.dir.clone(),
                    annotations: self.annotations(),
                },
                mount_mappings: self.mount_mappings.clone(),
                rootfs_mappings: Mappings::default(),
                preserve_fds: wishes.preserve_fds,
                no_pivot: wishes.no_pivot,
                keep_keyring: wishes.no_new_keyring,
                rootless: wishes.rootless,
                systemd: wishes.systemd,
            },
        };
        Ok(plan(&self.spec, extra, host)?)
    }

    /// Without `cgroupsPath` the choice is ours: for root, a group of our own at the top.
    fn choose_cgroup(&mut self, id: &str, wishes: &Wishes) {
        let mut linux = self.spec.linux().clone().unwrap_or_default();
        let given = linux.cgroups_path().as_ref();
        if given.is_some_and(|path| !path.as_os_str().is_empty()) {
            return;
        }
        let path = match (wishes.systemd, wishes.rootless) {
            (true, false) => format!("system.slice:wharf:{id}"),
            (true, true) => format!("user.slice:wharf:{id}"),
            (false, true) => format!("wharf-{id}"),
            (false, false) => format!("/wharf/{id}"),
        };
        linux.set_cgroups_path(Some(path.into()));
        self.spec.set_linux(Some(linux));
    }
}

fn is_bind(mount: &Mount) -> bool {
    let by_type = matches!(mount.typ().as_deref(), Some("bind" | "rbind"));
    let mut options = mount.options().iter().flatten();
    by_type || options.any(|o| o == "bind" || o == "rbind")
}

fn mappings(more: MoreOfMount) -> Mappings {
    let ranges = |list: Vec<Range>| {
        list.into_iter()
            .map(|r| IdRange {
                container: r.container_id,
                host: r.host_id,
                size: r.size,
            })
            .collect()
    };
    Mappings {
        uids: ranges(more.uid_mappings),
        gids: ranges(more.gid_mappings),
    }
}

/// As the types of the specification spell them, which is not as it does.
const MISSPELT: [(&str, &str); 2] = [
    ("\"enableCMT\"", "\"enableCmt\""),
    ("\"enableMBM\"", "\"enableMbm\""),
];

/// Reads the text, without capabilities that have no name here: theirs are given back.
fn parse(text: &str) -> serde_json::Result<(Spec, Vec<String>)> {
    if let Some((ours, theirs)) = MISSPELT.iter().find(|(ours, _)| text.contains(ours)) {
        return parse(&text.replace(ours, theirs));
    }
    let error = match serde_json::from_str(text) {
        Ok(spec) => return Ok((spec, Vec::new())),
        Err(error) => error,
    };
    let mut value: serde_json::Value = serde_json::from_str(text)?;
    let mut unknown = Vec::new();
    let sets = value.pointer_mut("/process/capabilities");
    for (_, set) in sets
        .and_then(|sets| sets.as_object_mut())
        .into_iter()
        .flatten()
    {
        let Some(names) = set.as_array_mut() else {
            continue;
        };
        names.retain(|name| {
            let known = serde_json::from_value::<Capability>(name.clone()).is_ok();
            if let (false, Some(name)) = (known, name.as_str()) {
                unknown.push(name.to_owned());
            }
            known || !name.is_string()
        });
    }
    unknown.sort_unstable();
    unknown.dedup();
    // What else is wrong is told with its place in the text.
    match serde_json::from_value(value) {
        Ok(spec) if !unknown.is_empty() => Ok((spec, unknown)),
        _ => Err(error),
    }
}

/// All of 1.x can be read as the newest of them.
fn check_version(version: &str) -> Result<(), Failure> {
    let mut parts = version.split(['.', '-', '+']);
    let numbers: Vec<Option<u32>> = parts.by_ref().take(3).map(|p| p.parse().ok()).collect();
    match numbers.as_slice() {
        [Some(1), Some(_), Some(_)] => Ok(()),
        _ => Err(Failure::new(format!(
            "ociVersion {version:?} is not supported: it must be 1.x.y"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_first_generation() {
        for version in ["1.0.0", "1.0.2-dev", "1.2.1", "1.3.0+x"] {
            check_version(version).expect("supported");
        }
        for version in ["", "1", "2.0.0", "one", "0.9.0"] {
            assert!(check_version(version).is_err(), "{version}");
        }
    }

    #[test]
    fn unknown_capabilities_are_left_out() {
        let text = |caps: &str| {
            format!(
                r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["x"],"capabilities":{{"bounding":{caps}}}}}}}"#
            )
        };
        let (spec, unknown) = parse(&text(r#"["CAP_KILL","CAP_TEST"]"#)).expect("valid");
        assert_eq!(unknown, ["CAP_TEST"]);
        let process = spec.process().as_ref().expect("there");
        let caps = process.capabilities().as_ref().expect("there");
        assert_eq!(caps.bounding().as_ref().map(|set| set.len()), Some(1));
        assert!(parse(&text("[7]")).is_err());
    }

    #[test]
    fn paths_are_taken_from_the_bundle() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("r")).expect("mkdir");
        let config = r#"{"ociVersion":"1.0.2","root":{"path":"r"},"process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["x"]},
            "mounts":[{"destination":"a","type":"bind","source":"src","uidMappings":[{"containerID":0,"hostID":5,"size":1}]},
                      {"destination":"/p","type":"proc","source":"proc"}],"linux":{}}"#;
        fs::write(dir.path().join("config.json"), config).expect("write");
        let bundle = Bundle::load(dir.path()).expect("valid");
        let mounts = bundle.spec.mounts().clone().expect("there");
        assert_eq!(mounts[0].destination(), Path::new("/a"));
        assert_eq!(mounts[0].source().clone(), Some(bundle.dir.join("src")));
        assert_eq!(mounts[1].source().clone(), Some("proc".into()));
        assert_eq!(bundle.mount_mappings[0].uids[0].host, 5);
        assert!(bundle.rootfs.ends_with("r"));
    }
}
