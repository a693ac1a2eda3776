//! The other side: what the authorization server (contract §4) signs with, what it signs, and for whom.
//!
//! Keys are kept by the store and rotated by the `token` function; here they are values.

mod clients;
mod key;

pub use clients::{Client, Clients};
pub use key::{Claims, SigningError, SigningKey, key_set, sign};

/// Bytes as lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
