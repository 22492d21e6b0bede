//! One task that drives one tunnel: it moves the bytes of both directions, tells the rules what came of that, and carries
//! out what they order.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::error;

use super::frames::Frames;
use super::lane::{Event, Lane};
use super::rules::{Input, Last, Orders, Rules, Side};
use crate::bridge::Stop;
use crate::bridge::alarm::Alarm;
use crate::bridge::registry::{Live, Snapshot};
use crate::session::{Cause, Counts, StreamState};

/// One tunnel: its rules, its two peers and the two directions between them.
pub(super) struct Driver<C, B> {
    rules: Rules,
    client: Option<C>,
    backend: Option<B>,
    up: Lane,
    down: Lane,
    live: Live,
    /// What went wrong with the backend, for the log.
    failure: Option<String>,
}

/// What a tunnel begins with.
pub(super) struct Begin<C, B> {
    /// The client, and what was read of it too much.
    pub(super) client: (C, Vec<u8>),
    /// The backend, and what was read of it too much.
    pub(super) backend: (B, bytes::Bytes),
    /// Most bytes held each way.
    pub(super) buffer: usize,
    /// Masks a close frame for the backend.
    pub(super) key: [u8; 4],
}

impl<C, B> Driver<C, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(rules: Rules, begin: Begin<C, B>, live: Live) -> Self {
        let Begin { client: (client, of_client), backend: (backend, of_backend), buffer, key } = begin;
        Self {
            rules,
            client: Some(client),
            backend: Some(backend),
            up: Lane::new(Frames::of_client(), &of_client, buffer, Some(key)),
            down: Lane::new(Frames::of_server(), &of_backend, buffer, None),
            live,
            failure: None,
        }
    }

    /// Drives the tunnel to its end and says why it ended and what it carried.
    pub(super) async fn run(&mut self, stop: Stop) -> (Cause, Counts) {
        let mut alarm = Alarm::new(self.rules.next_deadline().unwrap_or_else(Instant::now));
        let mut stopping = Stopping {
            shutdown: Some(Box::pin(stop.shutdown.cancelled_owned())),
            cut: Some(Box::pin(stop.cut.cancelled_owned())),
        };
        let driven = std::future::poll_fn(|cx| {
            let polled = self.poll(cx, &mut alarm, &mut stopping);
            self.live.store(&self.snapshot());
            polled
        });
        // A defect ends one connection, and not the others with it.
        let cause = AssertUnwindSafe(driven).catch_unwind().await.unwrap_or_else(|_| {
            error!("a connection's task panicked; this is a defect in tidegate, please report it");
            Cause::Defect
        });
        (cause, self.counts())
    }

    /// The newest thing that went wrong with the backend, for the log.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Counts the connection among those that have ended.
    pub(super) fn close(self, cause: &Cause, counts: &Counts) {
        self.live.close(cause, counts);
    }

    fn counts(&self) -> Counts {
        let (up, down) = (self.up.frames(), self.down.frames());
        Counts {
            messages_up: up.messages(),
            bytes_up: up.bytes(),
            messages_down: down.messages(),
            bytes_down: down.bytes(),
            ..Counts::default()
        }
    }

    fn snapshot(&self) -> Snapshot {
        let (queued_up, queued_down) = (self.up.held(), self.down.held());
        Snapshot { counts: self.counts(), queued_up, queued_down, stream: StreamState::Legacy }
    }

    fn poll(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm, stopping: &mut Stopping) -> Poll<Cause> {
        while let Poll::Ready(input) = stopping.poll(cx) {
            self.step(input);
        }
        if self.live.poll_revoked(cx).is_ready() {
            self.step(Input::Revoked);
        }
        loop {
            if let Some(cause) = self.rules.over() {
                return Poll::Ready(cause.clone());
            }
            let input = if let Poll::Ready(event) = self.up.poll(cx, self.client.as_mut(), self.backend.as_mut()) {
                self.understand(event, Side::Client)
            } else if let Poll::Ready(event) = self.down.poll(cx, self.backend.as_mut(), self.client.as_mut()) {
                self.understand(event, Side::Backend)
            } else {
                if self.up.has_moved() | self.down.has_moved() && !self.rules.is_ending() {
                    self.step(Input::Moved);
                }
                match alarm.poll(cx, self.rules.next_deadline()) {
                    Poll::Ready(()) => Input::Tick,
                    Poll::Pending => return Poll::Pending,
                }
            };
            self.step(input);
        }
    }

    /// What an event of the direction from `source` is to the rules.
    fn understand(&mut self, event: Event, source: Side) -> Input {
        let sink = if source == Side::Client { Side::Backend } else { Side::Client };
        match event {
            Event::Closed(code) => Input::Closed(source, code),
            Event::Ended => Input::Ended(source),
            Event::Broke(breach) => Input::Broke(source, breach),
            Event::Shut => Input::Shut(sink),
            Event::SourceLost(error) => self.lost(source, &error),
            Event::SinkLost(error) => self.lost(sink, &error),
        }
    }

    fn lost(&mut self, side: Side, error: &std::io::Error) -> Input {
        if side == Side::Backend {
            self.failure = Some(error.to_string());
        }
        Input::Lost(side)
    }

    fn step(&mut self, input: Input) {
        if let Input::Lost(side) = input {
            self.drop_side(side);
        }
        let Orders { client, backend } = self.rules.step(input, Instant::now());
        for (side, last) in [(Side::Client, client), (Side::Backend, backend)] {
            match last {
                None => {}
                Some(Last::Drop) => self.drop_side(side),
                Some(last) if side == Side::Client => self.down.end(last),
                Some(last) => self.up.end(last),
            }
        }
    }

    fn drop_side(&mut self, side: Side) {
        match side {
            Side::Client => self.client = None,
            Side::Backend => self.backend = None,
        }
    }
}

/// The gateway's word: first the request to end, then the cut.
struct Stopping {
    shutdown: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Stopping {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        for (word, input) in [(&mut self.shutdown, Input::Shutdown), (&mut self.cut, Input::Cut)] {
            if let Some(waiting) = word
                && waiting.as_mut().poll(cx).is_ready()
            {
                *word = None;
                return Poll::Ready(input);
            }
        }
        Poll::Pending
    }
}
