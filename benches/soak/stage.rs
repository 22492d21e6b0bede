//! A gateway, its upstream and its clients, and the balance that is struck at the end.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::backend::Backend;
use crate::clients::{Clients, Target};
use crate::gateway::{Gateway, Setup, median, slope};
use crate::ledger::Ledger;
use crate::report::Section;
use crate::store::Store;
use crate::wire::now;

/// After the last fault, what is still on its way has this long to arrive.
const SETTLING: Duration = Duration::from_mins(1);

/// A shorter line of memory says nothing: a few seconds of faults move it more than a leak could.
const LONG_LINE: Duration = Duration::from_mins(5);

/// The budget of reopening that every scenario sets, low enough to be seen.
pub(crate) const REOPEN_RATE: usize = 100;
pub(crate) const REOPEN_CONCURRENCY: usize = 20;

/// Starts are paced where they leave; where they arrive, two of them can be nearer. In requests a second.
const REOPEN_BLUR: usize = REOPEN_RATE / 10;

pub(crate) struct Stage {
    pub(crate) store: Arc<Store>,
    pub(crate) backends: Vec<Backend>,
    pub(crate) gateway: Gateway,
    pub(crate) clients: Clients,
    pub(crate) target: Target,
}

/// What all scenarios set; lines for the bridge come from them.
pub(crate) fn setup(protocol: &'static str, bridge: impl Into<String>) -> Setup {
    Setup {
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        protocol,
        upstream: format!("reopen_rate = {REOPEN_RATE}\nreopen_concurrency = {REOPEN_CONCURRENCY}"),
        bridge: bridge.into(),
        reconnect: String::new(),
    }
}

/// The longest of several times, each of which may never have come to its end.
pub(crate) trait Slowest {
    fn max_of(self, other: Self) -> Self;
}

impl Slowest for Option<Duration> {
    fn max_of(self, other: Self) -> Self {
        self.zip(other).map(|(one, other)| one.max(other))
    }
}

impl Stage {
    pub(crate) async fn new(setup: &Setup, endpoints: usize) -> Self {
        let store = Arc::new(Store::default());
        let mut backends = Vec::new();
        for nth in 0..endpoints {
            backends.push(Backend::start(nth, &store).await);
        }
        let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
        let gateway = Gateway::start(setup, &addresses);
        let target = Target::new(gateway.address, &gateway.certificate);
        let clients = Clients::new(target.clone(), store.clone());
        Self { store, backends, gateway, clients, target }
    }

    /// Waits until this is so; `None` if it is not in time, otherwise how long it took.
    pub(crate) async fn until(&self, limit: Duration, done: impl Fn(&Ledger) -> bool) -> Option<Duration> {
        let began = Instant::now();
        loop {
            if done(&self.store.ledger()) {
                return Some(began.elapsed());
            }
            if began.elapsed() > limit {
                return None;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets everything arrive that still can, strikes the balance, and ends all. `stays` is whether no client may have
    /// been closed.
    pub(crate) async fn finish(mut self, section: &mut Section<'_>, stays: bool) {
        self.clients.hush();
        let horizon = now();
        self.until(SETTLING, |ledger| ledger.outstanding(horizon) == (0, 0)).await;
        self.balance(section, horizon, stays);
        self.memory(section);
        let runs = self.gateway.is_running();
        section.promise("the gateway still runs", runs, "true", runs);
        self.clients.leave().await;
        let closed = self.store.ledger().ended() > 0;
        if (!runs || stays && closed)
            && let Some(place) = self.gateway.keep()
        {
            eprintln!("its configuration and log: {}", place.display());
        }
    }

    /// The line over all but the first quarter, in which queues and pools find their size.
    fn memory(&self, section: &mut Section<'_>) {
        let samples = self.gateway.samples();
        let steady = &samples[samples.len() / 4..];
        let (Some(first), Some(last)) = (steady.first(), steady.last()) else { return };
        let (slope, size, length) = (slope(steady), median(steady), last.at.saturating_sub(first.at));
        section.note("KiB resident at the start of the steady part", first.kib);
        section.note("... at its end", last.kib);
        section.note("... at most", steady.iter().map(|sample| sample.kib).fold(0.0, f64::max));
        section.note("KiB a minute, by least squares", slope);
        let rise = slope * length.as_secs_f64() / 60.0;
        let what = "KiB that the line rises in all";
        if length < LONG_LINE {
            section.note(what, rise);
        } else {
            section.promise(what, rise, format!("5 % of {size:.0}"), rise <= size * 0.05);
        }
    }

    fn balance(&self, section: &mut Section<'_>, horizon: u64, stays: bool) {
        let ledger = self.store.ledger();
        let balance = ledger.balance(horizon);
        section.note("connections that clients opened", balance.connections);
        let closed: u64 = balance.closed.values().sum();
        if stays {
            section.none("connections closed", closed);
        } else {
            section.note("connections closed", closed);
        }
        for (cause, count) in &balance.closed {
            section.note(format!("... with {cause}"), *count);
        }
        for (status, count) in &balance.not_let_in {
            section.note(format!("clients that were not let in: {status}"), *count);
        }
        for (name, sums) in [("events", &balance.down), ("messages", &balance.up)] {
            section.note(format!("{name} that arrived"), sums.came);
            section.none(format!("{name} lost"), sums.lost);
            section.none(format!("{name} doubled"), sums.doubled);
            section.none(format!("{name} reordered"), sums.reordered);
        }
        section.none("messages under a wrong number", balance.misnumbered);
        if balance.other > 0 {
            section.note("messages to clients that were no events", balance.other);
        }
        if balance.closed_missing > 0 {
            section.note("messages of closed clients that were not recorded", balance.closed_missing);
            section.note("... named in their close reasons", balance.closed_named);
        }
        section.note("POSTs whose key had come in before", ledger.posted_again);
        section.note("... and had been recorded: keys seen twice", ledger.seen_twice);
        let reopens = ledger.reopens();
        section.note("event streams reopened", reopens.total);
        section.none("... of them without a position", ledger.without_position);
        if reopens.piled_up > 0 {
            section.note("... of them asked for while the endpoint stood still", reopens.piled_up);
        }
        section.promise(
            "most reopens within any second",
            reopens.most_in_a_second,
            format!("{REOPEN_RATE}, measured within {REOPEN_BLUR}"),
            reopens.most_in_a_second <= REOPEN_RATE + REOPEN_BLUR,
        );
        section.promise(
            "most reopens waiting for an answer at once",
            reopens.most_at_once,
            REOPEN_CONCURRENCY.to_string(),
            reopens.most_at_once <= REOPEN_CONCURRENCY,
        );
    }
}
