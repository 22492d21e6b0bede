//! What an application has said of late, so that the same question need not be asked again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use crate::identity::Identity;

/// A question by its SHA-256: what was asked with is not kept.
pub(super) type Question = [u8; 32];

/// Good answers for a while. At the limit the oldest makes room.
#[derive(Debug)]
pub(super) struct Answers {
    keep: Duration,
    most: usize,
    known: HashMap<Question, Known>,
    /// In the order of their coming, which is that of their going; also those that a later answer has replaced.
    order: VecDeque<(Question, u64)>,
    /// Numbers the answers.
    next: u64,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    number: u64,
    until: Instant,
}

impl Answers {
    /// Keeps up to `most` answers, each for `keep`.
    pub(super) fn new(keep: Duration, most: usize) -> Self {
        Self { keep, most: most.max(1), known: HashMap::new(), order: VecDeque::new(), next: 0 }
    }

    /// The answer to a question, if one is known that still holds at both times, which are the same.
    pub(super) fn get(&self, question: &Question, now: Instant, date: SystemTime) -> Option<Identity> {
        let known = self.known.get(question).filter(|known| now < known.until)?;
        let holds = known.identity.expires.is_none_or(|end| date < end);
        holds.then(|| known.identity.clone())
    }

    /// Remembers an answer.
    pub(super) fn put(&mut self, question: Question, identity: Identity, now: Instant) {
        while let Some(&(oldest, number)) = self.order.front() {
            let known = self.known.get(&oldest).filter(|known| known.number == number);
            if known.is_some_and(|known| now < known.until) && self.order.len() < self.most {
                break;
            }
            if known.is_some() {
                self.known.remove(&oldest);
            }
            self.order.pop_front();
        }
        let (number, until) = (self.next, now + self.keep);
        self.next = self.next.wrapping_add(1);
        self.known.insert(question, Known { identity, number, until });
        self.order.push_back((question, number));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::{Claims, Subject, Way};

    const KEEP: Duration = Duration::from_secs(10);

    fn identity(name: &str, expires: Option<u64>) -> Identity {
        Identity {
            subject: Subject::new(name).unwrap(),
            claims: Claims::new(),
            issued: None,
            expires: expires.map(|at| UNIX_EPOCH + Duration::from_secs(at)),
            way: Way::Cookie,
            ticket: None,
            keys: Vec::new(),
        }
    }

    fn name(answers: &Answers, question: u8, start: Instant, after: u64) -> Option<String> {
        let after = Duration::from_secs(after);
        answers.get(&[question; 32], start + after, UNIX_EPOCH + after).map(|identity| identity.subject.to_string())
    }

    #[test]
    fn an_answer_is_known_for_its_time_and_not_beyond_the_end_of_the_identity() {
        let (mut answers, start) = (Answers::new(KEEP, 8), Instant::now());
        answers.put([1; 32], identity("ada", None), start);
        answers.put([2; 32], identity("bob", Some(3)), start);
        assert_eq!(name(&answers, 1, start, 9).as_deref(), Some("ada"));
        assert_eq!(name(&answers, 1, start, 10), None);
        assert_eq!(name(&answers, 2, start, 2).as_deref(), Some("bob"));
        assert_eq!(name(&answers, 2, start, 3), None);
        assert_eq!(name(&answers, 3, start, 0), None, "another question");
    }

    #[test]
    fn at_the_limit_the_oldest_makes_room() {
        let (mut answers, start) = (Answers::new(KEEP, 2), Instant::now());
        for (question, who) in [(1, "ada"), (2, "bob"), (3, "cyd")] {
            answers.put([question; 32], identity(who, None), start);
        }
        assert_eq!(name(&answers, 1, start, 0), None);
        assert_eq!(name(&answers, 2, start, 0).as_deref(), Some("bob"));
        assert_eq!(name(&answers, 3, start, 0).as_deref(), Some("cyd"));
    }

    #[test]
    fn a_newer_answer_replaces_an_older_one_and_goes_at_its_own_time() {
        let (mut answers, start) = (Answers::new(KEEP, 8), Instant::now());
        answers.put([1; 32], identity("ada", None), start);
        answers.put([1; 32], identity("eve", None), start + KEEP / 2);
        answers.put([2; 32], identity("bob", None), start + KEEP);
        assert_eq!(name(&answers, 1, start, 12).as_deref(), Some("eve"));
        assert_eq!(name(&answers, 1, start, 15), None);
    }

    proptest! {
        #[test]
        fn whatever_is_put_there_is_a_limit(puts in proptest::collection::vec((0_u8..6, 0_u64..4), 0..60), most in 1_usize..5) {
            let (mut answers, mut now) = (Answers::new(KEEP, most), Instant::now());
            for (question, later) in puts {
                now += Duration::from_secs(later);
                answers.put([question; 32], identity("ada", None), now);
                prop_assert!(answers.get(&[question; 32], now, UNIX_EPOCH).is_some());
                prop_assert!(answers.order.len() <= most && answers.known.len() <= answers.order.len());
            }
        }
    }
}
