//! What CXone's platform says and hears where it is the server: its three sockets and its REST bodies (contract §5).
//!
//! | module | holds |
//! | --- | --- |
//! | [`suggestions`] | the suggestion socket (§5 A): auth, `agentassist.suggest`, acknowledgements and answers |
//! | [`insights`] | the insight stream (§5 B), knowledge search, insights and feedback |
//! | [`interactions`] | the interaction stream (§5 C) and popup cards |
//!
//! What we write has the documented fields in the documented order. What we read is taken in every form that says the
//! same: ids as text or integers, instants as text or milliseconds, names and words in any case. Fields nobody knows are
//! passed over, and a frame of a type nobody knows is told apart from one that cannot be read. No rule about what is
//! sent, or when, lives here.

use super::ParseError;

pub mod insights;
pub mod interactions;
pub mod suggestions;

mod object;
mod value;

#[cfg(test)]
mod tests;

/// The longest frame of CXone's that is read, in bytes.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// The longest answer to a knowledge search that is read, in bytes.
pub const SEARCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The longest id of a suggestion or an insight that is read, in bytes.
pub const ID_BYTES_MAX: usize = 512;

/// The longest `type` of a frame that is repeated to whoever asks, in bytes.
pub const KIND_BYTES_MAX: usize = 64;

/// The longest name of a queue that is kept, in characters; the rest of a longer one is dropped.
pub const QUEUE_CHARS_MAX: usize = 128;

/// What could not be read, and why; it holds nothing of what was sent.
pub type Unreadable = ParseError;
