//! One HTTP request over a connection of its own, and its answer, read whole.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::must;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        super::upstream::field(&self.fields, name)
    }

    /// What a problem document says to be.
    pub(crate) fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().strip_prefix("urn:tidegate:").unwrap().to_owned()
    }
}

/// One request without TLS, as the admin listener takes them. `Host` is the address unless it is among the fields.
pub(crate) async fn plain(
    address: SocketAddr,
    method: Method,
    target: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Answered {
    exchange(TcpStream::connect(address).await.unwrap(), &address.to_string(), method, target, fields, body).await
}

/// One request over this connection.
pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    method: Method,
    target: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Answered {
    let mut request = Request::builder().method(method).uri(target);
    if !fields.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", host);
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let exchange = async move {
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Answered { status: head.status.as_u16(), fields: head.headers, body }
    };
    // The connection ends when the exchange has dropped its sender.
    let (answered, _) = must("an answer", async { tokio::join!(exchange, connection) }).await;
    answered
}
