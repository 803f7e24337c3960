//! From flags to API requests: `run` and `create` to a create request, the rest of its flags each in its own module.
//! Pure, apart from reading the files that flags name.

pub mod address;
pub mod create;
pub mod device;
pub mod flags;
pub mod health;
pub mod keys_values;
pub mod mount;
pub mod network;
pub mod port;
pub mod resources;
pub mod security;
