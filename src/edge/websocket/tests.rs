//! The codec, by the rules of RFC 6455 and next to the WebSocket library as a reference.

use std::io::{self, Cursor, Read, Write};

use bytes::Bytes;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket as Reference, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as ReferenceMessage};

use super::{Decoder, Received};
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::session::Violation;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// How a length is written.
#[derive(Clone, Copy, Debug)]
enum Width {
    Least,
    Two,
    Eight,
}

/// A frame of a client, by its first byte.
fn frame_with(first: u8, mask: Option<[u8; 4]>, width: Width, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![first];
    let length = payload.len();
    match (width, u8::try_from(length), u16::try_from(length)) {
        (Width::Least, Ok(length @ ..=125), _) => frame.push(masked | length),
        (Width::Least | Width::Two, _, Ok(length)) => {
            frame.extend([&[masked | 0x7E][..], &length.to_be_bytes()].concat());
        }
        _ => frame.extend([&[masked | 0x7F][..], &(length as u64).to_be_bytes()].concat()),
    }
    frame.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    frame.extend(payload.iter().zip(mask.unwrap_or_default().iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(first, Some([0x37, 0xfa, 0x21, 0x3d]), Width::Least, payload)
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// All that comes of bytes in pieces of these sizes, the last of them repeated, and what ended it.
fn decode(max: usize, bytes: &[u8], cuts: &[usize]) -> (Vec<Received>, Option<Violation>) {
    let mut decoder = Decoder::new(max);
    let mut received = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(cuts.last().copied().unwrap_or(usize::MAX)));
    while !rest.is_empty() {
        let (mut piece, behind) = rest.split_at(cuts.next().unwrap().clamp(1, rest.len()));
        rest = behind;
        loop {
            match decoder.feed(&mut piece) {
                Ok(Some(one)) => received.push(one),
                Ok(None) => break,
                Err(violation) => return (received, Some(violation)),
            }
        }
        assert!(piece.is_empty(), "bytes are left, and nothing was made of them");
    }
    (received, None)
}

/// The same, whole and cut at every byte.
fn decode_anyhow(max: usize, bytes: &[u8]) -> (Vec<Received>, Option<Violation>) {
    let whole = decode(max, bytes, &[]);
    for cut in 1..bytes.len() {
        assert_eq!(decode(max, bytes, &[cut, usize::MAX]), whole, "cut at {cut}");
    }
    assert_eq!(decode(max, bytes, &[1]), whole, "byte by byte");
    whole
}

fn text(text: &'static str) -> Received {
    Received::Message(text.into())
}

fn binary(octets: &[u8]) -> Received {
    Received::Message(Message::Binary(Bytes::copy_from_slice(octets)))
}

#[test]
fn the_examples_of_the_standard() {
    // Section 5.7. Those that are not masked are a server's; a client's are the same with a mask.
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode_anyhow(100, &hello), (vec![text("Hello")], None));
    let fragments = [frame(TEXT, b"Hel"), frame(FIN | CONTINUATION, b"lo")].concat();
    assert_eq!(decode_anyhow(100, &fragments), (vec![text("Hello")], None));
    let ping = [frame(FIN | PING, b"Hello"), frame(FIN | PONG, b"Hello")].concat();
    let received = vec![Received::Ping(Bytes::from_static(b"Hello")), Received::Pong];
    assert_eq!(decode_anyhow(100, &ping), (received, None));
    assert_eq!(decode_anyhow(1000, &frame(FIN | BINARY, &[7; 256])), (vec![binary(&[7; 256])], None));
    assert_eq!(decode(65_536, &frame(FIN | BINARY, &vec![7; 65_536]), &[1000]), (vec![binary(&vec![7; 65_536])], None));
}

#[test]
fn control_frames_may_come_between_the_frames_of_a_message() {
    let bytes = [
        frame(TEXT, "aß€".as_bytes().split_at(4).0),
        frame(FIN | PING, b"one"),
        frame(CONTINUATION, b""),
        frame(FIN | PONG, b"two"),
        frame(FIN | CONTINUATION, "aß€".as_bytes().split_at(4).1),
        frame(FIN | TEXT, b""),
        frame(FIN | BINARY, b""),
        close(4000, "bye ß".as_bytes()),
        frame(FIN | TEXT, b"behind"),
    ];
    let expected = vec![
        Received::Ping(Bytes::from_static(b"one")),
        Received::Pong,
        text("aß€"),
        text(""),
        binary(b""),
        Received::Close(Some(CloseFrame { code: 4000, reason: "bye ß".into() })),
    ];
    assert_eq!(decode_anyhow(100, &bytes.concat()), (expected, None));
}

#[test]
fn each_breach_of_the_rules_is_told_apart() {
    let head = |first: u8, second: u8, length: &[u8]| [&[first, second], length, &[0; 4]].concat();
    let unmasked = |first: u8, payload: &[u8]| frame_with(first, None, Width::Least, payload);
    let protocol = Violation::Protocol;
    for (bytes, expected) in [
        (unmasked(FIN | TEXT, b"broken"), protocol("a frame is not masked")),
        (unmasked(FIN | PING, b""), protocol("a frame is not masked")),
        (frame(FIN | 0x40 | TEXT, b"broken"), protocol("a frame has a reserved bit set")),
        (frame(FIN | 0x20 | CLOSE, b""), protocol("a frame has a reserved bit set")),
        (frame(0x10 | TEXT, b""), protocol("a frame has a reserved bit set")),
        (frame(FIN | 0x3, b""), protocol("a frame has an unknown opcode")),
        (frame(FIN | 0x7, b""), protocol("a frame has an unknown opcode")),
        (frame(FIN | 0xB, b""), protocol("a frame has an unknown opcode")),
        (frame(FIN | 0xF, b""), protocol("a frame has an unknown opcode")),
        (frame(PING, b""), protocol("a control frame is fragmented")),
        (frame(CLOSE, b""), protocol("a control frame is fragmented")),
        (frame(FIN | PONG, &[0; 126]), protocol("a control frame is larger than 125 bytes")),
        (head(FIN | PING, 0xFF, &[0xFF; 8]), protocol("a control frame is larger than 125 bytes")),
        (frame(FIN | CONTINUATION, b""), protocol("a continuation continues nothing")),
        (frame(CONTINUATION, b""), protocol("a continuation continues nothing")),
        ([frame(TEXT, b""), frame(FIN | TEXT, b"")].concat(), protocol("a message begins inside another")),
        ([frame(BINARY, b""), frame(TEXT, b"")].concat(), protocol("a message begins inside another")),
        (frame(FIN | CLOSE, &[3]), protocol("a close frame has a payload of one byte")),
        (close(1005, b""), protocol("a close frame has a code that must not be sent")),
        (close(0, b"x"), protocol("a close frame has a code that must not be sent")),
        (close(5000, b""), protocol("a close frame has a code that must not be sent")),
        (close(1000, b"\xff"), Violation::Text),
        (close(1000, b"\xe2\x82"), Violation::Text),
        (frame(TEXT, b"\xff"), Violation::Text),
        (frame(TEXT, b"\xed\xa0"), Violation::Text),
        (frame(FIN | TEXT, b"\xe2\x82"), Violation::Text),
        ([frame(TEXT, b"\xe2"), frame(FIN | CONTINUATION, b"\x82")].concat(), Violation::Text),
        ([frame(TEXT, b"\xe2"), frame(CONTINUATION, b"x")].concat(), Violation::Text),
        (frame(FIN | TEXT, &[b'x'; 201]), Violation::TooBig),
        (head(FIN | BINARY, 0xFF, &(1_u64 << 62).to_be_bytes()), Violation::TooBig),
        (head(FIN | TEXT, 0xFF, &[0xFF; 8]), Violation::TooBig),
        ([frame(TEXT, b"\xe2"), frame(FIN | CONTINUATION, &[0x82; 200])].concat(), Violation::TooBig),
    ] {
        let bytes = [frame(FIN | TEXT, b"before"), bytes, frame(FIN | PING, b"behind")].concat();
        assert_eq!(decode_anyhow(200, &bytes), (vec![text("before")], Some(expected)), "{bytes:x?}");
    }
}

#[test]
fn what_a_header_alone_breaks_is_refused_before_the_payload_comes() {
    for bytes in [&[FIN | TEXT, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4][..], &[TEXT, 5], &[FIN | PING, 0xFE, 0, 126]]
    {
        let bytes = [bytes, if bytes[1] == 0xFE { &[0; 4] } else { &[] }].concat();
        assert!(decode(1000, &bytes, &[]).1.is_some(), "{bytes:x?}");
    }
}

#[test]
fn the_limit_counts_all_frames_of_a_message_and_no_control_frame() {
    let bytes = [frame(TEXT, b"12345"), frame(FIN | PING, &[0; 125]), frame(FIN | CONTINUATION, b"67890")].concat();
    assert_eq!(decode(10, &bytes, &[]).0[1], text("1234567890"));
    assert_eq!(decode(9, &bytes, &[]).1, Some(Violation::TooBig));
    let bytes = [frame(FIN | TEXT, b"1234567890"), frame(FIN | TEXT, b"1234567890")].concat();
    assert_eq!(decode(10, &bytes, &[]).0.len(), 2);
}

#[test]
fn lengths_that_are_written_too_long_are_let_pass() {
    for width in [Width::Two, Width::Eight] {
        let bytes = frame_with(FIN | TEXT, Some([1, 2, 3, 4]), width, b"Hello");
        assert_eq!(decode_anyhow(10, &bytes), (vec![text("Hello")], None));
    }
    let bytes = frame_with(FIN | BINARY, Some([1, 2, 3, 4]), Width::Eight, &vec![7; 65_535]);
    assert_eq!(decode(65_535, &bytes, &[]), (vec![binary(&vec![7; 65_535])], None));
}

#[test]
fn after_the_end_nothing_is_heard() {
    for (ending, is_error) in [(close(1000, b""), false), (frame(FIN | CONTINUATION, b""), true)] {
        let mut decoder = Decoder::new(100);
        assert_eq!(decoder.feed(&mut &ending[..]).is_err(), is_error);
        let behind = frame(FIN | TEXT, b"behind");
        let mut bytes = &behind[..];
        assert_eq!(decoder.feed(&mut bytes), Ok(None));
        assert!(bytes.is_empty());
    }
}

/// What the library makes of the same bytes. A close frame with a code that must not be sent comes out of it as one with
/// another; here that is an error.
fn reference(max: usize, bytes: &[u8]) -> (Vec<Received>, bool) {
    struct Stream<'a>(Cursor<&'a [u8]>);
    impl Read for Stream<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Stream<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let config = WebSocketConfig::default().max_message_size(Some(max)).max_frame_size(Some(max.max(125)));
    let mut socket = Reference::from_raw_socket(Stream(Cursor::new(bytes)), Role::Server, Some(config));
    let mut received = Vec::new();
    loop {
        received.push(match socket.read() {
            Ok(ReferenceMessage::Text(text)) => Received::Message(Message::Text(text)),
            Ok(ReferenceMessage::Binary(octets)) => Received::Message(Message::Binary(octets)),
            Ok(ReferenceMessage::Ping(payload)) => Received::Ping(payload),
            Ok(ReferenceMessage::Pong(_)) => Received::Pong,
            Ok(ReferenceMessage::Close(Some(frame))) if frame.reason == "Protocol violation" => {
                return (received, true);
            }
            Ok(ReferenceMessage::Close(frame)) => {
                Received::Close(frame.map(|frame| CloseFrame { code: frame.code.into(), reason: frame.reason }))
            }
            Ok(ReferenceMessage::Frame(_)) => unreachable!("reading gives no bare frames"),
            Err(Error::Protocol(error)) if error.to_string().contains("without closing handshake") => {
                return (received, false);
            }
            Err(Error::ConnectionClosed) => return (received, false),
            Err(_) => return (received, true),
        });
    }
}

const WORDS: &[&[u8]] = &[b"", b"tide", "ß".as_bytes(), "€".as_bytes(), "😀".as_bytes(), b"0123456789abcdef0123456789"];

/// A message in frames with control frames among them, cut anywhere, also inside a character.
fn fragmented() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(prop::sample::select(WORDS), 0..6);
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..5);
    (any::<bool>(), words, cuts, any::<[u8; 4]>()).prop_map(|(is_text, words, mut cuts, mask)| {
        let payload = words.concat();
        let mut first = if is_text { TEXT } else { BINARY };
        let mut frames = Vec::new();
        let mut from = 0;
        cuts.sort_by_key(|(cut, _)| cut.index(payload.len() + 1));
        for (cut, ping) in cuts {
            let cut = cut.index(payload.len() + 1);
            frames.extend(frame_with(first, Some(mask), Width::Least, &payload[from..cut]));
            if ping {
                frames.extend(frame_with(FIN | PING, Some(mask), Width::Least, b"between"));
            }
            (first, from) = (CONTINUATION, cut);
        }
        frames.extend(frame_with(FIN | first, Some(mask), Width::Least, &payload[from..]));
        frames
    })
}

/// Any one frame, mostly with something wrong.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let width = prop::sample::select(&[Width::Least, Width::Two, Width::Eight][..]);
    let payload = prop_oneof![
        prop::sample::select(WORDS).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..8),
        (900..6000_u16, "[a-zß]{0,3}").prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
        (0..140_usize).prop_map(|size| vec![b'x'; size]),
    ];
    let mask = prop::option::weighted(0.95, any::<[u8; 4]>());
    let first = prop_oneof![
        4 => (prop::sample::select(&[CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG][..]), any::<bool>())
            .prop_map(|(opcode, fin)| opcode | if fin { FIN } else { 0 }),
        1 => any::<u8>(),
    ];
    (first, mask, width, payload).prop_map(|(first, mask, width, payload)| frame_with(first, mask, width, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn frames_mean_what_they_mean_to_the_library_however_they_are_cut(
        frames in prop::collection::vec(prop_oneof![3 => fragmented(), 1 => any_frame()], 0..8),
        cuts in prop::collection::vec(1..40_usize, 0..12),
        max in 60..200_usize,
    ) {
        let bytes = frames.concat();
        let (received, violation) = decode(max, &bytes, &cuts);
        let (expected, is_error) = reference(max, &bytes);
        prop_assert_eq!(received, expected);
        prop_assert_eq!(violation.is_some(), is_error);
    }

    #[test]
    fn bytes_of_any_kind_are_taken_or_refused_alike_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(1..40_usize, 0..12),
    ) {
        prop_assert_eq!(decode(100, &bytes, &cuts), decode(100, &bytes, &[]));
    }
}
