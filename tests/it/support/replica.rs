//! One of several endpoints: a fake upstream that answers by itself, in the way that the scene has set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::FakeUpstream;
use super::must;
use super::upstream::{Answer, EventSender};

/// A backend that accepts streams and answers `/health` and `/first-byte`.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    checks: watch::Receiver<usize>,
    _task: JoinSet<()>,
}

struct State {
    well: AtomicBool,
    /// What requests for streams are answered with; 200 accepts.
    status: AtomicUsize,
    opens: AtomicUsize,
    streams: Mutex<Vec<EventSender>>,
}

impl Replica {
    pub(crate) async fn start() -> Self {
        Self::of(FakeUpstream::start().await)
    }

    pub(crate) fn of(mut upstream: FakeUpstream) -> Self {
        let state = Arc::new(State {
            well: AtomicBool::new(true),
            status: AtomicUsize::new(200),
            opens: AtomicUsize::new(0),
            streams: Mutex::default(),
        });
        let (checked, checks) = watch::channel(0);
        let (address, shared) = (upstream.address, state.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let open = upstream.next_open().await;
                let well = shared.well.load(Ordering::SeqCst);
                match open.head.uri.path() {
                    "/health" => open.answer(Answer::status(if well { 200 } else { 500 })),
                    "/first-byte" => {
                        let stream = open.accept();
                        if well {
                            stream.send(":\n").await;
                        }
                        // Without a byte, the stream stays open: a check has to notice by the time.
                        shared.streams.lock().unwrap().push(stream);
                    }
                    _ => {
                        shared.opens.fetch_add(1, Ordering::SeqCst);
                        match shared.status.load(Ordering::SeqCst) {
                            200 => {
                                let stream = open.accept();
                                shared.streams.lock().unwrap().push(stream);
                            }
                            status => open.answer(Answer::status(u16::try_from(status).unwrap())),
                        }
                        continue;
                    }
                }
                checked.send_modify(|checks| *checks += 1);
            }
        });
        Self { address, state, checks, _task: task }
    }

    /// Requests for streams so far, checks left out.
    pub(crate) fn opens(&self) -> usize {
        self.state.opens.load(Ordering::SeqCst)
    }

    /// What requests for streams are answered with from now on.
    pub(crate) fn answer_with(&self, status: usize) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// Changes what checks are answered with, and waits until the gateway has taken in that many of the new answers: a
    /// check is made after the one before it has been counted.
    pub(crate) async fn checked(&mut self, well: bool, times: usize) {
        self.state.well.store(well, Ordering::SeqCst);
        // One check may have been answered in the old way a moment ago.
        let enough = *self.checks.borrow() + times + 2;
        must("health checks", self.checks.wait_for(|checks| *checks >= enough)).await.unwrap();
    }
}
