//! One request over a connection of its own, and the head of its answer.

use std::error::Error as _;
use std::time::Instant;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version, response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::dial::{Dialer, Offer};
use super::measured::Tls;
use crate::commands::connect::transport::TransportError;
use crate::protocol::diagnostic::{TIDEGATE_DOCTOR, Wanted};
use crate::telemetry::chain;

/// Body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Largest answer that is read whole, in bytes.
const LARGEST_ANSWER: usize = 256 * 1024;

/// Why a probe gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the server did not choose HTTP/2")]
    NoHttp2,
    #[error("HTTP failed: {0}")]
    Http(String),
    #[error("the answer was {status}{said}")]
    Status { status: StatusCode, said: String },
    #[error("the answer is not one of a diagnostic endpoint")]
    NotOurs,
    #[error("nothing came within {0:?}")]
    Late(std::time::Duration),
}

impl From<hyper::Error> for Trouble {
    fn from(error: hyper::Error) -> Self {
        let source = error.source().map(|source| format!(": {}", chain(source)));
        Self::Http(format!("{error}{}", source.unwrap_or_default()))
    }
}

impl Trouble {
    /// As it is told.
    pub(super) fn told(&self) -> String {
        chain(self)
    }
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) wanted: &'a Wanted,
    pub(super) fields: &'a [(HeaderName, HeaderValue)],
    pub(super) body: Body,
}

impl<'a> Question<'a> {
    pub(super) fn get(path: &'a str, wanted: &'a Wanted, fields: &'a [(HeaderName, HeaderValue)]) -> Self {
        Self { method: Method::GET, path, wanted, fields, body: Empty::new().boxed_unsync() }
    }
}

/// An answer whose body is still to come. Its connection ends when it is dropped.
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) body: Incoming,
    /// When the request was sent.
    pub(super) asked: Instant,
    pub(super) address: String,
    pub(super) tls: Option<Tls>,
    /// What drives the connection.
    _connection: JoinSet<()>,
}

/// Asks over HTTP/2 if it is on offer and chosen, otherwise over HTTP/1.1.
pub(super) async fn ask(dialer: &Dialer, offer: Offer, question: Question<'_>) -> Result<Answer, Trouble> {
    let dialled = dialer.dial(offer).await?;
    let mut connection = JoinSet::new();
    let io = TokioIo::new(dialled.stream);
    let request = request(dialer, question, dialled.is_http2)?;
    let asked;
    let response = if dialled.is_http2 {
        let (mut sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
        connection.spawn(async move { drop(driver.await) });
        asked = Instant::now();
        sender.send_request(request).await?
    } else {
        let (mut sender, driver) = http1::handshake(io).await?;
        connection.spawn(async move { drop(driver.await) });
        asked = Instant::now();
        sender.send_request(request).await?
    };
    let (head, body) = response.into_parts();
    let (address, tls) = (dialled.address.to_string(), dialled.tls);
    Ok(Answer { head, body, asked, address, tls, _connection: connection })
}

/// The request: with the target in absolute form for HTTP/2, where that becomes the pseudo-fields.
pub(super) fn request(dialer: &Dialer, question: Question<'_>, is_http2: bool) -> Result<Request<Body>, Trouble> {
    let Question { method, path, wanted, fields, body } = question;
    let target = if is_http2 { dialer.target.url(path) } else { path.to_owned() };
    let mut request = Request::builder().method(method).uri(format!("{target}?{wanted}"));
    if is_http2 {
        request = request.version(Version::HTTP_2);
    } else {
        request = request.header(HOST, &dialer.target.authority);
    }
    request = request.header(TIDEGATE_DOCTOR, &dialer.target.authority);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.body(body).map_err(|error| Trouble::Http(error.to_string()))
}

impl Answer {
    /// Checks that it is an answer to the question at all.
    pub(super) async fn good(self) -> Result<Self, Trouble> {
        if self.head.status == StatusCode::OK {
            return Ok(self);
        }
        let status = self.head.status;
        let read = Limited::new(self.body, LARGEST_ANSWER).collect().await.ok();
        let said = read.and_then(|read| said(&read.to_bytes())).map(|said| format!(": {said}")).unwrap_or_default();
        Err(Trouble::Status { status, said })
    }

    /// Reads it whole, as JSON.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Trouble> {
        let answer = self.good().await?;
        let read = Limited::new(answer.body, LARGEST_ANSWER).collect().await;
        let read = read.map_err(|error| Trouble::Http(chain(&*error)))?;
        serde_json::from_slice(&read.to_bytes()).map_err(|_| Trouble::NotOurs)
    }

    /// A field of the answer; empty, if there is none.
    pub(super) fn field(&self, name: &HeaderName) -> String {
        let value = self.head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        value.unwrap_or_default()
    }
}

/// What a problem document says (RFC 9457).
fn said(body: &[u8]) -> Option<String> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(document.get("detail")?.as_str()?.to_owned())
}
