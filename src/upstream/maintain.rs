//! What an upstream does by itself: it closes what is idle, checks its endpoints and looks their names up again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::Upstream;
use super::check::check;
use super::endpoint::Pool;
use super::health::{HealthRule, next_check};

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);

impl Upstream {
    /// Begins all that. The tasks live on the tracker that the upstream was made with, and end with its token, or once nobody
    /// uses it any more.
    pub fn maintain(self: &Arc<Self>) {
        self.spawn(sweep(Arc::downgrade(self)));
        for pool in &self.pools {
            if let Some(rule) = &self.health {
                self.spawn(keep_checking(pool.clone(), rule.clone()));
            }
            if pool.is_name() {
                self.spawn(keep_resolving(pool.clone(), self.resolve_interval));
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.life.token().clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn sweep(upstream: Weak<Upstream>) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        let Some(upstream) = upstream.upgrade() else { return };
        upstream.pools.iter().for_each(|pool| pool.close_idle());
    }
}

async fn keep_checking(pool: Arc<Pool>, rule: HealthRule) {
    loop {
        let result = check(&pool, &rule).await;
        pool.checked(&result, &rule);
        // The low half of a version 7 UUID is random.
        let (_, random) = Uuid::now_v7().as_u64_pair();
        tokio::time::sleep(next_check(rule.interval, random)).await;
    }
}

async fn keep_resolving(pool: Arc<Pool>, interval: Duration) {
    let mut every = tokio::time::interval(interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        pool.resolve().await;
    }
}
