//! Moves the bytes of a WebSocket: the stream on one side, the codec on the other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::decoder::{Decoder, Received};
use super::outgoing::{Outgoing, Pending};
use crate::bridge::socket::{ClientSocket, Gone, Wanted};
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::session::{ClientInput, Violation};

/// A client's WebSocket, over a stream on which the handshake is done.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    /// What came in one packet with the handshake; it is read before the stream.
    early: Bytes,
    decoder: Decoder,
    outgoing: Outgoing,
    /// An answer to the client, a pong or a close frame, is not flushed yet. The bridge does not know of it.
    owes_answer: bool,
    /// What was last read of the stream is not used up: there is something to decode without reading.
    is_behind: bool,
    phase: Phase,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client's close frame is read; nothing behind it is.
    Closed,
    /// Our direction of the stream is ended.
    ShutDown,
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Takes a stream over, with the bytes that were already read from it.
    pub fn new(stream: S, already_read: Vec<u8>, max_message_size: usize) -> Self {
        Self {
            stream,
            early: already_read.into(),
            decoder: Decoder::new(max_message_size),
            outgoing: Outgoing::new(max_message_size),
            owes_answer: false,
            is_behind: false,
            phase: Phase::Open,
        }
    }

    /// What the stream brings next. A frame that is not wanted stays where it is, and all that is behind it.
    fn poll_decode(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<Result<Received, ClientInput>> {
        if wanted == Wanted::Everything
            && self.decoder.holds_empty_frame()
            && let Some(received) = self.decoder.feed(&mut &[][..]).map_err(ClientInput::Violation)?
        {
            return Poll::Ready(Ok(received));
        }
        loop {
            if !self.is_behind {
                self.poll_answer(cx)?;
            }
            let mut bytes = if self.early.is_empty() {
                ready!(Pin::new(&mut self.stream).poll_fill_buf(cx)).map_err(|error| failure(&error))?
            } else {
                &self.early
            };
            if bytes.is_empty() {
                return Poll::Ready(Err(ClientInput::Gone));
            }
            let filled = bytes.len();
            let decoded = self.decoder.feed_wanted(&mut bytes, wanted == Wanted::Everything);
            let left = bytes.len();
            self.consume(filled - left);
            self.is_behind = left > 0;
            if let Some(received) = decoded.map_err(ClientInput::Violation)? {
                return Poll::Ready(Ok(received));
            }
            if left > 0 {
                // What stands in front is not wanted now. A ping before it is answered all the same.
                self.poll_answer(cx)?;
                return Poll::Pending;
            }
        }
    }

    fn consume(&mut self, amount: usize) {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).consume(amount);
        }
        self.early.advance(amount);
        if self.early.is_empty() {
            // Even an empty one keeps its memory.
            self.early = Bytes::new();
        }
    }

    /// Writes an answer that is owed, as far as it goes. A stream that takes nothing now is no reason not to read.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Result<(), ClientInput> {
        if self.owes_answer
            && let Poll::Ready(Err(Gone)) = ClientSocket::poll_flush(self, cx)
        {
            return Err(ClientInput::Gone);
        }
        Ok(())
    }

    /// Hands as much as the stream takes in one go over to it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let stream = Pin::new(&mut self.stream);
        let written = match self.outgoing.pending() {
            Pending::One(bytes) => ready!(stream.poll_write(cx, bytes)),
            Pending::Several(slices) => ready!(stream.poll_write_vectored(cx, &slices)),
        };
        Poll::Ready(match written {
            Ok(written @ 1..) => {
                self.outgoing.advance(written);
                Ok(())
            }
            Ok(0) | Err(_) => Err(Gone),
        })
    }
}

impl<S: AsyncBufRead + AsyncWrite + Unpin> ClientSocket for WebSocket<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<ClientInput> {
        if self.phase != Phase::Open {
            return Poll::Ready(ClientInput::Gone);
        }
        let input = match ready!(self.poll_decode(cx, wanted)) {
            Ok(Received::Message(message)) => {
                // It may fill the queue, and then the client is not read for a while; its ping is not to wait for that.
                // Should writing fail, it will fail again; the message came before.
                let _ = self.poll_answer(cx);
                ClientInput::Message(message)
            }
            Ok(Received::Ping(payload)) => {
                self.outgoing.pong(payload);
                self.owes_answer = true;
                ClientInput::Alive
            }
            Ok(Received::Pong) => ClientInput::Alive,
            Ok(Received::Close(frame)) => {
                self.phase = Phase::Closed;
                self.outgoing.close(frame.as_ref());
                ClientInput::Closed(frame)
            }
            Err(input) => input,
        };
        Poll::Ready(input)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while !self.outgoing.has_room() {
            ready!(self.poll_write(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, message: Message) -> Result<(), Gone> {
        self.outgoing.message(message)
    }

    fn ping(&mut self) -> Result<(), Gone> {
        self.outgoing.ping();
        Ok(())
    }

    fn close(&mut self, frame: CloseFrame) -> Result<(), Gone> {
        self.outgoing.close(Some(&frame));
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.outgoing.collect();
        while !self.outgoing.is_empty() {
            ready!(self.poll_write(cx))?;
            self.outgoing.collect();
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(|_| Gone)?;
        self.owes_answer = false;
        self.outgoing.release();
        Poll::Ready(Ok(()))
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.phase != Phase::ShutDown {
            // A flush that fails is no reason to stay; neither is a shutdown that fails.
            let _ = ready!(ClientSocket::poll_flush(self, cx));
            if ready!(Pin::new(&mut self.stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.phase = Phase::ShutDown;
        }
        loop {
            let mut stream = Pin::new(&mut self.stream);
            match ready!(stream.as_mut().poll_fill_buf(cx)).map(<[u8]>::len) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(unread) => stream.consume(unread),
            }
        }
    }
}

/// What it means that the stream cannot be read. TLS says by its kind of error that somebody has changed the bytes; all else
/// is a broken connection.
fn failure(error: &io::Error) -> ClientInput {
    if error.kind() == io::ErrorKind::InvalidData {
        ClientInput::Violation(Violation::Protocol("the byte stream is damaged"))
    } else {
        ClientInput::Gone
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, duplex};

    use super::*;

    type Socket = WebSocket<BufReader<DuplexStream>>;

    const MAX: usize = 1 << 20;

    /// A socket, and the client's end of its stream; `room` is how much may be on its way.
    fn socket(room: usize, early: &[u8]) -> (Socket, DuplexStream) {
        let (ours, client) = duplex(room);
        (WebSocket::new(BufReader::new(ours), early.to_vec(), MAX), client)
    }

    /// A frame with a mask that changes nothing.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
    }

    /// What the socket has to say, in words; nothing, if it waits.
    async fn next(socket: &mut Socket) -> String {
        poll_fn(|cx| {
            Poll::Ready(match socket.poll_receive(cx, Wanted::Everything) {
                Poll::Ready(ClientInput::Message(message)) => String::from_utf8(message.into_bytes().into()).unwrap(),
                Poll::Ready(other) => format!("{other:?}"),
                Poll::Pending => "nothing".to_owned(),
            })
        })
        .await
    }

    /// The same where no message is wanted.
    async fn next_control(socket: &mut Socket) -> String {
        poll_fn(|cx| {
            Poll::Ready(match socket.poll_receive(cx, Wanted::Control) {
                Poll::Ready(input) => format!("{input:?}"),
                Poll::Pending => "nothing".to_owned(),
            })
        })
        .await
    }

    async fn flush(socket: &mut Socket) -> Result<(), Gone> {
        poll_fn(|cx| ClientSocket::poll_flush(socket, cx)).await
    }

    async fn is_ready(socket: &mut Socket) -> bool {
        poll_fn(|cx| Poll::Ready(ClientSocket::poll_ready(socket, cx).is_ready())).await
    }

    async fn read(client: &mut DuplexStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn what_came_with_the_handshake_is_read_first() {
        let (mut socket, mut client) = socket(1000, &[frame(0x81, b"one"), frame(0x81, b"two")[..3].to_vec()].concat());
        client.write_all(&[&frame(0x81, b"two")[3..], &frame(0x81, b"three")].concat()).await.unwrap();
        for expected in ["one", "two", "three", "nothing"] {
            assert_eq!(next(&mut socket).await, expected);
        }
        drop(client);
        assert_eq!(next(&mut socket).await, "Gone");
    }

    #[tokio::test]
    async fn of_pings_that_come_together_the_newest_is_answered_without_being_asked_to() {
        let (mut socket, mut client) = socket(1000, b"");
        client.write_all(&[frame(0x89, b"1"), frame(0x89, b"2"), frame(0x89, b"3")].concat()).await.unwrap();
        for expected in ["Alive", "Alive", "Alive", "nothing"] {
            assert_eq!(next(&mut socket).await, expected);
        }
        client.write_all(&[frame(0x89, b"4"), frame(0x81, b"and stop reading")].concat()).await.unwrap();
        assert_eq!(next(&mut socket).await, "Alive");
        assert_eq!(next(&mut socket).await, "and stop reading");
        drop(socket);
        assert_eq!(read(&mut client, 6).await, b"\x8a\x013\x8a\x014");
    }

    #[tokio::test]
    async fn a_large_message_is_written_as_the_client_reads_and_nothing_comes_into_it() {
        let (mut socket, mut client) = socket(64, b"");
        socket.send(Message::Binary(vec![7; MAX].into())).unwrap();
        assert!(!is_ready(&mut socket).await);
        assert_eq!(read(&mut client, 10).await, [0x82, 127, 0, 0, 0, 0, 0, 16, 0, 0]);
        client.write_all(&frame(0x89, b"hi")).await.unwrap();
        assert_eq!(next(&mut socket).await, "Alive");
        socket.ping().unwrap();
        assert_eq!(next(&mut socket).await, "nothing");
        assert!(!is_ready(&mut socket).await);
        client.write_all(&frame(0x88, b"\x03\xe8bye")).await.unwrap();
        assert!(next(&mut socket).await.starts_with("Closed(Some(CloseFrame { code: 1000"));
        let (flushed, read) = tokio::join!(flush(&mut socket), read(&mut client, MAX + 2 + 4 + 7));
        assert_eq!(flushed, Ok(()));
        assert!(read[..MAX].iter().all(|byte| *byte == 7));
        assert_eq!(&read[MAX..], b"\x89\x00\x8a\x02hi\x88\x05\x03\xe8bye");
        assert_eq!(next(&mut socket).await, "Gone");
    }

    #[tokio::test]
    async fn a_client_whose_messages_are_not_wanted_is_still_heard_until_it_sends_one() {
        let (mut socket, mut client) = socket(1000, b"");
        let ping = frame(0x89, b"1");
        client.write_all(&[&ping, &frame(0x81, b"message")[..1]].concat()).await.unwrap();
        for expected in ["Alive", "nothing"] {
            assert_eq!(next_control(&mut socket).await, expected);
        }
        assert_eq!(read(&mut client, 3).await, b"\x8a\x011");
        client.write_all(&[&frame(0x81, b"message")[1..], &ping].concat()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(next_control(&mut socket).await, "nothing");
        }
        for expected in ["message", "Alive", "nothing"] {
            assert_eq!(next(&mut socket).await, expected);
        }
        // A ping right before it is answered, and an empty message needs no further byte to be read.
        client.write_all(&[frame(0x89, b"2"), frame(0x81, b"whole")].concat()).await.unwrap();
        for expected in ["Alive", "nothing"] {
            assert_eq!(next_control(&mut socket).await, expected);
        }
        assert_eq!(read(&mut client, 6).await, b"\x8a\x011\x8a\x012");
        assert_eq!(next(&mut socket).await, "whole");
        client.write_all(&frame(0x81, b"")).await.unwrap();
        assert_eq!(next_control(&mut socket).await, "nothing");
        for expected in ["", "nothing"] {
            assert_eq!(next(&mut socket).await, expected);
        }
        // In the middle of a message as well.
        let [begun, rest] = [&frame(0x82, b"begun")[..8], &frame(0x82, b"begun")[8..]].map(<[u8]>::to_vec);
        client.write_all(&begun).await.unwrap();
        assert_eq!(next(&mut socket).await, "nothing");
        client.write_all(&[rest, ping, frame(0x88, b"")].concat()).await.unwrap();
        assert_eq!(next_control(&mut socket).await, "nothing");
        for expected in ["begun", "Alive", "Closed(None)"] {
            assert_eq!(next(&mut socket).await, expected);
        }
    }

    #[tokio::test]
    async fn after_large_messages_nothing_is_held() {
        let (mut socket, mut client) = socket(100_000, b"");
        let large = [&[0x82, 0xFF, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0][..], &vec![b'x'; MAX]].concat();
        let received = async { poll_fn(|cx| socket.poll_receive(cx, Wanted::Everything)).await };
        let (received, sent) = tokio::join!(received, client.write_all(&large));
        sent.unwrap();
        assert!(matches!(&received, ClientInput::Message(message) if message.len() == MAX));
        let ClientInput::Message(message) = received else { return };
        socket.send(message).unwrap();
        socket.send("and a small one".into()).unwrap();
        let (flushed, _) = tokio::join!(flush(&mut socket), read(&mut client, 10 + MAX + 17));
        assert_eq!((flushed, socket.outgoing.capacity()), (Ok(()), 0));
        assert!(is_ready(&mut socket).await);
    }

    #[tokio::test]
    async fn a_close_frame_is_answered_once_and_not_if_it_is_the_answer() {
        for (theirs, answer) in [(&b""[..], &b"\x88\x00"[..]), (b"\x0f\xa0bye", b"\x88\x05\x0f\xa0bye")] {
            let (mut socket, mut client) = socket(1000, &frame(0x88, theirs));
            assert!(next(&mut socket).await.starts_with("Closed"));
            socket.close(CloseFrame::new(1001, "")).unwrap();
            flush(&mut socket).await.unwrap();
            drop(socket);
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, answer);
        }
        let (mut socket, mut client) = socket(1000, b"");
        socket.close(CloseFrame::new(1001, "")).unwrap();
        client.write_all(&[frame(0x81, b"late"), frame(0x89, b""), frame(0x88, b"\x03\xe9")].concat()).await.unwrap();
        for expected in ["late", "Alive", "Closed(Some(CloseFrame { code: 1001"] {
            assert!(next(&mut socket).await.starts_with(expected));
        }
        client.shutdown().await.unwrap();
        poll_fn(|cx| socket.poll_hang_up(cx)).await;
        drop(socket);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"\x88\x02\x03\xe9");
    }

    #[tokio::test]
    async fn hanging_up_says_the_last_word_and_waits_for_the_clients_end() {
        let (mut socket, mut client) = socket(1000, b"");
        client.write_all(b"whatever this is").await.unwrap();
        socket.close(CloseFrame::new(1002, "")).unwrap();
        let is_done = |socket: &mut Socket, cx: &mut Context<'_>| Poll::Ready(socket.poll_hang_up(cx).is_ready());
        assert!(!poll_fn(|cx| is_done(&mut socket, cx)).await);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"\x88\x02\x03\xea");
        client.write_all(b"and more").await.unwrap();
        assert!(!poll_fn(|cx| is_done(&mut socket, cx)).await);
        drop(client);
        assert!(poll_fn(|cx| is_done(&mut socket, cx)).await);
    }
}
