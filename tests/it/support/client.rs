//! A client over real TLS: the WebSocket library in its client role, and plain bytes where a scene needs them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Response};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

use super::gateway::TestGateway;
use super::must;

/// A connected WebSocket client.
pub(crate) struct Client<S = TlsStream<TcpStream>> {
    socket: WebSocketStream<S>,
    /// Fields of the answer that let it in.
    pub(crate) answer: HeaderMap,
}

/// What a client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Close(u16, String),
    /// The end without a close frame.
    Lost,
}

impl Seen {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// What comes next on a WebSocket and is no ping or pong.
    pub(crate) async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Self {
        loop {
            return match must("something from the gateway", socket.next()).await {
                Some(Ok(Message::Text(text))) => Self::Text(text.as_str().to_owned()),
                Some(Ok(Message::Binary(octets))) => Self::Binary(octets.to_vec()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    Self::Close(frame.code.into(), frame.reason.as_str().to_owned())
                }
                Some(Ok(Message::Close(None))) => Self::Close(1005, String::new()),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Self::Lost,
            };
        }
    }
}

/// A refused handshake.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Refusal {
    pub(crate) fn field(&self, name: &str) -> &str {
        super::upstream::field(&self.headers, name)
    }
}

impl Client {
    /// Connects to `/chat`.
    pub(crate) async fn connect(gateway: &TestGateway) -> Self {
        Self::ask(gateway, "/chat", &[]).await.unwrap()
    }

    /// Asks for a WebSocket, with further fields.
    pub(crate) async fn ask(gateway: &TestGateway, target: &str, fields: &[(&str, &str)]) -> Result<Self, Refusal> {
        Self::ask_at(gateway.address(), &gateway.tls, target, fields).await
    }

    /// The same at a gateway that is a process of its own.
    pub(crate) async fn ask_at(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Result<Self, Refusal> {
        let mut request = format!("wss://localhost:{}{target}", address.port()).into_client_request().unwrap();
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let stream = tls(address, config).await;
        let shaken = Box::pin(tokio_tungstenite::client_async(request, stream));
        match must("an answer to the handshake", shaken).await {
            Ok((socket, response)) => Ok(Self { socket, answer: response.into_parts().0.headers }),
            Err(tungstenite::Error::Http(response)) => Err(refusal(*response)),
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }

    /// The TLS stream under the WebSocket, for bytes that the library would not send.
    pub(crate) fn into_raw(self) -> TlsStream<TcpStream> {
        self.socket.into_inner()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Speaks over a stream on which the handshake is done.
    pub(crate) async fn over(stream: S, answer: HeaderMap) -> Self {
        Self { socket: WebSocketStream::from_raw_socket(stream, Role::Client, None).await, answer }
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.send(Message::Text(text.into())).await;
    }

    pub(crate) async fn binary(&mut self, octets: impl Into<Bytes>) {
        self.send(Message::Binary(octets.into())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        must("room to send", self.socket.send(message)).await.unwrap();
    }

    /// Waits until the gateway has read all that was sent: it answers pings in order.
    pub(crate) async fn synchronise(&mut self) {
        self.send(Message::Ping(Bytes::from_static(b"synchronise"))).await;
        while self.next_frame().await != Message::Pong(Bytes::from_static(b"synchronise")) {}
    }

    pub(crate) async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from(reason) };
        self.send(Message::Close(Some(frame))).await;
    }

    /// The next thing that is no ping or pong.
    pub(crate) async fn next(&mut self) -> Seen {
        Seen::next(&mut self.socket).await
    }

    /// The next frame, pings and pongs included.
    pub(crate) async fn next_frame(&mut self) -> Message {
        must("a frame from the gateway", self.socket.next()).await.unwrap().unwrap()
    }

    /// Code and reason of the close frame that must come next. Answers it and waits for the end of the connection.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let closed = match self.next().await {
            Seen::Close(code, reason) => (code, reason),
            other => panic!("expected a close frame, saw {other:?}"),
        };
        assert_eq!(self.next().await, Seen::Lost, "nothing follows a close");
        closed
    }

    /// Drops the socket without a close frame.
    pub(crate) fn vanish(self) {
        drop(self.socket);
    }
}

fn refusal(response: Response<Option<Vec<u8>>>) -> Refusal {
    let (head, body) = response.into_parts();
    let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
    Refusal { status: head.status.as_u16(), headers: head.headers, body }
}

/// A TLS stream to the gateway.
pub(crate) async fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    must("the TLS handshake", TlsConnector::from(config.clone()).connect(name, tcp)).await.unwrap()
}

/// Sends bytes and reads until the gateway ends the connection.
pub(crate) async fn exchange(gateway: &TestGateway, bytes: &[u8]) -> String {
    let mut stream = tls(gateway.address(), &gateway.tls).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // Some peers end without close_notify; what came before counts.
    let _ = must("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A good handshake as text, with further fields, each with its line end.
pub(crate) fn handshake(gateway: &TestGateway, target: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: localhost:{}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n",
        gateway.address().port()
    )
}
