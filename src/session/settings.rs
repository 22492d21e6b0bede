//! What one session is told when it begins.

use std::num::NonZeroU32;
use std::time::Duration;

/// The rules of one route's sessions; shared by all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest message in bytes, inclusive, in either direction; a text message is counted in UTF-8.
    pub max_message_size: usize,
    /// How many bytes of client messages may wait for their POST before the socket is no longer read; each message counts
    /// 128 bytes more than its payload. One message more than this can be held: the one that filled the queue.
    pub queue: usize,
    /// POSTs under way at once. 1 keeps the order; anything above gives it up.
    pub in_flight: NonZeroU32,
    /// Whether the body of a 2xx answer is a message for the client.
    pub replies: bool,
    /// What becomes of an event whose name the contract gives no meaning.
    pub named_events: NamedEvents,
    /// Name of the event that carries a binary message in base64.
    pub binary_event: String,
    /// Name of the event that ends the connection.
    pub close_event: String,
    /// What a 4xx without a row of its own in the outcome table means.
    pub refused_message: RefusedMessage,
    /// Event streams that may answer POSTs at the same time; at this many, further messages wait in the queue.
    pub max_reply_streams: usize,
    /// How long one message may take to be accepted, waits that upstream asked for included.
    pub delivery_timeout: Duration,
    /// Time between two WebSocket pings.
    pub ping_interval: Duration,
    /// How long a ping may stay unanswered by any sign of life.
    pub pong_timeout: Duration,
    /// How long the closing handshake may take.
    pub close_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_message_size: 1024 * 1024,
            queue: 256 * 1024,
            in_flight: NonZeroU32::MIN,
            replies: false,
            named_events: NamedEvents::Data,
            binary_event: "tidegate.binary".to_owned(),
            close_event: "tidegate.close".to_owned(),
            refused_message: RefusedMessage::Close,
            max_reply_streams: 8,
            delivery_timeout: Duration::from_mins(1),
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// Policy for events whose name is neither `message` nor one of the contract's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamedEvents {
    /// The data becomes a text message; the name is dropped.
    #[default]
    Data,
    /// A JSON object with `event`, `id` and `data` becomes a text message.
    Envelope,
    /// Nothing is sent; the event is counted.
    Ignore,
}

/// Policy for a message that upstream refused with a 4xx that has no row of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusedMessage {
    /// The connection ends with 1008.
    #[default]
    Close,
    /// The client is sent a text message that names the message and the status; the connection goes on.
    Tell,
    /// The refusal is counted and the connection goes on.
    Count,
}
