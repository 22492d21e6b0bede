//! An open event stream: bytes from upstream, events out.

use std::task::{Context, Poll, ready};

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
    /// Held for its drop alone; answers to POSTs are not counted.
    _count: Option<StreamCount>,
}

impl EventStream {
    /// A stream of which nothing has been read yet.
    #[must_use]
    pub fn new(body: Body, limits: Limits, count: Option<StreamCount>) -> Self {
        Self { body, parser: Parser::new(limits), failure: None, _count: count }
    }

    /// The next event, or how the stream ended. An event that the end of the body cut off is not an event.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, StreamEnd>> {
        loop {
            match self.parser.next() {
                Ok(Some(event)) => return Poll::Ready(Ok(event)),
                Ok(None) => {}
                Err(ParseError::EventTooLarge { .. }) => return Poll::Ready(Err(StreamEnd::EventTooLarge)),
                Err(ParseError::FieldTooLarge { .. }) => return Poll::Ready(Err(StreamEnd::FieldTooLarge)),
            }
            match ready!(self.body.poll_chunk(cx)) {
                Some(Ok(chunk)) => self.parser.push(chunk),
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

    /// The last event id that the stream has set.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }
}
