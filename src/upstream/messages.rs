//! One POST and what its answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::body::{Body, ReadError};
use super::connections::Use;
use super::endpoint::{Pool, verdict};
use super::error::SendError;
use super::events::EventStream;
use super::guard::Verdict;
use super::request::OutgoingRequest;
use crate::protocol::Text;
use crate::protocol::headers;
use crate::protocol::message::Message;
use crate::protocol::sse::Limits;
use crate::session::{Doubt, PostOutcome};
use crate::telemetry::chain;
use http::{HeaderMap, Response, StatusCode};

/// A body that nobody wants is read up to this size, in bytes, so that its connection can be used again.
const DISCARDED: usize = 64 * 1024;

/// ... and for this long: the next message waits meanwhile.
const DISCARD_TIME: Duration = Duration::from_millis(250);

/// How answers to POSTs are read.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether a body is a message for the client.
    pub replies: bool,
    /// Largest message in bytes.
    pub max_message_size: usize,
    /// Limits for an answer that is an event stream.
    pub events: Limits,
    /// How long the head of an answer, and a body that is a message, may take.
    pub timeout: Duration,
}

/// How a POST ended, and what is left of its answer.
#[derive(Debug)]
pub struct Answered {
    /// What it means.
    pub outcome: PostOutcome,
    /// The answer's event stream, where it is one.
    pub stream: Option<EventStream>,
    /// What went wrong, for the log, where there was no answer.
    pub failure: Option<String>,
}

impl From<PostOutcome> for Answered {
    fn from(outcome: PostOutcome) -> Self {
        Self { outcome, stream: None, failure: None }
    }
}

impl Answered {
    /// It was not even tried.
    #[must_use]
    pub fn not_sent(why: String) -> Self {
        Self::failed(PostOutcome::NotSent, why)
    }

    fn failed(outcome: PostOutcome, why: String) -> Self {
        Self { failure: Some(why), ..outcome.into() }
    }
}

/// Posts one message. It fails at once, and was not sent, while messages to this endpoint have failed too often.
pub async fn post(pool: Arc<Pool>, request: OutgoingRequest, rules: Rules) -> Answered {
    let permit = match pool.admit_message() {
        Ok(permit) => permit,
        Err(error) => return failed(&error),
    };
    let handed_over = AtomicBool::new(false);
    let exchange = async {
        match pool.send(request, Use::Message, &handed_over).await {
            Ok(response) => {
                let verdict = verdict(response.status(), response.headers());
                let (answered, unwanted) = answer(response, rules).await;
                (answered, unwanted, verdict)
            }
            Err(error) => (failed(&error), None, error.verdict()),
        }
    };
    let (answered, unwanted, verdict) = tokio::time::timeout(rules.timeout, exchange).await.unwrap_or_else(|_| {
        let why = format!("{} gave no answer within {:?}", pool.name(), rules.timeout);
        // While it still waited for a connection, nobody has seen it.
        let sent = handed_over.load(Ordering::Relaxed);
        let outcome = if sent { PostOutcome::InDoubt(Doubt::TimedOut) } else { PostOutcome::NotSent };
        (Answered::failed(outcome, why), None, Verdict::Bad)
    });
    let broken = matches!(answered.outcome, PostOutcome::InDoubt(Doubt::Broken));
    permit.settle(if broken { Verdict::Bad } else { verdict });
    // Outside the time limit: the answer was given with its head.
    if let Some(body) = unwanted {
        discard(body).await;
    }
    answered
}

fn failed(error: &SendError) -> Answered {
    let outcome = match error {
        error if error.is_unsent() => PostOutcome::NotSent,
        SendError::TimedOut { .. } => PostOutcome::InDoubt(Doubt::TimedOut),
        _ => PostOutcome::InDoubt(Doubt::Broken),
    };
    Answered::failed(outcome, chain(error))
}

/// What an answer means; the second value is a body that nobody wants.
async fn answer(response: Response<Body>, rules: Rules) -> (Answered, Option<Body>) {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let retry_after = headers::retry_after(&head.headers, SystemTime::now());
        return (PostOutcome::Refused { status: head.status.as_u16(), retry_after }.into(), Some(body));
    }
    if head.status == StatusCode::OK && headers::is_event_stream(&head.headers) {
        if !headers::is_identity(&head.headers) {
            return (PostOutcome::ReplyInvalid("an answer is a compressed event stream").into(), None);
        }
        let stream = Some(EventStream::new(body, rules.events, String::new(), None));
        return (Answered { stream, ..PostOutcome::Streaming.into() }, None);
    }
    if !rules.replies {
        return (PostOutcome::Accepted(None).into(), Some(body));
    }
    let outcome = match body.read(rules.max_message_size).await {
        Ok(octets) if octets.is_empty() => PostOutcome::Accepted(None),
        Ok(_) if !headers::is_identity(&head.headers) => PostOutcome::ReplyInvalid("an answer is compressed"),
        Ok(octets) => match reply(&head.headers, octets) {
            Some(message) => PostOutcome::Accepted(Some(message)),
            None => PostOutcome::ReplyInvalid("an answer of a text type is not UTF-8"),
        },
        Err(ReadError::TooLarge(_)) => PostOutcome::ReplyTooLarge,
        Err(ReadError::Broken(error)) => {
            return (Answered::failed(PostOutcome::InDoubt(Doubt::Broken), chain(&error)), None);
        }
    };
    (outcome.into(), None)
}

/// A body as a message: text and JSON as text, anything else, and what names no type and is no UTF-8, as binary.
fn reply(headers: &HeaderMap, octets: bytes::Bytes) -> Option<Message> {
    let Some(media_type) = headers::media_type(headers) else {
        return Some(Text::try_from(octets.clone()).map_or(Message::Binary(octets), Message::Text));
    };
    let media_type = media_type.to_ascii_lowercase();
    let is_text = media_type.starts_with("text/") || media_type == "application/json" || media_type.ends_with("+json");
    if is_text { Text::try_from(octets).ok().map(Message::Text) } else { Some(Message::Binary(octets)) }
}

/// Reads a body that nobody wants. One that is too large, too slow, or breaks off, costs its connection and nothing
/// else: the answer was given with its head.
async fn discard(body: Body) {
    let _ = tokio::time::timeout(DISCARD_TIME, body.read(DISCARDED)).await;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{CONTENT_TYPE, HeaderValue};

    use super::*;

    #[test]
    fn a_reply_is_text_or_binary_by_its_media_type() {
        let of = |media_type: Option<&'static str>, octets: &'static [u8]| {
            let headers = media_type.map(|value| (CONTENT_TYPE, HeaderValue::from_static(value))).into_iter().collect();
            reply(&headers, Bytes::from_static(octets))
        };
        let text = Some(Message::from("{}"));
        let binary = Some(Message::Binary(Bytes::from_static(b"{}")));
        assert_eq!(of(Some("application/json; charset=utf-8"), b"{}"), text);
        assert_eq!(of(Some("application/problem+json"), b"{}"), text);
        assert_eq!(of(Some("TEXT/plain"), b"{}"), text);
        assert_eq!(of(None, b"{}"), text);
        assert_eq!(of(Some("application/octet-stream"), b"{}"), binary);
        assert_eq!(of(Some("text/plain"), b"\xff"), None);
        assert_eq!(of(None, b"\xff"), Some(Message::Binary(Bytes::from_static(b"\xff"))));
    }
}
