//! The session: what follows from each thing that can happen to a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use super::backoff::Backoff;
use super::cause::Cause;
use super::downlink::{Downlink, Next, Offered};
use super::heartbeat::{Beat, Heartbeat};
use super::lifetime::Lifetime;
use super::plain::{self, Meaning};
use super::seen::Seen;
use super::settings::{OnGap, Overflow, RefusedMessage, Retry, Settings};
use super::signals::{
    ClientInput, Counts, Delivery, EventOf, Input, Left, Output, Payload, PostOutcome, Reopened, Source, StreamEnd,
    Violation,
};
use super::stream::{Due, MainStream};
use super::uplink::Uplink;
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::protocol::sse::Event;

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
}

impl StreamState {
    /// Every one, in order.
    pub const ALL: [Self; 4] = [Self::Open, Self::Waiting, Self::Opening, Self::Ending];

    /// The word for it in metrics and in the list of connections.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Waiting => "waiting",
            Self::Opening => "opening",
            Self::Ending => "ending",
        }
    }
}

impl Session {
    /// A session whose event stream is open and whose client has just been let in. `seed` is random and differs between
    /// connections: it keeps them from doing things at the same time.
    #[must_use]
    pub fn new(settings: Arc<Settings>, seed: u64, now: Instant) -> Self {
        let [spread, ..] = seed.to_le_bytes();
        Self {
            phase: Phase::Open,
            heartbeat: Heartbeat::new(settings.ping_interval, settings.pong_timeout, spread, now),
            lifetime: Lifetime::new(settings.idle_timeout, settings.max_age, spread, now),
            up: Uplink::default(),
            down: Downlink::default(),
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
            Input::Shutdown => self.end(Cause::Shutdown, now, out),
            Input::Cut => self.cut(now, out),
        }
        self.post_next(now, out);
        self.settle(now, out);
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
                self.up.queued_bytes() < self.settings.queue && !self.up.is_held() && !asks_too_much
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

    /// Whether POSTs under way still matter; once they do not, they can be dropped.
    #[must_use]
    pub fn awaits_posts(&self) -> bool {
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

    fn client(&mut self, input: ClientInput, now: Instant, out: &mut Vec<Output>) {
        self.heartbeat.alive();
        match (&mut self.phase, input) {
            (Phase::Open, ClientInput::Message(message)) => self.message(message, now, out),
            (Phase::Open, ClientInput::Alive) => {}
            (Phase::Open, ClientInput::Closed(frame)) => {
                let code = frame.as_ref().map(|frame| frame.code);
                self.end_with(Cause::ClientClosed(code), frame.as_ref(), now, out);
            }
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
                    self.counts.unsent += self.down.clear();
                    out.push(Output::HangUp);
                }
            }
            (Phase::Ending { client, .. }, ClientInput::Gone) => *client = ClientSide::Gone,
            (Phase::Closed { .. }, _) => {}
        }
    }

    fn message(&mut self, message: Message, now: Instant, out: &mut Vec<Output>) {
        if let Message::Text(text) = &message
            && let Some((_, answer)) = self.settings.auto_reply.iter().find(|(asked, _)| asked == text)
        {
            // Not counted as traffic: it must not keep a connection alive that has an idle limit.
            let answer = Message::Text(answer.clone());
            self.counts.auto_replies += 1;
            return self.send(answer, now, out);
        }
        self.lifetime.message(now);
        self.up.push(message);
    }

    fn client_ready(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.down.is_blocked() {
            // Until now the silence of a stream that was not read was ours.
            self.stream.heard(now);
            // Its socket has taken something: it is there, even if our pings had no room.
            self.heartbeat.alive();
        }
        match self.down.room() {
            Some(Next::Message(message)) => self.sent(message, out),
            Some(Next::Close(frame)) => out.push(Output::Close(frame)),
            None => {}
        }
    }

    fn event(&mut self, event: Event, of: EventOf<'_>, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        if of.source == Source::Main {
            self.stream.event(now);
            if of.own_id && self.seen.is_repeated(of.last_event_id, self.settings.reconnect.remember_ids) {
                self.counts.duplicates += 1;
                return;
            }
        }
        match plain::meaning(event, of.last_event_id, &self.settings) {
            Meaning::Message(message) => {
                self.lifetime.message(now);
                self.send(message, now, out);
            }
            Meaning::Ignored => self.counts.ignored += 1,
            Meaning::Gap => self.gap(now, out),
            Meaning::Close(frame) => self.end(Cause::UpstreamClosed(frame), now, out),
            Meaning::TooBig => self.end(Cause::EventTooBig(self.settings.max_message_size), now, out),
            Meaning::Invalid(why) => self.end(Cause::UpstreamInvalid(why), now, out),
        }
    }

    /// The main event stream is over. Where it can be continued without a gap, or the route goes on over gaps, it is
    /// opened again and the client does not notice.
    fn stream_ended(&mut self, end: StreamEnd, left: Left, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        let cause = match end {
            StreamEnd::Complete => Cause::StreamEnded,
            StreamEnd::Broken => Cause::StreamBroken,
            StreamEnd::Stalled => Cause::StreamStalled,
            StreamEnd::EventTooLarge | StreamEnd::FieldTooLarge => return self.end(self.too_large(end), now, out),
        };
        if !left.resumable && self.settings.reconnect.on_gap == OnGap::Close {
            self.counts.gaps += 1;
            return self.end(cause, now, out);
        }
        self.stream.lost(left.resumable, left.retry, now, &self.settings);
    }

    fn reply_ended(&mut self, end: StreamEnd, now: Instant, out: &mut Vec<Output>) {
        self.reply_streams = self.reply_streams.saturating_sub(1);
        match end {
            StreamEnd::Complete => {}
            // There is no position to resume an answer from, and what it still had to say is lost.
            StreamEnd::Broken | StreamEnd::Stalled => self.end(Cause::StreamBroken, now, out),
            StreamEnd::EventTooLarge | StreamEnd::FieldTooLarge => self.end(self.too_large(end), now, out),
        }
    }

    fn too_large(&self, end: StreamEnd) -> Cause {
        if end == StreamEnd::EventTooLarge {
            Cause::EventTooBig(self.settings.max_message_size)
        } else {
            Cause::UpstreamInvalid("an event has an id or a name above the limit")
        }
    }

    fn reopened(&mut self, reopened: Reopened, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        match reopened {
            Reopened::Open => {
                let away = self.stream.opened(now);
                self.counts.reopens += 1;
                self.up.stood_still(away.time);
                if away.gap {
                    self.gap(now, out);
                } else {
                    self.seen.reopened();
                }
            }
            Reopened::Stopped => self.end(Cause::UpstreamStopped, now, out),
            Reopened::PositionLost if self.settings.reconnect.on_gap == OnGap::Close => self.gap(now, out),
            Reopened::PositionLost => self.stream.position_lost(now, &self.settings),
            Reopened::Invalid(why) => self.end(Cause::UpstreamInvalid(why), now, out),
            Reopened::Failed => self.stream.failed(Duration::ZERO, now, &self.settings),
            Reopened::Refused { status, retry_after } => match status {
                401 | 403 => self.end(Cause::Unauthorized(status), now, out),
                404 | 410 => self.end(Cause::ConnectionUnknown(status), now, out),
                // Passing by their nature (RFC 9110 section 15.5, RFC 8470, RFC 6585).
                408 | 425 | 429 => self.stream.failed(retry_after.unwrap_or_default(), now, &self.settings),
                400..=499 => self.end(Cause::ReopenRefused(status), now, out),
                _ => self.stream.failed(retry_after.unwrap_or_default(), now, &self.settings),
            },
        }
    }

    /// Events may have been lost.
    fn gap(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.counts.gaps += 1;
        // Behind a gap upstream may begin its ids anew.
        self.seen = Seen::default();
        match self.settings.reconnect.on_gap {
            OnGap::Close => self.end(Cause::PositionLost, now, out),
            OnGap::Tell => self.send(Message::from(r#"{"event":"tidegate.gap","data":{}}"#), now, out),
            OnGap::Continue => {}
        }
    }

    fn posted(&mut self, mut delivery: Delivery, outcome: PostOutcome, now: Instant, out: &mut Vec<Output>) {
        if delivery.count() > 0 && self.has_given_up_delivering() {
            // It was counted as undelivered when it was given up.
            return;
        }
        self.up.landed(&delivery);
        let idempotent = self.settings.retry == Retry::Idempotent || matches!(delivery.payload, Payload::Leave(_));
        let (repeated, cause) = match outcome {
            PostOutcome::Accepted(reply) => {
                self.accepted(&delivery);
                if let (Some(reply), Phase::Open) = (reply, &self.phase) {
                    self.lifetime.message(now);
                    self.send(reply, now, out);
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
            PostOutcome::NotSent => {
                // What an earlier attempt has left in doubt stays so.
                let cause = delivery.doubt.map_or(Cause::UpstreamFailed, Cause::MessageInDoubt);
                (self.repeat(delivery, now), cause)
            }
            PostOutcome::InDoubt(doubt) => {
                delivery.doubt = Some(doubt);
                let repeated = if idempotent { self.repeat(delivery, now) } else { Err(delivery) };
                (repeated, Cause::MessageInDoubt(doubt))
            }
            PostOutcome::Refused { status: status @ (429 | 503), retry_after: Some(wait) } => {
                (self.repeat_after(delivery, wait.max(LEAST_WAIT), true, now), Cause::UpstreamBusy(status))
            }
            PostOutcome::Refused { status: status @ 429, .. } if idempotent => {
                (self.repeat(delivery, now), Cause::UpstreamBusy(status))
            }
            PostOutcome::Refused { status: status @ (500 | 502..=504), .. } if idempotent => {
                (self.repeat(delivery, now), Cause::UpstreamError(status))
            }
            PostOutcome::Refused { status, .. } => match self.refused(&delivery, status, now, out) {
                Some(cause) => (Err(delivery), cause),
                None => return,
            },
        };
        if let Err(delivery) = repeated {
            self.counts.undelivered += delivery.count();
            if delivery.count() > 0 {
                self.end(cause, now, out);
            }
            self.give_up_delivering(out);
        }
    }

    /// Why a final answer ends the connection, if it does.
    fn refused(&mut self, delivery: &Delivery, status: u16, now: Instant, out: &mut Vec<Output>) -> Option<Cause> {
        Some(match status {
            413 => Cause::MessageTooBigUpstream,
            415 => Cause::MessageUnsupported,
            401 | 403 => Cause::Unauthorized(status),
            404 | 410 => Cause::ConnectionUnknown(status),
            429 => Cause::UpstreamBusy(status),
            400..=499 => match self.settings.refused_message {
                RefusedMessage::Close => Cause::MessageRefused(status),
                RefusedMessage::Tell | RefusedMessage::Count => {
                    self.counts.refused += delivery.count();
                    if self.settings.refused_message == RefusedMessage::Tell {
                        self.tell_refused(delivery, status, now, out);
                    }
                    return None;
                }
            },
            500..=599 => Cause::UpstreamError(status),
            // A redirect, say: it would need another URL than the operator wrote, so it is not followed.
            _ => Cause::MessageRefused(status),
        })
    }

    /// Repeats a POST after a wait of our own.
    fn repeat(&mut self, delivery: Delivery, now: Instant) -> Result<(), Delivery> {
        let reconnect = &self.settings.reconnect;
        let wait = self.backoff.wait(delivery.attempt, reconnect.first_delay, reconnect.max_delay);
        self.repeat_after(delivery, wait, false, now)
    }

    fn repeat_after(&mut self, delivery: Delivery, wait: Duration, asked: bool, now: Instant) -> Result<(), Delivery> {
        // A wait that upstream asks for has its limit all the same: nobody looks at it again.
        let stands_still = !asked && self.is_open() && !self.stream.is_open();
        self.up.repeat(delivery, wait, asked, stands_still, now)
    }

    fn accepted(&mut self, delivery: &Delivery) {
        if delivery.count() > 0 {
            self.counts.messages_up += delivery.count();
            self.counts.bytes_up += delivery.len() as u64;
        }
    }

    fn tell_refused(&mut self, delivery: &Delivery, status: u16, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        let (sequence, count) = (delivery.sequence, delivery.count());
        let count = if count == 1 { String::new() } else { format!(r#""count":{count},"#) };
        let text =
            format!(r#"{{"event":"tidegate.refused","data":{{"sequence":{sequence},{count}"status":{status}}}}}"#);
        self.send(Message::Text(text.into()), now, out);
    }

    fn send(&mut self, message: Message, now: Instant, out: &mut Vec<Output>) {
        match self.down.offer(message, self.settings.overflow, self.settings.send_queue) {
            Offered::Now(message) => self.sent(message, out),
            Offered::Waits(dropped) => self.counts.dropped += dropped,
            Offered::TooMuch => {
                self.counts.unsent += 1;
                self.end(Cause::ClientTooSlow, now, out);
            }
        }
    }

    fn sent(&mut self, message: Message, out: &mut Vec<Output>) {
        self.counts.messages_down += 1;
        self.counts.bytes_down += message.len() as u64;
        out.push(Output::Send(message));
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

    fn end(&mut self, cause: Cause, now: Instant, out: &mut Vec<Output>) {
        self.end_with(cause, None, now, out);
    }

    /// Begins the end, unless it has begun: the first cause is the cause. `said` is what the client closed with.
    fn end_with(&mut self, cause: Cause, said: Option<&CloseFrame>, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        self.stream.over();
        let delivering_until = cause.delivers_the_rest().then(|| now + self.settings.delivery_timeout);
        if delivering_until.is_none() {
            self.give_up_messages(out);
        }
        let frame = cause.frame(self.counts.undelivered);
        let leave = if self.settings.notify_close {
            Leave::Due(leave_body(&cause, said.or(frame.as_ref())))
        } else {
            Leave::Done
        };
        // Whoever reads no more, or too slowly, is not sent what waits.
        if matches!(
            cause,
            Cause::ClientLost
                | Cause::ClientClosed(_)
                | Cause::ClientTooSlow
                | Cause::ProtocolError(_)
                | Cause::InvalidText
                | Cause::MessageTooBig(_)
                | Cause::PongTimeout
        ) {
            self.counts.unsent += self.down.clear();
        }
        out.extend(frame.and_then(|frame| self.down.close(frame)).map(Output::Close));
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
        self.phase = Phase::Ending { cause, client, delivering_until, leave };
    }

    /// The time of the gateway itself is over: whatever is left undone is counted, and left.
    fn cut(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.end(Cause::Shutdown, now, out);
        self.give_up_delivering(out);
        if let Phase::Ending { client, leave, .. } = &mut self.phase {
            *client = ClientSide::Gone;
            *leave = Leave::Done;
            out.push(Output::Abandon);
        }
    }

    /// Whether POSTs may go out. Without an event stream the client's messages wait; once the client is gone, there is
    /// nothing to wait for.
    fn may_post(&self) -> bool {
        match &self.phase {
            Phase::Open => self.stream.is_open(),
            Phase::Ending { delivering_until, .. } => delivering_until.is_some(),
            Phase::Closed { .. } => false,
        }
    }

    /// Posts what waits as far as the order and the limits allow.
    fn post_next(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !self.may_post() {
            return;
        }
        loop {
            // Once the end has begun, answers are given up and hold nothing back.
            let takes_answers = self.reply_streams < self.settings.max_reply_streams
                && !(self.settings.replies && (self.down.is_blocked() || self.down.waits()));
            let first = takes_answers || !self.is_open();
            let Some(delivery) = self.up.next(first, now, &self.settings) else { return };
            self.counts.retries += u64::from(delivery.attempt > 0);
            out.push(Output::Post(delivery));
        }
    }

    /// Whether the client's messages, those under way included, are of no more interest. POSTs may still come back: the
    /// news that the client is gone keeps the driver from dropping them.
    const fn has_given_up_delivering(&self) -> bool {
        match &self.phase {
            Phase::Open => false,
            Phase::Ending { delivering_until, leave, .. } => {
                delivering_until.is_none() || matches!(leave, Leave::Posted)
            }
            Phase::Closed { .. } => true,
        }
    }

    fn give_up_delivering(&mut self, out: &mut Vec<Output>) {
        if let Phase::Ending { delivering_until, .. } = &mut self.phase
            && delivering_until.take().is_some()
        {
            self.give_up_messages(out);
        }
    }

    /// Counts all that is not delivered, and what is under way with it.
    fn give_up_messages(&mut self, out: &mut Vec<Output>) {
        if self.up.is_flying() {
            out.push(Output::DropPosts);
        }
        self.counts.undelivered += self.up.clear();
    }

    /// Moves on to the end once nothing is left to do.
    fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Phase::Ending { cause, client, delivering_until, leave } = &mut self.phase else { return };
        if self.up.is_empty() {
            *delivering_until = None;
        }
        if delivering_until.is_some() {
            return;
        }
        if let Leave::Due(body) = leave {
            let body = std::mem::take(body);
            *leave = Leave::Posted;
            *delivering_until = Some(now + self.settings.delivery_timeout);
            out.push(Output::Post(self.up.leave(body, now, &self.settings)));
            return;
        }
        if matches!(client, ClientSide::Gone) {
            self.phase = Phase::Closed { cause: cause.clone() };
            self.counts.unsent += self.down.clear();
        }
    }
}

/// What upstream is told of the end: the code and reason that the client closed with or was closed with, and the cause.
fn leave_body(cause: &Cause, frame: Option<&CloseFrame>) -> Bytes {
    #[derive(Serialize)]
    struct Left<'a> {
        code: u16,
        reason: &'a str,
        cause: &'static str,
    }
    // The markers for a close without a code, and for an end without a close (RFC 6455 section 7.4.1).
    let without = if matches!(cause, Cause::ClientClosed(_)) { 1005 } else { 1006 };
    let code = frame.map_or(without, |frame| frame.code);
    let reason = frame.map_or("", |frame| frame.reason.as_str());
    // Numbers and strings always serialise; an empty body is what is left if they do not.
    serde_json::to_vec(&Left { code, reason, cause: cause.label() }).unwrap_or_default().into()
}
