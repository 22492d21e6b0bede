//! Where requests begin and end on an HTTP/1.1 connection (RFC 9112), read off the bytes as they come.
//!
//! The HTTP library reads the same bytes and is more generous: it drops a `Content-Length` beside a `Transfer-Encoding`, takes
//! a bare LF for a line end and cuts a fragment off a target. What two readers on one path understand differently, somebody
//! smuggles a request in by, so that here only the one form which everybody understands alike is let pass.

use std::fmt;

#[cfg(test)]
mod tests;

/// Bytes of a name or value that are looked at: `transfer-encoding` and the 20 digits of the largest length fit in.
const WORD: usize = 24;

/// Hexadecimal digits of a chunk's size: more than 2^60 bytes come in no chunk, and a sum of them fits in 64 bits.
const SIZE_DIGITS: u8 = 15;

/// Fields that say how a request is read or where it goes, and are too late behind its body (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&str; 8] =
    ["connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"];

/// Follows the requests of one connection. Its size is fixed, whatever comes.
#[derive(Clone, Debug, Default)]
pub struct Framing {
    state: State,
    /// The method, then the name of a field.
    name: Word,
    /// The value of a field.
    value: Word,
    head: Head,
}

/// What a request is not to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not `method SP target SP HTTP/1.1` (RFC 9112 section 3).
    #[error("the request line is malformed")]
    RequestLine,
    /// A byte that targets do not have, a fragment's `#` among them (RFC 9112 section 3.2).
    #[error("the target has a byte that it must not have")]
    Target,
    /// Neither 1.0 nor 1.1.
    #[error("the version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// A field that goes on in the next line (RFC 9112 section 5.2).
    #[error("a field line is folded")]
    Folded,
    /// No name, no colon, or a space before it (RFC 9112 section 5.1).
    #[error("the name of a field is malformed")]
    Name,
    /// A control character in a value (RFC 9110 section 5.5).
    #[error("the value of a field has a control character")]
    Value,
    /// A CR or LF that stands alone (RFC 9112 section 2.2).
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// A `Content-Length` that is no number, or stands there twice (RFC 9112 section 6.3).
    #[error("Content-Length is not one number")]
    Length,
    /// A `Transfer-Encoding` that is not `chunked` alone and once (RFC 9112 section 6.1).
    #[error("Transfer-Encoding is not chunked, alone and once")]
    Coding,
    /// Both of them, or a transfer coding in HTTP/1.0, or a body on CONNECT.
    #[error("the length of the body is said in two ways, or in a way that this request cannot have")]
    Conflict,
    /// A chunk's size or end (RFC 9112 section 7.1).
    #[error("a chunk is malformed")]
    Chunk,
    /// A field behind the body that belongs in front of it.
    #[error("a trailer has a field that must not stand there")]
    Trailer,
}

/// The bytes stop being a request here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// How many of the bytes given were good.
    pub at: usize,
    /// Whether that is in a request's head, of which nobody has acted on anything yet.
    pub in_head: bool,
    /// What is wrong.
    pub flaw: Flaw,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before a request; one empty line is let pass (RFC 9112 section 2.2).
    #[default]
    Start,
    EmptyLine,
    AfterEmptyLine,
    Method,
    Target {
        empty: bool,
    },
    /// That many bytes of the version have come.
    Version(u8),
    /// At the beginning of a field line.
    Line,
    Name,
    Value,
    /// The CR of this has come, and its LF must.
    LineFeed(End),
    /// That much of the body, or of a chunk, is to come.
    Data(u64),
    Size {
        digits: u8,
        size: u64,
    },
    /// A space behind a chunk's size: an extension must follow.
    BeforeExtension {
        size: u64,
    },
    Extension {
        size: u64,
    },
    /// Behind the data of a chunk.
    ChunkEnd,
    /// Another protocol from here on, or nothing.
    Through,
}

/// What a line end ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    RequestLine,
    Field,
    Fields,
    Size(u64),
    Chunk,
}

/// What a request asks for, by its method and fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Asks {
    #[default]
    Answer,
    Protocol,
    Tunnel,
}

/// What a head has said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    old: bool,
    asks: Asks,
    length: Option<u64>,
    chunked: bool,
    /// The body is over, and fields are trailers.
    trailers: bool,
}

impl Framing {
    /// Reads on.
    ///
    /// # Errors
    ///
    /// [`Broken`], where the bytes stop being a request. Nothing is to be read behind that.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            match self.state {
                State::Through => return Ok(()),
                State::Data(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    rest = rest.get(here..).unwrap_or_default();
                    self.state = match left.saturating_sub(here as u64) {
                        0 if self.head.chunked => State::ChunkEnd,
                        0 => self.over(),
                        left => State::Data(left),
                    };
                }
                _ => {
                    let in_head = self.is_in_head();
                    self.state =
                        self.next(*byte).map_err(|flaw| Broken { at: bytes.len() - rest.len(), in_head, flaw })?;
                    rest = behind;
                }
            }
        }
        Ok(())
    }

    /// Whether it stands in the head of a request, or between two requests.
    const fn is_in_head(&self) -> bool {
        match self.state {
            State::Start | State::EmptyLine | State::AfterEmptyLine => true,
            State::Method | State::Target { .. } | State::Version(_) => true,
            State::Line | State::Name | State::Value => !self.head.trailers,
            State::LineFeed(End::RequestLine | End::Field | End::Fields) => !self.head.trailers,
            _ => false,
        }
    }

    fn next(&mut self, byte: u8) -> Result<State, Flaw> {
        match self.state {
            State::Start | State::AfterEmptyLine | State::Method => self.method(byte),
            State::EmptyLine => line_feed(byte).map(|()| State::AfterEmptyLine),
            State::Target { empty } => target(byte, empty),
            State::Version(at) => self.version(byte, at),
            State::Line | State::Name => self.name(byte),
            State::Value => self.value(byte),
            State::LineFeed(end) => line_feed(byte).and_then(|()| self.line_ended(end)),
            State::Size { digits, size } => chunk_size(byte, digits, size),
            State::BeforeExtension { size } => match byte {
                b' ' | b'\t' => Ok(State::BeforeExtension { size }),
                b';' => Ok(State::Extension { size }),
                _ => Err(Flaw::Chunk),
            },
            State::Extension { size } => match byte {
                b'\r' => Ok(State::LineFeed(End::Size(size))),
                byte if is_text(byte) => Ok(State::Extension { size }),
                _ => Err(Flaw::Chunk),
            },
            State::ChunkEnd if byte == b'\r' => Ok(State::LineFeed(End::Chunk)),
            State::ChunkEnd => Err(Flaw::Chunk),
            State::Data(_) | State::Through => Ok(self.state),
        }
    }

    fn method(&mut self, byte: u8) -> Result<State, Flaw> {
        match (byte, self.state) {
            (b'\r', State::Start) => return Ok(State::EmptyLine),
            (b' ', State::Method) => {
                // A method is upper or lower case, and only one of the two is CONNECT; both are taken for it.
                let asks = if self.name.is("connect") { Asks::Tunnel } else { Asks::Answer };
                self.head = Head { asks, ..Head::default() };
                return Ok(State::Target { empty: true });
            }
            (byte, _) if !is_token(byte) => return Err(Flaw::RequestLine),
            (_, State::Method) => {}
            _ => self.name = Word::default(),
        }
        self.name.push(byte);
        Ok(State::Method)
    }

    fn version(&mut self, byte: u8, at: u8) -> Result<State, Flaw> {
        const NAME: &[u8] = b"HTTP/1.";
        let end = NAME.len();
        match usize::from(at) {
            at if at < end && NAME.get(at) == Some(&byte) => {}
            at if at == end && (byte == b'0' || byte == b'1') => self.head.old = byte == b'0',
            at if at > end => {
                return if byte == b'\r' { Ok(State::LineFeed(End::RequestLine)) } else { Err(Flaw::LineEnd) };
            }
            _ => return Err(Flaw::Version),
        }
        Ok(State::Version(at + 1))
    }

    fn name(&mut self, byte: u8) -> Result<State, Flaw> {
        match (byte, self.state) {
            (b'\r', State::Line) => return Ok(State::LineFeed(End::Fields)),
            (b'\n', State::Line) => return Err(Flaw::LineEnd),
            (b' ' | b'\t', State::Line) => return Err(Flaw::Folded),
            (b':', State::Name) => {
                self.value = Word::default();
                return Ok(State::Value);
            }
            (byte, _) if !is_token(byte) => return Err(Flaw::Name),
            (_, State::Line) => self.name = Word::default(),
            _ => {}
        }
        self.name.push(byte);
        Ok(State::Name)
    }

    fn value(&mut self, byte: u8) -> Result<State, Flaw> {
        match byte {
            b'\r' => return Ok(State::LineFeed(End::Field)),
            b'\n' => return Err(Flaw::LineEnd),
            // Spaces in front are not part of it.
            b' ' | b'\t' if self.value.is("") => {}
            byte if is_text(byte) => self.value.push(byte),
            _ => return Err(Flaw::Value),
        }
        Ok(State::Value)
    }

    fn line_ended(&mut self, end: End) -> Result<State, Flaw> {
        match end {
            End::RequestLine => Ok(State::Line),
            End::Field if self.head.trailers => {
                let bad = NOT_IN_TRAILERS.iter().any(|name| self.name.is(name));
                if bad { Err(Flaw::Trailer) } else { Ok(State::Line) }
            }
            End::Field => self.field().map(|()| State::Line),
            End::Fields if self.head.trailers => Ok(self.over()),
            End::Fields => self.body(),
            End::Size(0) => {
                self.head.trailers = true;
                Ok(State::Line)
            }
            End::Size(size) => Ok(State::Data(size)),
            End::Chunk => Ok(State::Size { digits: 0, size: 0 }),
        }
    }

    fn field(&mut self) -> Result<(), Flaw> {
        let head = &mut self.head;
        if self.name.is("content-length") {
            let length = self.value.number().filter(|_| head.length.is_none());
            head.length = Some(length.ok_or(Flaw::Length)?);
        } else if self.name.is("transfer-encoding") {
            if head.chunked || !self.value.is("chunked") {
                return Err(Flaw::Coding);
            }
            head.chunked = true;
        } else if self.name.is("upgrade") && head.asks == Asks::Answer {
            head.asks = Asks::Protocol;
        }
        Ok(())
    }

    /// What follows a head.
    fn body(&mut self) -> Result<State, Flaw> {
        let Head { old, asks, length, chunked, .. } = self.head;
        let connect = asks == Asks::Tunnel;
        if chunked && (length.is_some() || old) || connect && (chunked || length.is_some_and(|length| length > 0)) {
            return Err(Flaw::Conflict);
        }
        Ok(match length {
            _ if chunked => State::Size { digits: 0, size: 0 },
            Some(length) if length > 0 => State::Data(length),
            _ => self.over(),
        })
    }

    /// What follows a request: another one, unless it asked for another protocol. A request that asks and is refused is the
    /// last of its connection.
    const fn over(&self) -> State {
        if let Asks::Answer = self.head.asks { State::Start } else { State::Through }
    }
}

fn target(byte: u8, empty: bool) -> Result<State, Flaw> {
    match byte {
        b' ' if !empty => Ok(State::Version(0)),
        b'#' => Err(Flaw::Target),
        byte if byte.is_ascii_graphic() => Ok(State::Target { empty: false }),
        _ => Err(Flaw::Target),
    }
}

fn chunk_size(byte: u8, digits: u8, size: u64) -> Result<State, Flaw> {
    let digit = char::from(byte).to_digit(16).filter(|_| digits < SIZE_DIGITS);
    match (digit, byte) {
        (Some(digit), _) => Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }),
        _ if digits == 0 => Err(Flaw::Chunk),
        (None, b'\r') => Ok(State::LineFeed(End::Size(size))),
        (None, b';') => Ok(State::Extension { size }),
        (None, b' ' | b'\t') => Ok(State::BeforeExtension { size }),
        (None, _) => Err(Flaw::Chunk),
    }
}

fn line_feed(byte: u8) -> Result<(), Flaw> {
    if byte == b'\n' { Ok(()) } else { Err(Flaw::LineEnd) }
}

/// RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// What a value may have: everything but control characters, and of these the tab.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= 0x20 && byte != 0x7f
}

/// The beginning of a name or value in lower case, and how long all of it is.
#[derive(Clone, Copy, Default)]
struct Word {
    bytes: [u8; WORD],
    length: usize,
}

/// Without the bytes: they may be a value.
impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Word({} bytes)", self.length)
    }
}

impl Word {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte.to_ascii_lowercase();
        }
        self.length = self.length.saturating_add(1);
    }

    /// All of it, without spaces at its end; `None` if it is longer than what is looked at.
    fn text(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length).map(<[u8]>::trim_ascii_end)
    }

    fn is(&self, text: &str) -> bool {
        self.text() == Some(text.as_bytes())
    }

    /// The number that it is, of digits alone.
    fn number(&self) -> Option<u64> {
        let digits = self.text().filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        str::from_utf8(digits).ok()?.parse().ok()
    }
}
