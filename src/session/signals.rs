//! What goes into a session and what comes out of it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cause::Doubt;
use super::settings::Batch;
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::protocol::sse::Event;

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// On the client's socket.
    Client(ClientInput),
    /// The client's socket takes one more message.
    ClientReady,
    /// The client's socket takes no more messages.
    ClientBusy,
    /// An event stream gave an event.
    Event(Event, EventOf<'a>),
    /// The main event stream gave bytes that are no event, such as a comment.
    StreamAlive,
    /// The main event stream is over.
    StreamEnded(StreamEnd, Left),
    /// An event stream that answered a POST is over.
    ReplyEnded(StreamEnd),
    /// What came of [`Output::Reopen`].
    Reopened(Reopened),
    /// A POST came to its end.
    Posted(Delivery, PostOutcome),
    /// The time of [`Session::next_deadline`](super::Session::next_deadline) has come.
    Tick,
    /// What the client had proven was taken back.
    Revoked,
    /// The gateway is stopping.
    Shutdown,
    /// The gateway stops now, whatever is left.
    Cut,
}

/// What happened on the client's socket.
#[derive(Debug)]
pub enum ClientInput {
    /// A whole message.
    Message(Message),
    /// A ping or a pong.
    Alive,
    /// A close frame, with what it holds if it holds anything. The socket has answered it.
    Closed(Option<CloseFrame>),
    /// Something that ends the connection by RFC 6455 or by a limit. Nothing more can be read.
    Violation(Violation),
    /// The socket is gone: an error, an end without a close frame, or the end of an [`Output::HangUp`].
    Gone,
}

/// How a client broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A frame that RFC 6455 does not allow; the text says why.
    Protocol(&'static str),
    /// A text message that is not UTF-8.
    Text,
    /// A message above the limit.
    TooBig,
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventOf<'a> {
    /// Its stream.
    pub source: Source,
    /// The stream's last event id after it.
    pub last_event_id: &'a str,
    /// Whether the event itself has set that id.
    pub own_id: bool,
}

/// Which event stream is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The connection's own, opened before the client was let in.
    Main,
    /// The answer to a POST.
    Reply,
}

/// How an event stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Upstream ended the body in the regular way.
    Complete,
    /// The body broke off.
    Broken,
    /// It was silent for too long, and was given up by [`Output::DropStream`].
    Stalled,
    /// The data of an event is above the limit.
    EventTooLarge,
    /// The `id` or `event` field of an event is above the limit.
    FieldTooLarge,
}

/// What an event stream leaves to the one that continues it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Whether there is a last event id to resume from.
    pub resumable: bool,
    /// The newest reconnection time that upstream set.
    pub retry: Option<Duration>,
}

/// What came of asking for the event stream again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopened {
    /// It is open.
    Open,
    /// 204: there is nothing more to come.
    Stopped,
    /// 412: upstream no longer has the position.
    PositionLost,
    /// Another status.
    Refused {
        /// The status.
        status: u16,
        /// How long upstream asks to wait.
        retry_after: Option<Duration>,
    },
    /// No answer, or one that is no event stream.
    Failed,
    /// An answer that the contract does not allow; the text says why.
    Invalid(&'static str),
}

/// One POST on its way upstream.
#[derive(Debug)]
pub struct Delivery {
    /// The number of its first message on this connection, from 1.
    pub sequence: u64,
    /// What it carries; shared, not copied.
    pub payload: Payload,
    /// How often it was posted before.
    pub attempt: u32,
    /// Why upstream may have acted on it already, if it may.
    pub(super) doubt: Option<Doubt>,
    /// When it is no longer tried.
    pub(super) give_up: Instant,
    /// For how long nothing could be delivered on this connection when that was set.
    pub(super) stood_still: Duration,
}

/// What a POST carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// One message.
    Message(Message),
    /// Several, in one body.
    Batch {
        /// How they are put together; not [`Batch::Off`].
        form: Batch,
        /// The body.
        body: Bytes,
        /// How many.
        count: u64,
    },
    /// The news that the client is gone, as a JSON object.
    Leave(Bytes),
}

impl Delivery {
    /// How many of the client's messages it carries.
    #[must_use]
    pub const fn count(&self) -> u64 {
        match &self.payload {
            Payload::Message(_) => 1,
            Payload::Batch { count, .. } => *count,
            Payload::Leave(_) => 0,
        }
    }

    /// Size of the body in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.payload {
            Payload::Message(message) => message.len(),
            Payload::Batch { body, .. } | Payload::Leave(body) => body.len(),
        }
    }

    /// Whether the body is empty, as that of an empty message is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When it is no longer tried.
    #[must_use]
    pub const fn give_up(&self) -> Instant {
        self.give_up
    }
}

/// How a POST ended.
#[derive(Debug)]
pub enum PostOutcome {
    /// A 2xx, with the message that its body holds where the route takes replies.
    Accepted(Option<Message>),
    /// A 2xx whose body is an event stream; its events come as [`Input::Event`].
    Streaming,
    /// A 2xx whose body is above the message limit.
    ReplyTooLarge,
    /// A 2xx whose body cannot be a message; the text says why.
    ReplyInvalid(&'static str),
    /// Any other answer.
    Refused {
        /// The status.
        status: u16,
        /// How long upstream asks to wait.
        retry_after: Option<Duration>,
    },
    /// It did not go out: upstream has not seen it.
    NotSent,
    /// It went out, and no answer came: upstream may have acted on it.
    InDoubt(Doubt),
}

/// What must be done.
#[derive(Debug)]
pub enum Output {
    /// Send the client a message.
    Send(Message),
    /// Send the client a ping.
    Ping,
    /// Send the client a close frame; go on reading.
    Close(CloseFrame),
    /// Send what is buffered, end the socket in order, and report [`ClientInput::Gone`] when that is done.
    HangUp,
    /// Drop the socket at once.
    Abandon,
    /// Post a message and report [`Input::Posted`].
    Post(Delivery),
    /// Give up all POSTs under way; none of them is to be reported.
    DropPosts,
    /// Give the main event stream up and report [`StreamEnd::Stalled`].
    DropStream,
    /// Ask for the main event stream again, and report [`Input::Reopened`].
    Reopen {
        /// Whether to ask from where the last one ended, or from wherever upstream begins.
        resume: bool,
    },
}

/// What can be seen of the main event stream from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamState {
    /// It is open.
    #[default]
    Open,
    /// It is gone, and the next attempt waits for its time.
    Waiting,
    /// It has been asked for.
    Opening,
    /// The connection is ending.
    Ending,
    /// There is none, because frames go to a WebSocket backend as they are.
    Legacy,
}

impl StreamState {
    /// Every one, in order.
    pub const ALL: [Self; 5] = [Self::Open, Self::Waiting, Self::Opening, Self::Ending, Self::Legacy];

    /// The word for it in metrics and in the list of connections.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waiting => "waiting",
            Self::Opening => "opening",
            Self::Ending => "ending",
            Self::Legacy => "legacy",
        }
    }
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages from the client that upstream accepted.
    pub messages_up: u64,
    /// Bytes of the POSTs that carried them.
    pub bytes_up: u64,
    /// Messages sent to the client.
    pub messages_down: u64,
    /// Their bytes.
    pub bytes_down: u64,
    /// Messages from the client that were not delivered, or may not have been, because the connection ended.
    pub undelivered: u64,
    /// Messages from the client that upstream refused while the connection went on.
    pub refused: u64,
    /// Messages from the client that were answered here.
    pub auto_replies: u64,
    /// POSTs that were repeated.
    pub retries: u64,
    /// Events that the route ignores.
    pub ignored: u64,
    /// Events that came again behind a reopening and were left out.
    pub duplicates: u64,
    /// Messages for the client that were left out because it is too slow.
    pub dropped: u64,
    /// Messages for the client that still waited when the connection ended.
    pub unsent: u64,
    /// How often the event stream was opened again.
    pub reopens: u64,
    /// How often events may have been lost.
    pub gaps: u64,
    /// How often the client was not read for a while, because it sent faster than it may.
    pub rate_pauses: u64,
}
