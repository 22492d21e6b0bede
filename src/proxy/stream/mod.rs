//! Event streams through the proxy: nothing on the way holds them back, nothing cuts them without a word, and whoever loses
//! one comes back by itself.
//!
//! `head` knows them by their heads, `body` passes them on by the times of `pace`, `decode` unpacks those that come
//! compressed, and `live` holds those that are open. What a stream is, and where one event ends, says `protocol::sse`.

mod body;
mod decode;
mod head;
mod live;
mod pace;
mod settings;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header;
use http::{HeaderMap, Response, StatusCode, response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio_util::sync::CancellationToken;
use tower::BoxError;
use uuid::Uuid;

pub use head::{ask_plainly, is_stream, is_wanted};
pub use live::{Entry, Streams, Totals};
pub use pace::Cause;
pub use settings::{OnFailure, Settings};

use self::body::{Beginning, Delivered};
use self::decode::Coding;
use self::pace::Pace;
use crate::identity::Holder;
use crate::protocol::headers;

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What is known of a stream whose client was let in.
pub struct Opening<'a> {
    /// By which the log knows it.
    pub id: Uuid,
    /// Path pattern of its route.
    pub route: Arc<str>,
    /// Where its client connects from.
    pub peer: SocketAddr,
    /// Whom it belongs to, if its client had to prove that.
    pub holder: Option<Arc<Holder>>,
    /// When it has to end, if that is known, and why.
    pub ends: Option<(SystemTime, Cause)>,
    /// Tells it to end.
    pub shutdown: &'a CancellationToken,
    /// Where it stands while it is open.
    pub streams: &'a Arc<Streams>,
    /// Whether what its client had proven was taken back; asked once the stream stands there.
    pub sent_away: &'a dyn Fn(&Holder) -> bool,
    /// What is held for as long as it is open.
    pub held: Box<dyn Send>,
}

impl std::fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("id", &self.id).field("route", &self.route).finish_non_exhaustive()
    }
}

/// The answer to a client whose request upstream has answered with an event stream ([`is_stream`]).
///
/// Its body never fails: however the stream ends, the client gets a clean end, and comes back.
pub fn deliver<B, E>(mut head: response::Parts, body: B, settings: &Settings, opening: Opening<'_>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = E> + Send + Unpin + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let coding = Coding::of(&head.headers);
    head::prepare(&mut head.headers, matches!(coding, Coding::Known(_)));
    let Opening { id, route, peer, holder, ends, shutdown, streams, sent_away, held } = opening;
    let (now, clock) = (Instant::now(), SystemTime::now());
    // A time too far for the clock never comes.
    let ends =
        ends.and_then(|(at, cause)| Some((now.checked_add(at.duration_since(clock).unwrap_or_default())?, cause)));
    let beginning = Beginning {
        coding,
        reconnect: settings.reconnect(random(id), Duration::ZERO),
        pace: Pace::new(settings, now, ends),
        shutdown: shutdown.clone().cancelled_owned(),
        live: streams.open(Entry::new(id, route, peer, holder), sent_away),
        held,
    };
    Response::from_parts(head, Delivered::new(body, beginning).map_err(Into::into).boxed_unsync())
}

/// The answer to a client that asks for an event stream while upstream is away: one that ends at once and says when to come
/// back, not before `retry_after`. A browser's `EventSource` takes an error status for the end of everything (WHATWG HTML,
/// "Processing model").
#[must_use]
pub fn away(settings: &Settings, id: Uuid, retry_after: Option<Duration>) -> Response<Body> {
    /// What an upstream may make clients wait; a page that is open for longer was asleep or is read no more.
    const MOST: Duration = Duration::from_mins(10);
    let least = retry_after.unwrap_or_default().min(MOST);
    let body = Full::new(retry(settings.reconnect(random(id), least)));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, headers::EVENT_STREAM);
    headers::set_unbuffered(fields);
    response
}

/// Whether an answer of this status says that upstream is away for a while.
#[must_use]
pub fn is_failure(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// How long an answer of upstream's asks to wait.
#[must_use]
pub fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    headers::retry_after(fields, SystemTime::now())
}

/// Tells a client how long to wait before it comes back, in milliseconds; what upstream says later takes its place.
fn retry(millis: u64) -> Bytes {
    format!("retry: {millis}\n\n").into()
}

/// The random bits of an id: the last 62 of a version 7 UUID (RFC 9562 section 5.7).
fn random(id: Uuid) -> u64 {
    let (_, low) = id.as_u64_pair();
    low & (u64::MAX >> 2)
}
