//! The line of a request that was passed on.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use tracing::info;
use uuid::Uuid;

use super::lines::millis;

/// A request that was passed on and is over.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// Its id.
    pub connection: Uuid,
    /// Path pattern of its route.
    pub route: &'a str,
    /// Where it came from.
    pub peer: SocketAddr,
    /// Whom it belongs to, if its client had to prove that.
    pub subject: Option<&'a str>,
    /// Its method.
    pub method: &'a Method,
    /// Upstream's answer, if there was one.
    pub status: Option<StatusCode>,
    /// Name of the upstream.
    pub upstream: &'a str,
    /// Host and port of the endpoint that answered.
    pub endpoint: Option<&'a str>,
    /// How it ended.
    pub ending: &'static str,
    /// Heartbeats that were put in, of an event stream.
    pub heartbeats: Option<u64>,
    /// What went wrong with it.
    pub failure: Option<&'a str>,
    /// Bytes of the request's body.
    pub bytes_up: u64,
    /// Bytes of the answer's body.
    pub bytes_down: u64,
    /// How long upstream took for the head of its answer.
    pub took: Option<Duration>,
    /// From the request to the end of the answer.
    pub duration: Duration,
}

/// Methods are the client's to choose; a line is not.
const MAX_METHOD: usize = 32;

/// A request that was passed on is over; one whose answer was an event stream has a line of another name.
pub fn request_passed(passed: &Passed<'_>) {
    let what = if passed.heartbeats.is_some() { "event stream closed" } else { "request proxied" };
    let method = passed.method.as_str();
    info!(
        connection = %passed.connection,
        route = passed.route,
        peer = %passed.peer,
        subject = passed.subject,
        method = method.get(..MAX_METHOD).unwrap_or(method),
        status = passed.status.map(|status| status.as_u16()),
        upstream = passed.upstream,
        endpoint = passed.endpoint,
        cause = passed.ending,
        reason = passed.failure,
        response_ms = passed.took.map(millis),
        duration_ms = millis(passed.duration),
        bytes_up = passed.bytes_up,
        bytes_down = passed.bytes_down,
        heartbeats = passed.heartbeats,
        "{what}"
    );
}
