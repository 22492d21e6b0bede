//! One client never reads, and upstream floods it; the others share its HTTP/2 connection.

use std::time::Duration;

use tokio::time::sleep;

use super::Effort;
use crate::clients::Habits;
use crate::gateway::{Sample, median};
use crate::guest::Guest;
use crate::ledger::Ledger;
use crate::report::{Report, Section};
use crate::stage::{Stage, setup};
use crate::wire::{Visit, now};

const OTHERS: usize = 99;

/// Events of 1 KiB, this often for each of the others.
const EVERY: Duration = Duration::from_millis(20);

/// What a client may be behind upstream without being slowed down.
const LAG: Duration = Duration::from_secs(1);

/// What the gateway may grow by: the queue of 256 KiB, the windows and buffers of one connection, and what the allocator
/// rounds up; in KiB.
const GROWTH: f64 = 4096.0;

/// What a policy makes of the slow client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Pause,
    Close,
    DropOldest,
}

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    for (overflow, name) in
        [(Overflow::Pause, "pause"), (Overflow::Close, "close"), (Overflow::DropOldest, "drop-oldest")]
    {
        let mut section = report.of(format!("slow-reader, overflow = {name}"));
        one(effort, overflow, name, &mut section).await;
    }
}

async fn one(effort: &Effort, overflow: Overflow, name: &str, section: &mut Section<'_>) {
    let bridge = format!("overflow = \"{name}\"\nsend_queue = \"256KiB\"\nretry = \"idempotent\"");
    let mut stage = Stage::new(&setup("http2", bridge), 1).await;
    let habits = Habits { sends_every: Duration::from_secs(5), event_every: EVERY, size: 1000, comes_back: false };
    stage.clients.add(OTHERS, habits).await;
    let window = Duration::from_secs(effort.pick(20, 5));
    sleep(Duration::from_secs(3)).await;

    let before = watch(&stage, window).await;
    let flood = Habits { event_every: Duration::ZERO, ..habits };
    let visit = stage.clients.visit();
    let mut slow = Guest::enter(&stage.target, &stage.store, visit, &flood).await;
    let during = watch(&stage, window).await;

    let connections = stage.store.ledger().accepted;
    section.promise("connections of the gateway to upstream", connections, "1", connections == 1);
    let rate = 1.0 / EVERY.as_secs_f64();
    section.note("events a second due to each of the others", rate);
    section.note("least that one of them got, before", before.least);
    section.promise(
        "least that one of them got, during",
        during.least,
        format!("95 % of {rate}"),
        during.least >= rate * 0.95,
    );
    section.none("events later than 1 s, during", during.late);
    section.note("most KiB above the median, before", before.most - before.median);
    let growth = during.most - before.median;
    section.promise("KiB that the gateway grew by, during", growth, format!("{GROWTH}"), growth <= GROWTH);

    what_became_of_it(overflow, &stage, &mut slow, section).await;
    drop(slow);
    stage.finish(section, true).await;
}

/// Reads at last, and looks at what comes.
async fn what_became_of_it(overflow: Overflow, stage: &Stage, slow: &mut Guest, section: &mut Section<'_>) {
    let reached = stage.store.ledger().entry(slow.visit).expect("an entry").down.highest();
    assert_eq!(reached, 0, "a client that has not read");
    let long = Duration::from_secs(15);
    let enough = 20_000;
    let ended = |_: &Ledger, entry: &crate::ledger::Entry| entry.closed.is_some();
    match overflow {
        Overflow::Pause => {
            let goes_on = slow.read_until(long, |_, entry| entry.down.highest() >= enough).await;
            section.promise("it is served when it reads at last", goes_on, "true", goes_on);
            section.none("events that it missed", misses(stage, slow.visit));
        }
        Overflow::DropOldest => {
            let goes_on = slow.read_until(long, |_, entry| entry.down.came() >= enough).await;
            section.promise("it is served when it reads at last", goes_on, "true", goes_on);
            let missed = misses(stage, slow.visit);
            section.promise("events that it missed", missed, "above 0", missed > 0);
        }
        Overflow::Close => {
            slow.read_until(long, ended).await;
            let ledger = stage.store.ledger();
            let closing = ledger.entry(slow.visit).and_then(|entry| entry.closed.as_ref());
            let code = closing.and_then(|closing| closing.code).map_or("none".to_owned(), |code| code.to_string());
            let reason = closing.map_or("", |closing| &closing.reason);
            section.note("close code and reason that it reads at last", format!("{code} {reason}"));
            let logged = stage.gateway.log().matches("client-too-slow").count();
            section.promise("endings logged as client-too-slow", logged, "1", logged == 1);
        }
    }
    let ledger = stage.store.ledger();
    let entry = ledger.entry(slow.visit).expect("an entry");
    section.none("events that it got twice", entry.down.doubled);
    section.none("events that it got out of order", entry.down.reordered);
}

fn misses(stage: &Stage, visit: Visit) -> u64 {
    stage.store.ledger().entry(visit).expect("an entry").down.holes()
}

struct Watched {
    /// Events a second of the one that got fewest.
    least: f64,
    /// Most events that were late at once.
    late: u64,
    /// KiB of the gateway.
    median: f64,
    most: f64,
}

/// Looks at the others, and at the gateway's memory.
async fn watch(stage: &Stage, window: Duration) -> Watched {
    let had = received(&stage.store.ledger());
    let began = std::time::Instant::now();
    let samples_before = stage.gateway.samples().len();
    let mut late = 0;
    while began.elapsed() < window {
        sleep(Duration::from_millis(250)).await;
        let horizon = now() - u64::try_from(LAG.as_micros()).unwrap();
        late = late.max(stage.store.ledger().outstanding(horizon).0);
    }
    let seconds = began.elapsed().as_secs_f64();
    let has = received(&stage.store.ledger());
    let least = had.iter().zip(&has).map(|(had, has)| (has - had) as f64 / seconds).fold(f64::INFINITY, f64::min);
    let samples: Vec<Sample> = stage.gateway.samples().split_off(samples_before);
    let most = samples.iter().map(|sample| sample.kib).fold(0.0, f64::max);
    Watched { least, late, median: median(&samples), most }
}

/// How many events each of the others has.
fn received(ledger: &Ledger) -> Vec<u64> {
    ledger.visits().take(OTHERS).map(|(_, entry)| entry.down.came()).collect()
}
