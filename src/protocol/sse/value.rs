//! The bytes of one value, left in the chunk they came in for as long as that is possible.

use bytes::Bytes;

use crate::protocol::Text;

/// What was read of `data` or `event` so far. Bytes are decoded only when the value is whole, so that a character cut
/// by the end of a chunk stays one character.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing, or one piece of the current chunk. It pins the whole chunk, but not for long: either the event leaves
    /// the parser while the chunk is read, or [`Value::detach`] copies the piece when the chunk is used up.
    Slice(Bytes),
    /// Several pieces put together. The buffer leaves with the event, so a large one is never kept here.
    Owned(Vec<u8>),
}

impl Default for Value {
    fn default() -> Self {
        Self::Slice(Bytes::new())
    }
}

impl Value {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Slice(bytes) => bytes.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// Appends `piece`, which lies within `chunk`.
    pub(super) fn append(&mut self, chunk: &Bytes, piece: &[u8]) {
        match self {
            Self::Slice(bytes) if bytes.is_empty() => *bytes = chunk.slice_ref(piece),
            Self::Owned(bytes) => bytes.extend_from_slice(piece),
            Self::Slice(bytes) => *self = Self::Owned([bytes, piece].concat()),
        }
    }

    /// Appends the LF that stands between two `data` lines.
    pub(super) fn append_line_feed(&mut self) {
        match self {
            Self::Owned(bytes) => bytes.push(b'\n'),
            Self::Slice(bytes) => *self = Self::Owned([bytes, b"\n".as_slice()].concat()),
        }
    }

    /// Lets go of the chunk. Rare: the end of a chunk has to fall into the middle of an event.
    pub(super) fn detach(&mut self) {
        match self {
            Self::Slice(bytes) if !bytes.is_empty() => *self = Self::Owned(bytes.to_vec()),
            Self::Slice(_) | Self::Owned(_) => {}
        }
    }

    /// Malformed UTF-8 becomes U+FFFD, so the text may be longer than [`Value::len`], but never shorter.
    pub(super) fn into_text(self) -> Text {
        match self {
            // The clone is a reference count only: a conversion that fails does not give the bytes back.
            Self::Slice(bytes) => Text::try_from(bytes.clone()).unwrap_or_else(|_| replace_malformed(&bytes)),
            Self::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(error) => replace_malformed(error.as_bytes()),
            },
        }
    }
}

fn replace_malformed(bytes: &[u8]) -> Text {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// How long `bytes` will be in [`decode_into`].
pub(super) fn decoded_length(bytes: &[u8]) -> usize {
    let replaced = |invalid: &[u8]| {
        if invalid.is_empty() { 0 } else { char::REPLACEMENT_CHARACTER.len_utf8() }
    };
    bytes.utf8_chunks().map(|chunk| chunk.valid().len() + replaced(chunk.invalid())).sum()
}

/// As `String::from_utf8_lossy`, into a buffer that is there already.
pub(super) fn decode_into(text: &mut String, bytes: &[u8]) {
    text.clear();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}
