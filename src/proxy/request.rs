//! The head of a request as upstream is to have it. Pure: the client's head and what is known of it come in.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};

use super::Asked;
use super::settings::{Edits, Settings};
use super::stream;
use crate::protocol::forwarded;
use crate::protocol::problem::Problem;
use crate::protocol::{headers, passing};

/// What this gateway is called in `Via`, and how often it may stand there: a request that has come by so many of them goes round
/// in a circle.
const PSEUDONYM: &str = "tidegate";
const MOST_VISITS: usize = 8;

/// A request's head for upstream.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: HeaderMap,
    /// The client waits for a 100 before it sends its body.
    pub(super) expects_continue: bool,
    /// It asks for an event stream, as an `EventSource` does.
    pub(super) asks_for_events: bool,
}

/// Without the fields: tokens and cookies stand there.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({} {})", self.method, self.target.path())
    }
}

/// Makes upstream's request of a client's. `told` is who the client is.
///
/// # Errors
///
/// 400 for what no upstream should see, 417 for an expectation that nobody knows, 508 for a request that goes round in a circle.
pub(super) fn outgoing(
    asked: &Asked<'_>,
    settings: &Settings,
    told: Vec<(HeaderName, HeaderValue)>,
) -> Result<Outgoing, Problem> {
    let (method, client) = (&asked.head.method, &asked.head.headers);
    let expects_continue = expects_continue(asked)?;
    check_loop(client)?;
    // Paths that leave the folder that they name have found no route.
    let target = passing::target(&asked.head.uri, settings.path.as_ref(), asked.captures, &settings.credential_params)?;

    let mut fields = passing::fields(client, &settings.claim_headers, |_| false);
    if accepts_trailers(client) {
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if expects_continue {
        fields.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    for (name, value) in forwarded::told(asked.head, asked.peer, asked.tls, asked.host) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            fields.insert(name, value);
        }
    }
    fields.append(header::VIA, via(asked.head.version));
    if headers::accepts_events(client) {
        stream::ask_plainly(&mut fields);
    }
    edit(&mut fields, &settings.request_headers);
    // Behind the changes of the configuration: nothing may take the place of what upstream goes by.
    if let Ok(id) = HeaderValue::try_from(asked.id.to_string()) {
        fields.insert(headers::TIDEGATE_CONNECTION, id);
    }
    for (name, value) in told {
        fields.insert(name, value);
    }
    if let Some(host) = settings.host.field(asked.host) {
        fields.insert(header::HOST, host);
    }
    let asks_for_events = *method == Method::GET && headers::accepts_events(client);
    Ok(Outgoing { method: method.clone(), target, headers: fields, expects_continue, asks_for_events })
}

/// Takes fields out, then puts fields in.
pub(super) fn edit(fields: &mut HeaderMap, edits: &Edits) {
    for name in &edits.remove {
        fields.remove(name);
    }
    for (name, value) in &edits.set {
        fields.insert(name.clone(), value.clone());
    }
}

/// Whether the client takes trailers (RFC 9110 section 10.1.4).
fn accepts_trailers(client: &HeaderMap) -> bool {
    let all = client.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// RFC 9110 section 10.1.1: one expectation is known, and HTTP/1.0 has none.
fn expects_continue(asked: &Asked<'_>) -> Result<bool, Problem> {
    let Some(value) = asked.head.headers.get(header::EXPECT) else { return Ok(false) };
    if asked.head.version < Version::HTTP_11 {
        return Ok(false);
    }
    let known = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let refused =
        || Problem::new(StatusCode::EXPECTATION_FAILED, "bad-expectation", "only 100-continue can be expected here");
    if known { Ok(true) } else { Err(refused()) }
}

/// RFC 9110 section 7.6.3.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0 tidegate",
        Version::HTTP_2 => "2.0 tidegate",
        _ => "1.1 tidegate",
    })
}

fn check_loop(client: &HeaderMap) -> Result<(), Problem> {
    let all = client.get_all(header::VIA).iter().filter_map(|value| value.to_str().ok());
    let visits = all.flat_map(|value| value.split(',')).filter(|by| by.trim().ends_with(PSEUDONYM)).count();
    if visits < MOST_VISITS {
        return Ok(());
    }
    let detail = "this request has come by here too often";
    let log = "an upstream leads back to the gateway; look where its endpoints are";
    Err(Problem::new(StatusCode::LOOP_DETECTED, "proxy-loop", detail).with_log(log))
}

#[cfg(test)]
mod tests;
