//! What the probes measured: plain values, from which the findings follow.

use serde::Serialize;

use crate::protocol::diagnostic::{Seen, Upload};

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    /// Address that was asked, with its port.
    pub(super) address: String,
    /// `None` for plain HTTP.
    pub(super) tls: Option<Tls>,
    /// Time from a request to its answer, connection apart, in microseconds: the least of several.
    pub(super) round_trip_us: u64,
    /// `Server`, `Via` and such of the answers.
    pub(super) signs: Vec<(String, String)>,
    /// A request over HTTP/1.1.
    pub(super) http1: Trial<Seen>,
    /// The same over HTTP/2.
    pub(super) http2: Trial<Seen>,
    /// Events with the fields that ask not to buffer.
    pub(super) events: Trial<Stream>,
    /// Events without them.
    pub(super) bare: Trial<Stream>,
    /// As `events`, by a client that takes compressed answers.
    pub(super) compressible: Trial<Stream>,
    /// As `bare`, by a client that takes compressed answers.
    pub(super) bare_compressible: Trial<Stream>,
    /// A stream that says nothing for long.
    pub(super) silence: Trial<Silence>,
    /// A body that is sent in pieces.
    pub(super) upload: Trial<Sent>,
    /// A WebSocket over HTTP/1.1.
    pub(super) websocket: Trial<Echoed>,
    /// A WebSocket over HTTP/2 (RFC 8441).
    pub(super) websocket_http2: Trial<Echoed>,
    /// A WebSocket that says nothing for long.
    pub(super) websocket_silence: Trial<Silence>,
}

/// How a probe went.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trial<T> {
    /// It could be measured.
    Done(T),
    /// It could not; why.
    Failed(String),
    /// It was not tried; why.
    Skipped(&'static str),
}

/// What the TLS handshake agreed on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tls {
    /// Such as `TLS 1.3`.
    pub(super) version: String,
    /// Whole days for which the certificate still holds; negative, if it does not any more.
    pub(super) days_left: Option<i64>,
}

/// A stream of timed events.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Stream {
    pub(super) content_type: String,
    pub(super) cache_control: String,
    pub(super) content_encoding: String,
    /// Whether the field of the endpoint's own came through.
    pub(super) has_own_field: bool,
    /// Whether it is the answer to this request and not one that was kept.
    pub(super) is_fresh: bool,
    /// How many events were asked for.
    pub(super) wanted: u32,
    /// And how far apart.
    pub(super) interval_us: u64,
    /// Events as they came; none of a compressed stream, which is not read.
    pub(super) events: Vec<Arrival>,
    /// When pieces of the body came, since the request.
    pub(super) pieces_us: Vec<u64>,
    /// Why it ended before its last event; `None` for one that came whole.
    pub(super) broke_off: Option<String>,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Arrival {
    /// When the gateway sent it, since it began to.
    pub(super) sent_us: u64,
    /// When it came, since the request.
    pub(super) arrived_us: u64,
}

/// A connection on which nothing was said.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Silence {
    /// For how long nothing was to be said.
    pub(super) wanted_us: u64,
    /// When it was cut; `None` if it lasted.
    pub(super) cut_after_us: Option<u64>,
}

/// A body that was sent in pieces.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sent {
    /// How many pieces.
    pub(super) pieces: u32,
    /// How far apart they were sent.
    pub(super) interval_us: u64,
    /// When they arrived.
    pub(super) arrived: Upload,
}

/// A WebSocket that answered.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Echoed {
    /// From a message to its echo.
    pub(super) message_us: u64,
    /// From a ping to its pong.
    pub(super) ping_us: u64,
}

impl<T> Trial<T> {
    pub(super) fn done(&self) -> Option<&T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Failed(_) | Self::Skipped(_) => None,
        }
    }
}

impl Measured {
    /// What the gateway saw of a request, over whichever version worked.
    pub(super) fn seen(&self) -> Option<&Seen> {
        self.http1.done().or(self.http2.done())
    }

    /// Whether something stands between us and the gateway, as far as can be told.
    pub(super) fn is_fronted(&self) -> bool {
        let differs = |seen: &Seen| {
            seen.tls != self.tls.is_some() || ["via", "x-forwarded-for", "forwarded"].iter().any(|name| seen.has(name))
        };
        !self.signs.is_empty()
            || self.http1.done().is_some_and(|seen| differs(seen) || seen.version != "HTTP/1.1")
            || self.http2.done().is_some_and(|seen| differs(seen) || seen.version != "HTTP/2.0")
    }
}
