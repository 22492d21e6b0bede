//! `text/event-stream`, read and written as the WHATWG HTML standard says under "Server-sent events".
//!
//! [`Parser`] takes the chunks of a response body as they come and gives events; [`encode`] writes one. `line` knows
//! where in a line the parser stands, `value` holds the bytes of one value and leaves them in the chunk while it can,
//! `limits` says how much is held at all. [`Boundary`] follows a stream that is passed on unread.

mod boundary;
mod encode;
mod limits;
mod line;
mod parser;
#[cfg(test)]
mod tests;
mod value;

pub use boundary::{Boundary, Mark};
pub use encode::{EncodeError, comment, encode};
pub use limits::{Limits, ParseError};
pub use parser::{Event, Parser};
