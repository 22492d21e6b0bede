//! What a gateway makes of what the hop before it says of those that it speaks for.

use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

use crate::protocol::forwarded::Told;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether one thing is said, and believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Heard {
    /// It is not said.
    #[default]
    Nothing,
    /// It is said by somebody who is not trusted.
    Untrusted,
    /// It is said by somebody who is trusted, in a field that is not read, or that makes no sense.
    Unread,
    /// It is said and believed.
    Believed,
}

impl Heard {
    /// Of the client's address. `told` is what was made of the fields; `by_header`: the PROXY protocol has said it.
    #[must_use]
    pub fn client(fields: &HeaderMap, told: Option<&Told>, by_header: bool) -> Self {
        let believed = by_header || told.is_some_and(|told| !told.via.0.is_empty());
        Self::of(fields, &[header::FORWARDED, X_FORWARDED_FOR], told.is_some(), believed)
    }

    /// Of whether the client came over TLS.
    #[must_use]
    pub fn scheme(fields: &HeaderMap, told: Option<&Told>) -> Self {
        let believed = told.is_some_and(|told| told.tls.is_some());
        Self::of(fields, &[header::FORWARDED, X_FORWARDED_PROTO], told.is_some(), believed)
    }

    fn of(fields: &HeaderMap, names: &[HeaderName], is_trusted: bool, is_believed: bool) -> Self {
        match (is_believed, names.iter().any(|name| fields.contains_key(name)), is_trusted) {
            (true, _, _) => Self::Believed,
            (false, false, _) => Self::Nothing,
            (false, true, false) => Self::Untrusted,
            (false, true, true) => Self::Unread,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::protocol::forwarded::{Form, Trust};

    #[test]
    fn what_is_said_is_told_from_what_is_believed() {
        use Heard::{Believed, Nothing, Unread, Untrusted};
        let trusting = |form| Trust { proxies: vec!["127.0.0.1/32".parse().unwrap()], form, host: false };
        let (nobody, ours, theirs) = (Trust::default(), trusting(Form::XForwarded), trusting(Form::Forwarded));
        for (trust, lines, client, scheme) in [
            (&nobody, &[][..], Nothing, Nothing),
            (&nobody, &[("x-forwarded-for", "192.0.2.1")], Untrusted, Nothing),
            (&nobody, &[("forwarded", "for=192.0.2.1")], Untrusted, Untrusted),
            (&nobody, &[("x-real-ip", "192.0.2.1")], Nothing, Nothing),
            (&ours, &[], Nothing, Nothing),
            (&ours, &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")], Believed, Believed),
            // Also where a client sits on the proxy's own machine.
            (&ours, &[("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "http")], Believed, Believed),
            (&ours, &[("x-forwarded-proto", "https")], Nothing, Believed),
            (&ours, &[("x-forwarded-for", "unknown"), ("x-forwarded-proto", "gopher")], Unread, Unread),
            (&theirs, &[("x-forwarded-for", "192.0.2.1")], Unread, Nothing),
            (&theirs, &[("forwarded", "for=192.0.2.1;proto=https")], Believed, Believed),
        ] {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(*name, HeaderValue::from_static(value));
            }
            let told = trust.told(&fields, "127.0.0.1:9".parse().unwrap());
            let heard = (Heard::client(&fields, told.as_ref(), false), Heard::scheme(&fields, told.as_ref()));
            assert_eq!(heard, (client, scheme), "{trust:?} {lines:?}");
            assert_eq!(Heard::client(&fields, told.as_ref(), true), Believed);
        }
    }
}
