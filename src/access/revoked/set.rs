//! What was taken back and not yet forgotten. The rules alone: the time comes as an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::identity::{Holder, Identity, Revocation, Subject, What};

/// How far ahead of ours the clock of another gateway may be; what it says beyond that is taken for this.
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);

/// Revocations, each kept for the same time, at most so many.
#[derive(Debug)]
pub struct Revocations {
    /// How long each is kept, in milliseconds.
    keep: AtomicU64,
    max: AtomicUsize,
    /// How many are kept, so that nobody takes the lock while there is nothing behind it.
    length: AtomicUsize,
    kept: RwLock<Kept>,
}

/// No room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many revocations are kept as may be")]
pub struct Full;

#[derive(Debug, Default)]
struct Kept {
    /// The newest of each.
    by_what: HashMap<What, (SystemTime, Uuid)>,
    /// The same, the oldest first.
    order: BTreeMap<(SystemTime, Uuid), What>,
}

/// By what a revocation may concern somebody.
struct Named<'a> {
    subject: &'a Subject,
    ticket: Option<&'a Arc<str>>,
    keys: &'a [Arc<str>],
}

impl Revocations {
    /// None yet; each will be kept for `keep`, and at most `max` of them.
    #[must_use]
    pub fn new(keep: Duration, max: usize) -> Self {
        let set = Self {
            keep: AtomicU64::new(0),
            max: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            kept: RwLock::default(),
        };
        set.limit(keep, max);
        set
    }

    /// From now on each is kept for `keep`, those included that are there, and no further one taken in while there are `max`.
    pub fn limit(&self, keep: Duration, max: usize) {
        self.keep.store(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.max.store(max, Ordering::Relaxed);
    }

    /// Takes one in. False if there is nothing new in it: the same was taken back at that time or later, or it is older than
    /// what is kept.
    ///
    /// # Errors
    ///
    /// [`Full`]; then it is not kept, and those that are stay.
    pub fn insert(&self, revocation: &Revocation, now: SystemTime) -> Result<bool, Full> {
        let at = revocation.at.min(now + CLOCKS_DIFFER);
        if self.is_over(at, now) {
            return Ok(false);
        }
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.forget(|at| self.is_over(at, now));
        let earlier = kept.by_what.get(&revocation.what).copied();
        let inserted = match earlier {
            Some((earlier, _)) if earlier >= at => Ok(false),
            None if kept.by_what.len() >= self.max() => Err(Full),
            _ => {
                if let Some(earlier) = earlier {
                    kept.order.remove(&earlier);
                }
                kept.by_what.insert(revocation.what.clone(), (at, revocation.id));
                kept.order.insert((at, revocation.id), revocation.what.clone());
                Ok(true)
            }
        };
        self.length.store(kept.by_what.len(), Ordering::Release);
        inserted
    }

    /// Whether an identity that is offered at `now` was taken back. One load while nothing is.
    #[must_use]
    pub fn refuses(&self, identity: &Identity, now: SystemTime) -> bool {
        if self.length.load(Ordering::Acquire) == 0 {
            return false;
        }
        let named = Named { subject: &identity.subject, ticket: identity.ticket.as_ref(), keys: &identity.keys };
        self.any(&named, now, |revocation| revocation.refuses(identity))
    }

    /// Whether a connection that has begun to live at `now` has to end.
    #[must_use]
    pub fn ends(&self, holder: &Holder, now: SystemTime) -> bool {
        let named = Named { subject: &holder.subject, ticket: holder.ticket.as_ref(), keys: &holder.keys };
        self.any(&named, now, |revocation| revocation.ends(Uuid::nil(), Some(holder)))
    }

    fn any(&self, named: &Named<'_>, now: SystemTime, concerns: impl Fn(&Revocation) -> bool) -> bool {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let who = [Some(What::Subject(named.subject.clone())), named.ticket.cloned().map(What::Ticket)];
        let keys = named.keys.iter().cloned().map(What::Key);
        who.into_iter().flatten().chain(keys).any(|what| {
            let found = kept.by_what.get(&what).copied().filter(|(at, _)| !self.is_over(*at, now));
            found.is_some_and(|(at, id)| concerns(&Revocation { what, at, id }))
        })
    }

    /// Those that are kept at `now`, the oldest first.
    #[must_use]
    pub fn list(&self, now: SystemTime) -> Vec<Revocation> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let living = kept.order.iter().filter(|((at, _), _)| !self.is_over(*at, now));
        living.map(|(&(at, id), what)| Revocation { what: what.clone(), at, id }).collect()
    }

    /// Forgets those whose time is over.
    pub fn forget(&self, now: SystemTime) {
        if !self.is_empty() {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            kept.forget(|at| self.is_over(at, now));
            self.length.store(kept.by_what.len(), Ordering::Release);
        }
    }

    /// How many are kept, those included that were not yet forgotten.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long each is kept.
    #[must_use]
    pub fn keep(&self) -> Duration {
        Duration::from_millis(self.keep.load(Ordering::Relaxed))
    }

    /// How many may be kept.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    fn is_over(&self, at: SystemTime, now: SystemTime) -> bool {
        at.checked_add(self.keep()).is_some_and(|end| end <= now)
    }
}

impl Kept {
    fn forget(&mut self, is_over: impl Fn(SystemTime) -> bool) {
        while let Some(oldest) = self.order.first_entry().filter(|oldest| is_over(oldest.key().0)) {
            self.by_what.remove(&oldest.remove());
        }
        if self.by_what.len() < self.by_what.capacity() / 4 {
            self.by_what.shrink_to(self.by_what.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;
    use crate::identity::{Claims, Subject, Way};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn of(subject: &str, seconds: u64) -> Revocation {
        let what = What::read("subject", subject).expect("sound");
        Revocation { what, at: at(seconds), id: Uuid::now_v7() }
    }

    fn identity(subject: &str, issued: u64) -> Identity {
        Identity {
            subject: Subject::new(subject).expect("a subject"),
            claims: Claims::new(),
            issued: Some(at(issued)),
            expires: None,
            way: Way::Ticket,
            ticket: None,
            keys: vec!["k1".into()],
        }
    }

    #[test]
    fn what_was_taken_back_is_refused_until_it_is_forgotten() {
        let set = Revocations::new(Duration::from_secs(100), 10);
        assert!(!set.refuses(&identity("ada", 5), at(5)));
        assert_eq!(set.insert(&of("ada", 10), at(10)), Ok(true));
        assert!(set.refuses(&identity("ada", 10), at(10)) && set.refuses(&identity("ada", 10), at(109)));
        assert!(!set.refuses(&identity("ada", 11), at(12)) && !set.refuses(&identity("eve", 5), at(12)));
        assert!(!set.refuses(&identity("ada", 10), at(110)));
        set.forget(at(110));
        assert!(set.is_empty() && set.list(at(110)).is_empty());
    }

    #[test]
    fn a_key_that_was_taken_back_vouches_for_nobody() {
        let set = Revocations::new(Duration::from_secs(100), 10);
        let what = What::read("key", "k1").expect("sound");
        assert_eq!(set.insert(&Revocation { what, at: at(10), id: Uuid::nil() }, at(10)), Ok(true));
        assert!(set.refuses(&identity("ada", 50), at(50)));
    }

    #[test]
    fn the_same_again_is_news_only_if_it_is_later() {
        let set = Revocations::new(Duration::from_secs(100), 1);
        assert_eq!(set.insert(&of("ada", 10), at(20)), Ok(true));
        assert_eq!(set.insert(&of("ada", 10), at(20)), Ok(false));
        assert_eq!(set.insert(&of("ada", 9), at(20)), Ok(false));
        assert_eq!(set.insert(&of("ada", 20), at(20)), Ok(true), "it takes the place of the earlier one");
        assert_eq!(set.list(at(20)).iter().map(|one| one.at).collect::<Vec<_>>(), [at(20)]);
        assert_eq!(set.insert(&of("eve", 1), at(101)), Ok(false), "its time is over already");
    }

    #[test]
    fn a_full_set_says_so_and_keeps_what_it_has() {
        let set = Revocations::new(Duration::from_secs(100), 1);
        assert_eq!(set.insert(&of("ada", 10), at(10)), Ok(true));
        assert_eq!(set.insert(&of("eve", 11), at(11)), Err(Full));
        assert!(set.refuses(&identity("ada", 1), at(11)));
        assert_eq!(set.insert(&of("eve", 110), at(110)), Ok(true), "the first is forgotten");
    }

    #[test]
    fn a_clock_that_is_far_ahead_does_not_keep_a_revocation_for_ever() {
        let set = Revocations::new(Duration::from_secs(100), 1);
        assert_eq!(set.insert(&of("ada", 1_000_000), at(10)), Ok(true));
        assert!(set.refuses(&identity("ada", 70), at(70)) && !set.refuses(&identity("ada", 71), at(71)));
        assert!(set.list(at(170)).is_empty());
    }

    proptest! {
        #[test]
        fn it_answers_as_a_plain_list_would(
            steps in prop::collection::vec((0_u8..6, 0_u64..30, 0_u64..10), 0..100),
        ) {
            let (set, mut list, mut now) = (Revocations::new(Duration::from_secs(50), 100), Vec::new(), 0);
            for (who, issued, passed) in steps {
                now += passed;
                let who = who.to_string();
                let issued = now.saturating_sub(issued);
                let refused = list.iter().any(|(subject, at)| *subject == who && issued <= *at && now < at + 50);
                prop_assert_eq!(set.refuses(&identity(&who, issued), at(now)), refused);
                if passed % 2 == 0 {
                    prop_assert!(set.insert(&of(&who, now), at(now)).is_ok());
                    list.push((who, now));
                }
            }
        }
    }
}
