//! What happens between the handshake and the close: lines go out while messages come in.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::MAX_MESSAGE;
use super::ending::Ending;
use super::input::{Line, Lines};
use super::screen::{Screen, note, note_error};

/// How long the server may take to answer our close.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// How long the server may take to end the connection after the close frames are exchanged.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// Where messages to send come from.
pub(super) struct Outgoing<'a> {
    pub(super) lines: &'a mut Lines,
    /// Lines are base64 of binary messages.
    pub(super) binary: bool,
    pub(super) tally: &'a Tally,
}

/// What has to be known when all is over.
#[derive(Debug, Default)]
pub(super) struct Tally {
    unsent: AtomicU64,
}

impl Tally {
    /// Lines that could not be made into a message.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }
}

/// What ended the receiving side.
enum Received {
    /// A close frame, then the end of the connection.
    Close(Option<CloseFrame>),
    /// The end of the connection, without a close frame.
    Lost(Option<Error>),
    /// Nobody reads what we print.
    NoReader,
}

/// Sends lines and prints messages, both at once, until one side ends it or `interrupt` comes.
///
/// At the end of the lines it waits until no message has arrived for `linger`, then closes with 1000.
pub(super) async fn run<S, O>(
    socket: WebSocketStream<S>,
    outgoing: Outgoing<'_>,
    screen: &Screen<O>,
    linger: Duration,
    interrupt: impl Future<Output = ()>,
) -> Ending
where
    S: AsyncRead + AsyncWrite + Unpin,
    O: AsyncWrite + Unpin,
{
    let (mut sink, source) = socket.split();
    let (arrived, mut arrivals) = watch::channel(());
    // A future of its own: a server that waits for us to read must not keep us from sending, nor the other way round.
    let mut receiving = std::pin::pin!(receive(source, screen, arrived));
    let sending = async {
        send(&mut sink, outgoing, screen).await?;
        arrivals.mark_unchanged();
        while let Ok(Ok(())) = timeout(linger, arrivals.changed()).await {}
        Ok::<(), Error>(())
    };
    let failure = tokio::select! {
        received = &mut receiving => match received {
            Received::Close(frame) => return Ending::ByServer(frame),
            Received::Lost(error) => return Ending::Lost(error),
            Received::NoReader => None,
        },
        sent = sending => sent.err(),
        () = interrupt => None,
    };
    if let Some(error) = failure {
        // The server has closed while we were sending: what it said last is yet to be read.
        return match timeout(CLOSE_LIMIT, receiving).await {
            Ok(Received::Close(frame)) => Ending::ByServer(frame),
            Ok(Received::Lost(Some(error))) => Ending::Lost(Some(error)),
            Ok(Received::Lost(None) | Received::NoReader) | Err(_) => Ending::Lost(Some(error)),
        };
    }
    leave(&mut sink, receiving).await
}

/// Closes with 1000 and prints what still comes until the server answers.
async fn leave<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    receiving: impl Future<Output = Received>,
) -> Ending {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let close = async {
        // If it cannot be sent, the receiving side finds out why.
        let _ = sink.send(Message::Close(Some(frame))).await;
        std::future::pending::<()>().await;
    };
    let answer = async {
        tokio::select! {
            received = receiving => received,
            () = close => Received::NoReader,
        }
    };
    match timeout(CLOSE_LIMIT, answer).await {
        // A close of the server that crossed ours on the way.
        Ok(Received::Close(Some(frame))) if frame.code != CloseCode::Normal => Ending::ByServer(Some(frame)),
        Ok(Received::Close(_)) => Ending::ByUs { answered: true },
        Ok(Received::Lost(_) | Received::NoReader) | Err(_) => Ending::ByUs { answered: false },
    }
}

async fn receive<S, O>(
    mut source: SplitStream<WebSocketStream<S>>,
    screen: &Screen<O>,
    arrived: watch::Sender<()>,
) -> Received
where
    S: AsyncRead + AsyncWrite + Unpin,
    O: AsyncWrite + Unpin,
{
    loop {
        // Flushed only when nothing more is there, so that a flood is written in large pieces.
        let next = match source.next().now_or_never() {
            Some(next) => next,
            None if screen.flush().await.is_err() => return Received::NoReader,
            None => source.next().await,
        };
        let ended = match next {
            Some(Ok(Message::Close(frame))) => {
                // Reading on sends our answer; then it is for the server to end the connection.
                let _ = timeout(GOODBYE_LIMIT, async { while let Some(Ok(_)) = source.next().await {} }).await;
                Received::Close(frame)
            }
            Some(Ok(message)) => {
                arrived.send_replace(());
                if screen.received(&message).await.is_err() {
                    return Received::NoReader;
                }
                continue;
            }
            None | Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => Received::Lost(None),
            Some(Err(error)) => Received::Lost(Some(error)),
        };
        return if screen.flush().await.is_ok() { ended } else { Received::NoReader };
    }
}

/// Sends every line as a message, and says on stderr which lines it could not send.
async fn send<S, O>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    outgoing: Outgoing<'_>,
    screen: &Screen<O>,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    O: AsyncWrite + Unpin,
{
    let Outgoing { lines, binary, tally } = outgoing;
    loop {
        let next = if let Some(next) = lines.next().now_or_never() {
            next
        } else {
            sink.flush().await?;
            lines.next().await
        };
        let line = match next {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => {
                tally.unsent.fetch_add(1, Ordering::Relaxed);
                note_error(&io::Error::new(error.kind(), format!("cannot read stdin: {error}")));
                break;
            }
        };
        let number = line.number;
        match message(line, binary) {
            Ok(message) => {
                let _ = screen.sent(&message).await; // the receiving side notices when nobody reads
                sink.feed(message).await?;
            }
            Err(reason) => {
                tally.unsent.fetch_add(1, Ordering::Relaxed);
                note(&format!("line {number} was not sent: {reason}"));
            }
        }
    }
    sink.flush().await
}

/// The message that a line stands for, or why there is none.
fn message(line: Line, binary: bool) -> Result<Message, String> {
    let too_long = || format!("it is longer than the {} MiB a message may have", MAX_MESSAGE >> 20);
    let content = line.content.ok_or_else(too_long)?;
    let message = if binary {
        Message::binary(STANDARD.decode(content).map_err(|error| format!("it is not base64: {error}"))?)
    } else {
        Message::text(String::from_utf8(content).map_err(|error| format!("it is not UTF-8: {}", error.utf8_error()))?)
    };
    if message.len() > MAX_MESSAGE { Err(too_long()) } else { Ok(message) }
}
