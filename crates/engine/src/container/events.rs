//! What the event bus is told about containers: Docker's attributes are the labels, the image and the name.

use std::collections::BTreeMap;

use super::Container;
use super::record::Record;
use crate::Engine;

impl Engine {
    /// Publishes an event about a container with further attributes.
    pub(crate) fn tell(&self, container: &Container, action: &str, more: &[(&str, &str)]) {
        let record = container.record();
        let mut attributes: BTreeMap<String, String> =
            record.config.labels.clone().unwrap_or_default();
        attributes.insert("image".into(), record.config.image.clone());
        attributes.insert("name".into(), record.name.clone());
        for (key, value) in more {
            attributes.insert((*key).to_owned(), (*value).to_owned());
        }
        self.events
            .publish("container", action, &container.id, attributes);
    }

    /// Publishes that a container began or ended to use its volumes.
    pub(crate) fn tell_mounts(&self, action: &str, record: &Record) {
        for mount in record.mounts.iter().filter(|mount| mount.kind == "volume") {
            let mut attributes = BTreeMap::from([("container".to_owned(), record.id.clone())]);
            if action == "mount" {
                attributes.insert("destination".into(), mount.destination.clone());
                attributes.insert("propagation".into(), mount.propagation.clone());
                attributes.insert("read/write".into(), mount.rw.to_string());
            }
            self.tell_volume(action, &mount.name, attributes);
        }
    }
}
