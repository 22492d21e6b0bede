//! An open event stream: bytes from upstream, events out.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::body::Body;
use super::endpoint::StreamCount;
use crate::protocol::sse::{Event, Limits, ParseError, Parser};
use crate::session::StreamEnd;
use crate::telemetry::chain;

/// An answer that is an event stream.
#[derive(Debug)]
pub struct EventStream {
    body: Body,
    parser: Parser,
    failure: Option<hyper::Error>,
    /// Bytes have come that were not yet told of by an event.
    heard: bool,
    /// Held for its drop alone; answers to POSTs are not counted.
    _count: Option<StreamCount>,
}

impl EventStream {
    /// A stream of which nothing has been read yet. `position` is the last event id that it continues from, or empty.
    #[must_use]
    pub fn new(body: Body, limits: Limits, position: String, count: Option<StreamCount>) -> Self {
        Self { body, parser: Parser::resume(limits, position), failure: None, heard: false, _count: count }
    }

    /// The next event, or how the stream ended. An event that the end of the body cut off is not an event.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, StreamEnd>> {
        loop {
            match self.parser.next() {
                Ok(Some(event)) => {
                    self.heard = false;
                    return Poll::Ready(Ok(event));
                }
                Ok(None) => {}
                Err(ParseError::EventTooLarge { .. }) => return Poll::Ready(Err(StreamEnd::EventTooLarge)),
                Err(ParseError::FieldTooLarge { .. }) => return Poll::Ready(Err(StreamEnd::FieldTooLarge)),
            }
            match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(chunk)) => {
                    self.heard = true;
                    self.parser.push(chunk);
                }
                Some(Err(error)) => {
                    self.failure = Some(error);
                    return Poll::Ready(Err(StreamEnd::Broken));
                }
                None => return Poll::Ready(Err(StreamEnd::Complete)),
            }
        }
    }

    /// How the stream broke off, for the log.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.as_ref().map(|error| chain(error))
    }

    /// Whether bytes came since this was last asked that made no event: a comment, or a part of an event.
    pub fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// The last event id that the stream has set.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }

    /// Whether the newest event has set that id itself.
    #[must_use]
    pub fn has_own_id(&self) -> bool {
        self.parser.has_own_id()
    }

    /// The newest reconnection time that the stream has set.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry()
    }

    /// Gives the stream up and keeps its position.
    #[must_use]
    pub fn into_position(self) -> String {
        self.parser.last_event_id().to_owned()
    }
}
