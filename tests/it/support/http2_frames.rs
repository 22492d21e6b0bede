//! HTTP/2 by hand (RFC 9113 section 4, RFC 7541): frames that no library would send.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::http2::http2_tls;
use super::must;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A connection that sends whatever the scene likes.
pub(crate) struct Frames {
    reader: ReadHalf<TlsStream<TcpStream>>,
    pub(crate) writer: WriteHalf<TlsStream<TcpStream>>,
}

impl Frames {
    /// Connects and begins as the standard asks.
    pub(crate) async fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let (reader, mut writer) = tokio::io::split(http2_tls(address, config).await);
        writer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        writer.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        writer.flush().await.unwrap();
        Self { reader, writer }
    }

    /// Sends bytes that must still be taken.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        must("room to send", self.writer.write_all(bytes)).await.unwrap();
        self.writer.flush().await.unwrap();
    }

    /// Sends what `next` gives, again and again, and reads what comes, until the gateway has ended the connection.
    pub(crate) async fn flood(mut self, mut next: impl FnMut() -> Vec<u8>) {
        let mut buffer = vec![0; 4096];
        let write = async {
            while self.writer.write_all(&next()).await.is_ok() && self.writer.flush().await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let read = async { while self.reader.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
        must("the end of the connection", async {
            tokio::select! {
                () = write => {}
                () = read => {}
            }
        })
        .await;
    }

    /// Reads until the stream or the connection has ended, and then until a ping is answered. Gives the first byte of each head
    /// that came on the stream.
    pub(crate) async fn answers(&mut self, stream: u32) -> Vec<u8> {
        let (mut answers, mut pinged) = (Vec::new(), false);
        must("the end of a stream", async {
            let mut head = [0; 9];
            while self.reader.read_exact(&mut head).await.is_ok() {
                let [a, b, c, kind, flags, id @ ..] = head;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                if self.reader.read_exact(&mut payload).await.is_err() || kind == PING && pinged {
                    return;
                }
                let here = u32::from_be_bytes(id) == stream;
                if here && kind == HEADERS {
                    answers.push(payload[0]);
                }
                let over = here && (kind == RST_STREAM || matches!(kind, HEADERS | DATA) && flags & END_STREAM > 0);
                if (over || kind == GOAWAY) && !std::mem::replace(&mut pinged, true) {
                    // The connection may be gone.
                    let _ = self.writer.write_all(&frame(PING, 0, 0, &[7; 8])).await;
                    let _ = self.writer.flush().await;
                }
            }
        })
        .await;
        answers
    }

    /// Reads until the gateway has ended the connection, and gives the kinds of the frames that came.
    pub(crate) async fn ended(mut self) -> Vec<u8> {
        let mut kinds = Vec::new();
        must("the end of the connection", async {
            let mut head = [0; 9];
            while self.reader.read_exact(&mut head).await.is_ok() {
                kinds.push(head[3]);
                let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
                let mut payload = Vec::new();
                let _ = (&mut self.reader).take(length).read_to_end(&mut payload).await;
            }
        })
        .await;
        kinds
    }
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field that is not indexed and not compressed.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        integer(text.len(), &mut field);
        field.extend(text.as_bytes());
    }
    field
}

/// A length in the form of RFC 7541 section 5.1, behind a prefix of seven bits.
pub(crate) fn integer(number: usize, to: &mut Vec<u8>) {
    let Some(mut rest) = number.checked_sub(127) else { return to.push(u8::try_from(number).unwrap()) };
    to.push(127);
    while rest >= 128 {
        to.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    to.push(u8::try_from(rest).unwrap());
}

/// The head of a request for a WebSocket.
pub(crate) fn websocket(path: &str) -> Vec<u8> {
    [
        literal(":method", "CONNECT"),
        literal(":protocol", "websocket"),
        literal(":scheme", "https"),
        literal(":authority", "localhost"),
        literal(":path", path),
        literal("sec-websocket-version", "13"),
    ]
    .concat()
}

/// The head of a GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    fields.map(|(name, value)| literal(name, value)).concat()
}
