//! The rules of a connection under any sequence of what can happen to it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::protocol::Text;
use tidegate::protocol::close;
use tidegate::protocol::message::Message;
use tidegate::protocol::sse::Event;
use tidegate::session::{
    ClientInput, Delivery, Input, NamedEvents, Output, PostFailure, PostOutcome, RefusedMessage, Session, Settings,
    Source, StreamEnd, Violation,
};

use super::script::Script;

/// What a message takes in the queue besides its payload (`Settings::queue`).
const PLACE: usize = 128;

/// Five bytes of settings, then moves: a number, and as many bytes as it takes. A number without a meaning does nothing,
/// so that a new move takes a free number and old inputs stay what they are.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let mut world = World::new(settings(&mut script));
    while let Some(number) = script.next() {
        world.play(number, &mut script);
    }
    // Time alone brings everything to its end.
    world.step(Input::Shutdown);
    for _ in 0..1000 {
        let Some(deadline) = world.session.next_deadline() else { break };
        world.now = world.now.max(deadline);
        world.step(Input::Tick);
    }
    assert!(world.session.closed().is_some(), "never closed: {:?}", world.session);
    assert_eq!(world.session.next_deadline(), None);
    let counts = world.session.counts();
    let accounted = counts.messages_up + counts.undelivered + counts.refused;
    assert_eq!(accounted, world.read, "a message is unaccounted for: {counts:?}");
}

fn settings(script: &mut Script<'_>) -> Settings {
    Settings {
        in_flight: NonZeroU32::MIN.saturating_add(u32::from(script.byte() % 4)),
        queue: 1 + usize::from(script.byte()) * 8,
        max_reply_streams: 1 + usize::from(script.byte() % 3),
        max_message_size: 256,
        replies: true,
        named_events: match script.byte() % 3 {
            0 => NamedEvents::Data,
            1 => NamedEvents::Envelope,
            _ => NamedEvents::Ignore,
        },
        refused_message: match script.byte() % 3 {
            0 => RefusedMessage::Close,
            1 => RefusedMessage::Tell,
            _ => RefusedMessage::Count,
        },
        ..Settings::default()
    }
}

/// What the driver and the two sides would know.
#[expect(clippy::struct_excessive_bools, reason = "each is one fact that the world knows")]
struct World {
    session: Session,
    settings: Arc<Settings>,
    now: Instant,
    /// POSTs under way.
    flying: Vec<Delivery>,
    /// Lengths of the messages that were read and not posted yet.
    queued: VecDeque<usize>,
    reply_streams: usize,
    /// Messages that were read.
    read: u64,
    /// The highest number that was posted.
    posted: u64,
    client_gone: bool,
    violated: bool,
    said_goodbye: bool,
    close_sent: bool,
    main_ended: bool,
}

impl World {
    fn new(settings: Settings) -> Self {
        let (settings, now) = (Arc::new(settings), Instant::now());
        Self {
            session: Session::new(settings.clone(), 0, now),
            settings,
            now,
            flying: Vec::new(),
            queued: VecDeque::new(),
            reply_streams: 0,
            read: 0,
            posted: 0,
            client_gone: false,
            violated: false,
            said_goodbye: false,
            close_sent: false,
            main_ended: false,
        }
    }

    /// Lets one thing happen, if it can happen now.
    fn play(&mut self, number: u8, script: &mut Script<'_>) {
        let readable = self.session.reads_client() && !self.client_gone && !self.violated;
        match number {
            0 => {
                let length = usize::from(script.byte());
                if readable && !self.said_goodbye {
                    self.message(length);
                }
            }
            1 if readable => self.step(Input::Client(ClientInput::Alive)),
            2 => {
                let code = Some(script.pair()).filter(|code| *code != 0);
                if readable && !self.said_goodbye {
                    self.said_goodbye = true;
                    self.step(Input::Client(ClientInput::Closed(code)));
                }
            }
            3 if readable => {
                self.client_gone = true;
                self.step(Input::Client(ClientInput::Gone));
            }
            4 => {
                let violation = match script.byte() % 3 {
                    0 => Violation::Protocol("a frame is not masked"),
                    1 => Violation::Text,
                    _ => Violation::TooBig,
                };
                if readable {
                    self.violated = true;
                    self.step(Input::Client(ClientInput::Violation(violation)));
                }
            }
            5 => {
                let name = Some(script.byte()).and_then(|choice| match choice {
                    0 => None,
                    1 => Some(self.settings.binary_event.clone()),
                    2 => Some(self.settings.close_event.clone()),
                    other => Some(format!("name {other}")),
                });
                let length = usize::from(script.byte());
                let data = String::from_utf8_lossy(script.take(length)).into_owned();
                if self.session.reads_events() && !self.main_ended {
                    let event = Event { name: name.map(Text::from), data: Text::from(data) };
                    self.step(Input::Event(event, "7"));
                }
            }
            6 => {
                let (source, end) = (script.byte(), stream_end(script.byte()));
                self.stream_ends(if source == 0 { Source::Main } else { Source::Reply }, end);
            }
            7 => {
                let (at, ending) = (script.byte(), script.byte());
                let outcome = outcome(ending, script);
                if !self.flying.is_empty() {
                    let delivery = self.flying.remove(usize::from(at) % self.flying.len());
                    self.reply_streams += usize::from(matches!(outcome, PostOutcome::Streaming));
                    self.step(Input::Posted(delivery, outcome));
                }
            }
            8 => {
                self.now += Duration::from_millis(script.pair().into());
                self.step(Input::Tick);
            }
            9 => {
                if let Some(deadline) = self.session.next_deadline() {
                    self.now = self.now.max(deadline);
                    self.step(Input::Tick);
                }
            }
            10 => self.step(Input::Shutdown),
            11 => self.step(Input::Cut),
            _ => {}
        }
    }

    fn message(&mut self, length: usize) {
        self.read += 1;
        // Once the end has begun, what still comes is counted and left.
        let is_queued = self.session.reads_events();
        if is_queued {
            self.queued.push_back(length);
        }
        let text = Text::from("x".repeat(length).as_str());
        self.step(Input::Client(ClientInput::Message(Message::Text(text))));
        // One message more may be held than fits: the one that filled the queue.
        let queued = self.queued.iter().map(|length| length + PLACE).sum::<usize>();
        let bound = self.settings.queue + length + PLACE;
        assert!(!is_queued || queued <= bound, "{queued} bytes are queued, {bound} may be");
    }

    fn stream_ends(&mut self, source: Source, end: StreamEnd) {
        if !self.session.reads_events() {
            return;
        }
        match source {
            Source::Main if self.main_ended => return,
            Source::Main => self.main_ended = true,
            Source::Reply if self.reply_streams == 0 => return,
            Source::Reply => self.reply_streams -= 1,
        }
        self.step(Input::StreamEnded(source, end));
    }

    fn step(&mut self, input: Input<'_>) {
        let was_closed = self.session.closed().cloned();
        let mut outputs = Vec::new();
        self.session.step(input, self.now, &mut outputs);
        for output in outputs {
            assert!(was_closed.is_none(), "{output:?} after the end");
            self.perform(output);
        }
        if was_closed.is_some() {
            assert_eq!(self.session.closed().cloned(), was_closed, "the cause changed");
        }
        if !self.session.awaits_posts() {
            self.flying.clear();
        }
        assert!(self.flying.len() <= self.settings.in_flight.get() as usize, "too many POSTs: {:?}", self.flying);
        if let Some(deadline) = self.session.next_deadline() {
            let left_behind = self.now.saturating_duration_since(deadline);
            assert!(left_behind <= Duration::from_secs(70), "a deadline was left behind for {left_behind:?}");
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send(_) | Output::Ping => {
                assert!(!self.close_sent && !self.client_gone, "something was sent behind the close");
            }
            Output::Close(frame) => {
                assert!(!self.close_sent, "two close frames");
                assert!(close::is_sendable(frame.code), "close code {}", frame.code);
                assert!(frame.reason.len() <= close::MAX_REASON, "the reason {:?}", frame.reason);
                self.close_sent = true;
            }
            Output::HangUp => {}
            Output::Abandon => self.client_gone = true,
            Output::Post(delivery) => {
                if delivery.sequence > self.posted {
                    self.posted += 1;
                    assert_eq!(delivery.sequence, self.posted, "a message was overtaken");
                    assert_eq!(self.queued.pop_front(), Some(delivery.message.len()), "another message was posted");
                }
                assert!(self.flying.iter().all(|other| other.sequence != delivery.sequence), "posted twice at once");
                self.flying.push(delivery);
            }
        }
    }
}

fn stream_end(choice: u8) -> StreamEnd {
    match choice % 4 {
        0 => StreamEnd::Complete,
        1 => StreamEnd::Broken,
        2 => StreamEnd::EventTooLarge,
        _ => StreamEnd::FieldTooLarge,
    }
}

fn outcome(choice: u8, script: &mut Script<'_>) -> PostOutcome {
    match choice {
        1 => PostOutcome::Accepted(Some(Message::from("reply"))),
        2 => PostOutcome::Streaming,
        3 => PostOutcome::ReplyTooLarge,
        4 => PostOutcome::ReplyInvalid("an answer is compressed"),
        5 => PostOutcome::Refused { status: script.pair(), retry_after: None },
        6 => {
            let (status, wait) = (script.pair(), script.byte());
            // 255 stands for the longest time that there is: nothing forbids upstream to ask for it.
            let retry_after =
                if wait == u8::MAX { Duration::MAX } else { Duration::from_millis(u64::from(wait) * 400) };
            PostOutcome::Refused { status, retry_after: Some(retry_after) }
        }
        7 => PostOutcome::Failed(match script.byte() % 3 {
            0 => PostFailure::Connect,
            1 => PostFailure::Broken,
            _ => PostFailure::TimedOut,
        }),
        _ => PostOutcome::Accepted(None),
    }
}
