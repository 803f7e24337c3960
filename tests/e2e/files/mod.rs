//! Files: copies, volumes, mounts, diff, commit, export.
//!
//! What `docker` does with them is compared with a reference in one table ([`table`]); attacks, faults and what Docker does not have
//! are tests of their own.

mod attacks;
mod extensions;
mod faults;
mod idmap;
mod plugin;
mod quota;
mod table;
mod transfer;
