//! The session: what follows from each thing that can happen to a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cause::Cause;
use super::heartbeat::{Beat, Heartbeat};
use super::plain::{self, Meaning};
use super::settings::{RefusedMessage, Settings};
use super::signals::{ClientInput, Counts, Delivery, Input, Output, PostOutcome, Source, StreamEnd, Violation};
use crate::protocol::message::Message;
use crate::protocol::sse::Event;

/// Least time before a message is posted again, however little upstream asks for: `Retry-After: 0` is no invitation to
/// a busy loop.
const LEAST_WAIT: Duration = Duration::from_millis(250);

/// What a message takes in the queue besides its payload, in bytes: without it a queue could hold empty messages for ever.
pub(super) const PLACE: usize = 128;

/// How long a client that has said goodbye may take to end its side of the socket. Ending ours before it has read our
/// goodbye could cost it that.
const LINGER: Duration = Duration::from_millis(500);

/// One connection's rules and state.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    phase: Phase,
    heartbeat: Heartbeat,
    /// Messages that wait for their first POST.
    queue: VecDeque<Message>,
    queued_bytes: usize,
    /// Messages that upstream asked to be sent again later, and when.
    waiting: Vec<(Instant, Delivery)>,
    /// POSTs under way.
    flying: u32,
    /// Event streams that answer a POST.
    reply_streams: usize,
    /// The number of the newest message that was posted.
    sequence: u64,
    counts: Counts,
}

#[derive(Debug)]
enum Phase {
    /// Both sides are there.
    Open,
    /// The end has begun: its cause is settled, but the client's socket or the client's last messages still need time.
    Ending { cause: Cause, client: ClientSide, delivering_until: Option<Instant> },
    /// Terminal: no input leads out of it.
    Closed { cause: Cause },
}

/// What is left of the client's side once the end has begun.
#[derive(Clone, Copy, Debug)]
enum ClientSide {
    /// Our close frame is sent, the client's is awaited until then.
    Closing(Instant),
    /// The socket is being ended in order, until then.
    HangingUp(Instant),
    /// Nothing.
    Gone,
}

impl Session {
    /// A session whose event stream is open and whose client has just been let in. `spread` comes from the
    /// connection's id and moves its heartbeat.
    #[must_use]
    pub fn new(settings: Arc<Settings>, spread: u8, now: Instant) -> Self {
        let heartbeat = Heartbeat::new(settings.ping_interval, settings.pong_timeout, spread, now);
        Self {
            settings,
            phase: Phase::Open,
            heartbeat,
            queue: VecDeque::new(),
            queued_bytes: 0,
            waiting: Vec::new(),
            flying: 0,
            reply_streams: 0,
            sequence: 0,
            counts: Counts::default(),
        }
    }

    /// Takes what happened at `now` and appends what must be done to `out`.
    pub fn step(&mut self, input: Input<'_>, now: Instant, out: &mut Vec<Output>) {
        let was_reading = self.reads_client();
        match input {
            Input::Client(input) => self.client(input, now, out),
            Input::Event(event, last_event_id) => self.event(event, last_event_id, now, out),
            Input::StreamEnded(source, end) => self.stream_ended(source, end, now, out),
            Input::Posted(delivery, outcome) => self.posted(delivery, outcome, now, out),
            Input::Tick => self.tick(now, out),
            Input::Shutdown => self.end(Cause::Shutdown, now, out),
            Input::Cut => self.cut(now, out),
        }
        self.post_next(now, out);
        self.settle();
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

    /// Whether the client's socket is to be read. While it is not, the client is slowed down by TCP.
    #[must_use]
    pub fn reads_client(&self) -> bool {
        match &self.phase {
            Phase::Open => self.queued_bytes < self.settings.queue && self.waiting.is_empty(),
            Phase::Ending { client, .. } => !matches!(client, ClientSide::Gone),
            Phase::Closed { .. } => false,
        }
    }

    /// Whether event streams are to be read, as far as the rules are concerned.
    #[must_use]
    pub fn reads_events(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// When [`Input::Tick`] is due; `None` once closed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let retry = self.waiting.iter().map(|(at, _)| *at).min();
        match &self.phase {
            Phase::Open => retry.into_iter().chain([self.heartbeat.next_deadline()]).min(),
            Phase::Ending { client, delivering_until, .. } => {
                let client = match client {
                    ClientSide::Closing(until) | ClientSide::HangingUp(until) => Some(*until),
                    ClientSide::Gone => None,
                };
                retry.into_iter().chain(client).chain(*delivering_until).min()
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
            Phase::Ending { delivering_until, .. } => delivering_until.is_some(),
            Phase::Closed { .. } => false,
        }
    }

    /// Whether POSTs under way still matter; once they do not, they can be dropped.
    #[must_use]
    pub fn awaits_posts(&self) -> bool {
        self.flying > 0
    }

    /// What was carried so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn client(&mut self, input: ClientInput, now: Instant, out: &mut Vec<Output>) {
        self.heartbeat.alive();
        match (&mut self.phase, input) {
            (Phase::Open, ClientInput::Message(message)) => {
                self.queued_bytes += message.len() + PLACE;
                self.queue.push_back(message);
            }
            (Phase::Open, ClientInput::Alive) => {}
            (Phase::Open, ClientInput::Closed(code)) => self.end(Cause::ClientClosed(code), now, out),
            (Phase::Open, ClientInput::Gone) => self.end(Cause::ClientLost, now, out),
            (Phase::Open, ClientInput::Violation(violation)) => {
                let cause = match violation {
                    Violation::Protocol(how) => Cause::ProtocolError(how),
                    Violation::Text => Cause::InvalidText,
                    Violation::TooBig => Cause::MessageTooBig(self.settings.max_message_size),
                };
                self.end(cause, now, out);
            }
            // After our close frame a client may go on sending until it has seen it.
            (Phase::Ending { .. }, ClientInput::Message(_)) => self.counts.undelivered += 1,
            (Phase::Ending { .. }, ClientInput::Alive) => {}
            (Phase::Ending { client, .. }, ClientInput::Closed(_) | ClientInput::Violation(_)) => {
                if let ClientSide::Closing(until) = *client {
                    *client = ClientSide::HangingUp(until.min(now + LINGER));
                    out.push(Output::HangUp);
                }
            }
            (Phase::Ending { client, .. }, ClientInput::Gone) => *client = ClientSide::Gone,
            (Phase::Closed { .. }, _) => {}
        }
    }

    fn event(&mut self, event: Event, last_event_id: &str, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Open => {}
            Phase::Ending { .. } | Phase::Closed { .. } => return,
        }
        match plain::meaning(event, last_event_id, &self.settings) {
            Meaning::Message(message) => self.send(message, out),
            Meaning::Ignored => self.counts.ignored += 1,
            Meaning::Close(frame) => self.end(Cause::UpstreamClosed(frame), now, out),
            Meaning::TooBig => self.end(Cause::EventTooBig(self.settings.max_message_size), now, out),
            Meaning::Invalid(why) => self.end(Cause::UpstreamInvalid(why), now, out),
        }
    }

    /// The end of the main stream ends the connection. This is the one place where reopening it with `Last-Event-ID`
    /// starts instead, once the bridge can do that.
    fn stream_ended(&mut self, source: Source, end: StreamEnd, now: Instant, out: &mut Vec<Output>) {
        if source == Source::Reply {
            self.reply_streams = self.reply_streams.saturating_sub(1);
        }
        let cause = match (source, end) {
            (Source::Reply, StreamEnd::Complete) => return,
            (Source::Main, StreamEnd::Complete) => Cause::StreamEnded,
            (_, StreamEnd::Broken) => Cause::StreamBroken,
            (_, StreamEnd::EventTooLarge) => Cause::EventTooBig(self.settings.max_message_size),
            (_, StreamEnd::FieldTooLarge) => Cause::UpstreamInvalid("an event has an id or a name above the limit"),
        };
        self.end(cause, now, out);
    }

    fn posted(&mut self, delivery: Delivery, outcome: PostOutcome, now: Instant, out: &mut Vec<Output>) {
        self.flying = self.flying.saturating_sub(1);
        let cause = match outcome {
            PostOutcome::Accepted(reply) => {
                self.accepted(&delivery);
                if let (Some(reply), Phase::Open) = (reply, &self.phase) {
                    self.send(reply, out);
                }
                return;
            }
            PostOutcome::Streaming => {
                self.accepted(&delivery);
                self.reply_streams += 1;
                return;
            }
            PostOutcome::ReplyTooLarge => {
                self.accepted(&delivery);
                return self.end(Cause::EventTooBig(self.settings.max_message_size), now, out);
            }
            PostOutcome::ReplyInvalid(why) => {
                self.accepted(&delivery);
                return self.end(Cause::UpstreamInvalid(why), now, out);
            }
            PostOutcome::Refused { status: status @ (429 | 503), retry_after: Some(wait) } => {
                let at = now.checked_add(wait.max(LEAST_WAIT));
                if let Some(at) = at.filter(|at| *at < delivery.give_up) {
                    return self.waiting.push((at, delivery));
                }
                Cause::UpstreamBusy(status)
            }
            PostOutcome::Refused { status, .. } => match status {
                413 => Cause::MessageTooBigUpstream,
                415 => Cause::MessageUnsupported,
                401 | 403 => Cause::Unauthorized(status),
                404 | 410 => Cause::ConnectionUnknown(status),
                429 => Cause::UpstreamBusy(status),
                400..=499 => match self.settings.refused_message {
                    RefusedMessage::Close => Cause::MessageRefused(status),
                    RefusedMessage::Tell => return self.tell_refused(&delivery, status, out),
                    RefusedMessage::Count => {
                        self.counts.refused += 1;
                        return;
                    }
                },
                500..=599 => Cause::UpstreamError(status),
                // A redirect, say: it would need another URL than the operator wrote, so it is not followed.
                _ => Cause::MessageRefused(status),
            },
            PostOutcome::Failed(failure) => Cause::UpstreamFailed(failure),
        };
        self.counts.undelivered += 1;
        self.end(cause, now, out);
        self.give_up_delivering();
    }

    fn accepted(&mut self, delivery: &Delivery) {
        self.counts.messages_up += 1;
        self.counts.bytes_up += delivery.message.len() as u64;
    }

    fn tell_refused(&mut self, delivery: &Delivery, status: u16, out: &mut Vec<Output>) {
        self.counts.refused += 1;
        if matches!(self.phase, Phase::Open) {
            let sequence = delivery.sequence;
            let text = format!(r#"{{"event":"tidegate.refused","data":{{"sequence":{sequence},"status":{status}}}}}"#);
            self.send(Message::Text(text.into()), out);
        }
    }

    fn send(&mut self, message: Message, out: &mut Vec<Output>) {
        self.counts.messages_down += 1;
        self.counts.bytes_down += message.len() as u64;
        out.push(Output::Send(message));
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        // Asked before a retry makes us read again: until this moment silence was our doing.
        let reading = self.reads_client();
        while let Some(due) = self.waiting.iter().position(|(at, _)| *at <= now) {
            let (_, delivery) = self.waiting.remove(due);
            self.flying += 1;
            out.push(Output::Post(delivery));
        }
        match &mut self.phase {
            Phase::Open => match self.heartbeat.beat(now, reading) {
                Beat::Nothing => {}
                Beat::Ping => out.push(Output::Ping),
                Beat::Lost => self.end(Cause::PongTimeout, now, out),
            },
            Phase::Ending { client, delivering_until, .. } => {
                if let ClientSide::Closing(until) | ClientSide::HangingUp(until) = *client
                    && until <= now
                {
                    *client = ClientSide::Gone;
                    out.push(Output::Abandon);
                }
                if delivering_until.is_some_and(|until| until <= now) {
                    self.give_up_delivering();
                }
            }
            Phase::Closed { .. } => {}
        }
    }

    /// Begins the end, unless it has begun: the first cause is the cause.
    fn end(&mut self, cause: Cause, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Open => {}
            Phase::Ending { .. } | Phase::Closed { .. } => return,
        }
        let delivering_until = cause.delivers_the_rest().then(|| now + self.settings.delivery_timeout);
        if delivering_until.is_none() {
            self.forget_undelivered();
        }
        if let Some(frame) = cause.frame(self.counts.undelivered) {
            out.push(Output::Close(frame));
        }
        let until = now + self.settings.close_timeout;
        let client = match cause {
            Cause::ClientLost => ClientSide::Gone,
            // The client said goodbye and the socket has answered it.
            Cause::ClientClosed(_) => {
                out.push(Output::HangUp);
                ClientSide::HangingUp(until.min(now + LINGER))
            }
            // Nothing more can be understood, so that no frame is awaited; but much may still be on its way.
            Cause::ProtocolError(_) | Cause::InvalidText | Cause::MessageTooBig(_) => {
                out.push(Output::HangUp);
                ClientSide::HangingUp(until)
            }
            _ => ClientSide::Closing(until),
        };
        self.phase = Phase::Ending { cause, client, delivering_until };
    }

    /// The time of the gateway itself is over: whatever is left undone is counted, and left.
    fn cut(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.end(Cause::Shutdown, now, out);
        self.give_up_delivering();
        if let Phase::Ending { client, .. } = &mut self.phase {
            *client = ClientSide::Gone;
            out.push(Output::Abandon);
        }
    }

    /// Posts what is queued as far as the order and the limits allow.
    fn post_next(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Open | Phase::Ending { delivering_until: Some(_), .. } => {}
            Phase::Ending { delivering_until: None, .. } | Phase::Closed { .. } => return,
        }
        while self.waiting.is_empty()
            && self.flying < self.settings.in_flight.get()
            // Once the end has begun, answers that stream are given up and hold nothing back.
            && (self.reply_streams < self.settings.max_reply_streams || !self.reads_events())
        {
            let Some(message) = self.queue.pop_front() else { return };
            self.queued_bytes -= message.len() + PLACE;
            self.sequence += 1;
            self.flying += 1;
            let give_up = now + self.settings.delivery_timeout;
            out.push(Output::Post(Delivery { sequence: self.sequence, message, give_up }));
        }
    }

    fn give_up_delivering(&mut self) {
        if let Phase::Ending { delivering_until, .. } = &mut self.phase
            && delivering_until.take().is_some()
        {
            self.forget_undelivered();
        }
    }

    /// Counts what upstream will not be sent any more, or may not have taken.
    fn forget_undelivered(&mut self) {
        self.counts.undelivered += (self.queue.len() + self.waiting.len()) as u64 + u64::from(self.flying);
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
        self.waiting = Vec::new();
        self.flying = 0;
    }

    /// Moves on to the end once nothing is left to do.
    fn settle(&mut self) {
        let nothing_to_deliver = self.flying == 0 && self.queue.is_empty() && self.waiting.is_empty();
        if let Phase::Ending { cause, client, delivering_until } = &mut self.phase {
            if nothing_to_deliver {
                *delivering_until = None;
            }
            if matches!(client, ClientSide::Gone) && delivering_until.is_none() {
                self.phase = Phase::Closed { cause: cause.clone() };
            }
        }
    }
}
