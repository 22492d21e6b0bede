//! The reverse proxy: everything that is no WebSocket, streamed to an upstream and back.

mod settings;
pub mod stream;

use std::net::SocketAddr;

use http::request;
use uuid::Uuid;

pub use settings::{Cors, Settings};

use crate::identity::Identity;

/// A request that was let in.
#[derive(Debug)]
pub struct Asked<'a> {
    /// By which the log knows it.
    pub id: Uuid,
    /// Its head as it came.
    pub head: &'a request::Parts,
    /// What the route's path captured, raw.
    pub captures: &'a [(&'a str, &'a str)],
    /// The host that it is for, as it stands there.
    pub host: &'a str,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Who asks, where that has to be proven.
    pub identity: Option<&'a Identity>,
}
