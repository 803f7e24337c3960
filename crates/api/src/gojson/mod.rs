//! JSON as Go's `encoding/json` writes and reads it.
//!
//! Writing: U+2028 and U+2029 are escaped, `<`, `>` and `&` too in stream lines, and every value ends with a newline.
//! Reading: `null` leaves a zero value whatever the type, and object keys match field names in any case.

mod decode;
mod encode;
mod syntax;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, from_slice, from_value};
pub use encode::{to_body, to_line, to_string};
