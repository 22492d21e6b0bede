//! A client that speaks HTTP/2 over TLS: requests, and WebSockets by extended CONNECT.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::client::{Refusal, tls};
use super::{Client, TestGateway, must};

/// One connection.
pub(crate) struct Http2 {
    send: SendRequest<Empty<Bytes>>,
    address: SocketAddr,
    connection: JoinSet<hyper::Result<()>>,
}

/// A WebSocket on one of its streams.
pub(crate) type Http2Client = Client<TokioIo<Upgraded>>;

/// TLS settings of a client that prefers HTTP/2.
pub(crate) fn offering(tls: &Arc<ClientConfig>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(tls);
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A TLS stream on which HTTP/2 was agreed.
pub(crate) async fn http2_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = tls(address, &offering(config, &["h2", "http/1.1"])).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream
}

impl Http2 {
    /// Connects over TLS. What the gateway has to say of itself is known then.
    pub(crate) async fn connect(gateway: &TestGateway) -> Self {
        let stream = http2_tls(gateway.address(), &gateway.tls).await;
        Self::over(stream, gateway.address(), 64 * 1024).await
    }

    /// Speaks over a stream, with this window for each stream.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: SocketAddr,
        window: u32,
    ) -> Self {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        let (send, driven) = must("HTTP/2", builder.handshake(TokioIo::new(stream))).await.unwrap();
        let mut connection = JoinSet::new();
        connection.spawn(driven);
        let mut http2 = Self { send, address, connection };
        // Settings come before any answer.
        assert_eq!(http2.get("/nowhere", &[]).await.0.status, 404);
        http2
    }

    /// A request without a body, as far as the head of its answer.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
    ) -> hyper::Result<Response<Incoming>> {
        let request = self.request(method, target, fields).body(Empty::new()).unwrap();
        must("an answer", self.send.send_request(request)).await
    }

    /// A GET, to the end of its answer.
    pub(crate) async fn get(&mut self, target: &str, fields: &[(&str, &str)]) -> (http::response::Parts, String) {
        read(self.ask(Method::GET, target, fields).await.unwrap()).await
    }

    /// Asks for a WebSocket.
    pub(crate) async fn websocket(&mut self, target: &str, fields: &[(&str, &str)]) -> Result<Http2Client, Refusal> {
        let fields = [("sec-websocket-version", "13")].into_iter().chain(fields.iter().copied());
        let fields: Vec<_> = fields.collect();
        let request = self.request(Method::CONNECT, target, &fields).extension(Protocol::from_static("websocket"));
        let sent = self.send.send_request(request.body(Empty::new()).unwrap());
        let mut response = must("an answer to the handshake", sent).await.unwrap();
        if response.status() == 200 {
            let upgraded = must("the stream", hyper::upgrade::on(&mut response)).await.unwrap();
            return Ok(Client::over(TokioIo::new(upgraded), response.headers().clone()).await);
        }
        let (head, body) = read(response).await;
        Err(Refusal { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Whether the gateway has said that it takes WebSockets: otherwise the library sends no request for one.
    pub(crate) async fn takes_websockets(&mut self) -> bool {
        let request = self.request(Method::CONNECT, "/nowhere", &[]).extension(Protocol::from_static("websocket"));
        must("an answer", self.send.send_request(request.body(Empty::new()).unwrap())).await.is_ok()
    }

    /// Waits until the gateway has ended the connection.
    pub(crate) async fn ended(mut self) {
        drop(self.send);
        must("the end of the connection", self.connection.join_next()).await;
    }

    fn request(&self, method: Method, target: &str, fields: &[(&str, &str)]) -> http::request::Builder {
        let request = Request::builder().method(method).version(http::Version::HTTP_2);
        let request = request.uri(format!("https://localhost:{}{target}", self.address.port()));
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// Whether the gateway takes further requests on it.
    pub(crate) fn is_open(&self) -> bool {
        !self.send.is_closed() && self.send.is_ready()
    }
}

async fn read(response: Response<Incoming>) -> (http::response::Parts, String) {
    let (head, body) = response.into_parts();
    let body = must("the answer's body", body.collect()).await.unwrap().to_bytes();
    (head, String::from_utf8_lossy(&body).into_owned())
}

/// A field of an answer as text.
pub(crate) fn field<'a>(fields: &'a HeaderMap, name: &str) -> &'a str {
    super::upstream::field(fields, name)
}
