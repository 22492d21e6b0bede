//! What of a client's request goes along where it is passed on as the client's own: to a proxied upstream, or to a backend that
//! speaks WebSocket itself.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{StatusCode, Uri};

use super::headers::folded;
use super::hop::{self, Hop};
use super::problem::Problem;
use super::query::{self, Query};
use super::template::Template;

/// Which host an upstream is told that a request is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// The one that the client asked for.
    #[default]
    Client,
    /// The endpoint's own.
    Upstream,
    /// This one.
    Name(HeaderValue),
}

impl Host {
    /// The value of `Host` for a client that asked for `asked`; `None` for the endpoint's own.
    #[must_use]
    pub fn field(&self, asked: &str) -> Option<HeaderValue> {
        match self {
            Self::Client => HeaderValue::from_str(asked).ok(),
            Self::Upstream => None,
            Self::Name(name) => Some(name.clone()),
        }
    }
}

/// The client's fields that go along. Not those for this hop (RFC 9110 section 7.6.1), those that lead a message, which are
/// written anew, those that say what only the gateway can know, `claims` among them, and those for which `ends` holds, which is
/// asked with the folded name; all of them also under names that a backend of the CGI kind takes for these.
#[must_use]
pub fn fields(client: &HeaderMap, claims: &[(String, HeaderName)], ends: impl Fn(&str) -> bool) -> HeaderMap {
    let hop = Hop::of(client);
    let mut fields = HeaderMap::with_capacity(client.len() + 8);
    for (name, value) in client {
        let folded = folded(name.as_str());
        let anew = matches!(folded.as_str(), "host" | "content-length" | "cookie" | "expect");
        if anew || hop::is_hop_by_hop(&folded) || hop.names(name) || is_ours(&folded, claims) || ends(&folded) {
            continue;
        }
        let mut value = value.clone();
        // Not to be shown, wherever the request is.
        value.set_sensitive(*name == header::AUTHORIZATION);
        fields.append(name.clone(), value);
    }
    if let Some(cookies) = cookies(client) {
        fields.insert(header::COOKIE, cookies);
    }
    fields
}

/// Whether a trailer goes along. What no field may say, none behind the body may either, and there it comes too late to frame or
/// to lead a request (RFC 9110 section 6.5.1).
#[must_use]
pub fn may_trail(name: &HeaderName, claims: &[(String, HeaderName)]) -> bool {
    let folded = folded(name.as_str());
    !hop::is_framing(&folded) && !is_ours(&folded, claims)
}

/// Whether only the gateway may say what this field says.
fn is_ours(folded_name: &str, claims: &[(String, HeaderName)]) -> bool {
    // The address of the client, as backends behind nginx take it; and `HTTP_PROXY` in the environment of a CGI.
    ["forwarded", "x-real-ip", "proxy"].contains(&folded_name)
        || ["tidegate-", "x-forwarded-"].iter().any(|prefix| folded_name.starts_with(prefix))
        || claims.iter().any(|(_, field)| folded(field.as_str()) == folded_name)
}

/// All cookies in one field: HTTP/2 clients may send one each, which HTTP/1.1 does not know (RFC 9113 section 8.2.3).
fn cookies(client: &HeaderMap) -> Option<HeaderValue> {
    let mut all = client.get_all(header::COOKIE).iter();
    let first = all.next()?;
    let mut joined = Cow::Borrowed(first.as_bytes());
    for more in all {
        let joined = joined.to_mut();
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(more.as_bytes());
    }
    let mut value = match joined {
        Cow::Borrowed(_) => first.clone(),
        Cow::Owned(joined) => HeaderValue::from_bytes(&joined).ok()?,
    };
    value.set_sensitive(true);
    Some(value)
}

/// Path and query: those that came, byte for byte where there is nothing to leave out, or the route's own `path` with what it
/// captured; without the query parameters in `credentials`.
///
/// # Errors
///
/// 400 for what makes no target that could be sent.
pub fn target(
    uri: &Uri,
    path: Option<&Template>,
    captures: &[(&str, &str)],
    credentials: &[String],
) -> Result<PathAndQuery, Problem> {
    let given = uri.query().unwrap_or_default();
    let is_credential = |pair: &str| credentials.contains(&query::decode(pair.split('=').next().unwrap_or(pair)));
    let has_credentials = given.split('&').any(is_credential);
    if path.is_none() && !has_credentials {
        let detail = "the request names no path";
        return uri
            .path_and_query()
            .cloned()
            .ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "bad-target", detail));
    }
    let query = if has_credentials {
        Query::split(given, credentials, "")
    } else {
        Query { forwarded: given.to_owned(), last_event_id: None }
    };
    match path {
        Some(path) => expanded(path, captures, &query),
        None => sendable(query.append_to(uri.path().to_owned(), false)),
    }
}

/// The target that a route's own path makes, with what goes along of the client's query.
///
/// # Errors
///
/// 400 for what makes no target that could be sent.
pub fn expanded(path: &Template, captures: &[(&str, &str)], query: &Query) -> Result<PathAndQuery, Problem> {
    sendable(query.append_to(path.expand(captures), path.has_query()))
}

fn sendable(target: String) -> Result<PathAndQuery, Problem> {
    let bad = |_| Problem::new(StatusCode::BAD_REQUEST, "bad-target", "path or query cannot be passed on");
    PathAndQuery::try_from(target).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_ends_here_ends_under_names_that_backends_take_for_it() {
        let names =
            ["content_length", "transfer_encoding", "te", "host", "x_forwarded-for", "x_tenant", "own_name", "x-a"];
        let client =
            names.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).into_iter().collect();
        let claims = [("tenant".to_owned(), HeaderName::from_static("x-tenant"))];
        let passed = fields(&client, &claims, |name| name == "own-name");
        assert_eq!(passed.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-a"]);
    }

    #[test]
    fn a_proof_goes_along_and_is_not_shown() {
        let client = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static("Basic c2VjcmV0"))]);
        let passed = fields(&client, &[], |_| false);
        assert_eq!(passed[header::AUTHORIZATION], "Basic c2VjcmV0");
        assert!(!format!("{passed:?}").contains("c2VjcmV0"));
    }
}
