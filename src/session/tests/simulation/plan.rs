//! What a seed stands for: the route, the clients, and what goes wrong when.

use super::super::*;
use super::random::Random;

/// Virtual time, in microseconds.
pub(super) type Micros = u64;
pub(super) const MILLI: Micros = 1000;
pub(super) const SECOND: Micros = 1000 * MILLI;

/// What a route promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Every message and every event exactly once, in order.
    NothingIsLost,
    /// No message twice; whoever has one in doubt is closed.
    NothingIsDoubled,
    /// A slow client is left out of what is old.
    OldestGiveWay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// Everything breaks, and nothing can be connected to.
    Crash,
    /// Everything stays open, and nothing is answered.
    Stall,
}

/// One run, before it begins.
#[derive(Debug)]
pub(super) struct Plan {
    pub promise: Promise,
    pub settings: Settings,
    pub clients: Vec<ClientPlan>,
    /// Each with its beginning and its end. Between two there is time for all that waits.
    pub outages: Vec<(Outage, Micros, Micros)>,
    /// In percent: how many POSTs and reopenings go wrong by themselves.
    pub flaky: u64,
    /// When the clients that are still there leave.
    pub end: Micros,
}

#[derive(Debug)]
pub(super) struct ClientPlan {
    pub types: Vec<Micros>,
    pub events: Vec<Micros>,
    /// When its stream is cut.
    pub cuts: Vec<Micros>,
    /// When it stops to read, and for how long.
    pub pauses: Vec<(Micros, Micros)>,
    /// When it leaves by itself, if it does.
    pub leaves: Option<Micros>,
    /// How many messages its socket holds.
    pub room: usize,
}

impl Plan {
    pub(super) fn draw(promise: Promise, random: &mut Random) -> Self {
        let mut now = random.between(2, 10) * SECOND;
        let mut outages = Vec::new();
        for _ in 0..random.between(0, 3) {
            let outage = random.pick(&[Outage::Crash, Outage::Crash, Outage::Stall]);
            let longest = if outage == Outage::Crash { 90 } else { 45 };
            let end = now + random.between(MILLI, longest * SECOND);
            outages.push((outage, now, end));
            now = end + random.between(30, 50) * SECOND;
        }
        let busy = now;
        let clients = (0..random.between(1, 4)).map(|_| ClientPlan::draw(busy, &outages, random)).collect();
        let flaky = random.pick(&[0, 2, 10]);
        let end = busy + 150 * SECOND;
        Self { promise, settings: settings(promise, random), clients, outages, flaky, end }
    }
}

impl ClientPlan {
    fn draw(busy: Micros, outages: &[(Outage, Micros, Micros)], random: &mut Random) -> Self {
        let mut times = |most: u64| {
            let mut times = Vec::new();
            for _ in 0..random.between(1, most) {
                let at = random.between(MILLI, busy);
                // Many come in bursts.
                let burst = random.pick(&[1, 1, 5]);
                times.extend((0..burst).map(|more| at + more * MILLI));
            }
            times
        };
        let (mut types, events) = (times(12), times(12));
        // What is under way when an outage begins is what is in danger.
        types.extend(outages.iter().map(|(_, begin, _)| begin - random.between(0, 4 * MILLI)));
        let cuts = (0..random.between(0, 4)).map(|_| random.between(0, busy)).collect();
        let pauses = (0..random.between(0, 4))
            .map(|_| (random.between(0, busy), random.between(100 * MILLI, 12 * SECOND)))
            .collect();
        let leaves = random.percent(20).then(|| random.between(SECOND, busy));
        Self { types, events, cuts, pauses, leaves, room: random.pick(&[1, 2, 8]) }
    }
}

fn settings(promise: Promise, random: &mut Random) -> Settings {
    let of = |number| std::num::NonZeroU32::new(number).unwrap();
    Settings {
        retry: if promise == Promise::NothingIsDoubled { Retry::Safe } else { Retry::Idempotent },
        overflow: if promise == Promise::OldestGiveWay { Overflow::DropOldest } else { Overflow::Pause },
        queue: random.pick(&[1, 3 * PLACE, 256 * 1024]),
        send_queue: random.pick(&[1, 2 * PLACE, 4 * PLACE]),
        batch: random.pick(&[Batch::Off, Batch::Ndjson, Batch::JsonArray]),
        notify_close: random.percent(50),
        stall_timeout: Duration::from_secs(30),
        reconnect: Reconnect { max_delay: Duration::from_secs(5), ..Reconnect::default() },
        message_rate: random.pick(&[
            None,
            None,
            Some(Rate::per_second(of(1), of(2))),
            Some(Rate::per_second(of(7), of(1))),
        ]),
        byte_rate: random.pick(&[None, None, Some(Rate::per_second(of(2), of(1)))]),
        ..Settings::default()
    }
}
