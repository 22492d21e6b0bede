//! How a tunnel ends: pure rules. What happened and the time go in; what each side is to be told last comes out.
//!
//! Until something happens that ends it, bytes pass. A close frame passes like any other, and from then on there is a
//! deadline: the other side has to answer it and both have to end. Where it is the gateway that ends the tunnel, each side
//! gets a close frame of the gateway's between two frames of its own stream.

use std::time::{Duration, Instant};

use super::frames::Breach;
use crate::protocol::close::CloseFrame;
use crate::session::Cause;
use crate::session::lifetime::Lifetime;

/// "Going away" (RFC 6455 section 7.4.1): what a client says that leaves, and so what a backend is told.
const GOING_AWAY: u16 = 1001;

/// "Protocol error": what a backend is told that breaks the protocol.
const PROTOCOL_ERROR: u16 = 1002;

/// What a close without a code is called where people read it (RFC 6455 section 7.4.1); it is never sent.
const NO_CODE: u16 = 1005;

/// One of the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Backend,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Bytes have gone one way or the other.
    Moved,
    /// A close frame of this side was passed on whole, with its code if it has one.
    Closed(Side, Option<u16>),
    /// This side has ended its stream.
    Ended(Side),
    /// The connection to this side broke, or cannot be told anything any more.
    Lost(Side),
    /// What this side sent is no frame.
    Broke(Side, Breach),
    /// Our stream to this side has ended in order.
    Shut(Side),
    /// The client was sent away.
    Revoked,
    /// The gateway is stopping.
    Shutdown,
    /// Its deadline has passed.
    Cut,
    /// Time has passed.
    Tick,
}

/// What one side is told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// A close frame behind the frame that is passing, whatever waits behind that.
    Close(u16, String),
    /// All that has come for it; then a close frame, if the last frame was whole. One that was cut off is ended by a cut.
    RestAndClose(u16, String),
    /// All that has come for it, and then the end of the stream.
    Rest,
    /// Nothing: its connection is dropped.
    Drop,
}

/// What each side is to be told now, if it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) client: Option<Last>,
    pub(super) backend: Option<Last>,
}

/// How one side stands.
#[derive(Debug, Default)]
struct Peer {
    told: Told,
    /// Its stream to us has ended.
    ended: bool,
}

/// How far our stream to one side has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// It gets what the other side sends.
    #[default]
    Nothing,
    /// It is being told its last.
    Last,
    /// It has ended.
    Shut,
    /// There is no connection to it any more.
    Gone,
}

impl Peer {
    fn is_done(&self) -> bool {
        self.told == Told::Gone || (self.told == Told::Shut && self.ended)
    }

    fn advance(&mut self, told: Told) {
        if self.told != Told::Gone {
            self.told = told;
        }
    }
}

/// One tunnel's rules.
#[derive(Debug)]
pub(super) struct Rules {
    lifetime: Lifetime,
    close_timeout: Duration,
    /// Why it ends, and until when it may take to do so.
    ending: Option<(Cause, Instant)>,
    client: Peer,
    backend: Peer,
}

impl Rules {
    pub(super) fn new(lifetime: Lifetime, close_timeout: Duration) -> Self {
        Self { lifetime, close_timeout, ending: None, client: Peer::default(), backend: Peer::default() }
    }

    /// Why it has ended; `None` as long as it has not.
    pub(super) fn over(&self) -> Option<&Cause> {
        let (cause, _) = self.ending.as_ref()?;
        (self.client.is_done() && self.backend.is_done()).then_some(cause)
    }

    /// Whether something has ended it already.
    pub(super) const fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// When [`Input::Tick`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.ending.as_ref().map_or_else(|| self.lifetime.next_deadline(), |(_, until)| Some(*until))
    }

    pub(super) fn step(&mut self, input: Input, now: Instant) -> Orders {
        self.take_note(input);
        if self.ending.is_some() { self.end(input, now) } else { self.open(input, now) }
    }

    fn take_note(&mut self, input: Input) {
        match input {
            Input::Ended(side) => self.peer(side).ended = true,
            Input::Shut(side) => self.peer(side).advance(Told::Shut),
            Input::Lost(side) => self.peer(side).advance(Told::Gone),
            _ => {}
        }
    }

    fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    fn open(&mut self, input: Input, now: Instant) -> Orders {
        match input {
            Input::Moved => {
                self.lifetime.message(now);
                Orders::default()
            }
            Input::Closed(side, code) => {
                let cause = match side {
                    Side::Client => Cause::ClientClosed(code),
                    Side::Backend => Cause::UpstreamClosed(CloseFrame {
                        code: code.unwrap_or(NO_CODE),
                        reason: crate::protocol::Text::default(),
                    }),
                };
                self.because(cause, now);
                Orders::default()
            }
            // Nobody is there to be told; what it has sent is heard.
            Input::Ended(Side::Client) | Input::Lost(Side::Client) => {
                self.because(Cause::ClientLost, now);
                self.order(Some(Last::Drop), Some(Last::Rest))
            }
            Input::Ended(Side::Backend) | Input::Lost(Side::Backend) => {
                let last = last_word(&Cause::UpstreamLost, Last::RestAndClose);
                self.because(Cause::UpstreamLost, now);
                self.order(last, Some(Last::Drop))
            }
            Input::Broke(Side::Client, breach) => self.tell(Cause::ProtocolError(breach.how), GOING_AWAY, now),
            Input::Broke(Side::Backend, breach) => self.tell(Cause::UpstreamInvalid(breach.how), PROTOCOL_ERROR, now),
            Input::Revoked => self.tell(Cause::Revoked, GOING_AWAY, now),
            Input::Shutdown => self.tell(Cause::Shutdown, GOING_AWAY, now),
            Input::Cut => {
                self.because(Cause::Shutdown, now);
                self.order(Some(Last::Drop), Some(Last::Drop))
            }
            Input::Tick => match self.lifetime.over(now) {
                Some(cause) => self.tell(cause, GOING_AWAY, now),
                None => Orders::default(),
            },
            Input::Shut(_) => Orders::default(),
        }
    }

    fn end(&mut self, input: Input, now: Instant) -> Orders {
        let overdue = self.ending.as_ref().is_some_and(|(_, until)| *until <= now);
        match input {
            Input::Cut => self.order(Some(Last::Drop), Some(Last::Drop)),
            Input::Tick if overdue => self.order(Some(Last::Drop), Some(Last::Drop)),
            Input::Ended(side) | Input::Broke(side, _) => self.order_unless_told(side, None),
            Input::Lost(side) => self.order_unless_told(side, Some(Last::Drop)),
            _ => Orders::default(),
        }
    }

    /// This side sends nothing more: the other one gets the rest of it, unless it was told something else.
    fn order_unless_told(&mut self, side: Side, to_it: Option<Last>) -> Orders {
        match side {
            Side::Client => {
                let rest = (self.backend.told == Told::Nothing).then_some(Last::Rest);
                self.order(to_it, rest)
            }
            Side::Backend => {
                let rest = (self.client.told == Told::Nothing).then_some(Last::Rest);
                self.order(rest, to_it)
            }
        }
    }

    fn because(&mut self, cause: Cause, now: Instant) {
        // The time is a minute at most, so that there is such an instant.
        self.ending = Some((cause, now.checked_add(self.close_timeout).unwrap_or(now)));
    }

    /// The gateway ends it: each side is told so.
    fn tell(&mut self, cause: Cause, backend_code: u16, now: Instant) -> Orders {
        let client = last_word(&cause, Last::Close);
        let backend = Last::Close(backend_code, format!("{}: {cause}", cause.label()));
        self.because(cause, now);
        self.order(client, Some(backend))
    }

    fn order(&mut self, client: Option<Last>, backend: Option<Last>) -> Orders {
        for (peer, last) in [(&mut self.client, &client), (&mut self.backend, &backend)] {
            match last {
                None => {}
                Some(Last::Drop) => peer.advance(Told::Gone),
                Some(_) => peer.advance(Told::Last),
            }
        }
        Orders { client, backend }
    }
}

/// The close frame of a cause, for the client.
fn last_word(cause: &Cause, form: fn(u16, String) -> Last) -> Option<Last> {
    cause.frame(0).map(|frame| form(frame.code, frame.reason.to_string()))
}

#[cfg(test)]
mod tests;
