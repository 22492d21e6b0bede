//! Where in a line the parser stands, so that a line may come in any number of pieces.

/// The fields that mean something. All others are skipped, as the standard asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Data,
    Event,
    Id,
    Retry,
}

impl Field {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Event => "event",
            Self::Id => "id",
            Self::Retry => "retry",
        }
    }

    /// The only field that can start with `byte`: no two names share their first letter, so a name that is cut by the
    /// end of a chunk needs no buffer.
    const fn starting_with(byte: u8) -> Option<Self> {
        match byte {
            b'd' => Some(Self::Data),
            b'e' => Some(Self::Event),
            b'i' => Some(Self::Id),
            b'r' => Some(Self::Retry),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    /// The very start of the stream, after `seen` bytes of a byte order mark.
    Mark { seen: u8 },
    /// Nothing of the line was seen. After a CR, a LF still belongs to the line before.
    Start { after_cr: bool },
    /// The line begins with the first `matched` bytes of this field's name.
    Name { field: Field, matched: u8 },
    /// Name and colon were read. One space may follow that is not part of the value.
    Colon(Field),
    /// In the value of `data`.
    Data,
    /// In the value of `event`.
    Event,
    /// In the value of `id`, which lies at `start..` of the parser's buffer for ids.
    Id { start: usize },
    /// In the value of `retry`: all digits so far, and at least one if `digits`.
    Retry { millis: u64, digits: bool },
    /// A comment, an unknown field or a value without effect: skipped to the end of the line, not kept.
    Ignored,
    /// The value of this field is over its limit. Terminal.
    TooLarge(Field),
}

impl Line {
    /// Reads the part of a line up to and including the colon, and returns what comes after it.
    pub(super) fn read_name<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Some((&byte, rest)) = bytes.split_first() {
            *self = match *self {
                // A comment starts with a colon, which starts no field.
                Self::Start { .. } => {
                    Field::starting_with(byte).map_or(Self::Ignored, |field| Self::Name { field, matched: 1 })
                }
                Self::Name { field, matched } => match field.name().as_bytes().get(usize::from(matched)) {
                    Some(&expected) if expected == byte => Self::Name { field, matched: matched + 1 },
                    None if byte == b':' => Self::Colon(field),
                    Some(_) | None => Self::Ignored,
                },
                Self::Mark { .. } | Self::Colon(_) | Self::Ignored | Self::TooLarge(_) => break,
                Self::Data | Self::Event | Self::Id { .. } | Self::Retry { .. } => break,
            };
            bytes = rest;
        }
        bytes
    }

    /// Reads digits of `retry` as they come, so that leading zeros without end need no buffer.
    pub(super) fn read_retry(mut millis: u64, mut digits: bool, value: &[u8]) -> Self {
        for &byte in value {
            if !byte.is_ascii_digit() {
                return Self::Ignored;
            }
            millis = millis.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
            digits = true;
        }
        Self::Retry { millis, digits }
    }

    /// The field of a line that ends before its value began: `data:`, or `data` without a colon.
    pub(super) fn without_value(self) -> Option<Field> {
        match self {
            Self::Colon(field) => Some(field),
            Self::Name { field, matched } if usize::from(matched) == field.name().len() => Some(field),
            Self::Mark { .. } | Self::Start { .. } | Self::Name { .. } | Self::Ignored | Self::TooLarge(_) => None,
            Self::Data | Self::Event | Self::Id { .. } | Self::Retry { .. } => None,
        }
    }
}
