//! Header names of the contract, and what may pass from one side to the other.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Names the connection: a UUID version 7 (RFC 9562 section 5.7).
pub const TIDEGATE_CONNECTION: HeaderName = HeaderName::from_static("tidegate-connection");
/// Numbers the messages of a connection, from 1.
pub const TIDEGATE_SEQUENCE: HeaderName = HeaderName::from_static("tidegate-sequence");
/// How many messages a POST carries that is a batch.
pub const TIDEGATE_COUNT: HeaderName = HeaderName::from_static("tidegate-count");
/// Marks a POST that carries no message but news of the connection: `close`.
pub const TIDEGATE_EVENT: HeaderName = HeaderName::from_static("tidegate-event");
/// The subprotocols that the client offers, comma-separated in its order.
pub const TIDEGATE_SUBPROTOCOLS: HeaderName = HeaderName::from_static("tidegate-subprotocols");
/// Who the client is.
pub const TIDEGATE_SUBJECT: HeaderName = HeaderName::from_static("tidegate-subject");
/// A token that says who the client is, signed by the gateway.
pub const TIDEGATE_IDENTITY: HeaderName = HeaderName::from_static("tidegate-identity");
/// Names one message, so that upstream can recognise a repetition.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Position in an event stream (WHATWG HTML, "The `Last-Event-ID` header").
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks nginx and those who follow it not to buffer an answer.
pub const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Media type of an event stream.
pub const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Asks every proxy in front of us to pass an event stream on as it comes.
pub fn set_unbuffered(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// Every `Tidegate-*` field that requests to upstream can have.
pub const OURS: [HeaderName; 7] = [
    TIDEGATE_CONNECTION,
    TIDEGATE_SEQUENCE,
    TIDEGATE_COUNT,
    TIDEGATE_EVENT,
    TIDEGATE_SUBPROTOCOLS,
    TIDEGATE_SUBJECT,
    TIDEGATE_IDENTITY,
];

/// The name by which backends of the CGI kind know a header: they cannot tell `_` from `-` (RFC 3875 section 4.1.18), so that
/// names which differ in nothing else are one.
#[must_use]
pub fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Header fields kept for the life of a connection: one allocation for the list, one for all values.
///
/// The values of a parsed request are slices of the buffer it was read into, and would keep all of that alive.
#[derive(Clone, Debug, Default)]
pub struct Kept(Box<[(HeaderName, HeaderValue)]>);

impl Kept {
    /// Copies `fields` out of whatever they were read into.
    #[must_use]
    pub fn copy(fields: &[(HeaderName, Cow<'_, [u8]>)]) -> Self {
        let mut block = BytesMut::with_capacity(fields.iter().map(|(_, value)| value.len()).sum());
        let kept = fields.iter().filter_map(|(name, value)| {
            block.extend_from_slice(value);
            let value = block.split().freeze();
            let mut value = HeaderValue::from_maybe_shared(value).ok()?;
            // Not to be shown: cookies and tokens go along where the route says so.
            value.set_sensitive(*name == header::COOKIE || *name == header::AUTHORIZATION);
            Some((name.clone(), value))
        });
        Self(kept.collect())
    }

    /// Adds them to `headers`.
    pub fn append_to(&self, headers: &mut HeaderMap) {
        headers.reserve(self.0.len());
        for (name, value) in &self.0 {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// Whether `text` is a token (RFC 9110 section 5.6.2).
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether the media type is `text/event-stream`, parameters aside.
#[must_use]
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|essence| essence.eq_ignore_ascii_case("text/event-stream"))
}

/// Whether `Accept` names `text/event-stream`, as every `EventSource` does.
#[must_use]
pub fn accepts_events(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|range| {
        range.split(';').next().is_some_and(|range| range.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

/// The media type without its parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// Whether a body comes as it is. `none` is not a registered coding, but servers of event streams send it.
#[must_use]
pub fn is_identity(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().all(|value| {
        value.as_bytes().eq_ignore_ascii_case(b"identity")
            || value.as_bytes().eq_ignore_ascii_case(b"none")
            || value.is_empty()
    })
}

/// How long `Retry-After` asks to wait: seconds, or a date (RFC 9110 section 10.2.3).
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit are a very long time, and no error.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// The cookies of `header` that are named in `names`, in the form of a `Cookie` header (RFC 6265 section 4.2.1).
#[must_use]
pub fn cookies_named(header: &str, names: &[String]) -> Option<String> {
    let kept: Vec<&str> = header
        .split(';')
        .map(str::trim)
        .filter(|pair| pair.split_once('=').is_some_and(|(name, _)| names.iter().any(|kept| kept == name.trim())))
        .collect();
    (!kept.is_empty()).then(|| kept.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn an_event_stream_is_known_by_its_media_type_alone() {
        let is = |value| is_event_stream(&one(header::CONTENT_TYPE, value));
        assert!(is("text/event-stream") && is("Text/Event-Stream; charset=utf-8") && is("text/event-stream;x"));
        assert!(!is("text/event-streams") && !is("text/plain") && !is_event_stream(&HeaderMap::new()));
    }

    #[test]
    fn retry_after_takes_seconds_and_dates() {
        let at = httpdate::parse_http_date("Fri, 20 Nov 2026 12:00:00 GMT").unwrap();
        let of = |value| retry_after(&one(header::RETRY_AFTER, value), at);
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("Fri, 20 Nov 2026 12:01:00 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(of("Fri, 20 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(of("soon"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn only_named_cookies_are_kept() {
        let names = ["sid".to_owned(), "theme".to_owned()];
        assert_eq!(cookies_named("a=1; sid=x=y; theme=dark;b", &names).as_deref(), Some("sid=x=y; theme=dark"));
        assert_eq!(cookies_named("a=1", &names), None);
    }

    #[test]
    fn kept_fields_do_not_share_the_memory_they_came_from() {
        let kept = Kept::copy(&[
            (header::USER_AGENT, Cow::Borrowed(b"one".as_slice())),
            (header::ORIGIN, Cow::Borrowed(b"two".as_slice())),
        ]);
        let mut headers = HeaderMap::new();
        kept.append_to(&mut headers);
        assert_eq!(headers.get(header::USER_AGENT).unwrap(), "one");
        assert_eq!(headers.get(header::ORIGIN).unwrap(), "two");
    }
}
