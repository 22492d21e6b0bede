//! Everything on the client's side: listeners, TLS, HTTP, the WebSocket handshake and its frames.

mod admit;
mod cors;
pub mod credential;
pub mod handshake;
pub mod hosts;
mod http;
mod issue;
pub mod listener;
pub mod origin;
mod proxied;
pub mod routes;
pub mod settings;
mod site;
mod stream;
mod sunset;
pub mod tls;
mod tunnelled;
mod upgrade;
pub mod websocket;

pub use http::{Body, Edge, Fallback, whole};
pub use websocket::WebSocket;
