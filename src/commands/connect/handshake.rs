//! The WebSocket handshake, and what a server says that refuses it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use http::header::{CONTENT_LENGTH, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Request, StatusCode};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Most of a refusal's body that we read.
const MAX_BODY: usize = 64 << 10;
/// How long we wait for the rest of a refusal's body; the status is worth printing without it.
const BODY_LIMIT: Duration = Duration::from_secs(2);

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the server answered {}", .0.status())]
    Refused(Box<Response>),
    #[error("the server chose none of the subprotocols offered, so browsers would fail too; offer another or none")]
    NoSubprotocol,
    #[error("the handshake failed")]
    Failed(#[source] Error),
}

/// An HTTP answer that is not 101.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<String>,
    pub(super) problem: Problem,
}

/// The members of a problem document (RFC 9457) that people read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) title: Option<String>,
    pub(super) detail: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.status.as_u16())?;
        let reason = self.status.canonical_reason();
        if let Some(reason) = reason {
            write!(f, " {reason}")?;
        }
        // Titles often are the reason phrase again.
        let title = self.problem.title.as_deref().filter(|title| Some(*title) != reason);
        for text in [title, self.problem.detail.as_deref()].into_iter().flatten() {
            write!(f, ": {text}")?;
        }
        match &self.retry_after {
            Some(time) => write!(f, "\nretry after: {time}"),
            None => Ok(()),
        }
    }
}

/// Shakes hands over `stream`, which is only borrowed: the body of a refusal is still to be read from it.
pub(super) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: Request<()>,
) -> Result<(WebSocketStream<&mut S>, Response), HandshakeError> {
    let config =
        WebSocketConfig::default().max_message_size(Some(super::MAX_MESSAGE)).max_frame_size(Some(super::MAX_MESSAGE));
    tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.map_err(|error| match error {
        Error::Http(response) => HandshakeError::Refused(response),
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(SubProtocolError::NoSubProtocol)) => {
            HandshakeError::NoSubprotocol
        }
        error => HandshakeError::Failed(error),
    })
}

/// Says what the server agreed to.
pub(super) fn connected(headers: &HeaderMap) -> String {
    let mut text = String::from("connected");
    for (label, name) in [("subprotocol", SEC_WEBSOCKET_PROTOCOL.as_str()), ("connection", "tidegate-connection")] {
        if let Some(value) = headers.get(name) {
            let _ = write!(text, ", {label} {}", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    text
}

/// Reads what else the server says about its refusal, as far as it comes soon.
pub(super) async fn refusal<S: AsyncRead + Unpin>(stream: &mut S, mut response: Response) -> Refusal {
    let mut body = response.body_mut().take().unwrap_or_default();
    // Cut short by the limit or by a lost connection, what has arrived may still be a whole document.
    let _ = timeout(BODY_LIMIT, read_body(stream, response.headers(), &mut body)).await;
    let retry_after = response.headers().get(RETRY_AFTER);
    Refusal {
        status: response.status(),
        retry_after: retry_after.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        problem: problem(&body),
    }
}

async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    headers: &HeaderMap,
    body: &mut Vec<u8>,
) -> std::io::Result<()> {
    let length: Option<usize> = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let wanted = length.unwrap_or(MAX_BODY).min(MAX_BODY);
    // Without a length the body is chunked, or ends with the connection.
    while body.len() < wanted && !(length.is_none() && body.ends_with(b"0\r\n\r\n")) {
        if stream.read_buf(body).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// The problem document in `body`, empty when there is none.
///
/// Looks from the first brace to the last, which skips the framing of a body that is sent as one chunk.
fn problem(body: &[u8]) -> Problem {
    let first = memchr::memchr(b'{', body);
    let last = memchr::memrchr(b'}', body);
    let document = first.zip(last).and_then(|(first, last)| body.get(first..=last));
    document.and_then(|document| serde_json::from_slice(document).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: u16, retry_after: Option<&str>, body: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        Refusal { status, retry_after: retry_after.map(Into::into), problem: problem(body.as_bytes()) }.to_string()
    }

    #[test]
    fn a_refusal_says_status_problem_and_when_to_come_back() {
        assert_eq!(text(404, None, ""), "refused: 404 Not Found");
        assert_eq!(text(403, None, "<html>{oops}"), "refused: 403 Forbidden");
        let body = r#"{"title":"Forbidden","detail":"origin not allowed","status":403}"#;
        assert_eq!(text(403, None, body), "refused: 403 Forbidden: origin not allowed");
        let chunked = "1c\r\n{\"title\":\"upstream is gone\"}\r\n0\r\n\r\n";
        assert_eq!(text(503, Some("5"), chunked), "refused: 503 Service Unavailable: upstream is gone\nretry after: 5");
    }
}
