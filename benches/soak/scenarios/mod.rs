//! What is broken, and what must not come of it.

mod kill;
mod posts;
mod slow;
mod soak;
mod stop;
mod vanish;

use std::time::Duration;

use clap::ValueEnum;

use crate::report::Report;

/// How much of it.
pub(crate) struct Effort {
    pub(crate) quick: bool,
    /// Length of `soak`.
    pub(crate) soak: Duration,
    pub(crate) seed: u64,
    /// `protocol` of the upstream.
    pub(crate) protocol: &'static str,
}

impl Effort {
    /// One of two values.
    fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Upstream is killed again and again; POSTs may be repeated
    KillIdempotent,
    /// The same; POSTs may not be repeated
    KillSafe,
    /// Upstream stops without dying
    Stop,
    /// One client never reads
    SlowReader,
    /// Clients vanish without a farewell
    Vanish,
    /// POSTs fail in every way
    PostFaults,
    /// All of it, for long
    Soak,
}

impl Scenario {
    pub(crate) async fn run(self, effort: &Effort, report: &mut Report) {
        match self {
            Self::KillIdempotent => kill::idempotent(effort, report).await,
            Self::KillSafe => kill::safe(effort, report).await,
            Self::Stop => stop::run(effort, report).await,
            Self::SlowReader => slow::run(effort, report).await,
            Self::Vanish => vanish::run(effort, report).await,
            Self::PostFaults => posts::run(effort, report).await,
            Self::Soak => soak::run(effort, report).await,
        }
    }
}
