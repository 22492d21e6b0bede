//! A request as it comes over HTTP/2, brought into the form that everything behind this knows from HTTP/1.1.

use http::header::{self, HeaderValue};
use http::{StatusCode, request};

use crate::protocol::problem::Problem;

/// Joins the pieces of `Cookie` (RFC 9113 section 8.2.3) and counts the fields, which the HTTP library does on HTTP/1.1 alone.
///
/// # Errors
///
/// 431 for more fields than `max_headers`; the pieces of `Cookie` count as one.
pub(super) fn tidy(head: &mut request::Parts, max_headers: usize) -> Result<(), Problem> {
    let fields = &mut head.headers;
    let pieces = fields.get_all(header::COOKIE).iter().count();
    if fields.len() - pieces.saturating_sub(1) > max_headers {
        let why = "the request has more header fields than are taken here";
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-many-fields", why));
    }
    if pieces > 1 {
        let mut joined = Vec::new();
        for piece in fields.get_all(header::COOKIE) {
            if !joined.is_empty() {
                joined.extend_from_slice(b"; ");
            }
            joined.extend_from_slice(piece.as_bytes());
        }
        // What is made of field values and a separator is one.
        if let Ok(mut cookie) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
            cookie.set_sensitive(true);
            fields.insert(header::COOKIE, cookie);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(fields: &[(&str, &str)]) -> request::Parts {
        let request = fields.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn cookies_that_come_in_pieces_are_one_field() {
        let mut pieces = head(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3; d=4")]);
        tidy(&mut pieces, 2).unwrap();
        let cookies: Vec<_> = pieces.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
        let mut none = head(&[("x", "y")]);
        tidy(&mut none, 1).unwrap();
        assert!(!none.headers.contains_key("cookie"));
    }

    #[test]
    fn a_request_has_so_many_fields_and_no_more() {
        let fields = [("a", "1"), ("a", "2"), ("b", "3")];
        assert!(tidy(&mut head(&fields), 3).is_ok());
        assert_eq!(tidy(&mut head(&fields), 2).unwrap_err().status, 431);
    }
}
