//! Audio as bytes and samples: G.711 µ-law ([`ulaw`]) and WAV files ([`wav`]).
//!
//! No files and no sockets: bytes in, bytes out. Nothing here allocates per frame.

pub mod ulaw;
pub mod wav;
