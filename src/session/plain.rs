//! The plain dialect: what one event means to a WebSocket client (contract rules D1 to D5 in `docs/protocol.md`).

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet, engine::DecodePaddingMode};
use serde::{Deserialize, Serialize};

use super::settings::{NamedEvents, Settings};
use crate::protocol::close::{CloseFrame, is_sendable};
use crate::protocol::message::Message;
use crate::protocol::sse::Event;

/// RFC 4648 section 4. Padding may be left out: that loses nothing, and many encoders do it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What one event means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// One message for the client.
    Message(Message),
    /// The connection ends with this frame.
    Close(CloseFrame),
    /// Events before it may have been lost.
    Gap,
    /// Nothing, by the route's policy.
    Ignored,
    /// The message would be above the limit.
    TooBig,
    /// The contract does not allow it; the text says why.
    Invalid(&'static str),
}

/// The meaning of `event`; `last_event_id` is the stream's position after it.
#[must_use]
pub fn meaning(event: Event, last_event_id: &str, settings: &Settings) -> Meaning {
    let Some(name) = &event.name else {
        return message(Message::Text(event.data), settings);
    };
    let name = name.as_str();
    if name == settings.binary_event {
        return binary(event.data.as_str(), settings);
    }
    if name == settings.close_event {
        return close(event.data.as_str());
    }
    if name == settings.reconnect.gap_event {
        return Meaning::Gap;
    }
    match settings.named_events {
        NamedEvents::Data => message(Message::Text(event.data), settings),
        NamedEvents::Envelope => envelope(name, last_event_id, event.data.as_str(), settings),
        NamedEvents::Ignore => Meaning::Ignored,
    }
}

fn message(message: Message, settings: &Settings) -> Meaning {
    if message.len() > settings.max_message_size { Meaning::TooBig } else { Meaning::Message(message) }
}

fn binary(data: &str, settings: &Settings) -> Meaning {
    // Several data lines are one text with line feeds between them; a long payload may well be wrapped.
    let decoded =
        if data.contains('\n') { BASE64.decode(data.replace('\n', "")) } else { BASE64.decode(data.as_bytes()) };
    match decoded {
        Ok(octets) => message(Message::Binary(octets.into()), settings),
        Err(_) => Meaning::Invalid("a binary event does not hold base64"),
    }
}

/// The data of a close event; both fields may be left out.
#[derive(Deserialize)]
#[serde(default)]
struct CloseData {
    code: u16,
    reason: String,
}

impl Default for CloseData {
    fn default() -> Self {
        Self { code: 1000, reason: String::new() }
    }
}

fn close(data: &str) -> Meaning {
    let parsed = match data.trim_start() {
        "" => Some(CloseData::default()),
        // Asked first, because an array would do for the deserialiser.
        data if data.starts_with('{') => serde_json::from_str::<CloseData>(data).ok(),
        _ => None,
    };
    match parsed {
        Some(CloseData { code, reason }) if is_sendable(code) => Meaning::Close(CloseFrame::new(code, &reason)),
        Some(_) => Meaning::Invalid("a close event names a code that must not be sent"),
        None => Meaning::Invalid("a close event does not hold an object with code and reason"),
    }
}

fn envelope(event: &str, id: &str, data: &str, settings: &Settings) -> Meaning {
    #[derive(Serialize)]
    struct Envelope<'a> {
        event: &'a str,
        id: &'a str,
        data: &'a str,
    }
    match serde_json::to_string(&Envelope { event, id, data }) {
        Ok(text) => message(Message::Text(text.into()), settings),
        // Strings always serialise; kept as a value because nothing from outside may panic.
        Err(_) => Meaning::Invalid("an event cannot be put into an envelope"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::Text;

    fn event(name: Option<&'static str>, data: &str) -> Event {
        Event { name: name.map(Text::from_static), data: Text::from(data) }
    }

    fn of(name: Option<&'static str>, data: &str, settings: &Settings) -> Meaning {
        meaning(event(name, data), "7", settings)
    }

    fn text(text: &str) -> Meaning {
        Meaning::Message(Message::Text(Text::from(text)))
    }

    #[test]
    fn an_unnamed_event_is_a_text_message_byte_for_byte() {
        assert_eq!(of(None, " a\nb ü", &Settings::default()), text(" a\nb ü"));
        assert_eq!(of(None, "", &Settings::default()), text(""));
    }

    #[test]
    fn a_binary_event_is_decoded_with_or_without_padding_and_line_feeds() {
        let settings = Settings::default();
        let octets = |octets: &'static [u8]| Meaning::Message(Message::Binary(Bytes::from_static(octets)));
        for data in ["AAH/", "AA\nH/"] {
            assert_eq!(of(Some("tidegate.binary"), data, &settings), octets(&[0, 1, 255]));
        }
        for data in ["AA==", "AA"] {
            assert_eq!(of(Some("tidegate.binary"), data, &settings), octets(&[0]));
        }
        assert_eq!(of(Some("tidegate.binary"), "", &settings), octets(&[]));
        for data in ["A", "AA-_", "no base64", "é"] {
            assert!(matches!(of(Some("tidegate.binary"), data, &settings), Meaning::Invalid(_)), "{data}");
        }
    }

    #[test]
    fn a_close_event_gives_its_code_and_reason() {
        let settings = Settings::default();
        let close = |data| of(Some("tidegate.close"), data, &settings);
        assert_eq!(close(r#"{"code":4001,"reason":"bye"}"#), Meaning::Close(CloseFrame::new(4001, "bye")));
        assert_eq!(close(r#"{"code":1012}"#), Meaning::Close(CloseFrame::new(1012, "")));
        assert_eq!(close("{}"), Meaning::Close(CloseFrame::new(1000, "")));
        assert_eq!(close(""), Meaning::Close(CloseFrame::new(1000, "")));
        let long = format!(r#"{{"code":4001,"reason":"{}"}}"#, "é".repeat(100));
        assert_eq!(close(&long), Meaning::Close(CloseFrame::new(4001, &"é".repeat(61))));
    }

    #[test]
    fn a_close_event_with_a_reserved_code_is_a_breach_of_the_contract() {
        for code in [0, 999, 1004, 1005, 1006, 1011, 1014, 1015, 2000, 5000] {
            let data = format!(r#"{{"code":{code}}}"#);
            assert!(matches!(of(Some("tidegate.close"), &data, &Settings::default()), Meaning::Invalid(_)), "{code}");
        }
        for data in ["4001", "[]", r#"{"code":70000}"#, r#"{"code":"1000"}"#, "{"] {
            assert!(matches!(of(Some("tidegate.close"), data, &Settings::default()), Meaning::Invalid(_)), "{data}");
        }
    }

    #[test]
    fn other_names_follow_the_route() {
        let with = |named_events| Settings { named_events, ..Settings::default() };
        assert_eq!(of(Some("tick"), "1", &with(NamedEvents::Data)), text("1"));
        assert_eq!(of(Some("tick"), "1", &with(NamedEvents::Ignore)), Meaning::Ignored);
        assert_eq!(
            of(Some("tick"), "a\n\"b\"", &with(NamedEvents::Envelope)),
            text(r#"{"event":"tick","id":"7","data":"a\n\"b\""}"#)
        );
    }

    #[test]
    fn the_contracts_own_names_can_be_changed() {
        let settings = Settings { binary_event: "bin".into(), close_event: "bye".into(), ..Settings::default() };
        assert_eq!(of(Some("bin"), "AA==", &settings), Meaning::Message(Message::Binary(Bytes::from_static(&[0]))));
        assert_eq!(of(Some("bye"), "", &settings), Meaning::Close(CloseFrame::new(1000, "")));
        assert_eq!(of(Some("tidegate.close"), "hello", &settings), text("hello"));
    }

    #[test]
    fn the_size_limit_is_inclusive_and_counts_the_message() {
        let settings = Settings { max_message_size: 3, ..Settings::default() };
        assert_eq!(of(None, "abc", &settings), text("abc"));
        assert_eq!(of(None, "abcd", &settings), Meaning::TooBig);
        assert!(matches!(of(Some("tidegate.binary"), "AAAA", &settings), Meaning::Message(_)));
        assert_eq!(of(Some("tidegate.binary"), "AAAAAA==", &settings), Meaning::TooBig);
    }
}
