//! WebSockets through the whole way: over HTTP/1.1 by an upgrade, over HTTP/2 by extended CONNECT (RFC 8441).

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_VERSION};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tokio_tungstenite::tungstenite::{self};

use super::dial::Offer;
use super::exchange::{Question, Trouble, request};
use super::measured::{Echoed, Silence};
use super::probes::{PATIENCE, Patient, fresh, limited, micros};
use crate::commands::connect::transport::Stream;
use crate::protocol::diagnostic::{Probe, TIDEGATE_DOCTOR};
use crate::telemetry::chain;

/// What is sent, and must come back.
const SAID: &str = "tidegate doctor";

impl Patient {
    /// A message and a ping over HTTP/1.1.
    pub(super) async fn websocket(&self) -> Result<Echoed, Trouble> {
        limited(PATIENCE, async { converse(&mut self.open().await?).await }).await
    }

    /// A WebSocket that says nothing for this long, and is then asked for an echo.
    pub(super) async fn websocket_silence(&self, silence: Duration) -> Result<Silence, Trouble> {
        limited(silence + PATIENCE, async {
            let mut socket = self.open().await?;
            let began = Instant::now();
            // Whatever comes now is an end: nobody was asked for anything.
            let ended = tokio::time::timeout(silence, socket.next()).await.is_ok();
            let cut = ended || converse(&mut socket).await.is_err();
            Ok(Silence { wanted_us: micros(silence), cut_after_us: cut.then(|| micros(began.elapsed())) })
        })
        .await
    }

    /// A message and a ping over HTTP/2.
    pub(super) async fn websocket_http2(&self) -> Result<Echoed, Trouble> {
        limited(PATIENCE, async {
            let dialled = self.dialer.dial(Offer::Both).await?;
            if !dialled.is_http2 {
                return Err(Trouble::NoHttp2);
            }
            let (mut sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(dialled.stream)).await?;
            let mut connection = JoinSet::new();
            connection.spawn(async move { drop(driver.await) });
            // An ordinary request first: only after the server's settings may extended CONNECT be used.
            let (seen, fields) = (fresh(Probe::Seen), self.fields(&[]));
            let first = request(&self.dialer, Question::get(&self.path, &seen, &fields), true)?;
            sender.send_request(first).await?.into_body().collect().await?;
            let echo = fresh(Probe::Echo);
            let fields = self.fields(&[(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))]);
            let body = Empty::new().boxed_unsync();
            let question = Question { method: Method::CONNECT, path: &self.path, wanted: &echo, fields: &fields, body };
            let mut connect = request(&self.dialer, question, true)?;
            connect.extensions_mut().insert(Protocol::from_static("websocket"));
            // Whoever does not speak it answers by an error of the stream, or by one of its own.
            let refused = |why: String| Trouble::Http(format!("extended CONNECT is refused: {why}"));
            let response = sender.send_request(connect).await.map_err(|error| refused(chain(&error)))?;
            if response.status() != StatusCode::OK {
                return Err(refused(response.status().to_string()));
            }
            let upgraded = TokioIo::new(hyper::upgrade::on(response).await?);
            converse(&mut WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await).await
        })
        .await
    }

    async fn open(&self) -> Result<WebSocketStream<Box<dyn Stream>>, Trouble> {
        let dialled = self.dialer.dial(Offer::Http1).await?;
        let scheme = if self.dialer.target.tls { "wss" } else { "ws" };
        let url = format!("{scheme}://{}{}?{}", self.dialer.target.authority, self.path, fresh(Probe::Echo));
        let mut request = url.into_client_request().map_err(|error| failed(&error))?;
        request.headers_mut().insert(TIDEGATE_DOCTOR, HeaderValue::from_static("1"));
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        match Box::pin(tokio_tungstenite::client_async(request, dialled.stream)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => {
                let said = if response.status() == StatusCode::UPGRADE_REQUIRED {
                    ": the fields that ask for an upgrade did not arrive".to_owned()
                } else {
                    String::new()
                };
                Err(Trouble::Status { status: response.status(), said })
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Sends a message and waits for its echo, then a ping, and then says goodbye.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Result<Echoed, Trouble> {
    let text = Message::text(SAID);
    let message_us = answered(socket, text.clone(), &text).await?;
    let payload = Bytes::from_static(SAID.as_bytes());
    let ping_us = answered(socket, Message::Ping(payload.clone()), &Message::Pong(payload)).await?;
    // What was to be measured is measured.
    let _ = socket.close(None).await;
    Ok(Echoed { message_us, ping_us })
}

/// Microseconds from a message to its answer.
async fn answered<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    message: Message,
    answer: &Message,
) -> Result<u64, Trouble> {
    let sent = Instant::now();
    socket.send(message).await.map_err(|error| failed(&error))?;
    let waited = tokio::time::timeout(PATIENCE, async {
        while let Some(came) = socket.next().await {
            if came.map_err(|error| failed(&error))? == *answer {
                return Ok(micros(sent.elapsed()));
            }
        }
        Err(Trouble::Http("the WebSocket ended".to_owned()))
    });
    waited.await.unwrap_or(Err(Trouble::Late(PATIENCE)))
}

fn failed(error: &tungstenite::Error) -> Trouble {
    Trouble::Http(chain(error))
}
