//! An event stream: the standard's events however it is cut, and nothing held above the limits.

use std::time::Duration;

use bytes::Bytes;
use tidegate::protocol::sse::{Limits, ParseError, Parser, encode};

use super::script::cut;

/// The standard's steps one by one, as the parser's own tests have them.
#[path = "../../../src/protocol/sse/tests/reference.rs"]
mod reference;

const ROOMY: Limits = Limits { event: 1 << 24, field: 1 << 16 };
const TIGHT: Limits = Limits { event: 24, field: 8 };

/// All that can be seen of a parser that read a whole stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    events: Vec<Seen>,
    failure: Option<ParseError>,
    last_event_id: String,
    retry: Option<Duration>,
    mid_event: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    name: Option<String>,
    data: String,
    id: String,
}

/// First byte: the limits (even: roomy) and where to cut; the others are the stream.
pub fn check(input: &[u8]) {
    let Some((&choice, stream)) = input.split_first() else { return };
    let limits = if choice % 2 == 0 { ROOMY } else { TIGHT };
    let whole = read(limits, &[stream]);
    if limits == ROOMY {
        assert_eq!(whole, reference::read(stream), "read otherwise than the standard says");
    }
    assert_eq!(read(limits, &stream.chunks(1).collect::<Vec<_>>()), whole, "read byte by byte");
    assert_eq!(read(limits, &cut(stream, choice)), whole, "read in pieces");
    assert_eq!(read_late(limits, &cut(stream, choice)), whole.events, "read after all was pushed");
    for event in &whole.events {
        comes_back(event);
    }
}

fn read(limits: Limits, chunks: &[&[u8]]) -> Reading {
    let mut parser = Parser::new(limits);
    let mut reading = Reading::default();
    for chunk in chunks {
        let chunk = Bytes::copy_from_slice(chunk);
        parser.push(chunk.clone());
        reading.failure = next_events(&mut parser, limits, &mut reading.events);
        assert!(chunk.is_empty() || chunk.is_unique(), "a chunk is held after it was read");
        // Formatting costs more than parsing: only where there are few chunks.
        if chunks.len() < 64 {
            holds_little(&parser, limits);
        }
    }
    parser.last_event_id().clone_into(&mut reading.last_event_id);
    reading.retry = parser.retry();
    reading.mid_event = parser.mid_event();
    reading
}

/// Pushes all before the first event is asked for.
fn read_late(limits: Limits, chunks: &[&[u8]]) -> Vec<Seen> {
    let mut parser = Parser::new(limits);
    for chunk in chunks {
        parser.push(Bytes::copy_from_slice(chunk));
    }
    let mut events = Vec::new();
    next_events(&mut parser, limits, &mut events);
    events
}

fn next_events(parser: &mut Parser, limits: Limits, events: &mut Vec<Seen>) -> Option<ParseError> {
    loop {
        match parser.next() {
            Ok(Some(event)) => {
                let name = event.name.map(|name| name.as_str().to_owned());
                let (data, id) = (event.data.as_str().to_owned(), parser.last_event_id().to_owned());
                assert!(data.len() <= limits.event && id.len() <= limits.field, "above the limits");
                assert!(name.as_ref().is_none_or(|name| name.len() <= limits.field), "a name above the limit");
                events.push(Seen { name, data, id });
            }
            Ok(None) => return None,
            Err(error) => {
                assert_eq!(parser.next().err(), Some(error), "an error goes away");
                return Some(error);
            }
        }
    }
}

/// The debug form shows all that a parser holds, a byte as at most five characters and an id twice.
fn holds_little(parser: &Parser, limits: Limits) {
    if limits == TIGHT {
        let shown = format!("{parser:?}").len();
        let bound = 600 + 5 * (limits.event + 4 * limits.field);
        assert!(shown <= bound, "{shown} characters of state, {bound} expected: {parser:?}");
    }
}

/// What was read can be written, and reads the same.
fn comes_back(event: &Seen) {
    // The format reads a NUL in a name, and the writer will not write one.
    if event.name.as_ref().is_some_and(|name| name.contains('\0')) {
        return;
    }
    let written = encode(event.name.as_deref(), Some(&event.id), &event.data);
    let written = written.unwrap_or_else(|error| panic!("{event:?} cannot be written: {error}"));
    let again = read(ROOMY, &[written.as_bytes()]);
    assert_eq!(again.events.as_slice(), std::slice::from_ref(event), "written as {written:?}");
}
