//! The clients: real WebSockets over TLS that number what they send and enter into the books what they receive.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::ledger::Closing;
use crate::store::Store;
use crate::wire::{Visit, now};

pub(crate) type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Nothing takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many TLS handshakes are made at the same time.
const AT_ONCE: usize = 32;

/// What clients connect to.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Time between two messages of a client.
    pub(crate) sends_every: Duration,
    /// Time between two events of its log; zero is a flood.
    pub(crate) event_every: Duration,
    /// Bytes of filling in messages and events.
    pub(crate) size: usize,
    /// Whether it opens another WebSocket when one is closed.
    pub(crate) comes_back: bool,
}

/// What all of them do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Talk,
    Hush,
    Leave,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, certificate: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Self { address, tls: Arc::new(config) }
    }

    /// A WebSocket whose every request carries this visit; the error says how it was refused.
    pub(crate) async fn connect(&self, visit: Visit, habits: &Habits) -> Result<Socket, String> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let connector = TlsConnector::from(self.tls.clone());
            let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
            let (period, size) = (habits.event_every.as_millis(), habits.size);
            let url = format!("wss://localhost/chat?visit={visit}&period={period}&size={size}");
            match tokio_tungstenite::client_async(url, stream).await {
                Ok((socket, _)) => Ok(socket),
                Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16().to_string()),
                Err(error) => Err(error.to_string()),
            }
        };
        timeout(PATIENCE, connecting).await.map_err(|_| "no answer".to_owned())?
    }
}

/// A crowd of them.
pub(crate) struct Clients {
    target: Target,
    store: Arc<Store>,
    mood: watch::Sender<Mood>,
    visits: Arc<AtomicU64>,
    handshakes: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Clients {
    pub(crate) fn new(target: Target, store: Arc<Store>) -> Self {
        Self {
            target,
            store,
            mood: watch::Sender::new(Mood::Talk),
            visits: Arc::new(AtomicU64::new(1)),
            handshakes: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: JoinSet::new(),
        }
    }

    /// Adds clients, and returns when all of them are there.
    pub(crate) async fn add(&mut self, count: usize, habits: Habits) {
        let before = self.store.ledger().open();
        for _ in 0..count {
            let client = Client {
                target: self.target.clone(),
                store: self.store.clone(),
                mood: self.mood.subscribe(),
                visits: self.visits.clone(),
                handshakes: self.handshakes.clone(),
                habits,
            };
            self.tasks.spawn(client.live());
        }
        let all = async {
            while self.store.ledger().open() < before + count {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE * 2, all).await.expect("clients that are let in");
    }

    /// A number that no client has.
    pub(crate) fn visit(&self) -> Visit {
        self.visits.fetch_add(1, Ordering::Relaxed)
    }

    /// Nobody sends any more.
    pub(crate) fn hush(&self) {
        self.mood.send_replace(Mood::Hush);
    }

    /// All close their WebSockets and are gone.
    pub(crate) async fn leave(mut self) {
        self.mood.send_replace(Mood::Leave);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client without a defect");
        }
    }
}

struct Client {
    target: Target,
    store: Arc<Store>,
    mood: watch::Receiver<Mood>,
    visits: Arc<AtomicU64>,
    handshakes: Arc<Semaphore>,
    habits: Habits,
}

impl Client {
    async fn live(mut self) {
        while *self.mood.borrow() != Mood::Leave {
            let visit = self.visits.fetch_add(1, Ordering::Relaxed);
            let turn = self.handshakes.clone().acquire_owned().await;
            match self.target.connect(visit, &self.habits).await {
                Ok(socket) => {
                    drop(turn);
                    let period = u64::try_from(self.habits.event_every.as_micros()).unwrap();
                    self.store.ledger().enters(visit, period);
                    self.converse(visit, socket).await;
                    if !self.habits.comes_back {
                        return;
                    }
                }
                Err(why) => {
                    drop(turn);
                    self.store.ledger().not_let_in(why);
                }
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    async fn converse(&mut self, visit: Visit, mut socket: Socket) {
        // Spread over the period, each client at a moment of its own.
        let phase = self.habits.sends_every.mul_f64(visit as f64 * 0.618 % 1.0);
        let mut every = interval_at(tokio::time::Instant::now() + phase, self.habits.sends_every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut mood = *self.mood.borrow();
        loop {
            tokio::select! {
                received = socket.next() => if !take(&self.store, visit, received) { return },
                _ = every.tick(), if mood == Mood::Talk => {
                    let number = self.store.ledger().sends(visit, now());
                    let text = format!("{visit} {number} {:x<1$}", "", self.habits.size);
                    // A failure shows when it is read next.
                    let _ = socket.send(Message::text(text)).await;
                }
                Ok(()) = self.mood.changed() => {
                    mood = *self.mood.borrow();
                    if mood == Mood::Leave {
                        self.store.ledger().leaves(visit);
                        let _ = socket.close(None).await;
                    }
                }
            }
        }
    }
}

/// Enters what a client has received; false at the end of its connection.
pub(crate) fn take(store: &Store, visit: Visit, received: Option<Result<Message, tungstenite::Error>>) -> bool {
    let mut ledger = store.ledger();
    match received {
        Some(Ok(Message::Text(text))) => {
            let mut words = text.split(' ');
            let own = words.next() == Some(visit.to_string().as_str());
            let number = words.next().filter(|_| own).and_then(|number| number.parse().ok());
            ledger.receives(visit, number);
        }
        Some(Ok(Message::Close(frame))) => {
            let (code, reason) = match frame {
                Some(frame) => (Some(frame.code.into()), frame.reason.to_string()),
                None => (None, String::new()),
            };
            ledger.closed(visit, Closing { code, reason, at: now() });
        }
        Some(Ok(_)) => {}
        Some(Err(_)) | None => {
            ledger.closed(visit, Closing { code: None, reason: "without a close frame".to_owned(), at: now() });
            return false;
        }
    }
    true
}
