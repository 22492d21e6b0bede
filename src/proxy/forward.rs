//! One request, passed on.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Method, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::answer::{Answer, Record, Waiting};
use super::request::{self, Outgoing};
use super::response;
use super::stream::{self, Away};
use super::trailers;
use super::{Asked, Body, Context, Held, Proxy};
use crate::identity::Holder;
use crate::identity::told::Told;
use crate::protocol::headers;
use crate::protocol::problem::Problem;
use crate::telemetry;
use crate::upstream::{PassError, PassRules, Passed, Passing, UploadError, UploadRules};

/// A request of which all is known that could refuse it here.
#[derive(Debug)]
pub struct Prepared {
    outgoing: Outgoing,
    context: Arc<Context>,
}

impl Proxy {
    /// Puts together what upstream is asked. `size` is what the client says of its request's body.
    ///
    /// # Errors
    ///
    /// What cannot be passed on, before anything is spent on it: 400, 403, 413, 417 and 508.
    pub fn prepare(&self, asked: &Asked<'_>, route: &Arc<str>, size: Option<u64>) -> Result<Prepared, Problem> {
        if self.settings.max_request_body.zip(size).is_some_and(|(most, size)| size > most) {
            return Err(too_large());
        }
        let now = SystemTime::now();
        let (audience, signer) = (self.settings.identity_token.as_deref(), self.signer.as_deref());
        let tell = |identity| Told::once(identity, &self.settings.claim_headers, audience.zip(signer), asked.id, now);
        let told = asked.identity.map(tell).transpose()?.unwrap_or_default();
        telemetry::unsigned(told.unsigned.as_ref().map(|error| error as _));
        let outgoing = request::outgoing(asked, &self.settings, told.fields)?;
        let context = Context {
            id: asked.id,
            route: route.clone(),
            peer: asked.peer,
            proxy: self.clone(),
            holder: asked.identity.map(|identity| Arc::new(Holder::of(identity, now))),
            expires: asked.identity.and_then(|identity| identity.expires),
            asks_for_events: outgoing.asks_for_events,
        };
        Ok(Prepared { outgoing, context: Arc::new(context) })
    }
}

/// Passes a request on and gives upstream's answer, whose body goes on to come from there. `held` is held until the answer is
/// over, or there is none.
///
/// # Errors
///
/// What the client is told that gets no answer of upstream's: 502, 503 and 504; 408 and 413 for its own body.
pub async fn forward(prepared: Prepared, body: Body, held: Held) -> Result<Response<Body>, Problem> {
    let Prepared { outgoing, context } = prepared;
    let Context { proxy, id, .. } = &*context;
    let settings = &proxy.settings;
    let began = Instant::now();
    let counted = proxy.counters.begin();
    let Outgoing { method, target, headers, expects_continue, asks_for_events } = outgoing;
    let rules = PassRules {
        events: asks_for_events,
        response_timeout: settings.response_timeout,
        retries: settings.retries,
        upload: UploadRules {
            max_size: settings.max_request_body,
            send_timeout: settings.send_timeout,
            expects_continue,
        },
    };
    let body = (!body.is_end_stream()).then(|| trailers::checked(body, settings.clone()));
    let passing = Passing { method: method.clone(), target, headers, body };
    let mut waiting = Waiting::new(&context, method.clone(), began);
    let passed = proxy.upstream.pass(id, passing, rules).await;
    waiting.over();
    drop(waiting);
    let passed = match passed {
        Ok(passed) => passed,
        Err(PassError::Upload(error)) => return Err(bad_body(error)),
        Err(PassError::Upstream(error)) => {
            let problem = Problem::from(error);
            return if asks_for_events { stream::away(Away::Failed(problem), &context) } else { Err(problem) };
        }
    };
    let Passed { pool, response, under_way, upload } = passed;
    let (mut answered, body) = response.into_parts();
    if answered.status.is_informational() {
        // RFC 9110 section 15.2.2: nobody has asked for another protocol.
        let detail = "upstream has changed the protocol without being asked to";
        return Err(Problem::new(StatusCode::BAD_GATEWAY, "upstream-unusable", detail));
    }
    // The answer to HEAD is a head and no stream, whatever it says.
    let is_stream =
        headers::is_event_stream(&answered.headers) && answered.status == StatusCode::OK && method != Method::HEAD;
    let is_away = asks_for_events && response::says_away(answered.status);
    response::passed_on(&mut answered, &settings.response_headers, *id);
    let record = Record {
        context: context.clone(),
        method,
        status: answered.status,
        pool,
        upload,
        began,
        took: began.elapsed(),
        _under_way: (counted, under_way),
        _held: held,
    };
    let answer = Answer::new(body, (!is_stream).then_some(settings.read_timeout), record);
    if is_stream {
        return Ok(stream::deliver(answered, answer, &context));
    }
    if is_away {
        return stream::away(Away::Answered(answered, answer), &context);
    }
    Ok(Response::from_parts(answered, answer.map_err(Into::into).boxed_unsync()))
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the request's body is larger than it may be here")
}

/// What a client is told that did not bring its request to an end.
fn bad_body(error: UploadError) -> Problem {
    match error {
        UploadError::TooLarge => too_large(),
        UploadError::Stalled => {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "request-stalled", "the rest of the request did not come in time")
        }
        UploadError::Gone | UploadError::Unwanted => {
            Problem::new(StatusCode::BAD_REQUEST, "request-broken", "the request broke off before its end")
        }
    }
}
