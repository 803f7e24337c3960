//! `--attest`, `--provenance`, `--sbom`: statements about the result.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::facts::{Base, Facts};
use crate::failure::Failure;
use crate::flags::parse::Matches;
use crate::request::mount::csv;

const V1: &str = "https://slsa.dev/provenance/v1";
const V02: &str = "https://slsa.dev/provenance/v0.2";

/// Which statements are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// How the result was made.
    pub(super) provenance: Option<Provenance>,
    /// What packages it has.
    pub(super) sbom: bool,
    /// They were asked for, and not only the default.
    pub(super) asked: bool,
}

/// How much is told of the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Provenance {
    /// Build arguments too.
    max: bool,
    builder: String,
    /// SLSA 0.2 instead of 1.
    older: bool,
}

/// When the build was, and what was asked.
pub(super) struct Invocation<'a> {
    /// Flags.
    pub(super) matches: &'a Matches,
    /// Build arguments that were sent.
    pub(super) arguments: &'a BTreeMap<String, Option<String>>,
    /// Address of the context; empty for a local one.
    pub(super) remote: &'a str,
    /// Seconds since 1970.
    pub(super) started: i64,
    /// The same.
    pub(super) finished: i64,
}

impl Wanted {
    pub(super) fn parse(matches: &Matches) -> Result<Wanted, Failure> {
        let mut wanted = Wanted {
            provenance: Some(Provenance::default()),
            sbom: false,
            asked: false,
        };
        let mut texts: Vec<String> = matches.list("attest").to_vec();
        for kind in ["provenance", "sbom"] {
            if let Some(value) = matches.text(kind) {
                texts.push(match value {
                    "true" | "" => format!("type={kind}"),
                    "false" => format!("type={kind},disabled=true"),
                    other => format!("type={kind},{other}"),
                });
            }
        }
        for text in &texts {
            wanted.add(text)?;
        }
        Ok(wanted)
    }

    fn add(&mut self, text: &str) -> Result<(), Failure> {
        let (mut kind, mut disabled) = (String::new(), false);
        let mut provenance = Provenance::default();
        for field in csv(text).map_err(Failure::new)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| Failure::new(format!("invalid value {field}")))?;
            match key {
                "type" => kind = value.to_owned(),
                "disabled" => disabled = value == "true",
                "mode" => {
                    provenance.max = match value {
                        "max" => true,
                        "min" => false,
                        other => return Err(Failure::new(format!("invalid mode {other:?}"))),
                    }
                }
                "builder-id" => value.clone_into(&mut provenance.builder),
                "version" => {
                    provenance.older = match value {
                        "v1" => false,
                        "v0.2" => true,
                        other => return Err(Failure::new(format!("invalid version {other:?}"))),
                    }
                }
                _ => {}
            }
        }
        self.asked |= !disabled;
        match kind.as_str() {
            "provenance" => self.provenance = (!disabled).then_some(provenance),
            "sbom" => self.sbom = !disabled,
            "" => return Err(Failure::new("attestation type not specified")),
            other => return Err(Failure::new(format!("unknown attestation type {other:?}"))),
        }
        Ok(())
    }
}

impl Provenance {
    /// Type and content of the statement.
    pub(super) fn statement(
        &self,
        facts: &Facts,
        invocation: &Invocation<'_>,
    ) -> (&'static str, Value) {
        if self.older {
            (V02, self.version_02(facts, invocation))
        } else {
            (V1, self.version_1(facts, invocation))
        }
    }

    /// SLSA provenance v1, with the parameters that BuildKit's documents define.
    fn version_1(&self, facts: &Facts, invocation: &Invocation<'_>) -> Value {
        let dependencies: Vec<Value> = facts
            .bases
            .iter()
            .map(|base| json!({"uri": base_uri(base), "digest": digest(base)}))
            .collect();
        json!({
            "buildDefinition": {
                "buildType": "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
                "externalParameters": {
                    "configSource": config_source(invocation, "path"),
                    "request": self.request(facts, invocation),
                },
                "internalParameters": {"builderPlatform": platform()},
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": self.builder},
                "metadata": {
                    "startedOn": moment(invocation.started),
                    "finishedOn": moment(invocation.finished),
                    "buildkit_hermetic": is_hermetic(invocation),
                    "buildkit_completeness": {"request": self.max, "resolvedDependencies": false},
                    "buildkit_reproducible": is_reproducible(invocation),
                },
            },
        })
    }

    fn version_02(&self, facts: &Facts, invocation: &Invocation<'_>) -> Value {
        let materials: Vec<Value> = facts
            .bases
            .iter()
            .map(|base| json!({"uri": base_uri(base), "digest": digest(base)}))
            .collect();
        json!({
            "builder": {"id": self.builder},
            "buildType": "https://mobyproject.org/buildkit@v1",
            "materials": materials,
            "invocation": {
                "configSource": config_source(invocation, "entryPoint"),
                "parameters": self.request(facts, invocation),
                "environment": {"platform": platform()},
            },
            "metadata": {
                "buildStartedOn": moment(invocation.started),
                "buildFinishedOn": moment(invocation.finished),
                "completeness": {"parameters": self.max, "environment": true, "materials": false},
                "reproducible": is_reproducible(invocation),
            },
        })
    }

    /// What was asked. Values of build arguments only with `mode=max`, since they may be secrets.
    fn request(&self, facts: &Facts, invocation: &Invocation<'_>) -> Value {
        let mut request = json!({"frontend": "dockerfile.v0", "locals": [{"name": "context"}, {"name": "dockerfile"}]});
        let mut arguments = BTreeMap::new();
        let target = invocation.matches.text_or_empty("target");
        if !target.is_empty() {
            arguments.insert("target".to_owned(), target.to_owned());
        }
        for context in &facts.contexts {
            arguments.insert(format!("context:{context}"), String::new());
        }
        if self.max {
            for (name, value) in invocation.arguments {
                let value = value.clone().unwrap_or_default();
                arguments.insert(format!("build-arg:{name}"), value);
            }
            for label in invocation.matches.list("label") {
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                arguments.insert(format!("label:{key}"), value.to_owned());
            }
        }
        if !arguments.is_empty() {
            request["args"] = json!(arguments);
        }
        request
    }
}

fn config_source(invocation: &Invocation<'_>, key: &str) -> Value {
    let file = match invocation.matches.text_or_empty("file") {
        "" => "Dockerfile",
        file => file.rsplit('/').next().unwrap_or(file),
    };
    let mut source = json!({ key: file });
    if !invocation.remote.is_empty() {
        source["uri"] = json!(invocation.remote);
    }
    source
}

fn base_uri(base: &Base) -> String {
    let (name, tag) = match base.name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (base.name.as_str(), "latest"),
    };
    let platform = platform().replace('/', "%2F");
    format!("pkg:docker/{name}@{tag}?platform={platform}")
}

/// What the registry calls it, or else its own ID.
fn digest(base: &Base) -> Value {
    let digest = base.digests.first().unwrap_or(&base.id);
    json!({"sha256": digest.trim_start_matches("sha256:")})
}

fn platform() -> String {
    wharf_spec::platform::Platform::host().to_string()
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

fn is_hermetic(invocation: &Invocation<'_>) -> bool {
    invocation.matches.text_or_empty("network") == "none"
}

fn is_reproducible(invocation: &Invocation<'_>) -> bool {
    matches!(invocation.arguments.get("SOURCE_DATE_EPOCH"), Some(Some(_)))
}
