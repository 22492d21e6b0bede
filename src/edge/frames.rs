//! Counts the frames of an HTTP/2 connection that cost us work and carry nothing (RFC 9113 section 10.5), from its bytes as they
//! come. The HTTP library bounds header blocks, continuations, refused and reset streams; of what is below, it sees no end.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::session::rate::{Bucket, Rate};

/// Length of the connection preface (RFC 9113 section 3.4).
const PREFACE: usize = 24;

/// Length of the head of a frame (RFC 9113 section 4.1).
const HEAD: usize = 9;

/// Frames without content in a second, and how many may run ahead: pings, settings, priorities, empty pieces of bodies, and
/// whatever the standard does not know. Browsers send a handful in a minute; libraries that measure round trips by pings send one
/// for each.
const EMPTY: Rate = Rate::per_second(number(100), number(1000));

/// Window updates in a second beyond those that our own bytes have called for, and how many may run ahead.
const WINDOWS: Rate = EMPTY;

/// How many of our bytes call for a window update: one that carries a single byte is ten long, and there are clients that give
/// room back to stream and connection for each.
const BYTES_FOR_WINDOW: usize = 4;

/// Most window updates that are saved up: what one answer of a few megabytes calls for.
const MOST_WINDOWS: usize = 1 << 20;

/// How many frames about a stream its request calls for: a priority and a reset.
const FRAMES_FOR_STREAM: usize = 2;

/// Most frames about streams that are saved up.
const MOST_FOR_STREAMS: usize = 1000;

const fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(number - 1)
}

/// More frames without content than any client needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a flood of HTTP/2 frames without content")]
pub(super) struct Flood;

/// What has come of a connection's frames. Reads their heads and counts; payloads are stepped over.
#[derive(Clone, Debug)]
pub(super) struct FrameWatch {
    /// Bytes to step over: of the preface at first, then of payloads.
    skip: usize,
    head: [u8; HEAD],
    /// How much of `head` has come.
    filled: usize,
    empty: Bucket,
    windows: Bucket,
    /// Window updates that our bytes have called for and that have not come.
    windows_due: usize,
    /// Frames about streams that requests have called for and that have not come.
    streams_due: usize,
}

impl FrameWatch {
    /// A connection of which nothing has come.
    pub(super) fn new() -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            filled: 0,
            empty: Bucket::default(),
            windows: Bucket::default(),
            windows_due: 0,
            streams_due: 0,
        }
    }

    /// Looks at bytes that have come, at a time counted from the connection's start.
    ///
    /// # Errors
    ///
    /// [`Flood`]: the connection is to be closed.
    pub(super) fn received(&mut self, mut bytes: &[u8], now: Duration) -> Result<(), Flood> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            for (to, from) in self.head.iter_mut().skip(self.filled).zip(bytes) {
                *to = *from;
            }
            let taken = (HEAD - self.filled).min(bytes.len());
            self.filled += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.filled == HEAD {
                self.filled = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                self.frame(kind, flags, length, now)?;
            }
        }
    }

    /// Counts bytes that we have sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.windows_due = (self.windows_due + bytes / BYTES_FOR_WINDOW).min(MOST_WINDOWS);
    }

    fn frame(&mut self, kind: u8, flags: u8, length: u32, now: Duration) -> Result<(), Flood> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const PRIORITY: u8 = 2;
        const RST_STREAM: u8 = 3;
        const WINDOW_UPDATE: u8 = 8;
        const END_STREAM: u8 = 1;
        match kind {
            DATA | HEADERS if length == 0 && flags & END_STREAM == 0 => {}
            HEADERS => {
                self.streams_due = (self.streams_due + FRAMES_FOR_STREAM).min(MOST_FOR_STREAMS);
                return Ok(());
            }
            DATA => return Ok(()),
            PRIORITY | RST_STREAM if self.streams_due > 0 => {
                self.streams_due -= 1;
                return Ok(());
            }
            WINDOW_UPDATE if self.windows_due > 0 => {
                self.windows_due -= 1;
                return Ok(());
            }
            WINDOW_UPDATE => return self.windows.take(1, &WINDOWS, now).map_err(|_| Flood),
            _ => {}
        }
        self.empty.take(1, &EMPTY, now).map_err(|_| Flood)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(0xff, length.into()));
        frame
    }

    fn begun() -> FrameWatch {
        let mut watch = FrameWatch::new();
        watch.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Duration::ZERO).unwrap();
        watch
    }

    /// How many such frames are let through at once.
    fn most(watch: &mut FrameWatch, kind: u8, flags: u8, length: u8, now: Duration) -> usize {
        let frame = frame(kind, flags, length);
        let mut next = watch.clone();
        for count in 0..10_000 {
            if next.received(&frame, now).is_err() {
                return count;
            }
            *watch = next.clone();
        }
        10_000
    }

    #[test]
    fn floods_of_frames_without_content_are_cut_and_a_trickle_is_not() {
        for (kind, flags, length) in [
            (0, 0, 0),
            (1, 4, 0),
            (2, 0, 5),
            (3, 0, 4),
            (4, 0, 0),
            (4, 1, 0),
            (6, 0, 8),
            (8, 0, 4),
            (9, 0, 0),
            (42, 0, 7),
        ] {
            let mut watch = begun();
            assert_eq!(most(&mut watch, kind, flags, length, Duration::ZERO), 1000, "{kind}");
            assert_eq!(most(&mut watch, kind, flags, length, SECOND), 100, "{kind}");
            let mut watch = begun();
            for second in 0..100 {
                for _ in 0..100 {
                    watch.received(&frame(kind, flags, length), SECOND * second).unwrap();
                }
            }
        }
    }

    #[test]
    fn requests_and_their_bodies_are_not_counted() {
        for (kind, flags, length) in [(0, 0, 1), (0, 1, 0), (1, 5, 1), (0, 0, 255)] {
            assert_eq!(most(&mut begun(), kind, flags, length, Duration::ZERO), 10_000);
        }
    }

    #[test]
    fn what_an_answer_calls_for_is_not_counted() {
        let mut watch = begun();
        watch.sent(40);
        assert_eq!(most(&mut watch, 8, 0, 4, Duration::ZERO), 1010);
        watch.received(&frame(1, 5, 1), Duration::ZERO).unwrap();
        assert_eq!(most(&mut watch, 3, 0, 4, Duration::ZERO), 1002);
        watch.sent(usize::MAX / 2);
        assert_eq!(watch.windows_due, MOST_WINDOWS);
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_their_bytes_come(
            frames in prop::collection::vec((0..12_u8, any::<u8>(), any::<u8>()), 0..60), cuts in prop::collection::vec(1..40_usize, 1..20),
        ) {
            let bytes: Vec<_> = frames.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)).collect();
            let (mut whole, mut cut) = (begun(), begun());
            let seen = whole.received(&bytes, SECOND);
            let (mut rest, mut sizes) = (&bytes[..], cuts.iter().cycle());
            let mut cut_seen = Ok(());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                cut_seen = cut_seen.and(cut.received(now, SECOND));
                rest = later;
            }
            prop_assert_eq!(seen, cut_seen);
            prop_assert_eq!((whole.skip, whole.filled, whole.empty, whole.windows), (cut.skip, cut.filled, cut.empty, cut.windows));
        }

        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = FrameWatch::new().received(&bytes, SECOND);
        }
    }
}
