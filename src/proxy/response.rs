//! The head of an answer as the client is to have it. Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{StatusCode, Version};
use uuid::Uuid;

use super::request::edit;
use super::settings::Edits;
use crate::protocol::headers;
use crate::protocol::hop::Hop;

/// Makes the client's answer of upstream's: hop-by-hop fields out, the changes of the configuration in. All else, `Date` and
/// `Server` among it, stays as it is.
pub(super) fn passed_on(head: &mut Parts, edits: &Edits, id: Uuid) {
    let fields = &mut head.headers;
    // RFC 9112 section 6.3: where both stand, the length is not that of the body.
    if fields.contains_key(header::TRANSFER_ENCODING) {
        fields.remove(header::CONTENT_LENGTH);
    }
    for name in ending_here(fields) {
        fields.remove(name);
    }
    edit(fields, edits);
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        fields.insert(headers::TIDEGATE_CONNECTION, id);
    }
    // Which version the client speaks is for its own connection to say.
    head.version = Version::default();
}

/// Whether upstream itself has said that it is away, or what stands in front of it.
pub(super) fn says_away(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

fn ending_here(fields: &HeaderMap) -> Vec<HeaderName> {
    let hop = Hop::of(fields);
    fields.keys().filter(|name| hop.ends(name)).cloned().collect()
}
