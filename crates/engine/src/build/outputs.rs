//! `outputs` of `POST /build`: where the result goes besides the engine.
//!
//! Files for the client (`local`, `tar`, `oci`, `docker` with a destination) have no way back over this endpoint, which answers with lines:
//! clients fetch them afterwards from `/wharf/images/{name}/files` and `/layout`, or `/images/get`, as our own does.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::sync::mpsc;
use wharf_api::progress::Progress;
use wharf_spec::reference::Reference;

use super::BuildOptions;
use crate::images::push::PushRequest;
use crate::{Engine, Error, Result};

/// Lines of a push under way.
const DEPTH: usize = 64;

/// One output, as the parameter has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OutputOption {
    /// `image`, `registry`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its attributes.
    #[serde(rename = "Attrs")]
    pub attributes: Option<BTreeMap<String, String>>,
}

/// All outputs of a build, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outputs {
    /// Names besides the tags.
    pub(super) names: Vec<String>,
    /// All names are pushed.
    pub(super) push: bool,
}

impl Outputs {
    pub(super) fn parse(given: &[OutputOption]) -> Result<Outputs> {
        let mut outputs = Outputs::default();
        for output in given {
            let attribute = |name: &str| output.attributes.as_ref()?.get(name).map(String::as_str);
            match output.kind.as_str() {
                "" => return Err(Error::invalid("type is required for output")),
                "image" | "moby" | "registry" | "cacheonly" => {}
                "docker" if attribute("dest").is_none() => {}
                "local" | "tar" | "oci" | "docker" => {
                    return Err(Error::not_implemented(format!(
                        "output {:?} needs a session with the client, which this endpoint does not have; fetch the result by its ID instead",
                        output.kind
                    )));
                }
                other => {
                    return Err(Error::invalid(format!(
                        "exporter {other:?} could not be found"
                    )));
                }
            }
            let names = attribute("name").unwrap_or_default().split(',');
            outputs
                .names
                .extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            outputs.push |= output.kind == "registry" || attribute("push") == Some("true");
        }
        Ok(outputs)
    }
}

impl Engine {
    /// Pushes the result under all its names. `tell` gets the lines.
    pub(super) async fn push_result(
        &self,
        tags: &[Reference],
        options: &BuildOptions,
        tell: &mut impl FnMut(Progress),
    ) -> Result<()> {
        if tags.is_empty() {
            return Err(Error::invalid("tag is needed when pushing to registry"));
        }
        for tag in tags {
            let request = PushRequest {
                reference: tag.clone(),
                platform: String::new(),
                credentials: options.credentials_for(tag),
            };
            let (sink, mut lines) = mpsc::channel(DEPTH);
            let pushing = self.image_push(request, sink);
            tokio::pin!(pushing);
            loop {
                tokio::select! {
                    Some(line) = lines.recv() => tell(without_aux(line)),
                    done = &mut pushing => {
                        while let Ok(line) = lines.try_recv() {
                            tell(without_aux(line));
                        }
                        done?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Clients of builds take every `aux` for the image's ID.
fn without_aux(line: Progress) -> Progress {
    Progress { aux: None, ..line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::error::Kind;

    fn parse(text: &str) -> Result<Outputs> {
        Outputs::parse(&serde_json::from_str::<Vec<OutputOption>>(text).expect("JSON"))
    }

    #[test]
    fn outputs_are_understood() {
        assert!(parse(r#"[{"Type":"docker","Attrs":null}]"#).is_ok());
        let found =
            parse(r#"[{"Type":"image","Attrs":{"name":"a,b","push":"true"}}]"#).expect("valid");
        assert_eq!((found.names.len(), found.push), (2, true));
        assert!(parse(r#"[{"Type":"registry"}]"#).expect("valid").push);
        assert_eq!(
            parse(r#"[{"Type":"cacheonly"}]"#).expect("valid"),
            Outputs::default()
        );
        for (text, kind) in [
            (
                r#"[{"Type":"local","Attrs":{"dest":"x"}}]"#,
                Kind::NotImplemented,
            ),
            (r#"[{"Type":"other"}]"#, Kind::Invalid),
            (r#"[{}]"#, Kind::Invalid),
        ] {
            assert_eq!(parse(text).expect_err(text).kind(), kind, "{text}");
        }
    }
}
