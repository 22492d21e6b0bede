//! Spent tickets in Redis, for several gateways.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;

use super::NotSpent;
use crate::access::redis::Redis;

/// Spent tickets as keys `{prefix}spent:{id}` that expire with the ticket.
#[derive(Debug)]
pub(super) struct Shared {
    redis: Arc<Redis>,
}

impl Shared {
    pub(super) fn new(redis: Arc<Redis>) -> Self {
        Self { redis }
    }

    /// One command, which Redis carries out as one step: of all that ask for an id at once, one gets an OK. It is not
    /// repeated here when its answer is lost. Where the library follows a slot that has moved to another node of a cluster
    /// it may send it again: then the ticket can be found spent by itself, which refuses it and never honours it twice.
    pub(super) async fn spend(&self, id: &str, left: Duration) -> Result<(), NotSpent> {
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut set = cmd("SET");
        // Not NX with GET, which Redis 6 does not take.
        set.arg(self.redis.key(&["spent:", id])).arg(1).arg("NX").arg("PX").arg(left);
        match self.redis.run::<Option<String>>(&set).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(NotSpent::AlreadySpent),
            Err(error) => Err(NotSpent::Unavailable(error.to_string())),
        }
    }
}
