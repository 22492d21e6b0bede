//! One event stream: what is due by the clock, and comments while nothing is.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::wire::{Micros, Visit, now};

/// Events that go out in one chunk at most.
const CHUNK: u64 = 64;

/// How long the first half of an event has to get out before the stream is cut.
const HALF: Duration = Duration::from_millis(20);

/// The log of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    pub(crate) visit: Visit,
    /// When the connection was made.
    pub(crate) born: Micros,
    /// Time between two events; 0 is a log without an end that is there from the beginning.
    pub(crate) period: Micros,
    /// Bytes of filling in each event.
    pub(crate) size: usize,
    /// Time between two comments.
    pub(crate) beat: Duration,
}

/// What goes wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Stall,
    Cut,
}

/// A body that breaks off.
#[derive(Debug)]
pub(crate) struct CutOff;

impl std::fmt::Display for CutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut off on purpose")
    }
}
impl std::error::Error for CutOff {}

/// The body of any answer.
pub(crate) enum Body {
    Empty,
    Events(mpsc::Receiver<Result<Bytes, CutOff>>),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Events(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl Log {
    /// How many events there are at that time.
    pub(crate) fn len(&self, at: Micros) -> u64 {
        at.saturating_sub(self.born).checked_div(self.period).unwrap_or(u64::MAX)
    }

    fn write(&self, number: u64, out: &mut String) {
        writeln!(out, "id: {number}\ndata: {} {number} {:x<size$}\n", self.visit, "", size = self.size).unwrap();
    }

    /// Writes the stream until nobody reads it.
    pub(crate) async fn serve(
        self,
        last: Option<u64>,
        mut fault: watch::Receiver<Fault>,
        chunks: mpsc::Sender<Result<Bytes, CutOff>>,
    ) {
        let gone = chunks.clone();
        tokio::select! {
            _ = self.follow(last, &chunks) => {}
            () = gone.closed() => {}
            fault = broken(&mut fault) => match fault {
                Fault::Cut => {
                    let half = format!("id: {}\ndata: {} ", u64::MAX, self.visit);
                    let _ = chunks.send(Ok(half.into())).await;
                    tokio::time::sleep(HALF).await;
                    let _ = chunks.send(Err(CutOff)).await;
                }
                Fault::Stall | Fault::None => gone.closed().await,
            },
        }
    }

    /// Ends when nobody reads it.
    async fn follow(self, last: Option<u64>, chunks: &mpsc::Sender<Result<Bytes, CutOff>>) -> Option<Infallible> {
        let mut sent = last.unwrap_or(0);
        // The position before the first event, so that a stream which dies early can be resumed without a doubt.
        chunks.send(Ok(format!("id: {sent}\n\n").into())).await.ok()?;
        let mut beat = interval(self.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = self.len(now()).min(sent + CHUNK);
            if sent < end {
                let mut text = String::new();
                (sent + 1..=end).for_each(|number| self.write(number, &mut text));
                chunks.send(Ok(text.into())).await.ok()?;
                sent = end;
                continue;
            }
            let due = self.born + (sent + 1) * self.period;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_micros(due.saturating_sub(now()))) => {}
                _ = beat.tick() => chunks.send(Ok(Bytes::from_static(b": still here\n"))).await.ok()?,
            }
        }
    }
}

/// Resolves when something is to go wrong.
async fn broken(fault: &mut watch::Receiver<Fault>) -> Fault {
    let happened = fault.wait_for(|fault| *fault != Fault::None).await.map(|fault| *fault);
    match happened {
        Ok(fault) => fault,
        // The connection has a newer stream, and faults are for that one.
        Err(_) => std::future::pending().await,
    }
}
