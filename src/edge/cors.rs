//! Which pages of other origins may call the ticket endpoint and the routes that are proxied, by the book (WHATWG Fetch, "CORS
//! protocol").

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, request};

use super::origin::Origin;
use crate::protocol::headers::{folded, is_token};
use crate::protocol::problem::Problem;

/// How long a browser may remember an answer to its preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const METHODS: HeaderValue = HeaderValue::from_static("POST");
/// What else a page may send along: the type of its body, and a bearer token.
const FIELDS: HeaderValue = HeaderValue::from_static("content-type, authorization");
/// What else of an answer it may read: when to try again, and the id by which the log knows the request.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, tidegate-connection");

/// Whether a request is a preflight: a question of the browser's, not of the page's.
pub(super) fn is_preflight(head: &request::Parts) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers the preflight of a page that is let in. Whether what it asks for is allowed, the browser reads off the answer.
///
/// [`allow`] says the rest, as in every answer to such a page.
pub(super) fn preflight() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let fields = response.headers_mut();
    fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, FIELDS);
    fields.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    let asked = HeaderValue::from_static("access-control-request-method, access-control-request-headers");
    fields.append(header::VARY, asked);
    response
}

/// Most of what a preflight asks for that is repeated in its answer, in bytes: a page has a handful of fields.
const MOST_ASKED: usize = 2048;

/// Answers the preflight of a page for a route that is proxied: it may use the method and the fields that it asks for, which
/// upstream judges when they come. Not those that only the gateway may set.
pub(super) fn preflight_of_any(asked: &HeaderMap) -> Response<()> {
    let mut response = preflight();
    let fields = response.headers_mut();
    fields.remove(header::ACCESS_CONTROL_ALLOW_METHODS);
    fields.remove(header::ACCESS_CONTROL_ALLOW_HEADERS);
    let method = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    if let Some(method) = method.filter(|method| method.to_str().is_ok_and(is_token)) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    }
    let names = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|value| value.to_str().ok());
    let names = names.flat_map(|value| value.split(',')).map(str::trim).filter(|name| is_token(name));
    let mut allowed = String::new();
    for name in names.filter(|name| !["tidegate-", "x-forwarded-"].iter().any(|ours| folded(name).starts_with(ours))) {
        if allowed.len() + name.len() > MOST_ASKED {
            break;
        }
        allowed.push_str(if allowed.is_empty() { "" } else { ", " });
        allowed.push_str(name);
    }
    if !allowed.is_empty()
        && let Ok(allowed) = HeaderValue::try_from(allowed)
    {
        fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

/// Lets a page of this origin read an answer of upstream's; what upstream says itself about that does not count, but for what
/// else of it a page may read.
pub(super) fn allow_in_place(fields: &mut HeaderMap, origin: Option<&Origin>) {
    let exposed: Vec<HeaderValue> = fields.get_all(header::ACCESS_CONTROL_EXPOSE_HEADERS).iter().cloned().collect();
    for name in [
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        header::ACCESS_CONTROL_MAX_AGE,
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
    ] {
        fields.remove(name);
    }
    match origin {
        Some(origin) => {
            allow(fields, origin);
            for value in exposed {
                fields.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, value);
            }
        }
        None => vary(fields),
    }
}

/// Lets a page of this origin read the answer, although it came with credentials.
pub(super) fn allow(fields: &mut HeaderMap, origin: &Origin) {
    if let Ok(origin) = HeaderValue::try_from(origin.to_string()) {
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        fields.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    vary(fields);
}

/// Tells caches that the answer depends on who asks.
pub(super) fn vary(fields: &mut HeaderMap) {
    fields.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Whether the body is JSON: a page of a foreign origin cannot send that without a preflight.
///
/// # Errors
///
/// 415, if it says to be anything else or nothing.
pub(super) fn check_json(fields: &HeaderMap) -> Result<(), Problem> {
    let mut types = fields.get_all(header::CONTENT_TYPE).iter();
    let one = matches!((types.next(), types.next()), (Some(_), None));
    let json =
        crate::protocol::headers::media_type(fields).is_some_and(|is| is.eq_ignore_ascii_case("application/json"));
    if one && json {
        return Ok(());
    }
    let detail = "the body must be JSON, and Content-Type say application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", detail)
        .with_header(header::HeaderName::from_static("accept-post"), HeaderValue::from_static("application/json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preflight_is_answered_with_all_that_a_page_may_do() {
        let origin = Origin::parse("https://app.example.com").unwrap();
        let mut response = preflight();
        allow(response.headers_mut(), &origin);
        assert_eq!(response.status(), 204);
        let fields = response.headers();
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example.com"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", "content-type, authorization"),
            ("access-control-max-age", "600"),
            ("access-control-expose-headers", "retry-after, tidegate-connection"),
        ] {
            assert_eq!(fields[name], value, "{name}");
        }
        let vary: Vec<_> = fields.get_all("vary").iter().collect();
        assert_eq!(vary, ["access-control-request-method, access-control-request-headers", "origin"]);
    }

    #[test]
    fn a_page_may_do_on_a_proxied_route_what_it_asks_for() {
        let asked = [
            (header::ACCESS_CONTROL_REQUEST_METHOD, "PATCH"),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, "last-event-id, x-own,tidegate_subject, b@d"),
        ];
        let asked = asked.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect();
        let response = preflight_of_any(&asked);
        assert_eq!(response.headers()["access-control-allow-methods"], "PATCH");
        assert_eq!(response.headers()["access-control-allow-headers"], "last-event-id, x-own");
        let nothing = preflight_of_any(&HeaderMap::new());
        assert!(!nothing.headers().contains_key("access-control-allow-methods"));
    }

    #[test]
    fn what_upstream_allows_is_replaced_and_what_it_exposes_stays() {
        let fields = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "DELETE"),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, "x-own"),
        ];
        let given: HeaderMap =
            fields.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect();
        let mut fields = given.clone();
        allow_in_place(&mut fields, Origin::parse("https://app.example.com").as_ref());
        assert_eq!(fields["access-control-allow-origin"], "https://app.example.com");
        assert!(!fields.contains_key("access-control-allow-methods"));
        let exposed: Vec<_> = fields.get_all("access-control-expose-headers").iter().collect();
        assert_eq!(exposed, ["retry-after, tidegate-connection", "x-own"]);
        let mut fields = given;
        allow_in_place(&mut fields, None);
        assert!(!fields.contains_key("access-control-allow-origin"));
        assert_eq!(fields["vary"], "origin");
    }

    #[test]
    fn only_json_is_json() {
        let of = |value: Option<&'static str>| {
            let fields =
                value.map(|value| (header::CONTENT_TYPE, HeaderValue::from_static(value))).into_iter().collect();
            check_json(&fields).is_ok()
        };
        assert!(of(Some("application/json")) && of(Some("Application/JSON; charset=utf-8")));
        assert!(
            !of(None)
                && !of(Some("text/plain"))
                && !of(Some("text/plain; application/json"))
                && !of(Some("application/jsonp"))
        );
    }
}
