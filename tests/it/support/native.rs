//! A client that speaks HTTP to the gateway and reads an answer while it comes.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::must;

/// An answer under way; dropped, its client has left.
pub(crate) struct Native {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    body: Incoming,
    unread: String,
    _connection: JoinSet<()>,
}

impl Native {
    /// Opens an event stream as an `EventSource` does.
    pub(crate) async fn events(address: SocketAddr, target: &str, fields: &[(&str, &str)]) -> Self {
        let fields: Vec<_> = [("accept", "text/event-stream")].into_iter().chain(fields.iter().copied()).collect();
        Self::ask(address, Method::GET, target, &fields, "").await
    }

    /// Any request, over a connection of its own.
    pub(crate) async fn ask(
        address: SocketAddr,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
        body: &'static str,
    ) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::ask_over(stream, address.port(), method, target, fields, body).await
    }

    /// Opens an event stream over a connection that is there already.
    pub(crate) async fn events_over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Self {
        let fields: Vec<_> = [("accept", "text/event-stream")].into_iter().chain(fields.iter().copied()).collect();
        Self::ask_over(stream, 443, Method::GET, target, &fields, "").await
    }

    async fn ask_over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        port: u16,
        method: Method,
        target: &str,
        fields: &[(&str, &str)],
        body: &'static str,
    ) -> Self {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut running = JoinSet::new();
        running.spawn(async move { drop(connection.await) });
        let request = Request::builder().method(method).uri(target).header("host", format!("localhost:{port}"));
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
        let (head, body) = must("an answer", sender.send_request(request)).await.unwrap().into_parts();
        let (status, fields) = (head.status.as_u16(), head.headers);
        Self { status, fields, body, unread: String::new(), _connection: running }
    }

    /// A field as text.
    pub(crate) fn field(&self, name: &str) -> &str {
        super::upstream::field(&self.fields, name)
    }

    /// What comes up to `end`, that included.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.unread.find(end) {
                let rest = self.unread.split_off(at + end.len());
                return std::mem::replace(&mut self.unread, rest);
            }
            assert!(self.more().await, "it ended without {end:?}: {:?}", self.unread);
        }
    }

    /// All that still comes, up to a clean end.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    /// All that still comes before the answer breaks off.
    pub(crate) async fn until_broken(&mut self) -> String {
        loop {
            match must("the end of the answer", self.body.frame()).await.expect("a broken end, and no clean one") {
                Ok(frame) => self.unread.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
                Err(_) => return std::mem::take(&mut self.unread),
            }
        }
    }

    /// Whatever comes next is added to what is unread; false at the end.
    async fn more(&mut self) -> bool {
        let Some(frame) = must("more of the answer", self.body.frame()).await else { return false };
        self.unread.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        true
    }
}
