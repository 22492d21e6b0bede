//! Everything on the client's side: listeners, TLS, HTTP, the WebSocket handshake and its frames.

mod admit;
mod client;
mod cors;
pub mod credential;
pub mod current;
pub mod diagnostic;
mod frames;
pub mod handshake;
pub mod hosts;
mod http;
mod issue;
pub mod listener;
mod native;
pub mod origin;
mod pass;
mod proxied;
pub mod proxy_protocol;
mod request_http2;
mod resets;
pub mod routes;
mod serve;
mod serve_http2;
pub mod settings;
mod site;
mod stream;
mod stream_http2;
mod strict;
mod target;
pub mod tls;
mod tunnelled;
mod upgrade;
mod watched;
pub mod websocket;
mod work;

pub use http::{Body, Edge, Fallback, whole};
pub use websocket::WebSocket;
