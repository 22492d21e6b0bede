//! How much the parser buffers, and the error when a stream wants more.

use super::line::Field;

/// What the parser is willing to hold, in bytes of UTF-8. A value of exactly the limit is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The data of one event, with the LFs between its lines and without a last one.
    pub event: usize,
    /// The value of one `id` or `event` line.
    pub field: usize,
}

impl Limits {
    pub(super) fn check(&self, field: Field, length: usize) -> Result<(), TooLarge> {
        if length <= self.of(field) { Ok(()) } else { Err(TooLarge(field)) }
    }

    pub(super) fn error(&self, field: Field) -> ParseError {
        let limit = self.of(field);
        match field {
            Field::Data => ParseError::EventTooLarge { limit },
            Field::Event | Field::Id | Field::Retry => ParseError::FieldTooLarge { field: field.name(), limit },
        }
    }

    fn of(&self, field: Field) -> usize {
        match field {
            Field::Data => self.event,
            Field::Event | Field::Id | Field::Retry => self.field,
        }
    }
}

/// The stream holds something we refuse to buffer. A parser that failed stays failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The data of one event is over [`Limits::event`].
    #[error("the data of an event is longer than {limit} bytes")]
    EventTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A field other than `data` is over [`Limits::field`].
    #[error("the value of field `{field}` is longer than {limit} bytes")]
    FieldTooLarge {
        /// `id` or `event`.
        field: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
}

/// The field that is over its limit; all the parser has to remember of a [`ParseError`].
pub(super) struct TooLarge(pub(super) Field);
