//! The ledger as it is shown: on the admin listener as JSON, and by `tidegate ledger`, which reads that again. Pure.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::book::{Book, DAYS, Outcome, People, day_of};
use super::client::Client;
use super::phase::{Phase, Sunset, unix};

/// Days over which it is said who came lately.
const LATELY: u32 = 7;

/// All routes. Times are RFC 3339 in UTC, days `2026-12-31`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When this was so.
    pub now: String,
    /// When the ledger was begun.
    pub since: String,
    /// Whether it outlives the process.
    pub kept: bool,
    /// The routes by their names.
    pub routes: Vec<RouteReport>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReport {
    /// Its name.
    pub route: String,
    /// Whether the configuration has it, with WebSocket on it.
    pub configured: bool,
    /// How far its end has come; `None` where the configuration does not have it.
    pub phase: Option<String>,
    /// When WebSocket ends there, as clients are told.
    pub sunset: Option<String>,
    /// Since when it is deprecated, as clients are told.
    pub deprecated: Option<String>,
    /// Where people read what to do.
    pub link: Option<String>,
    /// Who is refused, in phase `brownout`, and when.
    pub brownout: Option<BrownoutReport>,
    /// All clients together, since the ledger was begun.
    pub total: Counts,
    /// Who came in the last seven days: whom it would hit to switch WebSocket off now.
    pub last_7_days: Lately,
    /// The clients, those that came most often lately first.
    pub clients: Vec<ClientReport>,
    /// The last days, the oldest first, without those on which nobody came.
    pub days: Vec<DayReport>,
}

/// Brownouts of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrownoutReport {
    /// How many of a hundred are refused.
    pub percent: u8,
    /// When the window begins that is on or comes next.
    pub start: Option<String>,
    /// When it is over.
    pub end: Option<String>,
}

/// Handshakes and those who made them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Let in.
    pub connections: u64,
    /// Let in and bridged.
    pub bridged: u64,
    /// Let in and passed through.
    pub legacy: u64,
    /// Refused by a brownout.
    pub brownout: u64,
    /// Refused because WebSocket is off.
    pub off: u64,
    /// Different identities that were let in.
    pub identities: u64,
    /// Different addresses of those who were let in without one.
    pub addresses: u64,
    /// Whether both are exact; otherwise they are off by 1.6 % or so.
    pub exact: bool,
}

/// Who came lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lately {
    /// Connections that were let in.
    pub connections: u64,
    /// Handshakes that were refused by the phase.
    pub refused: u64,
    /// Different identities.
    pub identities: u64,
    /// Different addresses of those without one.
    pub addresses: u64,
    /// Clients by their names.
    pub clients: u64,
}

/// One client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReport {
    /// Its name and version.
    pub client: String,
    /// When it was seen first.
    pub first_seen: String,
    /// When it was seen last.
    pub last_seen: String,
    /// What it did.
    #[serde(flatten)]
    pub counts: Counts,
    /// Connections in the last seven days.
    pub last_7_days: u64,
}

/// One day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayReport {
    /// Which one.
    pub day: String,
    /// Connections that were let in.
    pub connections: u64,
    /// Handshakes that were refused by the phase.
    pub refused: u64,
    /// Different identities.
    pub identities: u64,
    /// Different addresses of those without one.
    pub addresses: u64,
}

/// What a report is about besides the books.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The time.
    pub now: SystemTime,
    /// When the ledger was begun, in seconds since 1970.
    pub since: u64,
    /// Whether it outlives the process.
    pub kept: bool,
}

/// What the configuration says of routes with WebSocket, by their names.
pub type Plans = BTreeMap<Arc<str>, Option<Arc<Sunset>>>;

impl Report {
    /// A report without routes yet.
    #[must_use]
    pub fn new(frame: &Frame) -> Self {
        Self { now: instant(unix(frame.now)), since: instant(frame.since), kept: frame.kept, routes: Vec::new() }
    }

    /// Adds a route; `plan` is `None` for one that the configuration does not have.
    pub fn add(&mut self, route: &str, book: &Book, plan: Option<&Option<Arc<Sunset>>>, now: SystemTime) {
        let observed = Sunset::default();
        let sunset = plan.and_then(|plan| plan.as_deref()).unwrap_or(&observed);
        let brownout = sunset.brownout.as_ref().filter(|_| sunset.phase == Phase::Brownout).map(|brownout| {
            let next = brownout.next(now);
            let shown = |time: Option<SystemTime>| time.map(|time| instant(unix(time)));
            BrownoutReport {
                percent: brownout.percent,
                start: shown(next.map(|span| span.start)),
                end: shown(next.map(|span| span.end)),
            }
        });
        let today = day_of(unix(now));
        let mut everybody = People::default();
        book.clients().values().for_each(|tally| everybody.merge(&tally.people));
        let mut clients: Vec<_> = book.clients().iter().map(|(name, tally)| client(name, tally, today)).collect();
        clients.sort_by(|one, other| {
            let rank = |client: &ClientReport| (client.last_7_days, client.counts.connections);
            rank(other).cmp(&rank(one)).then_with(|| one.client.cmp(&other.client))
        });
        self.routes.push(RouteReport {
            route: route.to_owned(),
            configured: plan.is_some(),
            phase: plan.map(|_| sunset.phase.label().to_owned()),
            sunset: sunset.sunset.map(|at| instant(unix(at))),
            deprecated: sunset.deprecated.map(|at| instant(unix(at))),
            link: sunset.link.as_deref().map(str::to_owned),
            brownout,
            total: counts(Outcome::ALL.map(|outcome| book.sum(outcome)), &everybody),
            last_7_days: lately(book, today),
            clients,
            days: days(book, today),
        });
    }
}

fn counts([bridged, legacy, brownout, off]: [u64; Outcome::ALL.len()], people: &People) -> Counts {
    let People { identities, addresses } = people;
    Counts {
        connections: bridged.saturating_add(legacy),
        bridged,
        legacy,
        brownout,
        off,
        identities: identities.count(),
        addresses: addresses.count(),
        exact: identities.is_exact() && addresses.is_exact(),
    }
}

fn client(name: &Client, tally: &super::book::Tally, today: u32) -> ClientReport {
    let lately = tally.days.range(today.saturating_sub(LATELY - 1)..);
    ClientReport {
        client: name.to_string(),
        first_seen: instant(tally.first),
        last_seen: instant(tally.last),
        counts: counts(tally.counts, &tally.people),
        last_7_days: lately.map(|(_, count)| count.connections).fold(0, u64::saturating_add),
    }
}

fn lately(book: &Book, today: u32) -> Lately {
    let first = today.saturating_sub(LATELY - 1);
    let mut sums = Lately::default();
    for tally in book.clients().values() {
        let before = sums.connections;
        for (_, count) in tally.days.range(first..) {
            sums.connections = sums.connections.saturating_add(count.connections);
            sums.refused = sums.refused.saturating_add(count.refused);
        }
        sums.clients += u64::from(sums.connections > before);
    }
    let mut people = People::default();
    book.days().range(first..).for_each(|(_, others)| people.merge(others));
    Lately { identities: people.identities.count(), addresses: people.addresses.count(), ..sums }
}

fn days(book: &Book, today: u32) -> Vec<DayReport> {
    let first = today.saturating_sub(u32::try_from(DAYS).unwrap_or(u32::MAX) - 1);
    let mut sums: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (day, count) in book.clients().values().flat_map(|tally| tally.days.range(first..)) {
        let sum = sums.entry(*day).or_default();
        *sum = (sum.0.saturating_add(count.connections), sum.1.saturating_add(count.refused));
    }
    let none = People::default();
    let shown = |(day, (connections, refused))| {
        let people = book.days().get(&day).unwrap_or(&none);
        let (identities, addresses) = (people.identities.count(), people.addresses.count());
        let date = instant(u64::from(day) * 86_400).chars().take("2026-12-31".len()).collect();
        DayReport { day: date, connections, refused, identities, addresses }
    };
    sums.into_iter().map(shown).collect()
}

/// A time as RFC 3339 in UTC; what such a text cannot say is empty.
fn instant(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.min(u64::from(u32::MAX) * 50)));
    time.and_then(|time| OffsetDateTime::from(time).format(&Rfc3339).ok()).unwrap_or_default()
}
