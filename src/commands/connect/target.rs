//! What the command line says about the server and the request.

use http::header::{CONNECTION, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Request, Uri, header};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::Args;
use crate::protocol::headers::is_token;

/// Where to connect to, and the handshake request to send there.
#[derive(Debug)]
pub(super) struct Target {
    /// Host name or address, an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) request: Request<()>,
}

/// An argument that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadArgument {
    #[error("{url:?} is no WebSocket URL: {reason}; write it as wss://host[:port]/path")]
    Url { url: String, reason: String },
    #[error("--header {header:?} is no header: write it as 'Name: value'")]
    Header { header: String },
    #[error("--header {name} belongs to the WebSocket handshake and is set by us; for subprotocols use --subprotocol")]
    Reserved { name: HeaderName },
    #[error("--{option} {value:?} holds characters that a header cannot carry")]
    Value { option: &'static str, value: String },
    #[error("--subprotocol {name:?} is no subprotocol name: use letters, digits and -._ without spaces or commas")]
    Subprotocol { name: String },
}

impl Target {
    /// Checks everything that can be checked before a connection is opened.
    pub(super) fn new(args: &Args) -> Result<Self, BadArgument> {
        let bad_url = |reason: String| BadArgument::Url { url: args.url.clone(), reason };
        let uri: Uri = args.url.parse().map_err(|error: http::uri::InvalidUri| bad_url(error.to_string()))?;
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            Some(other) => return Err(bad_url(format!("the scheme is {other}, not ws or wss"))),
            None => return Err(bad_url("it has no scheme".into())),
        };
        let host = match uri.host() {
            Some(host) if !host.is_empty() => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            Some(_) | None => return Err(bad_url("it names no host".into())),
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let mut request = uri.into_client_request().map_err(|error| bad_url(error.to_string()))?;
        add_headers(&mut request, args)?;
        Ok(Self { host, port, tls, request })
    }
}

fn add_headers(request: &mut Request<()>, args: &Args) -> Result<(), BadArgument> {
    let headers = request.headers_mut();
    for text in &args.headers {
        let bad = || BadArgument::Header { header: text.clone() };
        let (name, value) = text.split_once(':').ok_or_else(bad)?;
        let name: HeaderName = name.trim().parse().map_err(|_| bad())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| bad())?;
        if [CONNECTION, UPGRADE].contains(&name) || name.as_str().starts_with("sec-websocket-") {
            return Err(BadArgument::Reserved { name });
        }
        if name == header::HOST {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
    let value_of = |option, value: &str| {
        HeaderValue::from_str(value).map_err(|_| BadArgument::Value { option, value: value.to_owned() })
    };
    if let Some(origin) = &args.origin {
        headers.insert(ORIGIN, value_of("origin", origin)?);
    }
    if let Some(name) = args.subprotocols.iter().find(|name| !is_token(name)) {
        return Err(BadArgument::Subprotocol { name: name.clone() });
    }
    if !args.subprotocols.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value_of("subprotocol", &args.subprotocols.join(", "))?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str) -> Args {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
        }
        <Cli as clap::Parser>::parse_from(["connect", url]).args
    }

    #[test]
    fn url_gives_host_port_and_tls() {
        let of = |url| Target::new(&args(url)).map(|target| (target.host, target.port, target.tls));
        assert_eq!(of("ws://a.example").unwrap(), ("a.example".into(), 80, false));
        assert_eq!(of("wss://a.example/x?y=1").unwrap(), ("a.example".into(), 443, true));
        assert_eq!(of("wss://[::1]:8443/x").unwrap(), ("::1".into(), 8443, true));
        for bad in ["http://a.example/", "a.example", "/x", "wss://", ""] {
            assert!(matches!(of(bad), Err(BadArgument::Url { .. })), "{bad}");
        }
    }

    #[test]
    fn headers_origin_and_subprotocols_are_in_the_request() {
        let mut args = args("wss://a.example/x");
        args.headers = vec!["X-One: 1".into(), "x-one:2".into(), "Host: b.example".into()];
        args.origin = Some("https://app.example".into());
        args.subprotocols = vec!["chat.v2".into(), "chat.v1".into()];
        let request = Target::new(&args).unwrap().request;
        assert_eq!(request.headers().get_all("x-one").iter().count(), 2);
        assert_eq!(request.headers()["host"], "b.example");
        assert_eq!(request.headers()["origin"], "https://app.example");
        assert_eq!(request.headers()["sec-websocket-protocol"], "chat.v2, chat.v1");

        args.headers = vec!["Sec-WebSocket-Protocol: x".into()];
        assert!(matches!(Target::new(&args), Err(BadArgument::Reserved { .. })));
        args.headers = vec!["no colon".into()];
        assert!(matches!(Target::new(&args), Err(BadArgument::Header { .. })));
        args.headers = vec![];
        args.subprotocols = vec!["a, b".into()];
        assert!(matches!(Target::new(&args), Err(BadArgument::Subprotocol { .. })));
    }
}
