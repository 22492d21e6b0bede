//! Which fields are meant for the next hop alone and are not passed on (RFC 9110 section 7.6.1).

use http::header::{self, HeaderMap, HeaderName};

/// What a message's `Connection` fields name besides the fields that never pass.
#[derive(Clone, Debug)]
pub struct Hop<'a>(Vec<&'a str>);

impl<'a> Hop<'a> {
    /// Reads them off a message.
    #[must_use]
    pub fn of(fields: &'a HeaderMap) -> Self {
        let named = fields.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        Self(named.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect())
    }

    /// Whether the message names this field.
    #[must_use]
    pub fn names(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|named| named.eq_ignore_ascii_case(name.as_str()))
    }

    /// Whether this field ends here: it is one of those that always do, or the message names it.
    #[must_use]
    pub fn ends(&self, name: &HeaderName) -> bool {
        is_hop_by_hop(name.as_str()) || self.names(name)
    }
}

/// Whether a field is meant for the next hop whatever `Connection` says. `Trailer` is not: it announces what goes all the way.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    const ALWAYS: [&str; 9] = [
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    ALWAYS.contains(&name)
}

/// Whether a field says where a message begins and ends, or leads it, so that nobody but the HTTP library may write it.
#[must_use]
pub fn is_framing(name: &str) -> bool {
    ["content-length", "expect", "host", "trailer"].contains(&name) || is_hop_by_hop(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_connection_names_ends_here_however_it_is_written() {
        let mut fields = HeaderMap::new();
        fields.append(header::CONNECTION, HeaderValue::from_static("keep-alive, X-One ,,"));
        fields.append(header::CONNECTION, HeaderValue::from_static("x-TWO"));
        let hop = Hop::of(&fields);
        let ends = |name: &str| hop.ends(&HeaderName::try_from(name).unwrap());
        assert!(
            ["x-one", "x-two", "connection", "keep-alive", "te", "upgrade", "http2-settings"].iter().all(|n| ends(n))
        );
        assert!(!["x-three", "trailer", "cookie", "content-length"].iter().any(|name| ends(name)));
    }
}
