//! `RUN --mount=type=…,…`.

use super::super::error::Problem;
use super::super::expand::quote;
use super::super::suggest::nearest;

/// One mount of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Stage, image or named context; empty is the build context.
    pub from: String,
    /// Path in it, or a secret's name.
    pub source: String,
    /// Where it appears; empty if not given.
    pub target: String,
    /// Cannot be written to.
    pub read_only: bool,
    /// Bytes of a tmpfs, 0 for no limit.
    pub size: u64,
    /// Name of cache, secret or agent; empty if not given.
    pub id: String,
    /// Of a cache.
    pub sharing: Option<Sharing>,
    /// Fails the build if the secret or agent is not there.
    pub required: bool,
    /// Variable that a secret becomes; an empty name stands for the secret's.
    pub env: Option<String>,
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// Files of context, stage or image.
    #[default]
    Bind,
    /// A directory that stays from build to build.
    Cache,
    /// An empty directory in memory.
    Tmpfs,
    /// A secret of the client.
    Secret,
    /// The client's SSH agent.
    Ssh,
}

/// What happens when two builds want the same cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Both use it.
    Shared,
    /// The second gets another one.
    Private,
    /// The second waits.
    Locked,
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] = [
    ("shared", Sharing::Shared),
    ("private", Sharing::Private),
    ("locked", Sharing::Locked),
];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountKind {
    fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("bind", |(name, _)| name)
    }
}

/// What can be said before variables are known: whether the text is a list of fields, and that `from` has no variable.
pub(crate) fn check(text: &str) -> Result<(), Problem> {
    for field in fields(text)? {
        let Some((key, value)) = field.split_once('=') else {
            continue;
        };
        let key = key.to_lowercase();
        let dollar = value.find('$');
        if key == "from" && dollar.is_some_and(|at| at + 1 != value.len()) {
            return Err(Problem::MountVariable(key));
        }
    }
    Ok(())
}

impl Mount {
    /// Reads a mount; `expand` replaces variables in values.
    pub fn parse(
        text: &str,
        expand: &dyn Fn(&str) -> Result<String, Problem>,
    ) -> Result<Mount, Problem> {
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in fields(text)? {
            match field.split_once('=') {
                None => mount.set_flag(&field, &mut read_only)?,
                Some((key, value)) => {
                    let value = expand(value)?;
                    mount.set(&key.to_lowercase(), value, &field, &mut read_only)?;
                }
            }
        }
        mount.check_combination()?;
        mount.read_only =
            read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        Ok(mount)
    }

    /// A field without a value.
    fn set_flag(&mut self, field: &str, read_only: &mut Option<bool>) -> Result<(), Problem> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => {
                self.for_kinds("required", &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            _ => return Err(Problem::MountField(field.to_owned())),
        }
        Ok(())
    }

    fn set(
        &mut self,
        key: &str,
        value: String,
        field: &str,
        read_only: &mut Option<bool>,
    ) -> Result<(), Problem> {
        match key {
            "type" => self.kind = kind(&value)?,
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => *read_only = Some(boolean(key, &value)?),
            "readwrite" | "rw" => *read_only = Some(!boolean(key, &value)?),
            "required" => {
                self.for_kinds(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = boolean(key, &value)?;
            }
            "size" => {
                self.for_kinds(key, &[MountKind::Tmpfs])?;
                self.size = bytes(&value)
                    .ok_or_else(|| Problem::MountValue(key.to_owned(), value.clone()))?;
            }
            "id" => self.id = value,
            "sharing" => self.sharing = Some(sharing(&value)?),
            "mode" => self.mode = Some(number(&value, 8, "mode")?),
            "uid" => self.uid = Some(number(&value, 10, "uid")?),
            "gid" => self.gid = Some(number(&value, 10, "gid")?),
            "env" => self.env = Some(value),
            _ => {
                return Err(Problem::MountKey {
                    key: key.to_owned(),
                    field: field.to_owned(),
                    suggestion: nearest(key, KEYS, false),
                });
            }
        }
        Ok(())
    }

    /// The type must have been named before.
    fn for_kinds(&self, key: &str, kinds: &[MountKind]) -> Result<(), Problem> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(Problem::MountKeyForType {
            key: key.to_owned(),
            kind: self.kind.name(),
        })
    }

    fn check_combination(&self) -> Result<(), Problem> {
        let name = self.kind.name();
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            let given = [
                ("mode", self.mode.is_some()),
                ("uid", self.uid.is_some()),
                ("gid", self.gid.is_some()),
            ];
            if let Some((key, _)) = given.iter().find(|(_, given)| *given) {
                return Err(Problem::MountOwner(key, name));
            }
        }
        if self.kind == MountKind::Secret {
            self.check_secret()?;
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(Problem::SharingNotCache(name));
        }
        Ok(())
    }

    fn check_secret(&self) -> Result<(), Problem> {
        if !self.from.is_empty() {
            return Err(Problem::SecretFrom);
        }
        if self.sharing.is_some() {
            return Err(Problem::SecretSharing);
        }
        if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
            return Err(Problem::SecretUnnamed);
        }
        if !self.source.is_empty() && !self.id.is_empty() {
            return Err(Problem::SecretTwoNames);
        }
        Ok(())
    }
}

fn kind(value: &str) -> Result<MountKind, Problem> {
    let lower = value.to_lowercase();
    KINDS
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, kind)| *kind)
        .ok_or_else(|| Problem::MountType {
            value: quote(value),
            suggestion: nearest(value, KINDS.map(|(name, _)| name), false),
        })
}

fn sharing(value: &str) -> Result<Sharing, Problem> {
    let lower = value.to_lowercase();
    SHARINGS
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, sharing)| *sharing)
        .ok_or_else(|| Problem::MountSharing {
            value: quote(value),
            suggestion: nearest(value, SHARINGS.map(|(name, _)| name), false),
        })
}

/// Go's `strconv.ParseBool`.
fn boolean(key: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Problem::MountValue(key.to_owned(), value.to_owned())),
    }
}

fn number(value: &str, radix: u32, what: &'static str) -> Result<u32, Problem> {
    // A sign, which Rust takes, is none of Go's ParseUint.
    let digits = !value.starts_with('+');
    u32::from_str_radix(value, radix)
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| Problem::MountNumber(value.to_owned(), what))
}

/// `64m`, `1.5GiB` and the like, in powers of 1024 (go-units `RAMInBytes`).
fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let unit_at = lower
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(lower.len());
    let (amount, unit) = lower.split_at(unit_at);
    let amount: f64 = amount.trim().parse().ok()?;
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let exponent = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = amount * 1024f64.powi(exponent);
    // Floats convert by saturation; the fraction is dropped as Docker does.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (bytes >= 0.0).then_some(bytes as u64)
}

/// Fields of one line of comma-separated values (RFC 4180).
fn fields(text: &str) -> Result<Vec<String>, Problem> {
    let bad = |why: &str| Problem::MountCsv(format!("parse error on line 1: {why}"));
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)
                .ok_or_else(|| bad("extraneous or missing \" in quoted-field"))?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(bad("bare \" in non-quoted-field"));
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(bad("extraneous or missing \" in quoted-field")),
        }
    }
}

/// After the opening quote: the field, and what follows the closing one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let at = rest.find('"')?;
        field.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount, String> {
        check(text).map_err(|problem| problem.to_string())?;
        Mount::parse(text, &|value| Ok(value.to_owned())).map_err(|problem| problem.to_string())
    }

    #[test]
    fn mounts_of_each_type() {
        let mount = parse("target=/x,source=a,from=base").expect("a bind");
        assert!(mount.read_only && mount.kind == MountKind::Bind);
        assert!(!parse("target=/x,rw").expect("a bind").read_only);
        let cache =
            parse("type=cache,dst=/c,id=i,sharing=locked,mode=0700,uid=5").expect("a cache");
        assert_eq!(
            (cache.sharing, cache.mode, cache.uid, cache.read_only),
            (Some(Sharing::Locked), Some(0o700), Some(5), false)
        );
        assert_eq!(
            parse("type=tmpfs,target=/t,size=64m")
                .expect("a tmpfs")
                .size,
            64 << 20
        );
        let secret = parse("type=secret,id=s,env=TOKEN,required").expect("a secret");
        assert_eq!(
            (secret.env.as_deref(), secret.required),
            (Some("TOKEN"), true)
        );
        let odd = parse("\"source=a,b\",target=/x").expect("a quoted field");
        assert_eq!(odd.source, "a,b");
    }

    #[test]
    fn refusals_in_dockers_words() {
        let rows = [
            (
                "type=bnd",
                "unsupported mount type \"bnd\" (did you mean bind?)",
            ),
            ("type=cache,sharing=x", "unsupported sharing value \"x\""),
            ("unknown=y", "unexpected key 'unknown' in 'unknown=y'"),
            (
                "targt=y",
                "unexpected key 'targt' in 'targt=y' (did you mean target?)",
            ),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("size=1m", "unexpected key 'size' for mount type 'bind'"),
            ("type=tmpfs,size=x", "invalid value for size: x"),
            ("mode=0700", "mode not allowed for \"bind\" type mounts"),
            ("type=cache,uid=x", "invalid value x for uid"),
            (
                "type=secret",
                "invalid secret mount. one of source, target required",
            ),
            (
                "type=secret,id=a,source=b",
                "both source and id can't be set",
            ),
            (
                "type=secret,id=a,from=b",
                "secret mount should not have a from",
            ),
            (
                "type=tmpfs,sharing=shared",
                "invalid cache sharing set for tmpfs mount",
            ),
            (
                "from=$x,target=/y",
                "'from' doesn't support variable expansion, define alias stage instead",
            ),
            ("ro=perhaps", "invalid value for ro: perhaps"),
            (
                "a\"b",
                "failed to parse csv mounts: parse error on line 1: bare \" in non-quoted-field",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text).expect_err(text), expected, "{text}");
        }
    }
}
