//! Images on disk: layers, image records, references, and the layers of containers.
//!
//! In: archives and, later, registry blobs. Out: image records, [`RootfsMount`](wharf_spec::rootfs::RootfsMount)s, exact tars
//! again. Blocking code, no async. Promises: each byte of image data once; a kill at any instant leaves nothing that
//! [`Store::open`] does not clear away. Leaves to others: containers' configuration, JSON of the API, who may remove what.
//!
//! ```text
//! <data-root>/wharf.db           rows: images, references, layers, container layers (WAL)
//! <data-root>/<driver>/           see drivers and recipe
//! <data-root>/partial/           see partial
//! <data-root>/blobs/<driver>/    see kept
//! <data-root>/reserve            see reserve
//! <data-root>/trash/             directories on their way out
//! ```
//!
//! Rows are the truth. An operation first makes directories under new random names, then commits rows in one transaction, then changes
//! the state in memory; removal goes the other way round. So directories without rows are leftovers, and rows without directories do not occur.
//! One lock guards state and database together; nothing slow happens under it.

#![forbid(unsafe_code)]

mod blobs;
pub mod changes;
pub mod check;
mod chunk;
mod commit;
mod db;
pub mod drivers;
mod erofs;
mod error;
mod extend;
mod fsck;
mod image;
mod import;
pub mod initlayer;
mod kept;
pub mod layer;
pub mod load;
mod parked;
pub mod partial;
mod pipeline;
pub mod pull;
pub mod push;
mod queue;
pub mod quota;
mod recipe;
mod reserve;
mod rw;
pub mod save;
mod size;
mod state;
mod store;
mod trash;
pub mod tree;
mod unpack;
pub mod usage;
pub mod view;

pub use blobs::{KnownBlob, KnownManifest};
pub use commit::Layered;
pub use error::{ErrorKind, StoreError, UnpackText};
pub use extend::{ExtendError, HeldLayers, WriteLayer};
pub use image::ImageRecord;
pub use kept::StoreSettings;
pub use rw::ContainerLayer;
pub use store::{Store, StoreConfig};
