//! Where the frames of one direction begin and end (RFC 6455 section 5.2), read off bytes that are passed on as they are.
//!
//! Nothing is unmasked, copied or put together but the header that is arriving and the code of a close frame. That is enough
//! to count messages, to know why a peer closes, and to know between which two bytes a frame of our own may stand.

/// Longest header in bytes: two, eight of length, four of the mask.
const MAX_HEADER: usize = 14;

/// Largest payload of a control frame in bytes (RFC 6455 section 5.5).
const MAX_CONTROL_PAYLOAD: u64 = 125;

/// The frames of one direction, as far as they have gone by.
///
/// What is no frame at all ends the watch: where its payload would end cannot be known. What endpoints may have agreed on,
/// such as reserved bits and opcodes, is theirs to judge, and so is the order of fragments.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// Whether frames must be masked: those of clients must, those of servers must not.
    masked: bool,
    /// The beginning of the header that is arriving.
    header: [u8; MAX_HEADER],
    header_len: usize,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    closed: Option<Closed>,
    messages: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    key: [u8; 4],
    /// Bytes of the payload that have gone by, and those that have not.
    at: u64,
    left: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data {
        is_final: bool,
    },
    /// With what is known of its code.
    Close([u8; 2]),
    Control,
}

/// A close frame went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code, if it had one.
    pub code: Option<u16>,
}

/// What came is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach {
    /// How many of the bytes belong to the frames before it.
    pub whole: usize,
    /// What is wrong.
    pub how: &'static str,
}

impl Frames {
    /// The frames of a client, each of which is masked (RFC 6455 section 5.1).
    #[must_use]
    pub const fn of_client() -> Self {
        Self::new(true)
    }

    /// The frames of a server, none of which is masked.
    #[must_use]
    pub const fn of_server() -> Self {
        Self::new(false)
    }

    const fn new(masked: bool) -> Self {
        Self { masked, header: [0; MAX_HEADER], header_len: 0, frame: None, closed: None, messages: 0, bytes: 0 }
    }

    /// Takes in the next bytes.
    ///
    /// # Errors
    ///
    /// [`Breach`], after which nothing true can be said of what follows.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), Breach> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let whole = bytes.len() - rest.len();
            let used = self.follow_frame(rest).map_err(|how| Breach { whole, how })?;
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// How many of the next bytes belong to the frame that has begun: 0 between frames, and all of them if it does not end
    /// among them.
    #[must_use]
    pub fn rest_of_frame(&self, bytes: &[u8]) -> usize {
        if self.is_between() {
            return 0;
        }
        let mut probe = *self;
        probe.follow_frame(bytes).unwrap_or(bytes.len())
    }

    /// Whether no frame has begun that has not ended: a frame of our own may stand here.
    #[must_use]
    pub const fn is_between(&self) -> bool {
        self.header_len == 0 && self.frame.is_none()
    }

    /// The first close frame, once it has gone by whole.
    #[must_use]
    pub const fn closed(&self) -> Option<Closed> {
        self.closed
    }

    /// Messages that have gone by whole.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes of the payload of messages, as they are on the wire: compressed, where the endpoints compress.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Goes on to the end of the frame that is arriving, or of the bytes; gives how many were used, one at least.
    fn follow_frame(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut used = 0;
        let mut frame = if let Some(frame) = self.frame {
            frame
        } else {
            let (taken, frame) = self.take_header(bytes)?;
            used = taken;
            let Some(frame) = frame else { return Ok(used) };
            frame
        };
        let payload = bytes.get(used..).unwrap_or_default();
        let now = frame.left.min(payload.len() as u64);
        // Not more than there is, so that it fits.
        let length = usize::try_from(now).unwrap_or(payload.len());
        match &mut frame.kind {
            Kind::Data { .. } => self.bytes = self.bytes.saturating_add(now),
            Kind::Close(code) => {
                let places = code.iter_mut().zip(frame.key).skip(usize::try_from(frame.at).unwrap_or(usize::MAX));
                for ((place, key), byte) in places.zip(payload.iter().take(length)) {
                    *place = byte ^ key;
                }
            }
            Kind::Control => {}
        }
        frame.at += now;
        frame.left -= now;
        self.frame = (frame.left > 0).then_some(frame);
        if self.frame.is_none() {
            self.ended(&frame);
        }
        Ok(used + length)
    }

    fn ended(&mut self, frame: &Frame) {
        match frame.kind {
            Kind::Data { is_final } => self.messages += u64::from(is_final),
            Kind::Close(code) if self.closed.is_none() => {
                self.closed = Some(Closed { code: (frame.at >= 2).then_some(u16::from_be_bytes(code)) });
            }
            Kind::Close(_) | Kind::Control => {}
        }
    }

    /// Takes what is missing of the header; gives how much, and the frame once the header is whole.
    fn take_header(&mut self, bytes: &[u8]) -> Result<(usize, Option<Frame>), &'static str> {
        let mut used = 0;
        loop {
            let wanted = self.header_wanted()?;
            if wanted == self.header_len {
                break;
            }
            let there = bytes.get(used..).unwrap_or_default();
            if there.is_empty() {
                return Ok((used, None));
            }
            let places = self.header.iter_mut().take(wanted).skip(self.header_len);
            let taken = places.zip(there).map(|(place, byte)| *place = *byte).count();
            self.header_len += taken;
            used += taken;
        }
        let frame = self.read_header()?;
        self.header_len = 0;
        Ok((used, Some(frame)))
    }

    /// How long the header is, as far as that is known from what is there of it.
    fn header_wanted(&self) -> Result<usize, &'static str> {
        let [first, second, ..] = self.header;
        if self.header_len < 2 {
            return Ok(2);
        }
        if (second & 0x80 != 0) != self.masked {
            return Err(if self.masked { "a frame is not masked" } else { "a frame is masked" });
        }
        if first & 0x08 != 0 {
            if first & 0x80 == 0 {
                return Err("a control frame is fragmented");
            }
            if u64::from(second & 0x7f) > MAX_CONTROL_PAYLOAD {
                return Err("a control frame is longer than 125 bytes");
            }
        }
        Ok(2 + length_size(second & 0x7f) + if self.masked { 4 } else { 0 })
    }

    fn read_header(&self) -> Result<Frame, &'static str> {
        let [first, second, rest @ ..] = self.header;
        let short = second & 0x7f;
        let size = length_size(short);
        let long = rest.iter().take(size).fold(0, |length, byte| length << 8 | u64::from(*byte));
        let left = if size == 0 { u64::from(short) } else { long };
        if left >> 63 != 0 {
            return Err("the length of a frame has its highest bit set");
        }
        let kind = match first & 0x0f {
            8 => Kind::Close([0; 2]),
            control if control & 0x08 != 0 => Kind::Control,
            _ => Kind::Data { is_final: first & 0x80 != 0 },
        };
        // What is not masked has no key, and 0 changes nothing.
        let mut key = [0; 4];
        if self.masked {
            key.iter_mut().zip(rest.iter().skip(size)).for_each(|(place, byte)| *place = *byte);
        }
        Ok(Frame { kind, key, at: 0, left })
    }
}

/// How many bytes the length takes behind the two that every header has.
const fn length_size(short: u8) -> usize {
    match short {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

/// A close frame, masked if there is a key: what one side is told when the gateway ends the tunnel. The reason is at most
/// [`MAX_REASON`](crate::protocol::close::MAX_REASON) bytes, as those of all our frames.
#[must_use]
pub fn close_frame(code: u16, reason: &str, key: Option<[u8; 4]>) -> Vec<u8> {
    let reason = crate::protocol::close::clip_reason(reason);
    let mut frame = Vec::with_capacity(8 + reason.len());
    let length = u8::try_from(2 + reason.len()).unwrap_or(2);
    frame.extend([0x88, if key.is_some() { length | 0x80 } else { length }]);
    frame.extend(key.into_iter().flatten());
    let key = key.unwrap_or_default();
    let payload = code.to_be_bytes().into_iter().chain(reason.bytes());
    frame.extend(payload.zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

#[cfg(test)]
mod tests;
