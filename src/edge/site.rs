//! Where a request comes from, as far as browsers say (RFC 6454; Fetch Metadata), and whether that place is let in.

use http::header::{self, HeaderMap};
use http::{HeaderName, Method, StatusCode, request};

use super::origin::Origin;
use super::settings::{MissingOrigin, Route};
use crate::protocol::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What asks. A browser says which page it is and cannot be made to lie about it; whoever sends nothing is not a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// A page of this origin.
    Page(Origin),
    /// No page.
    Unknown,
}

impl Site {
    /// Reads it off a request for `host`, which came over TLS or not.
    ///
    /// # Errors
    ///
    /// 403 for origins that are none, `null` among them, and for requests that a foreign page makes without naming itself.
    pub(super) fn of(fields: &HeaderMap, tls: bool, host: &str) -> Result<Self, Problem> {
        let mut origins = fields.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => {}
            (Some(origin), None) => {
                return origin.to_str().ok().and_then(Origin::parse).map(Self::Page).ok_or_else(refused);
            }
            _ => return Err(refused()),
        }
        // Of the same origin, a browser leaves `Origin` out of a GET; of a foreign page, it leaves it out of what the page
        // cannot read.
        let mut sites = fields.get_all(SEC_FETCH_SITE).iter();
        match (sites.next().map(http::HeaderValue::as_bytes), sites.next()) {
            (None | Some(b"none"), None) => Ok(Self::Unknown),
            (Some(b"same-origin"), None) => Origin::own(tls, host).map(Self::Page).ok_or_else(refused),
            _ => Err(refused()),
        }
    }

    /// The same of a request that a page need not have made: where somebody follows a link, no page reads what comes, and the one
    /// that the link stands on is of no account.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub(super) fn of_any(head: &request::Parts, tls: bool, host: &str) -> Result<Self, Problem> {
        if is_navigation(head) { Ok(Self::Unknown) } else { Self::of(&head.headers, tls, host) }
    }

    /// Whether the route lets it in.
    ///
    /// # Errors
    ///
    /// 403, if not.
    pub(super) fn check(&self, route: &Route, tls: bool, host: &str) -> Result<(), Problem> {
        let let_in = match self {
            Self::Page(origin) => origin.is_same(tls, host) || route.lists(origin),
            Self::Unknown => route.missing_origin == MissingOrigin::Allow,
        };
        if let_in {
            return Ok(());
        }
        Err(match self {
            Self::Page(_) => refused(),
            Self::Unknown => Problem::new(
                StatusCode::FORBIDDEN,
                "origin-missing",
                "only pages in browsers are let in here, by their Origin",
            ),
        })
    }

    /// The origin, if a page asks.
    pub(super) const fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Page(origin) => Some(origin),
            Self::Unknown => None,
        }
    }
}

/// Whether a browser asks for a page to show in a window of its own (Fetch Metadata sections 2.1 and 2.2), in the way of a link. A form
/// that is sent says its origin.
fn is_navigation(head: &request::Parts) -> bool {
    let is = |name: &'static str, wanted: &str| {
        let mut values = head.headers.get_all(name).iter();
        matches!((values.next(), values.next()), (Some(value), None) if value.as_bytes() == wanted.as_bytes())
    };
    matches!(head.method, Method::GET | Method::HEAD)
        && !head.headers.contains_key(header::ORIGIN)
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
}

pub(super) fn refused() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "origin-refused", "pages of this origin are not let in here")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn site(fields: &[(&'static str, &'static str)]) -> Result<Option<String>, ()> {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        let site = Site::of(&map, true, "chat.example.com").map_err(drop)?;
        Ok(site.origin().map(ToString::to_string))
    }

    #[test]
    fn a_page_is_known_by_its_origin() {
        let page = |origin: &str| Ok(Some(origin.to_owned()));
        assert_eq!(site(&[("origin", "https://A.example:443")]), page("https://a.example"));
        assert_eq!(
            site(&[("origin", "https://a.example"), ("sec-fetch-site", "cross-site")]),
            page("https://a.example")
        );
        assert_eq!(site(&[("sec-fetch-site", "same-origin")]), page("https://chat.example.com"));
    }

    #[test]
    fn whoever_says_nothing_is_not_a_page() {
        assert_eq!(site(&[]), Ok(None));
        assert_eq!(site(&[("sec-fetch-site", "none")]), Ok(None));
    }

    #[test]
    fn whoever_follows_a_link_comes_from_nowhere_and_what_a_page_embeds_does_not() {
        let asked = |method: &str, more: &[(&str, &str)]| {
            let request = http::Request::builder().method(method).header("sec-fetch-site", "cross-site");
            let request = more.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            Site::of_any(&request.body(()).unwrap().into_parts().0, true, "a.example").map_err(drop)
        };
        let link = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(asked("GET", &link), Ok(Site::Unknown));
        assert_eq!(asked("POST", &link), Err(()), "a form says its origin");
        let form = [link[0], link[1], ("origin", "https://evil.example")];
        assert_eq!(asked("GET", &form), Ok(Site::Page(Origin::parse(form[2].1).unwrap())));
        for fields in [
            &[][..],
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
            &[link[0], link[1], ("sec-fetch-mode", "cors")],
        ] {
            assert_eq!(asked("GET", fields), Err(()), "{fields:?}");
        }
    }

    #[test]
    fn no_origin_and_foreign_pages_without_a_name_are_refused() {
        for fields in [
            &[("origin", "null")][..],
            &[("origin", "")],
            &[("origin", "file://")],
            &[("origin", "https://a.example"), ("origin", "https://a.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")],
        ] {
            assert_eq!(site(fields), Err(()), "{fields:?}");
        }
    }
}
