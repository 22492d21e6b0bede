//! A request in the form of the connection that it goes out on.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use http_body::{Frame, SizeHint};

use super::settings::Endpoint;
use super::upload::{Upload, Watch};

/// A request before it is known which kind of connection it goes out on.
#[derive(Clone, Debug)]
pub struct OutgoingRequest<B = Bytes> {
    /// GET or POST; of a request that is passed on, whatever the client said.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// Everything but the framing; `Host` only where it is to be another than the endpoint's own.
    pub headers: HeaderMap,
    /// Empty for GET.
    pub body: B,
}

/// The body of a request on its way out.
#[derive(Debug)]
pub enum RequestBody {
    /// It is there already.
    Whole(Bytes),
    /// It comes from a client while it goes out.
    Streamed(Upload),
}

impl From<OutgoingRequest> for OutgoingRequest<RequestBody> {
    fn from(request: OutgoingRequest) -> Self {
        let OutgoingRequest { method, target, headers, body } = request;
        Self { method, target, headers, body: RequestBody::Whole(body) }
    }
}

impl OutgoingRequest<RequestBody> {
    /// The same once more; `None` if its body comes only once.
    pub(super) fn copy(&self) -> Option<Self> {
        let RequestBody::Whole(body) = &self.body else { return None };
        let Self { method, target, headers, .. } = self;
        let body = RequestBody::Whole(body.clone());
        Some(Self { method: method.clone(), target: target.clone(), headers: headers.clone(), body })
    }
}

impl RequestBody {
    /// What is seen of it from outside, where it is not there already.
    pub(super) fn watch(&self) -> Option<Watch> {
        match self {
            Self::Whole(_) => None,
            Self::Streamed(upload) => Some(upload.watch()),
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(body) if body.is_empty() => Poll::Ready(None),
            Self::Whole(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
            Self::Streamed(upload) => Pin::new(upload).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_empty(),
            Self::Streamed(upload) => upload.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Self::Streamed(upload) => upload.size_hint(),
        }
    }
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

    pub(super) fn http1(&self, request: impl Into<OutgoingRequest<RequestBody>>) -> Request<RequestBody> {
        let request = request.into();
        let mut sent = Request::new(request.body);
        *sent.method_mut() = request.method;
        *sent.uri_mut() = Uri::from(request.target);
        *sent.headers_mut() = request.headers;
        if !sent.headers().contains_key(header::HOST) {
            sent.headers_mut().insert(header::HOST, self.host.clone());
        }
        if sent.headers().contains_key(header::TE) {
            // RFC 9110 section 10.1.4: on HTTP/1.1 it is named as meant for this hop.
            sent.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        if let RequestBody::Streamed(upload) = sent.body()
            && let Some(gate) = upload.gate()
        {
            hyper::ext::on_informational(&mut sent, move |answer| gate.informed(answer.status()));
        }
        sent
    }

    pub(super) fn http2(&self, request: impl Into<OutgoingRequest<RequestBody>>) -> Request<RequestBody> {
        let request = request.into();
        let mut sent = Request::new(request.body);
        let mut headers = request.headers;
        let other = headers.remove(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(self.scheme.clone());
        uri.authority = Some(other.unwrap_or_else(|| self.authority.clone()));
        uri.path_and_query = Some(request.target);
        *sent.method_mut() = request.method;
        // All three parts are there, so that this cannot fail.
        *sent.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *sent.version_mut() = Version::HTTP_2;
        *sent.headers_mut() = headers;
        if let RequestBody::Streamed(upload) = sent.body()
            && let Some(gate) = upload.gate()
        {
            // The library does not tell of a 100 on HTTP/2, where a body that is refused costs no more than a reset.
            gate.open();
            sent.headers_mut().remove(header::EXPECT);
        }
        sent
    }

    /// A request that did not go out, as it was before it was made for a connection.
    pub(super) fn take_back(&self, request: Request<RequestBody>) -> OutgoingRequest<RequestBody> {
        let (mut head, body) = request.into_parts();
        head.headers.remove(header::CONNECTION);
        let uri = head.uri.into_parts();
        if let Some(other) = uri.authority.filter(|authority| *authority != self.authority)
            && let Ok(host) = HeaderValue::from_str(other.as_str())
        {
            head.headers.insert(header::HOST, host);
        } else if head.headers.get(header::HOST) == Some(&self.host) {
            head.headers.remove(header::HOST);
        }
        OutgoingRequest {
            method: head.method,
            target: uri.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")),
            headers: head.headers,
            body,
        }
    }
}
