//! A session and what the driver would know of the world around it; every step is held against what must be true.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::protocol::Text;
use tidegate::protocol::close;
use tidegate::protocol::message::Message;
use tidegate::protocol::sse::Event;
use tidegate::session::rate::Bucket;
use tidegate::session::{
    Batch, ClientInput, Delivery, EventOf, Input, Left, Output, OverRate, Overflow, Payload, PostOutcome, Reopened,
    Retry, Session, Settings, Source, StreamEnd, StreamState,
};

/// What a message takes in a queue besides its payload (`Settings::queue`).
const PLACE: usize = 128;

/// Longest text that the session makes up by itself, in bytes.
const TOLD: usize = 128;

/// How often a tick may find something else to do at the same time.
const TICKS_AT_ONCE: usize = 8;

/// The text that may have an automatic reply.
pub(super) const ASKED: Text = Text::from_static("are you there?");

pub(super) struct World {
    session: Session,
    settings: Arc<Settings>,
    now: Instant,
    began: Instant,
    up: Up,
    down: Down,
    /// The main event stream.
    main: StreamState,
    /// What a main stream leaves that falls silent.
    pub(super) left: Left,
    reply_streams: usize,
    reopened: u64,
    cut: bool,
}

/// The client's messages.
#[derive(Default)]
struct Up {
    /// POSTs under way.
    flying: Vec<Delivery>,
    /// Ended POSTs that may be repeated.
    again: Vec<Again>,
    /// Messages that were read and not posted yet.
    queued: VecDeque<String>,
    /// How many were read.
    read: u64,
    /// What the route lets the client send: messages, and bytes.
    may_send: [Bucket; 2],
    /// The highest number that was posted.
    posted: u64,
    repeated: u64,
    left: bool,
}

/// A POST that may be repeated.
struct Again {
    delivery: (u64, u32, Payload),
    not_before: Instant,
}

/// The client's socket and what it is sent.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact")]
struct Down {
    gone: bool,
    /// Nothing more is read but the end.
    hanging_up: bool,
    said_goodbye: bool,
    close_sent: bool,
    sent: u64,
    /// How many events had a number, and the data of those that were not sent.
    numbered: u64,
    outstanding: VecDeque<String>,
    /// Events with a number that later ones were sent before.
    left_out: u64,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let (settings, now) = (Arc::new(settings), Instant::now());
        Self {
            session: Session::new(settings.clone(), 0, None, now),
            settings,
            now,
            began: now,
            up: Up::default(),
            down: Down::default(),
            main: StreamState::Open,
            left: Left::default(),
            reply_streams: 0,
            reopened: 0,
            cut: false,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Time alone brings everything to its end.
    pub(super) fn finish(mut self) {
        self.step(Input::Shutdown);
        for _ in 0..1000 {
            if self.session.next_deadline().is_none() {
                break;
            }
            self.wait_for_deadline();
        }
        assert!(self.session.closed().is_some(), "never closed: {:?}", self.session);
        assert_eq!(self.session.next_deadline(), None);
        assert_eq!((self.session.queued_up(), self.session.queued_down()), (0, 0), "something is held for ever");
        let counts = self.session.counts();
        let accounted = counts.messages_up + counts.undelivered + counts.refused + counts.auto_replies;
        assert_eq!(accounted, self.up.read, "a message is unaccounted for: {counts:?}");
        assert_eq!(counts.retries, self.up.repeated, "{counts:?}");
        assert_eq!(counts.messages_down, self.down.sent, "{counts:?}");
        assert_eq!(counts.reopens, self.reopened, "{counts:?}");
        assert!(counts.duplicates == 0 || counts.reopens > 0, "{counts:?}");
        let missing = self.down.left_out + self.down.outstanding.len() as u64;
        assert!(missing <= counts.dropped + counts.unsent, "{missing} events were lost: {counts:?}");
        assert!(counts.dropped == 0 || self.settings.overflow == Overflow::DropOldest, "{counts:?}");
        assert!(
            self.up.left || !self.settings.notify_close || self.cut,
            "upstream was not told that the client is gone"
        );
    }

    /// A text from the client.
    pub(super) fn message(&mut self, text: String) {
        if !self.session.reads_client() || self.down.gone || self.down.said_goodbye || self.down.hanging_up {
            return;
        }
        self.up.read += 1;
        let fits = self.keeps_to_the_rates(text.len());
        let answered = self.settings.auto_reply.iter().any(|(asked, _)| asked.as_str() == text);
        let message = Message::Text(Text::from(text.as_str()));
        // Once the end has begun, what still comes is counted and left.
        let was_open = self.session.is_open();
        if was_open && fits && !answered {
            self.up.queued.push_back(text);
        }
        self.step(Input::Client(ClientInput::Message(message)));
        assert!(fits || !self.session.is_open(), "a client that sends too fast is let go on");
    }

    /// Whether what is read of an open session is within the limits of its route. Where the client is kept waiting, nothing
    /// is read that is not.
    fn keeps_to_the_rates(&mut self, size: usize) -> bool {
        if !self.session.is_open() {
            return true;
        }
        let since = self.now - self.began;
        let rates = [(self.settings.message_rate, 1), (self.settings.byte_rate, size as u64)];
        let pauses = self.settings.over_rate == OverRate::Pause;
        let mut fit = true;
        for (bucket, (rate, units)) in self.up.may_send.iter_mut().zip(rates) {
            let Some(rate) = rate else { continue };
            if pauses {
                assert!(bucket.wait(1, &rate, since).is_zero(), "read while the client is to wait");
                bucket.spend(units, &rate, since);
            } else {
                fit &= bucket.take(units, &rate, since).is_ok();
            }
        }
        fit
    }

    /// What is read of the client, whether or not messages are.
    pub(super) fn client(&mut self, input: ClientInput) {
        let is_end = matches!(input, ClientInput::Gone);
        let is_goodbye = matches!(input, ClientInput::Closed(_) | ClientInput::Violation(_));
        if self.down.gone || (!is_end && (self.down.hanging_up || self.down.said_goodbye)) {
            return;
        }
        self.down.gone = is_end;
        self.down.said_goodbye |= is_goodbye;
        self.step(Input::Client(input));
        assert!(!is_goodbye || self.down.hanging_up, "a client that said goodbye is not let go");
    }

    /// What the driver says of the room in the client's socket, when it would.
    pub(super) fn client_is_ready(&mut self, ready: bool) {
        let (busy, waits) = (self.session.client_is_busy(), self.session.client_waits());
        if !waits && !self.session.is_open() {
            return;
        }
        if ready && !self.down.gone && (busy || waits) {
            self.step(Input::ClientReady);
        } else if !ready && !busy {
            self.step(Input::ClientBusy);
        }
    }

    pub(super) fn event(&mut self, name: Option<String>, data: &str, source: Source, own_id: Option<&str>) {
        let there_is_one = match source {
            Source::Main => self.main == StreamState::Open,
            Source::Reply => self.reply_streams > 0,
        };
        if self.session.reads_events() && there_is_one {
            // The mark of those that have a number.
            let data = Text::from(data.trim_start_matches('#'));
            self.deliver(Event { name: name.map(Text::from), data }, source, own_id);
        }
    }

    /// An event whose place among the others is watched.
    pub(super) fn numbered_event(&mut self, source: Source) {
        let there_is_one = match source {
            Source::Main => self.main == StreamState::Open,
            Source::Reply => self.reply_streams > 0,
        };
        if self.session.reads_events() && there_is_one {
            self.down.numbered += 1;
            let data = format!("#{}", self.down.numbered);
            self.down.outstanding.push_back(data.clone());
            self.deliver(Event { name: None, data: Text::from(data) }, source, None);
        }
    }

    fn deliver(&mut self, event: Event, source: Source, own_id: Option<&str>) {
        let of = EventOf { source, last_event_id: own_id.unwrap_or("7"), own_id: own_id.is_some() };
        self.step(Input::Event(event, of));
    }

    pub(super) fn stream_is_alive(&mut self) {
        if self.session.reads_events() && self.main == StreamState::Open {
            self.step(Input::StreamAlive);
        }
    }

    pub(super) fn stream_ends(&mut self, end: StreamEnd, left: Left) {
        if self.session.reads_events() && self.main == StreamState::Open {
            self.main = StreamState::Waiting;
            self.step(Input::StreamEnded(end, left));
        }
    }

    pub(super) fn reply_ends(&mut self, end: StreamEnd) {
        if self.session.reads_events() && self.reply_streams > 0 {
            self.reply_streams -= 1;
            self.step(Input::ReplyEnded(end));
        }
    }

    pub(super) fn reopened(&mut self, reopened: Reopened) {
        if self.main == StreamState::Opening {
            let is_open = reopened == Reopened::Open;
            self.main = if is_open { StreamState::Open } else { StreamState::Waiting };
            self.reopened += u64::from(is_open);
            self.step(Input::Reopened(reopened));
        }
    }

    pub(super) fn post_ends(&mut self, at: usize, outcome: PostOutcome) {
        if self.up.flying.is_empty() {
            return;
        }
        let delivery = self.up.flying.remove(at % self.up.flying.len());
        // Where a route has no replies, nobody reads a body that is no event stream.
        let outcome = match outcome {
            PostOutcome::Accepted(_) | PostOutcome::ReplyTooLarge | PostOutcome::ReplyInvalid(_)
                if !self.settings.replies || matches!(delivery.payload, Payload::Leave(_)) =>
            {
                PostOutcome::Accepted(None)
            }
            outcome => outcome,
        };
        if self.session.is_open() && matches!(outcome, PostOutcome::Streaming) {
            self.reply_streams += 1;
        }
        if let Some(wait) = self.may_repeat(&delivery, &outcome)
            && let Some(not_before) = self.now.checked_add(wait)
        {
            let delivery = (delivery.sequence, delivery.attempt, delivery.payload.clone());
            self.up.again.push(Again { delivery, not_before });
        }
        self.step(Input::Posted(delivery, outcome));
    }

    /// Whether the contract lets a POST with this outcome be repeated, and after what time.
    fn may_repeat(&self, delivery: &Delivery, outcome: &PostOutcome) -> Option<Duration> {
        let idempotent = self.settings.retry == Retry::Idempotent || matches!(delivery.payload, Payload::Leave(_));
        match outcome {
            PostOutcome::NotSent => Some(Duration::ZERO),
            PostOutcome::Refused { status: 429 | 503, retry_after: Some(wait) } => Some(*wait),
            PostOutcome::InDoubt(_) | PostOutcome::Refused { status: 429 | 500 | 502..=504, .. } => {
                idempotent.then_some(Duration::ZERO)
            }
            _ => None,
        }
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.tick();
    }

    pub(super) fn wait_for_deadline(&mut self) {
        if let Some(deadline) = self.session.next_deadline() {
            self.now = self.now.max(deadline);
            self.tick();
        }
    }

    /// Lets the alarm go off, and again while it is due: no more often than there are different things to do.
    fn tick(&mut self) {
        for _ in 0..TICKS_AT_ONCE {
            self.step(Input::Tick);
            if self.session.next_deadline().is_none_or(|deadline| deadline > self.now) {
                return;
            }
        }
        panic!("a deadline does not move on: {:?}", self.session);
    }

    pub(super) fn step(&mut self, input: Input<'_>) {
        let was_closed = self.session.closed().cloned();
        self.cut |= matches!(input, Input::Cut);
        let mut outputs = Vec::new();
        self.session.step(input, self.now, &mut outputs);
        let mut stalled = false;
        for output in outputs {
            assert!(was_closed.is_none(), "{output:?} after the end");
            stalled |= matches!(output, Output::DropStream);
            self.perform(output);
        }
        if was_closed.is_some() {
            assert_eq!(self.session.closed().cloned(), was_closed, "the cause changed");
        }
        if !self.session.is_open() {
            (self.reply_streams, self.main) = (0, StreamState::Ending);
        }
        if stalled {
            // The same tick may end the connection.
            match self.main {
                StreamState::Open => self.main = StreamState::Waiting,
                StreamState::Ending => {}
                StreamState::Waiting | StreamState::Opening | StreamState::Legacy => {
                    panic!("there is no stream to give up")
                }
            }
            self.step(Input::StreamEnded(StreamEnd::Stalled, self.left));
        }
        self.is_sound();
    }

    /// What holds between two steps.
    fn is_sound(&self) {
        assert_eq!(self.session.stream_state(), self.main);
        assert_eq!(self.session.awaits_stream(), self.main == StreamState::Opening);
        let flying = self.up.flying.iter().filter(|delivery| delivery.count() > 0).count();
        assert!(flying <= self.settings.in_flight.get() as usize, "too many POSTs: {:?}", self.up.flying);
        if self.session.is_open() {
            let queued = self.up.queued.iter().map(|text| text.len() + PLACE).sum::<usize>();
            assert_eq!(self.session.queued_up(), queued, "something else is queued than what was read");
        }
        // One message more may be held than fits: the one that filled the queue.
        let (held, bound) = (self.session.queued_up(), self.settings.queue + self.settings.max_message_size + PLACE);
        assert!(held <= bound, "{held} bytes are queued, {bound} may be");
        assert!(!self.down.hanging_up || !self.session.client_waits(), "something waits for a client that is let go");
        let (held, bound) = (self.session.queued_down(), self.bound_down());
        assert!(held <= bound, "{held} bytes wait for the client, {bound} may");
        assert!(
            self.session.next_deadline().is_none_or(|deadline| deadline >= self.now),
            "a deadline was left behind: {:?}",
            self.session
        );
    }

    /// How much may wait for the client.
    fn bound_down(&self) -> usize {
        let settings = &*self.settings;
        let largest = settings.max_message_size.max(TOLD) + PLACE;
        if settings.overflow != Overflow::Pause {
            return settings.send_queue.max(largest);
        }
        // What was asked for before the client became too slow is still answered: each message that waits for upstream, at
        // least one byte of the queue, and each that is on its way there. Then there is the one event that was too much.
        let asked = settings.queue.div_ceil(PLACE) + 1 + settings.in_flight.get() as usize;
        settings.send_queue + (asked + 2) * largest
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send(message) => {
                self.is_before_the_close();
                self.down.sent += 1;
                self.is_in_turn(&message);
            }
            Output::Ping => self.is_before_the_close(),
            Output::Close(frame) => {
                self.is_before_the_close();
                assert!(close::is_sendable(frame.code), "close code {}", frame.code);
                assert!(frame.reason.len() <= close::MAX_REASON, "the reason {:?}", frame.reason);
                self.down.close_sent = true;
            }
            Output::HangUp => {
                assert!(!self.down.hanging_up, "hung up twice");
                self.down.hanging_up = true;
            }
            Output::Abandon => self.down.gone = true,
            Output::Post(delivery) => self.post(delivery),
            Output::DropPosts => self.up.flying.clear(),
            Output::DropStream => {}
            Output::Reopen { .. } => {
                assert_eq!(self.main, StreamState::Waiting, "the stream is asked for without need, or twice at once");
                self.main = StreamState::Opening;
            }
        }
    }

    fn is_before_the_close(&self) {
        let Down { close_sent, gone, hanging_up, .. } = self.down;
        assert!(!close_sent && !gone && !hanging_up, "something was sent behind the close");
    }

    /// Whether an event with a number overtakes others, or comes where others were left out without leave.
    fn is_in_turn(&mut self, message: &Message) {
        let Message::Text(text) = message else { return };
        if !text.as_str().starts_with('#') {
            return;
        }
        while let Some(next) = self.down.outstanding.pop_front() {
            if next == text.as_str() {
                return;
            }
            assert_eq!(self.settings.overflow, Overflow::DropOldest, "{next} was left out");
            self.down.left_out += 1;
        }
        panic!("{text:?} was sent twice, or too late");
    }

    fn post(&mut self, delivery: Delivery) {
        if delivery.attempt > 0 {
            self.up.repeated += 1;
            let before = (delivery.sequence, delivery.attempt - 1, delivery.payload.clone());
            let again = self.up.again.iter().position(|again| again.delivery == before);
            let again = again.map(|at| self.up.again.swap_remove(at));
            assert!(again.is_some_and(|again| again.not_before <= self.now), "must not be repeated now: {delivery:?}");
        } else if matches!(delivery.payload, Payload::Leave(_)) {
            assert!(self.settings.notify_close && !self.up.left && !self.session.is_open(), "told without need");
            self.up.left = true;
        } else {
            assert_eq!(delivery.sequence, self.up.posted + 1, "a message was overtaken");
            self.up.posted += delivery.count();
            self.is_next(&delivery);
            assert!(
                !self.session.is_open() || self.reply_streams < self.settings.max_reply_streams,
                "there are too many answers"
            );
        }
        assert!(
            self.main == StreamState::Open || !self.session.is_open(),
            "posted without an event stream: {delivery:?}"
        );
        self.up.flying.push(delivery);
    }

    /// Whether a first POST carries what was read next.
    fn is_next(&mut self, delivery: &Delivery) {
        let count = usize::try_from(delivery.count()).unwrap_or(usize::MAX);
        assert!((1..=self.up.queued.len()).contains(&count), "more is posted than was read: {delivery:?}");
        let texts: Vec<_> = self.up.queued.drain(..count).collect();
        let one_a_line = |text: &String| text.replace(['\n', '\r'], " ") + "\n";
        let (expected, body) = match &delivery.payload {
            Payload::Message(Message::Text(text)) => (texts.concat(), text.as_bytes()),
            Payload::Batch { form: Batch::Ndjson, body, .. } => (texts.iter().map(one_a_line).collect(), &body[..]),
            Payload::Batch { body, .. } => (format!("[{}]", texts.join(",")), &body[..]),
            other => panic!("{other:?} was posted"),
        };
        assert_eq!(expected.as_bytes(), body, "another message was posted");
        assert!(count == 1 || body.len() <= self.settings.batch_size, "a batch of {} bytes", body.len());
    }
}
