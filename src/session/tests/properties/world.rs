//! What the driver and the two sides know, and what must hold whenever the session has taken a step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::MAX_MESSAGE;
use super::moves::{Ending, Id, Kind, Move, What};

type Checked = Result<(), TestCaseError>;

/// A session, and all that is outside it.
#[expect(clippy::struct_excessive_bools, reason = "each is one fact that the world knows")]
pub(super) struct World {
    scene: Scene,
    settings: Settings,
    /// The main stream is open.
    main: bool,
    reopening: bool,
    /// When upstream has asked for a wait before it is asked for the stream again, and for how long.
    asked_to_wait: Option<(Instant, Duration)>,
    reply_streams: u32,
    /// Event ids that were used, oldest first.
    ids: Vec<u64>,
    flying: Vec<Delivery>,
    /// Attempts of the POSTs that came back and are to be repeated, by sequence.
    waiting: BTreeMap<u64, u32>,
    /// POSTs that upstream may have acted on.
    in_doubt: BTreeSet<u64>,
    /// What the client has sent for upstream; the message with sequence 1 first.
    messages: Vec<Message>,
    read: u64,
    /// When the session began, and what it has taken of its client since: messages, and bytes without the newest's.
    began: Instant,
    taken: (u64, u64, u64),
    posted: u64,
    /// What came for the client, from wherever.
    for_client: u64,
    /// The newest number that it was sent.
    newest_sent: Option<u64>,
    /// Events that are no message by what they mean.
    no_message: u64,
    client_gone: bool,
    violated: bool,
    said_goodbye: bool,
    close_sent: bool,
    hung_up: bool,
    left: bool,
    cut: bool,
}

impl World {
    pub(super) fn new(settings: Settings, seed: u64) -> Self {
        let now = Instant::now();
        let session = Session::new(Arc::new(settings.clone()), seed, None, now);
        Self {
            scene: Scene { session, now, outputs: Vec::new() },
            settings,
            main: true,
            reopening: false,
            asked_to_wait: None,
            reply_streams: 0,
            ids: vec![0],
            flying: Vec::new(),
            waiting: BTreeMap::new(),
            in_doubt: BTreeSet::new(),
            messages: Vec::new(),
            read: 0,
            began: now,
            taken: (0, 0, 0),
            posted: 0,
            for_client: 0,
            newest_sent: None,
            no_message: 0,
            client_gone: false,
            violated: false,
            said_goodbye: false,
            close_sent: false,
            hung_up: false,
            left: false,
            cut: false,
        }
    }

    pub(super) fn play(&mut self, step: Move) -> Checked {
        let session = &self.scene.session;
        let readable = session.reads_client() && !self.client_gone && !self.violated && !self.said_goodbye;
        let events = session.reads_events();
        let room_matters = !self.client_gone && (session.client_waits() || session.is_open());
        match step {
            Move::Message(kind, size) if readable => self.message(kind, size.into()),
            Move::Pings(count) => {
                for _ in 0..count {
                    self.play(Move::Message(Kind::Ping, 0))?;
                }
                Ok(())
            }
            Move::Alive if readable => self.step(Input::Client(ClientInput::Alive)),
            Move::Close if readable => {
                self.said_goodbye = true;
                self.step(Input::Client(ClientInput::Closed(Some(CloseFrame::new(1000, "")))))
            }
            Move::Gone if !self.client_gone => {
                self.client_gone = true;
                self.step(Input::Client(ClientInput::Gone))
            }
            Move::Violate(violation) if readable => {
                self.violated = true;
                self.step(Input::Client(ClientInput::Violation(violation)))
            }
            Move::Ready if room_matters && (session.client_is_busy() || session.client_waits()) => {
                self.step(Input::ClientReady)
            }
            Move::Busy if room_matters && !session.client_is_busy() => self.step(Input::ClientBusy),
            Move::Event(what, source) if events => self.event(what, source),
            Move::StreamAlive if events && self.main => self.step(Input::StreamAlive),
            Move::StreamEnds(end, left) if events && self.main => {
                self.main = false;
                self.step(Input::StreamEnded(end, left))
            }
            Move::ReplyEnds(end) if events && self.reply_streams > 0 => {
                self.reply_streams -= 1;
                self.step(Input::ReplyEnded(end))
            }
            Move::Reopened(reopened) if self.reopening => {
                self.reopening = false;
                self.main = reopened == Reopened::Open;
                let gaps = self.scene.session.counts().gaps;
                if let Reopened::Refused { retry_after, .. } = reopened {
                    self.asked_to_wait = retry_after.map(|wait| (self.scene.now, wait));
                }
                self.step(Input::Reopened(reopened))?;
                self.told_of_gap(gaps);
                Ok(())
            }
            Move::Post(at, ending) if !self.flying.is_empty() => self.post_ends(at, &ending),
            Move::Wait(millis) => self.wait_until(self.scene.now + Duration::from_millis(millis.into())),
            Move::Next => match self.scene.session.next_deadline() {
                Some(deadline) => self.wait_until(deadline.max(self.scene.now)),
                None => Ok(()),
            },
            Move::Shutdown => self.step(Input::Shutdown),
            Move::Revoke => self.step(Input::Revoked),
            Move::Cut => {
                self.cut = true;
                self.step(Input::Cut)
            }
            _ => Ok(()),
        }
    }

    fn message(&mut self, kind: Kind, size: usize) -> Checked {
        let number = self.read;
        let text = match kind {
            Kind::Ping => "ping".to_owned(),
            Kind::Plain => format!("{number} {}", "x".repeat(size)),
            Kind::Json => format!("[{number},\"{}\"]", "x".repeat(size)),
        };
        self.read += 1;
        let message = Message::Text(text.into());
        let is_open = self.scene.session.is_open();
        if is_open && kind != Kind::Ping {
            self.messages.push(message.clone());
        }
        let (size, before) = (message.len() as u64, *self.scene.session.counts());
        self.step(Input::Client(ClientInput::Message(message)))?;
        let counts = self.scene.session.counts();
        self.for_client += counts.auto_replies - before.auto_replies;
        if is_open && counts.undelivered == before.undelivered {
            self.taken = (self.taken.0 + 1, self.taken.1 + self.taken.2, size);
        }
        self.keeps_to_the_rates()
    }

    /// Since the beginning no more was taken than a burst and what came back. Of bytes one message more may be, because its
    /// size is known only when it has been read.
    fn keeps_to_the_rates(&self) -> Checked {
        let since = self.scene.now - self.began;
        let Settings { message_rate, byte_rate, .. } = &self.settings;
        let (messages, bytes, _) = self.taken;
        let may_be = |rate: &Option<Rate>, taken| rate.is_none_or(|rate| rate.gives(since) >= u128::from(taken));
        prop_assert!(may_be(message_rate, messages), "{messages} messages in {since:?}");
        prop_assert!(may_be(byte_rate, bytes), "{bytes} bytes in {since:?}");
        Ok(())
    }

    fn event(&mut self, what: What, source: Source) -> Checked {
        if (source == Source::Main && !self.main) || (source == Source::Reply && self.reply_streams == 0) {
            return Ok(());
        }
        let named =
            |name: Option<&'static str>, data: &str| Event { name: name.map(Text::from_static), data: data.into() };
        let newest = self.ids.len();
        let (event, id, says_nothing) = match what {
            What::Text(size, id) => {
                let id = match id {
                    Id::New => Some(newest as u64),
                    Id::Again(back) => Some(self.ids[newest.saturating_sub(1 + usize::from(back))]),
                    Id::None => None,
                };
                (named(None, &self.numbered(size.into())), id, usize::from(size) > MAX_MESSAGE)
            }
            What::Named => (named(Some("other"), "x"), None, false),
            What::Gap => (named(Some("tidegate.gap"), ""), None, true),
            What::Close => (named(Some("tidegate.close"), ""), None, true),
            What::Invalid => (named(Some("tidegate.binary"), "!"), None, true),
        };
        self.ids.extend(id);
        self.for_client += 1;
        let before = *self.scene.session.counts();
        let text = id.map(|id| id.to_string()).unwrap_or_default();
        self.step(Input::Event(event, EventOf { source, last_event_id: &text, own_id: id.is_some() }))?;
        let repeated = self.scene.session.counts().duplicates > before.duplicates;
        self.no_message += u64::from(says_nothing && !repeated);
        self.told_of_gap(before.gaps);
        Ok(())
    }

    /// A text of this size, or a little more, that says how much came for the client before it.
    fn numbered(&self, size: usize) -> String {
        format!("#{:0>1$}", self.for_client, size.saturating_sub(1))
    }

    /// A route may tell the client of a gap.
    fn told_of_gap(&mut self, before: u64) {
        let gaps = self.scene.session.counts().gaps - before;
        if self.settings.reconnect.on_gap == OnGap::Tell {
            self.for_client += gaps;
        }
    }

    fn post_ends(&mut self, at: usize, ending: &Ending) -> Checked {
        let delivery = self.flying.remove(at % self.flying.len());
        let (sequence, count) = (delivery.sequence, delivery.count());
        let is_open = self.scene.session.is_open();
        let refused = self.scene.session.counts().refused;
        let outcome = match *ending {
            Ending::Accept => PostOutcome::Accepted(None),
            Ending::Reply(size) => {
                let reply = self.numbered(size.into());
                self.for_client += u64::from(is_open);
                PostOutcome::Accepted(Some(Message::Text(reply.into())))
            }
            Ending::ReplyTooLarge => PostOutcome::ReplyTooLarge,
            Ending::ReplyInvalid => PostOutcome::ReplyInvalid("invalid"),
            Ending::Stream => {
                self.reply_streams += 1;
                PostOutcome::Streaming
            }
            Ending::Status(status, wait) => PostOutcome::Refused { status, retry_after: wait.map(Duration::from_secs) },
            Ending::NotSent => PostOutcome::NotSent,
            Ending::InDoubt(doubt) => {
                if count > 0 {
                    self.in_doubt.insert(sequence);
                }
                PostOutcome::InDoubt(doubt)
            }
        };
        self.step(Input::Posted(delivery, outcome))?;
        let is_refused = self.scene.session.counts().refused > refused;
        if is_refused && self.settings.refused_message == RefusedMessage::Tell && is_open {
            self.for_client += 1;
        }
        Ok(())
    }

    fn wait_until(&mut self, then: Instant) -> Checked {
        self.scene.now = then;
        self.step(Input::Tick)?;
        // No busy loop: what was due is done, and the next deadline lies ahead.
        for _ in 0..3 {
            if self.scene.session.next_deadline().is_none_or(|deadline| deadline > then) {
                return Ok(());
            }
            self.step(Input::Tick)?;
        }
        Err(TestCaseError::fail(format!("a deadline does not move on: {:?}", self.scene.session)))
    }

    fn step(&mut self, input: Input<'_>) -> Checked {
        let was_closed = self.scene.session.closed().is_some();
        let sends = match input {
            Input::ClientReady => 1,
            _ if self.scene.session.client_is_busy() => 0,
            _ => usize::MAX,
        };
        let landed = match &input {
            Input::Posted(delivery, _) if delivery.count() > 0 => Some((delivery.sequence, delivery.attempt)),
            _ => None,
        };
        let settled = self.settled();
        let outputs = self.scene.step(input);
        if self.settled() == settled {
            self.waiting.extend(landed);
        }
        prop_assert!(!was_closed || outputs.is_empty(), "behind the end: {outputs:?}");
        let sent = outputs.iter().filter(|output| matches!(output, Output::Send(_))).count();
        prop_assert!(sent <= sends, "sent more than there is room for: {outputs:?}");
        let mut stalled = false;
        for output in outputs {
            stalled |= matches!(output, Output::DropStream);
            self.carry_out(output)?;
        }
        let session = &self.scene.session;
        if !session.is_open() {
            (self.reply_streams, self.reopening) = (0, false);
        }
        self.main &= session.needs_upstream();
        self.check()?;
        if stalled {
            self.main = false;
            self.step(Input::StreamEnded(StreamEnd::Stalled, RESUMABLE))?;
        }
        Ok(())
    }

    /// Messages of which nothing more is to come.
    fn settled(&self) -> u64 {
        let counts = self.scene.session.counts();
        counts.messages_up + counts.undelivered + counts.refused + counts.auto_replies
    }

    fn carry_out(&mut self, output: Output) -> Checked {
        let client_hears = !self.client_gone && !self.close_sent && !self.hung_up;
        if let Output::Send(Message::Text(text)) = &output
            && let Some(number) = text.as_str().strip_prefix('#')
        {
            let number = number.parse().ok();
            prop_assert!(number > self.newest_sent, "{text} was overtaken by {:?}", self.newest_sent);
            self.newest_sent = number;
        }
        match output {
            Output::Send(_) | Output::Ping => prop_assert!(client_hears, "something was sent behind the close"),
            Output::Close(frame) => {
                prop_assert!(client_hears, "a close frame behind the end");
                prop_assert!(crate::protocol::close::is_sendable(frame.code));
                self.close_sent = true;
            }
            Output::HangUp => {
                prop_assert!(!self.client_gone && !self.hung_up);
                self.hung_up = true;
            }
            Output::Abandon => self.client_gone = true,
            Output::Post(delivery) => self.post(delivery)?,
            Output::Reopen { .. } => {
                prop_assert!(!self.main && !self.reopening, "asked for a second stream");
                let too_soon = |(since, wait): (Instant, Duration)| self.scene.now - since < wait;
                prop_assert!(!self.asked_to_wait.take().is_some_and(too_soon), "upstream has asked for a longer wait");
                self.reopening = true;
            }
            Output::DropPosts => self.flying.clear(),
            Output::DropStream => prop_assert!(self.main, "gave up a stream that is not open"),
        }
        Ok(())
    }

    fn post(&mut self, delivery: Delivery) -> Checked {
        let Delivery { sequence, attempt, .. } = delivery;
        if let Payload::Leave(_) = delivery.payload {
            prop_assert!(!self.scene.session.is_open() && self.settings.notify_close);
            prop_assert!(attempt > 0 || !self.left, "the client left twice");
            self.left = true;
            self.flying.push(delivery);
            return Ok(());
        }
        prop_assert!(!self.left, "a message behind the news that the client is gone");
        prop_assert!(
            !self.scene.session.is_open() || self.scene.session.stream_state() == StreamState::Open && self.main,
            "posted while the stream is away"
        );
        prop_assert!(
            self.settings.retry == Retry::Idempotent || !self.in_doubt.contains(&sequence),
            "what is in doubt was posted again"
        );
        if sequence > self.posted {
            prop_assert_eq!((sequence, attempt), (self.posted + 1, 0), "a message was overtaken");
            self.posted += delivery.count();
            let alone = self.settings.in_flight.get() == 1;
            prop_assert!(!alone || self.waiting.is_empty(), "an earlier message still waits: {:?}", self.waiting);
        } else {
            prop_assert_eq!(self.waiting.remove(&sequence).map(|before| before + 1), Some(attempt), "repeated unasked");
        }
        prop_assert_eq!(self.body(&delivery), delivery.payload.clone(), "another message under the same number");
        self.flying.push(delivery);
        prop_assert!(self.flying.len() <= self.settings.in_flight.get() as usize, "too many POSTs under way");
        Ok(())
    }

    /// What a delivery with these numbers must hold.
    fn body(&self, delivery: &Delivery) -> Payload {
        let first = usize::try_from(delivery.sequence - 1).unwrap();
        let count = usize::try_from(delivery.count()).unwrap();
        let texts = self.messages[first..first + count].iter().map(|message| match message {
            Message::Text(text) => text.as_str(),
            Message::Binary(_) => unreachable!("only texts are sent here"),
        });
        let count = delivery.count();
        match delivery.payload {
            Payload::Batch { form: form @ Batch::JsonArray, .. } => {
                let body = format!("[{}]", texts.collect::<Vec<_>>().join(","));
                Payload::Batch { form, body: body.into(), count }
            }
            Payload::Batch { form, .. } => {
                let body = texts.flat_map(|text| [text, "\n"]).collect::<String>();
                Payload::Batch { form, body: body.into(), count }
            }
            _ => Payload::Message(self.messages[first].clone()),
        }
    }

    /// What holds behind every step.
    fn check(&self) -> Checked {
        let (session, settings) = (&self.scene.session, &self.settings);
        let one = MAX_MESSAGE + PLACE;
        prop_assert!(session.queued_up() <= settings.queue + one, "{} bytes wait for upstream", session.queued_up());
        let limit = match settings.overflow {
            Overflow::Close | Overflow::DropOldest => settings.send_queue.max(one),
            // What was asked for before the client stopped to read still comes: answers to what is under way or queued.
            Overflow::Pause => {
                let asked = settings.in_flight.get() as usize + (settings.queue + one) / PLACE;
                settings.send_queue + one + asked * (255 + PLACE)
            }
        };
        let client_is_behind = session.client_is_busy() || session.client_waits();
        let pauses = settings.overflow == Overflow::Pause && client_is_behind;
        prop_assert!(!(pauses && session.reads_events()), "more is read for a client that is behind");
        prop_assert!(session.queued_down() <= limit, "{} bytes wait for the client", session.queued_down());
        prop_assert!(self.settled() <= self.read, "a message was counted twice: {:?}", session.counts());
        prop_assert_eq!(session.awaits_stream() && session.is_open(), self.reopening);
        Ok(())
    }

    /// What holds at the end.
    pub(super) fn check_the_end(&self) -> Checked {
        let session = &self.scene.session;
        prop_assert!(session.closed().is_some(), "never closed: {session:?}");
        prop_assert_eq!(session.next_deadline(), None);
        prop_assert!(!session.awaits_posts() && !session.needs_upstream() && !session.client_waits());
        let counts = session.counts();
        prop_assert_eq!(self.settled(), self.read, "a message is unaccounted for: {:?}", counts);
        let seen = counts.messages_down + counts.dropped + counts.unsent + counts.ignored + counts.duplicates;
        prop_assert_eq!(seen + self.no_message, self.for_client, "an event is unaccounted for: {:?}", counts);
        prop_assert!(self.left || self.cut || !self.settings.notify_close, "upstream was not told of the end");
        Ok(())
    }
}
