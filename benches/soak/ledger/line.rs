//! The line of the ledger for one connection and direction.

use std::collections::BTreeMap;

/// Numbers that should come once each, in order, from 1.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The highest that has come.
    highest: u64,
    /// What was left out below it, as first and last of each hole.
    holes: BTreeMap<u64, u64>,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
}

impl Line {
    pub(crate) fn take(&mut self, number: u64) {
        if number > self.highest {
            if number > self.highest + 1 {
                self.holes.insert(self.highest + 1, number - 1);
            }
            self.highest = number;
            return;
        }
        let hole = self.holes.range(..=number).next_back().map(|(first, last)| (*first, *last));
        let Some((first, last)) = hole.filter(|(_, last)| number <= *last) else {
            self.doubled += 1;
            return;
        };
        self.reordered += 1;
        self.holes.remove(&first);
        if first < number {
            self.holes.insert(first, number - 1);
        }
        if number < last {
            self.holes.insert(number + 1, last);
        }
    }

    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// How many are missing below the highest.
    pub(crate) fn holes(&self) -> u64 {
        self.holes.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many are missing of the first `of`, to whom nothing more comes.
    pub(crate) fn lost(&self, of: u64) -> u64 {
        self.holes() + of.saturating_sub(self.highest)
    }

    /// How many different ones have come.
    pub(crate) fn came(&self) -> u64 {
        self.highest - self.holes()
    }
}
