//! Frames to messages: the reading half of the codec.

use std::io::Cursor;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::mask::Mask;
use super::payload::Payload;
use crate::protocol::Text;
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::session::Violation;

/// Largest payload of a control frame in bytes (RFC 6455 section 5.5).
const MAX_CONTROL_PAYLOAD: usize = 125;

/// Longest header of a frame in bytes: two, eight of length, four of the mask (RFC 6455 section 5.2).
const MAX_HEADER: usize = 14;

const UNKNOWN_OPCODE: Violation = Violation::Protocol("a frame has an unknown opcode");

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A whole message.
    Message(Message),
    /// A ping, with the payload that its pong must have.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// A close frame, with its code and reason if it has them. Nothing that follows it is heard.
    Close(Option<CloseFrame>),
}

/// Reads the frames of a client (RFC 6455 section 5), however the bytes are cut.
///
/// It holds the message that is arriving and nothing else: no byte beyond it, and no buffer between messages.
///
/// ```
/// use tidegate::edge::websocket::{Decoder, Received};
///
/// let mut decoder = Decoder::new(1024);
/// // "Hello", masked: the example of section 5.7.
/// let mut bytes = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58][..];
/// let received = decoder.feed(&mut bytes).unwrap();
/// assert_eq!(received, Some(Received::Message("Hello".into())));
/// assert!(bytes.is_empty());
/// ```
#[derive(Debug)]
pub struct Decoder {
    max_message_size: usize,
    /// The beginning of a header whose other bytes have not come.
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The message whose frames are arriving. A control frame may come between two of them.
    message: Option<Payload>,
    /// The payload of the control frame that is arriving.
    control: Vec<u8>,
    is_over: bool,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    mask: Mask,
    /// Bytes of the payload that have not come.
    left: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Data { is_final: bool },
    Close,
    Ping,
    Pong,
}

impl Decoder {
    /// A decoder at the beginning of a connection. A message may have `max_message_size` bytes, in all of its frames.
    #[must_use]
    pub fn new(max_message_size: usize) -> Self {
        Self {
            max_message_size,
            header: [0; MAX_HEADER],
            header_len: 0,
            frame: None,
            message: None,
            control: Vec::new(),
            is_over: false,
        }
    }

    /// Takes bytes off the front of `input`, up to the end of the first message or control frame that they complete, and
    /// gives that. Without one, all of `input` is taken.
    ///
    /// After a close frame and after an error, what comes is taken and ignored.
    ///
    /// # Errors
    ///
    /// [`Violation`], as soon as it is certain; an unfinished message is then lost.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Received>, Violation> {
        self.feed_wanted(input, true)
    }

    /// The same where messages may not be wanted now: then it goes on up to the payload of the next data frame, and takes
    /// nothing of that.
    ///
    /// # Errors
    ///
    /// [`Violation`], as for [`feed`](Self::feed).
    pub fn feed_wanted(&mut self, input: &mut &[u8], messages: bool) -> Result<Option<Received>, Violation> {
        let received = if self.is_over { Ok(None) } else { self.advance(input, messages) };
        if matches!(received, Err(_) | Ok(Some(Received::Close(_)))) {
            self.is_over = true;
            self.message = None;
            self.control = Vec::new();
        }
        if self.is_over {
            *input = &[];
        }
        received
    }

    /// Whether a data frame without a payload is all there, and was not wanted so far.
    pub(super) fn holds_empty_frame(&self) -> bool {
        matches!(self.frame, Some(Frame { kind: Kind::Data { .. }, left: 0, .. }))
    }

    fn advance(&mut self, input: &mut &[u8], messages: bool) -> Result<Option<Received>, Violation> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.read_header(input)? {
                    Some((header, length)) => self.begin(&header, length)?,
                    None => return Ok(None),
                },
            };
            if !messages && matches!(frame.kind, Kind::Data { .. }) {
                self.frame = Some(frame);
                return Ok(None);
            }
            let now = frame.left.min(input.len());
            let (masked, rest) = input.split_at(now);
            *input = rest;
            self.append(&mut frame, masked)?;
            frame.left -= now;
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(received) = self.complete(frame.kind)? {
                return Ok(Some(received));
            }
        }
    }

    /// The next header and the length that it announces, once it is complete.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<(FrameHeader, u64)>, Violation> {
        let bytes = *input;
        let held = self.header_len;
        let mut parsed = if held == 0 { parse(bytes)? } else { None };
        if parsed.is_none() {
            self.hold(bytes);
        }
        if held > 0 {
            parsed = parse(self.header.get(..self.header_len).unwrap_or_default())?;
        }
        let Some((header, length, used)) = parsed else {
            *input = &[];
            return Ok(None);
        };
        self.header_len = 0;
        *input = bytes.get(used.saturating_sub(held)..).unwrap_or_default();
        Ok(Some((header, length)))
    }

    /// Keeps the beginning of a header, as far as a header can go.
    fn hold(&mut self, bytes: &[u8]) {
        let place = self.header.get_mut(self.header_len..).unwrap_or_default();
        let added = place.len().min(bytes.len());
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.header_len += added;
    }

    /// The rules that a header alone can break, and the beginning of its frame.
    ///
    /// A length in more bytes than it needs is let pass, although section 5.2 forbids it: a widely used client library for
    /// microcontrollers (arduinoWebSockets) writes 65,535 in eight bytes, and nothing is ambiguous about it. A length with
    /// the highest bit set, which is forbidden as well, is above every limit.
    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<Frame, Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::Protocol("a frame has a reserved bit set"));
        }
        let Some(key) = header.mask else { return Err(Violation::Protocol("a frame is not masked")) };
        let kind = match header.opcode {
            OpCode::Data(data) => {
                match (data, &self.message) {
                    (Data::Continue, Some(_)) => {}
                    (Data::Continue, None) => return Err(Violation::Protocol("a continuation continues nothing")),
                    (Data::Text | Data::Binary, Some(_)) => {
                        return Err(Violation::Protocol("a message begins inside another"));
                    }
                    (Data::Text, None) => self.message = Some(Payload::text()),
                    (Data::Binary, None) => self.message = Some(Payload::binary()),
                    (Data::Reserved(_), _) => return Err(UNKNOWN_OPCODE),
                }
                Kind::Data { is_final: header.is_final }
            }
            OpCode::Control(_) if !header.is_final => {
                return Err(Violation::Protocol("a control frame is fragmented"));
            }
            OpCode::Control(Control::Close) => Kind::Close,
            OpCode::Control(Control::Ping) => Kind::Ping,
            OpCode::Control(Control::Pong) => Kind::Pong,
            OpCode::Control(Control::Reserved(_)) => return Err(UNKNOWN_OPCODE),
        };
        let (limit, too_long) = match kind {
            Kind::Data { .. } => {
                let held = self.message.as_ref().map_or(0, Payload::len);
                (self.max_message_size.saturating_sub(held), Violation::TooBig)
            }
            Kind::Close | Kind::Ping | Kind::Pong => {
                (MAX_CONTROL_PAYLOAD, Violation::Protocol("a control frame is larger than 125 bytes"))
            }
        };
        let left = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(too_long)?;
        Ok(Frame { kind, mask: Mask::new(key), left })
    }

    fn append(&mut self, frame: &mut Frame, masked: &[u8]) -> Result<(), Violation> {
        match (frame.kind, &mut self.message) {
            (Kind::Data { is_final }, Some(message)) => message.push(masked, &mut frame.mask, frame.left, is_final),
            // There is one whenever a data frame has begun.
            (Kind::Data { .. }, None) => Ok(()),
            (Kind::Close | Kind::Ping | Kind::Pong, _) => {
                let held = self.control.len();
                self.control.reserve_exact(frame.left);
                self.control.extend_from_slice(masked);
                frame.mask.apply(self.control.get_mut(held..).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// What a frame whose payload is complete makes; nothing, if the message has more frames.
    fn complete(&mut self, kind: Kind) -> Result<Option<Received>, Violation> {
        Ok(match kind {
            Kind::Data { is_final: false } => None,
            Kind::Data { is_final: true } => {
                self.message.take().map(Payload::finish).transpose()?.map(Received::Message)
            }
            Kind::Close => Some(Received::Close(close_frame(&Bytes::from(std::mem::take(&mut self.control)))?)),
            Kind::Ping => Some(Received::Ping(Bytes::from(std::mem::take(&mut self.control)))),
            Kind::Pong => {
                self.control = Vec::new();
                Some(Received::Pong)
            }
        })
    }
}

/// A header, the length that it announces, and how many bytes it takes; nothing, if `bytes` do not have all of it.
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, Violation> {
    let mut cursor = Cursor::new(bytes);
    // The only thing that the library's parser refuses is an opcode.
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| UNKNOWN_OPCODE)?;
    let used = usize::try_from(cursor.position()).unwrap_or(bytes.len());
    Ok(parsed.map(|(header, length)| (header, length, used)))
}

/// What the payload of a close frame says (RFC 6455 section 5.5.1). Codes that nobody may send (section 7.4) are refused.
fn close_frame(payload: &Bytes) -> Result<Option<CloseFrame>, Violation> {
    let Some((code, _)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(Violation::Protocol("a close frame has a payload of one byte"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Violation::Protocol("a close frame has a code that must not be sent"));
    }
    let reason = Text::try_from(payload.slice(size_of::<u16>()..)).map_err(|_| Violation::Text)?;
    Ok(Some(CloseFrame { code, reason }))
}
