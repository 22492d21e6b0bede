//! Which tickets are spent: each is honoured once.
//!
//! `memory` is for one gateway. `redis` is for several that share it: what one has honoured, none honours again.

mod memory;
mod redis;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::memory::Memory;
use self::redis::Shared;
use super::redis::Redis;

/// How long a ticket is remembered at least, if it was about to expire when it was checked: by then no clock of ours says
/// that it still holds.
const LEAST: Duration = Duration::from_secs(1);

/// Where spent tickets are remembered.
#[derive(Debug)]
pub struct Spent {
    store: Store,
    /// Tickets that hold no longer than this may have been spent where it is not known any more.
    unknown_until: Option<SystemTime>,
}

#[derive(Debug)]
enum Store {
    Memory(Arc<Memory>),
    Redis(Shared),
}

/// Why a ticket is not honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSpent {
    /// It was used before.
    AlreadySpent,
    /// There is no room to remember it.
    Full,
    /// The store gave no answer; the text is for the log. Whether the ticket is spent now is not known. The client needs
    /// another one: with this one it is let in later only if it is not.
    Unavailable(String),
}

impl Spent {
    /// In the memory of this process, of at most `max` tickets at once.
    #[must_use]
    pub fn in_memory(max: usize) -> Self {
        Self { store: Store::Memory(Arc::new(Memory::new(max))), unknown_until: None }
    }

    /// In Redis, for all gateways that use it with the same prefix.
    #[must_use]
    pub fn in_redis(redis: Arc<Redis>) -> Self {
        Self { store: Store::Redis(Shared::new(redis)), unknown_until: None }
    }

    /// At most so many tickets from now on; nothing if it is not in the memory of this process.
    pub fn set_max(&self, max: usize) {
        if let Store::Memory(memory) = &self.store {
            memory.set_max(max);
        }
    }

    /// A store in the memory of this process that remembers the same as this one; `None` if this one is elsewhere.
    #[must_use]
    pub fn shared(&self) -> Option<Self> {
        let Store::Memory(memory) = &self.store else { return None };
        Some(Self { store: Store::Memory(memory.clone()), unknown_until: self.unknown_until })
    }

    /// The same store, which does not know what was spent before: tickets that hold until `until` at the longest may be among
    /// those and are refused.
    #[must_use]
    pub fn knowing_nothing_until(self, until: Option<SystemTime>) -> Self {
        Self { unknown_until: self.unknown_until.max(until), ..self }
    }

    /// Until when tickets hold of which it does not know whether they were spent.
    #[must_use]
    pub fn unknown_until(&self) -> Option<SystemTime> {
        self.unknown_until
    }

    /// Marks a ticket as spent, for the first and only time. `id` is its `jti`, already known to be ours, and `until` the
    /// time from which it would be refused as expired, leeway included.
    ///
    /// # Errors
    ///
    /// [`NotSpent`]; then it must not be honoured.
    pub async fn spend(&self, id: &str, until: SystemTime) -> Result<(), NotSpent> {
        let now = SystemTime::now();
        if self.unknown_until.is_some_and(|unknown| until <= unknown) {
            return Err(NotSpent::AlreadySpent);
        }
        match &self.store {
            Store::Memory(memory) => memory.spend(id, until.max(now + LEAST), now),
            Store::Redis(shared) => shared.spend(id, until.duration_since(now).unwrap_or_default().max(LEAST)).await,
        }
    }

    /// Tickets that this process remembers, expired ones included that were not yet forgotten; 0 with Redis.
    #[must_use]
    pub fn remembered(&self) -> usize {
        match &self.store {
            Store::Memory(memory) => memory.len(),
            Store::Redis(_) => 0,
        }
    }
}
