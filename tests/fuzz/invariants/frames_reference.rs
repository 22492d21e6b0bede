//! RFC 6455 section 5 written down on the whole stream at once. Shares no code with the gateway.

use std::fmt;

/// A data message.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Data {
    /// 1 is text, 2 is binary.
    pub(super) opcode: u8,
    pub(super) payload: Vec<u8>,
}

/// Short enough to be read in a report.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.payload.get(..24).unwrap_or(&self.payload);
        write!(f, "{}:{}:\"{}\"", self.opcode, self.payload.len(), start.escape_ascii())
    }
}

/// What a stream of frames holds, up to its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) messages: Vec<Data>,
    pub(super) pings: Vec<Vec<u8>>,
    pub(super) pongs: Vec<Vec<u8>>,
    pub(super) end: End,
    /// What is behind a close frame.
    pub(super) behind: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// The stream ends between two frames or within one.
    #[default]
    Open,
    /// A close frame, with its code.
    Closed(Option<u16>),
    /// What the standard forbids, or a message above the limit.
    Broken,
    /// Where sound implementations differ: a length in more bytes than it needs is forbidden and yet taken by many, the
    /// close code 1014 came after the standard, and a bad frame may be noticed before it is complete. From here on
    /// anything goes.
    Unsettled,
}

/// Whose frames they are: a client's are masked, a server's are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Client,
    Server,
}

/// A close code that may be on the wire (RFC 6455 section 7.4 and the registry it founded).
pub(super) fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

pub(super) fn read(mut bytes: &[u8], from: From, max_message_size: usize) -> Reading {
    let mut reading = Reading::default();
    let mut begun: Option<Data> = None;
    reading.end = loop {
        match frame(&mut bytes, from, max_message_size, &mut begun, &mut reading) {
            Ok(()) => {}
            Err(end) => break end,
        }
    };
    if let End::Closed(_) = reading.end {
        reading.behind = bytes.to_vec();
    }
    reading
}

fn frame(
    bytes: &mut &[u8],
    from: From,
    max_message_size: usize,
    begun: &mut Option<Data>,
    reading: &mut Reading,
) -> Result<(), End> {
    let &[first, second] = take(bytes, 2)? else { return Err(End::Open) };
    let (fin, opcode, masked, short) = (first & 0x80 != 0, first & 0x0F, second & 0x80 != 0, second & 0x7F);
    let is_control = opcode >= 8;
    let is_known = matches!(opcode, 0..=2 | 8..=10);
    let out_of_turn = (opcode == 0) != begun.is_some() && !is_control;
    let (width, least) = match short {
        126 => (2, 126),
        127 => (8, 65_536),
        _ => (0, 0),
    };
    let mut is_breach =
        first & 0x70 != 0 || !is_known || out_of_turn || masked != (from == From::Client) || (is_control && !fin);
    // A breach may be noticed at once, or with the whole of the frame.
    let incomplete = |is_breach| if is_breach || (is_control && short > 125) { End::Unsettled } else { End::Open };
    let length = take(bytes, width).map_err(|_| incomplete(is_breach))?;
    let length = length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    let length = if width == 0 { u64::from(short) } else { length };
    let mask = take(bytes, if masked { 4 } else { 0 }).map_err(|_| incomplete(is_breach))?;
    let held = begun.as_ref().map_or(0, |data| data.payload.len());
    is_breach |= if is_control { length > 125 } else { length.saturating_add(held as u64) > max_message_size as u64 };
    let length_in_memory = usize::try_from(length).unwrap_or(usize::MAX);
    let payload = take(bytes, length_in_memory).map_err(|_| incomplete(is_breach))?;
    if is_breach {
        return Err(End::Broken);
    }
    if length < least {
        return Err(End::Unsettled);
    }
    let payload =
        payload.iter().enumerate().map(|(at, byte)| byte ^ mask.get(at % 4).unwrap_or(&0)).collect::<Vec<_>>();
    match opcode {
        8 => return Err(close(&payload)),
        9 => reading.pings.push(payload),
        10 => reading.pongs.push(payload),
        _ => {
            let data = begun.get_or_insert(Data { opcode, payload: Vec::new() });
            data.payload.extend(payload);
            if data.opcode == 1
                && let Err(error) = std::str::from_utf8(&data.payload)
                // The end of a fragment may cut a character.
                && (fin || error.error_len().is_some())
            {
                return Err(End::Broken);
            }
            if fin {
                reading.messages.extend(begun.take());
            }
        }
    }
    Ok(())
}

fn close(payload: &[u8]) -> End {
    match payload {
        [] => End::Closed(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            match std::str::from_utf8(reason) {
                Ok(_) if code == 1014 => End::Unsettled,
                Ok(_) if is_close_code(code) => End::Closed(Some(code)),
                _ => End::Broken,
            }
        }
        [_] => End::Broken,
    }
}

/// The next bytes; `End::Open` if there are not so many.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], End> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(End::Open)?;
    *bytes = rest;
    Ok(taken)
}
