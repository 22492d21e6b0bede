//! The decoder next to the WebSocket library, which reads the same bytes in its own way.

use std::io::{self, Cursor, Read, Write};

use tidegate::edge::websocket::{Decoder, Received};
use tidegate::protocol::close::CloseFrame;
use tidegate::protocol::message::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as LibraryMessage};

/// With this reason the library answers a close code that must not be sent, and gives that out as what it has read.
const BREACH: &str = "Protocol violation";

/// Both find the same. Where the bytes end within a frame, the decoder may already have refused it.
pub(super) fn check(pieces: &[&[u8]], max_message_size: usize) {
    let (received, is_refused) = decode(pieces, max_message_size);
    if received.iter().any(|one| matches!(one, Received::Close(Some(frame)) if frame.reason.as_str() == BREACH)) {
        return;
    }
    let (expected, is_error) = library(&pieces.concat(), max_message_size);
    assert_eq!(received, expected, "the library reads something else");
    assert!(is_refused || !is_error, "the library refuses what follows {received:?}");
}

/// What the decoder makes of it, asked in turn for everything and for what is no message.
fn decode(pieces: &[&[u8]], max_message_size: usize) -> (Vec<Received>, bool) {
    let mut decoder = Decoder::new(max_message_size);
    let mut received = Vec::new();
    let mut wants_messages = false;
    for mut piece in pieces.iter().copied() {
        loop {
            wants_messages = !wants_messages;
            match decoder.feed_wanted(&mut piece, wants_messages) {
                Ok(Some(one)) => {
                    let is_message = matches!(one, Received::Message(_));
                    assert!(wants_messages || !is_message, "a message came that was not wanted");
                    received.push(one);
                }
                Ok(None) if wants_messages => break,
                Ok(None) => {}
                Err(_) => return (received, true),
            }
        }
        assert!(piece.is_empty(), "bytes are left, and nothing was made of them");
    }
    (received, false)
}

fn library(bytes: &[u8], max_message_size: usize) -> (Vec<Received>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size.max(125)));
    let mut socket = WebSocket::from_raw_socket(Stream(Cursor::new(bytes)), Role::Server, Some(config));
    let mut received = Vec::new();
    loop {
        received.push(match socket.read() {
            Ok(LibraryMessage::Text(text)) => Received::Message(Message::Text(text)),
            Ok(LibraryMessage::Binary(octets)) => Received::Message(Message::Binary(octets)),
            Ok(LibraryMessage::Ping(payload)) => Received::Ping(payload),
            Ok(LibraryMessage::Pong(_)) => Received::Pong,
            Ok(LibraryMessage::Close(Some(frame))) if frame.reason.as_str() == BREACH => return (received, true),
            Ok(LibraryMessage::Close(frame)) => {
                Received::Close(frame.map(|frame| CloseFrame { code: frame.code.into(), reason: frame.reason }))
            }
            Ok(LibraryMessage::Frame(_)) => panic!("reading gives no bare frames"),
            Err(Error::Protocol(error)) if error.to_string().contains("without closing handshake") => {
                return (received, false);
            }
            Err(Error::ConnectionClosed) => return (received, false),
            Err(_) => return (received, true),
        });
    }
}

/// What the client sent; what the library answers is of no interest.
struct Stream<'a>(Cursor<&'a [u8]>);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
