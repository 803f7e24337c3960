//! Making a volume's data accessible while somebody uses it: a directory of the host is, other things are mounted or asked of a driver.

use std::path::PathBuf;

use super::{DRIVER, Volume, Volumes, local_options, no_such, plugin};
use crate::{Error, Result};

/// Whether a `local` volume is more than a directory.
pub fn needs_mount(volume: &Volume) -> bool {
    local_options::MountPlan::of(&volume.options).is_some()
}

impl Volumes {
    /// Where the data is, for the user with this ID, who gives it back with [`Volumes::release`]. Blocking.
    pub fn access(&self, name: &str, user: &str) -> Result<PathBuf> {
        let volume = match self.get(name) {
            Some(volume) => volume,
            None => self.find(name)?.ok_or_else(|| no_such(name))?,
        };
        if volume.driver == DRIVER && !needs_mount(&volume) {
            if self.quotas.is_none() && local_options::size(&volume.options)?.is_some() {
                return Err(Error::internal(
                    "size quota requested for volume but no quota support",
                ));
            }
            return Ok(self.data(name));
        }
        self.mount(&volume, user).map_err(|error| {
            let place = self.mountpoint(&volume);
            error.context(format!("error while mounting volume '{place}'"))
        })
    }

    fn mount(&self, volume: &Volume, user: &str) -> Result<PathBuf> {
        let name = &volume.name;
        if volume.driver != DRIVER {
            // Without the lock: a driver may take its time.
            let path = plugin::await_driver(&volume.driver)?.mount(name, user)?;
            let mut mounted = self.mounted.lock();
            mounted
                .entry(name.clone())
                .or_default()
                .insert(user.to_owned());
            return Ok(path);
        }
        let mut mounted = self.mounted.lock();
        let data = self.data(name);
        if let Some(plan) = local_options::MountPlan::of(&volume.options)
            && !local_options::is_mounted(&data)
        {
            plan.execute(&data)?;
        }
        mounted
            .entry(name.clone())
            .or_default()
            .insert(user.to_owned());
        Ok(data)
    }

    /// The user is done. `others` tells whether containers still run with it that an earlier daemon gave access to. Blocking.
    pub fn release(&self, name: &str, user: &str, others: bool) -> Result<()> {
        let Some(volume) = self.get(name) else {
            return Ok(());
        };
        if volume.driver == DRIVER && !needs_mount(&volume) {
            return Ok(());
        }
        if volume.driver != DRIVER {
            if let Some(users) = self.mounted.lock().get_mut(name) {
                users.remove(user);
            }
            return plugin::find(&volume.driver)?.unmount(name, user);
        }
        let mut mounted = self.mounted.lock();
        let mut last = true;
        if let Some(users) = mounted.get_mut(name) {
            users.remove(user);
            last = users.is_empty();
        }
        if last && !others {
            mounted.remove(name);
            local_options::take_down(&self.data(name))?;
        }
        Ok(())
    }

    /// The path that `inspect` shows.
    pub fn mountpoint(&self, volume: &Volume) -> String {
        if volume.driver == DRIVER {
            return self.data(&volume.name).display().to_string();
        }
        let found = plugin::find(&volume.driver).and_then(|plugin| plugin.path(&volume.name));
        found.unwrap_or_default()
    }
}
