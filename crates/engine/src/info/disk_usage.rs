//! `GET /system/df`: what takes space.

use wharf_api::filters::Filters;
use wharf_api::system::DiskUsage;
use wharf_api::volume::{UsageData, Volume};

use crate::container::list::ListOptions;
use crate::volumes::DRIVER;
use crate::volumes::api::directory_size;
use crate::{Engine, Result, blocking};

/// Kinds of objects to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Containers.
    pub containers: bool,
    /// Images.
    pub images: bool,
    /// Volumes.
    pub volumes: bool,
    /// Build cache.
    pub build_cache: bool,
}

impl Engine {
    /// Sizes of everything that is wanted; the rest is `None`.
    pub async fn disk_usage(&self, wanted: Wanted) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if wanted.containers {
            let options = ListOptions {
                all: true,
                size: true,
                ..ListOptions::default()
            };
            usage.containers = Some(self.container_list(options).await?);
        }
        if wanted.images {
            usage.images = Some(self.image_list(false, Filters::default(), true).await?);
            // All that is on disk of images, so that the sum is what `du` says: compressed layers and what pulls left are in it.
            let store = self.store.clone();
            let stored = blocking(move || Ok(store.usage().total())).await?;
            usage.layers_size = i64::try_from(stored).unwrap_or(i64::MAX);
        }
        if wanted.volumes {
            usage.volumes = Some(self.volumes_with_usage().await?);
        }
        if wanted.build_cache {
            let engine = self.handle();
            let records = crate::blocking(move || {
                Ok(engine.map_or_else(Vec::new, |engine| engine.build_cache()))
            });
            usage.build_cache = Some(records.await?);
        }
        Ok(usage)
    }

    async fn volumes_with_usage(&self) -> Result<Vec<Volume>> {
        let mut volumes = self.volume_list(Filters::default()).await?.volumes;
        // What is mounted from elsewhere takes no place here (moby `LocalVolumesSize`).
        volumes.retain(|volume| volume.driver == DRIVER && volume.options.is_none());
        for volume in &mut volumes {
            let (store, name) = (self.volumes.clone(), volume.name.clone());
            let size = blocking(move || Ok(directory_size(&store.data(&name)))).await?;
            volume.usage_data = Some(UsageData {
                ref_count: i64::try_from(self.volume_users(&volume.name).len()).unwrap_or(i64::MAX),
                size: i64::try_from(size).unwrap_or(i64::MAX),
            });
        }
        Ok(volumes)
    }
}
