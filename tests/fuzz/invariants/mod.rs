//! What must hold whatever comes from outside: one function per fuzz target, which takes any bytes and panics when a
//! promise is broken.
//!
//! Two callers: the fuzzer (`tests/fuzz/targets`), which looks for such bytes, and the test suite (`tests/it/corpus.rs`),
//! which replays those that were kept.

pub mod client_bytes;
pub mod config;
pub mod event_stream;
pub mod frames;
mod frames_library;
mod frames_reference;
mod frames_socket;
pub mod handshake_head;
pub mod requests;
mod script;
pub mod session;
mod session_world;
pub mod ticket;
pub mod tunnel;

/// A target: its name, and the function that its inputs are given to.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; its corpus is the folder of the same name.
pub const TARGETS: [Target; 9] = [
    ("client_bytes", client_bytes::check),
    ("config", config::check),
    ("event_stream", event_stream::check),
    ("frames", frames::check),
    ("handshake_head", handshake_head::check),
    ("requests", requests::check),
    ("session", session::check),
    ("ticket", ticket::check),
    ("tunnel", tunnel::check),
];
