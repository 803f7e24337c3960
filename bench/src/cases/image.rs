//! A large image.

use anyhow::{Context, Result};

use crate::image;
use crate::measure::{Values, timed};
use crate::side::Side;

/// Cold: the image is removed before each run.
pub(crate) fn load(side: &mut Side) -> Result<Values> {
    let archive = image::ensure_big()?;
    let path = archive.to_str().context("a plain path")?;
    let _ = side.docker(&["rmi", "-f", image::BIG]);
    let (ms, result) = timed(|| side.docker(&["load", "-q", "-i", path]));
    result?;
    side.docker(&["rmi", "-f", image::BIG])?;
    Ok(vec![(String::new(), ms)])
}
