use bytes::Bytes;

use super::{Limits, ParseError, ROOMY, data_of, read, read_within};
use crate::protocol::{
    Text,
    sse::{Event, Parser, value::Value},
};

const TIGHT: Limits = Limits { event: 5, field: 3 };
const EVENT_TOO_LARGE: ParseError = ParseError::EventTooLarge { limit: 5 };

fn too_large(field: &'static str) -> ParseError {
    ParseError::FieldTooLarge { field, limit: 3 }
}

/// The error, which must not depend on how the input is cut.
fn failure(input: &[u8]) -> Option<ParseError> {
    let (whole, failure) = read_within(TIGHT, [input]);
    for at in 0..=input.len() {
        let (left, right) = input.split_at(at);
        let (reading, same) = read_within(TIGHT, [left, right]);
        assert_eq!((reading.events, same), (whole.events.clone(), failure), "{input:?} cut at {at}");
    }
    let (reading, same) = read_within(TIGHT, input.chunks(1));
    assert_eq!((reading.events, same), (whole.events, failure), "{input:?} byte by byte");
    failure
}

fn events(parser: &mut Parser, chunk: &Bytes) -> Vec<Event> {
    parser.push(chunk.clone());
    std::iter::from_fn(|| parser.next().expect("within limits")).collect()
}

fn lies_within(text: &Text, chunk: &Bytes) -> bool {
    let (text, chunk) = (text.as_bytes().as_ptr_range(), chunk.as_ptr_range());
    chunk.start <= text.start && text.end <= chunk.end
}

#[test]
fn the_limit_on_data_is_inclusive_and_counts_line_feeds_between_lines() {
    assert_eq!(failure(b"data: 12345\n\n"), None);
    assert_eq!(failure(b"data: 123456\n\n"), Some(EVENT_TOO_LARGE));
    assert_eq!(failure(b"data: 12\ndata: 45\n\n"), None);
    assert_eq!(failure(b"data: 12\ndata: 456\n\n"), Some(EVENT_TOO_LARGE));
    assert_eq!(failure(b"data: 1234\ndata\n\n"), None);
    assert_eq!(failure(b"data: 12345\ndata\n\n"), Some(EVENT_TOO_LARGE));
    assert_eq!(failure(&b"data\n".repeat(6)), None);
    assert_eq!(failure(&b"data\n".repeat(7)), Some(EVENT_TOO_LARGE));
}

#[test]
fn the_limit_on_data_is_per_event() {
    assert_eq!(failure(&b"data: 12345\n\n".repeat(9)), None);
}

#[test]
fn limits_on_name_and_id_are_inclusive() {
    assert_eq!(failure(b"event: abc\nid: 123\ndata\n\n"), None);
    assert_eq!(failure(b"event: abcd\n"), Some(too_large("event")));
    assert_eq!(failure(b"id: 1234\n"), Some(too_large("id")));
    assert_eq!(failure(b"id: 123\nid: 456\nid: 789\n\nid: 123\n\n"), None);
    assert_eq!(failure(b"id: 123\nid: 4567\n\n"), Some(too_large("id")));
}

#[test]
fn an_id_with_nul_within_the_limit_is_ignored_whatever_its_length() {
    assert_eq!(failure(b"id: 123\0abcdef\n\n"), None);
    assert_eq!(failure(b"id: 1234\0\n\n"), Some(too_large("id")));
}

#[test]
fn limits_count_the_bytes_of_the_text_that_is_returned() {
    assert_eq!(failure(b"data: 12\xFF\n\n"), None);
    assert_eq!(failure(b"data: 123\xFF\n\n"), Some(EVENT_TOO_LARGE));
    assert_eq!(failure(b"id: \xFF\n\nevent: \xFF\ndata\n\n"), None);
    assert_eq!(failure(b"id: 1\xFF\n\n"), Some(too_large("id")));
    assert_eq!(failure(b"event: 1\xFF\ndata\n\n"), Some(too_large("event")));
}

#[test]
fn what_is_skipped_has_no_limit_and_is_not_kept() {
    let long = "x".repeat(100_000);
    let input = format!(":{long}\n{long}\n{long}: {long}\nfoo:{long}\nretry: 1{long}\nid: \0{long}\ndata: a\n\n");
    for size in [1, 7, 4096, input.len()] {
        let (reading, failure) = read_within(TIGHT, input.as_bytes().chunks(size));
        assert_eq!((data_of(&reading), failure), (vec!["a"], None));
    }
}

#[test]
fn an_error_stays() {
    let mut parser = Parser::new(TIGHT);
    parser.push(Bytes::from_static(b"id: 1\ndata: ok\n\nid: 2\ndata: 123456\n\ndata: b\n\n"));
    assert_eq!(parser.next().map(|event| event.map(|event| event.data)), Ok(Some(Text::from_static("ok"))));
    for _ in 0..3 {
        assert_eq!(parser.next(), Err(EVENT_TOO_LARGE));
        parser.push(Bytes::from_static(b"\n\ndata: c\n\n"));
    }
    assert_eq!(parser.last_event_id(), "1");
}

#[test]
fn the_id_of_an_event_refused_when_decoded_is_not_acknowledged() {
    let (reading, failure) = read_within(TIGHT, [b"id: 1\ndata: \xFF\xFF\n\n".as_slice()]);
    assert_eq!((reading.last_event_id.as_str(), failure), ("", Some(EVENT_TOO_LARGE)));
}

#[test]
fn data_within_one_chunk_is_not_copied() {
    let chunk = Bytes::from(b"event: tide\ndata: rising\n\n:\ndata:high\r\n\r\ndata: \xC3\xA9\rid: 1\r\r".to_vec());
    let events = events(&mut Parser::new(ROOMY), &chunk);
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| lies_within(&event.data, &chunk)));
    assert!(events[0].name.as_ref().is_some_and(|name| lies_within(name, &chunk)));
}

#[test]
fn a_cut_before_or_after_the_event_makes_no_copy_of_it() {
    let mut parser = Parser::new(ROOMY);
    events(&mut parser, &Bytes::from_static(b"data: a\n\nid: 7\nevent: x\nda"));
    let chunk = Bytes::from(b"ta: rising\n\ndata: b".to_vec());
    assert!(lies_within(&events(&mut parser, &chunk)[0].data, &chunk));
}

#[test]
fn several_lines_are_put_together() {
    let chunk = Bytes::from_static(b"data: a\ndata: b\n\n");
    let events = events(&mut Parser::new(ROOMY), &chunk);
    assert_eq!(events[0].data, "a\nb");
    assert!(!lies_within(&events[0].data, &chunk));
}

#[test]
fn a_used_up_chunk_is_let_go_of() {
    for input in
        ["data: a\n\n", "id: 1\nevent: x\ndata: cut", "event: cut", "id: cut", ": cut", "data: a\n", "retry: 1"]
    {
        let mut parser = Parser::new(ROOMY);
        let chunk = Bytes::from(input.as_bytes().to_vec());
        drop(events(&mut parser, &chunk));
        assert!(chunk.is_unique(), "{input:?}");
    }
}

#[test]
fn the_chunk_is_let_go_of_with_its_last_event() {
    let mut parser = Parser::new(ROOMY);
    let chunk = Bytes::from(b"data: a\n\n".to_vec());
    parser.push(chunk.clone());
    assert!(parser.next().is_ok_and(|event| event.is_some()));
    assert!(chunk.is_unique());
}

#[test]
fn an_error_lets_go_of_the_chunk() {
    let mut parser = Parser::new(TIGHT);
    let chunk = Bytes::from(b"event: x\ndata: 1234\ndata: 5\ndata: b\n\n".to_vec());
    parser.push(chunk.clone());
    assert_eq!(parser.next(), Err(EVENT_TOO_LARGE));
    assert!(chunk.is_unique());
}

#[test]
fn a_push_too_early_loses_nothing() {
    let mut parser = Parser::new(ROOMY);
    parser.push(Bytes::from_static(b"data: a\n\ndata: b"));
    assert!(parser.next().is_ok_and(|event| event.is_some_and(|event| event.data == "a")));
    parser.push(Bytes::from_static(b"c\n\n"));
    assert!(parser.next().is_ok_and(|event| event.is_some_and(|event| event.data == "bc")));
}

#[test]
fn a_resumed_stream_keeps_the_id_until_it_brings_one() {
    let mut parser = Parser::resume(ROOMY, "41".to_owned());
    assert_eq!(parser.last_event_id(), "41");
    events(&mut parser, &Bytes::from_static(b"data: a\n\n"));
    assert_eq!(parser.last_event_id(), "41");
    events(&mut parser, &Bytes::from_static(b"id\n\n"));
    assert_eq!(parser.last_event_id(), "");
}

#[test]
fn ids_reuse_their_buffers() {
    let mut parser = Parser::new(ROOMY);
    events(&mut parser, &Bytes::from_static(b"id: 1000\ndata\n\nid: 1001\ndata\n\n"));
    let buffers = parser.id_buffers();
    assert!(buffers.iter().all(|(_, capacity)| *capacity > 0));
    for id in 1002..2000 {
        events(&mut parser, &Bytes::from(format!("id: {id}\ndata\n\n")));
        assert_eq!(parser.last_event_id(), id.to_string());
        assert_eq!(parser.id_buffers(), buffers);
    }
}

#[test]
fn an_idle_parser_is_small() {
    assert!(size_of::<Parser>() < 200, "{}", size_of::<Parser>());
}

#[test]
fn a_value_in_many_pieces_is_seldom_moved() {
    let chunk = Bytes::from_static(b"x");
    let mut value = Value::default();
    let mut moves = 0;
    let mut room = 0;
    for _ in 0..1 << 16 {
        value.append(&chunk, &chunk);
        value.detach();
        let Value::Owned(bytes) = &value else { panic!("still a slice") };
        if bytes.capacity() != room {
            (moves, room) = (moves + 1, bytes.capacity());
        }
    }
    assert!(moves < 32, "{moves}");
}

/// Takes minutes rather than a moment if any step looks again at what was read before.
#[test]
fn a_megabyte_in_chunks_of_one_byte_is_read_in_linear_time() {
    let long = "x".repeat(1 << 20);
    let many = "data: y\n".repeat(1 << 15);
    let input = format!("data: {long}\n\n:{long}\nid: {}\n{long}: z\n{many}\n", &long[..ROOMY.field]);
    let reading = read(input.as_bytes().chunks(1));
    assert_eq!(reading.events[0].data, long);
    assert_eq!(reading.events[1].data.len(), (2 << 15) - 1);
    assert_eq!(reading.last_event_id.len(), ROOMY.field);
}
