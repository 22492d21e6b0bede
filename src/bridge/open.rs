//! Upstream first: the event stream is open before the client is let in.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use uuid::Uuid;

use super::driver::Driver;
use super::memory::Newcomer;
pub use super::request::Asked;
use super::request::Requests;
use super::settings::Settings;
use super::socket::ClientSocket;
use super::upstream_side::UpstreamSide;
use super::{Bridge, Stop};
use crate::identity::Holder;
use crate::protocol::headers;
use crate::protocol::problem::Problem;
use crate::protocol::sse::Limits;
use crate::session::Session;
use crate::telemetry::{self, Opening};
use crate::upstream::events::EventStream;
use crate::upstream::{Body, OpenAnswer, Pool};

/// A connection that upstream has accepted and whose client is about to be.
#[derive(Debug)]
pub struct Opened {
    subprotocol: Option<HeaderValue>,
    bridge: Bridge,
    requests: Requests,
    pool: Arc<Pool>,
    events: EventStream,
    opening: Opening,
    newcomer: Newcomer,
    /// When the client's identity ends.
    expires: Option<Instant>,
}

/// All that upstream will be told of a new connection.
#[derive(Debug)]
pub struct Prepared {
    requests: Requests,
    last_event_id: Option<HeaderValue>,
    newcomer: Newcomer,
}

/// Puts together what upstream is told of a new connection, for which `newcomer` has found room.
///
/// # Errors
///
/// 400 and 403 for what cannot be told, before anything is spent on it.
pub fn prepare(bridge: &Bridge, newcomer: Newcomer, asked: &Asked<'_>, id: Uuid) -> Result<Prepared, Problem> {
    let (requests, last_event_id) = Requests::new(asked, &bridge.settings, bridge.signer.as_ref(), id)?;
    Ok(Prepared { requests, last_event_id, newcomer })
}

/// Asks upstream for the event stream of a new connection.
///
/// # Errors
///
/// What the client is answered instead of being let in (contract rules O3 to O6 in `docs/protocol.md`).
pub async fn open(bridge: &Bridge, prepared: Prepared, asked: Asked<'_>, route: &Arc<str>) -> Result<Opened, Problem> {
    let began = Instant::now();
    let Prepared { mut requests, last_event_id, newcomer } = prepared;
    let (settings, id) = (&bridge.settings, requests.id());
    // A position that is no text can be passed on, but not be resumed from later.
    let position = last_event_id.as_ref().and_then(|id| std::str::from_utf8(id.as_bytes()).ok()).unwrap_or_default();
    let position = position.to_owned();
    let request = requests.events(last_event_id, SystemTime::now);

    let deadline = began + settings.open_timeout;
    let OpenAnswer { pool, response, count } =
        bridge.upstream.open(&id, &request, deadline, None).await.map_err(Problem::from)?;
    // Outside the time limit, with one of its own: the answer was given with its head.
    let (subprotocol, body) = accept(response, &asked, settings).await?;

    let events = EventStream::new(body, event_limits(settings), position, Some(count));
    let opening = Opening {
        connection: id,
        route: route.clone(),
        peer: asked.peer,
        http: asked.head.version,
        upstream: bridge.upstream.name().clone(),
        endpoint: pool.name().into(),
        took: began.elapsed(),
        turn: asked.turn,
        holder: asked.identity.map(|identity| Arc::new(Holder::of(identity, SystemTime::now()))),
    };
    let bridge = bridge.clone();
    let expires = asked
        .identity
        .and_then(|identity| identity.expires)
        .and_then(|expires| instant_of(expires, SystemTime::now(), Instant::now()));
    Ok(Opened { subprotocol, bridge, requests, pool, events, opening, newcomer, expires })
}

impl Opened {
    /// The subprotocol that upstream chose, one of those that the client offered.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&HeaderValue> {
        self.subprotocol.as_ref()
    }

    /// Largest message of the client's that its session takes, in bytes.
    #[must_use]
    pub fn max_message_size(&self) -> usize {
        self.bridge.settings.session.max_message_size
    }

    /// The client was gone before it could be let in.
    pub fn abandoned(self, error: &(dyn std::error::Error + 'static)) {
        tracing::debug!(connection = %self.requests.id(), error, "the client was gone before it could be let in");
    }

    /// Drives the connection to its end. `stop` can ask for that end. `sent_away` is asked once, when the connection can be
    /// found by those who send somebody away: whether it was too late for that.
    ///
    /// Not an `async fn`: that would hold all that it is given a second time, for the life of the connection.
    pub fn run<S: ClientSocket>(
        self,
        socket: S,
        stop: Stop,
        sent_away: &dyn Fn(&Holder) -> bool,
    ) -> impl Future<Output = ()> + use<S> {
        let now = Instant::now();
        telemetry::connection_opened(&self.opening);
        let live = self.bridge.registry.open(&self.opening, now);
        if self.opening.holder.as_deref().is_some_and(sent_away) {
            live.revoke();
        }
        drop(self.newcomer);
        // The low half of a version 7 UUID is random but for two bits.
        let (_, seed) = self.requests.id().as_u64_pair();
        let session = Session::new(self.bridge.settings.session.clone(), seed, self.expires, now);
        let upstream = UpstreamSide::new(self.bridge, self.requests, self.pool, self.events, self.subprotocol);
        let mut driver = Driver::new(session, socket, upstream, live);
        let opening = self.opening;
        async move {
            let (cause, counts) = driver.run(stop).await;
            telemetry::connection_closed(&opening, &cause, driver.failure(), &counts, now.elapsed());
            driver.close(&cause, &counts);
        }
    }
}

/// When the clock of the machine, which shows `wall` at `now`, will show `time`, if nobody sets it meanwhile: a connection
/// does not follow it when it is set. `now` if it is past; `None` if it is too far away to be said.
pub(crate) fn instant_of(time: SystemTime, wall: SystemTime, now: Instant) -> Option<Instant> {
    now.checked_add(time.duration_since(wall).unwrap_or_default())
}

/// How large the parts of an event may be: base64 takes four bytes for three, and may be wrapped.
pub(super) fn event_limits(settings: &Settings) -> Limits {
    let message = settings.session.max_message_size;
    Limits {
        event: message.div_ceil(3).saturating_mul(4).saturating_add(message / 16).max(1024),
        field: settings.max_event_field,
    }
}

/// Takes an answer that is an event stream, and turns any other into a refusal.
async fn accept(
    response: Response<Body>,
    asked: &Asked<'_>,
    settings: &Settings,
) -> Result<(Option<HeaderValue>, Body), Problem> {
    let (head, body) = response.into_parts();
    match head.status {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => {
            return Err(Problem::new(StatusCode::GONE, "upstream-stopped", "upstream has no stream for this client")
                .with_log("upstream answered 204"));
        }
        status if is_handed_on(status) => return Err(relay(head.status, &head.headers, body, settings).await),
        status => return Err(unusable(format!("upstream answered {}", status.as_u16()))),
    }
    if !headers::is_event_stream(&head.headers) {
        let media_type = headers::media_type(&head.headers).unwrap_or("nothing");
        return Err(unusable(format!("upstream answered 200 with {media_type:?} instead of text/event-stream")));
    }
    if !headers::is_identity(&head.headers) {
        return Err(unusable("upstream answered with a compressed event stream".to_owned()));
    }
    let chosen = head.headers.get(header::SEC_WEBSOCKET_PROTOCOL).cloned().filter(|chosen| !chosen.is_empty());
    if let Some(chosen) = &chosen
        && !asked.offered.iter().any(|offered| offered.as_bytes() == chosen.as_bytes())
    {
        return Err(unusable(format!("upstream chose the subprotocol {chosen:?}, which the client does not offer")));
    }
    // A copy: the value is a slice of the buffer that the whole answer was read into.
    let chosen = chosen.and_then(|chosen| HeaderValue::from_bytes(chosen.as_bytes()).ok());
    Ok((chosen, body))
}

/// An answer with which a client cannot be let in and which it has no use for.
fn unusable(log: String) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "upstream-unusable", "upstream did not answer with an event stream")
        .with_log(log)
}

/// Hands a refusal on: its status, what belongs to it, and its body where that is small.
async fn relay(status: StatusCode, fields: &HeaderMap, body: Body, settings: &Settings) -> Problem {
    /// A refusal whose body is slow is handed on without it.
    const PATIENCE: Duration = Duration::from_secs(1);
    let read = tokio::time::timeout(PATIENCE, body.read(settings.max_refusal_body)).await;
    refusal(status, fields, read.ok().and_then(Result::ok))
}

/// A refusal of upstream's as the client gets it.
pub(crate) fn refusal(status: StatusCode, fields: &HeaderMap, body: Option<Bytes>) -> Problem {
    let kind = match status {
        StatusCode::UNAUTHORIZED => "upstream-unauthorized",
        StatusCode::FORBIDDEN => "upstream-forbidden",
        StatusCode::NOT_FOUND => "upstream-not-found",
        StatusCode::GONE => "upstream-gone",
        StatusCode::TOO_MANY_REQUESTS => "upstream-busy",
        _ => "upstream-unavailable",
    };
    let mut problem = Problem::new(status, kind, "upstream refused the connection")
        .with_log(format!("upstream answered {}", status.as_u16()));
    for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
        if let Some(value) = fields.get(&name) {
            problem.headers.insert(name, value.clone());
        }
    }
    if let Some(media_type) = fields.get(header::CONTENT_TYPE)
        && headers::is_identity(fields)
        && let Some(octets) = body.filter(|octets| !octets.is_empty())
    {
        problem.body = Some((media_type.clone(), octets));
    }
    problem
}

/// Whether a refusal with this status is handed on to the client.
pub(crate) const fn is_handed_on(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 410 | 429 | 503)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_becomes_an_instant_however_far_away_it_is() {
        let (wall, now, hour) =
            (SystemTime::UNIX_EPOCH + Duration::from_hours(500_000), Instant::now(), Duration::from_hours(1));
        assert_eq!(instant_of(wall + hour, wall, now), Some(now + hour));
        assert_eq!(instant_of(wall - hour, wall, now), Some(now), "what is past ends at once");
        let last = Duration::from_secs(i64::MAX as u64);
        assert_eq!(instant_of(SystemTime::UNIX_EPOCH + last, SystemTime::UNIX_EPOCH, now), None);
    }
}
