//! How things read in listings: sizes, ages, aligned columns.

pub mod age;
pub mod json;
pub mod moment;
pub mod size;
pub mod table;
