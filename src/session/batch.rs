//! Several messages in one body.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::de::IgnoredAny;

use super::settings::Batch;
use crate::protocol::message::Message;

/// The bodies of a batch: JSON texts, one a line or in an array.
#[derive(Debug)]
pub(super) struct Builder {
    form: Batch,
    body: BytesMut,
    count: u64,
}

/// Whether a message can be part of a batch: only JSON can be told apart again from its neighbours.
pub(super) fn takes(message: &Message) -> bool {
    match message {
        Message::Text(text) => serde_json::from_str::<IgnoredAny>(text.as_str()).is_ok(),
        Message::Binary(_) => false,
    }
}

impl Builder {
    pub(super) fn new(form: Batch) -> Self {
        Self { form, body: BytesMut::new(), count: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the body with one more message of `length` bytes.
    pub(super) fn size_with(&self, length: usize) -> usize {
        self.body.len() + length + 2
    }

    /// Adds a message that [`takes`] has let in.
    pub(super) fn add(&mut self, message: &Message) {
        let Message::Text(text) = message else { return };
        match (self.form, self.count) {
            (Batch::JsonArray, 0) => self.body.put_u8(b'['),
            (Batch::JsonArray, _) => self.body.put_u8(b','),
            (Batch::Ndjson | Batch::Off, _) => {}
        }
        let start = self.body.len();
        self.body.put_slice(text.as_bytes());
        if self.form == Batch::Ndjson {
            // A line break inside JSON stands between tokens, where any white space will do.
            for byte in self.body.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
                *byte = b' ';
            }
            self.body.put_u8(b'\n');
        }
        self.count += 1;
    }

    /// The body and the number of messages in it.
    pub(super) fn finish(mut self) -> (Bytes, u64) {
        if self.form == Batch::JsonArray {
            self.body.put_u8(b']');
        }
        (self.body.freeze(), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(form: Batch, messages: &[&'static str]) -> String {
        let mut builder = Builder::new(form);
        for message in messages {
            builder.add(&Message::from(*message));
        }
        let (body, count) = builder.finish();
        assert_eq!(count, messages.len() as u64);
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn messages_become_lines_or_an_array() {
        assert_eq!(built(Batch::Ndjson, &["1", "{\"a\":\n 2}"]), "1\n{\"a\":  2}\n");
        assert_eq!(built(Batch::JsonArray, &["1", "{\"a\":\n 2}"]), "[1,{\"a\":\n 2}]");
        assert_eq!(built(Batch::JsonArray, &["\"x\""]), "[\"x\"]");
    }

    #[test]
    fn only_json_can_be_part_of_a_batch() {
        for text in ["1", " {} ", "\"a\"", "null", "[1,\n2]"] {
            assert!(takes(&Message::from(text)), "{text}");
        }
        for text in ["", "hello", "{", "1 2", "{}\n{}"] {
            assert!(!takes(&Message::from(text)), "{text}");
        }
        assert!(!takes(&Message::Binary(Bytes::from_static(b"1"))));
    }

    #[test]
    fn the_size_said_before_is_never_too_small() {
        for form in [Batch::Ndjson, Batch::JsonArray] {
            let mut builder = Builder::new(form);
            for text in ["1", "\"two\"", "{\"three\":3}"] {
                let said = builder.size_with(text.len());
                builder.add(&Message::from(text));
                let real = builder.body.len() + usize::from(form == Batch::JsonArray);
                assert!(said >= real, "{form:?}: said {said}, is {real}");
            }
        }
    }
}
