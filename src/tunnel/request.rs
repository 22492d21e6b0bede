//! The handshake with the backend: the client's own request, but for what is meant for the gateway.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use uuid::Uuid;

use super::settings::Settings;
use crate::bridge::open::Asked;
use crate::identity::signer::Signer;
use crate::identity::told::Told;
use crate::protocol::problem::Problem;
use crate::protocol::{forwarded, headers, passing};
use crate::telemetry;
use crate::upstream::OutgoingRequest;

/// Fields of the client's request that end here besides those that never go along: those that describe a body, of which there
/// is none, and those of the handshake that are made anew.
const NOT_PASSED: [&str; 6] = [
    "content-encoding",
    "content-type",
    "sec-websocket-accept",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "trailer",
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
    let ends = |name: &str| NOT_PASSED.contains(&name);
    let mut fields = passing::fields(&asked.head.headers, &settings.claim_headers, ends);
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
        let token = settings.identity_token.as_deref().zip(signer.map(Arc::as_ref));
        let told = Told::once(identity, &settings.claim_headers, token, id, now)?;
        // The backend, which is to believe nothing else, refuses a client without a token.
        telemetry::unsigned(told.unsigned.as_ref().map(|error| error as _));
        for (name, value) in told.fields {
            fields.insert(name, value);
        }
    }
    let extensions = offered_extensions(&fields);
    let target = passing::target(&asked.head.uri, settings.path.as_ref(), asked.captures, &settings.credential_params)?;
    let request = OutgoingRequest { method: Method::GET, target, headers: fields, body: Bytes::new() };
    let host = settings.host.field(asked.host);
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

#[cfg(test)]
mod tests;
