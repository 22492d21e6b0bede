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

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(super) use body::{Closing, Source};
pub(crate) use head::ask_plainly;
pub use live::{Entry, Streams, Totals};
pub use pace::Cause;
pub use settings::{OnFailure, Settings};

use self::body::{Beginning, Delivered};
use self::decode::Coding;
use self::pace::Pace;
use super::answer::{Answer, Ending};
use super::{Body, Context};
use crate::protocol::headers;
use crate::protocol::problem::Problem;

/// Why there is no event stream for a client that asks for one.
#[derive(Debug)]
pub enum Away {
    /// No endpoint gave an answer.
    Failed(Problem),
    /// What answered was 502, 503 or 504.
    Answered(Parts, Answer),
}

/// An event stream on its way to a client. Its head is that of the answer, hop-by-hop fields taken out.
///
/// A client that asked as an `EventSource` does comes back by itself, and gets a clean end however the stream ends. Any other
/// learns by a broken one that it was not all.
#[must_use]
pub fn deliver(head: Parts, answer: Answer, context: &Arc<Context>) -> Response<Body> {
    let opening = Opening::of(context, answer.pool().name());
    delivered(head, answer, opening)
}

/// What is known of a stream that opens.
struct Opening<'a> {
    entry: Entry,
    settings: &'a Settings,
    streams: &'a Arc<Streams>,
    shutdown: &'a CancellationToken,
    expires: Option<SystemTime>,
    comes_back: bool,
}

impl<'a> Opening<'a> {
    fn of(context: &'a Context, endpoint: String) -> Self {
        let Context { id, route, peer, proxy, holder, expires, asks_for_events } = context;
        let entry = Entry::new(*id, route.clone(), *peer, holder.clone(), endpoint);
        let (settings, streams, shutdown) = (&proxy.settings.stream, &proxy.streams, &proxy.shutdown);
        Self { entry, settings, streams, shutdown, expires: *expires, comes_back: *asks_for_events }
    }
}

fn delivered<B: Source + Send + 'static>(mut head: Parts, body: B, opening: Opening<'_>) -> Response<Body> {
    let coding = Coding::of(&head.headers);
    head::prepare(&mut head.headers, matches!(coding, Coding::Known(_)));
    let Opening { entry, settings, streams, shutdown, expires, comes_back } = opening;
    let (now, clock) = (Instant::now(), SystemTime::now());
    // A time too far for the clock never comes.
    let ends = expires.and_then(|at| now.checked_add(at.duration_since(clock).unwrap_or_default()));
    let beginning = Beginning {
        coding,
        comes_back,
        reconnect: settings.reconnect(random(entry.id), Duration::ZERO),
        pace: Pace::new(settings, now, ends),
        shutdown: shutdown.clone().cancelled_owned(),
        live: streams.open(entry),
    };
    Response::from_parts(head, Delivered::new(body, beginning).map_err(Into::into).boxed_unsync())
}

/// What a client is told that asks for an event stream while upstream is away.
///
/// # Errors
///
/// The refusal, which whoever refuses may replace by [`come_back`].
pub fn away(away: Away, context: &Arc<Context>) -> Result<Response<Body>, Problem> {
    let Context { proxy, route, id, .. } = &**context;
    let settings = &proxy.settings.stream;
    match away {
        Away::Failed(problem) => Err(problem),
        Away::Answered(head, answer) if settings.on_failure == OnFailure::Pass => {
            Ok(Response::from_parts(head, answer.map_err(Into::into).boxed_unsync()))
        }
        Away::Answered(head, mut answer) => {
            answer.end(Ending::Ended);
            proxy.streams.away(route);
            Ok(come_back(settings, *id, &head.headers))
        }
    }
}

/// Whether an answer of this status says that what was asked for may be there a little later.
#[must_use]
pub fn is_failure(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// The answer that takes the place of one with such a status and these fields: an event stream that ends at once and says
/// when to come back, not before `Retry-After`. A browser's `EventSource` takes an error status for the end of everything
/// (WHATWG HTML, "Processing model").
#[must_use]
pub fn come_back(settings: &Settings, id: Uuid, instead_of: &HeaderMap) -> Response<Body> {
    /// What an upstream may make clients wait; a page that waits for longer is reloaded.
    const MOST: Duration = Duration::from_mins(10);
    let least = headers::retry_after(instead_of, SystemTime::now()).unwrap_or_default().min(MOST);
    let body = Full::new(retry(settings.reconnect(random(id), least)));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, headers::EVENT_STREAM);
    headers::set_unbuffered(fields);
    response
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
