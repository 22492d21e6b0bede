//! A client's bytes through the codec and the session behind it, as the bridge drives them, without network and clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tidegate::bridge::socket::{ClientSocket, Gone, Wanted};
use tidegate::protocol::Text;
use tidegate::protocol::message::Message;
use tidegate::protocol::sse::Event;
use tidegate::session::{
    Cause, ClientInput, Delivery, EventOf, Input, Left, Output, Overflow, Payload, PostOutcome, Session, Settings,
    Source, StreamEnd,
};

use super::frames_library;
use super::frames_reference::{Data, End, From, Reading, read};
use super::frames_socket::{Wire, open};
use super::script::cut;

/// Above what a server sends here.
const ANY_SIZE: usize = 1 << 24;

/// What upstream does and how the client's socket behaves.
#[derive(Clone, Copy)]
struct Manners {
    /// Largest message in bytes.
    max: usize,
    /// How many bytes of the first piece were read together with the handshake.
    early: usize,
    /// How many bytes the client takes at a time; 0 is none ever.
    room: usize,
    /// After how many turns an event comes; 0 is never.
    event_every: usize,
    /// After how many turns a POST is answered.
    answer_after: usize,
    /// From which POST on upstream fails; 0 is never.
    refuse_from: u64,
    /// What becomes of events that the client does not take.
    overflow: Overflow,
    /// In which turn the gateway is stopped, or the event stream ends; 0 is never.
    stop_in: usize,
}

/// Three bytes: size and cuts, the manners of upstream, those of the client's socket; the others are what it sends.
pub fn check(input: &[u8]) {
    let [size, upstream, client, bytes @ ..] = input else { return };
    let max = [125, 1, 1024, 70_000][usize::from(size % 4)];
    let expected = read(bytes, From::Client, max);

    let plain = Manners {
        max,
        early: 0,
        room: 1 << 16,
        event_every: 0,
        answer_after: 0,
        refuse_from: 0,
        overflow: Overflow::Pause,
        stop_in: 0,
    };
    let cuts = cut(bytes, *size);
    frames_library::check(&cuts, max);
    let early = usize::from(*client);
    for (pieces, early) in
        [(vec![bytes], 0), (vec![bytes], early), (cuts.clone(), early), (bytes.chunks(1).collect(), 0)]
    {
        let played = Play::new(&pieces, Manners { early, ..plain }).finish();
        played.is_as_expected(&expected);
    }
    let manners = Manners {
        early,
        room: [0, 1, 7, 1 << 16][usize::from(client % 4)],
        event_every: usize::from(upstream % 4),
        answer_after: usize::from(upstream >> 2 & 3),
        refuse_from: u64::from(upstream >> 4 & 3),
        overflow: [Overflow::Pause, Overflow::Close, Overflow::DropOldest][usize::from(size / 4 % 3)],
        stop_in: usize::from(upstream >> 6) * 8,
        ..plain
    };
    let played = Play::new(&cuts, manners).finish();
    played.keeps_the_promises(&expected);
}

/// A connection and what was seen of it.
struct Play<S> {
    session: Session,
    socket: Option<S>,
    wire: Wire,
    manners: Manners,
    now: Instant,
    turn: usize,
    hanging_up: bool,
    unflushed: bool,
    flying: VecDeque<(usize, Delivery)>,
    posted: Vec<Data>,
    sent: Vec<Data>,
    /// How many events came.
    events: usize,
    /// Nothing that happens in this many turns is out of the ordinary.
    patience: usize,
}

impl Play<()> {
    fn new(pieces: &[&[u8]], manners: Manners) -> Play<impl ClientSocket> {
        let (first, others) = pieces.split_first().map_or((&[][..], &[][..]), |(first, others)| (*first, others));
        let (early, first) = first.split_at(manners.early.min(first.len()));
        let pieces: Vec<_> = std::iter::once(first).chain(others.iter().copied()).filter(|p| !p.is_empty()).collect();
        let wire = Wire::new(&pieces, manners.room);
        let settings = Settings {
            max_message_size: manners.max,
            queue: 1024,
            overflow: manners.overflow,
            send_queue: 1024,
            ..Settings::default()
        };
        let now = Instant::now();
        let length = early.len() + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        Play {
            session: Session::new(Arc::new(settings), 0, None, now),
            socket: Some(open(&wire, early, manners.max)),
            wire,
            manners,
            now,
            turn: 0,
            hanging_up: false,
            unflushed: false,
            flying: VecDeque::new(),
            posted: Vec::new(),
            sent: Vec::new(),
            events: 0,
            patience: 64 * (length + 64),
        }
    }
}

impl<S: ClientSocket> Play<S> {
    fn finish(mut self) -> Played {
        let mut quiet = 0;
        while self.session.closed().is_none() {
            self.turn += 1;
            assert!(self.turn < self.patience, "no end after {} turns: {:?}", self.turn, self.session);
            let carried = self.wire.carried();
            let happened = self.take_turn() || self.wire.carried() != carried;
            quiet = if happened { 0 } else { quiet + 1 };
            // The wire pauses every other time, so that one quiet turn says nothing.
            if quiet > 4
                && let Some(deadline) = self.session.next_deadline()
            {
                self.now = self.now.max(deadline);
                self.step(Input::Tick);
            }
        }
        let cause = self.session.closed().cloned().unwrap_or(Cause::Defect);
        drop(self.socket);
        let answered = read(&self.wire.written(), From::Server, ANY_SIZE);
        Played { cause, posted: self.posted, sent: self.sent, answered }
    }

    /// Lets each side have its turn; says whether anything happened.
    fn take_turn(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut happened = false;
        if self.manners.stop_in > 0 && self.turn == self.manners.stop_in {
            match self.manners.refuse_from {
                0 | 1 => self.step(Input::Shutdown),
                _ if self.session.reads_events() => {
                    self.step(Input::StreamEnded(StreamEnd::Complete, Left::default()));
                }
                _ => {}
            }
        }
        if self.flying.front().is_some_and(|(due, _)| *due <= self.turn)
            && let Some((_, delivery)) = self.flying.pop_front()
        {
            happened = true;
            let refused = self.manners.refuse_from > 0 && delivery.sequence >= self.manners.refuse_from;
            let outcome = if refused {
                PostOutcome::Refused { status: 422, retry_after: None }
            } else {
                PostOutcome::Accepted(None)
            };
            self.step(Input::Posted(delivery, outcome));
        }
        let wanted = if self.session.reads_client() { Wanted::Everything } else { Wanted::Control };
        if let Some(socket) = &mut self.socket {
            let input = if self.hanging_up {
                socket.poll_hang_up(&mut cx).map(|()| ClientInput::Gone)
            } else {
                socket.poll_receive(&mut cx, wanted)
            };
            if let Poll::Ready(input) = input {
                happened = true;
                let is_message = matches!(input, ClientInput::Message(_));
                assert!(!is_message || wanted == Wanted::Everything, "a message came that was not wanted");
                if matches!(input, ClientInput::Gone) {
                    self.socket = None;
                }
                self.step(Input::Client(input));
            }
        }
        if let Some(room) = self.room(&mut cx) {
            happened = true;
            self.step(room);
        }
        let event_is_due = self.manners.event_every > 0 && self.turn.is_multiple_of(self.manners.event_every);
        if event_is_due && self.events < 64 && self.session.reads_events() {
            happened = true;
            self.events += 1;
            let data = Text::from("x".repeat(self.turn % (self.manners.max + 1)).as_str());
            let of = EventOf { source: Source::Main, last_event_id: "", own_id: false };
            self.step(Input::Event(Event { name: None, data }, of));
        }
        self.flush(&mut cx);
        happened
    }

    /// What has changed about the room for messages in the client's socket.
    fn room(&mut self, cx: &mut Context<'_>) -> Option<Input<'static>> {
        let (busy, waits) = (self.session.client_is_busy(), self.session.client_waits());
        if !waits && !self.session.is_open() {
            return None;
        }
        match self.socket.as_mut().is_some_and(|socket| socket.poll_ready(cx).is_ready()) {
            true if busy || waits => Some(Input::ClientReady),
            false if !busy => Some(Input::ClientBusy),
            _ => None,
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        if !self.unflushed || self.hanging_up {
            return;
        }
        match self.socket.as_mut().map(|socket| socket.poll_flush(cx)) {
            None | Some(Poll::Pending) => {}
            Some(Poll::Ready(Ok(()))) => self.unflushed = false,
            Some(Poll::Ready(Err(Gone))) => self.lose(),
        }
    }

    fn lose(&mut self) {
        self.socket = None;
        self.step(Input::Client(ClientInput::Gone));
    }

    fn step(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.session.step(input, self.now, &mut outputs);
        let mut lost = false;
        for output in outputs {
            if let Output::DropPosts = output {
                self.flying.clear();
            }
            lost |= self.perform(output).is_err();
        }
        if lost {
            self.lose();
        }
    }

    fn perform(&mut self, output: Output) -> Result<(), Gone> {
        if let Output::Post(delivery) = output {
            let Payload::Message(message) = &delivery.payload else { panic!("{delivery:?} was posted") };
            self.posted.push(data(message));
            self.flying.push_back((self.turn + self.manners.answer_after, delivery));
            return Ok(());
        }
        let Some(socket) = &mut self.socket else { return Ok(()) };
        self.unflushed = true;
        match output {
            Output::Send(message) => {
                self.sent.push(data(&message));
                socket.send(message)
            }
            Output::Ping => socket.ping(),
            Output::Close(frame) => socket.close(frame),
            Output::HangUp => {
                self.hanging_up = true;
                Ok(())
            }
            Output::Abandon => {
                self.socket = None;
                Ok(())
            }
            Output::Post(_) | Output::DropPosts | Output::Reopen { .. } | Output::DropStream => Ok(()),
        }
    }
}

/// A connection that is over.
#[derive(Debug)]
struct Played {
    cause: Cause,
    posted: Vec<Data>,
    sent: Vec<Data>,
    /// What the client received.
    answered: Reading,
}

impl Played {
    /// What holds however upstream and the client behave.
    fn keeps_the_promises(&self, expected: &Reading) {
        if expected.end != End::Unsettled {
            assert!(expected.messages.starts_with(&self.posted), "posted is not what was sent: {self:?}, {expected:?}");
        }
        assert!(self.sent.starts_with(&self.answered.messages), "received is not what was sent: {self:?}");
        // A reading ends with a close frame that has an allowed code, or where the connection was cut off.
        assert!(matches!(self.answered.end, End::Open | End::Closed(_)), "the gateway broke the rules: {self:?}");
        assert!(self.answered.behind.is_empty(), "there is something behind the close frame: {self:?}");
        let mut pings = expected.pings.iter();
        let in_turn = |pong: &Vec<u8>| pings.any(|ping| ping == pong);
        assert!(
            expected.end == End::Unsettled || self.answered.pongs.iter().all(in_turn),
            "a pong answers no ping: {self:?}"
        );
    }

    /// What holds when upstream takes everything and the client reads.
    fn is_as_expected(&self, expected: &Reading) {
        self.keeps_the_promises(expected);
        if expected.end == End::Unsettled {
            assert!(self.posted.starts_with(&expected.messages), "a message is missing: {self:?}, {expected:?}");
            return;
        }
        assert_eq!(self.posted, expected.messages, "a message is missing: {self:?}, {expected:?}");
        let violated = matches!(self.cause, Cause::ProtocolError(_) | Cause::InvalidText | Cause::MessageTooBig(_));
        match expected.end {
            End::Closed(code) => {
                assert_eq!(self.cause, Cause::ClientClosed(code));
                assert_eq!(self.answered.end, End::Closed(code), "the close frame was not answered: {self:?}");
            }
            End::Broken => {
                assert!(violated, "a breach was not noticed: {self:?}, {expected:?}");
                assert!(
                    matches!(self.answered.end, End::Closed(Some(1002 | 1007 | 1009))),
                    "a breach was not answered: {self:?}"
                );
            }
            // Some breaches show before the frame is complete.
            End::Open => assert!(violated || self.cause == Cause::ClientLost, "another end: {self:?}"),
            End::Unsettled => {}
        }
    }
}

fn data(message: &Message) -> Data {
    match message {
        Message::Text(text) => Data { opcode: 1, payload: text.as_bytes().to_vec() },
        Message::Binary(octets) => Data { opcode: 2, payload: octets.to_vec() },
    }
}
