//! A WebSocket message: the unit that tidegate carries.

use bytes::Bytes;

use super::Text;

/// A whole message, whatever fragments it came in (RFC 6455 section 5.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// UTF-8 text.
    Text(Text),
    /// Octets.
    Binary(Bytes),
}

impl Message {
    /// Payload length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(octets) => octets.len(),
        }
    }

    /// Whether the payload is empty, which is a legal message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload, without copying it.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(octets) => octets,
        }
    }
}

impl From<&'static str> for Message {
    fn from(text: &'static str) -> Self {
        Self::Text(Text::from_static(text))
    }
}
