//! `corners` has a test per rule of the standard, `memory` what the parser promises about limits and copies,
//! `properties` compares it with `reference`, a literal and slow reading of the standard; `boundary` does that with what is put
//! in between events.

mod boundary;
mod corners;
mod encode;
mod memory;
mod properties;
mod reference;

use std::time::Duration;

use bytes::Bytes;

use super::{Event, Limits, ParseError, Parser};

const ROOMY: Limits = Limits { event: 1 << 24, field: 1 << 16 };

/// All that can be seen of a parser that read a whole stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Reading {
    events: Vec<Seen>,
    last_event_id: String,
    retry: Option<Duration>,
    mid_event: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    name: Option<String>,
    data: String,
    /// The last event id when this event was returned.
    id: String,
}

fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    read_within(ROOMY, chunks).0
}

/// Also returns the error that ended the reading.
fn read_within<'a>(limits: Limits, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Reading, Option<ParseError>) {
    let mut parser = Parser::new(limits);
    let mut events = Vec::new();
    let mut failure = None;
    for chunk in chunks {
        parser.push(Bytes::copy_from_slice(chunk));
        loop {
            match parser.next() {
                Ok(Some(event)) => events.push(seen(event, &parser)),
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
    }
    let last_event_id = parser.last_event_id().to_owned();
    (Reading { events, last_event_id, retry: parser.retry(), mid_event: parser.mid_event() }, failure)
}

fn seen(event: Event, parser: &Parser) -> Seen {
    let name = event.name.map(|name| name.as_str().to_owned());
    Seen { name, data: event.data.as_str().to_owned(), id: parser.last_event_id().to_owned() }
}

/// Reads `input` whole, cut in two at each place, and byte by byte, and demands the same of all.
fn read_every_way(input: &[u8]) -> Reading {
    let whole = read([input]);
    for at in 0..=input.len() {
        let (left, right) = input.split_at(at);
        assert_eq!(read([left, right]), whole, "{:?} cut at {at}", input.escape_ascii().to_string());
    }
    assert_eq!(read(input.chunks(1)), whole, "{:?} byte by byte", input.escape_ascii().to_string());
    whole
}

fn data_of(reading: &Reading) -> Vec<&str> {
    reading.events.iter().map(|event| event.data.as_str()).collect()
}
