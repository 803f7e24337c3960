//! `docker tag`.

use wharf_spec::reference::Reference;

use crate::{Engine, Error, Result};

impl Engine {
    /// Gives an image a further name.
    pub async fn image_tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let reference = repository_tag(repository, tag)?
            .ok_or_else(|| Error::invalid("invalid reference format"))?;
        if reference.familiar_name() == "sha256" {
            return Err(Error::invalid(
                "refusing to create an ambiguous tag using digest algorithm as name",
            ));
        }
        let image = self.store.image(name)?;
        self.store.tag(&image.id, &reference)?;
        self.tell_image("tag", &image.id, &reference.familiar());
        Ok(())
    }
}

/// The reference in the parameters `repo` and `tag`; `None` without a repository.
pub(crate) fn repository_tag(repository: &str, tag: &str) -> Result<Option<Reference>> {
    if repository.is_empty() {
        return Ok(None);
    }
    let invalid = |error: wharf_spec::reference::ReferenceError| Error::invalid(error.to_string());
    let reference = Reference::parse(repository).map_err(invalid)?;
    if reference.digest().is_some() {
        return Err(Error::invalid("cannot import digest reference"));
    }
    if tag.is_empty() {
        return Ok(Some(reference.or_latest()));
    }
    reference.with_tag(tag).map(Some).map_err(invalid)
}
