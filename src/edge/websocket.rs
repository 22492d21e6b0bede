//! A client's WebSocket: frames to messages and back (RFC 6455 section 5), over the WebSocket library.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{self as tungstenite, Role, WebSocketConfig};

use crate::bridge::socket::{ClientSocket, Gone};
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::session::{ClientInput, Violation};

/// The library keeps a read buffer of this size for the life of a connection; the bytes come out of the TLS layer, which
/// has them in memory already, so that larger is no faster.
const READ_BUFFER: usize = 512;

/// Messages are collected up to this size and then written: one full TLS record.
const WRITE_BUFFER: usize = 16 * 1024;

/// Largest payload of a control frame (RFC 6455 section 5.5).
const MAX_CONTROL_PAYLOAD: usize = 125;

/// A client's WebSocket, over a stream on which the handshake is done.
///
/// Public, and over any stream, so that it can be fed without a network.
#[derive(Debug)]
pub struct WebSocket<IO> {
    socket: WebSocketStream<IO>,
    /// A message that did not fit because a client sends pings and reads nothing: it waits here.
    stalled: Option<tungstenite::Message>,
    shut_down: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> WebSocket<IO> {
    /// Takes a stream over, with the bytes that were already read from it. `max_message_size` is in bytes, inclusive.
    pub async fn new(stream: IO, already_read: Vec<u8>, max_message_size: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            // Room for one message of the largest size; a frame header has at most 14 bytes.
            .max_write_buffer_size(2 * WRITE_BUFFER + max_message_size + 14)
            .max_message_size(Some(max_message_size))
            // A fragment alone may be no larger than the message that it is part of; a control frame is no such part.
            .max_frame_size(Some(max_message_size.max(MAX_CONTROL_PAYLOAD)));
        let socket = WebSocketStream::from_partially_read(stream, already_read, Role::Server, Some(config)).await;
        Self { socket, stalled: None, shut_down: false }
    }

    fn start_send(&mut self, message: tungstenite::Message) -> Result<(), Gone> {
        match Pin::new(&mut self.socket).start_send(message) {
            Ok(()) => Ok(()),
            Err(Error::WriteBufferFull(message)) if self.stalled.is_none() => {
                self.stalled = Some(*message);
                Ok(())
            }
            Err(_) => Err(Gone),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> ClientSocket for WebSocket<IO> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<ClientInput> {
        loop {
            let input = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(tungstenite::Message::Text(text))) => ClientInput::Message(Message::Text(text)),
                Some(Ok(tungstenite::Message::Binary(octets))) => ClientInput::Message(Message::Binary(octets)),
                // The library has put the pong into its buffer, and sends it when it is read again.
                Some(Ok(tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_))) => ClientInput::Alive,
                Some(Ok(tungstenite::Message::Close(Some(frame)))) if is_rewritten(&frame) => {
                    ClientInput::Violation(Violation::Protocol("a close frame has a code that must not be sent"))
                }
                Some(Ok(tungstenite::Message::Close(frame))) => ClientInput::Closed(
                    frame.map(|frame| CloseFrame { code: u16::from(frame.code), reason: frame.reason }),
                ),
                Some(Ok(tungstenite::Message::Frame(_))) => continue,
                Some(Err(error)) => failure(&error),
                None => ClientInput::Gone,
            };
            return Poll::Ready(input);
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if let Some(stalled) = self.stalled.take() {
            match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.start_send(stalled)?,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Gone)),
                Poll::Pending => {
                    self.stalled = Some(stalled);
                    return Poll::Pending;
                }
            }
        }
        Pin::new(&mut self.socket).poll_ready(cx).map_err(|_| Gone)
    }

    fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.start_send(match message {
            Message::Text(text) => tungstenite::Message::Text(text),
            Message::Binary(octets) => tungstenite::Message::Binary(octets),
        })
    }

    fn ping(&mut self) -> Result<(), Gone> {
        match Pin::new(&mut self.socket).start_send(tungstenite::Message::Ping(Bytes::new())) {
            // Full because the client reads nothing: it will not answer this ping either, and its deadline runs.
            Ok(()) | Err(Error::WriteBufferFull(_)) => Ok(()),
            Err(_) => Err(Gone),
        }
    }

    fn close(&mut self, frame: CloseFrame) -> Result<(), Gone> {
        let frame = tungstenite::CloseFrame { code: CloseCode::from(frame.code), reason: frame.reason };
        match Pin::new(&mut self.socket).start_send(tungstenite::Message::Close(Some(frame))) {
            Ok(()) => Ok(()),
            // Both sides may close at the same time: ours is then not sent any more.
            Err(Error::Protocol(ProtocolError::SendAfterClosing) | Error::ConnectionClosed) => Ok(()),
            Err(_) => Err(Gone),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.stalled.is_some() {
            ready!(ClientSocket::poll_ready(self, cx))?;
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(|_| Gone)
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut_down {
            // A flush that fails is no reason to stay; neither is a shutdown that fails.
            let _ = ready!(Pin::new(&mut self.socket).poll_flush(cx));
            if ready!(Pin::new(self.socket.get_mut()).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.shut_down = true;
        }
        let mut unread = [std::mem::MaybeUninit::uninit(); 1024];
        loop {
            let mut unread = ReadBuf::uninit(&mut unread);
            match ready!(Pin::new(self.socket.get_mut()).poll_read(cx, &mut unread)) {
                Ok(()) if !unread.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

/// Whether the library has put this frame in the place of one with a code that must not be sent (RFC 6455 section 7.4.1);
/// it has answered with the same one.
fn is_rewritten(frame: &tungstenite::CloseFrame) -> bool {
    frame.code == CloseCode::Protocol && frame.reason.as_str() == "Protocol violation"
}

/// What an error of the library means. Everything that is no breach of the protocol is a broken connection.
fn failure(error: &Error) -> ClientInput {
    let violation = match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Violation::TooBig,
        Error::Utf8(_) => Violation::Text,
        Error::Protocol(error) => match error {
            ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::ReceivedAfterClosing
            | ProtocolError::SendAfterClosing => return ClientInput::Gone,
            ProtocolError::UnmaskedFrameFromClient => Violation::Protocol("a frame is not masked"),
            ProtocolError::NonZeroReservedBits => Violation::Protocol("a frame has a reserved bit set"),
            ProtocolError::ControlFrameTooBig => Violation::Protocol("a control frame is larger than 125 bytes"),
            ProtocolError::FragmentedControlFrame => Violation::Protocol("a control frame is fragmented"),
            ProtocolError::InvalidOpcode(_)
            | ProtocolError::UnknownControlFrameType(_)
            | ProtocolError::UnknownDataFrameType(_) => Violation::Protocol("a frame has an unknown opcode"),
            ProtocolError::UnexpectedContinueFrame => Violation::Protocol("a continuation continues nothing"),
            ProtocolError::ExpectedFragment(_) => Violation::Protocol("a message begins inside another"),
            ProtocolError::InvalidCloseSequence => Violation::Protocol("a close frame has a payload of one byte"),
            _ => Violation::Protocol("a frame is not as RFC 6455 has it"),
        },
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Violation::Protocol("the byte stream is damaged")
        }
        _ => return ClientInput::Gone,
    };
    ClientInput::Violation(violation)
}
