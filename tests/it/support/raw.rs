//! HTTP/1.1 byte by byte, on either side of the gateway, where a library would help too much.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::must;

/// One connection, and what has come on it and was not asked for yet.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).await.unwrap())
    }

    /// The next connection that somebody makes.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        Self::of(must("a connection", listener.accept()).await.unwrap().0)
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        must("room to write", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// What comes up to `end`, that included.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end.as_bytes()) {
                let rest = self.unread.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.unread, rest)).unwrap();
            }
            assert!(self.more().await > 0, "it ended without {end:?}: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// The next head, in lower case.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await.to_ascii_lowercase()
    }

    /// So many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.more().await > 0, "it ended early");
        }
        let rest = self.unread.split_off(count);
        std::mem::replace(&mut self.unread, rest)
    }

    /// All that still comes.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await > 0 {}
        String::from_utf8(std::mem::take(&mut self.unread)).unwrap()
    }

    /// How many bytes have come; none at the end, however that came about.
    async fn more(&mut self) -> usize {
        self.unread.reserve(16 * 1024);
        must("bytes, or the end", self.stream.read_buf(&mut self.unread)).await.unwrap_or(0)
    }
}
