use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{Reading, Seen, read, reference};
use crate::protocol::sse::encode;

/// The words of the format and all that may confuse its reader, far more often than chance would bring them.
const PIECES: [&[u8]; 38] = [
    b"data",
    b"event",
    b"id",
    b"retry",
    b"data:",
    b"data: ",
    b"event: ",
    b"id: ",
    b"retry: ",
    b":",
    b" ",
    b"  ",
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\r\r",
    b"\r\n\r\n",
    b"\n\r",
    b"\xEF\xBB\xBF",
    b"\xEF",
    b"\xBB",
    b"\0",
    b"x",
    b"message",
    b"1",
    b"250",
    b"99999999999999999999",
    "é".as_bytes(),
    "€".as_bytes(),
    "🌊".as_bytes(),
    b"\xE2\x82",
    b"\xF0\x9F\x8C",
    b"\xFF",
    b"\xED\xA0\x80",
    b"Data: ",
    b"da",
];

pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        12 => select(PIECES.as_slice()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
        4 => (select(PIECES.as_slice()), select(PIECES.as_slice()))
            .prop_map(|(name, value)| [name, b": ", value, b"\n"].concat()),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Cuts `input` into chunks of these lengths, over and over. A length of zero is an empty chunk.
pub(super) fn cut<'a>(mut input: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for &length in lengths.iter().cycle() {
        if input.is_empty() {
            break;
        }
        let (chunk, rest) = input.split_at(length.min(input.len()));
        chunks.push(chunk);
        input = rest;
    }
    chunks
}

pub(super) fn lengths() -> impl Strategy<Value = Vec<usize>> {
    // The leading length is never zero, so that every cycle makes progress.
    (1..40_usize, vec(0..12_usize, 0..20)).prop_map(|(first, more)| [vec![first], more].concat())
}

fn value() -> impl Strategy<Value = String> {
    let letter = prop_oneof![4 => select(vec![' ', ':', '\u{FEFF}', 'é', '🌊', 'x']), 1 => any::<char>()];
    vec(letter, 0..8).prop_map(|letters| letters.into_iter().filter(|letter| !"\r\n\0".contains(*letter)).collect())
}

fn data() -> impl Strategy<Value = String> {
    let letter = prop_oneof![4 => select(vec!['\r', '\n', ' ', ':', '\0', '\u{FEFF}', '🌊']), 2 => any::<char>()];
    vec(letter, 0..20).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_in_any_chunks_reads_as_the_reference_does(input in stream(), lengths in lengths()) {
        prop_assert_eq!(read(cut(&input, &lengths)), reference::read(&input));
    }

    #[test]
    fn what_is_encoded_comes_back(
        events in vec((option::of(value()), option::of(value()), data()), 0..5),
        lengths in lengths(),
    ) {
        let mut stream = String::new();
        let mut expected = Reading::default();
        for (name, id, data) in &events {
            stream += &encode(name.as_deref(), id.as_deref(), data)?;
            expected.last_event_id = id.clone().unwrap_or(expected.last_event_id);
            expected.events.push(Seen {
                name: name.clone().filter(|name| !name.is_empty()),
                data: data.replace("\r\n", "\n").replace('\r', "\n"),
                id: expected.last_event_id.clone(),
            });
        }
        prop_assert_eq!(read(cut(stream.as_bytes(), &lengths)), expected);
    }
}
