//! What a backend process and the store in the parent tell each other: one JSON value a line, over the backend's pipes.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One WebSocket that a client opened. It stands in the query of every request that the gateway makes for it.
pub(crate) type Visit = u64;

/// Microseconds since 1970, by the clock that all processes of the machine share.
pub(crate) type Micros = u64;

pub(crate) fn now() -> Micros {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// What a backend tells the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// It listens there.
    Ready { address: SocketAddr },
    /// It accepted a connection.
    Accepted,
    /// An event stream is asked for; `last` is the position that the request names.
    Opening { request: u64, visit: Visit, born: Micros, last: Option<u64>, at: Micros },
    /// It got another answer, or nobody waits for one any more.
    GivenUp { visit: Visit },
    /// The stream's head was handed to the HTTP library.
    Opened { visit: Visit },
    /// The gateway has let go of the stream, or the stream ended.
    Left { visit: Visit },
    /// A whole POST was read. `number` is the client's own count of its messages.
    Posted { request: u64, visit: Visit, key: String, sequence: u64, number: u64 },
    /// The answer is about to be handed to the HTTP library.
    Answering { visit: Visit, sequence: u64, at: Micros },
}

/// What the store, or a scenario, tells a backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The answer to a request.
    Answer { request: u64, answer: Answer },
    /// These streams stay open and send nothing more, not even a comment.
    Stall { visits: Vec<Visit> },
    /// These streams break off in the middle of an event.
    Cut { visits: Vec<Visit> },
    /// Whether new connections are accepted; otherwise they are refused.
    Listen(bool),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) what: What,
    /// How long the backend takes.
    pub(crate) delay_ms: u64,
    /// HTTP/1.1: close the connection behind it.
    pub(crate) close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// 200 with an event stream, or 204.
    Accept,
    /// 503 with `Retry-After` in seconds.
    Busy(u64),
    /// No answer: the connection is reset. Over HTTP/2 it is the stream.
    Reset,
    /// No answer, and no end either.
    Hold,
}
