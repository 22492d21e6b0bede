use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use super::*;

/// A frame as another library writes it.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut header = FrameHeader { is_final, opcode, ..FrameHeader::default() };
    if masked {
        header.mask = Some([0x37, 0xfa, 0x21, 0x3d]);
    }
    let mut bytes = Vec::new();
    Frame::from_payload(header, payload.to_vec().into()).format(&mut bytes).unwrap();
    bytes
}

fn text(payload: &[u8], masked: bool) -> Vec<u8> {
    frame(OpCode::Data(Data::Text), true, payload, masked)
}

#[test]
fn messages_are_counted_and_not_their_fragments_or_the_pings_between_them() {
    let mut frames = Frames::of_client();
    for (opcode, is_final, payload) in [
        (OpCode::Data(Data::Text), false, &b"Hel"[..]),
        (OpCode::Control(Control::Ping), true, b"are you there"),
        (OpCode::Data(Data::Continue), true, b"lo"),
        (OpCode::Data(Data::Binary), true, b""),
        (OpCode::Control(Control::Pong), true, b""),
    ] {
        frames.follow(&frame(opcode, is_final, payload, true)).unwrap();
        assert!(frames.is_between());
    }
    assert_eq!((frames.messages(), frames.bytes(), frames.closed()), (2, 5, None));
}

#[test]
fn the_code_of_the_first_close_frame_is_read_through_its_mask() {
    for masked in [false, true] {
        let mut frames = Frames::new(masked);
        let close = frame(OpCode::Control(Control::Close), true, b"\x0f\xa1bye", masked);
        for byte in close {
            assert_eq!(frames.closed(), None, "it has not come whole");
            frames.follow(&[byte]).unwrap();
        }
        assert_eq!(frames.closed(), Some(Closed { code: Some(4001) }));
        frames.follow(&frame(OpCode::Control(Control::Close), true, b"\x03\xe8", masked)).unwrap();
        assert_eq!(frames.closed(), Some(Closed { code: Some(4001) }));
    }
    let mut frames = Frames::of_server();
    frames.follow(&[0x88, 0]).unwrap();
    assert_eq!(frames.closed(), Some(Closed { code: None }));
}

#[test]
fn what_is_no_frame_is_told_with_what_came_before_it() {
    let whole = text(b"Hello", true);
    for (bad, how) in [
        (&[0x81, 0x05][..], "a frame is not masked"),
        (&[0x09, 0x80], "a control frame is fragmented"),
        (&[0x88, 0xfe], "a control frame is longer than 125 bytes"),
        (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], "the length of a frame has its highest bit set"),
    ] {
        let bytes = [&whole[..], bad].concat();
        assert_eq!(Frames::of_client().follow(&bytes), Err(Breach { whole: whole.len(), how }));
    }
    let how = "a frame is masked";
    assert_eq!(Frames::of_server().follow(&whole), Err(Breach { whole: 0, how }));
}

#[test]
fn what_endpoints_agree_on_between_themselves_passes() {
    // A compressed message (RFC 7692 section 6), a reserved opcode, a continuation of nothing.
    for bytes in [[0xc1, 0], [0x83, 0], [0x8b, 0], [0x80, 0]] {
        assert_eq!(Frames::of_server().follow(&bytes), Ok(()), "{bytes:?}");
    }
}

#[test]
fn a_close_frame_of_ours_is_one_for_both_sides() {
    let long = "x".repeat(200);
    for (key, reason) in [(None, "shutdown"), (Some([1, 2, 3, 4]), "shutdown"), (Some([9; 4]), ""), (None, &long)] {
        let bytes = close_frame(1001, reason, key);
        let mut frames = Frames::new(key.is_some());
        frames.follow(&bytes).unwrap();
        assert!(frames.is_between() && bytes.len() <= 131);
        assert_eq!(frames.closed(), Some(Closed { code: Some(1001) }));
    }
    assert_eq!(close_frame(1000, "", None), [0x88, 2, 0x03, 0xe8]);
}

/// Frames that are sound, with the places where each of them ends.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<usize>, u64)> {
    let one = (0..4u8, any::<bool>(), prop_oneof![0..4usize, 120..130usize, 65_530..65_540usize]);
    prop::collection::vec(one, 0..8).prop_map(|frames| {
        let (mut bytes, mut ends, mut messages) = (Vec::new(), Vec::new(), 0);
        for (kind, is_final, size) in frames {
            let opcode = match kind {
                0 => OpCode::Data(Data::Text),
                1 => OpCode::Data(Data::Continue),
                2 => OpCode::Control(Control::Ping),
                _ => OpCode::Control(Control::Close),
            };
            let is_control = kind >= 2;
            let size = if is_control { size % 126 } else { size };
            bytes.extend(frame(opcode, is_final || is_control, &vec![0xa5; size], true));
            messages += u64::from(is_final && !is_control);
            ends.push(bytes.len());
        }
        (bytes, ends, messages)
    })
}

proptest! {
    #[test]
    fn the_ends_of_frames_are_found_however_the_bytes_are_cut(
        (bytes, ends, messages) in stream(),
        cuts in prop::collection::vec(1..5000usize, 1..40),
    ) {
        let mut frames = Frames::of_client();
        let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
        while at < bytes.len() {
            let next = (at + cuts.next().unwrap()).min(bytes.len());
            let rest = frames.rest_of_frame(&bytes[at..]);
            let end = ends.iter().find(|end| **end > at).copied().unwrap();
            prop_assert_eq!(rest, if frames.is_between() { 0 } else { end - at });
            frames.follow(&bytes[at..next]).unwrap();
            at = next;
            prop_assert_eq!(frames.is_between(), at == 0 || ends.contains(&at));
        }
        prop_assert_eq!(frames.messages(), messages);
    }

    #[test]
    fn no_bytes_make_it_panic_and_cutting_them_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..300usize) {
        let (mut whole, mut halves) = (Frames::of_client(), Frames::of_client());
        let cut = cut.min(bytes.len());
        let one = whole.follow(&bytes).map_err(|breach| breach.how);
        let other = halves.follow(&bytes[..cut]).and_then(|()| halves.follow(&bytes[cut..])).map_err(|breach| breach.how);
        prop_assert_eq!(one, other);
        if one.is_ok() {
            prop_assert_eq!((whole.is_between(), whole.messages(), whole.bytes()), (halves.is_between(), halves.messages(), halves.bytes()));
        }
    }
}
