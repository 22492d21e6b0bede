//! One client, its socket, and what the gateway holds for it.

use std::collections::VecDeque;

use super::super::*;
use super::plan::Micros;

/// What a stream carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Event(u64),
    Comment,
    End(StreamEnd),
}

/// An open event stream, seen from the gateway.
#[derive(Debug)]
pub(super) struct Stream {
    pub generation: u64,
    pub inbox: VecDeque<Item>,
    /// Its end has come; nothing follows it.
    pub over: bool,
}

/// What a client says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    Message(u64),
    Pong,
    Goodbye,
    Gone,
}

/// What a client is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame {
    Message(u64),
    Ping,
    Close,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about a side")]
pub(super) struct Connection {
    pub session: Session,
    pub stream: Option<Stream>,
    /// The id of the newest event that was taken from a stream.
    pub position: u64,
    /// The generation of the stream that was asked for.
    pub reopening: Option<u64>,
    /// The client's socket, while the gateway has it.
    pub socket: bool,
    pub hanging_up: bool,
    /// From the client, not yet read.
    pub inbound: VecDeque<Said>,
    /// For the client, not yet read by it.
    pub outbound: VecDeque<Frame>,
    pub room: usize,
    /// The client is about to read.
    pub will_read: bool,
    pub paused: bool,
    /// The client has said goodbye, or gone.
    pub left: bool,
    /// By itself, before the end.
    pub left_early: bool,
    pub sent: u64,
    pub received: Vec<u64>,
    /// A POST came back of which nobody knows whether upstream has acted on it.
    pub in_doubt: bool,
    pub alarm: Option<Micros>,
}

impl Connection {
    pub(super) fn new(session: Session, room: usize) -> Self {
        Self {
            session,
            stream: Some(Stream { generation: 0, inbox: VecDeque::new(), over: false }),
            position: 0,
            reopening: None,
            socket: true,
            hanging_up: false,
            inbound: VecDeque::new(),
            outbound: VecDeque::new(),
            room,
            will_read: false,
            paused: false,
            left: false,
            left_early: false,
            sent: 0,
            received: Vec::new(),
            in_doubt: false,
            alarm: None,
        }
    }

    /// What happens next without anybody's doing, in the order in which the driver asks.
    pub(super) fn next_input(&mut self) -> Option<Next> {
        if self.session.reads_client()
            && self.socket
            && !self.hanging_up
            && let Some(said) = self.inbound.pop_front()
        {
            return Some(Next::Client(said));
        }
        if let Some(room) = self.room() {
            return Some(room);
        }
        let stream = self.stream.as_mut().filter(|_| self.session.reads_events())?;
        let item = stream.inbox.pop_front()?;
        Some(Next::Stream(item))
    }

    fn room(&self) -> Option<Next> {
        let waits = self.session.client_waits();
        if !waits && !self.session.is_open() {
            return None;
        }
        let busy = self.session.client_is_busy();
        let has_room = self.socket && self.outbound.len() < self.room;
        if has_room { (busy || waits).then_some(Next::Ready) } else { (!busy).then_some(Next::Busy) }
    }
}

#[derive(Debug)]
pub(super) enum Next {
    Client(Said),
    Ready,
    Busy,
    Stream(Item),
}
