//! The lines that are written for every connection, and the names of their fields.
//!
//! Nothing here takes a query string, a header value or a message: what cannot get in cannot leak.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Version};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::side::Turn;
use crate::identity::{Holder, Identity};
use crate::protocol::problem::Problem;
use crate::session::{Cause, Counts, Party};

/// What is known when a connection opens, and said again when it closes.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Its id.
    pub connection: Uuid,
    /// Path pattern of its route.
    pub route: Arc<str>,
    /// Where the client connects from.
    pub peer: SocketAddr,
    /// The version of HTTP that it came with.
    pub http: Version,
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// Host and port of the endpoint.
    pub endpoint: Arc<str>,
    /// How long upstream took to open the event stream.
    pub took: Duration,
    /// Which side of a split route it is on, and why.
    pub turn: Option<Turn>,
    /// Whom it belongs to, if its client had to prove that.
    pub holder: Option<Arc<Holder>>,
}

impl Opening {
    fn subject(&self) -> Option<&str> {
        self.holder.as_ref().map(|holder| holder.subject.as_str())
    }

    /// The id of the ticket, with which nobody gets in.
    fn ticket(&self) -> Option<&str> {
        self.holder.as_ref()?.ticket.as_deref()
    }
}

/// A request that was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// The id that the connection would have had.
    pub connection: Uuid,
    /// Where the client connects from.
    pub peer: SocketAddr,
    /// The proxy or balancer that speaks for the client, if one does.
    pub via: Option<SocketAddr>,
    /// Path of the request, without its query.
    pub path: &'a str,
    /// What it was answered.
    pub problem: &'a Problem,
}

/// A connection is open: its client has been let in.
pub fn connection_opened(opening: &Opening) {
    info!(
        connection = %opening.connection,
        route = %opening.route,
        peer = %opening.peer,
        http = if opening.http == Version::HTTP_2 { "2" } else { "1.1" },
        upstream = %opening.upstream,
        endpoint = %opening.endpoint,
        subject = opening.subject(),
        ticket = opening.ticket(),
        side = opening.turn.map(|turn| turn.side.label()),
        side_reason = opening.turn.map(|turn| turn.reason.label()),
        open_ms = millis(opening.took),
        "connection opened"
    );
}

/// An identity token could not be signed, if there is an error that says so.
pub fn unsigned(error: Option<&dyn std::error::Error>) {
    if let Some(error) = error {
        warn!(error = %error, "an identity token could not be signed");
    }
}

/// A connection is over: why, and what it carried. `failure` is the newest thing that went wrong upstream; it is said
/// where upstream has to be looked into.
pub fn connection_closed(opening: &Opening, cause: &Cause, failure: Option<&str>, counts: &Counts, duration: Duration) {
    let blames = match cause.blames() {
        Party::Client => "client",
        Party::Upstream => "upstream",
        Party::Gateway => "gateway",
    };
    info!(
        connection = %opening.connection,
        route = %opening.route,
        peer = %opening.peer,
        endpoint = %opening.endpoint,
        subject = opening.subject(),
        ticket = opening.ticket(),
        side = opening.turn.map(|turn| turn.side.label()),
        side_reason = opening.turn.map(|turn| turn.reason.label()),
        cause = cause.label(),
        blames,
        code = cause.code(),
        detail = %cause,
        reason = failure.filter(|_| cause.blames() == Party::Upstream),
        duration_ms = millis(duration),
        messages_up = counts.messages_up,
        bytes_up = counts.bytes_up,
        messages_down = counts.messages_down,
        bytes_down = counts.bytes_down,
        undelivered = counts.undelivered,
        refused = counts.refused,
        ignored = counts.ignored,
        auto_replies = counts.auto_replies,
        retries = counts.retries,
        reopens = counts.reopens,
        duplicates = counts.duplicates,
        gaps = counts.gaps,
        rate_pauses = counts.rate_pauses,
        dropped = counts.dropped,
        unsent = counts.unsent,
        "connection closed"
    );
}

/// Somebody has been given a ticket. Its id is not the ticket.
pub fn ticket_issued(request: Uuid, peer: SocketAddr, route: &str, identity: &Identity, ticket: &str) {
    let (subject, by) = (&identity.subject, identity.way.label());
    info!(connection = %request, %peer, route, %subject, by, ticket, "ticket issued");
}

/// A request was refused. One that no route takes is scanners' noise and said at `debug` only.
pub fn refused(refused: &Refused<'_>) {
    /// Paths are the client's to choose; a line is not.
    const MAX_PATH: usize = 256;
    let path = refused.path.get(..MAX_PATH).unwrap_or(refused.path);
    let path = if refused.path.len() > MAX_PATH { path } else { refused.path };
    let Problem { status, kind, detail, log, .. } = refused.problem;
    let (log, via) = (log.as_deref(), refused.via.map(tracing::field::display));
    let (connection, peer, status_code) = (refused.connection, refused.peer, status.as_u16());
    if *status == StatusCode::NOT_FOUND && log.is_none() {
        debug!(%connection, %peer, via, path, status = status_code, kind, %detail, "request refused");
    } else {
        info!(%connection, %peer, via, path, status = status_code, kind, %detail, reason = log, "request refused");
    }
}

/// An error and all that is behind it, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
