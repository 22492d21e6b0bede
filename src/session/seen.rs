//! Which events came already: a backend that resumes may send some of them again.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};

/// The newest event ids of a connection, as hashes.
///
/// Only what comes first on a stream that was opened again is compared. As soon as one event is new, so is what
/// follows: a backend may well use an id twice on purpose.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: VecDeque<u64>,
    comparing: bool,
}

impl Seen {
    /// The stream was opened again.
    pub(super) fn reopened(&mut self) {
        self.comparing = !self.ids.is_empty();
    }

    /// Takes an event's own id in, and says whether the event came before. `limit` ids are remembered.
    pub(super) fn is_repeated(&mut self, id: &str, limit: usize) -> bool {
        if id.is_empty() || limit == 0 {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(id.as_bytes());
        let hash = hasher.finish();
        if self.comparing {
            if self.ids.contains(&hash) {
                return true;
            }
            self.comparing = false;
        }
        if self.ids.len() >= limit {
            self.ids.pop_front();
        }
        self.ids.push_back(hash);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_a_break(before: &[&str], limit: usize) -> Seen {
        let mut seen = Seen::default();
        for id in before {
            assert!(!seen.is_repeated(id, limit));
        }
        seen.reopened();
        seen
    }

    #[test]
    fn what_comes_again_behind_a_break_is_known_until_something_new_comes() {
        let mut seen = after_a_break(&["1", "2", "3"], 8);
        let repeated: Vec<_> = ["2", "3", "4", "4", "2"].map(|id| seen.is_repeated(id, 8)).into();
        assert_eq!(repeated, [true, true, false, false, false]);
    }

    #[test]
    fn without_a_break_an_id_may_come_twice() {
        let mut seen = Seen::default();
        assert!(!seen.is_repeated("1", 8) && !seen.is_repeated("1", 8));
    }

    #[test]
    fn only_the_newest_are_remembered() {
        let mut seen = after_a_break(&["1", "2", "3"], 2);
        assert!(!seen.is_repeated("1", 2));
        assert_eq!(seen.ids.len(), 2);
        let mut none = after_a_break(&["1"], 0);
        assert!(!none.is_repeated("1", 0));
    }
}
