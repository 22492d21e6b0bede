//! Upstream first: the event stream is open before the client is let in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use uuid::Uuid;

use super::driver::Driver;
use super::memory::Newcomer;
use super::registry::Registry;
pub use super::request::Asked;
use super::request::Requests;
use super::settings::Settings;
use super::socket::ClientSocket;
use super::{Bridge, Stop};
use crate::protocol::headers;
use crate::protocol::problem::Problem;
use crate::protocol::sse::Limits;
use crate::session::Session;
use crate::telemetry::{self, Opening};
use crate::upstream::events::EventStream;
use crate::upstream::{Body, Pool, SendError, Use};

/// A connection that upstream has accepted and whose client is about to be.
#[derive(Debug)]
pub struct Opened {
    id: Uuid,
    subprotocol: Option<HeaderValue>,
    settings: Arc<Settings>,
    requests: Requests,
    pool: Arc<Pool>,
    events: EventStream,
    opening: Opening,
    registry: Arc<Registry>,
    newcomer: Newcomer,
}

/// Asks upstream for the event stream of a new connection.
///
/// # Errors
///
/// What the client is answered instead of being let in (contract rules O3 to O6 in `docs/protocol.md`); 503 before
/// upstream is asked while there is no memory for further connections.
pub async fn open(bridge: &Bridge, asked: Asked<'_>, id: Uuid, route: &Arc<str>) -> Result<Opened, Problem> {
    let began = Instant::now();
    let newcomer = bridge.memory.admit()?;
    let settings = &bridge.settings;
    let (requests, last_event_id) = Requests::new(&asked, settings, id)?;
    let request = requests.events(last_event_id, asked.offered);

    let attempt = first_that_answers(bridge, &request);
    let (pool, response) = tokio::time::timeout(settings.open_timeout, attempt).await.unwrap_or_else(|_| {
        let log = format!("upstream {} gave no answer within {:?}", bridge.upstream.name(), settings.open_timeout);
        Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "upstream-timeout", "upstream gave no answer in time")
            .with_log(log))
    })?;
    // Outside the time limit, with one of its own: the answer was given with its head.
    let (subprotocol, body) = accept(response, &asked, settings).await?;

    let events = EventStream::new(body, event_limits(settings), Some(pool.count_stream()));
    let opening = Opening {
        connection: id,
        route: route.clone(),
        peer: asked.peer,
        upstream: bridge.upstream.name().clone(),
        endpoint: pool.name().into(),
        subprotocol: subprotocol.clone(),
        took: began.elapsed(),
    };
    let (settings, registry) = (settings.clone(), bridge.registry.clone());
    Ok(Opened { id, subprotocol, settings, requests, pool, events, opening, registry, newcomer })
}

impl Opened {
    /// The subprotocol that upstream chose, one of those that the client offered.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&HeaderValue> {
        self.subprotocol.as_ref()
    }

    /// The client was gone before it could be let in.
    pub fn abandoned(self, error: &(dyn std::error::Error + 'static)) {
        tracing::debug!(connection = %self.id, error, "the client was gone before it could be let in");
    }

    /// Drives the connection to its end. `stop` can ask for that end.
    ///
    /// Not an `async fn`: that would hold all that it is given a second time, for the life of the connection.
    pub fn run<S: ClientSocket>(self, socket: S, stop: Stop) -> impl Future<Output = ()> {
        let now = Instant::now();
        telemetry::connection_opened(&self.opening);
        let live = self.registry.open(&self.opening, now);
        drop(self.newcomer);
        // The last byte of a version 7 UUID is random.
        let spread = self.id.as_bytes().last().copied().unwrap_or_default();
        let session = Session::new(self.settings.session.clone(), spread, now);
        let mut driver = Driver::new(session, socket, self.events, self.requests, self.pool, self.settings);
        let opening = self.opening;
        async move {
            let (cause, counts) = driver.run(stop).await;
            live.close(&cause, &counts);
            telemetry::connection_closed(&opening, &cause, driver.failure(), &counts, now.elapsed());
        }
    }
}

/// How large the parts of an event may be: base64 takes four bytes for three, and may be wrapped.
pub(super) fn event_limits(settings: &Settings) -> Limits {
    let message = settings.session.max_message_size;
    Limits {
        event: message.div_ceil(3).saturating_mul(4).saturating_add(message / 16).max(1024),
        field: settings.max_event_field,
    }
}

/// Tries the endpoints in turn until one can be connected to.
async fn first_that_answers(
    bridge: &Bridge,
    request: &crate::upstream::OutgoingRequest,
) -> Result<(Arc<Pool>, Response<Body>), Problem> {
    let mut failures = Vec::new();
    for pool in bridge.upstream.by_load() {
        match pool.send(request.clone(), Use::Events).await {
            Ok(response) => return Ok((pool, response)),
            Err(error @ SendError::Connect(_)) => failures.push(telemetry::chain(&error)),
            Err(error @ SendError::Broken { .. }) => {
                failures.push(telemetry::chain(&error));
                break;
            }
        }
    }
    Err(Problem::new(StatusCode::BAD_GATEWAY, "upstream-unreachable", "upstream cannot be reached")
        .with_log(failures.join("; ")))
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
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::GONE
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE => return Err(relay(head.status, &head.headers, body, settings).await),
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
        && let Ok(Ok(octets)) = tokio::time::timeout(PATIENCE, body.read(settings.max_refusal_body)).await
        && !octets.is_empty()
    {
        problem.body = Some((media_type.clone(), octets));
    }
    problem
}
