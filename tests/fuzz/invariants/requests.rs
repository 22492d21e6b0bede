//! The small parsers that look at requests: hosts, origins, paths, queries, templates, fields.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use tidegate::config::Config;
use tidegate::edge::hosts::{HostPattern, host_of};
use tidegate::edge::origin::{Origin, OriginPattern};
use tidegate::edge::routes::{RouteTable, captures};
use tidegate::edge::settings::Route;
use tidegate::protocol::query::{Query, decode};
use tidegate::protocol::template::Template;
use tidegate::protocol::{close, forwarded, headers, hop, passing};

/// Two texts, cut at the first line feed: each is given to all, and the second to what the first was made into.
pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    hosts(first, second);
    origins(first, second);
    templates(first, second);
    paths(first, second);
    queries(first, second);
    fields(first, second);
    close_reasons(first);
}

fn hosts(first: &str, second: &str) {
    if let Some(host) = host_of(first) {
        assert_eq!(host_of(&host).as_deref(), Some(&*host), "a host is another one when it is read again");
        assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
    let Ok(pattern) = HostPattern::parse(first) else { return };
    assert_eq!(HostPattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "{pattern}");
    if let Some(exact) = pattern.exact() {
        assert!(pattern.matches(exact) && host_of(first).as_deref() == Some(exact));
    }
    if let Some(host) = host_of(second)
        && pattern.matches(&host)
    {
        let name = pattern.to_string();
        let below = name.strip_prefix('*').is_some_and(|name| host.ends_with(name) && host.len() > name.len());
        assert!(below || name == *host, "{name} matches {host}");
    }
}

fn origins(first: &str, second: &str) {
    if let Ok(pattern) = OriginPattern::parse(first) {
        assert_eq!(OriginPattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "{pattern}");
        if let Some(origin) = Origin::parse(second)
            && pattern.matches(&origin)
        {
            let scheme = |text: &str| text.split_once("://").map(|(scheme, _)| scheme.to_owned());
            assert_eq!(scheme(&pattern.to_string()), scheme(&origin.to_string()));
        }
    }
    let Some(origin) = Origin::parse(first) else { return };
    assert_eq!(Origin::parse(&origin.to_string()).as_ref(), Some(&origin), "{origin}");
    let own = OriginPattern::parse(&origin.to_string());
    assert!(own.is_ok_and(|pattern| pattern.matches(&origin)), "{origin} cannot be let in by its own name");
    let shown = origin.to_string();
    let authority = shown.split_once("://").map_or("", |(_, authority)| authority);
    assert!(origin.is_same(shown.starts_with("https"), authority), "{origin} is not its own");
}

fn templates(first: &str, second: &str) {
    let Ok(template) = Template::parse(first, &["room", "rest"]) else { return };
    assert_eq!(template.to_string(), first);
    assert_eq!(template.has_query(), first.contains('?'));
    let target = template.expand(&[("room", second), ("rest", "x/y")]);
    // A captured value is a piece of a path. The HTTP library takes more in a path than in a query, `"` for one: such a
    // target is refused with 400 before anything is sent.
    if is_path(second) {
        let parsed: Result<PathAndQuery, _> = target.parse();
        assert!(parsed.is_ok(), "{target:?} is no request target");
        let separators = |text: &str| text.split_once('?').map_or(0, |(_, query)| query.matches('&').count());
        assert_eq!(separators(&target), separators(first), "a value adds parameters: {target}");
    }
    let query = Query::split(second, &["ticket".to_owned()], "last_event_id");
    let whole = query.append_to(target.clone(), template.has_query());
    assert!(whole.starts_with(&target) && whole.ends_with(&query.forwarded));
}

/// Nothing but `pchar` and `/` (RFC 3986 section 3.3).
fn is_path(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(c))
}

fn paths(first: &str, second: &str) {
    let Ok(names) = captures(first) else { return };
    let table = RouteTable::build(vec![route(first)]);
    let table = table.unwrap_or_else(|overlaps| panic!("{first:?} is taken and then refused: {overlaps:?}"));
    let Some(found) = table.find("", second) else { return };
    assert_eq!(found.captures.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    for (name, value) in found.captures {
        assert!(second.contains(value));
        // What a server could make of it that decodes everything, and cuts wherever anything is cut.
        let decoded = decode(&value.replace('+', "%2B"));
        let walks = decoded.split(['/', '\\']).any(|segment| matches!(segment.split(';').next(), Some("." | "..")));
        assert!(!walks, "the capture {name} of {second:?} walks out of its place: {value:?}");
    }
}

/// A route with this path. The rest comes out of a configuration, so that new settings need nothing here.
fn route(path: &str) -> Arc<Route> {
    let text = r#"
        [[listener]]
        address = "127.0.0.1:0"
        tls = false
        [upstream.app]
        endpoints = ["http://127.0.0.1:9000"]
        [[route]]
        path = "/"
        auth = "none"
        bridge = { upstream = "app", events = "/events", messages = "/messages" }
    "#;
    let config = Config::parse(text, "requests.toml", Path::new(""));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let route = config.routes.first().unwrap_or_else(|| panic!("a configuration without a route"));
    Arc::new(Route { path: path.into(), ..Route::clone(route) })
}

fn queries(first: &str, second: &str) {
    let decoded = decode(first);
    assert!(first.contains(['%', '+']) || decoded == first, "{first:?} became {decoded:?}");
    let credentials = ["ticket".to_owned(), second.to_owned()];
    let query = Query::split(first, &credentials, "last_event_id");
    let mut given = first.split('&');
    for pair in query.forwarded.split('&').filter(|pair| !pair.is_empty()) {
        assert!(given.any(|other| other == pair), "{pair:?} was not in {first:?}, or in another order");
        let name = decode(pair.split_once('=').map_or(pair, |(name, _)| name));
        assert!(!credentials.contains(&name) && name != "last_event_id", "{name:?} goes along");
    }
}

fn fields(first: &str, second: &str) {
    if let Some(kept) = headers::cookies_named(first, &["sid".to_owned()]) {
        let named = |pair: &str| pair.split_once('=').is_some_and(|(name, _)| name.trim() == "sid");
        assert!(kept.split(';').all(named), "{kept:?} of {first:?}");
    }
    if let Some(host) = host_of(first) {
        // Its header was one that an HTTP library took, or it could not be read as a host.
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let (head, ()) = http::Request::new(()).into_parts();
        for (name, value) in forwarded::told(&head, peer, true, first) {
            assert!(HeaderValue::from_bytes(&value).is_ok(), "{name} of {host}");
        }
    }
    if let Ok(name) = HeaderName::from_bytes(first.as_bytes()) {
        assert!(headers::is_token(name.as_str()));
        let client = HeaderMap::from_iter([(name, HeaderValue::from_static("1"))]);
        let passed = passing::fields(&client, &[], |_| false);
        let mut names = passed.keys().map(|name| headers::folded(name.as_str()));
        assert!(names.all(|name| !name.starts_with("tidegate-") && !hop::is_hop_by_hop(&name)));
    }
    let Ok(value) = HeaderValue::from_str(second) else { return };
    for name in [header::RETRY_AFTER, header::CONTENT_TYPE, header::CONTENT_ENCODING] {
        let fields = HeaderMap::from_iter([(name, value.clone())]);
        let _ = headers::retry_after(&fields, SystemTime::UNIX_EPOCH);
        assert!(!headers::is_event_stream(&fields) || headers::media_type(&fields).is_some());
        let _ = headers::is_identity(&fields);
    }
}

fn close_reasons(text: &str) {
    let clipped = close::clip_reason(text);
    assert!(clipped.len() <= close::MAX_REASON && text.starts_with(clipped));
    assert!(clipped.len() + 4 > close::MAX_REASON || clipped == text);
}
