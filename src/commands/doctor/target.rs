//! What the command line says about where to ask.

use std::net::{IpAddr, SocketAddr};

use http::Uri;

use crate::protocol::diagnostic::DEFAULT_PATH;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) tls: bool,
    /// Name or address, an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as they stand in the URL, for the field `Host`.
    pub(super) authority: String,
    /// Paths at which the endpoint may be, in the order in which they are tried.
    pub(super) paths: Vec<String>,
}

/// An argument that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadArgument {
    #[error("{url:?} is no URL: {reason}; write it as https://host[:port]/path")]
    Url { url: String, reason: String },
    #[error("{text:?} is no address: write --resolve 192.0.2.1 or --resolve 192.0.2.1:8443")]
    Address { text: String },
}

impl Target {
    /// Reads a URL. The scheme may also be that of a WebSocket; what stands in the query plays no part.
    pub(super) fn parse(url: &str) -> Result<Self, BadArgument> {
        let bad = |reason: &str| BadArgument::Url { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        let tls = match uri.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            Some(_) => return Err(bad("the scheme must be https or http")),
            None => return Err(bad("it has no scheme")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it names a user"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(bad("it names no host"));
        }
        let mut paths = vec![DEFAULT_PATH.to_owned()];
        if !["/", DEFAULT_PATH].contains(&uri.path()) {
            // What is said of one path in front of the gateway often does not hold for another.
            paths.insert(0, uri.path().to_owned());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { tls, host, port, authority: authority.to_string(), paths })
    }

    /// The URL of one of its paths.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// Reads an address with or without a port.
pub(super) fn address(text: &str, port: u16) -> Result<SocketAddr, BadArgument> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)).or_else(|_| text.parse());
    address.map_err(|_| BadArgument::Address { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_url_is_asked_before_the_usual_one() {
        let of = |url| {
            let target = Target::parse(url).unwrap();
            (target.tls, target.host, target.port, target.authority, target.paths.len())
        };
        assert_eq!(of("https://a.example"), (true, "a.example".into(), 443, "a.example".into(), 1));
        assert_eq!(of("ws://a.example:81/chat?x=1"), (false, "a.example".into(), 81, "a.example:81".into(), 2));
        assert_eq!(of("https://[::1]:8443/"), (true, "::1".into(), 8443, "[::1]:8443".into(), 1));
        let target = Target::parse("https://a.example/chat?ticket=1").unwrap();
        assert_eq!(target.paths, ["/chat", DEFAULT_PATH]);
        assert_eq!(target.url("/chat"), "https://a.example/chat");
    }

    #[test]
    fn what_is_no_url_or_address_is_told() {
        for bad in ["", "/chat", "a.example", "ftp://a.example/", "https://", "https://u@a.example/"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(address("192.0.2.1", 443).unwrap(), "192.0.2.1:443".parse().unwrap());
        assert_eq!(address("[::1]:9", 443).unwrap(), "[::1]:9".parse().unwrap());
        assert!(address("a.example", 443).is_err());
    }
}
