//! `GET /system/df`.

use serde::{Deserialize, Serialize};

use crate::container::ContainerSummary;
use crate::image::ImageSummary;
use crate::is_zero;
use crate::volume::Volume;

/// What takes space. A kind that was not asked for is `null`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DiskUsage {
    pub layers_size: i64,
    pub images: Option<Vec<ImageSummary>>,
    pub containers: Option<Vec<ContainerSummary>>,
    pub volumes: Option<Vec<Volume>>,
    pub build_cache: Option<Vec<CacheRecord>>,
}

/// One record of the build cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CacheRecord {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub parent: String,
    /// moby's field name begins with a space; clients rely on nothing else.
    #[serde(rename = " Parents", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    #[serde(rename = "Type")]
    pub kind: String,
    pub description: String,
    pub in_use: bool,
    pub shared: bool,
    pub size: i64,
    pub created_at: String,
    pub last_used_at: Option<String>,
    pub usage_count: i64,
}
