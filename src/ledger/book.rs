//! What is known of one route: which clients came, how often, how many different ones, and when. Pure: time comes in as seconds
//! since 1970 (UTC), people as keyed hashes.

#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::client::Client;
use super::count::Distinct;

/// Days that are told apart; what is older counts in the sums alone.
pub const DAYS: usize = 90;

/// Names of clients that are told apart on one route. Each takes up to 11 KiB, so that a route takes less than 2 MiB.
pub const CLIENTS: usize = 64;

/// Names that handshakes may take up that were refused: nobody has proven who sent those.
const REFUSED_CLIENTS: usize = CLIENTS / 2;

/// How long a client must not have been seen before its name is given to another, in seconds: 30 days.
const STALE: u64 = 30 * DAY;

/// What clients are called for whom there is no name left.
pub const OTHER: &str = "other";

const DAY: u64 = 24 * 60 * 60;

/// What became of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was let in and bridged.
    Bridged,
    /// It was let in and passed through to the WebSocket backend.
    Legacy,
    /// It was refused by a brownout.
    Brownout,
    /// It was refused because WebSocket is off.
    Off,
}

impl Outcome {
    /// All of them, in the order of [`Tally::counts`].
    pub const ALL: [Self; 4] = [Self::Bridged, Self::Legacy, Self::Brownout, Self::Off];

    /// The word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bridged => "bridged",
            Self::Legacy => "legacy",
            Self::Brownout => "brownout",
            Self::Off => "off",
        }
    }

    /// Whether the client was let in.
    #[must_use]
    pub const fn is_let_in(self) -> bool {
        matches!(self, Self::Bridged | Self::Legacy)
    }

    const fn index(self) -> usize {
        match self {
            Self::Bridged => 0,
            Self::Legacy => 1,
            Self::Brownout => 2,
            Self::Off => 3,
        }
    }
}

/// Who came, as a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// An identity that was proven.
    Identity(u64),
    /// Nobody that is known, from this address.
    Address(u64),
}

/// Different identities and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// Identities that were proven.
    pub identities: Distinct,
    /// Addresses, as far as `ipv4_prefix` and `ipv6_prefix` tell them apart, of those who did not prove who they are.
    pub addresses: Distinct,
}

impl People {
    fn add(&mut self, who: Who) -> bool {
        match who {
            Who::Identity(hash) => self.identities.add(hash),
            Who::Address(hash) => self.addresses.add(hash),
        }
    }

    /// Adds all of the others.
    pub fn merge(&mut self, others: &Self) {
        self.identities.merge(&others.identities);
        self.addresses.merge(&others.addresses);
    }
}

/// Handshakes of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayCount {
    /// Let in.
    pub connections: u64,
    /// Refused by the phase.
    pub refused: u64,
}

/// What is known of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// When it was seen first.
    pub first: u64,
    /// When it was seen last.
    pub last: u64,
    /// Handshakes, in the order of [`Outcome::ALL`].
    pub counts: [u64; Outcome::ALL.len()],
    /// Who was let in with it.
    pub people: People,
    /// Of each of the last days, counted from 1970.
    pub days: BTreeMap<u32, DayCount>,
}

impl Tally {
    /// How many of its handshakes ended like that.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts.get(outcome.index()).copied().unwrap_or(0)
    }

    fn merge(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.counts.iter_mut().zip(other.counts).for_each(|(ours, theirs)| *ours = ours.saturating_add(theirs));
        self.people.merge(&other.people);
        for (day, count) in &other.days {
            let ours = self.days.entry(*day).or_default();
            ours.connections = ours.connections.saturating_add(count.connections);
            ours.refused = ours.refused.saturating_add(count.refused);
        }
        while self.days.len() > DAYS {
            self.days.pop_first();
        }
    }
}

/// One route.
#[derive(Clone, Debug, Default)]
pub struct Book {
    clients: BTreeMap<Client, Tally>,
    /// Who came on each of the last days, with whatever client.
    days: BTreeMap<u32, People>,
    /// Handshakes of all clients, in the order of [`Outcome::ALL`].
    sums: [u64; Outcome::ALL.len()],
    unsaved: Unsaved,
}

/// What is not in the store yet: names of what changed, or is not there any more.
#[derive(Clone, Debug, Default)]
pub struct Unsaved {
    clients: BTreeSet<Client>,
    days: BTreeSet<u32>,
}

/// What the store has to be told: `None` is to be deleted.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Clients with all that is known of them.
    pub clients: Vec<(Client, Option<Tally>)>,
    /// Days with those who came.
    pub days: Vec<(u32, Option<People>)>,
}

impl Changes {
    /// Whether there is nothing to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.days.is_empty()
    }
}

impl Book {
    /// A book of what the store has kept.
    #[must_use]
    pub fn of(clients: BTreeMap<Client, Tally>, days: BTreeMap<u32, People>) -> Self {
        let mut sums = [0_u64; Outcome::ALL.len()];
        for tally in clients.values() {
            sums.iter_mut().zip(tally.counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
        }
        Self { clients, days, sums, unsaved: Unsaved::default() }
    }

    /// The clients by their names.
    #[must_use]
    pub const fn clients(&self) -> &BTreeMap<Client, Tally> {
        &self.clients
    }

    /// Who came on each of the last days.
    #[must_use]
    pub const fn days(&self) -> &BTreeMap<u32, People> {
        &self.days
    }

    /// Handshakes of all clients that ended like that.
    #[must_use]
    pub fn sum(&self, outcome: Outcome) -> u64 {
        self.sums.get(outcome.index()).copied().unwrap_or(0)
    }

    /// When anybody was seen last.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.clients.values().map(|tally| tally.last).max()
    }

    /// Notes a handshake. `who` is known of those who were let in.
    pub fn note(&mut self, client: Client, outcome: Outcome, who: Option<Who>, now: u64) {
        let client = self.room_for(client, outcome, now);
        let day = day_of(now);
        let tally = match self.clients.entry(client.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Tally { first: now, last: now, ..Tally::default() }),
        };
        tally.last = tally.last.max(now);
        tally.counts.iter_mut().chain(&mut self.sums).skip(outcome.index()).step_by(Outcome::ALL.len()).for_each(
            |count| {
                *count = count.saturating_add(1);
            },
        );
        let count = tally.days.entry(day).or_default();
        let count = if outcome.is_let_in() { &mut count.connections } else { &mut count.refused };
        *count = count.saturating_add(1);
        // A clock that is set back and forth makes no more days than there are.
        while tally.days.len() > DAYS {
            tally.days.pop_first();
        }
        if let Some(who) = who.filter(|_| outcome.is_let_in()) {
            tally.people.add(who);
            if self.days.entry(day).or_default().add(who) {
                self.unsaved.days.insert(day);
            }
        }
        while self.days.len() > DAYS {
            if let Some((day, _)) = self.days.pop_first() {
                self.unsaved.days.insert(day);
            }
        }
        self.unsaved.clients.insert(client);
    }

    /// Forgets days that are too long ago.
    pub fn tidy(&mut self, now: u64) {
        let oldest = day_of(now).saturating_sub(u32::try_from(DAYS).unwrap_or(u32::MAX) - 1);
        let kept = self.days.split_off(&oldest);
        self.unsaved.days.extend(std::mem::replace(&mut self.days, kept).into_keys());
        for (client, tally) in &mut self.clients {
            let kept = tally.days.split_off(&oldest);
            if !std::mem::replace(&mut tally.days, kept).is_empty() {
                self.unsaved.clients.insert(client.clone());
            }
        }
    }

    /// What changed since this was asked last.
    pub fn changes(&mut self) -> Changes {
        let Unsaved { clients, days } = std::mem::take(&mut self.unsaved);
        Changes {
            clients: clients.into_iter().map(|client| (client.clone(), self.clients.get(&client).cloned())).collect(),
            days: days.into_iter().map(|day| (day, self.days.get(&day).cloned())).collect(),
        }
    }

    /// Has all of it told again.
    pub fn save_all(&mut self) {
        self.unsaved.clients.extend(self.clients.keys().cloned());
        self.unsaved.days.extend(self.days.keys());
    }

    /// Takes note that changes were not saved.
    pub fn not_saved(&mut self, changes: Changes) {
        self.unsaved.clients.extend(changes.clients.into_iter().map(|(client, _)| client));
        self.unsaved.days.extend(changes.days.into_iter().map(|(day, _)| day));
    }

    /// The name under which a client is counted: its own if it has one or there is room, otherwise [`OTHER`].
    fn room_for(&mut self, client: Client, outcome: Outcome, now: u64) -> Client {
        let Some(other) = Client::kept(OTHER) else { return client };
        if self.clients.contains_key(&client) {
            return client;
        }
        if !outcome.is_let_in() && self.clients.len() >= REFUSED_CLIENTS {
            return other;
        }
        // One is kept for the others.
        if self.clients.len() + 1 < CLIENTS {
            return client;
        }
        let stalest = self.clients.iter().filter(|(name, _)| **name != other).min_by_key(|(_, tally)| tally.last);
        let stale = stalest.filter(|(_, tally)| tally.last.saturating_add(STALE) < now).map(|(name, _)| name.clone());
        let Some(stale) = stale else { return other };
        if let Some(tally) = self.clients.remove(&stale) {
            match self.clients.entry(other.clone()) {
                Entry::Occupied(mut entry) => entry.get_mut().merge(&tally),
                Entry::Vacant(entry) => drop(entry.insert(tally)),
            }
            self.unsaved.clients.extend([stale, other]);
        }
        client
    }
}

/// The day of a time, counted from 1970.
#[must_use]
pub fn day_of(now: u64) -> u32 {
    u32::try_from(now / DAY).unwrap_or(u32::MAX)
}
