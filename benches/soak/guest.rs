//! Clients that a scenario leads by the hand, and a crowd of them that does nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::clients::{Habits, Socket, Target, take};
use crate::ledger::{Entry, Ledger};
use crate::store::Store;
use crate::wire::{Visit, now};

pub(crate) struct Guest {
    pub(crate) visit: Visit,
    store: Arc<Store>,
    socket: Socket,
}

impl Guest {
    /// One who is in no sum of the ledger.
    pub(crate) async fn enter(target: &Target, store: &Arc<Store>, visit: Visit, habits: &Habits) -> Self {
        let socket = target.connect(visit, habits).await.expect("a guest that is let in");
        let mut ledger = store.ledger();
        ledger.enters(visit, u64::try_from(habits.event_every.as_micros()).unwrap());
        ledger.apart(visit);
        drop(ledger);
        Self { visit, store: store.clone(), socket }
    }

    pub(crate) async fn say(&mut self) {
        let number = self.store.ledger().sends(self.visit, now());
        // A failure shows when it is read next.
        let _ = self.socket.send(Message::text(format!("{} {number} ", self.visit))).await;
    }

    /// Reads until this is so, the connection is over, or the time is up; says whether it is so.
    pub(crate) async fn read_until(&mut self, limit: Duration, done: impl Fn(&Ledger, &Entry) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            {
                let ledger = self.store.ledger();
                if done(&ledger, ledger.entry(self.visit).expect("an entry")) {
                    return true;
                }
            }
            // What is asked about need not come with a message of its own.
            let step = (Instant::now() + Duration::from_millis(20)).min(deadline);
            match timeout_at(step, self.socket.next()).await {
                Ok(received) => {
                    if !take(&self.store, self.visit, received) {
                        return false;
                    }
                }
                Err(_) if Instant::now() >= deadline => return false,
                Err(_) => {}
            }
        }
    }
}

/// A process of clients that are there and answer pings, until it is killed. One line says that all have been let in.
pub(crate) async fn crowd(target: SocketAddr, certificate: &Path, first: Visit, count: u64) {
    const AT_ONCE: u64 = 32;
    let habits =
        Habits { sends_every: Duration::MAX, event_every: Duration::from_secs(1), size: 32, comes_back: false };
    let target = Target::new(target, certificate);
    let mut there: JoinSet<()> = JoinSet::new();
    let mut visit = first;
    while visit < first + count {
        let mut coming: JoinSet<Socket> = JoinSet::new();
        for _ in 0..AT_ONCE.min(first + count - visit) {
            let target = target.clone();
            coming.spawn(async move { target.connect(visit, &habits).await.expect("a client that is let in") });
            visit += 1;
        }
        while let Some(socket) = coming.join_next().await {
            let mut socket = socket.unwrap();
            there.spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
        }
    }
    println!("there");
    std::future::pending::<()>().await;
}
