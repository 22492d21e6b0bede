//! The books: what was sent, recorded and received, and by whom. Knows no socket and no clock.

mod balance;
mod line;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use self::line::Line;
use crate::wire::{Micros, Visit};

/// How long an endpoint that stood still takes to read what has piled up.
const PILE: Micros = 500_000;

/// How a client's connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    /// `None` where there was no close frame.
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
    pub(crate) at: Micros,
}

impl Closing {
    /// The word that the reason begins with.
    pub(crate) fn cause(&self) -> &str {
        self.reason.split(':').next().unwrap_or_default()
    }

    /// How many messages it says were not delivered.
    fn undelivered(&self) -> u64 {
        let told = self.reason.rsplit("; ").next().filter(|told| told.ends_with("not delivered"));
        told.and_then(|told| told.split(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

/// One WebSocket.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// When its log began; 0 until upstream has seen it.
    born: Micros,
    period: Micros,
    pub(crate) down: Line,
    /// What was recorded.
    pub(crate) up: Line,
    pub(crate) sent: u64,
    /// When the last few were sent.
    sends: VecDeque<Micros>,
    /// Keys of POSTs that came in, whatever became of them, and of those that were recorded.
    tried: HashSet<String>,
    recorded: HashSet<String>,
    /// Number of the last POST that came in, and when its answer went out.
    posting: Option<(u64, Option<Micros>)>,
    /// POSTs whose number was not the client's own.
    misnumbered: u64,
    /// Messages to the client that were no events of the log, such as what tells of a gap.
    other: u64,
    pub(crate) closed: Option<Closing>,
    /// It closed by itself, at the end of the scenario.
    left: bool,
    /// The scenario looks at it by itself: it is in no sum.
    apart: bool,
}

impl Entry {
    /// Opened, and not ended by anybody.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.is_none() && !self.left
    }

    /// Whether it was still there at that time.
    fn was_open(&self, at: Micros) -> bool {
        !self.left && self.closed.as_ref().is_none_or(|closing| closing.at >= at)
    }

    fn due(&self, horizon: Micros) -> u64 {
        if self.born == 0 { 0 } else { horizon.saturating_sub(self.born).checked_div(self.period).unwrap_or(0) }
    }
}

/// What a POST turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    New,
    Twice,
}

/// Whose messages were in doubt when an endpoint died; see `scenarios/kill.rs` for what that means.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    pub(crate) certain: HashSet<Visit>,
    pub(crate) unclear: HashSet<Visit>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    visits: BTreeMap<Visit, Entry>,
    /// Connections that the endpoints have accepted.
    pub(crate) accepted: u64,
    /// Event streams by endpoint.
    streams: HashMap<(usize, Visit), u32>,
    /// Requests for event streams of connections that had one before: when they came.
    reopens: Vec<Micros>,
    /// ... and how many of them named no position.
    pub(crate) without_position: u64,
    /// ... and how many piled up at an endpoint that stood still.
    piled_up: usize,
    /// Endpoints that stood still, and when they went on.
    thawed: HashMap<usize, Micros>,
    /// ... and those without an answer so far.
    reopening: HashSet<(usize, Visit)>,
    most_reopening: usize,
    /// POSTs that came in whole.
    pub(crate) posts: u64,
    /// POSTs under a key that had come in before.
    pub(crate) posted_again: u64,
    /// ... and had been recorded.
    pub(crate) seen_twice: u64,
    /// Clients that were not let in, by status.
    not_let_in: BTreeMap<String, u64>,
}

/// What upstream says.
impl Ledger {
    /// A request for an event stream.
    pub(crate) fn opening(&mut self, endpoint: usize, visit: Visit, born: Micros, last: Option<u64>, at: Micros) {
        let entry = self.visits.entry(visit).or_default();
        if entry.born == 0 {
            entry.born = born;
            return;
        }
        self.without_position += u64::from(last.is_none());
        // It was asked at any time since it stopped, and all at once is only when it reads.
        if self.thawed.get(&endpoint).is_some_and(|thawed| at < thawed + PILE) {
            self.piled_up += 1;
            return;
        }
        self.reopens.push(at);
        self.reopening.insert((endpoint, visit));
        self.most_reopening = self.most_reopening.max(self.reopening.len());
    }

    /// It is answered, or nobody waits for that any more.
    pub(crate) fn answered_opening(&mut self, endpoint: usize, visit: Visit) {
        self.reopening.remove(&(endpoint, visit));
    }

    pub(crate) fn opened(&mut self, endpoint: usize, visit: Visit) {
        self.answered_opening(endpoint, visit);
        *self.streams.entry((endpoint, visit)).or_default() += 1;
    }

    pub(crate) fn left(&mut self, endpoint: usize, visit: Visit) {
        if let Some(streams) = self.streams.get_mut(&(endpoint, visit)) {
            *streams -= 1;
            if *streams == 0 {
                self.streams.remove(&(endpoint, visit));
            }
        }
    }

    /// It stands still: whom it has not answered by now, it will not answer in time.
    pub(crate) fn frozen(&mut self, endpoint: usize) {
        self.reopening.retain(|(nth, _)| *nth != endpoint);
    }

    pub(crate) fn thawed(&mut self, endpoint: usize, at: Micros) {
        self.thawed.insert(endpoint, at);
    }

    pub(crate) fn endpoint_is_gone(&mut self, endpoint: usize) {
        self.streams.retain(|(nth, _), _| *nth != endpoint);
        self.reopening.retain(|(nth, _)| *nth != endpoint);
    }

    /// A whole POST came in.
    pub(crate) fn posted(&mut self, visit: Visit, key: &str, sequence: u64, number: u64) {
        self.posts += 1;
        let entry = self.visits.entry(visit).or_default();
        entry.posting = Some((sequence, None));
        entry.misnumbered += u64::from(sequence != number);
        if !entry.tried.insert(key.to_owned()) {
            self.posted_again += 1;
        }
    }

    /// ... and is recorded, if its key is new.
    pub(crate) fn record(&mut self, visit: Visit, key: &str, number: u64) -> Recorded {
        let entry = self.visits.entry(visit).or_default();
        if !entry.recorded.insert(key.to_owned()) {
            self.seen_twice += 1;
            return Recorded::Twice;
        }
        entry.up.take(number);
        Recorded::New
    }

    pub(crate) fn answering(&mut self, visit: Visit, sequence: u64, at: Micros) {
        let posting = &mut self.visits.entry(visit).or_default().posting;
        if let Some((newest, answered)) = posting
            && *newest == sequence
        {
            *answered = Some(at);
        }
    }
}

/// What clients say.
impl Ledger {
    pub(crate) fn not_let_in(&mut self, why: String) {
        *self.not_let_in.entry(why).or_default() += 1;
    }

    pub(crate) fn enters(&mut self, visit: Visit, period: Micros) {
        self.visits.entry(visit).or_default().period = period;
    }

    /// Takes one out of the sums.
    pub(crate) fn apart(&mut self, visit: Visit) {
        self.visits.entry(visit).or_default().apart = true;
    }

    pub(crate) fn sends(&mut self, visit: Visit, at: Micros) -> u64 {
        let entry = self.visits.entry(visit).or_default();
        entry.sent += 1;
        entry.sends.push_back(at);
        if entry.sends.len() > 8 {
            entry.sends.pop_front();
        }
        entry.sent
    }

    pub(crate) fn receives(&mut self, visit: Visit, number: Option<u64>) {
        let entry = self.visits.entry(visit).or_default();
        match number {
            Some(number) => entry.down.take(number),
            None => entry.other += 1,
        }
    }

    pub(crate) fn closed(&mut self, visit: Visit, closing: Closing) {
        let entry = self.visits.entry(visit).or_default();
        if !entry.left {
            entry.closed.get_or_insert(closing);
        }
    }

    pub(crate) fn leaves(&mut self, visit: Visit) {
        self.visits.entry(visit).or_default().left = true;
    }
}

/// What can be asked.
impl Ledger {
    pub(crate) fn visits(&self) -> impl Iterator<Item = (Visit, &Entry)> {
        self.visits.iter().map(|(visit, entry)| (*visit, entry))
    }

    pub(crate) fn entry(&self, visit: Visit) -> Option<&Entry> {
        self.visits.get(&visit)
    }

    /// Clients that are there.
    pub(crate) fn open(&self) -> usize {
        self.visits.values().filter(|entry| entry.is_open()).count()
    }

    pub(crate) fn ended(&self) -> usize {
        self.visits.values().filter(|entry| entry.closed.is_some() && !entry.apart).count()
    }

    /// Clients that are there and have an event stream at one of these endpoints.
    pub(crate) fn served_by(&self, endpoints: &[usize]) -> usize {
        let served = |visit: Visit| endpoints.iter().any(|nth| self.streams.contains_key(&(*nth, visit)));
        self.visits.iter().filter(|(visit, entry)| entry.is_open() && served(**visit)).count()
    }

    /// Event streams that an endpoint holds.
    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Those whose connection was closed from that time on, and why.
    pub(crate) fn closed_since(&self, at: Micros) -> HashMap<Visit, &Closing> {
        let closed = self.visits.iter().filter_map(|(visit, entry)| Some((*visit, entry.closed.as_ref()?)));
        closed.filter(|(_, closing)| closing.at >= at).collect()
    }

    /// Those whom an endpoint serves.
    pub(crate) fn on(&self, endpoint: usize) -> Vec<Visit> {
        let mut visits: Vec<_> =
            self.streams.keys().filter(|(nth, _)| *nth == endpoint).map(|(_, visit)| *visit).collect();
        visits.sort_unstable();
        visits
    }

    /// Events and messages that should have arrived by now and have not, of clients that are there.
    pub(crate) fn outstanding(&self, horizon: Micros) -> (u64, u64) {
        let open = self.visits.values().filter(|entry| entry.is_open() && !entry.apart);
        open.fold((0, 0), |(events, messages), entry| {
            (events + entry.down.lost(entry.due(horizon)), messages + entry.up.lost(entry.sent))
        })
    }

    /// Whose messages are in doubt for an endpoint that dies at `death`: asked again `edge` later, it sees also those
    /// that were just being sent.
    pub(crate) fn doubt(&self, death: Micros, edge: Micros) -> Doubt {
        let mut doubt = Doubt::default();
        for (visit, entry) in self.visits.iter().filter(|(_, entry)| entry.was_open(death)) {
            let unanswered = entry.posting.is_some_and(|(_, answered)| answered.is_none());
            let just_answered =
                entry.posting.is_some_and(|(_, answered)| answered.is_some_and(|at| at + edge >= death));
            let posted = entry.posting.map_or(0, |(sequence, _)| sequence);
            let sent_by_then = entry.sent - entry.sends.iter().filter(|at| **at > death + edge).count() as u64;
            if unanswered {
                doubt.certain.insert(*visit);
            } else if just_answered || sent_by_then > posted {
                doubt.unclear.insert(*visit);
            }
        }
        doubt
    }
}
