//! What is put in between events changes none of them, wherever chunks end.

use bytes::Bytes;
use proptest::prelude::*;

use super::properties::{cut, lengths, stream};
use super::{Reading, reference};
use crate::protocol::sse::{Boundary, Mark, encode};

/// The stream as it goes out: without its mark, and with `extra` at every place between chunks where that may stand.
fn with_extras(input: &[u8], lengths: &[usize], extra: &[u8]) -> (Vec<u8>, usize) {
    let (mut boundary, mut mark, mut out, mut put) = (Boundary::default(), Mark::default(), Vec::new(), 0);
    let mut put_in = |boundary: &Boundary, out: &mut Vec<u8>| {
        if boundary.is_between() {
            out.extend_from_slice(extra);
            put += 1;
        }
    };
    put_in(&boundary, &mut out);
    for chunk in cut(input, lengths) {
        let (before, chunk) = mark.take_off(Bytes::copy_from_slice(chunk));
        for piece in [before, &chunk] {
            boundary.pass(piece);
            out.extend_from_slice(piece);
        }
        put_in(&boundary, &mut out);
    }
    let rest = mark.rest();
    boundary.pass(rest);
    out.extend_from_slice(rest);
    (out, put)
}

/// What the standard makes of a stream, but for `mid_event`: half a mark is cut from it, or stands in its first line.
fn read(stream: &[u8]) -> Reading {
    Reading { mid_event: false, ..reference::read(stream) }
}

fn places(stream: &[u8]) -> Vec<usize> {
    let mut boundary = Boundary::default();
    let between = |at: usize| {
        if let Some(byte) = at.checked_sub(1).and_then(|at| stream.get(at)) {
            boundary.pass(&[*byte]);
        }
        boundary.is_between().then_some(at)
    };
    (0..=stream.len()).filter_map(between).collect()
}

#[test]
fn between_events_is_after_the_blank_line_that_ends_one() {
    assert_eq!(places(b"data: x\n\ndata: y\n\n"), [0, 9, 18]);
    assert_eq!(places(b"data: x\r\n\r\ndata"), [0, 11], "and not between CR and LF");
    assert_eq!(places(b"data: x\r\rdata"), [0, 9], "where each CR is a line end of its own");
    assert_eq!(places(b"id: 1\n\nretry: 5\n\n"), [0, 7, 17], "blocks without data are blocks");
    assert_eq!(places(b": hi\n\n"), [0, 5, 6], "comments belong to no event");
    assert_eq!(places(b"data: x\n: hi\n\n"), [0, 14], "but may stand in the middle of one");
    assert_eq!(places(b"\n\n"), [0, 1, 2]);
}

#[test]
fn an_event_is_seen_to_end_and_a_comment_is_none() {
    let mut boundary = Boundary::default();
    assert!(!boundary.pass(b": heartbeat\n\n"));
    assert!(!boundary.pass(b"data: x\n"));
    assert!(boundary.pass(b"\ndata"));
    assert!(!boundary.is_between());
}

#[test]
fn a_byte_order_mark_goes_in_any_pieces_and_half_a_mark_stays() {
    let through = |pieces: &[&'static [u8]]| {
        let mut mark = Mark::default();
        let mut out = Vec::new();
        for piece in pieces {
            let (before, piece) = mark.take_off(Bytes::from_static(piece));
            out.extend_from_slice(before);
            out.extend_from_slice(&piece);
        }
        out.extend_from_slice(mark.rest());
        out
    };
    assert_eq!(through(&[b"\xEF", b"\xBB", b"\xBFdata"]), b"data");
    assert_eq!(through(&[b"\xEF\xBB\xBF\xEF\xBB\xBF"]), b"\xEF\xBB\xBF", "one, and no second");
    assert_eq!(through(&[b"\xEF\xBB", b"x"]), b"\xEF\xBBx");
    assert_eq!(through(&[b"\xEF\xBB"]), b"\xEF\xBB");
    assert_eq!(through(&[b"", b"data\xEF\xBB\xBF"]), b"data\xEF\xBB\xBF");
}

#[test]
fn ten_thousand_events_come_through_whole_with_heartbeats_at_every_chunk() {
    let events: String = (0..10_000)
        .map(|number| encode(Some("tick"), Some(&number.to_string()), &format!("one\ntwo {number}")).unwrap())
        .collect();
    for end in ["\n", "\r\n", "\r"] {
        let events = events.replace('\n', end);
        let lengths: Vec<usize> = (0..997).map(|at| 1 + at * 31 % 61).collect();
        let (out, put) = with_extras(events.as_bytes(), &lengths, b":\n\n");
        assert!(put > 100, "{put} were put in");
        assert_eq!(reference::read(&out), reference::read(events.as_bytes()), "{end:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_heartbeat_changes_nothing_wherever_it_is_put_in(input in stream(), lengths in lengths()) {
        let (out, _) = with_extras(&input, &lengths, b":\n\n");
        prop_assert_eq!(read(&out), read(&input));
    }

    #[test]
    fn a_reconnection_time_changes_nothing_else(input in stream(), lengths in lengths()) {
        let (out, _) = with_extras(&input, &lengths, b"retry: 77\n\n");
        prop_assert_eq!(Reading { retry: None, ..read(&out) }, Reading { retry: None, ..read(&input) });
    }

    #[test]
    fn the_chunks_make_no_difference(input in stream(), lengths in lengths()) {
        let (mut whole, mut pieces) = (Boundary::default(), Boundary::default());
        let ended = whole.pass(&input);
        let mut ended_in_pieces = false;
        for chunk in cut(&input, &lengths) {
            ended_in_pieces |= pieces.pass(chunk);
        }
        prop_assert_eq!((ended, whole.is_between()), (ended_in_pieces, pieces.is_between()));
    }
}
