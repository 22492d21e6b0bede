//! Everything on the client's side: listeners, TLS, HTTP, the WebSocket handshake and its frames.

mod admit;
mod cors;
pub mod credential;
pub mod current;
mod frames;
pub mod handshake;
pub mod hosts;
mod http;
mod issue;
pub mod listener;
pub mod origin;
mod proxied;
mod request_http2;
mod resets;
pub mod routes;
mod serve;
mod serve_http2;
pub mod settings;
mod side;
mod site;
pub mod split;
mod stream;
mod stream_http2;
pub mod tls;
mod tunnelled;
mod upgrade;
mod watched;
pub mod websocket;
mod work;

pub use http::{Body, Edge, Fallback, whole};
pub use websocket::WebSocket;
