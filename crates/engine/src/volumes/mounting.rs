//! Making a volume's data accessible while somebody uses it: a directory of the host is, other things are mounted or asked of a driver.

use std::path::PathBuf;

use super::{DRIVER, Volume, Volumes, local_options, no_such, plugin};
use crate::Result;

/// Whether a `local` volume is more than a directory.
pub fn needs_mount(volume: &Volume) -> bool {
    local_options::MountPlan::of(&volume.options).is_some()
}

impl Volumes {
    /// Where the data is, for the user with this ID, who gives it back with [`Volumes::release`]. Blocking.
    pub fn access(&self, name: &str, user: &str) -> Result<PathBuf> {
        let volume = self.get(name).ok_or_else(|| no_such(name))?;
        if volume.driver == DRIVER && !needs_mount(&volume) {
            return Ok(self.data(name));
        }
        let mut mounted = self.mounted.lock();
        let users = mounted.entry(name.to_owned()).or_default();
        let path = if volume.driver == DRIVER {
            let data = self.data(name);
            if let Some(plan) = local_options::MountPlan::of(&volume.options)
                && !local_options::is_mounted(&data)
            {
                plan.execute(&data)?;
            }
            data
        } else {
            plugin::find(&volume.driver)?.mount(name, user)?
        };
        users.insert(user.to_owned());
        Ok(path)
    }

    /// The user is done. `others` tells whether containers still run with it that an earlier daemon gave access to. Blocking.
    pub fn release(&self, name: &str, user: &str, others: bool) -> Result<()> {
        let Some(volume) = self.get(name) else {
            return Ok(());
        };
        if volume.driver == DRIVER && !needs_mount(&volume) {
            return Ok(());
        }
        let mut mounted = self.mounted.lock();
        let mut last = true;
        if let Some(users) = mounted.get_mut(name) {
            users.remove(user);
            last = users.is_empty();
        }
        if volume.driver != DRIVER {
            return plugin::find(&volume.driver)?.unmount(name, user);
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
        let found = plugin::find(&volume.driver).and_then(|plugin| plugin.get(&volume.name));
        found.map_or_else(|_| String::new(), |found| found.mountpoint)
    }
}
