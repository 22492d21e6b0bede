//! Where in an event stream something can be put in without a change to any event: between two of them.
//!
//! The parser next door makes events of bytes; this one only looks on while bytes of others pass by, and copies none.

use bytes::{Buf as _, Bytes};
use memchr::memchr2;

const BYTE_ORDER_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];

/// Follows a stream without its byte order mark, which [`Mark`] takes off (WHATWG HTML, "Parsing an event stream").
///
/// It counts what naive clients cut streams at as well: the place in the middle of a CR LF is in no event by the standard,
/// and yet nothing is put in there.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one place; a set type would hide them")]
pub struct Boundary {
    /// Something of the line was seen.
    in_line: bool,
    /// A line of an event was seen since the last blank one. Comments belong to no event.
    in_event: bool,
    /// The newest byte was a CR; whether a LF belongs to it, the next one says.
    after_cr: bool,
    /// The line end before that was a CR alone, so that this one is too.
    lone: bool,
}

impl Boundary {
    /// Whether what has passed so far ends between two events, or before the first.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        !self.in_line && !self.in_event && (!self.after_cr || self.lone)
    }

    /// Looks at the next piece; gives whether an event has ended in it.
    pub fn pass(&mut self, piece: &[u8]) -> bool {
        let (mut rest, mut ended) = (piece, false);
        while let Some((&first, behind)) = rest.split_first() {
            if self.after_cr {
                self.after_cr = false;
                self.lone = first != b'\n';
                if first == b'\n' {
                    rest = behind;
                    continue;
                }
            }
            if !self.in_line && !matches!(first, b'\r' | b'\n') {
                self.in_line = true;
                self.in_event |= first != b':';
            }
            let Some(end) = memchr2(b'\r', b'\n', rest) else { break };
            if !self.in_line {
                ended |= std::mem::take(&mut self.in_event);
            }
            self.in_line = false;
            self.after_cr = rest.get(end) == Some(&b'\r');
            self.lone &= self.after_cr;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        ended
    }
}

/// Takes the byte order mark off the start of a stream, whatever pieces it comes in: what is put in before the first event
/// would make it part of that event's first line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// How many of its bytes were seen.
    seen: usize,
    over: bool,
}

impl Mark {
    /// The piece without the mark; before it stands what turned out to be none.
    pub fn take_off(&mut self, mut piece: Bytes) -> (&'static [u8], Bytes) {
        while !self.over
            && let Some(&byte) = piece.first()
        {
            match BYTE_ORDER_MARK.get(self.seen) {
                Some(&expected) if expected == byte => {
                    piece.advance(1);
                    self.seen += 1;
                    self.over = self.seen == BYTE_ORDER_MARK.len();
                }
                _ => return (self.rest(), piece),
            }
        }
        (&[], piece)
    }

    /// What was held back, now that it is known to be no mark: at the end of a stream, say.
    pub fn rest(&mut self) -> &'static [u8] {
        if std::mem::replace(&mut self.over, true) {
            return &[];
        }
        BYTE_ORDER_MARK.get(..self.seen).unwrap_or_default()
    }
}
