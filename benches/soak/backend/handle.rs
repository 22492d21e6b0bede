//! The parent's side of a backend process: started, told, killed, started again on the same port.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::process::{Process, free_address};
use crate::store::Store;
use crate::wire::{Order, Told, now};

/// One endpoint of the upstream.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    nth: usize,
    store: Arc<Store>,
    running: Option<Running>,
}

struct Running {
    process: Process,
    orders: mpsc::UnboundedSender<Order>,
    reader: JoinHandle<()>,
}

impl Backend {
    /// Starts endpoint `nth` and waits until it listens.
    pub(crate) async fn start(nth: usize, store: &Arc<Store>) -> Self {
        let mut backend = Self { address: free_address(), nth, store: store.clone(), running: None };
        backend.restart().await;
        backend
    }

    /// Starts it again on its port.
    pub(crate) async fn restart(&mut self) {
        let mut process = Process::again("backend", &[self.address.to_string()]);
        let (input, output) = process.pipes();
        let input = pipe::Sender::from_owned_fd(input).unwrap();
        let output = pipe::Receiver::from_owned_fd(output).unwrap();
        let (orders, orders_rx) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(write(orders_rx, input));
        let reader = tokio::spawn(read(output, self.nth, self.store.clone(), orders.clone(), ready));
        is_ready.await.expect("a backend that listens");
        self.running = Some(Running { process, orders, reader });
    }

    /// SIGKILL. When this returns, all that the process has ever said has reached the store.
    pub(crate) async fn kill(&mut self) {
        let mut running = self.running.take().expect("a running backend");
        running.process.kill();
        running.reader.await.unwrap();
        self.store.endpoint_is_gone(self.nth);
    }

    /// SIGSTOP: it holds its connections and does nothing.
    pub(crate) fn freeze(&self) {
        self.running().process.signal(Signal::STOP);
        self.store.ledger().frozen(self.nth);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.store.ledger().thawed(self.nth, now());
        self.running().process.signal(Signal::CONT);
    }

    pub(crate) fn order(&self, order: Order) {
        self.running().orders.send(order).expect("a backend that listens to orders");
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("a running backend")
    }
}

async fn write(mut orders: mpsc::UnboundedReceiver<Order>, mut input: pipe::Sender) {
    let mut batch = Vec::new();
    while orders.recv_many(&mut batch, 256).await > 0 {
        let mut lines = Vec::new();
        for order in batch.drain(..) {
            serde_json::to_writer(&mut lines, &order).unwrap();
            lines.push(b'\n');
        }
        // A dead process is the scenario's doing.
        if input.write_all(&lines).await.is_err() {
            return;
        }
    }
}

async fn read(
    output: pipe::Receiver,
    nth: usize,
    store: Arc<Store>,
    orders: mpsc::UnboundedSender<Order>,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Told::Ready { .. }) => drop(ready.take().map(|ready| ready.send(()))),
            Ok(told) => {
                if let Some(order) = store.take(nth, told) {
                    // Nobody there: it died since.
                    let _ = orders.send(order);
                }
            }
            // A line that the kill cut off was never acted on by anybody.
            Err(error) => assert!(error.is_eof(), "{line}: {error}"),
        }
    }
}
