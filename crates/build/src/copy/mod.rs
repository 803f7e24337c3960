//! What `COPY` and `ADD` put where: found, hashed for the cache, and written as a layer, without a container.

mod archive;
mod chmod;
mod difference;
mod layer;
mod owner;
mod place;
mod source;

pub use archive::is_archive;
pub use chmod::{Chmod, ChmodError};
pub use difference::difference;
pub use layer::{Layer, LayerError};
pub use owner::{OwnerError, owner};
pub use place::{Options, place, unpack};
pub use source::{Source, SourceError, cache_text, find};
pub(crate) use source::{content_hex, digest_hex, hex};
