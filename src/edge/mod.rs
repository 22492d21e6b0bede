//! Everything on the client's side: listeners, TLS, HTTP, the WebSocket handshake and its frames.

pub mod credential;
pub mod handshake;
pub mod hosts;
mod http;
pub mod listener;
pub mod origin;
pub mod routes;
pub mod settings;
mod stream;
pub mod tls;
pub mod websocket;

pub use http::{Body, Edge, Fallback};
pub use websocket::WebSocket;
