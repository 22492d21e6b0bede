//! The frames of a tunnel: their ends are found where a plain reading of RFC 6455 section 5.2 finds them, however the bytes
//! are cut.

use tidegate::tunnel::frames::Frames;

/// What a plain reading finds: how many bytes are whole frames, whether what follows is none, messages and their bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    whole: usize,
    is_broken: bool,
    messages: u64,
    bytes: u64,
}

fn read(bytes: &[u8], masked: bool) -> Found {
    let mut found = Found::default();
    loop {
        let rest = &bytes[found.whole..];
        let [first, second, ..] = *rest else { return found };
        let is_control = first & 0x08 != 0;
        let short = u64::from(second & 0x7f);
        if (second & 0x80 != 0) != masked || (is_control && (first & 0x80 == 0 || short > 125)) {
            return Found { is_broken: true, ..found };
        }
        let length_size = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let header = 2 + length_size + if masked { 4 } else { 0 };
        if rest.len() < header {
            return found;
        }
        let length = rest[2..2 + length_size].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        let length = if length_size == 0 { short } else { length };
        if length >> 63 != 0 {
            return Found { is_broken: true, ..found };
        }
        let there = ((rest.len() - header) as u64).min(length);
        if !is_control {
            found.bytes += there;
        }
        if there < length {
            return found;
        }
        found.whole += header + usize::try_from(there).unwrap();
        found.messages += u64::from(!is_control && first & 0x80 != 0);
    }
}

/// The first byte says whose frames they are and where they are cut.
pub fn check(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else { return };
    let masked = first & 1 != 0;
    let new = || if masked { Frames::of_client() } else { Frames::of_server() };
    let expected = read(bytes, masked);
    let mut frames = new();
    let followed = frames.follow(bytes);
    assert_eq!(followed.is_err(), expected.is_broken);
    match followed {
        Err(breach) => assert_eq!(breach.whole, expected.whole),
        Ok(()) => assert_eq!(frames.is_between(), expected.whole == bytes.len()),
    }
    assert_eq!((frames.messages(), frames.bytes()), (expected.messages, expected.bytes));

    let mut cut = new();
    let mut followed = Ok(());
    for piece in bytes.chunks(usize::from(first >> 1) + 1) {
        let (between, rest) = (cut.is_between(), cut.rest_of_frame(piece));
        assert!(rest <= piece.len() && (rest == 0) == between);
        followed = cut.follow(piece);
        if followed.is_err() {
            break;
        }
    }
    assert_eq!(followed.is_err(), expected.is_broken);
    assert_eq!((cut.messages(), cut.bytes(), cut.closed()), (frames.messages(), frames.bytes(), frames.closed()));
}
