//! The incremental parser: "Interpreting an event stream", a chunk at a time.

use std::{mem, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::{
    limits::{Limits, ParseError, TooLarge},
    line::{Field, Line},
    value::{Value, decode_into, decoded_length},
};
use crate::protocol::Text;

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// One dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The value of `event`, or `None` for `message`, whether that was written or is the default.
    pub name: Option<Text>,
    /// May be empty. It may be a slice of the chunk it came in, which it then keeps in memory: whoever stores events
    /// for long should copy it.
    pub data: Text,
}

/// Reads one stream, from the first byte of a response body. The next response needs a new parser.
///
/// ```text
/// while let Some(chunk) = body.next().await {
///     parser.push(chunk);
///     while let Some(event) = parser.next()? { .. }
/// }
/// ```
///
/// Memory: what belongs to an event leaves with it and chunks are let go as soon as they are read, so between two
/// events there are only this struct and two small buffers for the id.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one block; a set type would hide them")]
pub struct Parser {
    limits: Limits,
    /// What was pushed and not read yet.
    chunk: Bytes,
    line: Line,
    name: Value,
    data: Value,
    /// An empty `data` line makes an event, no `data` line makes none.
    has_data: bool,
    /// The id of this block if `has_id`, then what was read of another `id` line, both not decoded yet. Copied
    /// rather than sliced, like `last_event_id`: an id outlives its event, and would pin a chunk while the stream idles.
    next_id: Vec<u8>,
    has_id: bool,
    last_event_id: String,
    /// Whether the newest event had an id of its own.
    own_id: bool,
    /// Two fields rather than an `Option`, to fill the padding: there is one parser per client.
    retry_millis: u64,
    has_retry: bool,
    mid_event: bool,
}

impl Parser {
    /// A parser at the start of a stream, with an empty last event id.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunk: Bytes::new(),
            line: Line::Mark { seen: 0 },
            name: Value::default(),
            data: Value::default(),
            has_data: false,
            next_id: Vec::new(),
            has_id: false,
            last_event_id: String::new(),
            own_id: false,
            retry_millis: 0,
            has_retry: false,
            mid_event: false,
        }
    }

    /// A parser at the start of a stream that continues another: until it brings an id of its own, which may be the
    /// empty one, the last event id is the one from before.
    pub fn resume(limits: Limits, last_event_id: String) -> Self {
        Self { last_event_id, ..Self::new(limits) }
    }

    /// Takes the next chunk of the body. Call [`Parser::next`] until it returns `Ok(None)` before the next push;
    /// otherwise nothing is lost, but what was left of the last chunk is copied.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next complete event, or `None` when that needs more bytes.
    ///
    /// # Errors
    ///
    /// A value is over its limit. Events before it were returned; from now on every call returns this error.
    #[allow(clippy::should_implement_trait, reason = "`?` wants the result outside, an iterator has it inside")]
    pub fn next(&mut self) -> Result<Option<Event>, ParseError> {
        // Taken out and put back only while something is left: even an empty rest would keep the chunk in memory.
        let mut chunk = mem::take(&mut self.chunk);
        match self.read(&mut chunk) {
            Ok(event) => {
                if chunk.is_empty() {
                    self.name.detach();
                    self.data.detach();
                } else {
                    self.chunk = chunk;
                }
                Ok(event)
            }
            Err(TooLarge(field)) => {
                self.line = Line::TooLarge(field);
                self.name = Value::default();
                self.data = Value::default();
                Err(self.limits.error(field))
            }
        }
    }

    /// The last event id: what the newest `id` of a finished block said, with or without data in that block. Empty if
    /// there was none, or if an empty `id` cleared it.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Whether the newest event brought its id along. Without one it has the id of an event before it, by which it cannot
    /// be told from that one.
    pub fn has_own_id(&self) -> bool {
        self.own_id
    }

    /// The newest reconnection time. It counts from the end of its line on, whatever becomes of the block.
    ///
    /// A number too large for 64 bits counts as the largest that fits, so that asking for a longer wait never gives a
    /// shorter one. The caller must have an upper bound of its own anyway.
    pub fn retry(&self) -> Option<Duration> {
        self.has_retry.then(|| Duration::from_millis(self.retry_millis))
    }

    /// True after the first byte of a block and until the blank line that ends it. A stream that ends here was cut in
    /// the middle of an event. Comments belong to no block: a stream may well end after a keepalive.
    pub fn mid_event(&self) -> bool {
        self.mid_event
    }

    fn read(&mut self, chunk: &mut Bytes) -> Result<Option<Event>, TooLarge> {
        if let Line::TooLarge(field) = self.line {
            return Err(TooLarge(field));
        }
        self.skip_byte_order_mark(chunk);
        while let Some(&first) = chunk.first() {
            // The CR ended its line when it came. Only now is it known whether a LF follows.
            if let Line::Start { after_cr: true } = self.line {
                self.line = Line::Start { after_cr: false };
                if first == b'\n' {
                    chunk.advance(1);
                    continue;
                }
            }
            let end = memchr2(b'\r', b'\n', chunk);
            self.read_piece(chunk, end.unwrap_or(chunk.len()))?;
            let Some(end) = end else {
                chunk.clear();
                break;
            };
            let event = self.end_line()?;
            self.line = Line::Start { after_cr: chunk.get(end) == Some(&b'\r') };
            chunk.advance(end + 1);
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    fn skip_byte_order_mark(&mut self, chunk: &mut Bytes) {
        while let (Line::Mark { seen }, Some(&byte)) = (self.line, chunk.first()) {
            self.line = match BYTE_ORDER_MARK.get(usize::from(seen)) {
                Some(&expected) if expected == byte => {
                    chunk.advance(1);
                    Line::Mark { seen: seen + 1 }
                }
                None => Line::Start { after_cr: false },
                Some(_) if seen == 0 => Line::Start { after_cr: false },
                // The line starts with half a mark, which is no field we know.
                Some(_) => {
                    self.mid_event = true;
                    Line::Ignored
                }
            };
        }
    }

    /// Reads the first `length` bytes of `chunk`, which are all of one line.
    fn read_piece(&mut self, chunk: &Bytes, length: usize) -> Result<(), TooLarge> {
        let piece = chunk.get(..length).unwrap_or(chunk);
        if matches!(self.line, Line::Start { .. }) && piece.first().is_some_and(|&byte| byte != b':') {
            self.mid_event = true;
        }
        let mut value = self.line.read_name(piece);
        if let (Line::Colon(field), false) = (self.line, value.is_empty()) {
            self.start_value(field)?;
            value = value.strip_prefix(b" ").unwrap_or(value);
        }
        match self.line {
            Line::Data => {
                self.limits.check(Field::Data, self.data.len() + value.len())?;
                self.data.append(chunk, value);
            }
            Line::Event => {
                self.limits.check(Field::Event, self.name.len() + value.len())?;
                self.name.append(chunk, value);
            }
            Line::Id { start } => self.read_id(start, value)?,
            Line::Retry { millis, digits } => self.line = Line::read_retry(millis, digits, value),
            Line::Mark { .. } | Line::Start { .. } | Line::Name { .. } | Line::Colon(_) => {}
            Line::Ignored | Line::TooLarge(_) => {}
        }
        Ok(())
    }

    fn start_value(&mut self, field: Field) -> Result<(), TooLarge> {
        self.line = match field {
            Field::Data => {
                if self.has_data {
                    self.limits.check(Field::Data, self.data.len() + 1)?;
                    self.data.append_line_feed();
                }
                self.has_data = true;
                Line::Data
            }
            Field::Event => {
                self.name = Value::default();
                Line::Event
            }
            Field::Id => Line::Id { start: self.next_id.len() },
            Field::Retry => Line::Retry { millis: 0, digits: false },
        };
        Ok(())
    }

    fn read_id(&mut self, start: usize, value: &[u8]) -> Result<(), TooLarge> {
        let nul = memchr(0, value);
        // What stands after a NUL is not counted: how a line is cut into chunks must not decide between an id that is
        // ignored and one that is too large.
        self.limits.check(Field::Id, self.next_id.len() - start + nul.unwrap_or(value.len()))?;
        if nul.is_some() {
            self.next_id.truncate(start);
            self.line = Line::Ignored;
        } else {
            self.next_id.extend_from_slice(value);
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Event>, TooLarge> {
        if let Line::Start { .. } = self.line {
            return self.dispatch();
        }
        if let Some(field) = self.line.without_value() {
            self.start_value(field)?;
        }
        match self.line {
            Line::Id { start } => {
                self.next_id.drain(..start);
                self.has_id = true;
                self.limits.check(Field::Id, decoded_length(&self.next_id))?;
            }
            Line::Retry { millis, digits: true } => {
                self.retry_millis = millis;
                self.has_retry = true;
            }
            Line::Retry { digits: false, .. } | Line::Data | Line::Event | Line::Ignored => {}
            Line::Mark { .. } | Line::Start { .. } | Line::Name { .. } | Line::Colon(_) | Line::TooLarge(_) => {}
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Result<Option<Event>, TooLarge> {
        self.mid_event = false;
        let name = mem::take(&mut self.name);
        let data = mem::take(&mut self.data);
        let event = if mem::take(&mut self.has_data) {
            Some(Event {
                name: Some(self.decode(Field::Event, name)?).filter(|name| !matches!(name.as_str(), "" | "message")),
                data: self.decode(Field::Data, data)?,
            })
        } else {
            None
        };
        // Only now that the event cannot fail any more: the id of an event that was refused must not be acknowledged.
        self.own_id = mem::take(&mut self.has_id);
        if self.own_id {
            decode_into(&mut self.last_event_id, &self.next_id);
            self.next_id.clear();
        }
        Ok(event)
    }

    /// Counted before, but each malformed sequence of one to three bytes became a U+FFFD of three.
    fn decode(&self, field: Field, value: Value) -> Result<Text, TooLarge> {
        let text = value.into_text();
        self.limits.check(field, text.len())?;
        Ok(text)
    }
}

#[cfg(test)]
impl Parser {
    /// Address and capacity of the two buffers for ids, to see that they stay.
    pub(super) fn id_buffers(&self) -> [(*const u8, usize); 2] {
        let (last, next) = (&self.last_event_id, &self.next_id);
        [(last.as_ptr(), last.capacity()), (next.as_ptr(), next.capacity())]
    }
}
