//! Pure formats: bytes in, values out. Nothing here knows a runtime, a socket or a clock.

pub mod close;
pub mod diagnostic;
pub mod forwarded;
pub mod framing;
pub mod headers;
pub mod hop;
pub mod message;
pub mod passing;
pub mod problem;
pub mod proxy_header;
pub mod query;
pub mod sse;
pub mod template;

/// Text that is known to be UTF-8 and cheap to clone; the payload type of the WebSocket library, so that no message is
/// checked twice.
pub use tokio_tungstenite::tungstenite::Utf8Bytes as Text;
