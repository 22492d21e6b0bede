//! A client's WebSocket: frames to messages and back (RFC 6455 section 5).
//!
//! [`Decoder`] and `outgoing` are the codec: bytes in, messages out, and the other way round, without I/O. `socket` is what
//! moves the bytes. Nothing here keeps a buffer once it is empty: an idle connection holds none.

mod decoder;
mod mask;
mod outgoing;
mod payload;
mod socket;
#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Received};
pub use socket::WebSocket;
