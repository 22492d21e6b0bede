//! The handshake with the backend: the client's own request, but for what is meant for the gateway.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use tracing::warn;
use uuid::Uuid;

use super::settings::{Host, Settings};
use crate::bridge::open::{Asked, too_large};
use crate::identity::Identity;
use crate::identity::signer::{Signed, Signer};
use crate::identity::told;
use crate::protocol::forwarded;
use crate::protocol::headers::{self, folded};
use crate::protocol::problem::Problem;
use crate::protocol::query::Query;
use crate::upstream::OutgoingRequest;

/// Fields of the client's request that end here, folded: those that are meant for one hop (RFC 9110 section 7.6.1), those
/// that describe a body, of which there is none, and those of the handshake that are made anew.
const NOT_PASSED: [&str; 20] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "sec-websocket-accept",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Not a standard, but what backends behind nginx take for the client's address.
    "x-real-ip",
];

/// The handshake for the backend, and the key in it that its answer must match.
pub(super) struct Handshake {
    pub(super) request: OutgoingRequest,
    /// What stands in `Host` in place of the endpoint's own name.
    pub(super) host: Option<HeaderValue>,
    /// What the client offers, as it goes to the backend.
    pub(super) extensions: Vec<String>,
}

/// Puts the handshake of connection `id` together; `key` is the value of its `Sec-WebSocket-Key`.
///
/// # Errors
///
/// A 400, when the client's query makes no target that could be sent; a 403, when its identity is too large to be told.
pub(super) fn handshake(
    asked: &Asked<'_>,
    settings: &Settings,
    signer: Option<&Arc<Signer>>,
    id: Uuid,
    key: &str,
    now: SystemTime,
) -> Result<Handshake, Problem> {
    let mut fields = passed(&asked.head.headers, settings);
    for (name, value) in forwarded::told(asked.head, asked.peer, asked.tls, asked.host) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            fields.insert(name, value);
        }
    }
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    for (name, value) in [
        (header::SEC_WEBSOCKET_KEY, key.to_owned()),
        (header::SEC_WEBSOCKET_PROTOCOL, asked.offered.join(", ")),
        (headers::TIDEGATE_CONNECTION, id.to_string()),
    ] {
        if let Some(value) = HeaderValue::try_from(value).ok().filter(|value| !value.is_empty()) {
            fields.insert(name, value);
        }
    }
    if let Some(identity) = asked.identity {
        tell(identity, settings, signer, id, now, &mut fields)?;
    }
    let extensions = offered_extensions(&fields);
    let request =
        OutgoingRequest { method: Method::GET, target: target(asked, settings)?, headers: fields, body: Bytes::new() };
    let host = match &settings.host {
        Host::Client => HeaderValue::from_str(asked.host).ok(),
        Host::Upstream => None,
        Host::Name(name) => Some(name.clone()),
    };
    Ok(Handshake { request, host, extensions })
}

/// The names of the extensions on offer (RFC 6455 section 9.1).
pub(super) fn offered_extensions(fields: &HeaderMap) -> Vec<String> {
    fields
        .get_all(header::SEC_WEBSOCKET_EXTENSIONS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        // A comma in a quoted parameter makes a name that nobody offers and nobody chooses.
        .flat_map(|value| value.split(','))
        .map(|offer| offer.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The client's own path, or the one that the route names, and its query without credentials.
fn target(asked: &Asked<'_>, settings: &Settings) -> Result<PathAndQuery, Problem> {
    let query = Query::split(asked.head.uri.query().unwrap_or_default(), &settings.credential_params, "");
    let target = match &settings.path {
        Some(template) => query.append_to(template.expand(asked.captures), template.has_query()),
        None => query.append_to(asked.head.uri.path().to_owned(), false),
    };
    PathAndQuery::try_from(target)
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "bad-target", "path or query cannot be passed on"))
}

/// What the client sent and the backend may have: all but what ends here, what `Connection` names, and everything under the
/// names that the gateway speaks by, however they are written.
fn passed(client: &HeaderMap, settings: &Settings) -> HeaderMap {
    let hop_by_hop: Vec<&str> = client
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let told: Vec<String> = settings.claim_headers.iter().map(|(_, name)| folded(name.as_str())).collect();
    let ends_here = |name: &HeaderName| {
        let folded = folded(name.as_str());
        NOT_PASSED.contains(&folded.as_str())
            || folded.starts_with("tidegate-")
            || folded.starts_with("x-forwarded-")
            || told.contains(&folded)
            || hop_by_hop.iter().any(|hop| hop.eq_ignore_ascii_case(name.as_str()))
    };
    let mut fields = HeaderMap::with_capacity(client.len() + 8);
    for name in client.keys().filter(|name| !ends_here(name)) {
        // HTTP/2 clients may split this one, which HTTP/1.1 has once (RFC 9113 section 8.2.3).
        if *name == header::COOKIE {
            let crumbs: Vec<&[u8]> = client.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            if let Ok(mut cookies) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
                cookies.set_sensitive(true);
                fields.insert(header::COOKIE, cookies);
            }
            continue;
        }
        for value in client.get_all(name) {
            let mut value = value.clone();
            // Not to be shown, wherever the request is.
            value.set_sensitive(*name == header::AUTHORIZATION);
            fields.append(name.clone(), value);
        }
    }
    fields
}

/// Who the client is, in the forms that the route asks for.
fn tell(
    identity: &Identity,
    settings: &Settings,
    signer: Option<&Arc<Signer>>,
    id: Uuid,
    now: SystemTime,
    fields: &mut HeaderMap,
) -> Result<(), Problem> {
    let told = told::fields(identity, headers::TIDEGATE_SUBJECT, &settings.claim_headers);
    for (name, value) in told.map_err(|error| too_large(&error))? {
        if let Ok(value) = HeaderValue::try_from(value) {
            fields.insert(name, value);
        }
    }
    let Some((audience, signer)) = settings.identity_token.as_ref().zip(signer) else { return Ok(()) };
    let claims = signer.say(identity, audience, id).map_err(|error| too_large(&error))?;
    match signer.sign(&claims, now) {
        Ok(Signed { token, .. }) => {
            if let Ok(mut token) = HeaderValue::try_from(token) {
                token.set_sensitive(true);
                fields.insert(headers::TIDEGATE_IDENTITY, token);
            }
            Ok(())
        }
        // The key has signed at the start: the system has no random bytes, or no memory. The backend, which is to believe
        // nothing else, refuses a client without a token.
        Err(error) => {
            warn!(%error, "an identity token could not be signed");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
