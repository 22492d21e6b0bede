//! Everything on the client's side: listeners, TLS, HTTP, the WebSocket handshake and its frames.

mod admit;
mod cors;
pub mod credential;
pub mod current;
pub mod diagnostic;
pub mod handshake;
pub mod hosts;
mod http;
mod issue;
pub mod listener;
mod native;
pub mod origin;
mod pass;
mod proxied;
pub mod routes;
pub mod settings;
mod site;
mod stream;
mod stream_http2;
pub mod tls;
mod tunnelled;
mod upgrade;
pub mod websocket;

pub use http::{Body, Edge, Fallback, whole};
pub use websocket::WebSocket;
