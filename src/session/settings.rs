//! What one session is told when it begins.

use std::num::NonZeroU32;
use std::time::Duration;

use super::rate::Rate;
use crate::protocol::Text;

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
    /// What is posted again after a failure.
    pub retry: Retry,
    /// Whether messages that queued up go out in one POST.
    pub batch: Batch,
    /// Largest body, in bytes, of a POST with more than one message.
    pub batch_size: usize,
    /// Whether the body of a 2xx answer is a message for the client.
    pub replies: bool,
    /// Texts that are answered here and not posted: what the client sends, and what it is sent back.
    pub auto_reply: Vec<(Text, Text)>,
    /// How many messages the client may send; `None` is any number. Those count that are answered here.
    pub message_rate: Option<Rate>,
    /// How many bytes of messages the client may send; `None` is any number.
    pub byte_rate: Option<Rate>,
    /// What becomes of a client that sends more.
    pub over_rate: OverRate,
    /// What becomes of events while the client does not take them fast enough.
    pub overflow: Overflow,
    /// How many bytes of messages may wait for the client where `overflow` lets them; each message counts 128 bytes more
    /// than its payload.
    pub send_queue: usize,
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
    /// How long one message may take to be accepted, repeated POSTs included; time without an event stream does not count.
    pub delivery_timeout: Duration,
    /// Whether upstream is told by a last POST that the client is gone.
    pub notify_close: bool,
    /// How long an event stream may give no byte before it counts as gone.
    pub stall_timeout: Duration,
    /// How the event stream is opened again.
    pub reconnect: Reconnect,
    /// How long a connection may carry no message in either direction; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How old a connection may become; it ends up to a tenth earlier. `None` is without a limit.
    pub max_age: Option<Duration>,
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
            retry: Retry::Safe,
            batch: Batch::Off,
            batch_size: 64 * 1024,
            replies: false,
            auto_reply: Vec::new(),
            message_rate: None,
            byte_rate: None,
            over_rate: OverRate::Pause,
            overflow: Overflow::Pause,
            send_queue: 256 * 1024,
            named_events: NamedEvents::Data,
            binary_event: "tidegate.binary".to_owned(),
            close_event: "tidegate.close".to_owned(),
            refused_message: RefusedMessage::Close,
            max_reply_streams: 8,
            delivery_timeout: Duration::from_mins(1),
            notify_close: false,
            stall_timeout: Duration::from_secs(90),
            reconnect: Reconnect::default(),
            idle_timeout: None,
            max_age: None,
            ping_interval: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// How the event stream is opened again once it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Longest wait before the first attempt; the wait is random, from nothing to this. What upstream says with `retry:`
    /// is waited in addition. It doubles with each attempt that fails.
    pub first_delay: Duration,
    /// Longest wait before any attempt, unless upstream asks for more with `Retry-After`.
    pub max_delay: Duration,
    /// How long a connection may be without an event stream.
    pub give_up_after: Duration,
    /// What follows where events may have been lost.
    pub on_gap: OnGap,
    /// Name of the event with which upstream says that it no longer has the position.
    pub gap_event: String,
    /// How many of the newest event ids are remembered, to leave out what comes again behind a reopening.
    pub remember_ids: usize,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(10),
            give_up_after: Duration::from_mins(2),
            on_gap: OnGap::Close,
            gap_event: "tidegate.gap".to_owned(),
            remember_ids: 64,
        }
    }
}

/// Policy for events that may have been lost: upstream says so, or has never sent an id that could be resumed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    /// The connection ends with 1012, so that the client begins anew.
    #[default]
    Close,
    /// The client is sent a text message that says so; the connection goes on.
    Tell,
    /// The gap is counted and the connection goes on.
    Continue,
}

/// Which POSTs are repeated after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// Those that upstream cannot have acted on.
    #[default]
    Safe,
    /// Also those that it may have acted on: it knows them again by their `Idempotency-Key`.
    Idempotent,
}

/// Whether and how several messages go out in one POST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batch {
    /// Each message is a POST of its own.
    #[default]
    Off,
    /// One JSON text a line, as `application/x-ndjson`.
    Ndjson,
    /// A JSON array, as `application/json`.
    JsonArray,
}

/// Policy for a client that sends more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverRate {
    /// It is not read until it may send again; TCP slows it down, and nothing is lost.
    #[default]
    Pause,
    /// The connection ends with 1008, and the message that was too much is not delivered.
    Close,
}

/// Policy for events that the client is too slow for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The event stream is not read until the client has caught up; upstream feels it.
    #[default]
    Pause,
    /// Up to `send_queue` waits; beyond it the connection ends.
    Close,
    /// Up to `send_queue` waits; beyond it the oldest waiting messages are left out, and counted.
    DropOldest,
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
