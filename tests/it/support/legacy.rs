//! A WebSocket backend of the old kind, whose every answer the scene decides.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::{Seen, must};

/// A backend on a free port.
pub(crate) struct OldBackend {
    pub(crate) address: SocketAddr,
    pub(crate) listener: TcpListener,
}

/// A WebSocket that the backend has accepted.
pub(crate) struct OldSocket {
    /// What the gateway asked for.
    pub(crate) target: Uri,
    pub(crate) fields: HeaderMap,
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl OldBackend {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    /// A gateway's file with one route, `/chat`, that is passed through to this backend.
    pub(crate) fn toml(&self, route_keys: &str, legacy_keys: &str) -> String {
        format!(
            r#"
[[listener]]
address = "127.0.0.1:0"
tls = {{ certificate = "certs/dev.pem", key = "certs/dev.key" }}
ticket_path = "/stream-ticket"

[upstream.old]
endpoints = ["http://{}"]

[[route]]
path = "/chat"
{}

[route.legacy]
upstream = "old"
{legacy_keys}
"#,
            self.address,
            if route_keys.contains("auth") { route_keys.to_owned() } else { format!("auth = \"none\"\n{route_keys}") },
        )
    }

    /// The next connection, before anything is read of it.
    pub(crate) async fn next(&self) -> TcpStream {
        let (stream, _) = must("a connection from the gateway", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Accepts the next WebSocket and chooses no subprotocol.
    pub(crate) async fn accept(&self) -> OldSocket {
        self.accept_with(&[]).await
    }

    /// The same with these fields in the 101.
    #[allow(clippy::result_large_err, reason = "the library's own type")]
    pub(crate) async fn accept_with(&self, fields: &[(&'static str, &'static str)]) -> OldSocket {
        let stream = self.next().await;
        let mut asked = None;
        let callback = |request: &Request, mut response: Response| {
            asked = Some((request.uri().clone(), request.headers().clone()));
            response.headers_mut().remove(SEC_WEBSOCKET_PROTOCOL);
            for (name, value) in fields {
                response.headers_mut().append(*name, value.parse().unwrap());
            }
            Ok(response)
        };
        let socket = must("the gateway's handshake", accept_hdr_async(stream, callback)).await.unwrap();
        let (target, fields) = asked.unwrap();
        OldSocket { target, fields, socket }
    }

    /// Reads the next request and answers it by these bytes and the end of the connection.
    pub(crate) async fn answer(&self, bytes: &str) -> String {
        let mut stream = self.next().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(must("the gateway's request", stream.read_u8()).await.unwrap());
        }
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(head).unwrap()
    }
}

impl OldSocket {
    pub(crate) fn field(&self, name: &str) -> &str {
        super::upstream::field(&self.fields, name)
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.send(Message::Text(text.into())).await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        must("room to send", self.socket.send(message)).await.unwrap();
    }

    pub(crate) async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.send(Message::Close(Some(frame))).await;
    }

    /// The next thing that is no ping or pong.
    pub(crate) async fn next(&mut self) -> Seen {
        Seen::next(&mut self.socket).await
    }

    /// Sends back whatever comes, until the end.
    pub(crate) async fn echo(mut self) {
        while let Some(Ok(message)) = self.socket.next().await {
            if (message.is_text() || message.is_binary()) && self.socket.send(message).await.is_err() {
                return;
            }
        }
    }
}
