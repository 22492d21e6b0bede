//! What a request must be for, before anybody asks where it goes: methods, the forms of a target, and the name of its host beside
//! that of its connection (RFC 9110 section 7, RFC 9112 section 3).

use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, StatusCode, Version, request};
use rustls::pki_types::{IpAddr, ServerName};
use rustls::sign::CertifiedKey;

use super::hosts::split_port;
use super::http::Connection;
use super::settings::{Listener, Misdirected};
use super::stream::ClientStream;
use super::tls;
use crate::protocol::problem::Problem;

/// The name under which a client has opened its TLS connection, and what it was shown for it.
#[derive(Clone)]
pub(super) struct Named {
    /// In lower case, as TLS has it.
    name: Box<str>,
    certificate: Arc<CertifiedKey>,
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Named({:?})", self.name)
    }
}

impl Named {
    /// How a client has opened this stream, where the listener's settings have that checked.
    pub(super) fn of(stream: &ClientStream, settings: &Listener) -> Option<Self> {
        let certificates = settings.tls.as_deref().filter(|_| settings.misdirected == Misdirected::Refuse)?;
        Self::new(stream.server_name().as_deref(), certificates)
    }

    /// A connection to this name on a listener with these certificates; `None` without a name, or without certificates.
    fn new(name: Option<&str>, certificates: &[Arc<CertifiedKey>]) -> Option<Self> {
        let name = name?;
        let certificate = tls::choose(certificates, Some(name))?.clone();
        Some(Self { name: name.trim_end_matches('.').to_ascii_lowercase().into(), certificate })
    }

    /// Whether requests for this host belong on the connection: it has the same name, or one that the certificate is for as
    /// well, as browsers take it that share a connection between hosts (RFC 9113 section 9.1.1).
    fn covers(&self, host: &str) -> bool {
        if *self.name == *host {
            return true;
        }
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = match address.parse::<std::net::IpAddr>() {
            Ok(address) => ServerName::IpAddress(IpAddr::from(address)),
            Err(_) => match ServerName::try_from(host) {
                Ok(name) => name,
                Err(_) => return false,
            },
        };
        tls::is_valid_for(&self.certificate, &name)
    }
}

impl Connection {
    /// Refuses what no route is to see.
    ///
    /// # Errors
    ///
    /// 405 for methods that concern proxies themselves, 400 for a target or host in a wrong form, 421 for a host that the
    /// connection is not for.
    pub(super) fn check_target(&self, head: &request::Parts) -> Result<(), Problem> {
        check_method(head)?;
        check_form(head, self.tls)?;
        let Some(named) = self.named.as_ref().filter(|_| !self.speaks_for_others) else { return Ok(()) };
        let (host, _) = super::http::host(head)?;
        if named.covers(&host) {
            return Ok(());
        }
        let detail = "this connection was opened for another host, and its certificate is not for this one";
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", detail))
    }
}

/// CONNECT opens a tunnel, which HTTP/1.1 may nowhere; on HTTP/2 the route says what it may (RFC 8441). TRACE would show a page what its
/// browser adds (RFC 9110 section 9.3.8).
///
/// In any case of their letters: whatever reads the bytes behind a `connect` may take it for a CONNECT.
fn check_method(head: &request::Parts) -> Result<(), Problem> {
    let is = |name: &str| head.method.as_str().eq_ignore_ascii_case(name);
    let may_be_websocket = head.method == Method::CONNECT && head.version == Version::HTTP_2;
    if is("CONNECT") && !may_be_websocket || is("TRACE") || is("TRACK") {
        return Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "this method is allowed nowhere",
        )
        .with_header(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")));
    }
    Ok(())
}

fn check_form(head: &request::Parts, tls: bool) -> Result<(), Problem> {
    let bad = |kind, detail| Problem::new(StatusCode::BAD_REQUEST, kind, detail);
    let path = head.uri.path();
    let asterisk = path == "*" && head.method == Method::OPTIONS;
    if head.method != Method::CONNECT && !path.starts_with('/') && !asterisk {
        return Err(bad("bad-target", "the target must be a path, or a whole URL"));
    }
    // On HTTP/1.1 nothing else gets here; the target of HTTP/2 becomes one of HTTP/1.1.
    let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("bad-target", "the target has a byte that it must not have"));
    }
    let Some(authority) = head.uri.authority() else { return Ok(()) };
    if authority.as_str().contains('@') {
        // RFC 9110 section 4.2.4.
        return Err(bad("bad-target", "a target must not have a user in it"));
    }
    // A proxy in front may have ended TLS, and HTTP/2 says the scheme with every request, so that only HTTP/1.1 is held to it.
    if head.version < Version::HTTP_2 && head.uri.scheme_str() != Some(if tls { "https" } else { "http" }) {
        return Err(bad("bad-target", "the scheme of the target is not that of the connection"));
    }
    // RFC 9112 section 3.2: the field is that of the target. Where the two differ, somebody on the way goes by the other.
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let same = match (hosts.next(), hosts.next()) {
        (None, _) => true,
        (Some(host), None) => host.to_str().is_ok_and(|host| is_same(host, authority.as_str(), tls)),
        _ => false,
    };
    if same { Ok(()) } else { Err(bad("bad-host", "the target and the Host field name different hosts")) }
}

/// Whether two authorities are one, the port of the scheme left out or not.
fn is_same(one: &str, other: &str, tls: bool) -> bool {
    let port = if tls { 443 } else { 80 };
    match (split_port(one), split_port(other)) {
        (Some((one, one_port)), Some((other, other_port))) => {
            one == other && one_port.unwrap_or(port) == other_port.unwrap_or(port)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, hosts: &[&str], tls: bool) -> Result<(), (u16, &'static str)> {
        let mut request = http::Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        check_method(&head)
            .and_then(|()| check_form(&head, tls))
            .map_err(|problem| (problem.status.as_u16(), problem.kind))
    }

    #[test]
    fn a_target_has_a_form_that_everybody_reads_alike() {
        for (method, target, hosts) in [
            ("GET", "/", &["a"][..]),
            ("OPTIONS", "*", &["a"]),
            ("GET", "https://a/x", &["a"]),
            ("GET", "https://A:443/x", &["a"]),
            ("GET", "https://a:8443/x", &["a:8443"]),
            ("GET", "https://a/x", &[]),
            ("get", "/", &["a"]),
        ] {
            assert_eq!(check(method, target, hosts, true), Ok(()), "{method} {target}");
        }
        for (method, target, hosts, kind) in [
            ("GET", "*", &["a"][..], "bad-target"),
            ("GET", "a:443", &["a:443"], "bad-target"),
            ("GET", "http://a/", &["a"], "bad-target"),
            ("GET", "ftp://a/", &["a"], "bad-target"),
            ("GET", "https://u@a/", &["a"], "bad-target"),
            ("GET", "https://a/", &["b"], "bad-host"),
            ("GET", "https://a:1/", &["a"], "bad-host"),
            ("GET", "https://a/", &["a", "a"], "bad-host"),
            ("GET", "https://a/", &[""], "bad-host"),
        ] {
            assert_eq!(check(method, target, hosts, true), Err((400, kind)), "{method} {target}");
        }
        assert_eq!(check("GET", "http://a:80/", &["a"], false), Ok(()));
        for target in ["/\u{e9}", "/?a=\u{e9}"] {
            assert_eq!(check("GET", target, &["a"], true), Err((400, "bad-target")), "{target:?}");
        }
        for method in ["CONNECT", "connect", "TRACE", "trace", "TRACK"] {
            assert_eq!(check(method, "/", &["a"], true), Err((405, "method-not-allowed")), "{method}");
        }
    }

    #[test]
    fn a_connection_is_for_its_name_and_for_what_its_certificate_covers() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certificate = |names: &[&str]| {
            let made =
                rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                    .unwrap();
            let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], key, &provider).unwrap())
        };
        let certificates = [certificate(&["a.example", "*.b.example", "192.0.2.7"]), certificate(&["c.example"])];
        let covers = |name: &str, host: &str| Named::new(Some(name), &certificates).unwrap().covers(host);
        for host in ["a.example", "x.b.example", "192.0.2.7"] {
            assert!(covers("a.example", host) && covers("A.Example.", host), "{host}");
            assert!(!covers("c.example", host), "{host}");
        }
        for host in ["c.example", "b.example", "192.0.2.8", "[::1]", "a_b"] {
            assert!(!covers("a.example", host), "{host}");
        }
        assert!(covers("nobody.example", "nobody.example"), "whoever goes on although no certificate fits");
        assert!(Named::new(None, &certificates).is_none() && Named::new(Some("a"), &[]).is_none());
    }
}
