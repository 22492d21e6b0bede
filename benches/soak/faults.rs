//! What `soak` throws dice for. Each fault is over when it returns; what comes of it may not be.

use std::time::Duration;

use tokio::time::sleep;

use crate::dice::Dice;
use crate::stage::Stage;
use crate::store::PostFault;
use crate::wire::Order;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and back later.
    Kill,
    /// SIGKILL of both at once, and back later.
    KillAll,
    /// SIGSTOP, and SIGCONT later.
    Freeze,
    /// Some streams say nothing any more.
    Stall,
    /// Some streams break off in the middle of an event.
    Cut,
    /// POSTs and openings take long.
    Slow,
    /// Some POSTs are answered 503 with `Retry-After`.
    Busy,
    /// Some POSTs are read, and the connection is reset.
    ResetBefore,
    /// Some POSTs are recorded, and the connection is reset.
    ResetAfter,
    /// New connections are refused.
    Refuse,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::Kill,
        Self::KillAll,
        Self::Freeze,
        Self::Stall,
        Self::Cut,
        Self::Slow,
        Self::Busy,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::Refuse,
    ];

    pub(crate) async fn happens(self, stage: &mut Stage, dice: &mut Dice) {
        let endpoint = dice.index(stage.backends.len());
        let lasts = dice.millis(500..6_000);
        let percent = dice.number(5..60);
        match self {
            Self::Kill => {
                stage.backends[endpoint].kill().await;
                sleep(lasts).await;
                stage.backends[endpoint].restart().await;
            }
            Self::KillAll => {
                for backend in &mut stage.backends {
                    backend.kill().await;
                }
                sleep(lasts).await;
                for backend in &mut stage.backends {
                    backend.restart().await;
                }
            }
            Self::Freeze => {
                stage.backends[endpoint].freeze();
                sleep(lasts).await;
                stage.backends[endpoint].thaw();
            }
            Self::Stall => {
                let visits = dice.some(stage.store.ledger().on(endpoint), percent);
                stage.backends[endpoint].order(Order::Stall { visits });
            }
            Self::Cut => {
                let visits = dice.some(stage.store.ledger().on(endpoint), percent);
                stage.backends[endpoint].order(Order::Cut { visits });
            }
            Self::Slow => {
                let delay = dice.number(100..1_500);
                stage.store.behave(|manners| (manners.post_delay, manners.open_delay) = (delay, delay));
                sleep(lasts).await;
                stage.store.behave(|manners| (manners.post_delay, manners.open_delay) = (0, 0));
            }
            Self::Busy => posts(stage, PostFault::Busy, percent).await,
            Self::ResetBefore => posts(stage, PostFault::ResetBefore, percent).await,
            Self::ResetAfter => posts(stage, PostFault::ResetAfter, percent).await,
            Self::Refuse => {
                stage.backends[endpoint].order(Order::Listen(false));
                sleep(lasts).await;
                stage.backends[endpoint].order(Order::Listen(true));
            }
        }
    }
}

/// The next POSTs fail, for a second at most.
async fn posts(stage: &Stage, fault: PostFault, count: u64) {
    stage.store.behave(|manners| manners.post_fault = Some((fault, u32::try_from(count).unwrap())));
    sleep(Duration::from_secs(1)).await;
    // A breaker that lets one POST through at a time would meet the rest for minutes.
    stage.store.behave(|manners| manners.post_fault = None);
}
