//! What is struck at the end.

use std::collections::BTreeMap;

use super::Ledger;
use super::line::Line;
use crate::wire::Micros;

impl Ledger {
    /// Most requests for event streams of known connections within any second, and most without an answer at once.
    pub(crate) fn reopens(&self) -> Reopens {
        let mut times = self.reopens.clone();
        times.sort_unstable();
        let (mut first, mut most) = (0, 0);
        for (nth, at) in times.iter().enumerate() {
            while times[first] + 1_000_000 <= *at {
                first += 1;
            }
            most = most.max(nth + 1 - first);
        }
        let (piled_up, total) = (self.piled_up, times.len() + self.piled_up);
        Reopens { total, piled_up, most_in_a_second: most, most_at_once: self.most_reopening }
    }

    /// The balance at the end: what came until `horizon` and should have.
    pub(crate) fn balance(&self, horizon: Micros) -> Balance {
        let mut balance = Balance::default();
        for entry in self.visits.values().filter(|entry| !entry.apart) {
            let is_open = entry.closed.is_none();
            balance.connections += 1;
            balance.down.add(&entry.down, if is_open { entry.due(horizon) } else { 0 });
            balance.up.add(&entry.up, if is_open { entry.sent } else { 0 });
            balance.misnumbered += entry.misnumbered;
            balance.other += entry.other;
            if let Some(closing) = &entry.closed {
                let code = closing.code.map_or("none".to_owned(), |code| code.to_string());
                *balance.closed.entry(format!("{code} {}", closing.cause())).or_default() += 1;
                let missing = entry.sent - entry.up.came();
                balance.closed_missing += missing;
                balance.closed_named += closing.undelivered().min(missing);
            }
        }
        balance.not_let_in.clone_from(&self.not_let_in);
        balance
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Reopens {
    pub(crate) total: usize,
    /// Those of which nobody can say when the gateway made them; they are in neither figure below.
    pub(crate) piled_up: usize,
    pub(crate) most_in_a_second: usize,
    pub(crate) most_at_once: usize,
}

/// One direction, over all connections.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) came: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
}

impl Sums {
    fn add(&mut self, line: &Line, of: u64) {
        self.came += line.came();
        self.lost += line.lost(of);
        self.doubled += line.doubled;
        self.reordered += line.reordered;
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    pub(crate) connections: usize,
    pub(crate) down: Sums,
    pub(crate) up: Sums,
    pub(crate) misnumbered: u64,
    pub(crate) other: u64,
    /// Connections that did not last, by code and cause.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Messages that these sent and that were not recorded, and how many of them the close reasons name.
    pub(crate) closed_missing: u64,
    pub(crate) closed_named: u64,
    pub(crate) not_let_in: BTreeMap<String, u64>,
}
