//! What goes into a session and what comes out of it.

use std::time::{Duration, Instant};

use super::cause::PostFailure;
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::protocol::sse::Event;

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// On the client's socket.
    Client(ClientInput),
    /// An event stream gave an event; the text is the stream's last event id after it.
    Event(Event, &'a str),
    /// An event stream is over.
    StreamEnded(Source, StreamEnd),
    /// A POST came to its end.
    Posted(Delivery, PostOutcome),
    /// The time of [`Session::next_deadline`](super::Session::next_deadline) has come.
    Tick,
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
    /// A close frame with this code, if it named one.
    Closed(Option<u16>),
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
    /// The data of an event is above the limit.
    EventTooLarge,
    /// The `id` or `event` field of an event is above the limit.
    FieldTooLarge,
}

/// One message on its way upstream.
#[derive(Debug)]
pub struct Delivery {
    /// Its number on this connection, from 1.
    pub sequence: u64,
    /// The message; shared, not copied.
    pub message: Message,
    /// When it is no longer tried.
    pub(super) give_up: Instant,
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
    /// No answer.
    Failed(PostFailure),
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
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages from the client that upstream accepted.
    pub messages_up: u64,
    /// Their bytes.
    pub bytes_up: u64,
    /// Messages sent to the client.
    pub messages_down: u64,
    /// Their bytes.
    pub bytes_down: u64,
    /// Messages from the client that were not delivered, or may not have been, because the connection ended.
    pub undelivered: u64,
    /// Messages from the client that upstream refused while the connection went on.
    pub refused: u64,
    /// Events that the route ignores.
    pub ignored: u64,
}
