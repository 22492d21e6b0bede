//! Messages to frames: the writing half of the codec.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::bridge::socket::Gone;
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;

/// Frames are collected up to this size and written in pieces of it: one full TLS record.
const FULL: usize = 16 * 1024;

/// A payload above this size is not copied, unless what is collected is less than [`FULL`] with it.
const LARGE: usize = 4 * 1024;

/// How many pieces are written in one go: a large message takes two, and what follows it one more.
const SLICES: usize = 3;

/// Frames on their way to a client, in order.
///
/// Small ones are copied together into one buffer. The payload of a message that does not fit there any more is not
/// copied: it stands in the queue as it came, and what is sent later goes behind it.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// What goes before the buffer: empty, but while there is a message that did not fit.
    queue: VecDeque<Bytes>,
    queued: usize,
    buffer: Vec<u8>,
    /// The answer to the newest ping. Only that one is needed (RFC 6455 section 5.5.3).
    pong: Option<Bytes>,
    /// A close frame is sent or buffered; no frame may follow it.
    is_closed: bool,
    /// More than this is not held.
    limit: usize,
}

impl Outgoing {
    /// Nothing yet. A message of `max_message_size` bytes has a place beside what is collected.
    pub(super) fn new(max_message_size: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            buffer: Vec::new(),
            pong: None,
            is_closed: false,
            limit: max_message_size.saturating_add(2 * FULL),
        }
    }

    /// Whether one more message may come; if not, what is there must be written first.
    pub(super) fn has_room(&self) -> bool {
        self.queue.is_empty() && self.buffer.len() < FULL
    }

    /// Adds a message. One may come without there being room, as answers to POSTs do, while no more is held than the largest
    /// message and two full records.
    ///
    /// # Errors
    ///
    /// [`Gone`] above that, and after a close frame.
    pub(super) fn message(&mut self, message: Message) -> Result<(), Gone> {
        if self.is_closed || self.queued + self.buffer.len() > self.limit {
            return Err(Gone);
        }
        let opcode = match message {
            Message::Text(_) => OpCode::Data(Data::Text),
            Message::Binary(_) => OpCode::Data(Data::Binary),
        };
        let payload = message.into_bytes();
        if payload.len() <= LARGE || self.buffer.len() + MAX_HEADER + payload.len() <= FULL {
            self.frame(opcode, &payload);
        } else {
            self.buffer.extend_from_slice(Header::new(opcode, payload.len()).as_bytes());
            self.queued += self.buffer.len() + payload.len();
            self.queue.push_back(Bytes::from(std::mem::take(&mut self.buffer)));
            self.queue.push_back(payload);
        }
        Ok(())
    }

    /// Adds a ping without a payload; but not to a full buffer: whoever reads nothing will not answer it either.
    pub(super) fn ping(&mut self) {
        if !self.is_closed && self.buffer.len() < FULL {
            self.frame(OpCode::Control(Control::Ping), &[]);
        }
    }

    /// Answers a ping, in the place of one that was not yet answered. Nothing follows a close frame.
    pub(super) fn pong(&mut self, payload: Bytes) {
        if !self.is_closed {
            self.pong = Some(payload);
        }
    }

    /// Adds a close frame, unless there was one: both sides may close at the same time, and each sends one.
    pub(super) fn close(&mut self, frame: Option<&CloseFrame>) {
        if self.is_closed {
            return;
        }
        self.collect();
        self.pong = None;
        self.is_closed = true;
        let payload = frame.map(|frame| [&frame.code.to_be_bytes(), frame.reason.as_bytes()].concat());
        self.frame(OpCode::Control(Control::Close), &payload.unwrap_or_default());
    }

    /// Puts the pong that is owed behind the rest, if the buffer is not full: a client that sends pings and reads nothing
    /// makes no more of it than that.
    pub(super) fn collect(&mut self) {
        if self.buffer.len() < FULL
            && let Some(payload) = self.pong.take()
        {
            self.frame(OpCode::Control(Control::Pong), &payload);
        }
    }

    /// Whether all is written; a pong that is owed is not counted.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.buffer.is_empty()
    }

    /// What is to be written next: all of it, or its beginning.
    pub(super) fn pending(&self) -> Pending<'_> {
        if self.queue.is_empty() {
            return Pending::One(self.buffer.get(..FULL).unwrap_or(&self.buffer));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let pieces = self.queue.iter().map(|piece| &piece[..]).chain([&self.buffer[..]]);
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
        }
        Pending::Several(slices)
    }

    /// Forgets the first `written` bytes.
    pub(super) fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.queue.front_mut() {
            let now = written.min(first.len());
            first.advance(now);
            self.queued -= now;
            written -= now;
            if !first.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
        if written == self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..written.min(self.buffer.len()));
        }
    }

    /// Gives the memory back once everything is written.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            self.queue = VecDeque::new();
            self.buffer = Vec::new();
        }
    }

    /// How much memory it holds, in bytes and pieces.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity() + self.queue.capacity()
    }

    fn frame(&mut self, opcode: OpCode, payload: &[u8]) {
        let header = Header::new(opcode, payload.len());
        let header = header.as_bytes();
        self.buffer.reserve(header.len() + payload.len());
        self.buffer.extend_from_slice(header);
        self.buffer.extend_from_slice(payload);
    }
}

/// What is to be written.
pub(super) enum Pending<'a> {
    /// One piece.
    One(&'a [u8]),
    /// Several, some of which may be empty.
    Several([IoSlice<'a>; SLICES]),
}

/// Longest header of a server's frame in bytes.
const MAX_HEADER: usize = 10;

/// The header of a frame that is the whole of its message and not masked, as a server's are (RFC 6455 section 5.2).
enum Header {
    Short([u8; 2]),
    Medium([u8; 4]),
    Long([u8; MAX_HEADER]),
}

impl Header {
    fn new(opcode: OpCode, length: usize) -> Self {
        let first = 0x80 | u8::from(opcode);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..=125), _) => Self::Short([first, length]),
            (_, Ok(length)) => {
                let [b0, b1] = length.to_be_bytes();
                Self::Medium([first, 126, b0, b1])
            }
            _ => {
                let [b0, b1, b2, b3, b4, b5, b6, b7] = (length as u64).to_be_bytes();
                Self::Long([first, 127, b0, b1, b2, b3, b4, b5, b6, b7])
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Medium(bytes) => bytes,
            Self::Long(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is to be written, in writes of at most `most` bytes.
    fn write_out(outgoing: &mut Outgoing, most: usize) -> Vec<u8> {
        let mut written = Vec::new();
        loop {
            outgoing.collect();
            if outgoing.is_empty() {
                return written;
            }
            let next = match outgoing.pending() {
                Pending::One(bytes) => bytes.to_vec(),
                Pending::Several(slices) => slices.iter().flat_map(|slice| slice.to_vec()).collect(),
            };
            let now = next.len().min(most);
            written.extend_from_slice(&next[..now]);
            outgoing.advance(now);
        }
    }

    fn binary(size: usize) -> Message {
        Message::Binary(Bytes::from(vec![7; size]))
    }

    #[test]
    fn frames_are_those_of_the_standards_examples() {
        let mut outgoing = Outgoing::new(1 << 20);
        outgoing.message("Hello".into()).unwrap();
        outgoing.pong(Bytes::from_static(b"Hello"));
        let written = write_out(&mut outgoing, usize::MAX);
        assert_eq!(written, b"\x81\x05Hello\x8a\x05Hello");
        for (size, header) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (256, &[0x82, 0x7E, 0x01, 0x00]),
            (65_535, &[0x82, 126, 0xFF, 0xFF]),
            (65_536, &[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            outgoing.message(binary(size)).unwrap();
            let written = write_out(&mut outgoing, usize::MAX);
            assert_eq!(written.len(), header.len() + size);
            assert!(written.starts_with(header), "{size}");
        }
    }

    #[test]
    fn what_is_sent_while_a_large_message_is_written_goes_behind_it_however_it_is_cut() {
        for most in [1, 7, 1000, FULL, usize::MAX] {
            let mut outgoing = Outgoing::new(1 << 20);
            outgoing.message("before".into()).unwrap();
            outgoing.message(binary(20_000)).unwrap();
            assert!(!outgoing.has_room());
            outgoing.advance(19_000);
            assert!(!outgoing.has_room());
            outgoing.ping();
            outgoing.pong(Bytes::from_static(b"old"));
            outgoing.pong(Bytes::from_static(b"new"));
            outgoing.close(Some(&CloseFrame::new(1000, "bye")));
            outgoing.ping();
            outgoing.pong(Bytes::from_static(b"late"));
            outgoing.close(None);
            assert_eq!(outgoing.message("late".into()), Err(Gone));
            let rest = write_out(&mut outgoing, most);
            let behind = b"\x89\x00\x8a\x03new\x88\x05\x03\xe8bye";
            assert_eq!(rest.len(), 8 + 4 + 20_000 - 19_000 + behind.len());
            assert!(rest.ends_with(behind), "{most}");
            outgoing.release();
            assert_eq!((outgoing.queued, outgoing.capacity()), (0, 0));
        }
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let mut outgoing = Outgoing::new(1 << 20);
        let payload = Bytes::from(vec![7; FULL]);
        outgoing.message(Message::Binary(payload.clone())).unwrap();
        assert!(outgoing.queue.iter().any(|piece| piece.as_ptr() == payload.as_ptr()));
    }

    #[test]
    fn a_client_that_reads_nothing_makes_no_more_than_the_limit() {
        let mut outgoing = Outgoing::new(1000);
        for _ in 0..100_000 {
            outgoing.pong(Bytes::from(vec![b'x'; 125]));
            outgoing.collect();
            outgoing.ping();
        }
        assert!(outgoing.buffer.len() < FULL + 127);
        let sent = (0..1_000_000).take_while(|_| outgoing.message(binary(1000)).is_ok()).count();
        assert!((1..40).contains(&sent), "{sent}");
    }

    #[test]
    fn small_messages_fill_a_record_and_no_more_are_let_in() {
        let mut outgoing = Outgoing::new(1 << 20);
        let mut sent = 0;
        while outgoing.has_room() {
            outgoing.message(binary(100)).unwrap();
            sent += 1;
        }
        assert_eq!(sent, FULL / 102 + 1);
        assert!(matches!(outgoing.pending(), Pending::One(bytes) if bytes.len() == FULL));
        assert_eq!(write_out(&mut outgoing, usize::MAX).len(), sent * 102);
    }
}
