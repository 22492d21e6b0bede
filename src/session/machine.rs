//! The session: what follows from each thing that can happen to a connection.
//!
//! Here are its state, its deadlines and what can be asked of it; what follows from one kind of input stands in a file each.

mod client;
mod ending;
mod events;
mod posts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::backoff::Backoff;
use super::cause::Cause;
use super::downlink::Downlink;
use super::gate::Gate;
use super::heartbeat::{Beat, Heartbeat};
use super::lifetime::Lifetime;
use super::seen::Seen;
use super::settings::{Overflow, Settings};
use super::signals::{Counts, Input, Output, StreamState};
use super::stream::{Due, MainStream};
use super::uplink::Uplink;

/// Least time before a message is posted again, however little upstream asks for: `Retry-After: 0` is no invitation to
/// a busy loop.
const LEAST_WAIT: Duration = Duration::from_millis(250);

/// How long a client that has said goodbye may take to end its side of the socket. Ending ours before it has read our
/// goodbye could cost it that.
const LINGER: Duration = Duration::from_millis(500);

/// One connection's rules and state.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    phase: Phase,
    heartbeat: Heartbeat,
    lifetime: Lifetime,
    up: Uplink,
    down: Downlink,
    /// How fast the client may send; `None` is as fast as it likes.
    pub(super) gate: Option<Box<Gate>>,
    stream: MainStream,
    backoff: Backoff,
    seen: Seen,
    /// Event streams that answer a POST.
    reply_streams: usize,
    counts: Counts,
}

#[derive(Debug)]
enum Phase {
    /// The client is there.
    Open,
    /// The end has begun: its cause is settled, but the client's socket or the client's last messages still need time.
    Ending {
        cause: Cause,
        client: ClientSide,
        /// Until when what the client has sent is still delivered.
        delivering_until: Option<Instant>,
        /// What upstream is told, once all else is delivered.
        leave: Leave,
    },
    /// Terminal: no input leads out of it.
    Closed { cause: Cause },
}

/// What is left of the client's side once the end has begun.
#[derive(Clone, Copy, Debug)]
enum ClientSide {
    /// Our close frame is sent or waits to be, the client's is awaited until then.
    Closing(Instant),
    /// The socket is being ended in order, until then.
    HangingUp(Instant),
    /// Nothing.
    Gone,
}

/// The news for upstream that the client is gone.
#[derive(Debug)]
enum Leave {
    /// It is not wanted, or over.
    Done,
    /// Nothing has been sent of it yet.
    Due(Bytes),
    /// It is under way.
    Posted,
}

impl Session {
    /// A session whose event stream is open and whose client has just been let in. `seed` is random and differs between
    /// connections: it keeps them from doing things at the same time. `expires` is when the client's identity ends; `None` is
    /// never.
    #[must_use]
    pub fn new(settings: Arc<Settings>, seed: u64, expires: Option<Instant>, now: Instant) -> Self {
        let [spread, ..] = seed.to_le_bytes();
        Self {
            phase: Phase::Open,
            heartbeat: Heartbeat::new(settings.ping_interval, settings.pong_timeout, spread, now),
            lifetime: Lifetime::new(settings.idle_timeout, settings.max_age, expires, spread, now),
            up: Uplink::default(),
            down: Downlink::default(),
            gate: Gate::new(&settings, now),
            stream: MainStream::open(seed, now),
            backoff: Backoff::new(!seed),
            seen: Seen::default(),
            reply_streams: 0,
            counts: Counts::default(),
            settings,
        }
    }

    /// Takes what happened at `now` and appends what must be done to `out`.
    pub fn step(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        let was_reading = self.reads_client();
        match input {
            Input::Client(input) => self.client(input, now, out),
            Input::ClientReady => self.client_ready(now, out),
            Input::ClientBusy => self.down.block(),
            Input::Event(event, of) => self.event(event, of, now, out),
            Input::StreamAlive => self.stream.heard(now),
            Input::StreamEnded(end, left) => self.stream_ended(end, left, now, out),
            Input::ReplyEnded(end) => self.reply_ended(end, now, out),
            Input::Reopened(reopened) => self.reopened(reopened, now, out),
            Input::Posted(delivery, outcome) => self.posted(delivery, outcome, now, out),
            Input::Tick => self.tick(now, out),
            Input::Revoked if self.is_open() => self.end(Cause::Revoked, now, out),
            // Its end has begun already; what it sent is not delivered any more.
            Input::Revoked => self.give_up_delivering(out),
            Input::Shutdown => self.end(Cause::Shutdown, now, out),
            Input::Cut => self.cut(now, out),
        }
        self.post_next(now, out);
        self.settle(now, out);
        if let Some(gate) = &mut self.gate {
            gate.lift(now);
        }
        if !was_reading && self.reads_client() {
            self.heartbeat.reading_again(now);
        }
    }

    /// Why the connection ended, once nothing is left to do for it.
    #[must_use]
    pub fn closed(&self) -> Option<&Cause> {
        match &self.phase {
            Phase::Closed { cause } => Some(cause),
            Phase::Open | Phase::Ending { .. } => None,
        }
    }

    /// Whether messages are to be read from the client's socket. While they are not, the client is slowed down by TCP.
    #[must_use]
    pub fn reads_client(&self) -> bool {
        match &self.phase {
            Phase::Open => {
                // What a client asks for waits for it. Whoever asks on and does not read is not heard any further.
                let asks_too_much =
                    self.settings.overflow == Overflow::Pause && self.down.bytes() >= self.settings.send_queue;
                self.up.queued_bytes() < self.settings.queue
                    && !self.up.is_held()
                    && !asks_too_much
                    && self.paused_until().is_none()
            }
            Phase::Ending { client, .. } => !matches!(client, ClientSide::Gone),
            Phase::Closed { .. } => false,
        }
    }

    /// Whether event streams are to be read.
    #[must_use]
    pub fn reads_events(&self) -> bool {
        let may_wait = self.settings.overflow != Overflow::Pause;
        self.is_open() && (may_wait || !(self.down.is_blocked() || self.down.waits()))
    }

    /// Whether event streams are still of use; once they are not, they can be given up.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether an answer to [`Output::Reopen`] is still awaited.
    #[must_use]
    pub fn awaits_stream(&self) -> bool {
        self.stream.is_opening()
    }

    /// Whether messages wait for the client's socket to take them: then [`Input::ClientReady`] sends one.
    #[must_use]
    pub fn client_waits(&self) -> bool {
        self.down.waits()
    }

    /// Whether [`Input::ClientBusy`] was the last that was heard of the client's socket.
    #[must_use]
    pub fn client_is_busy(&self) -> bool {
        self.down.is_blocked()
    }

    /// When [`Input::Tick`] is due; `None` once closed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let repeat = self.up.next_deadline().filter(|_| self.may_post());
        match &self.phase {
            Phase::Open => [
                Some(self.heartbeat.next_deadline()),
                self.stream.next_deadline(&self.settings),
                self.lifetime.next_deadline(),
                self.paused_until(),
                repeat,
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Ending { client, delivering_until, .. } => {
                let client = match client {
                    ClientSide::Closing(until) | ClientSide::HangingUp(until) => Some(*until),
                    ClientSide::Gone => None,
                };
                repeat.into_iter().chain(client).chain(*delivering_until).min()
            }
            Phase::Closed { .. } => None,
        }
    }

    /// Whether anything still goes to upstream or comes from it; once it does not, its streams can be given up, however
    /// long the client takes to say goodbye.
    #[must_use]
    pub fn needs_upstream(&self) -> bool {
        match &self.phase {
            Phase::Open => true,
            // The news of the client's leaving begins with the end of its stream.
            Phase::Ending { delivering_until, leave, .. } => {
                delivering_until.is_some() && !matches!(leave, Leave::Posted)
            }
            Phase::Closed { .. } => false,
        }
    }

    /// Whether POSTs are under way.
    #[cfg(test)]
    pub(super) fn awaits_posts(&self) -> bool {
        self.up.is_flying()
    }

    /// What was carried so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes of client messages that wait for their POST; each message counts 128 more than its payload.
    #[must_use]
    pub fn queued_up(&self) -> usize {
        self.up.queued_bytes()
    }

    /// Bytes of messages that wait for the client; each counts 128 more than its payload.
    #[must_use]
    pub fn queued_down(&self) -> usize {
        self.down.bytes()
    }

    /// How the main event stream is doing.
    #[must_use]
    pub fn stream_state(&self) -> StreamState {
        match &self.phase {
            Phase::Ending { .. } | Phase::Closed { .. } => StreamState::Ending,
            Phase::Open if self.stream.is_open() => StreamState::Open,
            Phase::Open if self.stream.is_opening() => StreamState::Opening,
            Phase::Open => StreamState::Waiting,
        }
    }

    /// Until when the client is not read because it has sent faster than it may.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.gate.as_ref().and_then(|gate| gate.until())
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        match &mut self.phase {
            Phase::Open => self.tick_open(now, out),
            Phase::Ending { client, delivering_until, .. } => {
                let late = delivering_until.is_some_and(|until| until <= now);
                if let ClientSide::Closing(until) | ClientSide::HangingUp(until) = *client
                    && until <= now
                {
                    *client = ClientSide::Gone;
                    out.push(Output::Abandon);
                }
                if late {
                    self.give_up_delivering(out);
                }
            }
            Phase::Closed { .. } => {}
        }
    }

    fn tick_open(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.heartbeat.beat(now, self.reads_client()) {
            Beat::Nothing => {}
            Beat::Ping => out.push(Output::Ping),
            Beat::Lost => return self.end(Cause::PongTimeout, now, out),
        }
        match self.stream.due(now, self.reads_events(), &self.settings) {
            Due::Nothing => {}
            Due::Stalled => out.push(Output::DropStream),
            Due::Reopen { resume } => out.push(Output::Reopen { resume }),
            Due::GiveUp => return self.end(Cause::UpstreamGone, now, out),
        }
        if let Some(cause) = self.lifetime.over(now) {
            self.end(cause, now, out);
        }
    }
}
