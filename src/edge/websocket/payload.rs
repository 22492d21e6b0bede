//! The payload of a message while it arrives.

use bytes::Bytes;

use super::mask::Mask;
use crate::protocol::Text;
use crate::protocol::message::Message;
use crate::session::Violation;

/// Room is made for what a frame announces, but for no more than this, or than what has already come: whoever announces
/// much must send much to make us hold much.
const STEP: usize = 64 * 1024;

/// Text is unmasked and checked in pieces of this size, which stay in the nearest cache.
const PIECE: usize = 1024;

/// Longest beginning of a UTF-8 character that is not yet the whole of it.
const MAX_CUT: usize = 3;

/// The payload so far of a message that is not complete.
#[derive(Debug)]
pub(super) enum Payload {
    /// Of a text message.
    Text(Utf8),
    /// Of a binary message.
    Binary(Vec<u8>),
}

impl Payload {
    /// An empty one of a text message.
    pub(super) fn text() -> Self {
        Self::Text(Utf8 { text: String::new(), cut: [0; MAX_CUT], cut_len: 0 })
    }

    /// An empty one of a binary message.
    pub(super) fn binary() -> Self {
        Self::Binary(Vec::new())
    }

    /// Length so far in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(utf8) => utf8.text.len() + utf8.cut_len,
            Self::Binary(octets) => octets.len(),
        }
    }

    /// Appends bytes of a frame that has `left` bytes to come, these among them; `is_final` is whether no other frame
    /// follows it.
    ///
    /// # Errors
    ///
    /// [`Violation::Text`] as soon as a text message cannot become UTF-8, whatever follows.
    pub(super) fn push(
        &mut self,
        masked: &[u8],
        mask: &mut Mask,
        left: usize,
        is_final: bool,
    ) -> Result<(), Violation> {
        match self {
            Self::Text(utf8) => {
                let (len, cut) = (utf8.text.len(), utf8.cut_len);
                let room = Room { len, capacity: utf8.text.capacity() };
                utf8.text.reserve_exact(room.wanted(cut + masked.len(), cut + left, is_final));
                utf8.push(masked, mask)
            }
            Self::Binary(octets) => {
                let len = octets.len();
                let room = Room { len, capacity: octets.capacity() };
                octets.reserve_exact(room.wanted(masked.len(), left, is_final));
                octets.extend_from_slice(masked);
                mask.apply(octets.get_mut(len..).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The message, complete. It holds no more memory than it has bytes.
    ///
    /// # Errors
    ///
    /// [`Violation::Text`], when the last character of a text message is cut off.
    pub(super) fn finish(self) -> Result<Message, Violation> {
        match self {
            Self::Text(utf8) if utf8.cut_len > 0 => Err(Violation::Text),
            Self::Text(Utf8 { mut text, .. }) => {
                text.shrink_to_fit();
                Ok(Message::Text(Text::from(text)))
            }
            Self::Binary(mut octets) => {
                octets.shrink_to_fit();
                Ok(Message::Binary(Bytes::from(octets)))
            }
        }
    }
}

/// What a buffer holds and could hold.
struct Room {
    len: usize,
    capacity: usize,
}

impl Room {
    /// How much is to be reserved for `now` bytes of the `left` that a frame still has. The last frame of a message is given
    /// exactly what it needs; one that others follow at least as much as there is already, so that a message of many small
    /// frames is not moved for each.
    fn wanted(&self, now: usize, left: usize, is_final: bool) -> usize {
        if self.capacity - self.len >= now {
            return 0;
        }
        let step = left.min(self.len.max(STEP)).max(now);
        if is_final { step } else { step.max(self.len) }
    }
}

/// Text that is valid so far.
#[derive(Debug)]
pub(super) struct Utf8 {
    text: String,
    /// The beginning of a character whose other bytes have not come.
    cut: [u8; MAX_CUT],
    cut_len: usize,
}

impl Utf8 {
    fn push(&mut self, mut masked: &[u8], mask: &mut Mask) -> Result<(), Violation> {
        let mut piece = [0; MAX_CUT + PIECE];
        while !masked.is_empty() {
            let (next, rest) = masked.split_at(masked.len().min(PIECE));
            masked = rest;
            // What was cut off stands before what follows it.
            let (cut, place) = piece.split_at_mut(self.cut_len);
            cut.copy_from_slice(self.cut.get(..self.cut_len).unwrap_or_default());
            let Some(place) = place.get_mut(..next.len()) else { return Err(Violation::Text) };
            place.copy_from_slice(next);
            mask.apply(place);
            self.take(piece.get(..self.cut_len + next.len()).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Takes bytes that begin where a character begins.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let (whole, cut) = bytes.split_at(bytes.len() - cut_len(bytes));
        self.text.push_str(std::str::from_utf8(whole).map_err(|_| Violation::Text)?);
        match std::str::from_utf8(cut) {
            Ok(_) => {}
            Err(error) if error.error_len().is_none() => {}
            // No byte that could follow makes a character of it.
            Err(_) => return Err(Violation::Text),
        }
        self.cut_len = cut.len();
        for (place, byte) in self.cut.iter_mut().zip(cut) {
            *place = *byte;
        }
        Ok(())
    }
}

/// How many bytes at the end begin a character that ends behind them; at most [`MAX_CUT`].
fn cut_len(bytes: &[u8]) -> usize {
    for (behind, byte) in bytes.iter().rev().take(MAX_CUT).enumerate() {
        let needed = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            // A character of one byte, or none at all.
            _ => 1,
        };
        return if needed > behind + 1 { behind + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of bytes that arrive in these pieces, unmasked, and how many bytes were taken before an error.
    fn collect(pieces: &[&[u8]]) -> Result<Message, (Violation, usize)> {
        let mut payload = Payload::text();
        let mut taken = 0;
        for piece in pieces {
            let pushed = payload.push(piece, &mut Mask::new([0; 4]), piece.len(), false);
            pushed.map_err(|violation| (violation, taken))?;
            taken += piece.len();
        }
        payload.finish().map_err(|violation| (violation, taken))
    }

    proptest! {
        #[test]
        fn text_is_refused_at_the_first_byte_that_cannot_be_part_of_it(
            text in "[a-zß€😀]{0,12}",
            bytes in prop::collection::vec(any::<u8>(), 0..6),
            long in 0..3_usize,
        ) {
            let bytes = [&vec![b'x'; long * PIECE], text.as_bytes(), &bytes].concat();
            let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
            let all: &[&[u8]] = &[&bytes];
            match std::str::from_utf8(&bytes) {
                Ok(text) => {
                    let expected = Message::Text(text.into());
                    prop_assert_eq!(collect(&one_by_one), Ok(expected.clone()));
                    prop_assert_eq!(collect(all), Ok(expected));
                }
                Err(error) => {
                    // The reference says which bytes are wrong together: one of them, or the one behind them, made them so.
                    let latest = error.error_len().map_or(bytes.len(), |len| error.valid_up_to() + len);
                    let refused = collect(&one_by_one).unwrap_err();
                    prop_assert_eq!(refused.0, Violation::Text);
                    prop_assert!((error.valid_up_to()..=latest).contains(&refused.1), "{} {:?}", refused.1, error);
                    prop_assert_eq!(collect(all).unwrap_err().0, Violation::Text);
                }
            }
        }
    }

    #[test]
    fn room_grows_with_what_has_come_and_ends_exact() {
        const SIZE: usize = 1 << 20;
        for mut payload in [Payload::text(), Payload::binary()] {
            let mut left = SIZE;
            while left > 0 {
                let now = left.min(5000);
                payload.push(&[b'x'; 5000][..now], &mut Mask::new([0; 4]), left, true).unwrap();
                left -= now;
                let capacity = match &payload {
                    Payload::Text(utf8) => utf8.text.capacity(),
                    Payload::Binary(octets) => octets.capacity(),
                };
                assert!(capacity <= (2 * payload.len()).max(STEP), "{capacity} for {}", payload.len());
                assert!(left > 0 || capacity == SIZE);
            }
        }
    }

    #[test]
    fn many_small_frames_do_not_move_the_message_for_each() {
        let mut payload = Payload::binary();
        let mut moved = 0;
        for _ in 0..100_000 {
            let before = match &payload {
                Payload::Binary(octets) => octets.capacity(),
                Payload::Text(_) => 0,
            };
            payload.push(b"x", &mut Mask::new([0; 4]), 1, false).unwrap();
            moved += usize::from(matches!(&payload, Payload::Binary(octets) if octets.capacity() != before));
        }
        assert!(moved < 40, "{moved} times");
    }
}
