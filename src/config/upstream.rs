//! `[upstream.NAME]`: where the backend is, and how it is spoken to.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use toml::de::DeValue;

use super::ANY_DURATION;
use super::field::{Field, Located};
use super::pem::Files;
use super::problem::quote;
use super::reader::TableReader;
use crate::edge::hosts::split_port;
use crate::upstream::{Endpoint, Protocol, Settings};

const FORM: &str = "write endpoints = [\"http://127.0.0.1:9000\"], with http or https, a host and maybe a port";

pub(super) fn read(name: &Located<&str>, mut table: TableReader<'_>, files: Files<'_>) -> Option<Settings> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.value.is_empty() || !name.value.bytes().all(is_plain) {
        let message = format!("{} cannot be the name of an upstream", quote(name.value));
        table.report().wrong(Some(name.span.clone()), message, "use letters, digits, `-`, `_` and `.`");
    }
    let field = table.required("endpoints", FORM);
    let endpoints = field.as_ref().and_then(endpoints);
    let versions = [("auto", Protocol::Auto), ("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let protocol = table.one_of("protocol", Protocol::default(), &versions);
    let ca = table.field("ca");
    let connect_timeout = table.duration("connect_timeout", Duration::from_secs(5), ANY_DURATION);
    let max_streams_per_connection = table.integer("max_streams_per_connection", 100, 2..=100_000);
    let max_idle_connections = table.integer("max_idle_connections", 64, 0..=100_000);
    let idle_timeout = table.duration("idle_timeout", Duration::from_mins(1), ANY_DURATION);
    table.finish();

    let (field, endpoints) = (field?, endpoints?);
    Some(Settings {
        name: Arc::from(name.value),
        roots: roots(&field, &endpoints, ca.as_ref(), files)?,
        endpoints,
        protocol,
        connect_timeout,
        max_streams_per_connection,
        max_idle_connections,
        idle_timeout,
    })
}

fn endpoints(field: &Field<'_>) -> Option<Vec<Endpoint>> {
    if matches!(field.value, DeValue::Array(items) if items.is_empty()) {
        field.wrong("`endpoints` must name at least one", FORM);
        return None;
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut complete = true;
    for text in field.texts()? {
        let wrong = |message: String, help: String| field.report.wrong(Some(text.span.clone()), message, help);
        match endpoint(text.value) {
            Err(help) => {
                wrong(format!("{} is not an endpoint", quote(text.value)), help);
                complete = false;
            }
            // Written differently but the same, such as with and without the default port.
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                wrong(
                    format!("{} stands in `endpoints` twice", quote(text.value)),
                    "take one of the two out".to_owned(),
                );
                complete = false;
            }
            Ok(endpoint) => endpoints.push(endpoint),
        }
    }
    complete.then_some(endpoints)
}

/// Reads `http://host[:port]` or `https://host[:port]`; the error says what to write.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    let form = || "write http:// or https://, a host and maybe a port, as in \"http://127.0.0.1:9000\"".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
    let (tls, default_port) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(form()),
    };
    if rest.contains('@') {
        return Err("leave out user and password; an endpoint is only a place".to_owned());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (place, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(format!("write \"{scheme}://{place}\"; the path of a request is given by the route"));
    }
    let (host, port) = split_port(place).filter(|(_, port)| *port != Some(0)).ok_or_else(form)?;
    let authority = match port.filter(|port| *port != default_port) {
        Some(port) => format!("{host}:{port}"),
        None => host.into_owned(),
    };
    let authority = authority.parse::<Authority>().map_err(|_| form())?;
    Ok(Endpoint { tls, authority })
}

/// Who vouches for the endpoints; `Some(None)` if none of them needs that.
#[expect(clippy::option_option, reason = "the outer one is failure, as everywhere in this module")]
fn roots(
    field: &Field<'_>,
    endpoints: &[Endpoint],
    ca: Option<&Field<'_>>,
    files: Files<'_>,
) -> Option<Option<Arc<RootCertStore>>> {
    let needed = endpoints.iter().any(|endpoint| endpoint.tls);
    match ca {
        Some(ca) if !needed => {
            ca.wrong("`ca` has no effect, because no endpoint is https", "take it out, or write https:// endpoints");
            None
        }
        Some(ca) => files.roots(&ca.text()?).map(Some),
        None if !needed => Some(None),
        None => {
            let roots = trusted(rustls_native_certs::load_native_certs().certs);
            if roots.is_none() {
                let help = "install the package ca-certificates, or name the authority's certificate with `ca`";
                field.wrong("this system has no certificates that could vouch for an https endpoint", help);
            }
            roots.map(Some)
        }
    }
}

/// The certificates of the system, those left out that cannot be used; `None` if nothing remains.
fn trusted(certificates: Vec<CertificateDer<'static>>) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    (!roots.is_empty()).then(|| Arc::new(roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_scheme_and_a_place() {
        let read = |text| endpoint(text).map(|endpoint| (endpoint.tls, endpoint.authority.to_string())).expect(text);
        assert_eq!(read("http://127.0.0.1:9000"), (false, "127.0.0.1:9000".to_owned()));
        assert_eq!(read("https://App.internal:443"), (true, "app.internal".to_owned()));
        assert_eq!(read("http://my_service:443"), (false, "my_service:443".to_owned()));
        assert_eq!(read("http://[::1]:80"), (false, "[::1]".to_owned()));
    }

    #[test]
    fn what_is_no_endpoint_says_what_to_write() {
        let help = |text: &str| endpoint(text).expect_err(text);
        for text in ["", "127.0.0.1:9000", "ws://a", "http://", "http://a b", "http://a:0", "http://a:99999", "HTTP//a"]
        {
            assert!(help(text).contains("http://127.0.0.1:9000"), "{text}");
        }
        assert!(help("http://u:p@a").contains("user and password"));
        assert!(help("http://a:9000/").contains("write \"http://a:9000\""));
        assert!(help("https://a/x?y").contains("write \"https://a\""));
    }

    #[test]
    fn a_system_without_usable_certificates_is_noticed() {
        assert!(trusted(Vec::new()).is_none());
        assert!(trusted(vec![CertificateDer::from(vec![0, 1, 2])]).is_none());
    }
}
