//! Web origins (RFC 6454): where the page that opens a connection was loaded from.

use std::fmt;

use super::hosts::{HostPattern, split_port};

/// A tuple origin, as browsers send it in the `Origin` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    tls: bool,
    host: String,
    /// Only where it is not the scheme's own.
    port: Option<u16>,
}

/// Origins let in by configuration: one, or all below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    tls: bool,
    host: HostPattern,
    port: Option<u16>,
}

impl Origin {
    /// Reads `scheme://host[:port]` (RFC 6454 section 6.2) for `http` and `https`.
    ///
    /// Case is lowered and a default port is left out, so that equal origins are equal values. Anything else gives
    /// `None`: `null`, other schemes, a path, user information.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (tls, authority) = split_scheme(text)?;
        let (host, port) = split_port(authority)?;
        if authority.ends_with(':') {
            return None;
        }
        Some(Self { tls, host: host.into_owned(), port: elide(tls, port) })
    }

    /// The origin of pages that are served under the authority that a request names in `Host`.
    #[must_use]
    pub fn own(tls: bool, host_header: &str) -> Option<Self> {
        let (host, port) = split_port(host_header)?;
        Some(Self { tls, host: host.into_owned(), port: elide(tls, port) })
    }

    /// Whether a page of this origin was served under the authority that the request names in `Host`.
    ///
    /// A port that is the default of the origin's own scheme counts as none. If the request came over TLS the origin
    /// must be `https`; without TLS both schemes are fine, because TLS may end in front of us.
    #[must_use]
    pub fn is_same(&self, tls: bool, host_header: &str) -> bool {
        let Some((host, port)) = split_port(host_header) else { return false };
        (self.tls || !tls) && self.host == host && self.port == elide(self.tls, port)
    }
}

impl OriginPattern {
    /// Reads `https://app.example.com[:port]` or `https://*.example.com[:port]`; `http` is taken as well.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "an origin is written as `https://app.example.com` or `https://*.example.com`";
        let (tls, authority) = split_scheme(text).ok_or_else(|| form.to_owned())?;
        if authority.contains(['/', '?', '#', '@']) {
            return Err(format!("{form}, with nothing but a port after the host"));
        }
        // The port is what follows the last colon, unless that one is inside the brackets of an IPv6 address.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let host = HostPattern::parse(host).map_err(|error| error.to_string())?;
        let port = match port {
            None => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().map_err(|_| format!("`{port}` is no port; ports go from 0 to 65535"))?)
            }
            Some(port) => return Err(format!("`{port}` is no port; ports go from 0 to 65535")),
        };
        Ok(Self { tls, host, port: elide(tls, port) })
    }

    /// Whether `origin` is one of those meant. Scheme and port must be the same; a wildcard stands for subdomains of any
    /// depth, not for the domain itself.
    #[must_use]
    pub fn matches(&self, origin: &Origin) -> bool {
        self.tls == origin.tls && self.port == origin.port && self.host.matches(&origin.host)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(f, self.tls, &self.host, self.port)
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(f, self.tls, &self.host, self.port)
    }
}

fn write_parts(f: &mut fmt::Formatter<'_>, tls: bool, host: &impl fmt::Display, port: Option<u16>) -> fmt::Result {
    write!(f, "{}://{host}", if tls { "https" } else { "http" })?;
    port.map_or(Ok(()), |port| write!(f, ":{port}"))
}

fn split_scheme(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    if scheme.eq_ignore_ascii_case("https") {
        Some((true, rest))
    } else if scheme.eq_ignore_ascii_case("http") {
        Some((false, rest))
    } else {
        None
    }
}

fn elide(tls: bool, port: Option<u16>) -> Option<u16> {
    port.filter(|port| *port != if tls { 443 } else { 80 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).expect(text)
    }

    #[test]
    fn equal_origins_are_equal_values() {
        assert_eq!(origin("https://App.Example.com:443").to_string(), "https://app.example.com");
        assert_eq!(origin("http://a.example:80"), origin("HTTP://a.example"));
        assert_eq!(origin("https://a.example:80").to_string(), "https://a.example:80");
        assert_eq!(origin("http://[::1]:3000").to_string(), "http://[::1]:3000");
    }

    #[test]
    fn what_is_no_web_origin_is_none() {
        let bad = [
            "",
            "null",
            "file://",
            "app.example.com",
            "https://",
            "https:///",
            "https://a.example/",
            "https://a.example/x",
            "https://u@a.example",
            "https://a.example:",
            "https://a.example:x",
            "https://a.example:65536",
            "https://a b",
            "ftp://a.example",
            "https://a.example https://b.example",
        ];
        for text in bad {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_exact_pattern_lets_in_one_origin() {
        let pattern = OriginPattern::parse("https://app.example.com:443").expect("valid");
        assert!(pattern.matches(&origin("https://app.example.com")));
        assert!(!pattern.matches(&origin("http://app.example.com")));
        assert!(!pattern.matches(&origin("https://app.example.com:8443")));
        assert!(!pattern.matches(&origin("https://app.example.com.evil.example")));
    }

    #[test]
    fn a_wildcard_lets_in_subdomains_of_any_depth() {
        let pattern = OriginPattern::parse("https://*.example.com").expect("valid");
        assert!(pattern.matches(&origin("https://a.example.com")));
        assert!(pattern.matches(&origin("https://a.b.example.com")));
        assert!(!pattern.matches(&origin("https://example.com")));
        assert!(!pattern.matches(&origin("https://evilexample.com")));
        assert!(!pattern.matches(&origin("https://a.example.com:8443")));
        assert_eq!(pattern.to_string(), "https://*.example.com");
        let with_port = OriginPattern::parse("http://*.localhost:3000").expect("valid");
        assert!(with_port.matches(&origin("http://app.localhost:3000")));
        assert!(OriginPattern::parse("http://[::1]:3000").expect("valid").matches(&origin("http://[::1]:3000")));
    }

    #[test]
    fn a_bad_pattern_says_what_is_wrong() {
        let refused = |text: &str| OriginPattern::parse(text).expect_err(text);
        assert!(refused("app.example.com").contains("https://app.example.com"));
        assert!(refused("*").contains("https://*.example.com"));
        assert!(refused("https://app.example.com/").contains("nothing but a port"));
        assert!(refused("https://a.*.com").contains("first label"));
        assert!(refused("https://a.com:http").contains("`http` is no port"));
        assert!(refused("https://a.com:70000").contains("`70000` is no port"));
        assert!(OriginPattern::parse("https://[::1").is_err());
    }

    #[test]
    fn the_same_origin_is_recognised_by_the_host_header() {
        assert!(origin("https://chat.example.com").is_same(true, "Chat.example.com"));
        assert!(origin("https://chat.example.com").is_same(true, "chat.example.com:443"));
        assert!(origin("https://localhost:8443").is_same(true, "localhost:8443"));
        assert!(origin("https://[::1]:8443").is_same(true, "[0::1]:8443"));
        assert!(!origin("https://chat.example.com").is_same(true, "chat.example.com:8443"));
        assert!(!origin("https://chat.example.com").is_same(true, "other.example.com"));
        assert!(!origin("https://chat.example.com").is_same(true, ""));
    }

    #[test]
    fn a_plain_page_is_foreign_behind_tls_but_a_secure_one_is_not_without() {
        assert!(!origin("http://chat.example.com").is_same(true, "chat.example.com"));
        assert!(origin("http://chat.example.com").is_same(false, "chat.example.com"));
        assert!(origin("https://chat.example.com").is_same(false, "chat.example.com"));
        assert!(!origin("http://chat.example.com").is_same(false, "chat.example.com:443"));
    }
}
