//! From host and path of a request to its route.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use matchit::{InsertError, Router};

use super::hosts::HostPattern;
use super::settings::Route;

/// All routes, ready to be searched. The most specific host comes first, and under one host the most specific path.
#[derive(Clone, Debug)]
pub struct RouteTable {
    exact: HashMap<String, Router<Numbered>>,
    /// From the longest to the shortest.
    wildcards: Vec<(HostPattern, Router<Numbered>)>,
    any: Router<Numbered>,
    /// Those that take WebSockets: for which host, and whether over HTTP/2 too.
    websockets: Vec<(Option<HostPattern>, bool)>,
}

/// A route and its index in the list given to [`RouteTable::build`].
type Numbered = (usize, Arc<Route>);

/// Two routes that would take the same requests, by their index in the list given to [`RouteTable::build`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The earlier one.
    pub first: usize,
    /// The later one; the same as `first` if its path is none at all, which [`captures`] finds out beforehand.
    pub second: usize,
}

/// What [`RouteTable::find`] found.
#[derive(Clone, Debug)]
pub struct Found<'table, 'path> {
    /// The route.
    pub route: &'table Arc<Route>,
    /// Its index in the list given to [`RouteTable::build`].
    pub index: usize,
    /// Names and raw, still percent-encoded values of the captures, in the order of the path.
    pub captures: Vec<(&'table str, &'path str)>,
}

impl RouteTable {
    /// Sorts the routes in.
    ///
    /// # Errors
    ///
    /// Every route that overlaps an earlier one for the same host, with the first such one.
    pub fn build(routes: Vec<Arc<Route>>) -> Result<Self, Vec<Overlap>> {
        #[derive(Default)]
        struct Group {
            router: Router<Numbered>,
            members: Vec<(usize, Arc<str>)>,
        }

        let takes_websockets = |route: &&Arc<Route>| route.bridge.is_some() || route.legacy.is_some();
        let websockets = routes.iter().filter(takes_websockets);
        let websockets = websockets.map(|route| (route.host.clone(), route.websocket_over_http2)).collect();
        let mut groups: BTreeMap<Option<HostPattern>, Group> = BTreeMap::new();
        let mut overlaps = Vec::new();
        for (index, route) in routes.into_iter().enumerate() {
            let path = Arc::clone(&route.path);
            let group = groups.entry(route.host.clone()).or_default();
            match group.router.insert(path.as_ref(), (index, route)) {
                Ok(()) => group.members.push((index, path)),
                Err(InsertError::Conflict { .. }) => {
                    let first = group.members.iter().find(|(_, earlier)| conflicts(earlier, &path));
                    overlaps.push(Overlap { first: first.map_or(index, |(first, _)| *first), second: index });
                }
                Err(_) => overlaps.push(Overlap { first: index, second: index }),
            }
        }
        if !overlaps.is_empty() {
            return Err(overlaps);
        }

        let mut table = Self { exact: HashMap::new(), wildcards: Vec::new(), any: Router::new(), websockets };
        for (host, Group { router, .. }) in groups {
            match host {
                None => table.any = router,
                Some(pattern) => match pattern.exact() {
                    Some(host) => drop(table.exact.insert(host.to_owned(), router)),
                    None => table.wildcards.push((pattern, router)), // in the order of the map: longest first
                },
            }
        }
        Ok(table)
    }

    /// Whether clients whose TLS asks for `name` may be told that WebSockets are spoken over HTTP/2: there are routes that take them,
    /// and every one that could be meant does. A browser that is told so asks for all its WebSockets in that way, and tries no other.
    #[must_use]
    pub fn has_websockets_over_http2(&self, name: Option<&str>) -> bool {
        let meant = |host: &Option<HostPattern>| match (name, host) {
            (Some(name), Some(host)) => host.matches(name),
            _ => true,
        };
        let mut over_http2 = self.websockets.iter().filter(|(host, _)| meant(host)).map(|(_, over_http2)| *over_http2);
        over_http2.next().is_some_and(|first| first && over_http2.all(|next| next))
    }

    /// Looks for the route of a request. `host` is what [`host_of`](super::hosts::host_of) gives, or empty; `path` is
    /// raw and without the query.
    ///
    /// If the routes of the more specific host have no such path, those of the less specific ones are tried. A path
    /// or capture with a segment `.` or `..` matches nothing, because put into a template it would walk out of it. That
    /// holds for encoded dots too, and for segments that only a server which decodes `%2F`, or which reads `\` as `/` or
    /// cuts segments at `;`, would see.
    #[must_use]
    pub fn find<'table, 'path>(&'table self, host: &str, path: &'path str) -> Option<Found<'table, 'path>> {
        if has_dot_segment(path) {
            return None;
        }
        let exact = self.exact.get(host).into_iter();
        let wildcards = self.wildcards.iter().filter(|(pattern, _)| pattern.matches(host)).map(|(_, router)| router);
        let found = exact.chain(wildcards).chain([&self.any]).find_map(|router| router.at(path).ok())?;
        let captures: Vec<_> = found.params.iter().collect();
        // `/room-{name}` makes `..` of `/room-..`, so the captures are looked at on their own.
        let walks_out = captures.iter().any(|(_, value)| has_dot_segment(value));
        let (index, route) = found.value;
        (!walks_out).then_some(Found { route, index: *index, captures })
    }
}

/// Why a text is no path of a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("a path begins with `/`")]
    NotAbsolute,
    /// A character that a path cannot hold.
    #[error("the character {0:?} never occurs in the path of a request")]
    Illegal(char),
    /// A segment `.` or `..`.
    #[error("a path with a segment `.` or `..` is never matched")]
    DotSegment,
    /// Braces that do not enclose one name per segment.
    #[error("a capture is written as `{{name}}`, one in a segment, or `{{*name}}` as the last segment")]
    Capture,
    /// Two captures with one name.
    #[error("two captures are called `{0}`")]
    Twice(String),
}

/// Checks the path of a route and gives the names that it captures, in order.
///
/// # Errors
///
/// [`PathError`] with the first thing that is wrong.
pub fn captures(path: &str) -> Result<Vec<&str>, PathError> {
    let segments = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
    let legal = |c: &char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%{}".contains(*c);
    if let Some(illegal) = path.chars().find(|c| !legal(c)) {
        return Err(PathError::Illegal(illegal));
    }
    if has_dot_segment(path) {
        return Err(PathError::DotSegment);
    }
    let mut names = Vec::new();
    for segment in segments.split('/') {
        let Some((_, rest)) = segment.split_once('{') else {
            if segment.contains('}') {
                return Err(PathError::Capture);
            }
            continue;
        };
        let (name, after) = rest.split_once('}').ok_or(PathError::Capture)?;
        let name = match name.strip_prefix('*') {
            // The router would take `/x{*name}` too, and then match the rest of the path behind `/x`.
            Some(name) if segment.starts_with('{') => name,
            _ => name,
        };
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || after.contains(['{', '}']) {
            return Err(PathError::Capture);
        }
        if names.contains(&name) {
            return Err(PathError::Twice(name.to_owned()));
        }
        names.push(name);
    }
    // The router has the last word, above all on where `{*name}` may stand.
    Router::new().insert(path, ()).map_err(|_| PathError::Capture)?;
    Ok(names)
}

fn conflicts(first: &str, second: &str) -> bool {
    let mut router = Router::new();
    router.insert(first, ()).is_err() || router.insert(second, ()).is_err()
}

fn has_dot_segment(path: &str) -> bool {
    let mut rest = path.as_bytes();
    // Dots at the beginning of this segment; none once anything else was seen in it.
    let mut dots = Some(0_usize);
    loop {
        rest = match rest {
            [] => return matches!(dots, Some(1 | 2)),
            [b'/' | b'\\', tail @ ..] | [b'%', b'2', b'f' | b'F', tail @ ..] | [b'%', b'5', b'c' | b'C', tail @ ..] => {
                if matches!(dots, Some(1 | 2)) {
                    return true;
                }
                dots = Some(0);
                tail
            }
            [b';', ..] | [b'%', b'3', b'b' | b'B', ..] if matches!(dots, Some(1 | 2)) => return true,
            [b'.', tail @ ..] | [b'%', b'2', b'e' | b'E', tail @ ..] => {
                dots = dots.map(|dots| dots + 1);
                tail
            }
            [_, tail @ ..] => {
                dots = None;
                tail
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::limits::RouteLimits;
    use crate::edge::settings::{Auth, MissingOrigin};

    fn route(host: &str, path: &str) -> Arc<Route> {
        Arc::new(Route {
            split: None,
            host: (!host.is_empty()).then(|| HostPattern::parse(host).expect("valid")),
            name: path.into(),
            path: path.into(),
            origins: Vec::new(),
            missing_origin: MissingOrigin::Allow,
            websocket_over_http2: true,
            auth: Auth::None,
            limits: RouteLimits::default(),
            bridge: None,
            legacy: None,
            proxy: None,
            sunset: None,
        })
    }

    fn build(routes: &[(&str, &str)]) -> Result<RouteTable, Vec<Overlap>> {
        RouteTable::build(routes.iter().map(|(host, path)| route(host, path)).collect())
    }

    /// Host and path of the route found, and what it captured.
    fn found(table: &RouteTable, host: &str, path: &str) -> Option<String> {
        let found = table.find(host, path)?;
        let host = found.route.host.as_ref().map(ToString::to_string).unwrap_or_default();
        let captures: Vec<_> = found.captures.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        Some(format!("{host}{}{}", found.route.path, captures.concat()))
    }

    #[test]
    fn websockets_over_http2_are_offered_where_no_route_of_the_host_says_no() {
        let table = |routes: &[(&str, bool)]| {
            let websockets = routes.iter().map(|(host, over_http2)| (route(host, "/").host.clone(), *over_http2));
            RouteTable { websockets: websockets.collect(), ..build(&[]).expect("no overlaps") }
        };
        let one = table(&[("a.io", true), ("b.io", false), ("*.c.io", false)]);
        for (name, offered) in
            [(Some("a.io"), true), (Some("b.io"), false), (Some("x.c.io"), false), (Some("d.io"), false)]
        {
            assert_eq!(one.has_websockets_over_http2(name), offered, "{name:?}");
        }
        assert!(!one.has_websockets_over_http2(None), "it may be any of them");
        assert!(!table(&[("", false), ("a.io", true)]).has_websockets_over_http2(Some("a.io")));
        assert!(table(&[("", true)]).has_websockets_over_http2(None));
        assert!(!build(&[("", "/page")]).expect("no overlaps").has_websockets_over_http2(None), "there are none");
    }

    #[test]
    fn the_most_specific_host_wins_and_others_fill_its_gaps() {
        let routes = [("", "/chat"), ("*.a.io", "/chat"), ("*.b.a.io", "/chat"), ("x.b.a.io", "/only"), ("", "/any")];
        let table = build(&routes).expect("no overlaps");
        assert_eq!(found(&table, "x.b.a.io", "/only").as_deref(), Some("x.b.a.io/only"));
        assert_eq!(found(&table, "x.b.a.io", "/chat").as_deref(), Some("*.b.a.io/chat"));
        assert_eq!(found(&table, "y.a.io", "/chat").as_deref(), Some("*.a.io/chat"));
        assert_eq!(found(&table, "a.io", "/chat").as_deref(), Some("/chat"));
        assert_eq!(found(&table, "x.b.a.io", "/any").as_deref(), Some("/any"));
        assert_eq!(found(&table, "", "/any").as_deref(), Some("/any"));
        assert_eq!(found(&table, "y.a.io", "/only"), None);
    }

    #[test]
    fn the_most_specific_path_wins_and_captures_are_raw() {
        let table = build(&[("", "/a/{x}"), ("", "/a/b"), ("", "/a/{x}/c"), ("", "/f/{*rest}")]).expect("no overlaps");
        assert_eq!(found(&table, "h", "/a/b").as_deref(), Some("/a/b"));
        assert_eq!(found(&table, "h", "/a/z%20z").as_deref(), Some("/a/{x} x=z%20z"));
        assert_eq!(found(&table, "h", "/a/b/c").as_deref(), Some("/a/{x}/c x=b"));
        assert_eq!(found(&table, "h", "/f/1/2").as_deref(), Some("/f/{*rest} rest=1/2"));
        assert_eq!(found(&table, "h", "/a/"), None);
        assert_eq!(found(&table, "h", "/a"), None);
    }

    #[test]
    fn no_segment_walks_out_of_a_template() {
        let table = build(&[("", "/f/{*rest}"), ("", "/r-{name}"), ("", "/x/{a}")]).expect("no overlaps");
        let refused = [
            "/f/../x",
            "/f/.",
            "/f/..",
            "/./f/a",
            "/f/%2e%2E/x",
            "/f/.%2e",
            "/f/%2E",
            "/r-..",
            "/r-.",
            "/r-%2e%2e",
            "/x/..%2fadmin",
            "/x/a%2F..%2Fb",
            "/x/..%5Cadmin",
            "/x/..\\admin",
            "/x/..;v=1",
            "/x/..%3b",
        ];
        for path in refused {
            assert_eq!(found(&table, "h", path), None, "{path}");
        }
        for path in ["/f/...", "/f/.hidden", "/f/a..b", "/f/..a", "/r-a.", "/x/%2e%2e%2e", "/x/a%2Fb"] {
            assert!(found(&table, "h", path).is_some(), "{path}");
        }
    }

    #[test]
    fn overlaps_are_told_with_both_routes() {
        let overlap = |first, second| Overlap { first, second };
        assert_eq!(build(&[("", "/a"), ("", "/b"), ("", "/a")]).expect_err("same"), [overlap(0, 2)]);
        assert_eq!(build(&[("", "/q"), ("", "/a/{x}"), ("", "/a/{y}")]).expect_err("names"), [overlap(1, 2)]);
        assert_eq!(build(&[("a.io", "/{x}/z"), ("A.io", "/{y}/z")]).expect_err("host case"), [overlap(0, 1)]);
        assert_eq!(build(&[("", "/{*x}"), ("", "/{y}")]).expect_err("rest and one"), [overlap(0, 1)]);
        let both = build(&[("", "/a"), ("", "/a"), ("", "/a")]).expect_err("twice");
        assert_eq!(both, [overlap(0, 1), overlap(0, 2)]);
        assert!(build(&[("", "/a"), ("a.io", "/a"), ("*.a.io", "/a")]).is_ok());
        assert!(build(&[("", "/a/{x}"), ("", "/a/b")]).is_ok());
        assert_eq!(build(&[("", "/{")]).expect_err("no path"), [overlap(0, 0)]);
    }

    #[test]
    fn a_path_names_its_captures() {
        assert_eq!(captures("/").expect("valid"), [""; 0]);
        assert_eq!(captures("/rooms/{room}/r-{user}.x/{*rest}").expect("valid"), ["room", "user", "rest"]);
        assert_eq!(captures("chat"), Err(PathError::NotAbsolute));
        assert_eq!(captures("/a?b"), Err(PathError::Illegal('?')));
        assert_eq!(captures("/ä"), Err(PathError::Illegal('ä')));
        assert_eq!(captures("/a/../b"), Err(PathError::DotSegment));
        assert_eq!(captures("/{a}/{a}"), Err(PathError::Twice("a".to_owned())));
        for path in ["/{", "/}", "/{}", "/{a}{b}", "/{*a}/b", "/{{a}}", "/{a b}", "/x{*a}", "/{*}", "/{a-b}"] {
            assert!(captures(path).is_err(), "{path}");
        }
    }
}
