//! `docker rmi`: which names go, whether the image goes with them, and what is in the way (moby `daemon/images/image_delete.go`).

use wharf_api::image::DeleteItem;
use wharf_spec::digest::Digest;
use wharf_spec::reference::Reference;

use crate::container::Container;
use crate::{Engine, Error, Result, blocking};

/// What may stand in the way; the first two cannot be forced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mask {
    references: bool,
    stopped: bool,
}

const HARD: Mask = Mask {
    references: false,
    stopped: false,
};
const ALL: Mask = Mask {
    references: true,
    stopped: true,
};

/// Something in the way.
#[derive(Debug, PartialEq, Eq)]
struct Conflict {
    hard: bool,
    /// By a container.
    used: bool,
    message: String,
}

impl Conflict {
    fn error(&self, id: &Digest) -> Error {
        let force = if self.hard {
            "cannot be forced"
        } else {
            "must be forced"
        };
        Error::conflict(format!(
            "conflict: unable to delete {} ({force}) - {}",
            id.short(),
            self.message
        ))
    }
}

impl Engine {
    /// Takes a name away, or an image by its ID; with the last name the image goes, and its parents that nobody wants unless `no_prune`.
    pub async fn image_remove(
        &self,
        name: &str,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<DeleteItem>> {
        let name = name.to_owned();
        self.finish(move |engine| async move {
            blocking(move || engine.remove_image_now(&name, force, !no_prune)).await
        })
        .await
    }

    pub(super) fn remove_image_now(
        &self,
        name: &str,
        force: bool,
        prune: bool,
    ) -> Result<Vec<DeleteItem>> {
        let image = self.store.image(name)?;
        let mut items = Vec::new();
        let by_id = is_id_prefix(&image.id, name);
        if by_id {
            self.remove_only_name(&image.id, force, &mut items)?;
        } else if !self.remove_name(&image.id, name, force, &mut items)? {
            return Ok(items);
        }
        self.remove_image_itself(&image.id, force, prune, !by_id, &mut items)?;
        Ok(items)
    }

    /// An ID takes the image's only name with it.
    fn remove_only_name(
        &self,
        id: &Digest,
        force: bool,
        items: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        let names = self.store.references_of(id);
        if !is_single(&names) {
            return Ok(());
        }
        let mask = if force {
            HARD
        } else {
            Mask {
                references: false,
                stopped: true,
            }
        };
        if let Some(conflict) = self.conflict(id, mask) {
            return Err(conflict.error(id));
        }
        names
            .iter()
            .try_for_each(|name| self.untag(id, name, true, items))
    }

    /// Removes one name. `false`: others remain, and that was all.
    fn remove_name(
        &self,
        id: &Digest,
        given: &str,
        force: bool,
        items: &mut Vec<DeleteItem>,
    ) -> Result<bool> {
        let names = self.store.references_of(id);
        if !force
            && is_single(&names)
            && let Some(user) = self.users_of(id).into_iter().next()
        {
            return Err(Error::conflict(format!(
                "conflict: unable to remove repository reference {given:?} (must force) - container {} is using its referenced image {}",
                crate::ids::short(&user.id),
                id.short()
            )));
        }
        let name = Reference::parse(given)
            .map_err(|error| Error::invalid(error.to_string()))?
            .or_latest();
        self.untag(id, &name, true, items)?;
        let mut remaining = self.store.references_of(id);
        let same = |other: &Reference| other.name() == name.name();
        if name.digest().is_none()
            && !remaining
                .iter()
                .any(|other| other.digest().is_none() && same(other))
        {
            // Digests of a repository go with its last tag.
            for digest in remaining.extract_if(.., |other| other.digest().is_some() && same(other))
            {
                self.untag(id, &digest, false, items)?;
            }
        }
        Ok(remaining.is_empty())
    }

    fn untag(
        &self,
        id: &Digest,
        name: &Reference,
        tell: bool,
        items: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        self.store.untag(name)?;
        if tell {
            self.tell_image("untag", id, id.as_str());
        }
        items.push(DeleteItem {
            untagged: name.familiar(),
            ..DeleteItem::default()
        });
        Ok(())
    }

    /// Removes the image, then its parents quietly.
    fn remove_image_itself(
        &self,
        id: &Digest,
        force: bool,
        prune: bool,
        quiet: bool,
        items: &mut Vec<DeleteItem>,
    ) -> Result<()> {
        if let Some(conflict) = self.conflict(id, if force { HARD } else { ALL }) {
            if quiet && (!self.is_image_dangling(id) || conflict.used) {
                return Ok(());
            }
            return Err(conflict.error(id));
        }
        let parent = self.store.image_by_id(id)?.parent;
        for name in self.store.references_of(id) {
            self.untag(id, &name, true, items)?;
        }
        let layers = self.store.remove_image(id)?;
        self.tell_image("delete", id, id.as_str());
        let deleted = |name: String| DeleteItem {
            deleted: name,
            ..DeleteItem::default()
        };
        items.push(deleted(id.to_string()));
        items.extend(
            layers
                .into_iter()
                .map(|layer| deleted(layer.chain.to_string())),
        );
        match parent {
            Some(parent) if prune && self.store.image_by_id(&parent).is_ok() => {
                self.remove_image_itself(&parent, false, true, true, items)
            }
            _ => Ok(()),
        }
    }

    fn conflict(&self, id: &Digest, mask: Mask) -> Option<Conflict> {
        let soft = |used, message| {
            Some(Conflict {
                hard: false,
                used,
                message,
            })
        };
        if !self.store.children_of(id).is_empty() {
            return Some(Conflict {
                hard: true,
                used: false,
                message: "image has dependent child images".to_owned(),
            });
        }
        let users = self.users_of(id);
        let (running, stopped): (Vec<_>, Vec<_>) = users
            .iter()
            .partition(|container| container.status().is_running());
        if let Some(container) = running.first() {
            let message = format!(
                "image is being used by running container {}",
                crate::ids::short(&container.id)
            );
            return Some(Conflict {
                hard: true,
                used: true,
                message,
            });
        }
        if mask.references && !self.store.references_of(id).is_empty() {
            return soft(
                false,
                "image is referenced in multiple repositories".to_owned(),
            );
        }
        match stopped.first() {
            Some(container) if mask.stopped => soft(
                true,
                format!(
                    "image is being used by stopped container {}",
                    crate::ids::short(&container.id)
                ),
            ),
            _ => None,
        }
    }

    fn users_of(&self, id: &Digest) -> Vec<std::sync::Arc<Container>> {
        let mut users = self.containers.all();
        users.retain(|container| container.record().image_id == id.as_str());
        users
    }

    fn is_image_dangling(&self, id: &Digest) -> bool {
        self.store.references_of(id).is_empty() && self.store.children_of(id).is_empty()
    }
}

/// Whether the user wrote an ID, or the start of one.
fn is_id_prefix(id: &Digest, text: &str) -> bool {
    id.as_str().starts_with(text) || id.hex().starts_with(text)
}

/// One name, or one tag with digests of the same repository.
fn is_single(names: &[Reference]) -> bool {
    let (digests, tags): (Vec<_>, Vec<_>) = names.iter().partition(|name| name.digest().is_some());
    if names.len() <= 1 {
        return names.len() == 1;
    }
    let Some(one) = tags.first().or(digests.first()) else {
        return false;
    };
    tags.len() <= 1 && !digests.is_empty() && digests.iter().all(|name| name.name() == one.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_names_are_told_apart() {
        let digest = format!("@{}", Digest::of(b""));
        let check = |names: &[String], expected: bool| {
            let names: Vec<Reference> = names
                .iter()
                .map(|name| Reference::parse(name).expect(name))
                .collect();
            assert_eq!(is_single(&names), expected, "{names:?}");
        };
        check(&[], false);
        check(&["a:1".into()], true);
        check(&["a:1".into(), "a:2".into()], false);
        check(&["a:1".into(), format!("a{digest}")], true);
        check(&["a:1".into(), format!("b{digest}")], false);
        check(&[format!("a{digest}"), format!("b{digest}")], false);
    }

    #[test]
    fn conflicts_have_dockers_words() {
        let id = Digest::of(b"");
        let conflict = Conflict {
            hard: false,
            used: true,
            message: "image is being used by stopped container 1234".into(),
        };
        assert_eq!(
            conflict.error(&id).to_string(),
            "conflict: unable to delete e3b0c44298fc (must be forced) - image is being used by stopped container 1234"
        );
    }
}
