//! `POST /containers/create` and `POST /containers/{id}/update`.

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{Config, HostConfig};
use crate::gojson;
use crate::network::NetworkingConfig;

/// Body of a create: the fields of [`Config`] at the top, and two named parts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CreateRequest {
    pub config: Config,
    /// `None` when the client left it out.
    pub host_config: Option<HostConfig>,
    /// `None` when the client left it out.
    pub networking_config: Option<NetworkingConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Parts {
    host_config: Option<HostConfig>,
    networking_config: Option<NetworkingConfig>,
}

impl<'de> Deserialize<'de> for CreateRequest {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        let body = Value::deserialize(de)?;
        let config = gojson::from_value(body.clone()).map_err(D::Error::custom)?;
        let parts: Parts = gojson::from_value(body).map_err(D::Error::custom)?;
        Ok(CreateRequest {
            config,
            host_config: parts.host_config,
            networking_config: parts.networking_config,
        })
    }
}

impl Serialize for CreateRequest {
    fn serialize<S: Serializer>(&self, ser: S) -> Result<S::Ok, S::Error> {
        let config = serde_json::to_value(&self.config).map_err(serde::ser::Error::custom)?;
        let mut map = ser.serialize_map(None)?;
        for (key, value) in config.as_object().into_iter().flatten() {
            map.serialize_entry(key, value)?;
        }
        if let Some(host) = &self.host_config {
            map.serialize_entry("HostConfig", host)?;
        }
        if let Some(networking) = &self.networking_config {
            map.serialize_entry("NetworkingConfig", networking)?;
        }
        map.end()
    }
}

/// Answer to a create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    pub id: String,
    pub warnings: Vec<String>,
}

/// Body of an update: of these fields only the resources and the restart policy are looked at.
/// The JSON of moby's `UpdateConfig` is a subset of that of `HostConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpdateRequest(pub HostConfig);

/// Answer to an update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateResponse {
    pub warnings: Option<Vec<String>>,
}
