//! The query of a client's URL: what goes along to upstream and what does not.

/// A client's query string, taken apart without decoding what is passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// What goes along, byte for byte; empty when nothing does.
    pub forwarded: String,
    /// The last event id that the client brought, decoded.
    pub last_event_id: Option<String>,
}

impl Query {
    /// Takes `query` apart. Parameters named in `credentials` are dropped; the one named `last_event_id_param`, unless
    /// that is empty, is taken out and decoded. Names are compared after decoding, so that `%74icket` is a ticket too.
    #[must_use]
    pub fn split(query: &str, credentials: &[String], last_event_id_param: &str) -> Self {
        let mut split = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name);
            if credentials.contains(&name) {
                continue;
            }
            if !last_event_id_param.is_empty() && name == last_event_id_param {
                split.last_event_id = Some(decode(value)).filter(|id| !id.is_empty());
                continue;
            }
            if !split.forwarded.is_empty() {
                split.forwarded.push('&');
            }
            split.forwarded.push_str(pair);
        }
        split
    }

    /// `target` with the forwarded parameters behind those it has.
    #[must_use]
    pub fn append_to(&self, mut target: String, target_has_query: bool) -> String {
        if !self.forwarded.is_empty() {
            target.push(if target_has_query { '&' } else { '?' });
            target.push_str(&self.forwarded);
        }
        target
    }
}

/// Decodes percent-encoding and `+`, as in a form (WHATWG URL, "application/x-www-form-urlencoded parsing"). What is no
/// encoding stays as it is; what is no UTF-8 becomes U+FFFD.
#[must_use]
pub fn decode(text: &str) -> String {
    fn hex(byte: Option<&u8>) -> Option<u8> {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = if byte == b'%' { hex(bytes.get(at + 1)).zip(hex(bytes.get(at + 2))) } else { None };
        let (byte, length) = match (byte, escaped) {
            (_, Some((high, low))) => (high * 16 + low, 3),
            (b'+', None) => (b' ', 1),
            (byte, None) => (byte, 1),
        };
        decoded.push(byte);
        at += length;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(query: &str) -> Query {
        Query::split(query, &["ticket".to_owned(), "access_token".to_owned()], "last_event_id")
    }

    #[test]
    fn credentials_are_left_out_however_they_are_written() {
        assert_eq!(split("a=1&ticket=s3cret&b=%20").forwarded, "a=1&b=%20");
        assert_eq!(split("%74icket=s3cret&access%5Ftoken=x").forwarded, "");
        assert_eq!(split("ticket=1&ticket=2&ticket").forwarded, "");
    }

    #[test]
    fn everything_else_goes_along_byte_for_byte() {
        assert_eq!(split("a=%zz&&b&c==+").forwarded, "a=%zz&b&c==+");
    }

    #[test]
    fn the_last_event_id_is_taken_out_and_decoded() {
        let query = split("last_event_id=a%2Fb+c&x=1");
        assert_eq!(query.last_event_id.as_deref(), Some("a/b c"));
        assert_eq!(query.forwarded, "x=1");
        assert_eq!(split("last_event_id=").last_event_id, None);
        assert_eq!(Query::split("last_event_id=1", &[], "").forwarded, "last_event_id=1");
    }

    #[test]
    fn what_is_no_encoding_stays_as_it_is() {
        assert_eq!(decode("Ada+L%C3%B6v%65lace"), "Ada Lövelace");
        assert_eq!(decode("%zz%4%"), "%zz%4%");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }

    #[test]
    fn the_query_is_put_behind_what_the_target_has() {
        assert_eq!(split("a=1").append_to("/e".into(), false), "/e?a=1");
        assert_eq!(split("a=1").append_to("/e?k=v".into(), true), "/e?k=v&a=1");
        assert_eq!(split("").append_to("/e".into(), false), "/e");
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic_and_no_ticket_comes_through(query in "[a-z%&=+0-9]{0,40}") {
            let query = split(&format!("{query}&ticket=SECRET&{query}"));
            prop_assert!(!query.forwarded.contains("SECRET"));
        }
    }
}
