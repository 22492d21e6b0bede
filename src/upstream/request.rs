//! A request in the form of the connection that it goes out on.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use http_body_util::Full;

use super::settings::Endpoint;

/// A request before it is known which kind of connection it goes out on.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    /// GET or POST.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// Everything but `Host` and the framing.
    pub headers: HeaderMap,
    /// Empty for GET.
    pub body: Bytes,
}

/// How an endpoint is addressed in a request.
#[derive(Clone, Debug)]
pub(super) struct Addressed {
    host: HeaderValue,
    scheme: Scheme,
    authority: Authority,
}

impl Addressed {
    pub(super) fn to(endpoint: &Endpoint) -> Self {
        // An authority holds only what a header value may hold.
        let host =
            HeaderValue::from_str(endpoint.authority.as_str()).unwrap_or_else(|_| HeaderValue::from_static("invalid"));
        let scheme = if endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP };
        Self { host, scheme, authority: endpoint.authority.clone() }
    }

    pub(super) fn http1(&self, request: OutgoingRequest) -> Request<Full<Bytes>> {
        let mut sent = Request::new(Full::new(request.body));
        *sent.method_mut() = request.method;
        *sent.uri_mut() = Uri::from(request.target);
        *sent.headers_mut() = request.headers;
        sent.headers_mut().insert(header::HOST, self.host.clone());
        sent
    }

    pub(super) fn http2(&self, request: OutgoingRequest) -> Request<Full<Bytes>> {
        let mut sent = Request::new(Full::new(request.body));
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(request.target);
        *sent.method_mut() = request.method;
        // All three parts are there, so that this cannot fail.
        *sent.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *sent.version_mut() = Version::HTTP_2;
        *sent.headers_mut() = request.headers;
        sent
    }
}

/// A request that did not go out, as it was before it was made for a connection.
pub(super) fn take_back(request: Request<Full<Bytes>>) -> OutgoingRequest {
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::HOST);
    OutgoingRequest {
        method: head.method,
        target: head.uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")),
        headers: head.headers,
        body: body.into_inner().unwrap_or_default(),
    }
}
