//! Tar archives, and directory trees in and out of them.
//!
//! In: streams and open directories. Out: the same, the other way round. Blocking code, no state of its own. Promises: whatever an
//! archive or a tree holds, and whoever changes the tree meanwhile, nothing outside the given root is read or written: the kernel
//! resolves every path below a descriptor. Leaves to others: what the trees are, and who may see them.

#![forbid(unsafe_code)]

pub mod compression;
pub mod tar;

pub mod copy;
pub mod extract;
pub mod pack;
pub mod pieces;
pub mod remove;
pub mod root;
pub mod xattr;
