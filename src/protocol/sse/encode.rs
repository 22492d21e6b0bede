//! Writes event streams. The gateway itself only reads them; backends and tests write.

use std::iter;

use memchr::{memchr2, memchr3};

/// A name or id that would end its line early, or that every reader would ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` must not contain CR, LF or NUL")]
pub struct EncodeError {
    /// `event` or `id`.
    pub field: &'static str,
}

/// Writes one event, blank line included. An `id` of `Some("")` clears the reader's last event id; an `event` of
/// `None`, `""` or `message` reads as `message`.
///
/// Data may hold any text, but the format has no way to write a CR: each CR, LF or CRLF becomes a LF for the reader.
///
/// # Errors
///
/// The event name or the id holds CR, LF or NUL.
pub fn encode(event: Option<&str>, id: Option<&str>, data: &str) -> Result<String, EncodeError> {
    let mut text = String::with_capacity(data.len() + 64);
    for (field, value) in [("event", event), ("id", id)] {
        let Some(value) = value else { continue };
        if memchr3(b'\r', b'\n', 0, value.as_bytes()).is_some() {
            return Err(EncodeError { field });
        }
        write_line(&mut text, field, value);
    }
    lines(data).for_each(|line| write_line(&mut text, "data", line));
    text.push('\n');
    Ok(text)
}

/// Writes a comment, of several lines if `text` has several, and a blank line. Readers skip it: a keepalive.
pub fn comment(text: &str) -> String {
    let mut comment = String::with_capacity(text.len() + 8);
    lines(text).for_each(|line| write_line(&mut comment, "", line));
    comment.push('\n');
    comment
}

/// The reader drops one space after the colon, so there has to be one: the value may start with another.
fn write_line(text: &mut String, field: &str, value: &str) {
    text.extend([field, ": ", value, "\n"]);
}

/// Splits at each CR, LF or CRLF. Unlike [`str::lines`], a line end at the end leaves an empty line behind it.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest.take()?;
        let Some((line, after)) = memchr2(b'\r', b'\n', text.as_bytes()).and_then(|end| text.split_at_checked(end))
        else {
            return Some(text);
        };
        rest = after.strip_prefix("\r\n").or_else(|| after.strip_prefix(['\r', '\n']));
        Some(line)
    })
}
