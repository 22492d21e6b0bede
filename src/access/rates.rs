//! How often the same client may ask for something: a token bucket for each.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::lock;
use crate::protocol::problem::Problem;
use crate::session::rate::{Bucket, Rate};

/// So many locks share the clients that two threads rarely want the same one.
const SHARDS: usize = 16;

/// How many clients a shard holds before it is first looked through for those that can be forgotten.
const FEW: usize = 64;

/// Clients that are counted at once; each costs about 30 bytes.
pub const MOST_COUNTED: usize = 1_000_000;

/// So much for each client: a full bucket holds what comes back in a minute. A client whose bucket is full again is
/// forgotten.
///
/// 32 bytes for each client that is remembered. Clients are told apart by 64 bits of a hash whose secret is drawn at the start,
/// so that nobody can choose a name which shares another's bucket.
#[derive(Debug)]
pub struct Rates {
    rate: Rate,
    /// What the times of the buckets are counted from.
    began: Instant,
    secret: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// How many clients one shard remembers at most.
    most: usize,
}

#[derive(Debug)]
struct Shard {
    buckets: HashMap<u64, Bucket>,
    /// At how many clients it is looked through.
    look_at: usize,
    /// When the first of its buckets is full again, if it was found to hold no more clients.
    room_at: Duration,
}

impl Rates {
    /// The same clients with what they have taken, if `before` gives as much; otherwise all begin anew, with
    /// [`MOST_COUNTED`] of them at most.
    #[must_use]
    pub fn succeeding(before: Option<&Arc<Self>>, per_minute: NonZeroU32, now: Instant) -> Arc<Self> {
        let same = before.filter(|before| before.rate == Rate::per_minute(per_minute, per_minute));
        same.cloned().unwrap_or_else(|| Arc::new(Self::new(per_minute, MOST_COUNTED, now)))
    }

    /// `per_minute` for each client; about `max_keys` clients are remembered at once, not fewer than 16.
    #[must_use]
    pub fn new(per_minute: NonZeroU32, max_keys: usize, now: Instant) -> Self {
        let shard = || Mutex::new(Shard { buckets: HashMap::new(), look_at: FEW, room_at: Duration::ZERO });
        Self {
            rate: Rate::per_minute(per_minute, per_minute),
            began: now,
            secret: RandomState::new(),
            shards: std::array::from_fn(|_| shard()),
            most: (max_keys / SHARDS).max(1),
        }
    }

    /// Takes one of what this client may have.
    ///
    /// While there are as many clients as can be remembered, each of which has taken something lately, one that is not
    /// among them gets nothing: those who come in such numbers to have the others forgotten must not win by it, and
    /// clients that are known go on.
    ///
    /// # Errors
    ///
    /// How long it takes until there is one.
    pub fn take(&self, client: &(impl Hash + ?Sized), now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.began);
        let key = self.secret.hash_one(client);
        let shard = usize::try_from(key % SHARDS as u64).ok().and_then(|shard| self.shards.get(shard));
        // There always is one.
        let Some(shard) = shard else { return Ok(()) };
        let mut shard = lock(shard);
        if let Some(bucket) = shard.buckets.get_mut(&key) {
            return bucket.take(1, &self.rate, now);
        }
        shard.make_room(self.most, &self.rate, now)?;
        let mut bucket = Bucket::default();
        let taken = bucket.take(1, &self.rate, now);
        shard.buckets.insert(key, bucket);
        taken
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().buckets.len()).sum()
    }
}

impl Shard {
    /// Room for one client more, or how long it takes until there is.
    ///
    /// All clients are looked at only when they have doubled since the last time; or, where there can be no more of them,
    /// when it is known that one can be forgotten.
    fn make_room(&mut self, most: usize, rate: &Rate, now: Duration) -> Result<(), Duration> {
        if self.buckets.len() < self.look_at.min(most) {
            return Ok(());
        }
        if self.room_at > now {
            return Err(self.room_at.saturating_sub(now));
        }
        self.buckets.retain(|_, bucket| bucket.full_at(rate) > now);
        self.look_at = (self.buckets.len() * 2).max(FEW);
        self.buckets.shrink_to(self.look_at);
        if self.buckets.len() < most {
            return Ok(());
        }
        self.room_at = self.buckets.values().map(|bucket| bucket.full_at(rate)).min().unwrap_or_default();
        Err(self.room_at.saturating_sub(now))
    }
}

/// The answer to a client that asks for tickets too often, and has to wait so long.
#[must_use]
pub fn too_many_tickets(wait: Duration) -> Problem {
    too_many(wait, "too-many-tickets", "tickets were asked for too often")
}

/// What somebody is told who made us ask the application too often; it may come back after `wait`.
#[must_use]
pub fn too_many_questions(wait: Duration) -> Problem {
    too_many(wait, "too-many-questions", "the application was asked about too many clients of this address")
}

fn too_many(wait: Duration, kind: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, kind, detail).with_retry_after(wait)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(per_minute: u32, max_keys: usize, now: Instant) -> Rates {
        Rates::new(NonZeroU32::new(per_minute).unwrap(), max_keys, now)
    }

    #[test]
    fn a_minutes_worth_is_there_at_once_and_comes_back_evenly() {
        let now = Instant::now();
        let rates = rates(6, 1000, now);
        for _ in 0..6 {
            assert_eq!(rates.take("ada", now), Ok(()));
        }
        assert_eq!(rates.take("ada", now), Err(10 * SECOND));
        assert_eq!(rates.take("bob", now), Ok(()), "others are left alone");
        assert_eq!(rates.take("ada", now + 10 * SECOND), Ok(()));
        assert_eq!(rates.take("ada", now + 10 * SECOND), Err(10 * SECOND));
    }

    #[test]
    fn whoever_has_all_again_is_forgotten_when_others_come() {
        let now = Instant::now();
        let rates = rates(60, 1_000_000, now);
        for client in 0..200_000_u32 {
            // A thousand a second, each with one to get back within a second.
            assert_eq!(rates.take(&client, now + SECOND * client / 1000), Ok(()));
        }
        assert!(rates.len() <= 4 * 1000, "{} are remembered", rates.len());
    }

    #[test]
    fn a_flood_of_names_neither_grows_without_end_nor_frees_those_who_are_known() {
        let now = Instant::now();
        let rates = rates(1, 1600, now);
        assert_eq!(rates.take("ada", now), Ok(()));
        let let_in = (0..100_000_u32).filter(|client| rates.take(client, now).is_ok()).count();
        assert!(let_in < 1600 && rates.len() <= 1600, "{let_in} were let in, {} are remembered", rates.len());
        assert_eq!(rates.take("ada", now + 59 * SECOND), Err(SECOND));
        assert_eq!(rates.take("ada", now + 60 * SECOND), Ok(()));
        let strangers: Vec<_> = (0..100).map(|stranger| rates.take(&("new", stranger), now + 59 * SECOND)).collect();
        assert!(strangers.iter().all(|taken| *taken == Err(SECOND)), "told when there is room: {strangers:?}");
        assert_eq!(rates.take(&("new", 0), now + 60 * SECOND), Ok(()), "and then there is");
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        for (wait, seconds) in [(Duration::ZERO, "1"), (SECOND / 2, "1"), (2 * SECOND, "2"), (SECOND * 5 / 2, "3")] {
            let problem = too_many_tickets(wait);
            assert_eq!((problem.status.as_u16(), problem.kind), (429, "too-many-tickets"));
            assert_eq!(problem.headers[http::header::RETRY_AFTER], seconds);
        }
    }

    proptest! {
        /// Forgetting makes no difference that anybody could see.
        #[test]
        fn every_client_has_what_its_own_bucket_would_give(
            per_minute in 1_u32..120,
            takes in prop::collection::vec((0_u8..200, 0_u64..3000), 1..400),
        ) {
            let began = Instant::now();
            let rates = rates(per_minute, 100_000, began);
            let mut buckets: HashMap<u8, Bucket> = HashMap::new();
            let mut now = Duration::ZERO;
            for (client, millis) in takes {
                now += Duration::from_millis(millis);
                let expected = buckets.entry(client).or_default().take(1, &rates.rate, now);
                prop_assert_eq!(rates.take(&client, began + now), expected);
            }
        }

        #[test]
        fn who_waits_as_told_gets_it_even_where_no_more_can_be_remembered(
            takes in prop::collection::vec((0_u8..200, 0_u64..3000), 1..200),
        ) {
            let began = Instant::now();
            let rates = rates(30, 0, began);
            let mut now = began;
            for (client, millis) in takes {
                now += Duration::from_millis(millis);
                if let Err(wait) = rates.take(&client, now) {
                    prop_assert!(!wait.is_zero() && wait <= Duration::from_mins(1));
                    now += wait;
                    prop_assert_eq!(rates.take(&client, now), Ok(()));
                }
                prop_assert!(rates.len() <= SHARDS);
            }
        }
    }
}
