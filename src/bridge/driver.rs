//! One task that drives one connection: it turns what happens outside into inputs, and carries out what the session
//! decides.
//!
//! Everything is polled in one place, so that an idle connection is one small task and a busy one writes once for all
//! that it could read. Deadlines are points in time owned by the session; a busy connection never pushes them back.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_util::FutureExt as _;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::error;

use super::Stop;
use super::alarm::Alarm;
use super::registry::{Live, Snapshot};
use super::socket::{ClientSocket, Gone, Wanted};
use super::upstream_side::{FromUpstream, UpstreamSide};
use crate::protocol::sse::Event;
use crate::session::{Cause, ClientInput, Counts, EventOf, Input, Output, Reopened, Session, Source, StreamEnd};
use crate::upstream::events::EventStream;

/// How much happens in one go before what is buffered is written and other tasks get their turn: enough small messages
/// to fill the buffer of a socket more than once, and less than a tenth of a millisecond.
const STEPS_PER_POLL: usize = 256;

/// One connection: its rules, its client, and its side of upstream.
pub(super) struct Driver<S> {
    session: Session,
    client: Client<S>,
    upstream: UpstreamSide,
    live: Live,
    outputs: Vec<Output>,
}

/// The client's socket and how far its end has come.
struct Client<S> {
    socket: Option<S>,
    hanging_up: bool,
    unflushed: bool,
    /// What it had none of when it was last asked in this turn; it will wake the task when it has.
    asleep: Option<Wanted>,
}

/// Something that happened, owned; an event's position stays with its stream until it is taken.
enum Happened {
    Event(Event, Source, usize),
    Other(Input<'static>),
}

impl<S: ClientSocket> Driver<S> {
    /// A driver for a session whose event stream is open.
    pub(super) fn new(session: Session, socket: S, upstream: UpstreamSide, live: Live) -> Self {
        Self {
            session,
            client: Client { socket: Some(socket), hanging_up: false, unflushed: false, asleep: None },
            upstream,
            live,
            outputs: Vec::new(),
        }
    }

    /// Drives the connection to its end and says why it ended and what it carried.
    pub(super) async fn run(&mut self, stop: Stop) -> (Cause, Counts) {
        let first = self.session.next_deadline().unwrap_or_else(Instant::now);
        let mut alarm = Alarm::new(first);
        let mut stopping = Stopping { next: Some(Box::pin(stop.shutdown.cancelled_owned())), cut: Some(stop.cut) };
        let driven = std::future::poll_fn(|cx| self.poll(cx, &mut alarm, &mut stopping));
        // A defect ends one connection, and its client is told so; it does not take the others with it.
        if let Ok(cause) = AssertUnwindSafe(driven).catch_unwind().await {
            return (cause, *self.session.counts());
        }
        error!("a connection's task panicked; this is a defect in tidegate, please report it");
        Box::pin(self.client.tell_defect()).await;
        (Cause::Defect, *self.session.counts())
    }

    /// The newest thing that went wrong upstream, for the log.
    pub(super) fn failure(&self) -> Option<&str> {
        self.upstream.failure()
    }

    /// Counts the connection among those that have ended.
    pub(super) fn close(self, cause: &Cause, counts: &Counts) {
        self.live.close(cause, counts);
    }

    fn poll(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm, stopping: &mut Stopping) -> Poll<Cause> {
        let polled = self.poll_turn(cx, alarm, stopping);
        self.live.store(&Snapshot {
            counts: *self.session.counts(),
            queued_up: self.session.queued_up(),
            queued_down: self.session.queued_down(),
            stream: self.session.stream_state(),
        });
        polled
    }

    /// All that can be done without waiting, or as much of it as is fair.
    fn poll_turn(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm, stopping: &mut Stopping) -> Poll<Cause> {
        // Each wake-up may have come from the client.
        self.client.asleep = None;
        // These three wake the task by themselves, so that one look per wake-up is enough.
        while let Poll::Ready(happened) = stopping.poll(cx) {
            self.step(happened);
        }
        if self.live.poll_revoked(cx).is_ready() {
            self.step(Happened::Other(Input::Revoked));
        }
        if alarm.poll(cx, self.session.next_deadline()).is_ready() {
            self.step(Happened::Other(Input::Tick));
        }
        for _ in 0..STEPS_PER_POLL {
            if let Some(cause) = self.session.closed() {
                return Poll::Ready(cause.clone());
            }
            let happened = match self.poll_happened(cx) {
                Poll::Ready(happened) => happened,
                // Nothing more to read: now write, once for all of it.
                Poll::Pending => match self.client.poll_flush(cx) {
                    Err(Gone) => Happened::Other(Input::Client(ClientInput::Gone)),
                    Ok(()) if alarm.poll(cx, self.session.next_deadline()).is_ready() => Happened::Other(Input::Tick),
                    Ok(()) => return Poll::Pending,
                },
            };
            self.step(happened);
        }
        if self.client.poll_flush(cx).is_err() {
            self.step(Happened::Other(Input::Client(ClientInput::Gone)));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The next thing that happened. What slows one side down is here: a side is polled only while the session and the
    /// other side can take what it gives.
    fn poll_happened(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        // First, because an answer to a POST may hold a message as well.
        if let Poll::Ready(room) = self.poll_room(cx) {
            return Poll::Ready(Happened::Other(room));
        }
        if let Poll::Ready((delivery, outcome)) = self.upstream.poll_posts(cx) {
            return Poll::Ready(Happened::Other(Input::Posted(delivery, outcome)));
        }
        if let Poll::Ready(reopened) = self.upstream.poll_reopening(cx) {
            if reopened == Reopened::Open {
                self.live.set_endpoint(self.upstream.endpoint());
            }
            return Poll::Ready(Happened::Other(Input::Reopened(reopened)));
        }
        // A client that is slowed down can still answer a ping, send one, and leave.
        let wanted = if self.session.reads_client() { Wanted::Everything } else { Wanted::Control };
        if let Poll::Ready(input) = self.client.poll(cx, wanted) {
            return Poll::Ready(Happened::Other(Input::Client(input)));
        }
        if !self.session.reads_events() {
            return Poll::Pending;
        }
        self.upstream.poll_events(cx).map(|happened| match happened {
            FromUpstream::Event(event, source, at) => Happened::Event(event, source, at),
            FromUpstream::Alive => Happened::Other(Input::StreamAlive),
            FromUpstream::StreamEnded(end, left) => Happened::Other(Input::StreamEnded(end, left)),
            FromUpstream::ReplyEnded(end) => Happened::Other(Input::ReplyEnded(end)),
        })
    }

    /// What has changed about the room for messages in the client's socket.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Input<'static>> {
        let waits = self.session.client_waits();
        if !waits && !self.session.is_open() {
            return Poll::Pending;
        }
        let busy = self.session.client_is_busy();
        match self.client.has_room(cx) {
            true if busy || waits => Poll::Ready(Input::ClientReady),
            false if !busy => Poll::Ready(Input::ClientBusy),
            _ => Poll::Pending,
        }
    }

    fn step(&mut self, happened: Happened) {
        let now = Instant::now();
        let outputs = &mut self.outputs;
        let (was_reading, is_tick) = (self.session.reads_events(), matches!(happened, Happened::Other(Input::Tick)));
        match happened {
            Happened::Event(event, source, at) => {
                let stream = self.upstream.stream(source, at);
                let last_event_id = stream.map_or("", EventStream::last_event_id);
                let own_id = stream.is_some_and(EventStream::has_own_id);
                self.session.step(Input::Event(event, EventOf { source, last_event_id, own_id }), now, outputs);
            }
            Happened::Other(input) => self.session.step(input, now, outputs),
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        let (mut lost, mut stalled) = (false, false);
        for output in outputs.drain(..) {
            match output {
                Output::Post(delivery) => self.upstream.post(delivery),
                Output::Reopen { resume } => self.upstream.reopen(resume),
                Output::DropPosts => self.upstream.drop_posts(),
                Output::DropStream => stalled = true,
                output => lost |= self.client.perform(output).is_err(),
            }
        }
        self.outputs = outputs;
        if !self.session.is_open() {
            self.upstream.drop_replies();
        }
        if !self.session.needs_upstream() {
            self.upstream.drop_main();
        }
        if lost {
            self.client.socket = None;
            self.step(Happened::Other(Input::Client(ClientInput::Gone)));
        }
        if !was_reading && self.session.reads_events() {
            self.upstream.read_replies_again(now);
        } else if is_tick && was_reading && self.upstream.drop_stalled_reply(now) {
            self.step(Happened::Other(Input::ReplyEnded(StreamEnd::Stalled)));
        }
        if stalled {
            let left = self.upstream.end_main(StreamEnd::Stalled);
            self.step(Happened::Other(Input::StreamEnded(StreamEnd::Stalled, left)));
        }
    }
}

impl<S: ClientSocket> Client<S> {
    fn poll(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<ClientInput> {
        let asleep = self.asleep.is_some_and(|asked| asked >= wanted);
        let Some(socket) = self.socket.as_mut().filter(|_| !asleep) else { return Poll::Pending };
        let input = if self.hanging_up {
            socket.poll_hang_up(cx).map(|()| ClientInput::Gone)
        } else {
            socket.poll_receive(cx, wanted)
        };
        match input {
            Poll::Ready(ClientInput::Gone) => self.socket = None,
            Poll::Ready(_) => {}
            Poll::Pending => self.asleep = Some(wanted),
        }
        input
    }

    /// Whether one more message can be buffered. A failed socket can: sending to it will tell.
    fn has_room(&mut self, cx: &mut Context<'_>) -> bool {
        self.socket.as_mut().is_some_and(|socket| socket.poll_ready(cx).is_ready())
    }

    fn perform(&mut self, output: Output) -> Result<(), Gone> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        self.unflushed = true;
        match output {
            Output::Send(message) => socket.send(message),
            Output::Ping => socket.ping(),
            Output::Close(frame) => socket.close(frame),
            Output::HangUp => {
                self.hanging_up = true;
                self.asleep = None;
                Ok(())
            }
            Output::Abandon => {
                self.socket = None;
                Ok(())
            }
            Output::Post(_) | Output::DropPosts | Output::Reopen { .. } | Output::DropStream => Ok(()),
        }
    }

    /// Writes what is buffered. Hanging up flushes by itself.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), Gone> {
        if !self.unflushed || self.hanging_up {
            return Ok(());
        }
        let Some(socket) = &mut self.socket else { return Ok(()) };
        match socket.poll_flush(cx) {
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(Gone)) => {
                self.socket = None;
                return Err(Gone);
            }
            Poll::Pending => {}
        }
        Ok(())
    }

    /// The last word of a connection whose driver failed.
    async fn tell_defect(&mut self) {
        let (Some(socket), Some(frame)) = (&mut self.socket, Cause::Defect.frame(0)) else { return };
        if socket.close(frame).is_ok() {
            let hang_up = std::future::poll_fn(|cx| socket.poll_hang_up(cx));
            let _ = tokio::time::timeout(std::time::Duration::from_secs(1), hang_up).await;
        }
    }
}

/// Waits for the gateway's word: first the request to end, then the cut.
struct Stopping {
    next: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    cut: Option<CancellationToken>,
}

impl Stopping {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happened> {
        let Some(next) = &mut self.next else { return Poll::Pending };
        ready!(next.as_mut().poll(cx));
        let cut = self.cut.take();
        let happened = Happened::Other(if cut.is_some() { Input::Shutdown } else { Input::Cut });
        self.next = cut.map(|cut| Box::pin(cut.cancelled_owned()));
        Poll::Ready(happened)
    }
}
